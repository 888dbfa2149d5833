//! What the recordings of the real `bd` teach, and what a `bd` can do wrong: each is a case, through a stand-in
//! that replays them.

use std::time::{Duration, Instant};

use gtd::work::bd::Bd;
use gtd::work::{Filter, Item, NewItem, Unknown, Why, WorkError, WorkStore};
use gtd_proto::{Address, WorkId};
use gtd_tests::bd::StandIn;
use gtd_tests::{Process, wait_until};
use serde_json::json;

const ALL: [&str; 3] = ["0.47", "1.0.0", "1.0.5"];

struct Case {
    base: tempfile::TempDir,
    stand_in: StandIn,
    bd: Bd,
    version: &'static str,
}

fn case(version: &'static str) -> Case {
    timed(version, Duration::from_secs(20))
}

fn timed(version: &'static str, timeout: Duration) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let rig = dir.path().join("town/proj");
    std::fs::create_dir_all(rig.join(".beads")).unwrap();
    let stand_in = StandIn::new(dir.path(), version);
    let env = [
        ("PATH", stand_in.path()),
        ("HOME", dir.path().display().to_string()),
        ("BEADS_DB", "/elsewhere".to_owned()),
        ("BD_ACTOR", "somebody".to_owned()),
        ("CLAUDE_CODE", "1".to_owned()),
    ];
    let env = env.map(|(key, value)| (key.to_owned(), value));
    let bd = Bd::new(&rig, "pj", env, timeout);
    Case { stand_in, bd, version, base: dir }
}

impl Case {
    fn bd_dir(&self) -> std::path::PathBuf {
        self.base.path().join("town/proj")
    }

    fn does(&self, how: serde_json::Value) {
        self.stand_in.forget();
        self.stand_in.does(self.version, how);
    }

    /// The hooked item of the recording, and who has it.
    fn hooked(&self) -> (WorkId, Address) {
        match self.version {
            "0.47" => (id("pj-ozn"), agent("proj/polecats/rust")),
            "1.0.0" => (id("pj-8od"), agent("proj/polecats/quartz")),
            _ => (id("pj-8od"), agent("proj/polecats/obsidian")),
        }
    }
}

fn id(text: &str) -> WorkId {
    text.parse().unwrap()
}

fn agent(text: &str) -> Address {
    text.parse().unwrap()
}

fn new(title: &str) -> NewItem {
    NewItem {
        title: title.to_owned(),
        description: None,
        priority: None,
        prefix: "pj".to_owned(),
        by: "t".to_owned(),
    }
}

