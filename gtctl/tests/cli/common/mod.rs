//! A town in a directory of its own, a way to run `gtctl` in it, and patience.

pub mod fake;
pub mod gtd;
pub mod values;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use gtd_proto::TownId;
use serde_json::{Value, json};

/// The id of every town here.
pub const TOWN_ID: &str = "9d8bd2ef-3f3b-4d3c-9d0e-0a4d0a7c4d5e";

/// A town's directory, removed in the end.
pub struct Town {
    dir: tempfile::TempDir,
}

impl Town {
    /// A town without a daemon.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("gtctl-test-").tempdir().unwrap();
        let town = Self { dir };
        town.write("mayor/town.json", r#"{"type":"town","version":2,"name":"demo"}"#);
        std::fs::create_dir_all(town.root().join("daemon")).unwrap();
        town
    }

    /// A town whose daemon listens at [`Town::socket`].
    pub fn with_endpoint() -> Self {
        let town = Self::new();
        town.write("daemon/town-id", &json!({ "id": TOWN_ID }).to_string());
        let endpoint = gtd_proto::daemon::Endpoint {
            socket: town.socket().display().to_string(),
            pid: 4711,
            version: "0.1.0".to_owned(),
            protocol: gtd_proto::PROTOCOL,
            town_id: TownId::new(TOWN_ID).unwrap(),
            started_at: gtd_proto::Timestamp::now(),
        };
        town.write("daemon/endpoint.json", &serde_json::to_string(&endpoint).unwrap());
        town
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("town")
    }

    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.root().join("daemon/gtd.sock")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Runs `gtctl` in the town.
    pub fn gtctl(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap(), &self.root())
    }

    /// The command, for those who need to change it.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_gtctl")), args)
    }

    pub fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().current_dir(self.root()).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("TZ", "UTC").env("TERM", "xterm").env("TMPDIR", self.home());
        command
    }
}

/// How a run ended and what it said.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(output: Output, root: &Path) -> Self {
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&root.display().to_string(), "[TOWN]");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Fails with everything that was said, unless the run ended like this.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {:?} {:?}", self.out, self.err))
    }

    /// Both streams as one text for a golden file.
    pub fn golden(&self) -> String {
        let times = [(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[TIME]"), (r"\d\d:\d\d:\d\d\.\d{3}", "[CLOCK]")];
        let err = if self.err.is_empty() { String::new() } else { format!("--- stderr\n{}", self.err) };
        let mut text = format!("{}{err}--- exit {}\n", self.out, self.code.unwrap_or(-1));
        for (pattern, name) in times {
            text = replace(&text, pattern, name);
        }
        text
    }
}

/// Replaces digits by pattern: `\d` is a digit, everything else stands for itself.
fn replace(text: &str, pattern: &str, name: &str) -> String {
    let shape: Vec<Option<char>> = expand(pattern);
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        let fits = chars.len() - at >= shape.len()
            && shape.iter().zip(&chars[at..]).all(|(want, have)| match want {
                None => have.is_ascii_digit(),
                Some(c) => c == have,
            });
        if fits {
            out.push_str(name);
            at += shape.len();
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

fn expand(pattern: &str) -> Vec<Option<char>> {
    let pattern = pattern.replace(r"\d{4}", r"\d\d\d\d").replace(r"\d{3}", r"\d\d\d").replace(r"\.", ".");
    let mut shape = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        shape.push(if c == '\\' { chars.next().filter(|c| *c != 'd') } else { Some(c) });
    }
    shape
}

/// Waits until something is so, and fails after ten seconds.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
