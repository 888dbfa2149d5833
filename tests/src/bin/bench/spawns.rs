//! How long it takes to make a worker, and how much of that is git's.

use std::time::{Duration, Instant};

use gtd_tests::Setup;
use serde_json::{Value, json};

/// Files of the repository.
const FILES: usize = 1_000;
/// Workers that are made, one after the other.
const WORKERS: usize = 10;

/// Spawns on a repository of its own; gives the times of the whole, of the step that makes the worktree, and of a
/// plain `git worktree add` on the same repository beside it.
pub fn measure() -> [(&'static str, Vec<Duration>); 4] {
    let town = Setup::new().rigs(&["a"]).no_refineries().toml("[mass_death]\nthreshold = 0").make();
    town.make_repo("a", FILES);
    town.start();
    town.wait_all_running();
    let bare = town.path("a/.repo.git");
    let [mut whole, mut tree, mut plain, mut rest] = [const { Vec::new() }; 4];
    for number in 0..WORKERS {
        let seq = town.seq();
        let work = town.make_work("a", &format!("work {number}"));
        let began = Instant::now();
        town.call("polecat.spawn", json!({"rig": "a", "work": work}));
        let took = began.elapsed();
        let events = town.events(seq);
        let at = |step: &str| -> gtd_proto::Timestamp {
            let found = events.iter().find(|event| event["data"]["step"] == step).map(|event| &event["at"]);
            found.and_then(Value::as_str).and_then(|at| at.parse().ok()).expect("the step was told")
        };
        let git = Duration::try_from(at("hook").duration_since(at("tree"))).unwrap_or_default();
        let beside = town.base().join(format!("plain-{number}"));
        let began = Instant::now();
        let branch = format!("plain-{number}");
        town.run_git(&bare, &["worktree", "add", "-q", "-b", &branch, &beside.display().to_string(), "main"])
            .ok();
        plain.push(began.elapsed());
        whole.push(took);
        tree.push(git);
        rest.push(took.saturating_sub(git));
    }
    [
        ("spawn, whole, 1,000 files", whole),
        ("  its worktree: git, looks before it, syncs", tree),
        ("  a plain git worktree add beside it", plain),
        ("  the rest: hook, start, ready (200 of it: a script's proof)", rest),
    ]
}
