//! A directory with a stand-in for `bd`, to be put at the front of a `PATH`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::programs;

/// The stand-in's directory.
pub struct StandIn {
    dir: PathBuf,
}

impl StandIn {
    /// Makes one that replays a recording: `0.47`, `1.0.0`, `1.0.5`.
    ///
    /// # Panics
    /// When its files cannot be made.
    #[must_use]
    pub fn new(dir: &Path, version: &str) -> Self {
        let dir = dir.join("bin");
        std::fs::create_dir_all(&dir).expect("make a directory");
        std::os::unix::fs::symlink(programs::program("stand-in-bd"), dir.join("bd")).expect("a link");
        let made = Self { dir };
        made.does(version, json!({}));
        made
    }

    /// What it does from now on: beside the recording `mode`, `swap`, `lead`, `lead_err`; `items`, a
    /// file of items that lists and single questions are answered from.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn does(&self, version: &str, how: Value) {
        let recording =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format!("bd-{version}.jsonl"));
        let mut does = how;
        does["recording"] = json!(recording);
        let partial = self.dir.join("stand-in.partial");
        std::fs::write(&partial, does.to_string()).expect("write a file");
        std::fs::rename(partial, self.dir.join("stand-in.json")).expect("rename a file");
    }

    /// A `PATH` with it in front.
    #[must_use]
    pub fn path(&self) -> String {
        let rest = std::env::var("PATH").unwrap_or_default();
        format!("{}:{rest}", self.dir.display())
    }

    /// Its calls, but for those that ask for its version.
    #[must_use]
    pub fn calls(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.join("calls.jsonl")).unwrap_or_default();
        let calls = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        calls.filter(|call| call["args"][0] != "version").collect()
    }

    /// Forgets its calls.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(self.dir.join("calls.jsonl"));
    }

    /// The child that it started when it was to hang, or to leave something behind.
    #[must_use]
    pub fn child(&self) -> Option<i32> {
        std::fs::read_to_string(self.dir.join("child")).ok()?.trim().parse().ok()
    }
}
