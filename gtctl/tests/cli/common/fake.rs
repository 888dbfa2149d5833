//! A server on a Unix socket that speaks lines of JSON-RPC and answers what it is told to. Parameters are checked
//! against the protocol's own table, so that a client that sends what no daemon takes is found out.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use gtd_proto::{RpcError, method};
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What to answer.
pub enum Reply {
    Result(Value),
    Error(RpcError),
    /// A subscription, and where its frames come from. It ends with the sender.
    Feed(Receiver<Value>),
    /// Nothing, ever.
    Silence,
    /// These bytes instead of an answer.
    Raw(String),
    /// The end of the connection.
    HangUp,
}

pub type Answer = dyn Fn(&str, &Value) -> Reply + Send + Sync;

/// The server. It ends when dropped.
pub struct Fake {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Fake {
    pub fn start(socket: &Path, answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Answer> = Arc::new(answer);
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&calls));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), answer, seen) = (stream, Arc::clone(&answer), Arc::clone(&seen)) else {
                    return;
                };
                std::thread::spawn(move || serve(stream, &*answer, &seen));
            }
        });
        Self { socket: socket.to_owned(), stop, calls }
    }

    /// Methods that were called, with their parameters.
    pub fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }

    /// The parameters of the last call of a method.
    #[track_caller]
    pub fn params(&self, name: &str) -> Value {
        let calls = self.calls();
        let found = calls.iter().rev().find(|(method, _)| method == name);
        found.unwrap_or_else(|| panic!("{name} was not called: {calls:?}")).1.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener up, so that it sees that it is to end.
        let _ = UnixStream::connect(&self.socket);
    }
}

fn serve(stream: UnixStream, answer: &Answer, seen: &Mutex<Vec<(String, Value)>>) {
    static SUBSCRIPTIONS: AtomicU64 = AtomicU64::new(1);
    let Ok(out) = stream.try_clone() else { return };
    let out = Arc::new(Mutex::new(out));
    let send = |text: &str| writeln!(out.lock().unwrap(), "{text}").is_ok();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).unwrap();
        let name = request["method"].as_str().unwrap().to_owned();
        let id = &request["id"];
        let given = &request["params"];
        let params = if given.is_array() { given[0].clone() } else { given.clone() };
        seen.lock().unwrap().push((name.clone(), params.clone()));
        let reply = match objection(&name, given) {
            None => answer(&name, &params),
            Some(error) => Reply::Error(error),
        };
        let said = match reply {
            Reply::Result(result) => {
                send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
            }
            Reply::Error(error) => {
                let error: ErrorObjectOwned = error.into();
                send(&json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string())
            }
            Reply::Feed(frames) => {
                let subscription = format!("s{}", SUBSCRIPTIONS.fetch_add(1, Ordering::SeqCst));
                let well = send(&json!({ "jsonrpc": "2.0", "id": id, "result": subscription }).to_string());
                let out = Arc::clone(&out);
                std::thread::spawn(move || {
                    for frame in frames {
                        let text = json!({ "jsonrpc": "2.0", "method": "events.event",
                            "params": { "subscription": subscription, "result": frame } });
                        if writeln!(out.lock().unwrap(), "{text}").is_err() {
                            return;
                        }
                    }
                });
                well
            }
            Reply::Silence => true,
            Reply::Raw(text) => send(&text),
            Reply::HangUp => {
                let _ = out.lock().unwrap().shutdown(std::net::Shutdown::Both);
                false
            }
        };
        if !said {
            return;
        }
    }
}

/// What the protocol's own table has against a request.
fn objection(name: &str, given: &Value) -> Option<RpcError> {
    let Some(method) = method::find(name) else {
        let said = format!("there is no method {name}");
        return Some(RpcError::new(gtd_proto::ErrorKind::MethodNotFound, said));
    };
    let raw = (!given.is_null()).then(|| RawValue::from_string(given.to_string()).unwrap());
    method.check(raw.as_deref()).err()
}
