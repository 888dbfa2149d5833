//! An agent that does what it is told from outside: scripts run by its own process, as its own.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::run::Output;
use crate::town::Town;
use crate::wait::{CHANGE, wait_for};

/// An agent that does what lies in `{J}/do-RIG-ROLE` (`do-RIG-NAME` of a worker), and writes down what came of it.
const HAND: &str = r#"
J=$1; me=$GT_RIG-${GT_POLECAT:-$GT_ROLE}; echo ready
while :; do
  if [ -f "$J/do-$me" ]; then
    mv "$J/do-$me" "$J/doing-$me"
    sh "$J/doing-$me" >"$J/out-$me" 2>"$J/err-$me"
    echo $? >"$J/rc.partial-$me"
    mv "$J/rc.partial-$me" "$J/rc-$me"
  fi
  sleep 0.02
done"#;

/// The entry of such an agent in the settings.
#[must_use]
pub fn hand() -> Value {
    json!({"provider": "script", "command": "/bin/sh", "args": ["-c", HAND, "hand", "{J}"]})
}

impl Town {
    /// What a script comes to inside of an agent's own process.
    ///
    /// # Panics
    /// When it does not come to an end.
    #[track_caller]
    pub fn inside(&self, agent: &str, script: &str) -> Output {
        let began = std::time::Instant::now();
        let at = |name: &str| self.hand_file(agent, name);
        self.inside_begun(agent, script);
        let code =
            wait_for(CHANGE, &format!("{agent} does: {script}"), || std::fs::read_to_string(at("rc")).ok());
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap_or_default();
        let code = code.trim().parse().expect("a number");
        Output { code, out: read("out"), err: read("err"), took: began.elapsed() }
    }

    /// The same, and nobody waits: it may be the last that the agent does.
    ///
    /// # Panics
    /// When the files cannot be written.
    #[track_caller]
    pub fn inside_begun(&self, agent: &str, script: &str) {
        let at = |name: &str| self.hand_file(agent, name);
        let _ = std::fs::remove_file(at("rc"));
        std::fs::write(at("order"), script).expect("write a file");
        std::fs::rename(at("order"), at("do")).expect("rename a file");
    }

    /// What such a script has written so far.
    pub fn inside_said(&self, agent: &str) -> String {
        std::fs::read_to_string(self.hand_file(agent, "out")).unwrap_or_default()
    }

    /// How such a script calls `gtctl`.
    pub fn ctl(&self) -> String {
        let program: PathBuf = crate::programs::program("gtctl");
        format!("{} --town {}", program.display(), self.root().display())
    }

    fn hand_file(&self, agent: &str, name: &str) -> PathBuf {
        let me = agent.replace("/polecats/", "-").replace('/', "-");
        self.journal_dir().join(format!("{name}-{me}"))
    }
}
