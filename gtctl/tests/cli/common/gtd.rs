//! A stand-in for `gtd`: it takes the lock, listens, starts scripts as agents, starts them again when they die,
//! and ends when it is told to. It knows no tmux and no policy.
//!
//! It is this test program itself, started by a script that lies beside a `gtctl` as `gtd`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fs2::FileExt;
use gtd_proto::town::{Census, Outcome, RigAdded, TownChange};
use gtd_proto::{Address, Cause, Event, InstanceId, Items, Selector, Seq, State, Timestamp, TownId, daemon};
use serde_json::{Value, json};

use super::fake::{Fake, Reply};
use super::values;

/// Longest life of a stand-in that nobody ends.
const LIFE: Duration = Duration::from_secs(60);

/// Installs `gtctl` and the stand-in into a directory and returns the path of that `gtctl`.
pub fn install(dir: &Path) -> PathBuf {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let gtctl = bin.join("gtctl");
    if std::fs::hard_link(env!("CARGO_BIN_EXE_gtctl"), &gtctl).is_err() {
        std::fs::copy(env!("CARGO_BIN_EXE_gtctl"), &gtctl).unwrap();
    }
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nexport FAKE_GTD=\"$*\"\nexec '{}' --exact common::gtd::the_stand_in --nocapture\n",
        this.display()
    );
    std::fs::write(bin.join("gtd"), script).unwrap();
    std::fs::set_permissions(bin.join("gtd"), std::fs::Permissions::from_mode(0o755)).unwrap();
    gtctl
}

/// What the script starts. In an ordinary run of the tests it does nothing.
#[test]
fn the_stand_in() {
    let Ok(args) = std::env::var("FAKE_GTD") else { return };
    let args: Vec<&str> = args.split(' ').collect();
    let after = |flag: &str| args.iter().position(|arg| *arg == flag).map(|at| args[at + 1]);
    let root = PathBuf::from(after("--town").unwrap());
    if args.contains(&"--init") {
        if root.join("mayor").exists() {
            eprintln!("error: {} is a town already", root.display());
            std::process::exit(2);
        }
        std::fs::create_dir_all(root.join("mayor")).unwrap();
        std::fs::create_dir_all(root.join("daemon")).unwrap();
        std::fs::write(root.join("mayor/town.json"), json!({"name": after("--name")}).to_string()).unwrap();
        std::process::exit(0);
    }
    std::process::exit(run(&root, args.contains(&"--hold")));
}

fn run(root: &Path, hold: bool) -> i32 {
    let mode = std::fs::read_to_string(root.join("mode")).unwrap_or_default();
    if mode == "bad" {
        eprintln!("error: unknown key `heartbeet` in settings/gtd.toml");
        return 78;
    }
    if mode == "log" {
        std::fs::write(root.join("daemon/gtd.log"), "first line\nthe disk is on fire\n").unwrap();
        return 3;
    }
    let lock = std::fs::File::create(root.join("daemon/daemon.lock")).unwrap();
    if FileExt::try_lock_exclusive(&lock).is_err() {
        eprintln!("error: daemon already running (lock held by another process)");
        std::fs::write(root.join("found-the-lock-held"), "").unwrap();
        return 1;
    }
    let ended = Arc::new(AtomicBool::new(false));
    if mode == "stubborn" {
        // Registering a handler is enough: TERM no longer ends the process.
        signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::new(AtomicBool::new(false))).unwrap();
    }
    let socket = root.join("daemon/gtd.sock");
    let _ = std::fs::remove_file(&socket);
    let id = TownId::generate();
    std::fs::write(root.join("daemon/town-id"), json!({ "id": id }).to_string()).unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    let town = Arc::new(Mutex::new(Model::new(root, id.clone(), hold)));
    let hello = daemon::Hello {
        version: "0.1.0".to_owned(),
        protocol: gtd_proto::PROTOCOL,
        town: root.display().to_string(),
        town_id: id.clone(),
        pid,
    };
    let (model, over, silent) = (Arc::clone(&town), Arc::clone(&ended), mode == "silent");
    let stubborn = mode == "stubborn";
    let server = Fake::start(&socket, move |method, params| match method {
        _ if silent => Reply::Silence,
        "daemon.hello" => values::answer(&hello),
        "daemon.shutdown" => {
            over.store(!stubborn, Ordering::SeqCst);
            values::answer(daemon::ShuttingDown { pid, agents_stay: true, dry_run: false, plan: Vec::new() })
        }
        _ => model.lock().unwrap().answer(method, params),
    });
    let endpoint = daemon::Endpoint {
        socket: socket.display().to_string(),
        pid,
        version: "0.1.0".to_owned(),
        protocol: gtd_proto::PROTOCOL,
        town_id: id,
        started_at: Timestamp::now(),
    };
    std::fs::write(root.join("daemon/endpoint.json"), serde_json::to_string(&endpoint).unwrap()).unwrap();
    let born = std::time::Instant::now();
    while !ended.load(Ordering::SeqCst) && born.elapsed() < LIFE {
        std::thread::sleep(Duration::from_millis(2));
        town.lock().unwrap().look();
    }
    // The answer to the shutdown is on its way.
    std::thread::sleep(Duration::from_millis(20));
    drop(server);
    town.lock().unwrap().stop();
    let _ = std::fs::remove_file(&socket);
    0
}

