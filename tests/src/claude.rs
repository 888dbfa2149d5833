//! A stand-in for Claude as an agent of a town: made part of its settings, told what to do, and asked what it did.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::programs;
use crate::setup::Setup;
use crate::town::Town;
use crate::wait::{CHANGE, wait_for};

impl Setup {
    /// A further agent that is taken for Claude: its program is called so. Other names are other entries of it.
    #[must_use]
    pub fn claude(self, name: &str) -> Self {
        self.command(name, json!({ "command": "{J}/claude", "env": { "STAND_IN_DIR": "{J}" } }))
    }
}

impl Town {
    /// Puts the program where the settings say.
    ///
    /// # Panics
    /// When it cannot be put there.
    pub fn install_claude(&self) {
        let program = programs::program("stand-in-claude");
        std::os::unix::fs::symlink(program, self.journal_dir().join("claude"))
            .expect("a link to the stand-in");
    }

    /// Tells the one of a role what to do, when it has done what it was told before.
    ///
    /// # Panics
    /// When it does not take orders.
    #[track_caller]
    pub fn order_claude(&self, role: &str, order: &Value) {
        let path = self.journal_dir().join(format!("order-{role}"));
        wait_for(CHANGE, "the order before was taken", || (!path.exists()).then_some(()));
        let partial = path.with_extension("partial");
        std::fs::write(&partial, order.to_string()).expect("write an order");
        std::fs::rename(&partial, &path).expect("give an order");
    }

    /// Has it run the hooks of an event, and waits until they have ended; says how they ended.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn claude_event(&self, role: &str, event: &str, more: &Value) -> Value {
        // Hooks of its start may still be running.
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.order_claude(role, &json!({ "event": event, "more": more, "number": number }));
        wait_for(CHANGE, &format!("the hooks of {event}"), || {
            self.claude_hooks().into_iter().find(|hook| hook["number"] == number)
        })
    }

    /// Its starts, the first one first.
    pub fn claude_starts(&self) -> Vec<Value> {
        read(self.journal_dir().join("starts.jsonl"))
    }

    /// The hooks that were run.
    pub fn claude_hooks(&self) -> Vec<Value> {
        read(self.journal_dir().join("hooks.jsonl"))
    }
}

fn read(path: PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
