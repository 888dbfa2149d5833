//! An input line for the scripted agent, as programs with a screen of their own have it: raw input, bracketed
//! pastes, an echo behind a prompt; and what such an agent tells its daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

const PASTE: (&[u8], &[u8]) = (b"\x1b[200~", b"\x1b[201~");
/// A text that is longer is not echoed in full.
const ECHO: usize = 120;

/// The file in which an agent (`rig-role`) writes down what was submitted to it, a JSON array of bytes a line.
pub fn heard_file(dir: &Path, agent: &str) -> PathBuf {
    dir.join(format!("heard-{}", agent.replace('/', "-")))
}

/// Everything that was submitted to an agent, in order.
pub fn heard(dir: &Path, agent: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(heard_file(dir, agent)).unwrap_or_default();
    // A line that is still being written is none yet.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Writes down what was submitted.
pub fn note(dir: &Path, agent: &str, text: &[u8]) {
    let line = serde_json::to_string(text).unwrap_or_default() + "\n";
    let file = std::fs::OpenOptions::new().create(true).append(true).open(heard_file(dir, agent));
    if let Ok(mut file) = file {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Says to the daemon what this agent does. Gives up after a moment.
pub fn report(state: &str) -> Option<()> {
    let instance = std::env::var("GT_INSTANCE").ok()?;
    let stream = UnixStream::connect(std::env::var_os("GT_SOCKET")?).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let params = json!({"instance": instance, "state": state});
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "agent.report", "params": params}).to_string();
    (&stream).write_all(format!("{line}\n").as_bytes()).ok()?;
    BufReader::new(stream).read_line(&mut String::new()).ok().map(drop)
}

/// Reads lines from a terminal that hands them out whole, for ever.
pub fn lines(dir: &Path, agent: &str) {
    let mut line = Vec::new();
    let mut input = std::io::stdin().lock();
    while input.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        note(dir, agent, line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
    }
}

/// An input line behind a prompt, for ever. What is submitted is written down, and reported as a turn if `reports`.
pub fn input(dir: &Path, agent: &str, prompt: &str, reports: bool) -> std::io::Result<()> {
    let stdin = std::io::stdin();
    let mut modes = tcgetattr(&stdin)?;
    modes.make_raw();
    tcsetattr(&stdin, OptionalActions::Now, &modes)?;
    let mut out = std::io::stdout();
    write!(out, "\x1b[?2004h")?;
    let (mut line, mut pasting, mut taken) = (Vec::new(), false, Vec::new());
    let mut input = stdin.lock();
    let mut bytes = [0; 4096];
    draw(&mut out, prompt, &line)?;
    if reports {
        let _ = report("idle");
    }
    loop {
        let n = input.read(&mut bytes)?;
        if n == 0 {
            return Ok(());
        }
        taken.extend_from_slice(&bytes[..n]);
        while let Some(&byte) = taken.first() {
            if byte == 0x1b && taken.len() < PASTE.0.len() && PASTE.0.starts_with(&taken) {
                break;
            }
            if byte == 0x1b && taken.len() < PASTE.1.len() && PASTE.1.starts_with(&taken) {
                break;
            }
            if taken.starts_with(PASTE.0) {
                pasting = true;
                taken.drain(..PASTE.0.len());
                continue;
            }
            if taken.starts_with(PASTE.1) {
                pasting = false;
                taken.drain(..PASTE.1.len());
                continue;
            }
            taken.remove(0);
            match byte {
                b'\r' if !pasting => {
                    note(dir, agent, &line);
                    line.clear();
                    write!(out, "\r\n")?;
                    if reports {
                        let _ = report("working");
                        let _ = report("idle");
                    }
                }
                // Ctrl-U
                0x15 if !pasting => line.clear(),
                byte => line.push(byte),
            }
        }
        draw(&mut out, prompt, &line)?;
    }
}

fn draw(out: &mut impl Write, prompt: &str, line: &[u8]) -> std::io::Result<()> {
    let text = String::from_utf8_lossy(line);
    let shown = match line.len() {
        long if long > ECHO || line.contains(&b'\n') => format!("[{long} bytes]"),
        _ => text.into_owned(),
    };
    write!(out, "\r\x1b[K{prompt}{shown}")?;
    out.flush()
}
