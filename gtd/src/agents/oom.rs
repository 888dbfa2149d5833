//! Whether the kernel killed for want of memory: counters of the instance's cgroup, else of the whole machine.
//!
//! Only reads. A counter that rose says that somebody was killed, not who; so each rise is used for one death
//! only, and only what rose since the last round of the heartbeat counts. What cannot be read says nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gtd_proto::Address;

use super::order::Oom;
use crate::process::{ProcessId, facts};

/// Where the unified hierarchy may be mounted: alone, or beside the old one.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The machine's counters.
const MACHINE: &str = "/proc/vmstat";

/// A counter, and how much of its rise has been used.
#[derive(Debug, Clone, Copy, Default)]
struct Meter {
    base: u64,
    used: u64,
}

impl Meter {
    /// Takes one of what the counter rose by, if there is any left.
    fn take(&mut self, now: u64) -> bool {
        let rose = now.saturating_sub(self.base) > self.used;
        self.used += u64::from(rose);
        rose
    }
}

#[derive(Debug, Default)]
struct State {
    machine: Option<Meter>,
    groups: BTreeMap<PathBuf, Meter>,
    of_agent: BTreeMap<Address, PathBuf>,
}

/// The counters, and what they were.
#[derive(Debug)]
pub struct OomWatch {
    roots: Vec<PathBuf>,
    machine: PathBuf,
    state: Mutex<State>,
}

impl Default for OomWatch {
    fn default() -> Self {
        Self::at(ROOTS.iter().map(PathBuf::from).collect(), PathBuf::from(MACHINE))
    }
}

impl OomWatch {
    fn at(roots: Vec<PathBuf>, machine: PathBuf) -> Self {
        let machine_now = read(&machine);
        let state = State { machine: machine_now.map(|base| Meter { base, used: 0 }), ..State::default() };
        Self { roots, machine, state: Mutex::new(state) }
    }

    /// An agent's process lives: its cgroup is looked up while it can be.
    pub fn born(&self, agent: &Address, process: &ProcessId) {
        let group = facts::cgroup(process).alive();
        self.belongs(agent, group.as_deref());
    }

    fn belongs(&self, agent: &Address, group: Option<&str>) {
        let file = group.and_then(|group| self.events_of(group));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match file {
            Some((file, base)) => {
                state.groups.entry(file.clone()).or_insert(Meter { base, used: 0 });
                state.of_agent.insert(agent.clone(), file);
            }
            None => {
                state.of_agent.remove(agent);
            }
        }
    }

    /// The file of a cgroup's counters, where its controller is on.
    fn events_of(&self, group: &str) -> Option<(PathBuf, u64)> {
        let group = Path::new(group.trim_start_matches('/'));
        let files = self.roots.iter().map(|root| root.join(group).join("memory.events"));
        files.into_iter().find_map(|file| read(&file).map(|count| (file, count)))
    }

    /// A round of the heartbeat: what rose before it belongs to the past.
    pub fn round(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.machine = read(&self.machine).map(|base| Meter { base, used: 0 });
        let used: Vec<PathBuf> = state.of_agent.values().cloned().collect();
        state.groups.retain(|file, _| used.contains(file));
        for (file, meter) in &mut state.groups {
            if let Some(base) = read(file) {
                *meter = Meter { base, used: 0 };
            }
        }
    }

    /// An agent was ended by a KILL that nobody of ours sent: whether it was for want of memory.
    pub fn judge(&self, agent: &Address) -> Option<Oom> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let file = state.of_agent.get(agent).cloned();
        let group = file.and_then(|file| Some((read(&file)?, state.groups.get_mut(&file)?)));
        if let Some((now, meter)) = group {
            // Its own cgroup knows; what happened elsewhere on the machine says nothing more.
            return meter.take(now).then_some(Oom::Certain);
        }
        let now = read(&self.machine)?;
        state.machine.as_mut()?.take(now).then_some(Oom::Likely)
    }
}

/// The counter `oom_kill` of a file of counters.
fn read(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        dir: tempfile::TempDir,
        watch: OomWatch,
    }

    fn agent(name: &str) -> Address {
        name.parse().unwrap()
    }

    fn count(path: &Path, n: u64) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("low 0\nhigh 0\noom_group_kill 7\noom_kill {n}\noom 3\n")).unwrap();
    }

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            count(&dir.path().join("vmstat"), 4);
            count(&dir.path().join("unified/a/b/memory.events"), 1);
            let roots = vec![dir.path().join("cgroup"), dir.path().join("unified")];
            let watch = OomWatch::at(roots, dir.path().join("vmstat"));
            Self { dir, watch }
        }

        fn machine(&self, n: u64) {
            count(&self.dir.path().join("vmstat"), n);
        }

        fn group(&self, n: u64) {
            count(&self.dir.path().join("unified/a/b/memory.events"), n);
        }
    }

    #[test]
    fn a_rise_in_its_own_cgroup_is_certain_and_serves_one_death() {
        let machine = Machine::new();
        let (one, two) = (agent("a/witness"), agent("a/refinery"));
        machine.watch.belongs(&one, Some("/a/b"));
        machine.watch.belongs(&two, Some("/a/b"));
        assert_eq!(machine.watch.judge(&one), None);
        // Somebody else's end on this machine is none of theirs.
        machine.machine(5);
        assert_eq!(machine.watch.judge(&one), None);
        machine.group(2);
        assert_eq!(machine.watch.judge(&two), Some(Oom::Certain));
        assert_eq!(machine.watch.judge(&one), None, "it was used up");
        machine.group(4);
        assert_eq!(machine.watch.judge(&one), Some(Oom::Certain));
        assert_eq!(machine.watch.judge(&two), Some(Oom::Certain));
        machine.group(5);
        machine.watch.round();
        assert_eq!(machine.watch.judge(&one), None, "long ago");
    }

    #[test]
    fn without_a_cgroup_of_its_own_the_machine_makes_it_likely() {
        let machine = Machine::new();
        let one = agent("a/witness");
        machine.watch.belongs(&one, Some("/"));
        assert_eq!(machine.watch.judge(&one), None);
        machine.machine(5);
        assert_eq!(machine.watch.judge(&one), Some(Oom::Likely));
        assert_eq!(machine.watch.judge(&one), None);
        machine.machine(6);
        machine.watch.round();
        assert_eq!(machine.watch.judge(&one), None);
        std::fs::remove_file(machine.dir.path().join("vmstat")).unwrap();
        assert_eq!(machine.watch.judge(&one), None, "what cannot be read says nothing");
        machine.watch.round();
        machine.machine(9);
        assert_eq!(machine.watch.judge(&one), None, "nor does it after that, until the next round");
        machine.watch.round();
        machine.machine(10);
        assert_eq!(machine.watch.judge(&one), Some(Oom::Likely));
    }

    #[test]
    fn a_real_process_and_the_real_machine_are_read() {
        let watch = OomWatch::default();
        let own = crate::process::Pid::new(i32::try_from(std::process::id()).unwrap()).unwrap();
        let own = crate::process::identify(own).alive().unwrap();
        watch.born(&agent("a/witness"), &own);
        assert!(watch.state.lock().unwrap().machine.is_some(), "/proc/vmstat has the counter");
        watch.round();
    }
}
