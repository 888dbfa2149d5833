//! The traits of `proto`, its table of methods and this daemon's service agree with each other.

use std::collections::BTreeSet;

use gtd::rpc::discover::Discover;
use gtd_proto::pause::PauseChange;
use gtd_proto::rpc::{
    AgentServer, BootServer, DaemonServer, DeaconServer, DeathsServer, EventsServer, HookServer, MayorServer,
    PolecatServer, RefineryServer, RigServer, TownServer, WitnessServer, WorkServer,
};
use gtd_proto::{
    Agent, Change, ErrorKind, Exit, Frame, Incident, Items, Reply, RpcError, Seq, TownId, agent, config,
    daemon, event, explain, method, params, polecat, town, waiting, work,
};
use jsonrpsee::core::{RpcResult, SubscriptionResult, async_trait};
use jsonrpsee::{Extensions, Methods, PendingSubscriptionSink};
use serde_json::{Value, json};

use crate::common::Daemon;

mod affairs;
mod machine;
mod standing;

/// Implements every trait. Most methods answer with an error whose message is their own name.
#[derive(Clone)]
pub struct StandIn;

impl StandIn {
    pub fn methods() -> Methods {
        let mut all = Methods::new();
        all.merge(DaemonServer::into_rpc(Self)).unwrap();
        all.merge(TownServer::into_rpc(Self)).unwrap();
        all.merge(RigServer::into_rpc(Self)).unwrap();
        all.merge(WitnessServer::into_rpc(Self)).unwrap();
        all.merge(RefineryServer::into_rpc(Self)).unwrap();
        all.merge(DeaconServer::into_rpc(Self)).unwrap();
        all.merge(MayorServer::into_rpc(Self)).unwrap();
        all.merge(BootServer::into_rpc(Self)).unwrap();
        all.merge(PolecatServer::into_rpc(Self)).unwrap();
        all.merge(AgentServer::into_rpc(Self)).unwrap();
        all.merge(DeathsServer::into_rpc(Self)).unwrap();
        machine::merge_into(&mut all);
        all.merge(HookServer::into_rpc(Self)).unwrap();
        all.merge(WorkServer::into_rpc(Self)).unwrap();
        affairs::merge_into(&mut all);
        all.merge(EventsServer::into_rpc(Self)).unwrap();
        all.merge(Discover::module("1.2.3")).unwrap();
        all
    }
}

pub(super) fn reached<T>(name: &str) -> RpcResult<T> {
    Err(RpcError::internal(name).into())
}

#[async_trait]
impl DaemonServer for StandIn {
    async fn hello(&self, _: &Extensions, _: params::Hello) -> RpcResult<Reply<daemon::Hello>> {
        let body = daemon::Hello {
            version: "1".into(),
            protocol: 1,
            town: "/town".into(),
            town_id: TownId::generate(),
            pid: 1,
        };
        Ok(Reply { body, seq: Seq(7) })
    }
    async fn status(&self, _: params::None) -> RpcResult<Reply<daemon::DaemonStatus>> {
        reached("daemon.status")
    }
    async fn heartbeat(&self, _: &Extensions, _: params::None) -> RpcResult<Reply<daemon::HeartbeatReport>> {
        reached("daemon.heartbeat")
    }
    async fn heartbeats(&self, _: params::Limit) -> RpcResult<Reply<Items<daemon::HeartbeatReport>>> {
        reached("daemon.heartbeats")
    }
    async fn config(&self, _: params::None) -> RpcResult<Reply<config::Shown>> {
        reached("daemon.config")
    }
    async fn reload(&self, _: &Extensions, _: params::Reload) -> RpcResult<Reply<config::Reloaded>> {
        reached("daemon.reload")
    }
    async fn log_level(&self, _: &Extensions, _: params::LogLevel) -> RpcResult<Reply<config::LevelSet>> {
        reached("daemon.log_level")
    }
    async fn shutdown(&self, _: &Extensions, _: params::Shutdown) -> RpcResult<Reply<daemon::ShuttingDown>> {
        reached("daemon.shutdown")
    }
}

