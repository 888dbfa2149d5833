//! What crosses the socket, as text that is kept: a change of these files is a change of the protocol.
//!
//! Each sample is read and written again, and has to come out as it was. `GTD_BLESS=1` writes the
//! description of the interface anew; the other files are written by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use gtd_proto::agent::{Activity, Intent, State};
use gtd_proto::daemon::StepOutcome;
use gtd_proto::deaths::{IncidentCause, IncidentState};
use gtd_proto::town::{Severity, TmuxState};
use gtd_proto::{
    Agent, Cause, Change, ErrorKind, Event, Exit, Frame, Incident, Items, Nudge, Reply, Role, RpcError,
    agent, config, convoy, daemon, deacon, doctor, event, explain, lifecycle, mail, method, nudge, report,
    town, waiting, work,
};
use jsonrpsee::types::ErrorObjectOwned;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn sample(path: &str) -> Value {
    let path = folder().join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(directory: &str) -> BTreeSet<String> {
    std::fs::read_dir(folder().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".json", ""))
        .collect()
}

/// Reads a sample as a type and writes it again.
fn round<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(value.clone())?)
}

type Round = fn(&Value) -> Result<Value, serde_json::Error>;

/// The sample and the type of each method's result.
const RESULTS: &[(&str, &str, Round)] = &[
    ("daemon.hello", "hello", round::<Reply<daemon::Hello>>),
    ("daemon.status", "daemon_status", round::<Reply<daemon::DaemonStatus>>),
    ("daemon.heartbeat", "heartbeat", round::<Reply<daemon::HeartbeatReport>>),
    ("daemon.heartbeats", "heartbeats", round::<Reply<Items<daemon::HeartbeatReport>>>),
    ("daemon.config", "config", round::<Reply<config::Shown>>),
    ("daemon.reload", "reloaded", round::<Reply<config::Reloaded>>),
    ("daemon.log_level", "log_level", round::<Reply<config::LevelSet>>),
    ("daemon.shutdown", "shutting_down", round::<Reply<daemon::ShuttingDown>>),
    ("town.status", "town_status", round::<Reply<town::TownStatus>>),
    ("town.start", "town_change", round::<Reply<town::TownChange>>),
    ("town.stop", "town_change", round::<Reply<town::TownChange>>),
    ("town.pause", "pause_change", round::<Reply<gtd_proto::pause::PauseChange>>),
    ("town.resume", "pause_change", round::<Reply<gtd_proto::pause::PauseChange>>),
    ("rig.list", "rigs", round::<Reply<Items<town::Rig>>>),
    ("rig.status", "rig", round::<Reply<town::Rig>>),
    ("rig.add", "rig_added", round::<Reply<town::RigAdded>>),
    ("rig.remove", "rig_removed", round::<Reply<town::RigRemoved>>),
    ("rig.park", "rig_change", round::<Reply<town::RigChange>>),
    ("rig.unpark", "rig_change", round::<Reply<town::RigChange>>),
    ("rig.dock", "rig_change", round::<Reply<town::RigChange>>),
    ("rig.undock", "rig_change", round::<Reply<town::RigChange>>),
    ("witness.start", "change", round::<Reply<Change>>),
    ("witness.stop", "change", round::<Reply<Change>>),
    ("witness.restart", "change", round::<Reply<Change>>),
    ("witness.status", "witness_status", round::<Reply<town::RoleStatus>>),
    ("refinery.start", "change_bare", round::<Reply<Change>>),
    ("refinery.stop", "change_bare", round::<Reply<Change>>),
    ("refinery.restart", "change_bare", round::<Reply<Change>>),
    ("refinery.status", "refinery_status", round::<Reply<town::RoleStatus>>),
    ("deacon.start", "change_deacon", round::<Reply<Change>>),
    ("deacon.stop", "change_deacon", round::<Reply<Change>>),
    ("deacon.restart", "change_deacon", round::<Reply<Change>>),
    ("deacon.status", "deacon_status", round::<Reply<deacon::DeaconStatus>>),
    ("mayor.start", "change_mayor", round::<Reply<Change>>),
    ("mayor.stop", "change_mayor", round::<Reply<Change>>),
    ("mayor.restart", "change_mayor", round::<Reply<Change>>),
    ("mayor.status", "mayor", round::<Reply<Agent>>),
    ("boot.triage", "triage", round::<Reply<deacon::Triage>>),
    ("boot.status", "boot_status", round::<Reply<deacon::BootStatus>>),
    ("polecat.spawn", "change", round::<Reply<Change>>),
    ("polecat.list", "agents", round::<Reply<Items<Agent>>>),
    ("polecat.status", "polecat", round::<Reply<Agent>>),
    ("polecat.start", "change", round::<Reply<Change>>),
    ("polecat.stop", "change", round::<Reply<Change>>),
    ("polecat.stop_all", "polecats_change", round::<Reply<gtd_proto::polecat::PolecatsChange>>),
    ("polecat.restart", "change", round::<Reply<Change>>),
    ("polecat.remove", "polecat_removed", round::<Reply<gtd_proto::polecat::PolecatRemoved>>),
    ("polecat.capture", "capture", round::<Reply<agent::Capture>>),
    ("agent.list", "agents", round::<Reply<Items<Agent>>>),
    ("agent.capture", "capture", round::<Reply<agent::Capture>>),
    ("agent.explain", "explanation", round::<Reply<explain::Explanation>>),
    ("agent.reset", "change", round::<Reply<Change>>),
    ("agent.declare_dead", "change", round::<Reply<Change>>),
    ("agent.report", "reported", round::<Reply<report::Reported>>),
    ("agent.wait", "waited", round::<Reply<gtd_proto::wait::Waited>>),
    ("agent.attach", "attach", round::<Reply<agent::Attach>>),
    ("agent.waiting", "waiting", round::<Reply<waiting::WaitingList>>),
    ("agent.drain", "change_drained", round::<Reply<Change>>),
    ("agent.undrain", "change", round::<Reply<Change>>),
    ("agent.exits", "exits", round::<Reply<Items<Exit>>>),
    ("agent.signals", "signals", round::<Reply<Items<agent::SignalSent>>>),
    ("deaths.list", "deaths", round::<Reply<Items<Exit>>>),
    ("deaths.incidents", "incidents", round::<Reply<Items<Incident>>>),
    ("crew.list", "crew", round::<Reply<Items<doctor::CrewMember>>>),
    ("session.list", "sessions", round::<Reply<Items<doctor::Session>>>),
    ("session.capture", "capture", round::<Reply<agent::Capture>>),
    ("orphans.list", "orphans", round::<Reply<doctor::Orphans>>),
    ("orphans.sweep", "sweep", round::<Reply<doctor::SweepResult>>),
    ("doctor.checks", "checks", round::<Reply<Items<doctor::CheckInfo>>>),
    ("doctor.run", "doctor", round::<Reply<doctor::Report>>),
    ("hook.show", "hook", round::<Reply<work::HookShown>>),
    ("hook.set", "hook_change", round::<Reply<work::HookChange>>),
    ("hook.clear", "hook_empty", round::<Reply<work::HookChange>>),
    ("work.create", "work_accepted", round::<Reply<work::WorkChange>>),
    ("work.show", "work", round::<Reply<work::Work>>),
    ("work.list", "works", round::<Reply<Items<work::Work>>>),
    ("work.close", "work_change", round::<Reply<work::WorkChange>>),
    ("convoy.create", "convoy_accepted", round::<Reply<convoy::ConvoyChange>>),
    ("convoy.add", "convoy_change", round::<Reply<convoy::ConvoyChange>>),
    ("convoy.status", "convoy", round::<Reply<convoy::Convoy>>),
    ("convoy.list", "convoys", round::<Reply<Items<convoy::Convoy>>>),
    ("mail.send", "mail_accepted", round::<Reply<mail::MailChange>>),
    ("mail.inbox", "inbox", round::<Reply<mail::Inbox>>),
    ("mail.read", "mail", round::<Reply<mail::MailChange>>),
    ("mail.archive", "mail_archived", round::<Reply<mail::MailChange>>),
    ("lifecycle.request", "lifecycle_request", round::<Reply<lifecycle::LifecycleChange>>),
    ("lifecycle.list", "lifecycles", round::<Reply<Items<lifecycle::Lifecycle>>>),
    ("nudge.send", "nudge_change", round::<Reply<nudge::NudgeChange>>),
    ("nudge.list", "nudges", round::<Reply<Items<Nudge>>>),
    ("nudge.cancel", "nudge_change", round::<Reply<nudge::NudgeChange>>),
    ("polecat.inject", "nudge_change", round::<Reply<nudge::NudgeChange>>),
    ("agent.respond", "nudge_change", round::<Reply<nudge::NudgeChange>>),
    ("events.history", "history", round::<Reply<event::History>>),
    ("events.subscribe", "subscription", round::<String>),
    ("events.unsubscribe", "unsubscribed", round::<bool>),
    // The document has a test of its own.
    ("rpc.discover", "../discover", round::<Value>),
];

