//! Named points at which a test ends the daemon, as `kill -9` would, or has a part of it hang or fail.
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

/// A part of the daemon of this name is to hang: the file says `hang NAME`.
#[must_use]
pub fn hangs(name: &str) -> bool {
    cfg!(debug_assertions) && is_ordered("hang", name)
}

/// A part of the daemon of this name is to fail: the file says `fail NAME`.
#[must_use]
pub fn fails(name: &str) -> bool {
    cfg!(debug_assertions) && is_ordered("fail", name)
}

/// Whether the file says so. It is obeyed once.
fn is_ordered(what: &str, name: &str) -> bool {
    let Some(path) = std::env::var_os(VARIABLE) else { return false };
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    wanted.trim().split_once(' ') == Some((what, name)) && std::fs::remove_file(&path).is_ok()
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