#[async_trait]
impl TownServer for StandIn {
    async fn status(&self, _: params::None) -> RpcResult<Reply<town::TownStatus>> {
        reached("town.status")
    }
    async fn start(&self, _: &Extensions, _: params::TownStart) -> RpcResult<Reply<town::TownChange>> {
        reached("town.start")
    }
    async fn stop(&self, _: &Extensions, _: params::TownStop) -> RpcResult<Reply<town::TownChange>> {
        reached("town.stop")
    }
    async fn pause(&self, _: &Extensions, _: params::TownPause) -> RpcResult<Reply<PauseChange>> {
        reached("town.pause")
    }
    async fn resume(&self, _: &Extensions, _: params::TownResume) -> RpcResult<Reply<PauseChange>> {
        reached("town.resume")
    }
}

#[async_trait]
impl RigServer for StandIn {
    async fn list(&self, _: params::None) -> RpcResult<Reply<Items<town::Rig>>> {
        reached("rig.list")
    }
    async fn status(&self, params: params::RigRef) -> RpcResult<Reply<town::Rig>> {
        Err(RpcError::new(ErrorKind::RigNotFound, format!("no rig {:?}", params.rig.as_str()))
            .with("known", ["b"])
            .into())
    }
    async fn add(&self, _: &Extensions, _: params::RigAdd) -> RpcResult<Reply<town::RigAdded>> {
        reached("rig.add")
    }
    async fn remove(&self, _: &Extensions, _: params::RigRemove) -> RpcResult<Reply<town::RigRemoved>> {
        reached("rig.remove")
    }
    async fn park(&self, _: &Extensions, _: params::RigAside) -> RpcResult<Reply<town::RigChange>> {
        reached("rig.park")
    }
    async fn unpark(&self, _: &Extensions, _: params::RigAside) -> RpcResult<Reply<town::RigChange>> {
        reached("rig.unpark")
    }
    async fn dock(&self, _: &Extensions, _: params::RigAside) -> RpcResult<Reply<town::RigChange>> {
        reached("rig.dock")
    }
    async fn undock(&self, _: &Extensions, _: params::RigAside) -> RpcResult<Reply<town::RigChange>> {
        reached("rig.undock")
    }
}

macro_rules! role {
    ($trait:ident, $namespace:literal) => {
        #[async_trait]
        impl $trait for StandIn {
            async fn start(&self, _: &Extensions, _: params::RigStart) -> RpcResult<Reply<Change>> {
                reached(concat!($namespace, ".start"))
            }
            async fn stop(&self, _: &Extensions, _: params::RigStop) -> RpcResult<Reply<Change>> {
                reached(concat!($namespace, ".stop"))
            }
            async fn restart(&self, _: &Extensions, _: params::RigRestart) -> RpcResult<Reply<Change>> {
                reached(concat!($namespace, ".restart"))
            }
            async fn status(&self, _: params::RigRef) -> RpcResult<Reply<town::RoleStatus>> {
                reached(concat!($namespace, ".status"))
            }
        }
    };
}

role!(WitnessServer, "witness");
role!(RefineryServer, "refinery");