#[test]
fn every_method_has_a_sample_of_its_result_and_every_sample_a_method() {
    let here: Vec<&str> = RESULTS.iter().map(|(method, ..)| *method).collect();
    let table: Vec<&str> = method::METHODS.iter().map(|method| method.name).collect();
    assert_eq!(here, table);
    let mut used: BTreeSet<String> = RESULTS.iter().map(|(_, file, _)| (*file).to_owned()).collect();
    assert!(used.remove("../discover"));
    assert_eq!(used, names("results"));
}

#[test]
fn results_come_out_as_they_went_in() {
    for (method, file, round) in RESULTS.iter().filter(|(method, ..)| *method != "rpc.discover") {
        let value = sample(&format!("results/{file}.json"));
        let again = round(&value).unwrap_or_else(|error| panic!("{method}, {file}: {error}"));
        assert_eq!(again, value, "{method}, {file}");
    }
    let endpoint = sample("endpoint.json");
    assert_eq!(round::<daemon::Endpoint>(&endpoint).unwrap(), endpoint);
}

/// A newer daemon may say more: every object of a result may have fields that we do not know.
#[test]
fn fields_of_a_later_version_are_ignored() {
    fn add(value: &mut Value) {
        match value {
            Value::Object(map) => {
                // A map from states to counts, and no object.
                map.iter_mut()
                    .filter(|(key, _)| !matches!(key.as_str(), "summary" | "left"))
                    .for_each(|(_, value)| add(value));
                map.insert("field_of_a_later_version".to_owned(), json!({"nested": [1]}));
            }
            Value::Array(list) => list.iter_mut().for_each(add),
            _ => {}
        }
    }
    for (method, file, round) in RESULTS.iter().filter(|(method, ..)| *method != "rpc.discover") {
        let value = sample(&format!("results/{file}.json"));
        let mut later = value.clone();
        add(&mut later);
        // Free-form values keep what they are given; what is typed must not fail.
        let again = round(&later).unwrap_or_else(|error| panic!("{method}, {file}: {error}"));
        if let (Some(again), Some(value)) = (again.as_object(), value.as_object()) {
            assert_eq!(
                again.keys().collect::<BTreeSet<_>>(),
                value.keys().collect::<BTreeSet<_>>(),
                "{file}"
            );
        }
    }
}

