//! Notification programs over a real ledger: what they get, and their bad days.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::config::Config;
use crate::ledger::{NewEvent, Write, open};

struct Town {
    dir: crate::ledger::scratch::Scratch,
    ledger: Ledger,
    bus: Bus,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    outcomes: Option<mpsc::Receiver<Outcome>>,
}

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script, "sh", "{title}", "{body}", "{kind}", "{agent}", "{seq}"]
        .map(str::to_owned)
        .to_vec()
}

fn hook(on: &str, script: &str) -> Notify {
    Notify { on: vec![on.to_owned()], exec: sh(script) }
}

fn live(hooks: Vec<Notify>) -> Live {
    Live::new(config(hooks))
}

fn config(notify: Vec<Notify>) -> Config {
    let mut config = Config::default();
    config.notify = notify;
    config
}

impl Town {
    fn new() -> Self {
        let dir = crate::ledger::scratch::dir();
        let ledger = open(dir.path()).ledger;
        let bus = Bus::new(ledger.clone(), 64);
        Self { dir, ledger, bus, stop: CancellationToken::new(), task: None, outcomes: None }
    }

    /// Starts as a daemon does that finds these places in its ledger.
    fn start(&mut self, live: &Live, facts: &[(String, u64)]) {
        self.stop = CancellationToken::new();
        let stream = self.ledger.stream_id();
        let facts = facts.iter().map(|(key, seq)| (key.clone(), json!({"stream": stream, "seq": seq})));
        let path = std::env::var("PATH").unwrap_or_default();
        let around = Surroundings::new([("PATH".to_owned(), path)], self.dir.path());
        let (sender, receiver) = mpsc::channel(64);
        self.outcomes = Some(receiver);
        self.task = Some(tokio::spawn(keep(
            self.bus.clone(),
            self.ledger.clone(),
            live.clone(),
            around,
            facts.collect(),
            sender,
            self.stop.clone(),
        )));
    }

