//! The store against real `bd` programs, where the machine has them: those that `BD_0_47` and `BD_1_0` name, and
//! the one on the `PATH`. What is not there is said to be skipped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gtd::work::bd::{Bd, NewMessage};
use gtd::work::{Filter, Item, NewItem, WorkError, WorkStore};
use gtd_proto::{Address, Timestamp, WorkId};
use gtd_tests::programs;

const LIMIT: Duration = Duration::from_secs(60);

fn agent(text: &str) -> Address {
    text.parse().unwrap()
}

/// Runs the program itself, to make what a town has.
#[track_caller]
fn bd(program: &Path, dir: &Path, home: &Path, args: &[&str]) -> String {
    let mut command = programs::bare(program, home);
    command.args(args).current_dir(dir).stdin(std::process::Stdio::null());
    command
        .env("BEADS_NO_DAEMON", "1")
        .env("BEADS_AUTO_START_DAEMON", "false")
        .env("BEADS_DOLT_AUTO_START", "0");
    let output = gtd_tests::run::run(command, LIMIT);
    format!("{}{}", output.out, output.err)
}

/// A rig with a store of the program's own making, and a `PATH` with the program in front.
fn store(program: &Path, base: &Path) -> Bd {
    let rig = base.join("town/proj");
    let home = base.join("home");
    let bin = base.join("bin");
    for dir in [&rig, &home, &bin] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::os::unix::fs::symlink(program, bin.join("bd")).unwrap();
    let git = std::process::Command::new("git").args(["init", "-q"]).current_dir(&rig).status().unwrap();
    assert!(git.success());
    let old = bd(program, &rig, &home, &["version"]).contains("version 0.4");
    let options: &[&str] =
        if old { &["--no-daemon"] } else { &["--skip-agents", "--skip-hooks", "--non-interactive"] };
    let said = bd(program, &rig, &home, &[&["init", "--prefix", "pj"], options].concat());
    assert!(rig.join(".beads").is_dir(), "no store was made: {said}");
    if old {
        let no = "--no-daemon";
        bd(program, &rig, &home, &[no, "config", "set", "types.custom", "agent,role,rig,convoy,slot,queue"]);
        let record = "pj-proj-polecat-nux";
        let title = format!("--title={record}");
        let id = format!("--id={record}");
        bd(
            program,
            &rig,
            &home,
            &[no, "create", &id, &title, "--type=agent", "--labels=gt:agent", "--force", "--json"],
        );
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let env = [("PATH".to_owned(), path), ("HOME".to_owned(), home.display().to_string())];
    Bd::new(&rig, "pj", env, Duration::from_secs(30))
}

fn new(title: &str) -> NewItem {
    NewItem {
        title: title.to_owned(),
        description: Some("Text with \"quotes\", a newline\nand ünïcode; --and $(dashes)".to_owned()),
        priority: Some(1),
        prefix: "pj".to_owned(),
        by: "t".to_owned(),
    }
}

/// Mail that the program keeps: one that was sent is found again, read, and put aside; asked for twice there is one.
async fn messages(store: &Bd) {
    let new = NewMessage {
        from: "proj/polecats/nux".to_owned(),
        to: "deacon".to_owned(),
        subject: "-LIFECYCLE: \"ü\"".to_owned(),
        body: "cycle\n--now".to_owned(),
        key: Some("m-1 2026".to_owned()),
    };
    assert_eq!(store.messages().await, Ok(Vec::new()), "work is no mail");
    let sent = store.send_message(&new, true).await.unwrap();
    assert_eq!(store.send_message(&new, true).await.unwrap().id, sent.id, "of one key there is one");
    let all = store.messages().await.unwrap();
    assert_eq!(all.iter().map(|mail| &mail.id).collect::<Vec<_>>(), [&sent.id]);
    assert_eq!(
        (all[0].from.as_str(), all[0].to.as_str(), all[0].subject.as_str(), all[0].body.as_str()),
        ("proj/nux", "deacon", new.subject.as_str(), new.body.as_str())
    );
    assert!(!all[0].read && !all[0].archived);
    assert!(store.message_read(&sent.id).await.unwrap().read);
    assert!(store.message(&sent.id).await.unwrap().unwrap().read);
    assert!(store.message_aside(&sent.id).await.unwrap().archived);
    assert_eq!(store.messages().await, Ok(Vec::new()));
    assert_eq!(store.send_message(&new, true).await.unwrap().id, sent.id, "also one that was put aside");
    assert_eq!(store.message("pj-nope9").await, Ok(None));
}

async fn whole_story(program: &Path) {
    let base = tempfile::tempdir().unwrap();
    let store = store(program, base.path());
    let mut times: Vec<(&str, Duration)> = Vec::new();
    macro_rules! timed {
        ($what:literal, $call:expr) => {{
            let began = Instant::now();
            let answer = $call.await;
            times.push(($what, began.elapsed()));
            answer
        }};
    }
    let before = Timestamp::now();
    assert_eq!(timed!("hooks", store.hooks()), Ok(Vec::new()));
    let old = store.source().starts_with("bd 0.4");
    let (nux, ace) = (agent("proj/polecats/nux"), agent("proj/polecats/ace"));

    let first = timed!("create", store.create(&new("-dash; it's a \"title\" ü"))).unwrap().item;
    assert_eq!(
        (first.status.as_str(), first.priority, first.title.as_str()),
        ("open", Some(1), "-dash; it's a \"title\" ü")
    );
    assert_eq!(first.description, new("").description);
    let second = store.create(&new("second")).await.unwrap().item;
    let shown = timed!("item", store.item(&first.id)).unwrap().unwrap();
    assert_eq!((shown.id.clone(), shown.hook()), (first.id.clone(), None));

    // Absent is said, and a part of an id is no id.
    assert_eq!(store.item(&WorkId::new("pj-nope9").unwrap()).await, Ok(None));
    assert_eq!(store.item(&WorkId::new("zz-nope9").unwrap()).await, Ok(None));
    let part = WorkId::new(&first.id.as_str()[..first.id.as_str().len() - 1]).unwrap();
    match store.hook(&part, &nux, &[], &[]).await {
        Err(WorkError::NotFound(_) | WorkError::Unknown(_)) => {}
        other => panic!("{other:?}"),
    }
    let none = WorkId::new("pj-nope9").unwrap();
    assert_eq!(store.hook(&none, &nux, &[], &[]).await, Err(WorkError::NotFound(none.clone())));
    assert!(matches!(store.close(&none, "", &[]).await, Err(WorkError::NotFound(_))));

    // On a hook, from there to another, and off.
    let hooked = timed!("hook", store.hook(&first.id, &nux, &[], &[])).unwrap().item;
    assert_eq!(hooked.hook(), Some(nux.clone()));
    let hooks = store.hooks().await.unwrap();
    assert_eq!(hooks.iter().map(Item::hook).collect::<Vec<_>>(), [Some(nux.clone())]);
    store.hook(&second.id, &nux, std::slice::from_ref(&first.id), &[]).await.unwrap();
    let hooks = store.hooks().await.unwrap();
    assert_eq!(hooks.iter().map(|item| &item.id).collect::<Vec<_>>(), [&second.id]);
    let released = store.item(&first.id).await.unwrap().unwrap();
    assert_eq!((released.status.as_str(), released.assignee), ("open", None));
    store.hook(&second.id, &ace, &[], &[]).await.unwrap();
    assert_eq!(store.hooks().await.unwrap()[0].hook(), Some(ace.clone()));
    assert_eq!(timed!("unhook", store.unhook(&second.id, &ace, &[])).unwrap().item.status, "open");
    assert_eq!(store.hooks().await, Ok(Vec::new()));
    let mayor = store.hook(&second.id, &Address::Mayor, &[], &[]).await.unwrap().item;
    assert_eq!((mayor.assignee.as_deref(), mayor.hook()), (Some("mayor/"), Some(Address::Mayor)));

    // Lists.
    let ids = |items: Vec<Item>| items.into_iter().map(|item| item.id).collect::<Vec<_>>();
    let mut all = ids(timed!("list", store.list(&Filter::default())).unwrap());
    all.sort();
    let mut both = vec![first.id.clone(), second.id.clone()];
    both.sort();
    assert_eq!(all, both, "records of agents are no work");
    let of = |status: &str| Filter { status: Some(status.to_owned()), assignee: None };
    assert_eq!(ids(store.list(&of("hooked")).await.unwrap()), std::slice::from_ref(&second.id));
    assert!(store.list(&of("no_such_status")).await.is_err());

    // Closed, and closed again.
    let closed = timed!("close", store.close(&second.id, "-done", &[])).unwrap().item;
    assert!(closed.is_over());
    assert!(store.close(&second.id, "", &[]).await.unwrap().item.is_over());
    assert_eq!(ids(store.list(&Filter::default()).await.unwrap()), std::slice::from_ref(&first.id));
    assert_eq!(ids(store.list(&of("closed")).await.unwrap()), std::slice::from_ref(&second.id));
    let mut changed = ids(timed!("changes", store.changes(before)).unwrap());
    changed.retain(|id| both.contains(id));
    changed.sort();
    assert_eq!(changed, both, "closed ones too");
    let later = Timestamp::now() + Duration::from_secs(3600);
    assert_eq!(store.changes(later).await, Ok(Vec::new()));

    messages(&store).await;

    // States of agents.
    if old {
        assert_eq!(store.agent_state(&nux).await, Ok(None));
        assert_eq!(store.set_agent_state(&nux, "working").await, Ok(()));
        assert_eq!(store.agent_state(&nux).await, Ok(Some("working".to_owned())));
    } else {
        assert!(matches!(store.agent_state(&nux).await, Err(WorkError::Unsupported { .. })));
    }

    // Six at once, one after another for the program.
    let began = Instant::now();
    let made = (0..6).map(|n| {
        let store = &store;
        async move { store.create(&new(&format!("at once {n}"))).await.map(|done| done.item.id) }
    });
    let mut ids: Vec<WorkId> = Vec::new();
    for made in join(made).await {
        ids.push(made.unwrap());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    times.push(("6 creates", began.elapsed()));

    // A store that is damaged is not an empty one.
    let beads = base.path().join("town/proj/.beads");
    if old {
        for entry in std::fs::read_dir(&beads).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("beads.db") {
                std::fs::write(entry.path(), "this is no database").unwrap();
            }
        }
        assert!(store.hooks().await.is_err());
        assert!(store.item(&first.id).await.is_err());
    }
    std::fs::remove_dir_all(&beads).unwrap();
    assert!(store.hooks().await.is_err(), "no store is not an empty one");
    assert!(store.item(&first.id).await.is_err());
    let shown: Vec<String> =
        times.iter().map(|(what, took)| format!("{what} {} ms", took.as_millis())).collect();
    eprintln!("{}: {}", store.source(), shown.join(", "));
    let mark = base.path().to_string_lossy().into_owned();
    assert_eq!(left(&mark), Vec::<String>::new(), "something of bd's goes on");
}

/// All of them at once, on this thread.
async fn join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Processes whose command line or directory names the case's directory.
fn left(mark: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let found = entries.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        (pid != std::process::id() && (line.contains(mark) || cwd.to_string_lossy().contains(mark)))
            .then(|| format!("{pid}: {}", line.replace('\0', " ")))
    });
    found.collect()
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file())
}

