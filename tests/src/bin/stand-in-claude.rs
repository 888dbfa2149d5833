//! What Claude does as far as we rely on it: it takes settings and a conversation, and runs the settings' hooks on its
//! events with a JSON text on stdin.
//!
//! Its directory is in `STAND_IN_DIR`. It writes a line into `starts.jsonl` for each start and one into `hooks.jsonl`
//! for each hook that it ran, keeps its conversations as files in `conversations/`, and does what it finds in
//! `order-ROLE`: `{"event": NAME, "more": {…}, "number": N}` runs the hooks of an event, `{"exit": CODE}` ends it. It ends by itself
//! when it is to go on with a conversation that it does not have.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = PathBuf::from(std::env::var("STAND_IN_DIR").unwrap_or_default());
    let value = |flag: &str| {
        let at = args.iter().position(|arg| arg == flag)?;
        args.get(at + 1).cloned()
    };
    let (resumed, begun) = (value("--resume"), value("--session-id"));
    let conversation = resumed.clone().or(begun).unwrap_or_else(|| "of-its-own".to_owned());
    let taken = ["--resume", "--session-id", "--settings"];
    let prompt = args.last().filter(|last| !last.starts_with("--") && !last.is_empty());
    let prompt = prompt.filter(|last| !taken.iter().any(|flag| value(flag).as_ref() == Some(last)));
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    append(
        &dir.join("starts.jsonl"),
        &json!({
            "pid": std::process::id(), "instance": variable("GT_INSTANCE"), "role": variable("GT_ROLE"),
            "argv": args, "prompt": prompt, "conversation": conversation, "resumed": resumed.is_some(),
        }),
    );
    let kept = dir.join("conversations").join(&conversation);
    if resumed.is_some() && !kept.exists() {
        println!("No conversation found with session ID: {conversation}");
        exit(1);
    }
    let _ = std::fs::create_dir_all(dir.join("conversations"));
    let _ = std::fs::write(&kept, "");
    let settings = value("--settings").and_then(|path| std::fs::read_to_string(path).ok());
    let settings: Value = settings.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let agent = Agent { dir, settings, conversation };
    let source = if resumed.is_some() { "resume" } else { "startup" };
    agent.event("SessionStart", &json!({ "source": source }), &Value::Null);
    if let Some(prompt) = prompt {
        agent.event("UserPromptSubmit", &json!({ "prompt": prompt }), &Value::Null);
    }
    agent.obey(&variable("GT_ROLE"));
}

struct Agent {
    dir: PathBuf,
    settings: Value,
    conversation: String,
}

impl Agent {
    fn obey(&self, role: &str) {
        let order = self.dir.join(format!("order-{role}"));
        loop {
            let text = std::fs::read_to_string(&order).ok();
            // An order that is still being written is none yet.
            if let Some(order_given) = text.and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
                let _ = std::fs::remove_file(&order);
                if let Some(code) = order_given["exit"].as_i64() {
                    exit(i32::try_from(code).unwrap_or(1));
                }
                for _ in 0..order_given["times"].as_u64().unwrap_or(1) {
                    let event = order_given["event"].as_str().unwrap_or_default();
                    self.event(event, &order_given["more"], &order_given["number"]);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the hooks of an event, one after the other.
    fn event(&self, name: &str, more: &Value, number: &Value) {
        let mut event = json!({
            "session_id": self.conversation, "transcript_path": "/x", "cwd": "/x", "hook_event_name": name,
        });
        if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
            event.extend(more.clone());
        }
        let entries = self.settings["hooks"][name].as_array().cloned().unwrap_or_default();
        for entry in entries {
            let tool = more["tool_name"].as_str().unwrap_or_default();
            let matches =
                entry["matcher"].as_str().is_none_or(|matcher| matcher.split('|').any(|one| one == tool));
            for hook in entry["hooks"].as_array().into_iter().flatten().filter(|_| matches) {
                self.run(name, hook["command"].as_str().unwrap_or_default(), &event, number);
            }
        }
    }

    fn run(&self, name: &str, command: &str, event: &Value, number: &Value) {
        let began = Instant::now();
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { return };
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(event.to_string().as_bytes());
        }
        let Ok(output) = child.wait_with_output() else { return };
        append(
            &self.dir.join("hooks.jsonl"),
            &json!({
                "event": name, "number": number, "code": output.status.code(), "ms": began.elapsed().as_secs_f64() * 1_000.0,
                "out": String::from_utf8_lossy(&output.stdout), "err": String::from_utf8_lossy(&output.stderr),
            }),
        );
    }
}

fn append(path: &Path, line: &Value) {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
