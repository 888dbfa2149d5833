//! Real processes: what is swept, what is not, and a number that is given away between decision and signal.

use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::process::attribution::{Snapshot, attribute};
use crate::process::capture::Capture;
use crate::process::identify;
use crate::process::observe;
use crate::process::signal::Proof;
use crate::process::spare::Spare;

/// Sleeps in a session of its own: ours is guarded whatever is proven.
fn sleeper() -> Child {
    let mut command = Command::new("setsid");
    command.args(["sleep", "300"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn id_of(child: &Child) -> ProcessId {
    let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
    identify(pid).alive().unwrap()
}

fn over(id: &ProcessId) -> OnRecord {
    OnRecord {
        instance: "i".into(),
        agent: "a/witness".into(),
        live: false,
        capture: Capture::new("i", [id.clone()]),
    }
}

fn quick() -> EndOptions {
    EndOptions { grace: Duration::from_millis(500), force: Duration::from_secs(5) }
}

/// A sleeper that has left our session.
fn outside() -> Child {
    let child = sleeper();
    let until = Instant::now() + Duration::from_secs(10);
    while crate::process::procfs::stat(id_of(&child).pid).unwrap().comm != "sleep" {
        assert!(Instant::now() < until, "it never began");
        std::thread::yield_now();
    }
    child
}

#[tokio::test]
async fn what_is_proven_is_ended_and_its_neighbour_lives() {
    let (mut ours, mut other) = (outside(), outside());
    let (id, neighbour) = (id_of(&ours), id_of(&other));
    let records = [over(&id)];
    let seen = attribute(&Snapshot::read().unwrap(), &records, &Ground::default());
    assert!(chosen(&seen, &records, Duration::from_secs(600)).is_empty(), "too young");
    let chosen = chosen(&seen, &records, Duration::ZERO);
    assert_eq!(chosen.len(), 1);
    let (one, targets) = &chosen[0];
    let watcher = ExitWatcher::start().unwrap();
    let look: Arc<dyn Look> = Arc::new(Spare::default());
    let targets = targets.iter().copied().cloned().collect();
    let swept = sweep(&watcher, one, targets, &[], &Ground::default(), &look, quick()).await;
    assert!(swept.report.is_gone(), "{:?}", swept.report);
    assert!(!observe(&id).is_alive() && observe(&neighbour).is_alive());
    ours.wait().unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn who_is_in_somebodys_pane_is_sheltered_at_the_instant_of_the_signal() {
    let mut pane = outside();
    let id = id_of(&pane);
    let ground = Ground { panes: [id.clone()].into(), ..Ground::default() };
    let watcher = ExitWatcher::start().unwrap();
    let look: Arc<dyn Look> = Arc::new(Spare::default());
    let swept = sweep(&watcher, &over(&id), Vec::new(), &[], &ground, &look, quick()).await;
    assert!(swept.report.signals.is_empty(), "{:?}", swept.report);
    assert!(observe(&id).is_alive());
    pane.kill().unwrap();
    pane.wait().unwrap();
}

/// At the pause point the target ends, and somebody else gets its number.
struct GiveAway {
    victim: Mutex<Option<Child>>,
    heir: Mutex<Option<Child>>,
    asked: Mutex<usize>,
}

impl Look for GiveAway {
    fn spared(&self, _: &Stat) -> Option<SparedAs> {
        None
    }

    fn marker(&self, _: &ProcessId) -> Observation<Marker> {
        Observation::Absent
    }

    fn cgroup_members(&self, _: &str) -> Observation<Vec<Pid>> {
        Observation::Absent
    }

    fn decided(&self, id: &ProcessId) {
        *self.asked.lock().unwrap() += 1;
        let Some(mut victim) = self.victim.lock().unwrap().take() else { return };
        victim.kill().unwrap();
        victim.wait().unwrap();
        let mut heir = self.heir.lock().unwrap();
        for _ in 0..1_000 {
            // Others start processes meanwhile.
            if std::fs::write("/proc/sys/kernel/ns_last_pid", (id.pid.get() - 1).to_string()).is_err() {
                return;
            }
            let mut child = sleeper();
            if child.id() == u32::try_from(id.pid.get()).unwrap() {
                *heir = Some(child);
                return;
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Waits until whatever starts now has another start time: the kernel counts them in hundredths of a second, and who
/// gets the number within the same one could not be told from the one before. Numbers do not come round that fast.
fn grown(id: &ProcessId) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut young = sleeper();
        let later = id_of(&young).start > id.start;
        young.kill().unwrap();
        young.wait().unwrap();
        if later {
            return;
        }
        assert!(Instant::now() < until, "the clock stands");
    }
}

#[tokio::test]
async fn a_number_that_is_given_away_between_decision_and_signal_is_left_alone() {
    let victim = outside();
    let id = id_of(&victim);
    grown(&id);
    let look =
        Arc::new(GiveAway { victim: Mutex::new(Some(victim)), heir: Mutex::new(None), asked: Mutex::new(0) });
    let watcher = ExitWatcher::start().unwrap();
    let shared: Arc<dyn Look> = look.clone();
    let mut one = over(&id);
    one.capture.restore(id.clone(), Proof::Recorded);
    let swept = sweep(&watcher, &one, Vec::new(), &[], &Ground::default(), &shared, quick()).await;
    assert!(*look.asked.lock().unwrap() >= 1, "it was to be signalled");
    assert!(swept.report.signals.is_empty(), "nobody was signalled: {:?}", swept.report.signals);
    assert!(swept.report.is_gone());
    let Some(mut heir) = look.heir.lock().unwrap().take() else {
        eprintln!("skipped: a number cannot be given to a chosen process here");
        return;
    };
    assert_eq!(i32::try_from(heir.id()).unwrap(), id.pid.get());
    assert_eq!(heir.try_wait().unwrap(), None, "the heir of the number lives");
    heir.kill().unwrap();
    heir.wait().unwrap();
}

#[test]
fn below_a_parent_that_is_hidden_nothing_is_ours_to_end() {
    use crate::process::table::tests::{id, stat, table};
    let careful = Careful { look: Arc::new(Spare::default()), panes: HashSet::new() };
    // Ourselves: there, and not in this table, as where other users' processes are hidden.
    let hidden = Pid::own().unwrap().get();
    let table = table([stat(4_194_301, hidden, 5), stat(4_194_302, 4_194_301, 6), stat(4_194_303, 1, 5)]);
    assert!(careful.shelters(&table, &id(4_194_301, 5)) && careful.shelters(&table, &id(4_194_302, 6)));
    assert!(!careful.shelters(&table, &id(4_194_303, 5)));
}
