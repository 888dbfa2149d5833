//! Whose a session is: by the processes that were recorded in its panes, never by its name.
//!
//! Pure but for the handle that shows the agents. A person's own panes in an agent's session carry its marks, so
//! that marks alone make nothing ours.

use std::collections::BTreeMap;

use gtd_proto::{Address, InstanceId, Intent, Timestamp};

use super::{Handle, process_id};
use crate::ledger::InstanceRow;
use crate::process::attribution::Snapshot;
use crate::process::{Pid, ProcessId};
use crate::tmux::{Listing, Pane};

/// What is to be thought of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionVerdict {
    /// An agent of ours runs in it, or will again.
    Agent,
    /// A person's workspace.
    Crew,
    /// It has our mark, all its panes are dead, and no agent knows its instance.
    Orphan,
    /// The agent it belongs to is known and dead, and nothing will be started in it.
    Zombie,
    /// It has our mark, something lives in it, and nothing on record says that it is ours.
    Unproved,
    /// It is called like an agent's and has no mark.
    NotOurs,
    /// It has the mark of another town.
    OtherTown,
    /// It has nothing to do with us.
    Foreign,
}

impl SessionVerdict {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Crew => "crew",
            Self::Orphan => "orphan",
            Self::Zombie => "zombie",
            Self::Unproved => "unproved",
            Self::NotOurs => "not_ours",
            Self::OtherTown => "other_town",
            Self::Foreign => "foreign",
        }
    }
}

/// A session, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenSession {
    /// Its id.
    pub session: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Its windows.
    pub windows: u32,
    /// When something last happened in it.
    pub last_activity: Option<Timestamp>,
    /// Somebody looks at it.
    pub attached: bool,
    /// Its panes: id, process, whether that has ended.
    pub panes: Vec<(String, Option<Pid>, bool)>,
    /// What is to be thought of it.
    pub verdict: SessionVerdict,
    /// Why, in a sentence.
    pub reason: String,
    /// The agent it belongs to, or says it does.
    pub agent: Option<Address>,
    /// The instance that its marks name.
    pub instance: Option<InstanceId>,
    /// What proves that it is ours.
    pub proof: Option<String>,
}

/// What is known of the agents, as far as sessions are concerned.
#[derive(Default)]
struct Known {
    /// Agents by the pane that they run in or will be started in again.
    panes: BTreeMap<String, Address>,
    /// Agents that are there, with whether something of them runs or will.
    agents: BTreeMap<Address, bool>,
    /// Registered rigs and their people.
    crew: Vec<(String, String)>,
    /// Recorded shims of all instances of this boot.
    shims: BTreeMap<ProcessId, (Address, InstanceId)>,
    instances: BTreeMap<InstanceId, bool>,
    town: String,
}

impl Handle {
    pub(super) fn judge_sessions(
        &self,
        listing: &Listing,
        rows: &[InstanceRow],
        snapshot: &Snapshot,
    ) -> Vec<SeenSession> {
        let mut known = Known { town: self.runtime().shared().town_id.clone(), ..Known::default() };
        self.view().read(|shown| {
            for (agent, pane) in &shown.panes {
                known.panes.insert(pane.clone(), agent.clone());
            }
            for agent in shown.agents.values() {
                if let Some(pane) = &agent.pane {
                    known.panes.insert(pane.clone(), agent.agent.clone());
                }
                // Who pauses an agent wants it left as it is; it comes back in this very pane.
                let wanted = agent.running
                    || agent.state != gtd_proto::State::Stopped
                    || matches!(agent.intent, Intent::Paused | Intent::Unknown);
                known.agents.insert(agent.agent.clone(), wanted);
            }
            for (rig, facts) in &shown.facts.rigs {
                known.crew.extend(facts.crew.iter().map(|name| (rig.to_string(), name.clone())));
            }
        });
        for row in rows {
            known.instances.insert(row.instance.clone(), !row.ended);
            if let Some(shim) = row.shim.as_ref().and_then(process_id) {
                known.shims.insert(shim, (row.agent.clone(), row.instance.clone()));
            }
        }
        let alive = |pid: Pid| snapshot.table.at_pid(pid).map(|stat| snapshot.table.id_of(stat));
        judge(listing, &known, alive)
    }
}

fn judge(listing: &Listing, known: &Known, alive: impl Fn(Pid) -> Option<ProcessId>) -> Vec<SeenSession> {
    let mut by_session: BTreeMap<String, Vec<&Pane>> = BTreeMap::new();
    for pane in &listing.panes {
        by_session.entry(pane.session.to_string()).or_default().push(pane);
    }
    let mut found: Vec<SeenSession> =
        by_session.into_iter().filter_map(|(session, panes)| one(session, &panes, known, &alive)).collect();
    found.sort_by(|a, b| (&a.name, &a.session).cmp(&(&b.name, &b.session)));
    found
}

