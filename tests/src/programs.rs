//! Finding the programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of the built programs: beside this test's own, or one above when that is `deps`.
///
/// # Panics
/// When this program's own path cannot be told.
pub fn directory() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let dir = own.parent().expect("a program is in a directory");
    if dir.file_name().is_some_and(|name| name == "deps") {
        dir.parent().expect("deps is in a directory").to_owned()
    } else {
        dir.to_owned()
    }
}

/// A built program by name.
///
/// # Panics
/// When it was not built, with the command that builds it.
pub fn program(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(path.is_file(), "{} is not there; first: cargo build --workspace --bins", path.display());
    path
}

/// Where a program of the system is, by the `PATH`.
pub fn system(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

/// Makes a program of a script. Another process writes it: a child that a test beside this one is just starting would
/// hold the file open for writing, and what is being written cannot be run.
///
/// # Panics
/// When it cannot be written.
pub fn script(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    writer.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("write a script");
    assert!(writer.wait().expect("its end").success(), "{} was not written", path.display());
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A command without anything of this process' environment but the way to the system's programs.
pub fn bare(program: impl AsRef<std::ffi::OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()))
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .current_dir(home);
    command
}
