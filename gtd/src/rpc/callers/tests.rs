use super::table::{Aim, Column, ROWS, Reads, Scope, Target, find, markdown};
use super::*;
use gtd_proto::ErrorKind;
use gtd_proto::method::{Effect, METHODS};
use proptest::prelude::*;
use serde_json::json;

/// The interface as it is specified, in its own notation: what is not built yet has a row too.
const SPECIFIED: &str = "\
daemon: hello status heartbeat heartbeats reload config log_level shutdown
town: status stop start pause resume
rig: list status add remove park unpark dock undock
witness: start stop restart status
refinery: start stop restart status
deacon: start stop restart status
mayor: start stop restart status
boot: triage status
polecat: list status spawn start stop stop_all restart capture inject remove
crew: list
agent: list capture explain waiting respond drain undrain declare_dead reset report wait attach exits signals
session: list capture
hook: show set clear
work: create show list close
convoy: create add status list
nudge: send list cancel
mail: send inbox read archive
lifecycle: request list
deaths: list incidents
orphans: list sweep
doctor: checks run
events: history subscribe unsubscribe
rpc: discover";

fn specified() -> Vec<String> {
    let lines = SPECIFIED.lines().filter_map(|line| line.split_once(": "));
    lines.flat_map(|(space, names)| names.split(' ').map(move |name| format!("{space}.{name}"))).collect()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn asked<'a>(method: &'a str, params: &'a Map<String, Value>) -> Asked<'a> {
    let reads = gtd_proto::method::find(method).is_some_and(|method| method.effect == Effect::Read);
    Asked { method, reads, params, by_instance: None }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn may_with(grants: &[&str], who: &Who, method: &str, params: Value) -> Result<(), RpcError> {
    let list: Vec<Value> = grants.iter().map(|grant| Value::from(*grant)).collect();
    let text = format!("[callers]\ngrant = {}", Value::from(list));
    let config = crate::config::Config::parse(&text, std::path::Path::new("gtd.toml")).unwrap();
    judge(who, &asked(method, &object(params)), &config.callers.grant)
}

fn may(who: &str, method: &str, params: Value) -> bool {
    may_with(&[], &Who::Agent(address(who)), method, params).is_ok()
}

#[test]
fn every_method_has_one_row() {
    let mut rows: Vec<&str> = ROWS.iter().map(|row| row.method).collect();
    rows.sort_unstable();
    let mut unique = rows.clone();
    unique.dedup();
    assert_eq!(rows, unique);
    for method in specified() {
        assert!(find(&method).is_some(), "{method} is specified and has no row");
    }
    for method in METHODS {
        assert!(find(method.name).is_some(), "{} is built and has no row", method.name);
    }
    let known = specified();
    for row in ROWS {
        let built = METHODS.iter().any(|method| method.name == row.method);
        assert!(built || known.iter().any(|name| name == row.method), "{} is nowhere", row.method);
    }
}

#[test]
fn rows_agree_with_the_methods_they_are_about() {
    for method in METHODS {
        let row = find(method.name).unwrap();
        match row.reads {
            Reads::Always => assert_eq!(method.effect, Effect::Read, "{}", method.name),
            Reads::No => assert_ne!(method.effect, Effect::Read, "{}", method.name),
            Reads::Unless(field) => assert!(method.fields.contains(&field), "{}", method.name),
        }
        let field = match row.aim {
            Aim::Nothing | Aim::Mayor | Aim::Deacon => continue,
            Aim::Rig | Aim::PolecatsOf | Aim::Witness | Aim::Refinery => "rig",
            Aim::Agent => "agent",
            Aim::Instance => "instance",
            Aim::Item => "id",
        };
        assert!(method.fields.contains(&field), "{} has no {field}", method.name);
    }
}

/// Parameters that aim a method at each of several targets, with the agents that the scopes speak of.
fn aimed(aim: Aim) -> Vec<(Value, Target)> {
    let rigs = ["alpha", "beta"];
    let agents = [
        "mayor",
        "deacon",
        "boot",
        "alpha/witness",
        "beta/witness",
        "alpha/refinery",
        "alpha/polecats/nux",
        "alpha/polecats/ace",
        "beta/polecats/nux",
        "alpha/crew/max",
    ];
    let by_rig = |made: fn(RigName) -> Target| {
        rigs.iter().map(|rig| (json!({ "rig": rig }), made(rig.parse().unwrap()))).collect()
    };
    match aim {
        Aim::Nothing => vec![(json!({}), Target::Nothing)],
        Aim::Item => vec![(json!({"id": "7"}), Target::Unclear)],
        Aim::Mayor => vec![(json!({}), Target::Agent(Address::Mayor))],
        Aim::Deacon => vec![(json!({}), Target::Agent(Address::Deacon))],
        Aim::Rig => by_rig(Target::Rig),
        Aim::PolecatsOf => by_rig(Target::PolecatsOf),
        Aim::Witness => by_rig(|rig| Target::Agent(Address::Witness(rig))),
        Aim::Refinery => by_rig(|rig| Target::Agent(Address::Refinery(rig))),
        Aim::Agent | Aim::Instance => {
            agents.iter().map(|agent| (json!({ "agent": agent }), Target::Agent(address(agent)))).collect()
        }
    }
}

use gtd_proto::RigName;

const CALLERS: [(Column, &str); 6] = [
    (Column::Mayor, "mayor"),
    (Column::Deacon, "deacon"),
    (Column::Witness, "alpha/witness"),
    (Column::Refinery, "alpha/refinery"),
    (Column::Polecat, "alpha/polecats/nux"),
    (Column::Boot, "boot"),
];

/// What a scope means, said once more and otherwise: by the text of addresses.
fn meant(scope: Scope, caller: &str, target: &Target) -> bool {
    let text = match target {
        Target::Agent(agent) => agent.to_string(),
        Target::Rig(rig) => format!("{rig}/"),
        Target::PolecatsOf(rig) => format!("{rig}/polecats/"),
        Target::Nothing | Target::Unclear => String::new(),
    };
    let own = caller.split_once('/').map(|(rig, _)| format!("{rig}/"));
    let in_own = own.is_some_and(|own| text.starts_with(&own));
    match scope {
        Scope::Any => true,
        Scope::Itself => text == caller,
        Scope::Polecats => text.contains("/polecats/"),
        Scope::OwnPolecats => in_own && text.contains("/polecats/"),
        Scope::OwnRig => in_own,
        Scope::Patrols => text.ends_with("/witness") || text.ends_with("/refinery"),
        Scope::Deacon => text == "deacon",
    }
}

#[test]
fn every_cell_is_judged_as_it_stands() {
    let mut judged = 0;
    for row in ROWS {
        for (params, target) in aimed(row.aim) {
            assert_eq!(row.aim.target(&object(params.clone()), None), target, "{}", row.method);
            let ask = |who: &Who| may_with(&[], who, row.method, params.clone());
            assert!(ask(&Who::Human).is_ok(), "{} {params}", row.method);
            let crew = Who::Agent(address("alpha/crew/max"));
            assert!(ask(&crew).is_ok(), "a crew's agent is its person: {}", row.method);
            let looks = row.reads != Reads::No;
            assert_eq!(ask(&Who::Unknown("x".into())).is_ok(), looks, "{}", row.method);
            for (column, caller) in CALLERS {
                let expected = looks || row.scopes(column).iter().any(|scope| meant(*scope, caller, &target));
                let answer = ask(&Who::Agent(address(caller)));
                assert_eq!(answer.is_ok(), expected, "{caller}: {} {params}", row.method);
                if let Err(error) = answer {
                    assert_eq!((error.code, error.kind), (1020, ErrorKind::Forbidden));
                    assert_eq!(error.data["class"], address(caller).role().as_str());
                    assert!(error.hint.is_some_and(|hint| hint.contains("grant")), "{}", row.method);
                }
                judged += 1;
            }
        }
    }
    assert!(judged > 1_000, "{judged}");
}

/// The sentences of the specification, each as a question.
#[test]
fn the_classes_are_as_specified() {
    let nux = json!({"agent": "alpha/polecats/nux"});
    let far = json!({"agent": "beta/polecats/nux"});
    let rig = json!({"rig": "alpha"});
    for (who, method, params, expected) in [
        ("mayor", "polecat.spawn", &rig, true),
        ("mayor", "polecat.stop", &far, true),
        ("mayor", "polecat.remove", &far, false),
        ("mayor", "witness.stop", &rig, false),
        ("mayor", "town.stop", &json!({}), false),
        ("mayor", "rig.park", &rig, false),
        ("deacon", "witness.restart", &rig, true),
        ("deacon", "witness.stop", &rig, false),
        ("deacon", "nudge.send", &far, true),
        ("deacon", "orphans.list", &json!({}), true),
        ("deacon", "orphans.sweep", &json!({}), false),
        ("alpha/witness", "polecat.restart", &nux, true),
        ("alpha/witness", "polecat.restart", &far, false),
        ("alpha/witness", "polecat.remove", &nux, true),
        ("alpha/witness", "polecat.spawn", &rig, false),
        ("alpha/witness", "polecat.stop_all", &rig, true),
        ("alpha/witness", "polecat.stop_all", &json!({"rig": "beta"}), false),
        ("alpha/witness", "witness.restart", &rig, false),
        ("alpha/refinery", "work.close", &json!({"id": "x"}), true),
        ("alpha/refinery", "nudge.send", &json!({"agent": "alpha/witness"}), true),
        ("alpha/refinery", "nudge.send", &far, false),
        ("alpha/polecats/nux", "hook.clear", &nux, true),
        ("alpha/polecats/nux", "hook.clear", &json!({"agent": "alpha/polecats/ace"}), false),
        ("alpha/polecats/nux", "agent.report", &nux, true),
        ("alpha/polecats/nux", "agent.report", &far, false),
        ("alpha/polecats/nux", "work.show", &json!({"id": "x"}), true),
        ("alpha/polecats/nux", "work.close", &json!({"id": "x"}), false),
        ("alpha/polecats/nux", "mail.send", &json!({"to": "beta/witness"}), true),
        ("boot", "nudge.send", &json!({"agent": "deacon"}), true),
        ("boot", "nudge.send", &json!({"agent": "mayor"}), false),
        ("boot", "lifecycle.request", &json!({"agent": "deacon"}), true),
        ("alpha/witness", "lifecycle.request", &json!({"agent": "alpha/witness"}), true),
        ("alpha/witness", "lifecycle.request", &json!({"agent": "deacon"}), false),
        ("alpha/witness", "doctor.run", &json!({}), true),
        ("alpha/witness", "doctor.run", &json!({"fix": true}), false),
        ("alpha/witness", "daemon.shutdown", &json!({}), false),
        // Built by nobody, and so nobody's but a person's.
        ("mayor", "no.such", &json!({}), false),
    ] {
        assert_eq!(may(who, method, params.clone()), expected, "{who}: {method} {params}");
    }
}

#[test]
fn force_is_a_persons_or_granted() {
    let forced = json!({"agent": "alpha/polecats/nux", "force": true});
    let gently = json!({"agent": "alpha/polecats/nux", "force": false});
    assert!(may("alpha/witness", "polecat.remove", gently));
    let witness = Who::Agent(address("alpha/witness"));
    let error = may_with(&[], &witness, "polecat.remove", forced.clone()).unwrap_err();
    assert!(error.message.ends_with("not with force"), "{error}");
    assert!(error.hint.unwrap().contains("alpha/witness: polecat.remove"));
    assert!(may_with(&["alpha/witness: polecat.remove"], &witness, "polecat.remove", forced.clone()).is_ok());
    assert!(may_with(&["witness: polecat.*"], &witness, "polecat.remove", forced.clone()).is_ok());
    assert!(may_with(&["beta/*: polecat.*"], &witness, "polecat.remove", forced).is_err());
}

#[test]
fn a_grant_ends_at_the_own_rig() {
    let grants = ["*: witness.stop", "*: town.stop"];
    let witness = Who::Agent(address("alpha/witness"));
    let own = json!({"rig": "alpha"});
    let other = json!({"rig": "beta"});
    assert!(may_with(&grants, &witness, "witness.stop", own.clone()).is_ok());
    let error = may_with(&grants, &witness, "witness.stop", other.clone()).unwrap_err();
    assert!(error.hint.unwrap().contains("own rig"));
    assert!(may_with(&grants, &Who::Agent(Address::Deacon), "witness.stop", other).is_ok());
    assert!(may_with(&grants, &witness, "town.stop", json!({})).is_ok());
    assert!(may_with(&grants, &witness, "town.start", json!({})).is_err());
    // Who cannot be told is granted nothing.
    let nobody = Who::Unknown("it is gone".into());
    let error = may_with(&grants, &nobody, "witness.stop", own).unwrap_err();
    assert_eq!(error.data["class"], "unknown");
    assert!(error.message.contains("it is gone"), "{error}");
}

#[test]
fn a_report_is_about_who_has_the_instance() {
    let params = object(json!({"agent": "alpha/polecats/nux", "instance": "x", "state": "idle"}));
    let asked = |owner: &str| Asked { by_instance: Some(address(owner)), ..asked("agent.report", &params) };
    let nux = Who::Agent(address("alpha/polecats/nux"));
    assert!(judge(&nux, &asked("alpha/polecats/nux"), &[]).is_ok());
    assert!(judge(&nux, &asked("alpha/witness"), &[]).is_err(), "the instance decides, not the name");
}

proptest! {
    #[test]
    fn no_parameters_lead_an_agent_beyond_its_cells(
        row in 0..ROWS.len(), text in "[a-z/*]{0,20}", number in 0..4_u8, force: bool
    ) {
        let row = &ROWS[row];
        let odd = match number { 0 => json!(text), 1 => json!([text]), 2 => Value::Null, _ => json!(7) };
        let params = object(json!({"rig": odd, "agent": odd, "id": odd, "force": force}));
        for (column, caller) in CALLERS {
            let granted = judge(&Who::Agent(address(caller)), &asked(row.method, &params), &[]).is_ok();
            if granted && row.reads == Reads::No {
                prop_assert!(!row.scopes(column).is_empty() && !force, "{} {}", caller, row.method);
            }
        }
    }
}

/// Everything above us is proven to be one agent's.
struct Parent(i32);

impl Known for Parent {
    fn owner(&self, line: &[Kin]) -> Option<Address> {
        line.iter().any(|kin| kin.id.pid.get() == self.0).then(|| address("alpha/witness"))
    }
    fn holder(&self, _: &InstanceId) -> Option<Address> {
        None
    }
    fn is_coming(&self, _: &Address) -> bool {
        false
    }
    fn keeper<'a>(&'a self, _: &'a str, id: &'a str) -> BoxFuture<'a, Keeper> {
        let keeper = match id {
            "m-1" => Keeper::Agent(address("alpha/witness")),
            "m-2" => Keeper::Agent(address("beta/witness")),
            "m-3" => Keeper::Unclear,
            _ => Keeper::Nobody,
        };
        std::future::ready(keeper).boxed()
    }
}

