//! Figures, printed: `cargo test --release -p gtd --test shim -- --ignored --nocapture --test-threads 1`.

use std::process::Command;
use std::time::{Duration, Instant};

use gtd::process::record::Phase;
use gtd::process::{
    Capture, ExitWatcher, Guard, Pid, ProcessTable, Proof, Signal, Spare, Target, identify, send,
};

use crate::support::{Case, until};

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
    println!(
        "{what}: min {:.0} p50 {:.0} p99 {:.0} max {:.0} µs (n={})",
        at(0),
        at(50),
        at(99),
        at(100),
        times.len()
    );
}

#[test]
#[ignore = "a measurement"]
fn starting_and_ending() {
    let case = Case::new(&["/bin/true"]);
    let (mut bare, mut shimmed) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let began = Instant::now();
        Command::new("/bin/true").status().unwrap();
        bare.push(began.elapsed());
        let launch = case.write_launch();
        let began = Instant::now();
        Command::new(env!("CARGO_BIN_EXE_gtd-shim")).arg(launch).status().unwrap();
        shimmed.push(began.elapsed());
    }
    show("true, alone", bare);
    show("true, below a shim", shimmed);

    let cases: Vec<Case> = (0..20).map(|_| Case::new(&["/bin/sleep", "60"])).collect();
    let shims: Vec<_> = cases.iter().map(Case::start).collect();
    shims.iter().for_each(|shim| drop(shim.agent()));
    let pss = |field: &str| -> u64 {
        let sum = shims.iter().map(|shim| {
            let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.child.id())).unwrap();
            let line = text.lines().find(|line| line.starts_with(field)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        });
        sum.sum::<u64>() / 20
    };
    println!("each of 20 shims: PSS {} kB, RSS {} kB", pss("Pss:"), pss("Rss:"));
    let mut stops = Vec::new();
    for shim in shims {
        let began = Instant::now();
        shim.signal(rustix::process::Signal::TERM);
        shim.finish();
        stops.push(began.elapsed());
    }
    show("TERM to shim gone, by a poll every 2 ms", stops);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn learning_of_an_exit() {
    for count in [10, 1000] {
        let watcher = ExitWatcher::start().unwrap();
        let mut children: Vec<_> =
            (0..count).map(|_| Command::new("setsid").args(["sleep", "60"]).spawn().unwrap()).collect();
        let ids: Vec<_> = children
            .iter()
            .map(|child| identify(Pid::new(i32::try_from(child.id()).unwrap()).unwrap()).alive().unwrap())
            .collect();
        let began = Instant::now();
        let mut watches: Vec<_> = ids.iter().map(|id| watcher.watch(id).unwrap()).collect();
        println!("{count} watches made in {:?}", began.elapsed());
        until("all sleep", || {
            let table = ProcessTable::read().unwrap();
            ids.iter().all(|id| table.alive(id).is_some_and(|stat| stat.comm == "sleep")).then_some(())
        });
        let began = Instant::now();
        let table = ProcessTable::read().unwrap();
        println!("table of {} processes in {:?}", table.len(), began.elapsed());
        let guard = Guard::from_table(&table, []).unwrap();
        let began = Instant::now();
        let mut capture = Capture::new("x", ids.iter().cloned());
        capture.merge(&table, &Spare::default());
        println!("merge of {count} recorded in {:?}", began.elapsed());

        let (mut thread, mut task, mut cost) = (Vec::new(), Vec::new(), Vec::new());
        for (watch, id) in watches.iter_mut().zip(&ids).take(200) {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let target = Target::new(id.clone(), Proof::Recorded);
            let began = Instant::now();
            send(&guard, &target, Signal::Kill).unwrap();
            cost.push(began.elapsed());
            let exited = watch.exited().await;
            task.push(began.elapsed());
            thread.push(exited.at.saturating_duration_since(began));
        }
        show("one verified signal", cost);
        show(&format!("kill to epoll thread, {count} watched"), thread);
        show(&format!("kill to task, {count} watched"), task);
        for child in &mut children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn ending_two_hundred() {
    let mut case =
        Case::sh("trap '' TERM; for i in $(seq 200); do setsid sleep 60 & done; echo r > $D/ready; wait");
    case.launch.grace = Duration::ZERO;
    let shim = case.start();
    case.line("ready");
    until("all are there", || (case.marked().len() > 200).then_some(()));
    let began = Instant::now();
    shim.signal(rustix::process::Signal::QUIT);
    case.record_at(Phase::Gone);
    println!("200 children killed and verified gone in {:?}", began.elapsed());
}