    async fn happen(&self, kind: &'static str, agent: &str, data: Value) -> u64 {
        let at = "2026-03-01T12:00:00Z".parse().unwrap();
        let event = match agent.parse() {
            Ok(agent) => NewEvent::of(at, kind, &agent, data),
            Err(_) => NewEvent::new(at, kind, data),
        };
        let events = self.ledger.commit(vec![Write::Event(event)]).await.unwrap();
        let seq = events[0].seq.0;
        self.bus.publish(events);
        seq
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn wait(&self, what: &str, fits: impl Fn(&Path) -> bool) {
        for _ in 0..2_000 {
            if fits(self.dir.path()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}");
    }

    async fn wait_lines(&self, name: &str, count: usize) -> Vec<String> {
        let lines = |dir: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        };
        self.wait(&format!("{count} lines in {name}"), |dir| lines(dir).len() >= count).await;
        lines(self.dir.path())
    }

    async fn outcome(&mut self) -> Outcome {
        let outcomes = self.outcomes.as_mut().unwrap();
        tokio::time::timeout(Duration::from_secs(20), outcomes.recv()).await.unwrap().unwrap()
    }

    /// The place of a hook as a daemon that starts now would find it, once it is there.
    async fn wait_noted(&self, key: &str, wanted: Option<u64>) {
        for _ in 0..400 {
            self.ledger.commit(vec![Write::Fact { key: "x".to_owned(), value: None }]).await.unwrap();
            let copy = crate::ledger::scratch::dir();
            for name in ["gtd.db", "gtd.db-wal"] {
                let _ = std::fs::copy(self.file(name), copy.path().join(name));
            }
            let facts = open(copy.path()).state.facts;
            if facts.get(key).and_then(|fact| fact["seq"].as_u64()) == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{key} is not noted as {wanted:?}");
    }
}

#[tokio::test]
async fn a_program_gets_the_words_as_arguments_and_the_event_as_json() {
    let mut town = Town::new();
    let script =
        "cat > event; printf '%s|' \"$1\" \"$3\" \"$4\" \"$5\" > args; echo >> args; printf %s \"$2\" > body";
    let live = live(vec![hook("incident.*", script)]);
    town.start(&live, &[(key(&live.now().notify[0]), 0)]);
    town.happen("agent.ready", "a/witness", json!({})).await;
    let data = json!({"id": "i1", "count": 3, "window_ms": 30_000, "sessions": ["$(touch pwned)", "`x`; y"]});
    let seq = town.happen("incident.opened", "", data).await;
    assert_eq!(town.outcome().await.failed, None);
    let args = std::fs::read_to_string(town.file("args")).unwrap();
    assert_eq!(args, format!("3 agents died within 30s|incident.opened||{seq}|\n"));
    let event: Event = serde_json::from_slice(&std::fs::read(town.file("event")).unwrap()).unwrap();
    assert_eq!((event.seq.0, event.data["count"].as_u64()), (seq, Some(3)));
    let body = std::fs::read_to_string(town.file("body")).unwrap();
    assert!(body.contains("$(touch pwned), `x`; y"), "{body}");
    assert!(!town.file("pwned").exists(), "nothing is given to a shell");
}

#[tokio::test]
async fn one_that_hangs_or_fails_holds_up_nobody_else() {
    let mut town = Town::new();
    let hooks = vec![
        hook("a.*", "echo $5 >> started; sleep 1000"),
        hook("a.*", "echo no >&2; exit 9"),
        Notify { on: vec!["a.*".to_owned()], exec: vec!["/no/such/program".to_owned()] },
        hook("*", "echo $5 >> good"),
    ];
    let live = live(hooks);
    let facts: Vec<(String, u64)> = live.now().notify.iter().map(|hook| (key(hook), 0)).collect();
    town.start(&live, &facts);
    for n in 0..4 {
        town.happen("a.b", &format!("r{n}/witness"), json!({})).await;
    }
    assert_eq!(town.wait_lines("good", 4).await, ["1", "2", "3", "4"]);
    town.wait_lines("started", 1).await;
    let mut failed = Vec::new();
    while failed.len() < 8 {
        failed.extend(town.outcome().await.failed);
    }
    assert!(failed.iter().any(|why| why.contains("cannot be started")), "{failed:?}");
    assert!(failed.iter().any(|why| why.ends_with(": no")), "{failed:?}");
    // The end of the daemon is not held up by the one that hangs, and leaves nothing of it.
    let began = Instant::now();
    town.stop.cancel();
    town.task.take().unwrap().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_flood_runs_a_few_and_counts_the_rest() {
    let mut town = Town::new();
    let live = live(vec![hook("agent.*", "echo $5 >> runs")]);
    town.start(&live, &[(key(&live.now().notify[0]), 0)]);
    for n in 0..200 {
        town.happen("agent.exited", &format!("r{}/witness", n % 50), json!({})).await;
    }
    town.wait_lines("runs", 10).await;
    // The place stays before the first that was only counted: a daemon that dies now comes back to it.
    town.wait_noted(&key(&live.now().notify[0]), Some(10)).await;
    assert_eq!(town.wait_lines("runs", 10).await.len(), 10);
}

#[tokio::test]
async fn after_a_crash_what_was_not_told_is_told() {
    let mut town = Town::new();
    let live = live(vec![hook("incident.*", "echo $5 >> told; test -e go || sleep 1000")]);
    let place = key(&live.now().notify[0]);
    town.start(&live, &[]);
    town.wait_noted(&place, Some(0)).await;
    for n in 0..2 {
        town.happen("incident.opened", "", json!({"id": format!("i{n}")})).await;
    }
    town.wait_lines("told", 1).await;
    // As abrupt as it gets within one process: nothing is noted, the program is gone.
    town.task.take().unwrap().abort();
    town.stop.cancel();
    std::fs::write(town.file("go"), "").unwrap();
    town.start(&live, &[(place.clone(), 0)]);
    let told = town.wait_lines("told", 3).await;
    assert_eq!(told, ["1", "1", "2"], "at least once each");
    town.wait_noted(&place, Some(2)).await;
}

#[tokio::test]
async fn hooks_come_and_go_with_the_configuration() {
    let mut town = Town::new();
    let (old, new) = (hook("a.*", "echo $5 >> old"), hook("a.*", "echo $5 >> new"));
    let live = live(vec![old.clone(), old.clone()]);
    town.start(&live, &[(key(&old), 0), (format!("{CURSORS}gone"), 5)]);
    town.happen("a.b", "r1/witness", json!({})).await;
    assert_eq!(town.outcome().await.failed, None);
    assert_eq!(town.wait_lines("old", 1).await, ["1"], "the same table twice is one hook");
    town.wait_noted(&format!("{CURSORS}gone"), None).await;
    live.replace(config(vec![new.clone()]));
    assert_eq!(town.outcome().await.key, key(&old), "its alert goes with it");
    town.wait_noted(&key(&new), Some(1)).await;
    town.happen("a.b", "r2/witness", json!({})).await;
    assert_eq!(town.wait_lines("new", 1).await, ["2"], "a new hook hears of what is new");
    assert_eq!(town.wait_lines("old", 1).await, ["1"]);
    town.wait_noted(&key(&old), None).await;
}

#[test]
fn a_hook_that_is_changed_is_another_one() {
    let one = hook("a", "x");
    let mut keys = vec![key(&one)];
    keys.push(key(&hook("b", "x")));
    keys.push(key(&hook("a", "y")));
    keys.push(key(&Notify { on: vec!["a".into(), "/bin/sh".into()], exec: one.exec[1..].to_vec() }));
    let unique: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!(unique.len(), keys.len());
    assert_eq!(key(&one), key(&one.clone()));
}