#[tokio::test]
async fn the_older_generation() {
    match named("BD_0_47") {
        Some(program) => whole_story(&program).await,
        None => gtd_tests::skipped("real bd 0.47", "BD_0_47 does not name a program"),
    }
}

#[tokio::test]
async fn the_newer_generation() {
    match named("BD_1_0") {
        Some(program) => whole_story(&program).await,
        None => gtd_tests::skipped("real bd 1.0", "BD_1_0 does not name a program"),
    }
}

#[tokio::test]
async fn the_one_on_the_path() {
    match programs::system("bd") {
        Some(program) => whole_story(&program).await,
        None => gtd_tests::skipped("real bd on the PATH", "there is no bd on the PATH"),
    }
}

/// A town whose rig has a store of the program's own making.
fn town(program: &Path, base: &Path) -> gtd_tests::Town {
    let _made = store(program, base);
    let path = format!("{}:{}", base.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let town = gtd_tests::Setup::new().rigs(&["proj"]).no_refineries().env("PATH", &path).make();
    town.replace(
        "mayor/rigs.json",
        &serde_json::json!({"version": 1, "rigs": {
            "proj": {"git_url": "", "added_at": "2026-01-01T00:00:00Z", "beads": {"repo": "", "prefix": "pj"}},
        }})
        .to_string(),
    );
    std::fs::rename(base.join("town/proj/.beads"), town.path("proj/.beads")).unwrap();
    town.start();
    town
}

/// Through the daemon: hooked by us, seen by the program; changed by the program, told by us.
fn through_the_daemon(program: &Path) {
    let base = tempfile::tempdir().unwrap();
    let town = town(program, base.path());
    let home = base.path().join("home");
    let rig = town.path("proj");
    let old = bd(program, &rig, &home, &["version"]).contains("version 0.4");
    let no: &[&str] = if old { &["--no-daemon", "--allow-stale"] } else { &[] };
    let by_hand = |args: &[&str]| bd(program, &rig, &home, &[no, args].concat());
    let made = town.call("work.create", serde_json::json!({"title": "Fix the parser", "rig": "proj"}));
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(made["store"], "bd", "{made:#}");
    town.call("hook.set", serde_json::json!({"agent": "proj/witness", "work": id}));
    let said = by_hand(&["show", &id, "--json"]);
    assert!(said.contains("\"hooked\"") && said.contains("\"proj/witness\""), "{said}");
    assert_eq!(town.agent("proj/witness")["hook"], serde_json::json!(id));
    // Somebody else closes it: noticed by the files, well before the next heartbeat.
    let seq = town.seq();
    by_hand(&["close", &id, "--reason", "done", "--json"]);
    let closed = town.wait_event(seq, "work.closed", "proj/witness", Duration::from_secs(40));
    assert_eq!(
        (&closed["data"]["work"], &closed["data"]["by"]),
        (&serde_json::json!(id), &serde_json::json!("store"))
    );
    assert_eq!(town.agent("proj/witness")["hook"], serde_json::Value::Null);
    let error =
        town.try_call("hook.set", serde_json::json!({"agent": "proj/witness", "work": id})).unwrap_err();
    assert_eq!(error.code, 1007, "{error:?}");
    assert_eq!(town.try_call("work.show", serde_json::json!({"id": "pj-nope9"})).unwrap_err().code, 1007);
    town.stop_daemon();
}

#[test]
fn the_older_generation_through_the_daemon() {
    match named("BD_0_47") {
        Some(program) => through_the_daemon(&program),
        None => gtd_tests::skipped("real bd 0.47 through the daemon", "BD_0_47 does not name a program"),
    }
}

#[test]
fn the_newer_generation_through_the_daemon() {
    match named("BD_1_0") {
        Some(program) => through_the_daemon(&program),
        None => gtd_tests::skipped("real bd 1.0 through the daemon", "BD_1_0 does not name a program"),
    }
}
