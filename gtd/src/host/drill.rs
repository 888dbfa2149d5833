//! Named points at which a test ends the daemon, as `kill -9` would, or has a part of it hang or fail.
//!
//! Only in debug builds, and only when the environment names a file: the point whose name is in it is the daemon's
//! last. Others hold a thread until a test lets it go on. Must never do anything in a release.

use std::time::Duration;

/// The variable that names the file.
pub const VARIABLE: &str = "GTD_DRILL";
/// A point holds for at most so many looks with so long between: half a minute.
const HOLD: (u32, Duration) = (6_000, Duration::from_millis(5));

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

/// The variable that names the directory of points that hold.
pub const POINTS: &str = "GTD_TEST_POINTS";

/// The daemon has come to a point at which a test may hold the thread: where the directory has a file of that name,
/// the file becomes `NAME.reached` with what is written into it here, and `NAME.go` lets the thread go on.
pub fn hold(point: &str, what: impl FnOnce() -> String) {
    if cfg!(debug_assertions) {
        hold_at(point, what);
    }
}

fn hold_at(point: &str, what: impl FnOnce() -> String) {
    let Some(dir) = std::env::var_os(POINTS).map(std::path::PathBuf::from) else { return };
    let order = dir.join(point);
    if !order.exists() || std::fs::write(&order, what()).is_err() {
        return;
    }
    if std::fs::rename(&order, dir.join(format!("{point}.reached"))).is_err() {
        return;
    }
    let go = dir.join(format!("{point}.go"));
    for _ in 0..HOLD.0 {
        if go.exists() {
            return;
        }
        std::thread::sleep(HOLD.1);
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
