//! The test program's line to its reaper: see `town-reaper`.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::programs;

/// One reaper per test program; it ends when this program does.
fn line() -> Option<&'static Mutex<ChildStdin>> {
    static LINE: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();
    LINE.get_or_init(|| {
        let mut command = programs::bare(programs::program("town-reaper"), Path::new("/"));
        // Away from the terminal, so that Ctrl-C ends the tests and not their reaper.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().ok()?.stdin.map(Mutex::new)
    })
    .as_ref()
}

fn say(word: char, town: &Path) {
    if let Some(Ok(mut line)) = line().map(Mutex::lock) {
        let _ = writeln!(line, "{word}{}", town.display());
    }
}

/// A town is there.
pub(crate) fn born(town: &Path) {
    say('+', town);
}

/// A town is gone, with all that was in it.
pub(crate) fn gone(town: &Path) {
    say('-', town);
}
