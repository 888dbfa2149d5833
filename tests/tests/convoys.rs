//! Convoys: over when the last of their work is, once, whatever happens meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use gtd_tests::bd::StandIn;
use gtd_tests::{CHANGE, QUICK, Setup, Town, chaos_delay, wait_until};
use serde_json::{Value, json};

fn town() -> Town {
    Setup::new().rigs(&["alpha"]).no_refineries().up()
}

fn work(town: &Town, title: &str, params: Value) -> String {
    let mut params = params;
    params["title"] = json!(title);
    town.call("work.create", params)["id"].as_str().unwrap().to_owned()
}

fn create(town: &Town, title: &str, work: &[&str]) -> String {
    let made = town.call("convoy.create", json!({"title": title, "work": work}));
    made["id"].as_str().unwrap().to_owned()
}

fn status(town: &Town, convoy: &str) -> Value {
    town.call("convoy.status", json!({"convoy": convoy}))
}

#[track_caller]
fn wait_closed(town: &Town, convoy: &str) -> Value {
    let closed = wait_until(CHANGE, || status(town, convoy)["status"] == "closed");
    let shown = status(town, convoy);
    assert!(closed, "{shown:#}\n{}", town.daemon_output());
    shown
}

fn closings(town: &Town, convoy: &str) -> usize {
    let events = town.events(0);
    events.iter().filter(|event| event["kind"] == "convoy.closed" && event["data"]["id"] == convoy).count()
}

fn letters(town: &Town, whose: &str, convoy: &str) -> usize {
    let inbox = town.call("mail.inbox", json!({"for": whose}));
    let items = inbox["items"].as_array().unwrap();
    let about = format!("CONVOY_CLOSED: {convoy} ");
    items.iter().filter(|mail| mail["subject"].as_str().unwrap().starts_with(&about)).count()
}

#[test]
fn a_convoy_closes_with_the_last_of_its_work_and_tells_its_watchers_once() {
    let town = town();
    let (one, two) = (work(&town, "One", json!({})), work(&town, "Two", json!({"rig": "alpha"})));
    let seq = town.seq();
    let made = town
        .gtctl(&[
            "--json",
            "convoy",
            "create",
            "The parser",
            &one,
            &two,
            &one,
            "--notify",
            "alpha/witness",
            "--notify",
            "human",
        ])
        .ok()
        .json()["result"]
        .clone();
    let convoy = made["id"].as_str().unwrap();
    assert_eq!((&made["status"], &made["open"]), (&json!("open"), &json!(2)), "{made:#}");
    assert_eq!(made["watchers"], json!(["overseer", "alpha/witness"]));
    let ids = |shown: &Value| -> Vec<(Value, Value)> {
        let work = shown["work"].as_array().unwrap();
        work.iter().map(|item| (item["id"].clone(), item["status"].clone())).collect()
    };
    assert_eq!(ids(&made), [(json!(one), json!("open")), (json!(two), json!("open"))]);
    town.call("work.close", json!({"id": one}));
    let half = status(&town, convoy);
    assert_eq!(ids(&half), [(json!(one), json!("closed")), (json!(two), json!("open"))], "at once");
    assert_eq!(half["status"], "open");
    town.call("work.close", json!({"id": two}));
    let told = town.follow(json!({"since": seq, "kinds": ["convoy.*"]}));
    let (_, event) = told.wait(QUICK, "the end", |event| event["kind"] == "convoy.closed");
    assert_eq!(event["data"]["work"], json!([one, two]), "{event:#}");
    let over = wait_closed(&town, convoy);
    assert!(over["closed_at"].is_string() && over["open"] == 0, "{over:#}");
    for whose in ["overseer", "alpha/witness"] {
        assert_eq!(letters(&town, whose, convoy), 1, "{whose}");
    }
    // What is over stays so, and is not told again.
    assert_eq!(town.call_fails("convoy.add", json!({"convoy": convoy, "work": [one]})).code, 1007);
    town.stop_daemon();
    let _daemon = town.start();
    assert_eq!((closings(&town, convoy), letters(&town, "overseer", convoy)), (1, 1));
    let card = town.gtctl(&["convoy", "status", convoy]).ok().out;
    assert!(card.contains("2/2") && card.contains("closed"), "{card}");
}