#[test]
fn words_of_a_later_version_are_read_as_unknown() {
    fn read<T: DeserializeOwned + PartialEq>(unknown: T) -> bool {
        serde_json::from_value::<T>(json!("word_of_a_later_version")).unwrap() == unknown
    }
    assert!(read(State::Unknown));
    assert!(read(Activity::Unknown));
    assert!(read(Intent::Unknown));
    assert!(read(Role::Unknown));
    assert!(read(Cause::Unknown));
    assert!(read(StepOutcome::Unknown));
    assert!(read(deacon::Verdict::Unknown));
    assert!(read(TmuxState::Unknown));
    assert!(read(Severity::Unknown));
    assert!(read(ErrorKind::Unknown));
    assert!(read(IncidentCause::Unknown));
    assert!(read(IncidentState::Unknown));
    assert!(read(nudge::NudgeState::Unknown));
    assert!(read(nudge::NudgeReached::Unknown));
    assert!(read(config::Origin::Unknown));
    assert!(read(doctor::CheckStatus::Unknown));
    assert!(read(doctor::FixClass::Destructive));
    assert!(read(waiting::WaitKind::Unknown));
    assert!(read(waiting::WaitSource::Unknown));
}

#[test]
fn every_word_is_written_as_it_is_called() {
    for state in State::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    for kind in ErrorKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    let causes = [
        Cause::Requested,
        Cause::Clean,
        Cause::Crash,
        Cause::LaunchError,
        Cause::ProviderLimit,
        Cause::Person,
        Cause::PaneClosed,
        Cause::ServerGone,
        Cause::Oom,
        Cause::Reboot,
        Cause::KilledByGtd,
        Cause::Unknown,
    ];
    for cause in causes {
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
    }
    let incidents = [
        IncidentCause::TmuxServer,
        IncidentCause::Oom,
        IncidentCause::Resume,
        IncidentCause::Account,
        IncidentCause::Crashes,
        IncidentCause::Unknown,
    ];
    for cause in incidents {
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
    }
    use IncidentState as At;
    for state in [At::Holding, At::Canary, At::Releasing, At::Closed, At::Unknown] {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    for state in [
        nudge::NudgeState::Queued,
        nudge::NudgeState::Delivering,
        nudge::NudgeState::Delivered,
        nudge::NudgeState::Dead,
    ] {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    for reached in [
        nudge::NudgeReached::Queued,
        nudge::NudgeReached::Typed,
        nudge::NudgeReached::Submitted,
        nudge::NudgeReached::Seen,
    ] {
        assert_eq!(serde_json::to_value(reached).unwrap(), reached.as_str());
    }
    for activity in [Activity::Working, Activity::Idle, Activity::Waiting, Activity::Unknown] {
        assert_eq!(serde_json::to_value(activity).unwrap(), activity.as_str());
    }
    use waiting::WaitKind as Kind;
    for kind in [Kind::Permission, Kind::Trust, Kind::Login, Kind::Question, Kind::Input, Kind::Unknown] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    use waiting::WaitSource as Source;
    for source in [Source::Reported, Source::Pane, Source::Unknown] {
        assert_eq!(serde_json::to_value(source).unwrap(), source.as_str());
    }
    for intent in [Intent::Running, Intent::Stopped, Intent::Paused, Intent::Parked, Intent::Unknown] {
        assert_eq!(serde_json::to_value(intent).unwrap(), intent.as_str());
    }
}

/// The constants of `event::kind`, read from the source: nothing else lists them.
fn kinds() -> BTreeSet<String> {
    include_str!("../src/event.rs")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const ")?.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_kind_of_event_has_a_sample() {
    assert!(kinds().contains(event::kind::AGENT_EXITED));
    assert_eq!(names("events"), kinds());
    for kind in kinds() {
        let value = sample(&format!("events/{kind}.json"));
        assert_eq!(value["kind"], kind.as_str());
        assert_eq!(round::<Event>(&value).unwrap(), value, "{kind}");
        // An event is also a frame, and is not taken for another one.
        assert!(matches!(serde_json::from_value::<Frame>(value).unwrap(), Frame::Event(_)), "{kind}");
    }
    let exited = sample("events/agent.exited.json");
    let exit: Exit = serde_json::from_value(exited["data"].clone()).unwrap();
    assert_eq!(exit.cause, Cause::Crash);
}

#[test]
fn frames_are_told_apart() {
    let frames = sample("frames.json");
    let read: Vec<Frame> = frames
        .as_array()
        .unwrap()
        .iter()
        .map(|frame| {
            let result = &frame["params"]["result"];
            assert_eq!(&round::<Frame>(result).unwrap(), result);
            serde_json::from_value(result.clone()).unwrap()
        })
        .collect();
    assert!(matches!(&read[..], [Frame::Event(_), Frame::Lagged { lagged: 17 }, Frame::Gap { .. }]));
}

#[test]
fn every_kind_of_error_has_a_sample() {
    let errors = sample("errors.json");
    let mut seen = Vec::new();
    for value in errors.as_array().unwrap() {
        let wire: ErrorObjectOwned = serde_json::from_value(value.clone()).unwrap();
        let error = RpcError::from(&wire);
        assert_eq!(error.kind.code(), error.code, "{value}");
        seen.push(error.kind);
        let again = serde_json::to_value(ErrorObjectOwned::from(error.clone())).unwrap();
        assert_eq!(again, *value);
        // The form in which results carry errors.
        let inner = serde_json::to_value(&error).unwrap();
        assert_eq!(serde_json::from_value::<RpcError>(inner).unwrap(), error);
    }
    assert_eq!(seen, ErrorKind::ALL);
}

#[test]
fn the_description_of_the_interface_is_as_it_was() {
    let path = folder().join("discover.json");
    let text = serde_json::to_string_pretty(&method::discover("0.0.0")).unwrap() + "\n";
    if std::env::var_os("GTD_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (now, then))) =
        text.lines().zip(kept.lines().chain(std::iter::repeat(""))).enumerate().find(|(_, (a, b))| a != b)
    {
        panic!(
            "line {} of {} would be {now:?} and is {then:?}; if that is meant, GTD_BLESS=1 writes it anew",
            number + 1,
            path.display()
        );
    }
    assert_eq!(text, kept, "the kept description goes on where the present one ends");
}
