//! Answers in all their forms, and which store has what.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::bd::answer::{Said, denies, read};
use super::bd::run::Output;
use super::builtin::Builtin;
use super::places::{Places, Rigs};
use super::store::{Store, WorkStore};
use super::*;
use crate::config::StoreKind;
use crate::ledger;
use crate::supervisor::planner::{Mode, RigFacts};
use crate::town::Layout;

fn output(stdout: &str, stderr: &str) -> Output {
    Output { stdout: stdout.as_bytes().to_vec(), stderr: stderr.to_owned() }
}

fn ids(said: Said) -> Vec<String> {
    match said {
        Said::Items(items) => items.into_iter().map(|item| item.id.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

const ONE: &str = r#"{"id":"a-1","title":"t","status":"open"}"#;

#[test]
fn an_answer_is_found_in_every_wrapping() {
    for text in [
        ONE.to_owned(),
        format!("[{ONE}]"),
        format!("warning: x\n[warn] y {{\n  \n[\n{ONE}\n]\ntrailing words"),
        format!(r#"{{"schema_version":1,"data":[{ONE}]}}"#),
        format!(r#"{{"schema_version":1,"data":{ONE}}}"#),
        format!("\u{26a0} odd\r\n{ONE}"),
    ] {
        assert_eq!(ids(read(&output(&text, "Error: this came with a success"))), ["a-1"], "{text}");
    }
    assert_eq!(ids(read(&output("null\n", ""))), Vec::<String>::new());
    assert_eq!(ids(read(&output("[]", "Warning: x"))), Vec::<String>::new());
}

#[test]
fn what_is_no_answer_is_not_taken_for_an_empty_one() {
    let failed = |stdout: &str, stderr: &str| match read(&output(stdout, stderr)) {
        Said::Failed(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(failed(r#"{"error":"e"}"#, ""), "e");
    assert_eq!(failed("", "Warning: x\n{\n \"error\": \"e\"\n}\n"), "e");
    assert_eq!(failed("", "Warning: x\nError: e\nUsage: …\n"), "e");
    assert_eq!(failed("", "something else\n"), "something else");
    // Items on the wrong stream, a part of a list, an item without its id.
    for (stdout, stderr) in [
        ("", ""),
        ("", "Warning: x\n"),
        ("[{\"id\":", ""),
        (r#"[{"title":"t","status":"open"}]"#, ""),
        (r#"[{"id":"a-1","title":"t","status":"open"},{"id":"-x","title":"t","status":"open"}]"#, ""),
        ("5", ""),
        ("words", ""),
    ] {
        assert_eq!(read(&output(stdout, stderr)), Said::Nothing, "{stdout} {stderr}");
    }
    assert!(!matches!(read(&output("", &format!("[{ONE}]"))), Said::Items(_)));
}

#[test]
fn only_words_about_this_id_deny_it() {
    let says = |stdout: &str, stderr: &str| denies(&output(stdout, stderr), "a-1");
    assert!(says(r#"{"error":"resolving: no issue found matching \"a-1\""}"#, ""));
    assert!(says("", "Error fetching a-1: no issue found matching \"a-1\"\n"));
    for words in [
        "no issues found matching the provided IDs",
        "database a-1 not found",
        "no issue found matching \"a-10\"",
    ] {
        assert!(!says(words, words), "{words}");
    }
}

proptest! {
    #[test]
    fn no_output_whatever_makes_it_fail(stdout in prop::collection::vec(any::<u8>(), 0..400), stderr in "\\PC{0,200}") {
        let output = Output { stdout, stderr };
        let _ = (read(&output), denies(&output, "a-1"));
    }

    #[test]
    fn lines_around_an_answer_change_nothing(before in prop::collection::vec("[a-zA-Z:! ]{0,30}", 0..20), after in "[a-z ]{0,30}") {
        let text = format!("{}\n{ONE}\n{after}", before.join("\n"));
        prop_assert_eq!(ids(read(&output(&text, ""))), ["a-1"]);
    }
}

// Places.

fn rig(root: &Path, name: &str, prefix: &str) -> (gtd_proto::RigName, RigFacts) {
    let facts = RigFacts {
        file: crate::supervisor::rigs::FileState::default(),
        standing: crate::supervisor::rigs::Standing::default(),
        witness: Mode::Always,
        refinery: Mode::Always,
        path: root.join(name).to_string_lossy().into_owned(),
        prefix: prefix.to_owned(),
        polecats: Vec::new(),
        crew: Vec::new(),
    };
    (name.parse().unwrap(), facts)
}

fn places(root: &Path, kind: StoreKind) -> Places {
    let ledger = ledger::open(&root.join("daemon")).ledger;
    let layout = Arc::new(Layout::at(root).unwrap());
    let builtin = Arc::new(Builtin::new(ledger, None, true));
    Places::new(layout, kind, Duration::from_secs(1), Vec::new(), builtin)
}

fn beads(dir: &Path) {
    std::fs::create_dir_all(dir.join(".beads")).unwrap();
}

fn key(store: Result<Store, Unknown>, root: &Path) -> String {
    store.unwrap().key().replace(&root.display().to_string(), "T")
}

#[tokio::test]
async fn ids_lead_to_stores_by_the_longest_prefix() {
    let dir = ledger::scratch::dir();
    let root = dir.path().canonicalize().unwrap();
    let rigs: Rigs = [
        rig(&root, "plain", "p"),
        rig(&root, "own", "p-own"),
        rig(&root, "tracked", "tr"),
        rig(&root, "redirected", "re"),
    ]
    .into();
    for name in ["plain", "own", "tracked", "redirected"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    beads(&root.join("own"));
    beads(&root.join("tracked/mayor/rig"));
    beads(&root.join("redirected"));
    beads(&root.join("redirected/elsewhere"));
    std::fs::write(root.join("redirected/.beads/redirect"), "elsewhere/.beads\n").unwrap();
    beads(&root.join("unregistered"));
    beads(&root);
    let routes = [
        r#"# a remark"#,
        r#"{"prefix":"hq-","path":"."}"#,
        r#"{"prefix":"hq-cv-","path":"."}"#,
        r#"{"prefix":"old-","path":"tracked/mayor/rig"}"#,
        r#"{"prefix":"un-","path":"unregistered"}"#,
        r#"{"prefix":"bad-","path":"../outside"}"#,
        r#"{"prefix":"abs-","path":"/etc"}"#,
        "{torn",
    ];
    std::fs::write(root.join(".beads/routes.jsonl"), routes.join("\n")).unwrap();
    let auto = places(&root, StoreKind::Auto);
    for (id, store) in [
        ("p-1", "builtin"),
        ("p-own-1", "bd:T/own/.beads"),
        ("p-ownx-1", "builtin"),
        ("tr-1", "bd:T/tracked/mayor/rig/.beads"),
        ("old-1.2", "bd:T/tracked/mayor/rig/.beads"),
        ("re-1", "bd:T/redirected/elsewhere/.beads"),
        ("un-1", "bd:T/unregistered/.beads"),
        ("hq-1", "bd:T/.beads"),
        ("hq-cv-1", "bd:T/.beads"),
        ("bad-1", "bd:T/.beads"),
        ("abs-1", "bd:T/.beads"),
        ("whatever", "bd:T/.beads"),
    ] {
        assert_eq!(key(auto.of_id(&id.parse().unwrap(), &rigs), &root), store, "{id}");
    }
    assert_eq!(auto.all(&rigs).len(), 5, "each once");
    let builtin = places(&root, StoreKind::Builtin);
    assert!(builtin.all(&rigs).into_iter().all(|store| key(store, &root) == "builtin"));
    let bd = places(&root, StoreKind::Bd);
    assert_eq!(key(bd.of_id(&"p-1".parse().unwrap(), &rigs), &root), "bd:T/plain/.beads");
}

#[tokio::test]
async fn what_cannot_be_looked_at_has_no_store_that_is_known() {
    use std::os::unix::fs::symlink;
    let dir = ledger::scratch::dir();
    let root = dir.path().canonicalize().unwrap();
    let rigs: Rigs = [rig(&root, "loop", "lo")].into();
    std::fs::create_dir_all(root.join("loop")).unwrap();
    symlink(".beads", root.join("loop/.beads")).unwrap();
    let auto = places(&root, StoreKind::Auto);
    assert!(auto.of_id(&"lo-1".parse().unwrap(), &rigs).is_err());
    // A table of routes that cannot be read leads nowhere, and not to the wrong place.
    std::fs::create_dir_all(root.join(".beads/routes.jsonl")).unwrap();
    assert!(auto.of_id(&"x-1".parse().unwrap(), &rigs).is_err());
}

#[tokio::test]
async fn the_built_in_store_that_lost_its_ledger_does_not_know() {
    let dir = ledger::scratch::dir();
    let ledger = ledger::open(dir.path()).ledger;
    let lost = Builtin::new(ledger.clone(), Some("the ledger was made anew".to_owned()), false);
    let new = NewItem {
        title: "t".to_owned(),
        description: None,
        priority: None,
        prefix: "a".to_owned(),
        by: "t".to_owned(),
    };
    let made = lost.create(&new).await.unwrap().item;
    assert_eq!(
        lost.item(&made.id).await.unwrap().map(|item| item.id),
        Some(made.id),
        "what is there is known"
    );
    assert!(lost.item(&"a-99".parse().unwrap()).await.is_err());
    assert!(lost.hooks().await.is_err() && lost.list(&Filter::default()).await.is_err());
    assert!(lost.changes(Timestamp::UNIX_EPOCH).await.is_err());
    // Of what is not closed nothing was lost.
    let kept = Builtin::new(ledger.clone(), Some("the ledger was made anew".to_owned()), true);
    assert!(kept.item(&"a-99".parse().unwrap()).await.is_err(), "it may have been closed");
    assert!(kept.hooks().await.is_ok() && kept.list(&Filter::default()).await.is_ok());
    let closed = Filter { status: Some(CLOSED.to_owned()), ..Filter::default() };
    assert!(kept.list(&closed).await.is_err() && kept.changes(Timestamp::UNIX_EPOCH).await.is_err());
    let sound = Builtin::new(ledger, None, true);
    assert_eq!(sound.item(&"a-99".parse().unwrap()).await, Ok(None));
    let agent: Address = "a/witness".parse().unwrap();
    assert_eq!(sound.agent_state(&agent).await, Ok(None));
    sound.set_agent_state(&agent, "working").await.unwrap();
    assert_eq!(sound.agent_state(&agent).await, Ok(Some("working".to_owned())));
    assert_eq!(sound.changes(Timestamp::UNIX_EPOCH).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_would_be_gone_with_the_memory_is_not_taken() {
    let dir = ledger::scratch::dir();
    // No file can be made there: the ledger serves from memory.
    std::fs::create_dir_all(dir.path().join("gtd.db/x")).unwrap();
    let ledger = ledger::open(dir.path()).ledger;
    assert!(ledger.info().in_memory);
    let store = Builtin::new(ledger, None, true);
    let new = NewItem {
        title: "t".to_owned(),
        description: None,
        priority: None,
        prefix: "a".to_owned(),
        by: "t".to_owned(),
    };
    assert!(matches!(store.create(&new).await, Err(WorkError::Unknown(_))));
    assert!(store.set_agent_state(&"a/witness".parse().unwrap(), "working").await.is_err());
    assert!(store.hooks().await.is_err() && store.list(&Filter::default()).await.is_err());
}
