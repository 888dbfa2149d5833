//! What tests of the doctor share: one check asked for, one thing broken, processes left behind, and a person who is
//! asked at a terminal.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::run::Output;
use crate::wait::{CHANGE, START, wait_until};
use crate::{Town, programs};

/// One check, asked over the socket.
#[track_caller]
pub fn check(town: &Town, name: &str) -> Value {
    let report = town.call("doctor.run", json!({"checks": [name]}));
    report["checks"][0].clone()
}

/// What was wrong is told by exactly this check, with a word that names it and a command that helps; before it was
/// well.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn breaks(town: &Town, name: &str, status: &str, word: &str, how: impl FnOnce()) -> Value {
    let before = check(town, name);
    assert!(matches!(before["status"].as_str(), Some("ok" | "skipped")), "before: {before:#}");
    how();
    let mut after = Value::Null;
    let told = wait_until(CHANGE, || {
        after = check(town, name);
        after["status"] == status
    });
    assert!(told, "{after:#}");
    assert!(after.to_string().contains(word), "{word}: {after:#}");
    assert!(after["hint"].as_str().is_some_and(|hint| hint.starts_with("gtctl ")), "{after:#}");
    after
}

/// gtctl at a terminal of its own, which `script` makes, with a person who types.
///
/// # Panics
/// When `script` cannot be run, or gtctl does not end.
#[track_caller]
pub fn at_a_terminal(town: &Town, args: &[&str], typed: &str) -> Output {
    let around = town.command("gtctl");
    let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
    let root = town.root().display().to_string();
    let gtctl = programs::program("gtctl").display().to_string();
    let words = [&[gtctl.as_str(), "--town", &root], args].concat();
    let line = words.into_iter().map(quoted).collect::<Vec<_>>().join(" ");
    let mut command: Command = programs::bare("script", &town.home());
    command.envs(around.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm").env("SHELL", "/bin/sh");
    command.args(["-qefc", &format!("exec {line}"), "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("start script");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(typed.as_bytes()).and_then(|()| input.flush()).expect("the terminal is there");
    let began = Instant::now();
    if !wait_until(START, || !matches!(child.try_wait(), Ok(None))) {
        let _ = child.kill();
        panic!("gtctl {args:?} did not end");
    }
    drop(input);
    let output = child.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    Output { code: output.status.code().unwrap_or(-1), out: text, err: String::new(), took: began.elapsed() }
}

/// Points at which a daemon can be held, in builds with debug assertions only.
pub struct Points(PathBuf);

impl Points {
    /// For a town whose daemon gets `GTD_TEST_POINTS` with this directory.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn below(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).expect("make a directory");
        Self(dir)
    }

    /// Holds whoever comes to a point, once.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn hold(&self, point: &str) {
        std::fs::write(self.0.join(point), "hold").expect("write");
    }

    /// Waits until somebody is held there.
    ///
    /// # Panics
    /// When nobody comes.
    #[track_caller]
    pub fn wait_reached(&self, point: &str) {
        let path = self.0.join(format!("{point}.reached"));
        assert!(wait_until(CHANGE, || path.exists()), "{point} is not reached");
    }

    /// Lets them go on.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn go(&self, point: &str) {
        std::fs::write(self.0.join(format!("{point}.go")), "").expect("write");
    }
}
