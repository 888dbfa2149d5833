//! A client of the socket in a hundred lines: one JSON text per line, no library of the product in between.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long any one answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// An error as the daemon gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// JSON-RPC code.
    pub code: i64,
    /// `data.kind`.
    pub kind: String,
    /// The sentence.
    pub message: String,
    /// All of `data`.
    pub data: Value,
}

impl Failure {
    fn from(error: &Value) -> Self {
        Self {
            code: error["code"].as_i64().unwrap_or_default(),
            kind: error["data"]["kind"].as_str().unwrap_or_default().to_owned(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
            data: error["data"].clone(),
        }
    }

    /// What stands for an answer that never came.
    fn transport(what: &str) -> Self {
        Self { code: 0, kind: "transport".to_owned(), message: what.to_owned(), data: Value::Null }
    }
}

/// One connection.
pub struct Client {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    next: u64,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader, next: 0 })
    }

    /// Changes how long a read may take.
    pub fn patience(&self, limit: Duration) {
        let _ = self.stream.set_read_timeout(Some(limit));
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Closes the writing side.
    pub fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next line, or nothing at the end or when the time is over.
    pub fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(n) if n > 0 => Some(line),
            _ => None,
        }
    }

    /// The next line as JSON.
    pub fn read(&mut self) -> Option<Value> {
        serde_json::from_str(&self.read_line()?).ok()
    }

    /// Sends a line, and reads the next one.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn line(&mut self, text: &str) -> Value {
        self.send_raw(text.as_bytes()).expect("the line is taken");
        self.send_raw(b"\n").expect("the line is taken");
        self.read().unwrap_or_else(|| panic!("no answer to {}", &text[..text.len().min(200)]))
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The daemon's error, or one of kind `transport`.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        self.next += 1;
        let id = self.next;
        let mut line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
        line.push('\n');
        self.send_raw(line.as_bytes()).map_err(|error| Failure::transport(&error.to_string()))?;
        loop {
            let answer = self.read().ok_or_else(|| Failure::transport(&format!("no answer to {method}")))?;
            if answer["id"] != json!(id) {
                continue;
            }
            return match answer.get("error") {
                Some(error) => Err(Failure::from(error)),
                None => Ok(answer["result"].clone()),
            };
        }
    }
}

/// A subscription on a connection and a thread of its own, with the instant at which each event came.
pub struct Follower {
    events: Receiver<(Instant, Value)>,
    stream: UnixStream,
}

impl Follower {
    /// Subscribes; the subscription stands when this returns.
    ///
    /// # Panics
    /// When the daemon does not take it.
    pub fn new(socket: &Path, params: Value) -> Self {
        let mut client = Client::connect(socket).expect("connect to follow events");
        client.call("events.subscribe", params).expect("subscribe");
        client.patience(Duration::from_secs(600));
        let stream = client.stream.try_clone().expect("a second handle");
        let (out, events) = channel();
        std::thread::spawn(move || {
            while let Some(line) = client.read_line() {
                let at = Instant::now();
                if let Ok(frame) = serde_json::from_str::<Value>(&line)
                    && out.send((at, frame["params"]["result"].clone())).is_err()
                {
                    return;
                }
            }
        });
        Self { events, stream }
    }

    /// The next event that fits, with the instant at which it came; the others are dropped.
    ///
    /// # Panics
    /// When it does not come in time.
    #[track_caller]
    pub fn wait(&self, limit: Duration, what: &str, fits: impl Fn(&Value) -> bool) -> (Instant, Value) {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok((at, event)) if fits(&event) => return (at, event),
                Ok(_) => {}
                Err(_) => panic!("no such event within {limit:?}: {what}"),
            }
        }
    }

    /// Drops what has come so far.
    pub fn drain(&self) {
        while self.events.try_recv().is_ok() {}
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
