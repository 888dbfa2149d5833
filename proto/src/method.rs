//! The table of methods: name, parameters, result and effect of each, and the strict reading of parameters.
//!
//! Everything that must know all methods asks this table: the line service checks parameters with it,
//! `rpc.discover` is written from it, and a test holds it against the traits of [`crate::rpc`].

use schemars::{Schema, SchemaGenerator};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::params::{self, Params};
use crate::{
    Agent, Change, ErrorKind, Exit, Incident, Items, Nudge, Reply, RpcError, agent, config, convoy, daemon,
    deacon, doctor, event, explain, lifecycle, mail, nudge, pause, polecat, report, town, wait, waiting,
    work,
};

/// What a method does to the town.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing.
    Read,
    /// Adds or records something.
    Write,
    /// Interrupts agents.
    Disruptive,
    /// Ends or removes things.
    Destructive,
}

/// One method.
#[derive(Clone, Copy)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// What it does to the town.
    pub effect: Effect,
    /// Names of its parameters, in positional order.
    pub fields: &'static [&'static str],
    /// It opens a subscription, and so has no place in a batch.
    pub subscription: bool,
    /// Schema of its parameters.
    pub params: fn(&mut SchemaGenerator) -> Schema,
    /// Schema of its result.
    pub result: fn(&mut SchemaGenerator) -> Schema,
    normalise: fn(Value) -> Result<Box<RawValue>, RpcError>,
}

impl Method {
    /// Checks parameters as a client gave them (named, positional, or one object in an array) and returns
    /// them in the form that the traits of [`crate::rpc`] take: an array of one object.
    ///
    /// # Errors
    /// `invalid_params` with `data.path`, a JSON pointer to the offending field.
    pub fn check(&self, given: Option<&RawValue>) -> Result<Box<RawValue>, RpcError> {
        let given = match given {
            None => Value::Object(Map::new()),
            Some(raw) => serde_json::from_str(raw.get()).map_err(|e| invalid("", &e.to_string()))?,
        };
        let named = match given {
            Value::Object(map) => map,
            Value::Array(mut list) if list.len() == 1 && list.first().is_some_and(Value::is_object) => {
                match list.pop() {
                    Some(Value::Object(map)) => map,
                    _ => Map::new(),
                }
            }
            Value::Array(list) => {
                if list.len() > self.fields.len() {
                    let path = format!("/{}", self.fields.len());
                    let most = self.fields.len();
                    return Err(invalid(
                        &path,
                        &format!("{} takes at most {most} positional parameters", self.name),
                    ));
                }
                self.fields.iter().map(|field| (*field).to_owned()).zip(list).collect()
            }
            _ => return Err(invalid("", "parameters are an object or an array")),
        };
        if named.get("reason").and_then(Value::as_str).is_some_and(|reason| reason.len() > REASON_MAX) {
            return Err(invalid("/reason", &format!("a reason has at most {REASON_MAX} bytes")));
        }
        (self.normalise)(Value::Object(named))
    }
}

/// Longest reason, in bytes: it is shown in rows and alerts, and kept with every intent.
pub const REASON_MAX: usize = 500;

fn invalid(path: &str, why: &str) -> RpcError {
    let at = if path.is_empty() { String::new() } else { format!(" at {path}") };
    RpcError::new(ErrorKind::InvalidParams, format!("invalid parameters{at}: {why}")).with("path", path)
}

fn normalise<P: Params>(given: Value) -> Result<Box<RawValue>, RpcError> {
    let params: P = serde_path_to_error::deserialize(given).map_err(|error| {
        let mut path = pointer(error.path());
        let why = error.inner().to_string();
        // Serde names the field of these two in the sentence only.
        if let Some(field) =
            quoted_after(&why, "missing field `").or_else(|| quoted_after(&why, "unknown field `"))
        {
            let last = format!("/{field}");
            if !path.ends_with(&last) {
                path.push_str(&last);
            }
        }
        invalid(&path, &why)
    })?;
    serde_json::value::to_raw_value(&params.into_positional())
        .map_err(|e| RpcError::internal(format!("parameters: {e}")))
}

fn quoted_after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix).and_then(|rest| rest.split('`').next())
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("/{index}")),
            Segment::Map { key } => out.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { variant } => out.push_str(&format!("/{variant}")),
            Segment::Unknown => {}
        }
    }
    out
}