#[test]
fn what_may_be_made_and_added() {
    let town = town();
    let (one, two) = (work(&town, "One", json!({})), work(&town, "Two", json!({})));
    for (params, code) in [
        (json!({"title": " ", "work": [one]}), -32602),
        (json!({"title": "two\nlines", "work": [one]}), -32602),
        (json!({"title": "x", "work": ["hq-nowhere"]}), 1007),
        (json!({"title": "x", "work": [one], "watchers": ["alpha/nobody"]}), 1002),
        (json!({"title": "x", "work": [one], "watchers": ["beta/witness"]}), 1001),
        (json!({"title": "x", "work": ["not an id"]}), -32602),
    ] {
        assert_eq!(town.call_fails("convoy.create", params.clone()).code, code, "{params}");
    }
    let ids: Vec<String> = (0..600).map(|n| format!("hq-x{n}")).collect();
    assert_eq!(town.call_fails("convoy.create", json!({"title": "x", "work": ids})).code, -32602);
    assert_eq!(town.call("convoy.list", json!({}))["items"], json!([]), "nothing was made");
    let plan = town.call("convoy.create", json!({"title": "x", "work": [one], "dry_run": true}));
    assert_eq!((&plan["plan"][0]["action"], &plan["id"]), (&json!("create"), &Value::Null), "{plan:#}");
    assert_eq!(town.call("convoy.list", json!({}))["items"], json!([]));
    // One that is empty waits for its first.
    let empty = create(&town, "Later", &[]);
    let key = json!({"title": "Once", "work": [one], "idempotency_key": "k1"});
    let once = town.call("convoy.create", key.clone());
    assert_eq!(town.call("convoy.create", key)["id"], once["id"]);
    town.call("work.close", json!({"id": one}));
    wait_closed(&town, once["id"].as_str().unwrap());
    assert_eq!(status(&town, &empty)["status"], "open");
    assert_eq!(
        town.call_fails("convoy.add", json!({"convoy": empty, "work": [one]})).code,
        1007,
        "it is over"
    );
    let plan = town.call("convoy.add", json!({"convoy": empty, "work": [two], "dry_run": true}));
    assert_eq!((&plan["plan"][0]["target"], &plan["work"]), (&json!(two), &json!([])), "{plan:#}");
    assert_eq!(town.call("convoy.add", json!({"convoy": empty, "work": [two]}))["open"], 1);
    assert_eq!(town.call("convoy.add", json!({"convoy": empty, "work": [two, two]}))["already"], true);
    assert_eq!(town.call_fails("convoy.add", json!({"convoy": "hq-cv-99", "work": [two]})).code, 1007);
    assert_eq!(town.call_fails("convoy.status", json!({"convoy": "hq-cv-99"})).code, 1007);
    let open = town.call("convoy.list", json!({"status": "open"}));
    assert_eq!(open["items"].as_array().unwrap().len(), 1, "{open:#}");
    let all = town.call("convoy.list", json!({}));
    assert_eq!(
        (&all["items"][0]["id"], &all["items"][1]["status"]),
        (&json!(empty), &json!("closed")),
        "{all:#}"
    );
    assert_eq!(town.call_fails("convoy.list", json!({"status": "odd"})).code, -32602);
    town.call("work.close", json!({"id": two}));
    wait_closed(&town, &empty);
}

/// The daemon is killed at some instant after the last close was asked for: then, or at the next start, the convoy
/// is over, and it was told once.
#[test]
fn a_kill_at_any_instant_closes_it_once() {
    let town = town();
    let mut convoys = Vec::new();
    for round in 0..8 {
        let item = work(&town, "One", json!({}));
        let convoy = create(&town, &format!("Round {round}"), &[&item]);
        let mut client = town.client();
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "work.close", "params": {"id": item}});
        client.send_raw(format!("{request}\n").as_bytes()).unwrap();
        chaos_delay(Duration::from_micros(700 * round * round));
        town.kill_daemon();
        let _daemon = town.start();
        // It may not have been heard at all.
        town.call("work.close", json!({"id": item}));
        wait_closed(&town, &convoy);
        convoys.push(convoy);
    }
    town.kill_daemon();
    let _daemon = town.start();
    for convoy in convoys {
        assert_eq!((closings(&town, &convoy), letters(&town, "overseer", &convoy)), (1, 1), "{convoy}");
    }
}

#[test]
fn a_close_while_the_daemon_was_down_is_found() {
    let town = town();
    let item = work(&town, "One", json!({}));
    let convoy = create(&town, "Down", &[&item]);
    town.kill_daemon();
    let ledger = rusqlite::Connection::open(town.path("daemon/gtd.db")).unwrap();
    let changed = ledger.execute("UPDATE work SET status = 'closed' WHERE id = ?1", [&item]).unwrap();
    assert_eq!(changed, 1);
    drop(ledger);
    let _daemon = town.start();
    wait_closed(&town, &convoy);
    assert_eq!((closings(&town, &convoy), letters(&town, "overseer", &convoy)), (1, 1));
}

#[test]
fn a_lost_ledger_takes_no_open_convoy_along() {
    let town = town();
    let (one, two) = (work(&town, "One", json!({})), work(&town, "Two", json!({})));
    let convoy = create(&town, "Kept", &[&one, &two]);
    town.call("work.close", json!({"id": one}));
    town.stop_daemon();
    for name in ["gtd.db", "gtd.db-wal", "gtd.db-shm"] {
        let _ = std::fs::remove_file(town.path(&format!("daemon/{name}")));
    }
    std::fs::write(town.path("daemon/gtd.db"), "this is no database, by far").unwrap();
    let _daemon = town.start();
    let shown = status(&town, &convoy);
    assert_eq!((&shown["status"], &shown["open"]), (&json!("open"), &json!(1)), "{shown:#}");
    // Its number is not given again.
    let next = create(&town, "Next", &[&two]);
    assert_ne!(next, convoy);
    town.call("work.close", json!({"id": two}));
    wait_closed(&town, &convoy);
    wait_closed(&town, &next);
}

