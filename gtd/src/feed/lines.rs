//! `.events.jsonl`: what tools of the incumbent read, one line per event, in their words.
//!
//! Owns what is appended and how large the file becomes; others append to it too, and may move it or take it
//! away at any time. Must never lose an event because the file cannot be written for a while.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt as _;
use gtd_proto::{Event, Seq};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::words::how_it_ended;
use super::{Bus, Cursor, Reader};

/// Name of the ledger's fact that holds how far the file is.
pub const CURSOR: &str = "events_file";

/// Kinds of events that have a line.
const KINDS: [&str; 3] = ["agent.exited", "incident.opened", "polecat.spawned"];
/// Lines that are appended at once.
const BATCH: usize = 256;
/// How much of the file's end is looked through for lines that an earlier daemon wrote and did not note.
const TAIL: u64 = 256 << 10;
/// Pauses before a file that cannot be written is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How large the file becomes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// A file that would grow beyond this is moved away first.
    pub max_bytes: u64,
    /// Files that are kept, the current one included.
    pub files: u32,
}

impl Default for Bounds {
    /// 10 MiB are some 40,000 lines: months of a town that is well.
    fn default() -> Self {
        Self { max_bytes: 10 << 20, files: 3 }
    }
}

/// The line of an event in the words of the incumbent, without its newline; none for kinds that have no line.
#[must_use]
pub fn line(event: &Event, stream: &str) -> Option<String> {
    let field = |name: &str| event.data.get(name).cloned().unwrap_or(Value::Null);
    let (kind, payload) = match event.kind.as_str() {
        "agent.exited" => {
            let agent = event.agent.as_ref().map(ToString::to_string).unwrap_or_default();
            let session = field("session_name").as_str().unwrap_or_default().to_owned();
            let payload = json!({ "session": session, "agent": agent, "reason": how_it_ended(&event.data), "caller": "gtd" });
            ("session_death", payload)
        }
        "incident.opened" => {
            let mut payload = Map::new();
            payload.insert("count".to_owned(), field("count"));
            let window = Duration::from_millis(field("window_ms").as_u64().unwrap_or_default());
            payload.insert("window".to_owned(), humantime::format_duration(window).to_string().into());
            payload.insert("sessions".to_owned(), field("sessions"));
            if let Some(cause) = event.data.get("possible_cause").filter(|cause| !cause.is_null()) {
                payload.insert("possible_cause".to_owned(), cause.clone());
            }
            ("mass_death", Value::Object(payload))
        }
        "polecat.spawned" => {
            let name = event.agent.as_ref().and_then(gtd_proto::Address::name);
            ("spawn", json!({ "rig": event.rig, "polecat": name }))
        }
        _ => return None,
    };
    let line = json!({
        // Whole seconds, as the incumbent's readers expect.
        "ts": event.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "source": "gt",
        "type": kind,
        "actor": "daemon",
        "payload": payload,
        "visibility": "feed",
        "id": id(stream, event.seq),
    });
    Some(line.to_string())
}

/// What tells a line from all others, over restarts and new ledgers: the stream's beginning and the number.
fn id(stream: &str, seq: Seq) -> String {
    let stream: String = stream.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("{stream}-{seq}")
}

/// Appends lines until it is cancelled. `trouble` is told when the file cannot be written, and when it can again.
pub async fn keep<T, F>(
    bus: Bus,
    mut cursor: Cursor,
    stream: String,
    path: PathBuf,
    bounds: Bounds,
    stop: CancellationToken,
    trouble: T,
) where
    T: Fn(Option<String>) -> F,
    F: Future<Output = ()>,
{
    let mut reader = Reader::new(bus, KINDS.map(str::to_owned).to_vec(), cursor.at());
    let mut written = {
        let (path, stream) = (path.clone(), stream.clone());
        tokio::task::spawn_blocking(move || already(&path, &stream)).await.unwrap_or_default()
    };
    loop {
        let mut events = tokio::select! {
            () = stop.cancelled() => return,
            event = reader.next() => vec![event],
        };
        while let Some(event) = (events.len() < BATCH).then(|| reader.next().now_or_never()).flatten() {
            events.push(event);
        }
        let mut text = String::new();
        for event in events.iter().filter(|event| !written.remove(&event.seq.0)) {
            if let Some(line) = line(event, &stream) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        let mut pause = PAUSES.0;
        while !text.is_empty() {
            let (file, chunk) = (path.clone(), text.clone());
            let done = tokio::task::spawn_blocking(move || append(&file, chunk.as_bytes(), bounds)).await;
            let why = match done {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            trouble(Some(format!("{} cannot be written: {why}", path.display()))).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
            }
        }
        trouble(None).await;
        cursor.reach(reader.seen()).await;
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not to wait for the other end of a pipe that somebody put there.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = options.read(true).append(true).create(true).mode(0o644).custom_flags(nonblock).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    PathBuf::from(name)
}

/// Appends whole lines in one write. The file is opened each time: whoever moved it away gets no more of ours.
pub(super) fn append(path: &Path, text: &[u8], bounds: Bounds) -> io::Result<()> {
    let mut file = open(path)?;
    let mut size = file.metadata()?.len();
    if size > 0 && size.saturating_add(text.len() as u64) > bounds.max_bytes {
        for number in (0..bounds.files.saturating_sub(1)).rev() {
            match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if bounds.files <= 1 {
            file.set_len(0)?;
        }
        file = open(path)?;
        size = file.metadata()?.len();
    }
    // Somebody's line was torn, by a crash or a full disk: ours must not become a part of it.
    let torn = size > 0 && {
        let mut last = [0u8];
        file.seek(SeekFrom::Start(size - 1))?;
        file.read_exact(&mut last).is_ok_and(|()| last != *b"\n")
    };
    if torn { file.write_all(&[b"\n", text].concat()) } else { file.write_all(text) }
}

/// Numbers of the lines of this stream at the end of the file, and of the one before it.
fn already(path: &Path, stream: &str) -> BTreeSet<u64> {
    let prefix = id(stream, Seq(0));
    let prefix = prefix.trim_end_matches('0');
    let mut found = BTreeSet::new();
    for path in [numbered(path, 1), path.to_owned()] {
        for line in tail(&path).unwrap_or_default().split(|byte| *byte == b'\n') {
            let value: Option<Value> = serde_json::from_slice(line).ok();
            let id = value.as_ref().and_then(|value| value.get("id")).and_then(Value::as_str);
            found.extend(id.and_then(|id| id.strip_prefix(prefix)).and_then(|seq| seq.parse::<u64>().ok()));
        }
    }
    found
}

pub(super) fn tail(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Ok(Vec::new());
    }
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
