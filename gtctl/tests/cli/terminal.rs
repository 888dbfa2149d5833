//! Colour, width and questions, on a real pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};

use crate::common::fake::Fake;
use crate::common::values::canned;
use crate::common::{Town, until};

/// A program on a terminal of its own, and what it has shown so far.
struct OnTerminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn start(mut command: Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(command);
        drop(pty.slave);
        let mut screen = File::from(pty.master);
        let keys = screen.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails when the last program on the terminal has ended.
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { child, keys, shown }
    }

    fn shows(&self, text: &str) -> bool {
        self.shown.lock().unwrap().contains(text)
    }

    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        // The last bytes may still be on their way to the reader.
        let shown = Arc::clone(&self.shown);
        drop(self.keys);
        until("the end of the output", || Arc::strong_count(&shown) <= 2);
        let text = shown.lock().unwrap().replace("\r\n", "\n");
        (code, text)
    }
}

fn status(columns: u16, edit: impl Fn(&mut Command) -> &mut Command) -> String {
    let town = Town::with_endpoint();
    let _fake = Fake::start(&town.socket(), canned(&town));
    let mut command = town.command(&["status", "alpha"]);
    edit(&mut command);
    let (code, text) = OnTerminal::start(command, columns).end();
    assert_eq!(code, Some(0), "{text}");
    text
}

#[test]
fn colour_on_a_terminal_unless_it_is_refused() {
    assert!(status(200, |c| c).contains("\x1b[32mrunning\x1b[0m"));
    assert!(!status(200, |c| c.env("NO_COLOR", "1")).contains('\x1b'));
    assert!(status(200, |c| c.env("NO_COLOR", "")).contains('\x1b'));
    assert!(!status(200, |c| c.env("TERM", "dumb")).contains('\x1b'));
    assert!(!status(200, |c| c.args(["--color", "never"])).contains('\x1b'));
    assert!(status(200, |c| c.args(["--color", "always"]).env("NO_COLOR", "1")).contains('\x1b'));
}

#[test]
fn no_colour_into_a_pipe_unless_it_is_wanted() {
    let town = Town::with_endpoint();
    let _fake = Fake::start(&town.socket(), canned(&town));
    assert!(!town.gtctl(&["status"]).out.contains('\x1b'));
    assert!(town.gtctl(&["status", "--color", "always"]).out.contains('\x1b'));
}

#[test]
fn a_narrow_terminal_shows_fewer_columns() {
    for columns in [20, 40, 60, 80] {
        let text = status(columns, |c| c.env("NO_COLOR", "1"));
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns), "{columns}:\n{text}");
        assert!(text.contains("alpha/witness"), "{text}");
    }
    insta::assert_snapshot!(status(60, |c| c.env("NO_COLOR", "1")));
}

#[test]
fn columns_of_the_environment_count_where_there_is_no_terminal() {
    let town = Town::with_endpoint();
    let _fake = Fake::start(&town.socket(), canned(&town));
    let mut command = town.command(&["status", "alpha"]);
    let output = command.env("COLUMNS", "30").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
}

#[test]
fn a_question_is_asked_and_the_answer_obeyed() {
    for (answer, code, stopped) in [("n\n", 1, false), ("\n", 1, false), ("y\n", 0, true)] {
        let town = Town::with_endpoint();
        let fake = Fake::start(&town.socket(), canned(&town));
        let mut on = OnTerminal::start(town.command(&["witness", "stop", "alpha", "--force"]), 80);
        until("the question", || on.shows("[y/N]"));
        on.keys.write_all(answer.as_bytes()).unwrap();
        let (ended, text) = on.end();
        assert_eq!(ended, Some(code), "{text}");
        assert_eq!(fake.calls().iter().any(|(method, _)| method == "witness.stop"), stopped);
    }
}

#[test]
fn json_is_readable_on_a_terminal() {
    let text = status(200, |c| c.arg("--json"));
    assert!(text.starts_with("{\n  \"schema_version\": 1"), "{text}");
}

#[test]
fn attach_hands_the_terminal_over() {
    let town = Town::with_endpoint();
    let all = canned(&town);
    let _fake = Fake::start(&town.socket(), move |method, params| match method {
        "agent.attach" => crate::common::values::answer(gtd_proto::agent::Attach {
            agent: "alpha/witness".parse().unwrap(),
            argv: ["/bin/sh", "-c", "echo attached $TMUX; test -t 0"].map(str::to_owned).to_vec(),
            argv_inside: vec!["/bin/false".to_owned()],
            server: "/run/town/tmux-0.sock".to_owned(),
        }),
        _ => all(method, params),
    });
    let (code, text) = OnTerminal::start(town.command(&["attach", "alpha/witness"]), 80).end();
    assert_eq!((code, text.as_str()), (Some(0), "attached\n"));
    let mut command = town.command(&["attach", "alpha/witness", "--nested"]);
    command.env("TMUX", "/tmp/other,1,0");
    let (code, text) = OnTerminal::start(command, 80).end();
    assert_eq!((code, text.as_str()), (Some(0), "attached\n"));
}
