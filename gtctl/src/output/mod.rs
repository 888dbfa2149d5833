//! How things are shown: data on stdout, everything else on stderr; tables and cards for people, one envelope
//! for scripts.
//!
//! Modules here turn results into text. They ask no daemon and decide nothing; the exit code is not theirs.

pub mod agents;
pub mod card;
pub mod change;
pub mod confirm;
pub mod error;
pub mod event;
pub mod paint;
pub mod pause;
pub mod rig;
pub mod table;
pub mod time;

use std::io::{self, BufWriter, IsTerminal, Write};

use gtd_proto::PlanStep;
use serde::Serialize;
use serde_json::json;

use crate::cli::{ColorWhen, Global};
use crate::failure::Failure;
use paint::Paint;

/// Version of the JSON envelope.
const SCHEMA_VERSION: u32 = 1;

/// Where a verb prints.
pub struct Screen {
    /// `--json`
    pub json: bool,
    /// Colours, or none.
    pub paint: Paint,
    /// Columns to keep to; none where nobody said so.
    pub width: Option<usize>,
    terminal: bool,
    out: BufWriter<io::Stdout>,
}

impl Screen {
    /// The screen that the flags, the environment and the terminal ask for.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let terminal = io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let colour = match global.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => terminal && !refused,
        };
        Self {
            json: global.json,
            paint: Paint::new(colour),
            width: width(terminal),
            terminal,
            out: BufWriter::new(io::stdout()),
        }
    }

    /// Prints a line of data.
    ///
    /// # Errors
    /// When the reader went away, or stdout cannot be written.
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        writeln!(self.out, "{}", text.as_ref()).map_err(lost)
    }

    /// Prints lines of data.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        lines.into_iter().try_for_each(|line| self.line(line))
    }

    /// Prints what would be done.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn plan(&mut self, steps: &[PlanStep]) -> Result<(), Failure> {
        self.lines(change::plan(steps, self.paint, self.width))
    }

    /// Prints a result in the envelope, with the method's name as its kind.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn envelope(&mut self, kind: &str, result: &impl Serialize) -> Result<(), Failure> {
        self.value(&json!({ "schema_version": SCHEMA_VERSION, "kind": kind, "result": result }))
    }

    /// Prints a failure in the envelope.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn error_envelope(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.value(&json!({ "schema_version": SCHEMA_VERSION, "kind": "error", "error": failure.to_json() }))
    }

    /// Prints a JSON text: on one line, or readable on a terminal.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = if self.terminal {
            // By way of a value, since a text that is passed on as it came stays on one line.
            serde_json::to_value(value).and_then(|value| serde_json::to_string_pretty(&value))
        } else {
            serde_json::to_string(value)
        };
        self.line(text.map_err(|e| Failure::failed(format!("cannot write the result as JSON: {e}")))?)
    }

    /// Prints one object of a stream, always on one line and at once.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn frame(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|e| Failure::failed(format!("cannot write an event as JSON: {e}")))?;
        self.line(text)?;
        self.flush()
    }

    /// Clears the terminal before the next picture; into a pipe pictures follow each other.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn fresh_picture(&mut self) -> Result<(), Failure> {
        if self.terminal && !self.json {
            // Home, then clear to the end: less flicker than clearing all.
            write!(self.out, "\x1b[H\x1b[2J").map_err(lost)?;
        }
        self.width = width(self.terminal);
        Ok(())
    }

    /// Sends what is buffered.
    ///
    /// # Errors
    /// As [`Screen::line`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(lost)
    }
}

/// A word that a shell reads as it was meant.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn lost(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        _ => Failure::failed(format!("cannot write to stdout: {error}")),
    }
}

/// A remark on stderr. That nobody reads it is no reason to stop.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// The columns there are: of the terminal, else of `COLUMNS`, else unlimited.
fn width(terminal: bool) -> Option<usize> {
    let of_terminal = || {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        (size.ws_col > 0).then_some(usize::from(size.ws_col))
    };
    let of_environment = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 0);
    if terminal { of_terminal().or_else(of_environment) } else { of_environment() }
}
