//! A server of stand-in methods in a directory of its own, and a client that speaks in raw lines.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use std::sync::Arc;

use gtd::rpc::callers::NoAgents;
use gtd::rpc::{Callers, Counters, Endpoint, HoldsLock, Limits, Peer, Server, ServerHandle};
use gtd_proto::{ErrorKind, RpcError, TownId, params};
use jsonrpsee::RpcModule;
use jsonrpsee::core::RpcResult;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, broadcast};
use tokio::time::timeout;

/// Nothing in these tests takes so long unless it never ends.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the stand-in methods share with a test.
pub struct State {
    /// `daemon.heartbeat` waits for one permit each.
    pub gate: Semaphore,
    /// How many heartbeats have begun.
    pub begun: AtomicUsize,
    /// Reasons given to `daemon.shutdown`, and `heartbeat` for each that ended.
    pub done: Mutex<Vec<String>>,
    /// Sent to all subscriptions.
    pub events: broadcast::Sender<u64>,
    /// Subscriptions that have ended.
    pub ended: AtomicUsize,
}

impl State {
    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

fn parsed<P: params::Params>(params: &jsonrpsee::types::Params<'_>) -> RpcResult<P> {
    params.one::<P>()
}

/// Methods under the names, and with the parameters, of real ones:
///
/// * `daemon.status` answers at once, `rig.status` with the rig;
/// * `daemon.heartbeat` waits for the gate, `daemon.heartbeats` as many milliseconds as `limit`;
/// * `agent.exits` answers with `limit` KiB;
/// * `daemon.shutdown` notes its reason and answers with its peer;
/// * `town.status` panics; `town.stop` is missing;
/// * `events.subscribe` sends the numbers 1 to `since`, then whatever the test sends. Its `agent` may be
///   `reject`, `drop`, `end` (after the numbers) or `flood`.
pub fn methods(state: Arc<State>) -> RpcModule<State> {
    let mut module = RpcModule::from_arc(state);
    module.register_method("daemon.status", |_, _, _| json!({"ok": true})).unwrap();
    module
        .register_method("rig.status", |params, _, _| {
            parsed::<params::RigRef>(&params).map(|params| json!({"rig": params.rig}))
        })
        .unwrap();
    module
        .register_async_method("daemon.heartbeat", |_, state, _| async move {
            state.begun.fetch_add(1, Ordering::SeqCst);
            state.gate.acquire().await.unwrap().forget();
            state.done.lock().unwrap().push("heartbeat".to_owned());
            json!({"ok": true})
        })
        .unwrap();
    module
        .register_async_method("daemon.heartbeats", |params, _, _| async move {
            let limit = parsed::<params::Limit>(&params)?.limit.unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(limit.into())).await;
            Ok::<Value, ErrorObjectOwned>(json!({"slept": limit}))
        })
        .unwrap();
    module
        .register_method("agent.exits", |params, _, _| {
            let kib = parsed::<params::AgentExits>(&params)?.limit.unwrap_or(1) as usize;
            Ok::<String, ErrorObjectOwned>("x".repeat(kib * 1024))
        })
        .unwrap();
    module
        .register_async_method("daemon.shutdown", |params, state, ext| async move {
            let reason = parsed::<params::Shutdown>(&params)?.reason.unwrap_or_default();
            tokio::task::yield_now().await;
            state.done.lock().unwrap().push(reason);
            let peer = ext.get::<Peer>().ok_or_else(|| RpcError::internal("no peer"))?;
            Ok::<Value, ErrorObjectOwned>(json!({
                "pid": peer.pid.map(|pid| pid.as_raw_nonzero().get()),
                "uid": peer.uid.as_raw(),
                "connection": peer.connection_id.0,
            }))
        })
        .unwrap();
    module.register_method("town.status", |_, _, _| -> Value { panic!("a stand-in that panics") }).unwrap();
    module
        .register_subscription(
            "events.subscribe",
            "events.event",
            "events.unsubscribe",
            |params, pending, state, _| async move {
                let asked = params.one::<params::EventsSubscribe>().unwrap();
                match asked.agent.as_deref() {
                    Some("reject") => {
                        let error = RpcError::new(ErrorKind::AgentNotFound, "no agent");
                        pending.reject(ErrorObjectOwned::from(error)).await;
                        return;
                    }
                    Some("drop") => return,
                    _ => {}
                }
                let mut events = state.events.subscribe();
                let Ok(sink) = pending.accept().await else { return };
                let raw = |number: u64| serde_json::value::to_raw_value(&number).unwrap();
                for number in 1..=asked.since.map_or(0, |seq| seq.0) {
                    if sink.send(raw(number)).await.is_err() {
                        break;
                    }
                }
                let flood = serde_json::value::to_raw_value(&"x".repeat(64 * 1024)).unwrap();
                while asked.agent.as_deref() == Some("flood") {
                    if sink.send(flood.clone()).await.is_err() {
                        break;
                    }
                }
                while asked.agent.as_deref() != Some("end") {
                    tokio::select! {
                        event = events.recv() => {
                            let Ok(number) = event else { break };
                            if sink.send(raw(number)).await.is_err() {
                                break;
                            }
                        }
                        () = sink.closed() => break,
                    }
                }
                state.ended.fetch_add(1, Ordering::SeqCst);
            },
        )
        .unwrap();
    module
}