macro_rules! methods {
    ($($name:literal $effect:ident ($params:ty) -> $result:ty, $summary:literal $(, $subscription:ident)?;)*) => {
        /// All methods, grouped by namespace.
        pub const METHODS: &[Method] = &[$(Method {
            name: $name,
            summary: $summary,
            effect: Effect::$effect,
            fields: <$params as Params>::FIELDS,
            subscription: methods!(@subscription $($subscription)?),
            params: |generator| generator.subschema_for::<$params>(),
            result: |generator| generator.subschema_for::<$result>(),
            normalise: normalise::<$params>,
        }),*];
    };
    (@subscription) => { false };
    (@subscription subscription) => { true };
}

methods! {
    "daemon.hello" Read (params::Hello) -> Reply<daemon::Hello>, "Say who calls, learn who answers";
    "daemon.status" Read (params::None) -> Reply<daemon::DaemonStatus>, "The daemon's own state";
    "daemon.heartbeat" Write (params::None) -> Reply<daemon::HeartbeatReport>, "Run one round now and report it";
    "daemon.heartbeats" Read (params::Limit) -> Reply<Items<daemon::HeartbeatReport>>, "Past rounds, newest first";
    "daemon.config" Read (params::None) -> Reply<config::Shown>, "The configuration in force, with each value's origin";
    "daemon.reload" Write (params::Reload) -> Reply<config::Reloaded>, "Read the configuration again";
    "daemon.log_level" Write (params::LogLevel) -> Reply<config::LevelSet>, "Log more or less until the next start or reload";
    "daemon.shutdown" Disruptive (params::Shutdown) -> Reply<daemon::ShuttingDown>, "End the daemon; agents stay unless asked otherwise";
    "town.status" Read (params::None) -> Reply<town::TownStatus>, "Town, rigs and agents";
    "town.start" Disruptive (params::TownStart) -> Reply<town::TownChange>, "Lift the town's hold and start what should run";
    "town.stop" Destructive (params::TownStop) -> Reply<town::TownChange>, "Stop everything, verified by a census";
    "town.pause" Disruptive (params::TownPause) -> Reply<pause::PauseChange>, "Freeze agents with everything below them, and start nothing of them";
    "town.resume" Disruptive (params::TownResume) -> Reply<pause::PauseChange>, "The end of a pause: what was frozen goes on";
    "rig.list" Read (params::None) -> Reply<Items<town::Rig>>, "All rigs";
    "rig.status" Read (params::RigRef) -> Reply<town::Rig>, "One rig";
    "rig.add" Write (params::RigAdd) -> Reply<town::RigAdded>, "Clone a repository and register it as a rig";
    "rig.remove" Destructive (params::RigRemove) -> Reply<town::RigRemoved>, "End what runs of a rig and take it out of the registry; its directory stays";
    "rig.park" Disruptive (params::RigAside) -> Reply<town::RigChange>, "Set a rig aside on this machine: its witness and refinery end, and nothing of it is started";
    "rig.unpark" Disruptive (params::RigAside) -> Reply<town::RigChange>, "The end of a park: what was to run is started again";
    "rig.dock" Disruptive (params::RigAside) -> Reply<town::RigChange>, "Set a rig aside for good";
    "rig.undock" Disruptive (params::RigAside) -> Reply<town::RigChange>, "The end of a dock";
    "witness.start" Disruptive (params::RigStart) -> Reply<Change>, "Start a rig's witness";
    "witness.stop" Disruptive (params::RigStop) -> Reply<Change>, "Stop a rig's witness; it stays stopped";
    "witness.restart" Disruptive (params::RigRestart) -> Reply<Change>, "Stop and start a rig's witness as a new instance";
    "witness.status" Read (params::RigRef) -> Reply<town::RoleStatus>, "A rig's witness";
    "refinery.start" Disruptive (params::RigStart) -> Reply<Change>, "Start a rig's refinery";
    "refinery.stop" Disruptive (params::RigStop) -> Reply<Change>, "Stop a rig's refinery; it stays stopped";
    "refinery.restart" Disruptive (params::RigRestart) -> Reply<Change>, "Stop and start a rig's refinery as a new instance";
    "refinery.status" Read (params::RigRef) -> Reply<town::RoleStatus>, "A rig's refinery";
    "deacon.start" Disruptive (params::StandingStart) -> Reply<Change>, "Start the deacon";
    "deacon.stop" Disruptive (params::StandingStop) -> Reply<Change>, "Stop the deacon; it stays stopped";
    "deacon.restart" Disruptive (params::StandingRestart) -> Reply<Change>, "Stop and start the deacon as a new instance";
    "deacon.status" Read (params::None) -> Reply<deacon::DeaconStatus>, "The deacon, with its heartbeat file";
    "mayor.start" Disruptive (params::StandingStart) -> Reply<Change>, "Start the mayor";
    "mayor.stop" Disruptive (params::StandingStop) -> Reply<Change>, "Stop the mayor; it stays stopped";
    "mayor.restart" Disruptive (params::StandingRestart) -> Reply<Change>, "Stop and start the mayor as a new instance";
    "mayor.status" Read (params::None) -> Reply<Agent>, "The mayor";
    "boot.triage" Disruptive (params::BootTriage) -> Reply<deacon::Triage>, "Look after the deacon as the heartbeat does, now";
    "boot.status" Read (params::None) -> Reply<deacon::BootStatus>, "Who looks after the deacon, and what came of it last";
    "polecat.spawn" Write (params::PolecatSpawn) -> Reply<Change>, "Make a worker: a name, a worktree, work on its hook, and its agent started";
    "polecat.list" Read (params::PolecatList) -> Reply<Items<Agent>>, "Workers";
    "polecat.status" Read (params::AgentRef) -> Reply<Agent>, "One worker";
    "polecat.start" Disruptive (params::PolecatStart) -> Reply<Change>, "Put work on a worker's hook, and start it";
    "polecat.stop" Disruptive (params::PolecatStop) -> Reply<Change>, "Stop a worker; it stays stopped, with its work on its hook";
    "polecat.stop_all" Disruptive (params::PolecatStopAll) -> Reply<polecat::PolecatsChange>, "Stop a rig's workers, and nobody else";
    "polecat.restart" Disruptive (params::PolecatRestart) -> Reply<Change>, "Stop and start a worker as a new instance";
    "polecat.remove" Destructive (params::PolecatRemove) -> Reply<polecat::PolecatRemoved>, "Remove a worker; what it has is archived";
    "polecat.capture" Read (params::AgentCapture) -> Reply<agent::Capture>, "The last lines of a worker's screen";
    "agent.list" Read (params::AgentList) -> Reply<Items<Agent>>, "Agents";
    "agent.capture" Read (params::AgentCapture) -> Reply<agent::Capture>, "The last lines of an agent's screen";
    "agent.explain" Read (params::AgentExplain) -> Reply<explain::Explanation>, "Why an agent is as it is";
    "agent.reset" Write (params::AgentReset) -> Reply<Change>, "Clear back-off, quarantine, throttle and hold";
    "agent.declare_dead" Disruptive (params::AgentDeclareDead) -> Reply<Change>, "Say that an agent of which nothing can be told is dead";
    "agent.report" Write (params::AgentReport) -> Reply<report::Reported>, "What an agent's own hooks say";
    "agent.wait" Read (wait::AgentWait) -> Reply<wait::Waited>, "Wait until an agent is as wanted";
    "agent.attach" Read (params::AgentRef) -> Reply<agent::Attach>, "How to look at an agent's session";
    "agent.waiting" Read (params::None) -> Reply<waiting::WaitingList>, "Agents that wait for a person, and for what";
    "agent.drain" Disruptive (params::AgentDrain) -> Reply<Change>, "Let an agent end its turn, stop it, and keep it stopped";
    "agent.undrain" Disruptive (params::AgentDrain) -> Reply<Change>, "The end of a drain: the agent is started again if it should run";
    "agent.exits" Read (params::AgentExits) -> Reply<Items<Exit>>, "Ended instances, newest first";
    "agent.signals" Read (params::AgentSignals) -> Reply<Items<agent::SignalSent>>, "Signals that we sent, newest first";
    "deaths.list" Read (params::DeathsList) -> Reply<Items<Exit>>, "Ends that nobody asked for, of all agents, newest first";
    "deaths.incidents" Read (params::None) -> Reply<Items<Incident>>, "Mass deaths, open and closed, newest first";
    "crew.list" Read (params::CrewList) -> Reply<Items<doctor::CrewMember>>, "People's workspaces";
    "session.list" Read (params::None) -> Reply<Items<doctor::Session>>, "Every session on the tmux server, ours or not, with the proof";
    "session.capture" Read (params::SessionCapture) -> Reply<agent::Capture>, "The last lines of a session's screen, whoever it belongs to";
    "orphans.list" Read (params::None) -> Reply<doctor::Orphans>, "What looks left behind, with the evidence";
    "orphans.sweep" Disruptive (params::OrphansSweep) -> Reply<doctor::SweepResult>, "End what is proven ours and left over";
    "doctor.checks" Read (params::None) -> Reply<Items<doctor::CheckInfo>>, "The checks that there are";
    "doctor.run" Disruptive (params::DoctorRun) -> Reply<doctor::Report>, "Look for what is wrong; with `fix`, put right what is safe";
    "hook.show" Read (params::AgentRef) -> Reply<work::HookShown>, "What is on an agent's hook";
    "hook.set" Write (params::HookSet) -> Reply<work::HookChange>, "Put work on an agent's hook";
    "hook.clear" Write (params::HookClear) -> Reply<work::HookChange>, "Take the work off an agent's hook";
    "work.create" Write (params::WorkCreate) -> Reply<work::WorkChange>, "Make a work item";
    "work.show" Read (params::WorkRef) -> Reply<work::Work>, "One work item";
    "work.list" Read (params::WorkList) -> Reply<Items<work::Work>>, "Work items, the most urgent first";
    "work.close" Write (params::WorkClose) -> Reply<work::WorkChange>, "Close a work item";
    "convoy.create" Write (params::ConvoyCreate) -> Reply<convoy::ConvoyChange>, "Make a convoy: work that is over when the last of it is";
    "convoy.add" Write (params::ConvoyAdd) -> Reply<convoy::ConvoyChange>, "Let a convoy track more work";
    "convoy.status" Read (params::ConvoyRef) -> Reply<convoy::Convoy>, "One convoy";
    "convoy.list" Read (params::ConvoyList) -> Reply<Items<convoy::Convoy>>, "Convoys, the open ones first, then the newest";
    "mail.send" Write (params::MailSend) -> Reply<mail::MailChange>, "Write to an agent, or to the person";
    "mail.inbox" Read (params::MailInbox) -> Reply<mail::Inbox>, "A mailbox, newest first";
    "mail.read" Write (params::MailRead) -> Reply<mail::MailChange>, "One mail; it counts as read when its recipient asks";
    "mail.archive" Write (params::MailArchive) -> Reply<mail::MailChange>, "Put a mail aside";
    "lifecycle.request" Disruptive (params::LifecycleRequest) -> Reply<lifecycle::LifecycleChange>, "Ask for the end, or a new start, of an agent; an agent may ask for itself";
    "lifecycle.list" Read (params::LifecycleList) -> Reply<Items<lifecycle::Lifecycle>>, "Lifecycle requests, newest first";
    "nudge.send" Write (params::NudgeSend) -> Reply<nudge::NudgeChange>, "Text for an agent, typed when its input line is free";
    "nudge.list" Read (params::NudgeList) -> Reply<Items<Nudge>>, "Texts for agents, in the order in which they are typed";
    "nudge.cancel" Write (params::NudgeCancel) -> Reply<nudge::NudgeChange>, "Take a text back that was not typed yet";
    "polecat.inject" Write (params::PolecatInject) -> Reply<nudge::NudgeChange>, "Text for an agent that runs, typed and confirmed or not typed at all";
    "agent.respond" Write (params::AgentRespond) -> Reply<nudge::NudgeChange>, "A person's answer to an agent that waits for one";
    "events.history" Read (params::EventsHistory) -> Reply<event::History>, "Past events, oldest first";
    "events.subscribe" Read (params::EventsSubscribe) -> String, "Events as they happen", subscription;
    "events.unsubscribe" Read (params::Unsubscribe) -> bool, "End a subscription";
    "rpc.discover" Read (params::None) -> Value, "This table as an OpenRPC document";
}

