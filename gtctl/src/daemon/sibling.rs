//! The programs that are installed beside this one.

use std::path::PathBuf;

use crate::failure::Failure;

/// The `gtd` beside this `gtctl`. It is never searched in `PATH`: the two belong together.
///
/// # Errors
/// When there is none.
pub fn gtd() -> Result<PathBuf, Failure> {
    let gtd = this()?.with_file_name("gtd");
    if gtd.is_file() {
        Ok(gtd)
    } else {
        Err(Failure::failed(format!("there is no gtd beside gtctl: no {}", gtd.display()))
            .hint("install gtd, gtd-shim and gtctl into one directory"))
    }
}

/// This program.
///
/// # Errors
/// When the system does not say where it is.
pub fn this() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|e| Failure::failed(format!("cannot tell where this program is installed: {e}")))
}
