//! Asking before something is ended or removed.

use std::io::{self, BufRead, IsTerminal, Write};

use super::shell_word;
use crate::effects;
use crate::failure::Failure;

/// Our own command line, as it could be typed again.
fn typed() -> String {
    let words = std::env::args().skip(1).map(|word| shell_word(&word));
    std::iter::once("gtctl".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Asks, if the verb's row says so and `--yes` was not given.
///
/// # Errors
/// A usage error where nobody can be asked; a refusal when the answer is not yes.
pub fn confirm(verb: &str, force: bool, yes: bool, question: &str) -> Result<(), Failure> {
    if yes || !effects::asks(verb, force) {
        return Ok(());
    }
    let words = if force { format!("{verb} --force") } else { verb.to_owned() };
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format!("`{words}` ends things, and there is no terminal to ask at"))
            .hint(format!("{} --yes, or --dry-run to see what it would do", typed())));
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed("not done: the answer was not yes")),
    }
}

/// Whether there is somebody who can be asked.
#[must_use]
pub fn is_asked() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks about one thing. Where nobody can be asked the answer is no.
#[must_use]
pub fn agrees(question: &str) -> bool {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return false;
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