#[track_caller]
fn refused(unknown: &Unknown) -> &str {
    match &unknown.why {
        Why::Refused(words) => words,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unknown<T: std::fmt::Debug>(answer: Result<T, WorkError>) -> Unknown {
    match answer {
        Err(WorkError::Unknown(unknown)) => unknown,
        other => panic!("{other:?}"),
    }
}

fn has(items: &[Item], id: &WorkId, agent: &Address) -> bool {
    items.iter().any(|item| item.id == *id && item.hook().as_ref() == Some(agent))
}

// The ten lessons.

#[tokio::test]
async fn lesson_1_a_failure_with_exit_0_is_a_failure_with_its_reason() {
    let case = case("0.47");
    let (work, who) = case.hooked();
    for (note, words) in [
        ("database held by another process (exclusive lock)", "failed to read response"),
        ("invalid status", "invalid status: bogus"),
        ("claim again, same actor", "already claimed"),
    ] {
        case.does(json!({"swap": {"update": note, "show": "hooked work"}}));
        // A change that is not in effect afterwards: the item shown is on another's hook.
        let failed = unknown(case.bd.hook(&work, &agent("proj/polecats/other"), &[], &[]).await);
        assert!(refused(&failed).contains(words), "{note}: {failed:?}");
        assert!(failed.stderr.contains(words), "{note}: {failed:?}");
    }
    case.does(json!({"swap": {"show": "database file is corrupt", "list": "database file is corrupt"}}));
    let shown = case.bd.item(&work).await.unwrap_err();
    assert!(refused(&shown).contains("file is not a database"), "{shown:?}");
    assert!(case.bd.hooks().await.is_err(), "a corrupt store is not an empty one");
    assert_eq!(who, agent("proj/polecats/rust"));
}

#[tokio::test]
async fn lesson_2_the_error_is_found_wherever_it_is() {
    for version in ALL {
        let case = case(version);
        assert_eq!(case.bd.item(&id("pj-nope")).await, Ok(None), "{version}");
        assert_eq!(case.bd.item(&id("zz-nope")).await, Ok(None), "{version}");
        // A word in an object on stdout, in an object on stderr, and as text on stderr.
        case.does(json!({"swap": {"list": "invalid status"}}));
        let answer = case.bd.hooks().await;
        match version {
            "0.47" => assert_eq!(answer, Ok(Vec::new()), "its own words, exit 0"),
            _ => assert!(
                refused(&answer.unwrap_err()).contains("invalid status \"no-such-status\""),
                "{version}"
            ),
        }
        case.does(json!({"swap": {"close": "close missing", "show": "hooked work"}}));
        let (work, _) = case.hooked();
        let failed = unknown(case.bd.close(&work, "", &[]).await);
        assert!(refused(&failed).contains("no issue found matching"), "{version}: {failed:?}");
    }
}

#[tokio::test]
async fn lesson_3_warnings_come_with_successes() {
    for version in ALL {
        let case = case(version);
        let (work, who) = case.hooked();
        case.does(json!({"lead": "⚠️  Warning: something\n[note] about it\n", "lead_err": "Error: of no importance\n"}));
        assert!(has(&case.bd.hooks().await.unwrap(), &work, &who), "{version}");
        assert_eq!(case.bd.item(&work).await.unwrap().unwrap().id, work, "{version}");
    }
    // As it was: 1.0.0 complains about permissions each time.
    let plain = case("1.0.0");
    let (work, who) = plain.hooked();
    assert!(has(&plain.bd.hooks().await.unwrap(), &work, &who));
}

#[tokio::test]
async fn lesson_4_an_answer_about_another_item_is_none() {
    for version in ALL {
        let case = case(version);
        case.does(json!({"swap": {"show": "hooked work"}}));
        let answer = case.bd.item(&id("pj-8o")).await.unwrap_err();
        assert!(
            matches!(&answer.why, Why::Other(other) if other.starts_with("pj-")),
            "{version}: {answer:?}"
        );
        // And nothing is changed for it.
        case.does(json!({"swap": {"show": "hooked work"}}));
        assert!(case.bd.hook(&id("pj-8o"), &agent("proj/witness"), &[], &[]).await.is_err());
        let asked = case.stand_in.calls();
        assert!(
            asked.iter().all(|call| call["args"].as_array().unwrap().iter().all(|word| word != "update")),
            "{asked:#?}"
        );
        // Items are asked for one by one: an absent one takes no present one along.
        assert!(asked.iter().all(|call| {
            call["args"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|word| word.as_str().unwrap().starts_with("pj-"))
                .count()
                <= 1
        }));
    }
}

#[tokio::test]
async fn lesson_5_every_call_is_made_in_the_directory_of_the_store() {
    // That the daemon picks that directory by the prefix is tested with the daemon.
    for version in ALL {
        let case = case(version);
        let (work, _) = case.hooked();
        case.bd.item(&work).await.unwrap().unwrap();
        for call in case.stand_in.calls() {
            assert!(call["cwd"].as_str().unwrap().ends_with("/town/proj"), "{call:#}");
            assert!(call["env"]["BEADS_DIR"].as_str().unwrap().ends_with("/town/proj/.beads"), "{call:#}");
        }
    }
}

#[tokio::test]
async fn lesson_6_hooks_are_found_without_records_of_agents() {
    for version in ALL {
        let case = case(version);
        let (work, who) = case.hooked();
        assert!(has(&case.bd.hooks().await.unwrap(), &work, &who), "{version}");
        let calls = case.stand_in.calls();
        assert_eq!(calls.len(), 1, "one query for all: {calls:#?}");
        let asked = calls[0]["args"].to_string();
        assert!(!asked.contains("--type") && asked.contains("\"--limit\",\"0\""), "{asked}");
    }
}

#[tokio::test]
async fn lesson_7_an_object_or_a_list_in_any_layout() {
    for version in ALL {
        let case = case(version);
        let made = case.bd.create(&new("A new bug")).await.unwrap().item;
        assert!(made.id.as_str().starts_with("pj-"), "{version}: {made:?}");
        assert_eq!((made.status.as_str(), made.priority), ("open", Some(1)), "{version}");
        assert!(made.description.unwrap().contains("ünïcode"), "{version}");
        // Zero to nine digits of a second.
        assert!(made.created_at.is_some() && made.updated_at.is_some(), "{version}");
        let listed = case.bd.list(&Filter::default()).await;
        let (work, _) = case.hooked();
        // The recording of a plain list has no status filter: records of the incumbent are not work.
        let listed = listed.unwrap();
        assert!(listed.iter().any(|item| item.id == work), "{version}: {listed:#?}");
        assert!(listed.iter().all(|item| !item.record), "{version}");
        let hooked = case.bd.item(&work).await.unwrap().unwrap();
        assert!(hooked.updated_at.is_some() && hooked.closed_at.is_none(), "{version}");
    }
}

#[tokio::test]
async fn lesson_8_a_status_that_there_is_not_is_an_error_with_all() {
    for version in ALL {
        let case = case(version);
        let filter = Filter { status: Some("no-such-status".to_owned()), assignee: None };
        match (version, case.bd.list(&filter).await) {
            ("0.47", Err(WorkError::Invalid { path: "/status", why })) => {
                assert!(why.contains("hooked"), "{why}")
            }
            ("0.47", other) => panic!("{other:?}"),
            (_, other) => assert!(refused(&unknown(other)).contains("invalid status"), "{version}"),
        }
        let nothing = Filter { status: Some("in_progress".to_owned()), assignee: None };
        assert_eq!(case.bd.list(&nothing).await, Ok(Vec::new()), "{version}");
    }
}

#[tokio::test]
async fn lesson_9_only_not_found_means_that_the_work_is_gone() {
    for version in ALL {
        let case = case(version);
        let (work, _) = case.hooked();
        case.does(json!({"swap": {"list": "no work store here"}}));
        let none = case.bd.hooks().await.unwrap_err();
        assert!(refused(&none).contains("no beads database found"), "{version}: {none:?}");
        if version == "1.0.0" {
            case.does(
                json!({"swap": {"list": "database server is down", "show": "database server is down"}}),
            );
            let down = case.bd.item(&work).await.unwrap_err();
            assert!(refused(&down).contains("Dolt server unreachable"), "{down:?}");
            assert!(case.bd.hooks().await.is_err());
        }
        // The words about an item, said of another one, are not about this one.
        case.does(json!({"swap": {"show": "missing"}}));
        assert!(case.bd.item(&work).await.is_err(), "{version}");
        assert_eq!(case.bd.item(&id("pj-nope")).await, Ok(None), "{version}");
    }
    // Plain text, exit 1.
    let none = case("1.0.5");
    none.does(json!({"mode": "fail"}));
    assert!(none.bd.item(&id("pj-nope")).await.is_err());
    assert!(none.bd.hooks().await.is_err());
}

#[tokio::test]
async fn lesson_10_calls_are_few_and_at_most_two_at_once() {
    let case = timed("1.0.5", Duration::from_secs(60));
    case.does(json!({"mode": "slow:150"}));
    case.bd.hooks().await.unwrap();
    let began = Instant::now();
    let one = || case.bd.hooks();
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    assert!(a.is_ok() && b.is_ok() && c.is_ok() && d.is_ok());
    assert!(began.elapsed() >= Duration::from_millis(300), "four calls of 150 ms, two at a time");
}

// What else can happen.

#[tokio::test]
async fn absent() {
    let dir = tempfile::tempdir().unwrap();
    let bd = Bd::new(dir.path(), "pj", [("PATH".to_owned(), "/nowhere".to_owned())], Duration::from_secs(1));
    let answer = bd.hooks().await.unwrap_err();
    assert_eq!(answer.why, Why::Missing("bd".to_owned()));
    assert!(answer.to_string().contains("there is no program bd"), "{answer}");
}

#[tokio::test]
async fn hanging_it_is_ended_with_all_it_started_and_a_question_is_asked_twice() {
    let case = timed("1.0.5", Duration::from_millis(700));
    case.does(json!({"mode": "hang"}));
    let began = Instant::now();
    let answer = case.bd.item(&id("pj-8od")).await.unwrap_err();
    assert_eq!(answer.why, Why::Late(Duration::from_millis(700)));
    assert!(began.elapsed() < Duration::from_secs(10));
    let calls = case.stand_in.calls();
    assert_eq!(calls.len(), 2, "{calls:#?}");
    let pids =
        calls.iter().filter_map(|call| call["pid"].as_i64()).chain(case.stand_in.child().map(i64::from));
    for pid in pids {
        let pid = i32::try_from(pid).unwrap();
        let gone =
            wait_until(Duration::from_secs(5), || Process::of(pid).is_none_or(|process| !process.alive()));
        assert!(gone, "{pid} lives");
    }
}

#[tokio::test]
async fn a_change_that_hangs_is_asked_for_once() {
    let case = timed("0.47", Duration::from_millis(700));
    case.does(json!({"mode": "hang"}));
    assert!(case.bd.create(&new("A new bug")).await.is_err());
    assert_eq!(case.stand_in.calls().len(), 1, "nobody knows whether it was made: it is not made again");
}

#[tokio::test]
async fn what_it_leaves_behind_is_not_waited_for_and_ended() {
    let case = case("1.0.5");
    case.does(json!({"mode": "leave"}));
    let began = Instant::now();
    assert!(case.bd.hooks().await.is_ok());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let child = case.stand_in.child().unwrap();
    assert!(wait_until(Duration::from_secs(5), || Process::of(child).is_none_or(|process| !process.alive())));
}

#[tokio::test]
async fn junk_is_no_answer_and_an_answer_after_junk_is_one() {
    let case = case("1.0.5");
    let (work, who) = case.hooked();
    for mode in ["junk", "silent", "crash", "fail"] {
        case.does(json!({"mode": mode}));
        assert!(case.bd.hooks().await.is_err(), "{mode}");
        assert!(case.bd.item(&work).await.is_err(), "{mode}");
    }
    case.does(json!({"mode": "junk then answer"}));
    assert!(has(&case.bd.hooks().await.unwrap(), &work, &who), "after 5 MB of warnings");
    let before = rss();
    case.does(json!({"mode": "flood"}));
    let answer = case.bd.hooks().await.unwrap_err();
    assert!(matches!(answer.why, Why::TooMuch(_)), "{answer:?}");
    assert!(rss() < before + 200_000, "{} KiB after {before}", rss());
}

fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn its_environment_is_fixed() {
    for version in ALL {
        let case = case(version);
        case.bd.hooks().await.unwrap();
        let call = &case.stand_in.calls()[0];
        let env = call["env"].as_object().unwrap();
        assert_eq!(env["BD_ACTOR"], "gtd", "{call:#}");
        assert!(!env.contains_key("BEADS_DB") && !env.contains_key("CLAUDE_CODE"), "{call:#}");
        for (key, value) in
            [("BEADS_NO_DAEMON", "1"), ("BEADS_AUTO_START_DAEMON", "false"), ("BEADS_DOLT_AUTO_START", "0")]
        {
            assert_eq!(env[key], value);
        }
        let old = call["args"].to_string().contains("--no-daemon");
        assert_eq!(old, version == "0.47", "an option of the older generation is an error in the newer one");
    }
}

#[tokio::test]
async fn a_program_that_was_replaced_is_asked_for_its_version_again() {
    let case = case("0.47");
    case.bd.hooks().await.unwrap();
    assert!(case.bd.source().starts_with("bd 0.47.1 in "), "{}", case.bd.source());
    // Another file in the same place.
    let link = std::path::PathBuf::from(case.stand_in.path().split(':').next().unwrap()).join("bd");
    let program = std::fs::canonicalize(&link).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::fs::copy(program, &link).unwrap();
    case.stand_in.does("1.0.5", json!({}));
    case.bd.hooks().await.unwrap();
    assert!(case.bd.source().starts_with("bd 1.0.5 in "), "{}", case.bd.source());
}

#[tokio::test]
async fn slots_and_states_of_agents_are_the_older_generations() {
    let old = case("0.47");
    let rust = agent("proj/polecats/rust");
    old.does(json!({"swap": {"update": "hook"}}));
    // The recorded hook is of this item.
    let done = old.bd.hook(&id("pj-907"), &rust, &[], &[]).await;
    let asked: Vec<String> = old.stand_in.calls().iter().map(|call| call["args"].to_string()).collect();
    assert!(
        asked.iter().any(|args| args.contains("\"slot\",\"clear\",\"pj-proj-polecat-rust\",\"hook\"")),
        "{asked:#?}"
    );
    assert!(
        asked
            .iter()
            .any(|args| args.contains("\"slot\",\"set\",\"pj-proj-polecat-rust\",\"hook\",\"pj-907\"")),
        "{asked:#?}"
    );
    // The slot was occupied when this was recorded: half a hook is none, and the item is given back.
    assert!(refused(&unknown(done)).contains("hook slot already occupied by pj-ozn"));
    assert!(
        asked.last().unwrap().contains("\"update\"") || asked.last().unwrap().contains("\"show\""),
        "{asked:#?}"
    );
    old.does(json!({}));
    assert_eq!(old.bd.agent_state(&rust).await, Ok(None));
    assert_eq!(old.bd.set_agent_state(&rust, "running").await, Ok(()));
    assert!(
        refused(&unknown(old.bd.set_agent_state(&rust, "awaiting-gate").await)).contains("invalid state")
    );
    let newer = case("1.0.5");
    assert!(matches!(newer.bd.agent_state(&rust).await, Err(WorkError::Unsupported { .. })));
}

#[tokio::test]
async fn only_the_older_generation_is_let_write_down_what_it_holds_back_and_never_with_git() {
    for version in ALL {
        let case = case(version);
        let tree = case.bd_dir().join("polecats/rust/proj");
        std::fs::create_dir_all(&tree).unwrap();
        let asked = case.bd.flush(&tree).await.unwrap();
        let calls = case.stand_in.calls();
        assert_eq!(asked, version == "0.47");
        assert_eq!(calls.len(), usize::from(asked), "{calls:?}");
        for call in calls {
            assert_eq!(call["cwd"], tree.canonicalize().unwrap().display().to_string());
            let args = call["args"].to_string();
            assert!(args.contains("\"sync\",\"--flush-only\""), "{args}");
        }
    }
    let case = timed("0.47", Duration::from_millis(300));
    case.does(json!({"mode": "hang"}));
    let began = Instant::now();
    assert!(matches!(case.bd.flush(&case.bd_dir()).await, Err(Unknown { why: Why::Late(_), .. })));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