/// There are no agents: every caller is a person.
pub fn everybody() -> Callers {
    Callers::new(Arc::new(NoAgents), TownId::generate(), Vec::new())
}

/// A running server; its directory goes with it.
pub struct Daemon {
    pub handle: Option<ServerHandle>,
    pub counters: Counters,
    pub state: Arc<State>,
    pub socket: PathBuf,
    pub dir: TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let state = Arc::new(State {
            gate: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            done: Mutex::default(),
            events: broadcast::channel(1000).0,
            ended: AtomicUsize::new(0),
        });
        let methods = methods(Arc::clone(&state));
        Self::serving(methods.into(), state, limits)
    }

    pub fn serving(methods: jsonrpsee::Methods, state: Arc<State>, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let places = Endpoint::candidates(dir.path(), &TownId::generate(), None, rustix::process::geteuid());
        let lock = ();
        let listening = Endpoint::bind_first(&places, HoldsLock::by(&lock)).unwrap();
        let socket = listening.path().unwrap();
        let counters = Counters::default();
        let handle = Server::start(listening, methods, limits, counters.clone(), everybody()).unwrap();
        Self { handle: Some(handle), counters, state, socket, dir }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(&self.socket).await
    }

    pub async fn shutdown(&mut self) -> gtd::rpc::Drained {
        timeout(PATIENCE, self.handle.take().unwrap().shutdown()).await.unwrap()
    }
}

/// A client that writes and reads lines.
pub struct Client {
    pub reader: BufReader<OwnedReadHalf>,
    pub writer: OwnedWriteHalf,
}

impl Client {
    pub async fn connect(socket: &Path) -> Self {
        let stream = timeout(PATIENCE, UnixStream::connect(socket)).await.unwrap().unwrap();
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.writer.write_all(bytes.as_ref())).await.unwrap().unwrap();
    }

    /// Writes a line.
    pub async fn send(&mut self, line: &str) {
        self.write(format!("{line}\n")).await;
    }

    /// The next line as text; none at the end. A reset by a server that closed is an end as well.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("no line came") {
            Ok(0) => None,
            Ok(_) => Some(line.strip_suffix('\n').expect("a line ends with a newline").to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next line as JSON.
    pub async fn next(&mut self) -> Value {
        let line = self.line().await.expect("the connection ended");
        serde_json::from_str(&line).unwrap()
    }

    /// Writes a line, and reads one.
    pub async fn ask(&mut self, line: &str) -> Value {
        self.send(line).await;
        self.next().await
    }

    /// Calls a method with id 1.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask(&request(&json!(1), method, params)).await
    }

    /// Still answers.
    pub async fn lives(&mut self) {
        let reply = self.ask(r#"{"jsonrpc":"2.0","id":"alive","method":"daemon.status"}"#).await;
        assert_eq!(reply, json!({"jsonrpc": "2.0", "id": "alive", "result": {"ok": true}}));
    }

    /// Closes the writing side.
    pub async fn half_close(&mut self) {
        self.writer.shutdown().await.unwrap();
    }
}

pub fn request(id: &Value, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// Code, `data.kind` and id of an error reply.
pub fn error(reply: &Value) -> (i64, &str, &Value) {
    let error = &reply["error"];
    let kind = error["data"]["kind"].as_str().unwrap_or_else(|| panic!("no kind in {reply}"));
    (error["code"].as_i64().unwrap(), kind, &reply["id"])
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