struct WithBd {
    town: Town,
    stand_in: StandIn,
    items: PathBuf,
    _dir: tempfile::TempDir,
}

impl WithBd {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stand_in = StandIn::new(dir.path(), "1.0.5");
        let items = dir.path().join("items.json");
        let town = Setup::new().rigs(&["proj"]).no_refineries().env("PATH", &stand_in.path()).make();
        std::fs::create_dir_all(town.path("proj/.beads")).unwrap();
        // Only the rig's work is with bd.
        let rig =
            json!({"git_url": "", "added_at": "2026-01-01T00:00:00Z", "beads": {"repo": "", "prefix": "pj"}});
        town.replace("mayor/rigs.json", &json!({"version": 1, "rigs": {"proj": rig}}).to_string());
        let made = Self { town, stand_in, items, _dir: dir };
        made.are(&[("pj-1", "open"), ("pj-2", "open")]);
        made.does("replay");
        made
    }

    fn does(&self, mode: &str) {
        self.stand_in.does("1.0.5", json!({"mode": mode, "items": self.items}));
    }

    /// What the store has, changed just now.
    fn are(&self, items: &[(&str, &str)]) {
        let now = gtd_proto::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let item = |(id, status): &(&str, &str)| {
            json!({"id": id, "title": format!("Do {id}"), "status": status, "priority": 1,
                "issue_type": "task", "created_at": "2026-01-01T00:00:00Z", "updated_at": now})
        };
        let text = json!(items.iter().map(item).collect::<Vec<_>>()).to_string();
        let partial = self.items.with_extension("partial");
        std::fs::write(&partial, text).unwrap();
        std::fs::rename(partial, &self.items).unwrap();
        // As the program's own files show it.
        std::fs::write(self.town.path("proj/.beads/issues.jsonl"), format!("{items:?}")).unwrap();
    }

    fn looks(&self) -> usize {
        let asked = |call: &Value| call["args"].to_string().contains("--updated-after");
        self.stand_in.calls().iter().filter(|call| asked(call)).count()
    }
}

#[test]
fn work_of_bd_is_watched_through_its_files_and_while_the_daemon_is_down() {
    let world = WithBd::new();
    let town = &world.town;
    let _daemon = town.start();
    let convoy = create(town, "With bd", &["pj-1", "pj-2"]);
    assert_eq!(town.call_fails("convoy.add", json!({"convoy": convoy, "work": ["pj-404"]})).code, 1007);
    let shown = status(town, &convoy);
    assert_eq!((&shown["work"][0]["store"], &shown["open"]), (&json!("bd"), &json!(2)), "{shown:#}");
    world.are(&[("pj-1", "closed"), ("pj-2", "in_progress")]);
    assert!(wait_until(CHANGE, || status(town, &convoy)["work"][0]["status"] == "closed"));
    assert_eq!(status(town, &convoy)["status"], "open");
    // At rest it is not asked again.
    let looks = world.looks();
    town.kill_daemon();
    assert!(looks <= 4, "{looks}");
    world.are(&[("pj-1", "closed"), ("pj-2", "closed")]);
    let _daemon = town.start();
    wait_closed(town, &convoy);
    assert_eq!((closings(town, &convoy), letters(town, "overseer", &convoy)), (1, 1));
}

#[test]
fn a_store_that_does_not_answer_closes_nothing() {
    let world = WithBd::new();
    let town = &world.town;
    let _daemon = town.start();
    let here = work(town, "Here", json!({}));
    let convoy = create(town, "Silent", &["pj-1"]);
    let mixed = create(town, "Mixed", &["pj-2"]);
    world.does("fail");
    assert_eq!(town.call_fails("convoy.add", json!({"convoy": convoy, "work": ["pj-2"]})).code, 1016);
    world.are(&[("pj-1", "closed"), ("pj-2", "closed")]);
    assert!(
        wait_until(CHANGE, || status(town, &convoy)["unknown"].is_string()),
        "{:#}",
        status(town, &convoy)
    );
    assert_eq!(status(town, &convoy)["status"], "open");
    // A store that says nothing of it has not said that it is gone.
    world.are(&[]);
    world.does("replay");
    assert!(wait_until(CHANGE, || status(town, &convoy)["unknown"].is_null()));
    assert_eq!(status(town, &convoy)["status"], "open");
    // Opened again just before its end.
    world.are(&[("pj-1", "open"), ("pj-2", "closed")]);
    wait_closed(town, &mixed);
    assert_eq!(status(town, &convoy)["status"], "open");
    world.are(&[("pj-1", "closed"), ("pj-2", "closed")]);
    wait_closed(town, &convoy);
    assert_eq!(closings(town, &convoy) + closings(town, &mixed), 2);
    town.call("work.close", json!({"id": here}));
}
