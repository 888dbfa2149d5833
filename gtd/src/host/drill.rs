//! Named points at which a test ends the daemon, as `kill -9` would.
//!
//! Only in debug builds, and only when the environment names a file: the point whose name is in it is the daemon's
//! last. Must never do anything in a release.

/// The variable that names the file.
pub const VARIABLE: &str = "GTD_DRILL";

/// The daemon has come to this point.
pub fn at(point: &str) {
    if cfg!(debug_assertions) {
        end_at(point);
    }
}

fn end_at(point: &str) {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    if wanted.trim() != point {
        return;
    }
    // Once: the next daemon passes it.
    let _ = std::fs::remove_file(&path);
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
}