#[async_trait]
impl PolecatServer for StandIn {
    async fn spawn(&self, _: &Extensions, _: params::PolecatSpawn) -> RpcResult<Reply<Change>> {
        reached("polecat.spawn")
    }
    async fn list(&self, _: params::PolecatList) -> RpcResult<Reply<Items<Agent>>> {
        reached("polecat.list")
    }
    async fn status(&self, _: params::AgentRef) -> RpcResult<Reply<Agent>> {
        reached("polecat.status")
    }
    async fn start(&self, _: &Extensions, _: params::PolecatStart) -> RpcResult<Reply<Change>> {
        reached("polecat.start")
    }
    async fn stop(&self, _: &Extensions, _: params::PolecatStop) -> RpcResult<Reply<Change>> {
        reached("polecat.stop")
    }
    async fn stop_all(
        &self,
        _: &Extensions,
        _: params::PolecatStopAll,
    ) -> RpcResult<Reply<polecat::PolecatsChange>> {
        reached("polecat.stop_all")
    }
    async fn restart(&self, _: &Extensions, _: params::PolecatRestart) -> RpcResult<Reply<Change>> {
        reached("polecat.restart")
    }
    async fn remove(
        &self,
        _: &Extensions,
        _: params::PolecatRemove,
    ) -> RpcResult<Reply<polecat::PolecatRemoved>> {
        reached("polecat.remove")
    }
    async fn capture(&self, _: params::AgentCapture) -> RpcResult<Reply<agent::Capture>> {
        reached("polecat.capture")
    }
}

#[async_trait]
impl AgentServer for StandIn {
    async fn list(&self, _: params::AgentList) -> RpcResult<Reply<Items<Agent>>> {
        reached("agent.list")
    }
    async fn capture(&self, _: params::AgentCapture) -> RpcResult<Reply<agent::Capture>> {
        reached("agent.capture")
    }
    async fn explain(&self, _: params::AgentExplain) -> RpcResult<Reply<explain::Explanation>> {
        reached("agent.explain")
    }
    async fn reset(&self, _: &Extensions, _: params::AgentReset) -> RpcResult<Reply<Change>> {
        reached("agent.reset")
    }
    async fn declare_dead(&self, _: &Extensions, _: params::AgentDeclareDead) -> RpcResult<Reply<Change>> {
        reached("agent.declare_dead")
    }

    async fn report(
        &self,
        _: &Extensions,
        _: params::AgentReport,
    ) -> RpcResult<Reply<gtd_proto::report::Reported>> {
        reached("agent.report")
    }
    async fn wait(
        &self,
        _: &Extensions,
        _: gtd_proto::wait::AgentWait,
    ) -> RpcResult<Reply<gtd_proto::wait::Waited>> {
        reached("agent.wait")
    }
    async fn attach(&self, _: params::AgentRef) -> RpcResult<Reply<agent::Attach>> {
        reached("agent.attach")
    }
    async fn waiting(&self, _: params::None) -> RpcResult<Reply<waiting::WaitingList>> {
        reached("agent.waiting")
    }
    async fn drain(&self, _: &Extensions, _: params::AgentDrain) -> RpcResult<Reply<Change>> {
        reached("agent.drain")
    }
    async fn undrain(&self, _: &Extensions, _: params::AgentDrain) -> RpcResult<Reply<Change>> {
        reached("agent.undrain")
    }
    async fn exits(&self, _: params::AgentExits) -> RpcResult<Reply<Items<Exit>>> {
        reached("agent.exits")
    }
    async fn signals(&self, _: params::AgentSignals) -> RpcResult<Reply<Items<agent::SignalSent>>> {
        reached("agent.signals")
    }
}

#[async_trait]
impl DeathsServer for StandIn {
    async fn list(&self, _: params::DeathsList) -> RpcResult<Reply<Items<Exit>>> {
        reached("deaths.list")
    }
    async fn incidents(&self, _: params::None) -> RpcResult<Reply<Items<Incident>>> {
        reached("deaths.incidents")
    }
}

#[async_trait]
impl HookServer for StandIn {
    async fn show(&self, _: params::AgentRef) -> RpcResult<Reply<work::HookShown>> {
        reached("hook.show")
    }
    async fn set(&self, _: &Extensions, _: params::HookSet) -> RpcResult<Reply<work::HookChange>> {
        reached("hook.set")
    }
    async fn clear(&self, _: &Extensions, _: params::HookClear) -> RpcResult<Reply<work::HookChange>> {
        reached("hook.clear")
    }
}