/// The method of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

/// The OpenRPC document of all methods, written from their types.
#[must_use]
pub fn discover(version: &str) -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft07()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let methods: Vec<Value> = METHODS
        .iter()
        .map(|method| {
            let schema = (method.params)(&mut generator);
            let schema = resolve(&generator, &schema);
            let required: Vec<&str> = schema
                .get("required")
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            let params: Vec<Value> = method
                .fields
                .iter()
                .map(|field| {
                    serde_json::json!({
                        "name": field,
                        "required": required.contains(field),
                        "schema": schema.get("properties").and_then(|all| all.get(field)).cloned().unwrap_or(Value::Bool(true)),
                    })
                })
                .collect();
            serde_json::json!({
                "name": method.name,
                "summary": method.summary,
                "paramStructure": "either",
                "params": params,
                "result": { "name": "result", "schema": (method.result)(&mut generator) },
                "x-effect": method.effect,
            })
        })
        .collect();
    let errors: Vec<Value> = ErrorKind::ALL
        .iter()
        .map(|kind| serde_json::json!({ "code": kind.code(), "message": kind.as_str() }))
        .collect();
    serde_json::json!({
        "openrpc": "1.3.2",
        "info": { "title": "gtd", "version": version },
        "methods": methods,
        "components": { "schemas": generator.definitions() },
        "x-errors": errors,
        "x-protocol": crate::PROTOCOL,
    })
}

