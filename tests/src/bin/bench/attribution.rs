//! Whose each of 5,000 processes is, and a look by the doctor; against one program per question.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gtd_tests::procs::descendants;
use gtd_tests::{Process, Setup, Town, programs, wait_until};
use serde_json::json;

use super::{RIGS, row};

/// Processes beside the town's own, unless another number is given: a container may not have room for so many.
const MANY: usize = 5_000;
/// Of these so many are called like a coding agent, below a shell each.
const AGENTS: usize = 100;
/// Looks that are timed.
const LOOKS: usize = 20;

/// Sleepers that are gone when this is.
#[derive(Default)]
struct Crowd {
    sleepers: Vec<Child>,
    shell: Option<Child>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(pid) = self.shell.as_ref().and_then(|shell| i32::try_from(shell.id()).ok()) {
            descendants(pid).into_iter().for_each(Process::kill);
        }
        for child in self.sleepers.iter_mut().chain(&mut self.shell) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs it.
pub fn run() {
    let town = Setup::new().rigs(&RIGS).up();
    let many = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(MANY);
    let crowd = crowd(&town, many);
    let forks = || town.call("daemon.status", json!({}))["forks"].as_u64().unwrap_or_default();
    let mut client = town.client();
    let before = forks();
    let mut looked = 0;
    let times: Vec<Duration> = (0..LOOKS)
        .map(|_| {
            let began = Instant::now();
            let found = client.call("orphans.list", json!({})).unwrap_or_default();
            looked = found["processes"].as_u64().unwrap_or_default();
            began.elapsed()
        })
        .collect();
    let ours = times.iter().min().copied().unwrap_or_default();
    row(&format!("orphans.list, {looked} processes, with ledger and tmux"), "100", times);
    println!("   programs started for it: {}", forks() - before);
    let theirs = incumbent(&town);
    println!(
        "   one ps per step, one tmux per session: {:.0} ms, {:.0} times as long",
        theirs.as_secs_f64() * 1000.0,
        theirs.as_secs_f64() / ours.as_secs_f64().max(1e-6)
    );
    drop(crowd);
    let times: Vec<Duration> = (0..LOOKS)
        .map(|_| {
            let began = Instant::now();
            let _ = client.call("doctor.run", json!({}));
            began.elapsed()
        })
        .collect();
    let ours = times.iter().min().copied().unwrap_or_default();
    row("doctor.run, healthy town of 10 rigs", "300", times);
    let theirs = incumbent(&town);
    println!(
        "   its two orphan checks alone, one program per question: {:.0} ms, {:.1} times as long",
        theirs.as_secs_f64() * 1000.0,
        theirs.as_secs_f64() / ours.as_secs_f64().max(1e-6)
    );
}

/// Starts the processes and waits until they are there; fewer where the machine lets us have no more.
fn crowd(town: &Town, many: usize) -> Crowd {
    let mut crowd = Crowd::default();
    let agent = town.base().join("claude");
    if std::fs::copy("/bin/sleep", &agent).is_err() {
        return crowd;
    }
    let quiet = |mut command: Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    let mut shell = programs::bare("sh", town.base());
    let each = format!("sh -c '{} 5000; :' &", agent.display());
    shell.args(["-c", &format!("i=0; while [ $i -lt {AGENTS} ]; do {each} i=$((i+1)); done; wait")]);
    crowd.shell = quiet(shell).ok();
    if let Some(pid) = crowd.shell.as_ref().and_then(|shell| i32::try_from(shell.id()).ok()) {
        wait_until(Duration::from_secs(30), || descendants(pid).len() >= 2 * AGENTS);
    }
    while crowd.sleepers.len() + 2 * AGENTS < many {
        let mut sleeper = programs::bare("sleep", town.base());
        sleeper.arg("5000");
        match quiet(sleeper) {
            Ok(child) => crowd.sleepers.push(child),
            Err(error) => {
                println!("   no more than {} processes: {error}", crowd.sleepers.len() + 2 * AGENTS);
                break;
            }
        }
    }
    crowd
}

/// How the incumbent asks: each session by itself, all processes once, and for whatever is called like an agent one
/// `ps` per parent.
fn incumbent(town: &Town) -> Duration {
    let began = Instant::now();
    let tmux = town.tmux();
    for session in tmux.sessions() {
        let _ = tmux.try_run(&["list-panes", "-t", &format!("={session}"), "-F", "#{pane_pid}"]);
    }
    let ask = |args: &[&str]| {
        let output = programs::bare("ps", &town.home()).args(args).stdin(Stdio::null()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    };
    let all = ask(&["-eo", "pid,ppid,args"]);
    for line in all
        .lines()
        .filter(|line| line.split_whitespace().nth(2).is_some_and(|word| word.ends_with("/claude")))
    {
        let mut at = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        for _ in 0..64 {
            if at.is_empty() || at == "0" || at == "1" {
                break;
            }
            at = ask(&["-p", &at, "-o", "ppid="]).trim().to_owned();
        }
    }
    began.elapsed()
}