#[async_trait]
impl WorkServer for StandIn {
    async fn create(&self, _: &Extensions, _: params::WorkCreate) -> RpcResult<Reply<work::WorkChange>> {
        reached("work.create")
    }
    async fn show(&self, _: params::WorkRef) -> RpcResult<Reply<work::Work>> {
        reached("work.show")
    }
    async fn list(&self, _: params::WorkList) -> RpcResult<Reply<Items<work::Work>>> {
        reached("work.list")
    }
    async fn close(&self, _: &Extensions, _: params::WorkClose) -> RpcResult<Reply<work::WorkChange>> {
        reached("work.close")
    }
}

#[async_trait]
impl EventsServer for StandIn {
    async fn history(&self, _: params::EventsHistory) -> RpcResult<Reply<event::History>> {
        reached("events.history")
    }
    async fn follow(
        &self,
        pending: PendingSubscriptionSink,
        _: &Extensions,
        _: params::EventsSubscribe,
    ) -> SubscriptionResult {
        let sink = pending.accept().await?;
        let frame = serde_json::value::to_raw_value(&Frame::Lagged { lagged: 5 })?;
        for _ in 0..3 {
            sink.send(frame.clone()).await?;
        }
        sink.closed().await;
        Ok(())
    }
}

#[test]
fn the_traits_and_the_table_name_the_same_methods() {
    let traits: BTreeSet<&str> = StandIn::methods().method_names().collect();
    let table: BTreeSet<&str> = method::METHODS.iter().map(|method| method.name).collect();
    assert_eq!(traits, table);
}