fn one(
    session: String,
    panes: &[&Pane],
    known: &Known,
    alive: &impl Fn(Pid) -> Option<ProcessId>,
) -> Option<SeenSession> {
    let first = panes.first()?;
    let option = |name: &str| panes.iter().find_map(|pane| pane.options.get(name));
    let town = option("@gt_town");
    let agent: Option<Address> = option("@gt_agent").and_then(|text| text.parse().ok());
    let instance: Option<InstanceId> = option("@gt_instance").and_then(|text| text.parse().ok());
    let recorded = panes.iter().filter(|pane| !pane.dead).find_map(|pane| {
        let id = alive(pane.pane_pid?)?;
        known.shims.get(&id).map(|(agent, instance)| (pane.pane.to_string(), id, agent, instance))
    });
    let kept = panes.iter().find_map(|pane| known.panes.get(&pane.pane.to_string()));
    let all_dead = panes.iter().all(|pane| pane.dead);
    let ours = town.is_some_and(|town| *town == known.town);
    let name = first.session_name.clone();
    let mut proof = None;
    let (verdict, reason) = if let Some((pane, id, of, _)) = &recorded {
        proof = Some(format!("pane {pane} runs process {id}, which is on record for {of}"));
        (SessionVerdict::Agent, format!("it is the session of {of}"))
    } else if let Some(crew) = crew_of(&name, agent.as_ref(), known) {
        (SessionVerdict::Crew, format!("it is {crew}'s workspace, and protected"))
    } else if let Some(of) = kept.filter(|of| ours && known.agents.get(*of) != Some(&false)) {
        proof = Some(format!("it has the pane that {of} ran in last"));
        (SessionVerdict::Agent, format!("it is the session of {of}"))
    } else if let Some(of) = kept.filter(|_| ours && all_dead) {
        (SessionVerdict::Zombie, format!("tmux has it, and {of} is dead and stays so"))
    } else {
        by_marks(town, ours, all_dead, agent.as_ref(), instance.as_ref(), &name, known)
    };
    let instant = |seconds: u64| i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    Some(SeenSession {
        session,
        name,
        created_at: instant(first.session_created),
        windows: first.session_windows,
        last_activity: instant(first.session_activity),
        attached: first.session_attached > 0,
        panes: panes.iter().map(|pane| (pane.pane.to_string(), pane.pane_pid, pane.dead)).collect(),
        verdict,
        reason,
        agent: recorded
            .as_ref()
            .map(|(_, _, of, _)| (*of).clone())
            .or_else(|| kept.filter(|_| ours).cloned())
            .or(agent),
        instance,
        proof,
    })
}

fn by_marks(
    town: Option<&String>,
    ours: bool,
    all_dead: bool,
    agent: Option<&Address>,
    instance: Option<&InstanceId>,
    name: &str,
    known: &Known,
) -> (SessionVerdict, String) {
    let who = agent.map_or_else(|| "nobody".to_owned(), ToString::to_string);
    let open = instance.and_then(|instance| known.instances.get(instance)).copied();
    match town {
        Some(other) if !ours => (SessionVerdict::OtherTown, format!("its mark names town {other}")),
        Some(_) if open == Some(true) => {
            (SessionVerdict::Agent, format!("its mark names an instance of {who} that is under way"))
        }
        Some(_) if all_dead => (
            SessionVerdict::Orphan,
            format!("its mark names {who}, all in it is dead, and no agent will be started in it"),
        ),
        Some(_) => {
            let why = format!("its mark names {who}, and what runs in it is not on record");
            (SessionVerdict::Unproved, why)
        }
        None if name.starts_with("gt-") || name.starts_with("hq-") => {
            (SessionVerdict::NotOurs, "it is called like an agent's and has no mark of ours".to_owned())
        }
        None => (SessionVerdict::Foreign, "it has no mark of ours".to_owned()),
    }
}