/// The definition that a schema refers to, or the schema itself.
fn resolve(generator: &SchemaGenerator, schema: &Schema) -> Value {
    let value = schema.as_value().clone();
    value
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.rsplit('/').next())
        .and_then(|name| generator.definitions().get(name))
        .cloned()
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, params: &str) -> Result<String, RpcError> {
        let raw = RawValue::from_string(params.to_owned()).unwrap();
        find(method).unwrap().check(Some(&raw)).map(|raw| raw.get().to_owned())
    }

    #[test]
    fn named_positional_and_wrapped_parameters_are_the_same() {
        let named = check("rig.status", r#"{"rig":"a"}"#).unwrap();
        assert_eq!(named, r#"[{"rig":"a"}]"#);
        assert_eq!(check("rig.status", r#"["a"]"#).unwrap(), named);
        assert_eq!(check("rig.status", r#"[{"rig":"a"}]"#).unwrap(), named);
        assert_eq!(find("town.status").unwrap().check(None).unwrap().get(), "[{}]");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let path =
            |method, params| check(method, params).unwrap_err().data["path"].as_str().unwrap().to_owned();
        assert_eq!(path("rig.status", "{}"), "/rig");
        assert_eq!(path("rig.status", r#"{"rig":5}"#), "/rig");
        assert_eq!(path("rig.status", r#"{"rig":"a b"}"#), "/rig");
        assert_eq!(path("rig.status", r#"{"rig":"a","x":1}"#), "/x");
        assert_eq!(path("rig.status", r#"["a","b"]"#), "/1");
        assert_eq!(path("witness.start", r#"{"rig":"a","env":{"K/V":1}}"#), "/env/K~1V");
        assert_eq!(path("rig.status", "5"), "");
        let long = format!(r#"{{"rig":"a","reason":"{}"}}"#, "x".repeat(REASON_MAX + 1));
        assert_eq!(path("rig.park", &long), "/reason");
        assert!(check("rig.park", &long.replacen('x', "", 1)).is_ok());
    }

    #[test]
    fn methods_have_one_row_each() {
        let mut names: Vec<&str> = METHODS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
    }

    #[test]
    fn discover_describes_every_method_from_its_types() {
        let document = discover("0.0.0");
        let methods = document["methods"].as_array().unwrap();
        assert_eq!(methods.len(), METHODS.len());
        let start = methods.iter().find(|m| m["name"] == "witness.start").unwrap();
        assert_eq!(start["params"][0]["name"], "rig");
        assert_eq!(start["params"][0]["required"], true);
        assert_eq!(start["params"][1]["required"], false);
        for reference in collect_refs(&document) {
            let name = reference.rsplit('/').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{reference} points nowhere");
        }
    }

    fn collect_refs(value: &Value) -> Vec<String> {
        match value {
            Value::Object(map) => map
                .iter()
                .flat_map(|(key, value)| match value.as_str() {
                    Some(text) if key == "$ref" => vec![text.to_owned()],
                    _ => collect_refs(value),
                })
                .collect(),
            Value::Array(list) => list.iter().flat_map(collect_refs).collect(),
            _ => Vec::new(),
        }
    }
}
