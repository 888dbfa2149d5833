//! A fresh look at one agent's present instance: its processes, its exit record, its pane, who is attached.
//!
//! Only looks. It changes nothing and remembers nothing.

use std::path::Path;

use gtd_proto::Address;

use super::order::Life;
use super::runtime::{Runtime, Shared};
use crate::process::record::{RecordLook, read_record};
use crate::process::{Observation, ProcessId, observe};

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What was looked at.
    pub what: &'static str,
    /// What was seen, for people.
    pub value: String,
    /// By which means.
    pub source: &'static str,
}

/// What a look at an instance yields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// Everything that was seen.
    pub seen: Vec<Seen>,
    /// Processes of the instance that are proven alive.
    pub alive: Vec<ProcessId>,
}

impl Probe {
    fn process(&mut self, what: &'static str, id: &ProcessId) {
        let value = match observe(id) {
            Observation::Alive(_) => {
                self.alive.push(id.clone());
                format!("pid {} alive, start time as recorded", id.pid)
            }
            Observation::Dead(evidence) => format!("pid {} dead: {evidence}", id.pid),
            Observation::Absent => format!("pid {} is not there", id.pid),
            Observation::Unknown(why) => format!("pid {} cannot be told: {why}", id.pid),
        };
        self.seen.push(Seen { what, value, source: "pidfd and /proc" });
    }

    fn record(&mut self, path: &Path) {
        let value = match read_record(path) {
            RecordLook::Found(record) => {
                let phase = format!("{:?}", record.phase).to_lowercase();
                match record.agent_id() {
                    Some(agent) => format!("{phase}, agent pid {}", agent.pid),
                    None => phase,
                }
            }
            RecordLook::Missing => "there is none".to_owned(),
            RecordLook::Unreadable(why) => format!("cannot be read: {why}"),
            RecordLook::Torn(why) => format!("is damaged: {why}"),
            RecordLook::OtherVersion(v) => format!("is of version {v}, which this gtd does not read"),
        };
        self.seen.push(Seen { what: "exit record", value, source: "file" });
    }
}

impl Shared {
    async fn probe_tmux(&self, life: &Life, probe: &mut Probe) {
        let place = &life.place;
        let value = match self.driver.list().await {
            Ok(listing) if listing.server.process != place.server => {
                "its tmux server is gone; another one answers".to_owned()
            }
            Ok(listing) => match listing.panes.iter().find(|pane| pane.pane.to_string() == place.pane) {
                Some(pane) => {
                    let state = if pane.dead { "dead" } else { "there" };
                    let attached = pane.session_attached;
                    format!("{} of {} {state}, {attached} attached", place.pane, place.session_name)
                }
                None => format!("{} is not there", place.pane),
            },
            Err(error) => format!("cannot be told: {error}"),
        };
        probe.seen.push(Seen { what: "pane", value, source: "tmux listing" });
    }
}

impl Runtime {
    /// Looks at an agent's present instance, or the last one.
    pub async fn probe(&self, agent: &Address) -> Probe {
        let shared = self.shared();
        let mut probe = Probe::default();
        let Some((instance, life)) = shared.life(agent) else { return probe };
        if let Some(life) = &life {
            if let Some(process) = &life.process {
                probe.process("agent process", process);
            }
            probe.process("shim process", &life.shim);
        }
        probe.record(&shared.record_file(&instance));
        if let Some(life) = &life {
            shared.probe_tmux(life, &mut probe).await;
        }
        probe
    }
}