/// The member of a crew whose session this is: by the mark, or by the name for those who are registered. A mistake
/// here protects.
fn crew_of(name: &str, agent: Option<&Address>, known: &Known) -> Option<String> {
    if let Some(agent @ Address::Crew(..)) = agent {
        return Some(agent.to_string());
    }
    let crew = known.crew.iter().find(|(rig, member)| name == format!("gt-{rig}-crew-{member}"));
    crew.map(|(rig, member)| format!("{rig}/crew/{member}"))
        .or_else(|| (name.starts_with("gt-") && name.contains("-crew-")).then(|| "a person".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{BootId, StartTime};
    use crate::tmux::ServerId;
    use std::path::PathBuf;

    const INSTANCE: &str = "018f3b5e-7a3c-7b1e-8b1a-0123456789ab";

    fn id(pid: i32, start: u64) -> ProcessId {
        ProcessId { boot: BootId::new("b"), pid: Pid::new(pid).unwrap(), start: StartTime::new(start) }
    }

    fn pane(session: &str, name: &str, number: u32, pid: i32, dead: bool, marks: &[(&str, &str)]) -> Pane {
        Pane {
            session: session.parse().unwrap(),
            session_name: name.into(),
            session_created: 1,
            session_activity: 1,
            session_attached: 0,
            session_windows: 1,
            window_activity: 1,
            window: "@1".parse().unwrap(),
            pane: format!("%{number}").parse().unwrap(),
            pane_pid: Pid::new(pid),
            dead,
            in_mode: false,
            current_command: String::new(),
            current_path: PathBuf::new(),
            title: String::new(),
            options: marks.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn known() -> Known {
        let witness: Address = "my-rig/witness".parse().unwrap();
        Known {
            panes: [("%1".to_owned(), witness.clone()), ("%9".to_owned(), "a/witness".parse().unwrap())]
                .into(),
            agents: [(witness.clone(), true), ("a/witness".parse().unwrap(), false)].into(),
            crew: vec![("my-rig".to_owned(), "joe".to_owned())],
            shims: [(id(10, 10), (witness, InstanceId::new(INSTANCE).unwrap()))].into(),
            instances: BTreeMap::new(),
            town: "t".to_owned(),
        }
    }

    fn verdict(panes: Vec<Pane>, start: u64) -> (SessionVerdict, String) {
        let server = ServerId { socket: "/s".into(), process: id(5, 1) };
        let listing = Listing { server, panes };
        let found = judge(&listing, &known(), |pid| {
            Some(ProcessId { start: StartTime::new(start), ..id(pid.get(), 0) })
        });
        (found[0].verdict, found[0].reason.clone())
    }

    #[test]
    fn sessions_are_judged_by_what_is_on_record() {
        use SessionVerdict as V;
        let ours = [("@gt_town", "t"), ("@gt_agent", "my-rig/witness")];
        let gone = [("@gt_town", "t"), ("@gt_agent", "old/witness")];
        let crew = [("@gt_agent", "my-rig/crew/joe")];
        type Case<'a> = (&'a str, &'a str, u32, i32, bool, &'a [(&'a str, &'a str)], u64, V);
        let cases: [Case<'_>; 12] = [
            ("$1", "gt-my-rig-witness", 1, 10, false, &ours, 10, V::Agent),
            // Renamed by hand: what is on record counts.
            ("$1", "anything", 1, 10, false, &ours, 10, V::Agent),
            // The number was given away: marks alone, in a pane that we do not know.
            ("$1", "gt-my-rig-witness", 7, 10, false, &ours, 11, V::Unproved),
            ("$1", "gt-my-rig-witness", 1, 10, true, &ours, 10, V::Agent),
            ("$1", "gt-old-witness", 7, 70, true, &gone, 1, V::Orphan),
            ("$1", "gt-old-witness", 7, 70, false, &gone, 1, V::Unproved),
            ("$1", "gt-a-witness", 9, 70, true, &[("@gt_town", "t")], 1, V::Zombie),
            ("$1", "gt-my-rig-crew-joe", 7, 70, false, &[], 1, V::Crew),
            ("$1", "gt-unknown-crew-ann", 7, 70, true, &gone, 1, V::Crew),
            ("$1", "joe", 7, 70, false, &crew, 1, V::Crew),
            ("$1", "gt-notours-x", 7, 70, false, &[], 1, V::NotOurs),
            ("$1", "gt-a-witness", 7, 70, false, &[("@gt_town", "t2")], 1, V::OtherTown),
        ];
        for (session, name, number, pid, dead, marks, start, expected) in cases {
            let (found, reason) = verdict(vec![pane(session, name, number, pid, dead, marks)], start);
            assert_eq!(found, expected, "{name} {number} {dead}: {reason}");
        }
        assert_eq!(verdict(vec![pane("$1", "vim", 7, 70, false, &[])], 1).0, V::Foreign);
        // A person's living pane beside the dead one: nothing is over.
        let both = vec![
            pane("$1", "gt-old-witness", 7, 70, true, &gone),
            pane("$1", "gt-old-witness", 8, 71, false, &gone),
        ];
        assert_eq!(verdict(both, 1).0, V::Unproved);
    }
}