/// Parameters that are enough for a method.
fn enough(name: &str) -> Value {
    match name {
        "daemon.hello" => json!({"client": "test", "protocol": 1}),
        "daemon.log_level" => json!({"level": "info"}),
        "rig.add" => json!({"name": "a", "source": "/x"}),
        "rig.status" | "rig.remove" | "rig.park" | "rig.unpark" | "rig.dock" | "rig.undock" => {
            json!({"rig": "a"})
        }
        "polecat.spawn" => json!({"rig": "a"}),
        "agent.report" => json!({"instance": "018f3b5e-7a3c-7b1e-8b1a-0123456789ab", "state": "idle"}),
        "agent.declare_dead" => json!({"agent": "a/witness", "evidence": "gone"}),
        "agent.capture" | "agent.explain" | "agent.reset" | "agent.attach" | "agent.drain"
        | "agent.undrain" => {
            json!({"agent": "a/witness"})
        }
        "convoy.create" => json!({"title": "t"}),
        "convoy.add" => json!({"convoy": "hq-cv-1", "work": ["a-1"]}),
        "convoy.status" => json!({"convoy": "hq-cv-1"}),
        "lifecycle.request" => json!({"agent": "a/witness", "action": "cycle"}),
        "mail.send" => json!({"to": "a/witness", "subject": "s"}),
        "mail.read" | "mail.archive" => json!({"id": "m-1"}),
        "agent.wait" => json!({"agent": "a/witness", "for": "ready"}),
        "hook.show" | "hook.clear" => json!({"agent": "a/witness"}),
        "hook.set" => json!({"agent": "a/witness", "work": "a-1"}),
        "session.capture" => json!({"session": "$3"}),
        "nudge.send" | "polecat.inject" => json!({"agent": "a/witness", "message": "m"}),
        "nudge.cancel" => json!({"id": "n-1"}),
        "agent.respond" => json!({"agent": "a/witness", "text": "y"}),
        "work.create" => json!({"title": "t"}),
        "work.show" | "work.close" => json!({"id": "a-1"}),
        "polecat.status" | "polecat.start" | "polecat.stop" | "polecat.restart" | "polecat.remove"
        | "polecat.capture" => {
            json!({"agent": "a/polecats/nux"})
        }
        "polecat.stop_all" => json!({"rig": "a"}),
        "events.unsubscribe" => json!({"subscription": "none"}),
        _ if name.starts_with("witness.") || name.starts_with("refinery.") => json!({"rig": "a"}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn checked_parameters_are_what_every_method_reads() {
    let plain = Daemon::start();
    let daemon = Daemon::serving(StandIn::methods(), plain.state.clone(), gtd::rpc::Limits::default());
    let mut client = daemon.connect().await;
    for method in method::METHODS {
        let named = enough(method.name);
        let given = named.as_object().unwrap().len();
        let positional: Vec<&Value> =
            method.fields.iter().take(given).filter_map(|field| named.get(*field)).collect();
        let mut forms = vec![named.clone(), json!([named])];
        // Where the required ones come first.
        if positional.len() == given {
            forms.push(json!(positional));
        }
        for params in forms {
            let reply = client.call(method.name, params.clone()).await;
            let answered = match method.name {
                "daemon.hello" => reply["result"]["town"] == "/town",
                "rig.status" => reply["error"]["data"]["kind"] == "rig_not_found",
                "events.unsubscribe" => reply["result"] == false,
                "rpc.discover" => reply["result"]["info"]["version"] == "1.2.3",
                "events.subscribe" => {
                    let id = reply["result"].clone();
                    for _ in 0..3 {
                        assert_eq!(
                            client.next().await["params"],
                            json!({"subscription": id, "result": {"lagged": 5}})
                        );
                    }
                    id.is_string()
                }
                name => reply["error"]["message"] == name,
            };
            assert!(answered, "{} {params}: {reply}", method.name);
            let refused = client.call(method.name, json!({"no_such_field": 1})).await;
            assert_eq!(refused["error"]["data"]["kind"], "invalid_params", "{}", method.name);
        }
    }
}

/// What every request that changes something can say.
const EVERY: [&str; 4] = ["wait_ms", "dry_run", "idempotency_key", "reason"];

/// Methods that do without some of it, each with its reason.
const WITHOUT: &[(&str, &[&str], &str)] = &[
    ("daemon.heartbeat", &EVERY, "a round only looks and catches up; a second one finds nothing to do"),
    (
        "daemon.reload",
        &["wait_ms", "idempotency_key"],
        "answered when it is done; a second one finds nothing different",
    ),
    (
        "daemon.log_level",
        &["wait_ms", "idempotency_key"],
        "answered when it is done; a second one changes nothing",
    ),
    ("boot.triage", &["wait_ms"], "answered when it is done; what follows is told by events"),
    ("agent.declare_dead", &["wait_ms"], "answered when it is written down; what follows is told by events"),
    ("agent.report", &EVERY, "an agent says what is so; its instance makes a repetition harmless"),
    ("agent.reset", &["wait_ms"], "answered when it is done; a start that follows is told by events"),
    ("rig.add", &["wait_ms"], "the clone is the request; a client that leaves does not stop it"),
];

#[test]
fn whatever_changes_something_can_be_planned_repeated_and_explained() {
    for row in WITHOUT {
        assert!(method::find(row.0).is_some_and(|method| method.effect != method::Effect::Read), "{}", row.0);
    }
    for method in method::METHODS.iter().filter(|method| method.effect != method::Effect::Read) {
        let without = WITHOUT.iter().find(|(name, ..)| *name == method.name).map_or(&[][..], |row| row.1);
        for field in EVERY {
            let taken = method.fields.contains(&field);
            assert_ne!(taken, without.contains(&field), "{field} of {}", method.name);
        }
        let verb = method.name.split('.').nth(1).unwrap_or_default();
        let ends = matches!(verb, "stop" | "restart" | "stop_all");
        let of_one = !method.name.starts_with("town.");
        let starts = of_one && matches!(verb, "start" | "restart");
        for field in ["now", "force"] {
            assert!(!ends || method.fields.contains(&field), "{field} of {}", method.name);
        }
        let preset = if method.name.starts_with("polecat.") { "agent_preset" } else { "agent" };
        for field in [preset, "account", "env", "reset_overrides"] {
            assert!(!starts || method.fields.contains(&field), "{field} of {}", method.name);
        }
    }
}