struct Running {
    child: Child,
    instance: InstanceId,
    started_at: Timestamp,
}

/// The town as the stand-in knows it.
struct Model {
    root: PathBuf,
    id: TownId,
    hold: bool,
    agents: BTreeMap<Address, Running>,
    /// What each worker has to do.
    hooks: BTreeMap<Address, String>,
    /// How many workers died.
    died: usize,
    seq: u64,
    readers: Vec<Sender<Value>>,
}

impl Model {
    fn new(root: &Path, id: TownId, hold: bool) -> Self {
        Self {
            root: root.to_owned(),
            id,
            hold,
            agents: BTreeMap::new(),
            hooks: BTreeMap::new(),
            died: 0,
            seq: 0,
            readers: Vec::new(),
        }
    }

    fn emit(&mut self, kind: &str, agent: &Address, instance: &InstanceId, data: Value) {
        self.seq += 1;
        let event = Event {
            instance: Some(instance.clone()),
            seq: Seq(self.seq),
            ..values::event(self.seq, kind, &agent.to_string(), data)
        };
        self.publish(&event);
    }

    fn publish(&mut self, event: &Event) {
        let frame = serde_json::to_value(event).unwrap();
        self.readers.retain(|reader| reader.send(frame.clone()).is_ok());
    }

    fn start(&mut self, agent: Address) {
        let text = std::fs::read_to_string(self.root.join("settings/config.json")).unwrap();
        let settings: Value = serde_json::from_str(&text).unwrap();
        let name = settings["default_agent"].as_str().unwrap();
        let instance = InstanceId::generate();
        self.emit("agent.starting", &agent, &instance, json!({"reason": "wanted", "attempt": 1}));
        let child = Command::new(settings["agents"][name]["command"].as_str().unwrap())
            .env("GT_TOWN_ID", self.id.as_str())
            .env("GT_INSTANCE", instance.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.emit("agent.ready", &agent, &instance, json!({"pid": child.id(), "startup_ms": 1}));
        self.agents.insert(agent, Running { child, instance, started_at: Timestamp::now() });
    }

    /// Starts again what has died.
    fn look(&mut self) {
        let dead: Vec<Address> = self
            .agents
            .iter_mut()
            .filter_map(|(agent, running)| running.child.try_wait().ok().flatten().map(|_| agent.clone()))
            .collect();
        for agent in dead {
            let instance = self.agents[&agent].instance.clone();
            let facts =
                json!({"signal": 9, "cause": Cause::Crash.as_str(), "detected_by": "wait", "detect_ms": 1});
            self.emit("agent.exited", &agent, &instance, facts);
            self.emit("agent.restarting", &agent, &instance, json!({"attempt": 1, "delay_ms": 0}));
            self.died += usize::from(matches!(agent, Address::Polecat(..)));
            self.start(agent);
        }
        // The demo kills one, and then all three.
        if self.died == 4 {
            self.died = 0;
            self.seq += 1;
            let data = json!({"id": "im1", "recovered": 3, "count": 3, "duration_ms": 1});
            let event = values::event(self.seq, "incident.closed", "alpha/witness", data);
            self.publish(&Event { agent: None, ..event });
        }
    }

    fn stop(&mut self) -> Vec<Outcome> {
        let agents = std::mem::take(&mut self.agents);
        agents
            .into_iter()
            .map(|(agent, mut running)| {
                running.child.kill().unwrap();
                running.child.wait().unwrap();
                self.emit("agent.stopped", &agent, &running.instance, json!({"survivors": []}));
                Outcome { agent, ok: true, already: false, error: None }
            })
            .collect()
    }

    fn agent(&self, address: &Address) -> gtd_proto::Agent {
        let mut agent = values::agent(&address.to_string(), State::Stopped);
        if let Some(running) = self.agents.get(address) {
            agent = values::agent(&address.to_string(), State::Running);
            agent.pid = i32::try_from(running.child.id()).ok();
            agent.shim_pid = None;
            agent.instance = Some(running.instance.clone());
            agent.started_at = Some(running.started_at);
        }
        agent.hook = self.hooks.get(address).cloned();
        agent
    }

    fn answer(&mut self, method: &str, params: &Value) -> Reply {
        let named = || params["agent"].as_str().unwrap().parse::<Address>().unwrap();
        match method {
            "town.status" => {
                let mut status = values::well(&self.root);
                status.town_id = self.id.clone();
                status.daemon.hold = self.hold;
                status.tmux.clear();
                let mut rigs: Vec<_> = self.agents.keys().filter_map(Address::rig).cloned().collect();
                rigs.dedup();
                rigs.sort();
                rigs.dedup();
                status.rigs = rigs
                    .into_iter()
                    .map(|rig| gtd_proto::town::Rig {
                        witness: self.agent(&Address::Witness(rig.clone())),
                        refinery: self.agent(&Address::Refinery(rig.clone())),
                        ..values::rig(rig.as_str(), true)
                    })
                    .collect();
                values::answer(status)
            }
            "daemon.status" => {
                let mut status = values::daemon_status(&super::Town::new());
                // What the test wants it to be troubled by.
                let trouble = std::fs::read_to_string(self.root.join("trouble"));
                status.reasons = trouble.into_iter().collect();
                values::answer(status)
            }
            "agent.list" => {
                let selector: Option<Selector> = params["selector"].as_str().map(|s| s.parse().unwrap());
                let asked = |agent: &&Address| selector.as_ref().is_none_or(|s| s.matches(agent));
                let items = self.agents.keys().filter(asked);
                values::answer(Items { items: items.map(|agent| self.agent(agent)).collect() })
            }
            "agent.explain" => values::answer(values::explanation(self.agent(&named()))),
            "rig.add" => {
                let rig: gtd_proto::RigName = params["name"].as_str().unwrap().parse().unwrap();
                assert!(Path::new(params["source"].as_str().unwrap()).join(".git").exists());
                self.start(Address::Witness(rig.clone()));
                self.start(Address::Refinery(rig.clone()));
                values::answer(RigAdded {
                    path: self.root.join(rig.as_str()).display().to_string(),
                    name: rig,
                    prefix: "x".to_owned(),
                    default_branch: "main".to_owned(),
                    dry_run: false,
                    plan: Vec::new(),
                })
            }
            "work.create" => {
                let mut work = values::work();
                work.id = format!("x-{}", self.hooks.len() + 1).parse().unwrap();
                work.title = params["title"].as_str().unwrap().to_owned();
                values::answer(gtd_proto::work::WorkChange {
                    work: Some(work),
                    already: false,
                    accepted: false,
                    dry_run: false,
                    plan: Vec::new(),
                })
            }
            "polecat.spawn" => {
                let rig: gtd_proto::RigName = params["rig"].as_str().unwrap().parse().unwrap();
                let name = format!("worker{}", self.hooks.len() + 1).parse().unwrap();
                let agent = Address::Polecat(rig, name);
                self.hooks.insert(agent.clone(), params["work"].as_str().unwrap().to_owned());
                self.start(agent.clone());
                values::answer(values::change(self.agent(&agent)))
            }
            "town.start" => {
                self.hold = false;
                values::answer(TownChange {
                    items: Vec::new(),
                    census: None,
                    plan: Vec::new(),
                    dry_run: false,
                })
            }
            "town.stop" => {
                std::fs::write(self.root.join("held"), self.hold.to_string()).unwrap();
                let items = self.stop();
                let census = Census { sessions: left(&self.root), ..Census::default() };
                values::answer(TownChange { items, census: Some(census), plan: Vec::new(), dry_run: false })
            }
            "events.subscribe" => {
                let (send, receive) = channel();
                self.readers.push(send);
                Reply::Feed(receive)
            }
            // Sent by the client when a subscription is dropped.
            "events.unsubscribe" => Reply::Result(Value::Bool(true)),
            other => panic!("the stand-in has no {other}"),
        }
    }
}

/// Sessions that the test wants to be left.
fn left(root: &Path) -> Vec<String> {
    std::fs::read_to_string(root.join("left")).into_iter().collect()
}