fn connected() -> (std::os::unix::net::UnixStream, Origin) {
    use std::os::fd::AsFd;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let peer = crate::rpc::Peer {
        pid: rustix::process::Pid::from_raw(i32::try_from(std::process::id()).unwrap()),
        uid: rustix::process::getuid(),
        connection_id: crate::rpc::ConnectionId(1),
    };
    let origin = Origin::of(&ours.as_fd(), &peer);
    (theirs, origin)
}

#[tokio::test]
async fn ancestry_is_what_makes_an_agent() {
    let (_open, origin) = connected();
    let town = TownId::generate();
    let person = Callers::new(Arc::new(NoAgents), town.clone(), Vec::new());
    assert_eq!(person.who(&origin).await, Who::Human);
    let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
    let agents = Callers::new(Arc::new(Parent(parent)), town, Vec::new());
    assert_eq!(agents.who(&origin).await, Who::Agent(address("alpha/witness")));
}

#[tokio::test]
async fn an_agents_own_mail_is_its_own_and_nobody_elses() {
    let (_open, origin) = connected();
    let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
    let callers = Callers::new(Arc::new(Parent(parent)), TownId::generate(), Vec::new());
    let may = async |method: &str, params: Value| {
        callers.admit(&origin, method, false, &object(params)).await.map_err(|error| error.kind)
    };
    let own = Ok(Who::Agent(address("alpha/witness")));
    for method in ["mail.read", "mail.archive"] {
        assert_eq!(may(method, json!({"id": "m-1"})).await, own);
        for id in ["m-2", "m-3"] {
            assert_eq!(may(method, json!({"id": id})).await, Err(ErrorKind::Forbidden), "{id}");
        }
        assert_eq!(may(method, json!({"id": "m-99"})).await, own, "it is told that there is none");
    }
    // Whoever asks for their own inbox has to be known; anybody may look into any.
    assert_eq!(may("mail.inbox", json!({})).await, own);
    assert_ne!(may("mail.inbox", json!({"for": "mayor"})).await, own);
}

#[tokio::test]
async fn telling_who_asks_takes_less_than_a_millisecond() {
    let callers = Callers::new(Arc::new(NoAgents), TownId::generate(), Vec::new());
    let mut took = Vec::new();
    for _ in 0..50 {
        let began = std::time::Instant::now();
        let (_open, origin) = connected();
        assert_eq!(callers.who(&origin).await, Who::Human);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("who: median {:?}, slowest {:?}", took[25], took[49]);
    // Twice over for a busy machine and a build without optimisation.
    assert!(took[25] < Duration::from_millis(2), "{took:?}");
}

fn kept(path: &str, now: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("GTD_BLESS").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), now, "GTD_BLESS=1 writes {} anew", path.display());
}

#[test]
fn the_printed_table_is_this_one() {
    kept("src/rpc/callers/table.md", &markdown());
}

#[test]
fn the_readme_has_this_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let block = text
        .split_once("<!-- callers -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /callers -->"))
        .map(|(block, _)| block);
    assert_eq!(block.map(str::trim), Some(markdown().trim()), "paste gtd/src/rpc/callers/table.md there");
}
