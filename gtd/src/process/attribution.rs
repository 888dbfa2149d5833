//! Whose a process is: every process of a machine judged by what is on record.
//!
//! Owns the verdicts, which are a pure function of a [`Snapshot`] and of the instances on record, for whoever
//! looks for what was left behind. It must never call a process ours for its name, its directory or its marker,
//! and never anything that lies below a tmux server, is one, or carries ourselves. It signals nobody.

mod likeness;
mod shelter;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use super::capture::Capture;
use super::facts::Marker;
use super::id::{Pid, ProcessId};
use super::observe::Observation;
use super::signal::Proof;
use super::stat::Stat;
use super::table::ProcessTable;

pub use likeness::{Likeness, likeness};
pub use shelter::Shelter;
pub use snapshot::{Facts, Recollection, Snapshot};

/// Parents that are shown of one process.
const PARENTS: usize = 16;

/// One instance of an agent, as far as it is on record.
#[derive(Clone, Debug)]
pub struct OnRecord {
    /// Which instance.
    pub instance: String,
    /// The address of its agent, for people.
    pub agent: String,
    /// Somebody still tends it: nothing of it is left over.
    pub live: bool,
    /// Its recorded processes, and what was seen to belong to them.
    pub capture: Capture,
}

/// What is known of the ground we stand on.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// Id of our town, as markers name it.
    pub town: String,
    /// Processes of panes that are not an agent's of ours.
    pub panes: HashSet<ProcessId>,
}

/// What is to be thought of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Proven to belong to an instance that is over: ours to end.
    Orphan,
    /// It looks like ours, and nothing proves it: to be reported, never signalled.
    Unproved,
    /// It would be a candidate, but for where it stands: a tmux server, below one, or below us.
    Protected,
    /// Its marker names another town.
    OtherTown,
    /// A coding agent inside a desktop program or an editor.
    Helper,
    /// A coding agent that nothing connects with us.
    NotOurs,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::Unproved => "unproved",
            Self::Protected => "protected",
            Self::OtherTown => "other_town",
            Self::Helper => "helper",
            Self::NotOurs => "not_ours",
        }
    }
}

/// A process about which there is something to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Which process.
    pub id: ProcessId,
    /// What it calls itself.
    pub comm: String,
    /// Its parent, unless that is process 1 or unknown.
    pub parent: Option<Pid>,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// It has a terminal.
    pub tty: bool,
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub reason: String,
    /// The agent it belongs to, or seems to.
    pub agent: Option<String>,
    /// The instance it belongs to, or seems to.
    pub instance: Option<String>,
    /// Why it is ours; only of an [`Verdict::Orphan`].
    pub proof: Option<Proof>,
    /// What its environment says.
    pub marker: Option<Marker>,
    /// Its parents, nearest first: number and name.
    pub ancestry: Vec<(Pid, String)>,
    /// Its directory, where it could be read.
    pub cwd: Option<PathBuf>,
    /// The words it was started with, as text.
    pub arguments: Vec<String>,
    /// How long ago it began.
    pub age: Duration,
}

/// What a look at all processes came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attribution {
    /// Processes looked at.
    pub looked: usize,
    /// Those that belong to living instances.
    pub live: usize,
    /// Those about which there is something to say, by verdict and number.
    pub items: Vec<Judged>,
}

impl Attribution {
    /// Those of one verdict.
    pub fn of(&self, verdict: Verdict) -> impl Iterator<Item = &Judged> {
        self.items.iter().filter(move |item| item.verdict == verdict)
    }
}

/// Judges every process of the snapshot. Pure.
#[must_use]
pub fn attribute(snapshot: &Snapshot, on_record: &[OnRecord], ground: &Ground) -> Attribution {
    let table = &snapshot.table;
    let holdings = Holdings::of(snapshot, on_record);
    let shelter = Shelter::of(table, &snapshot.servers);
    let mut found = Attribution { looked: table.len(), ..Attribution::default() };
    for stat in table.iter().filter(|stat| !stat.is_gone()) {
        let id = table.id_of(stat);
        if holdings.live.contains(&id) {
            found.live += 1;
            continue;
        }
        if let Some((verdict, reason, claim)) = judge(&id, stat, snapshot, &holdings, &shelter, ground) {
            found.items.push(told(id, stat, snapshot, verdict, reason, claim));
        }
    }
    found.items.sort_by(|a, b| (a.verdict, &a.id).cmp(&(b.verdict, &b.id)));
    found
}

/// What is known of the instances, by process.
#[derive(Default)]
struct Holdings<'a> {
    live: HashSet<ProcessId>,
    over: BTreeMap<ProcessId, (&'a OnRecord, Proof)>,
    doubtful: BTreeMap<ProcessId, (&'a OnRecord, String)>,
    by_instance: BTreeMap<&'a str, &'a OnRecord>,
}

impl<'a> Holdings<'a> {
    fn of(snapshot: &Snapshot, on_record: &'a [OnRecord]) -> Self {
        let table = &snapshot.table;
        let look = Recollection(snapshot);
        let mut all = Self::default();
        for one in on_record {
            all.by_instance.insert(&one.instance, one);
            if !one.live && !one.capture.may_have_left(table) {
                continue;
            }
            let mut capture = one.capture.clone();
            capture.merge(table, &look);
            let holding = capture.proven(table, &look);
            if one.live {
                all.live.extend(holding.targets.into_iter().map(|target| target.id().clone()));
                all.live.extend(holding.spared.into_iter().map(|(id, _)| id));
            } else {
                let proven = holding.targets.into_iter();
                all.over.extend(proven.map(|target| (target.id().clone(), (one, target.proof().clone()))));
            }
            all.doubtful.extend(holding.unproven.into_iter().map(|(id, why)| (id, (one, why))));
        }
        all
    }
}

/// Of which instance it is, or seems to be.
#[derive(Default)]
struct Claim<'a> {
    of: Option<&'a OnRecord>,
    instance: Option<String>,
    proof: Option<Proof>,
}

fn judge<'a>(
    id: &ProcessId,
    stat: &Stat,
    snapshot: &Snapshot,
    holdings: &Holdings<'a>,
    shelter: &Shelter,
    ground: &Ground,
) -> Option<(Verdict, String, Claim<'a>)> {
    let facts = snapshot.facts.get(&id.pid);
    let protected = shelter.why(id, stat, &snapshot.own).or_else(|| {
        ground
            .panes
            .contains(id)
            .then(|| "it is the process of a pane that is not an agent's of ours".to_owned())
    });
    if let Some((one, proof)) = holdings.over.get(id) {
        let claim = Claim { of: Some(one), proof: Some(proof.clone()), ..Claim::default() };
        return Some(match protected {
            Some(why) => (
                Verdict::Protected,
                format!(
                    "it is on record for instance {} of {}, which is over, but {why}",
                    one.instance, one.agent
                ),
                Claim { proof: None, ..claim },
            ),
            None => (
                Verdict::Orphan,
                format!("{}; that instance of {} is over", in_words(proof), one.agent),
                claim,
            ),
        });
    }
    let marker = facts.and_then(|facts| facts.marker.as_ref());
    // What stands below a tmux server is somebody's, whoever that is: only what was started by hand with a mark of
    // ours, outside of any, is worth a word.
    if let Some(why) = protected {
        let marker = marker.filter(|_| !shelter.is_below(id.pid))?;
        let of = marker.instance.as_deref().and_then(|name| holdings.by_instance.get(name)).copied();
        let claim = Claim { of, instance: marker.instance.clone(), proof: None };
        return Some((Verdict::Protected, format!("it carries a marker, but {why}"), claim));
    }
    if let Some((one, why)) = holdings.doubtful.get(id) {
        return Some((Verdict::Unproved, why.clone(), Claim { of: Some(one), ..Claim::default() }));
    }
    if let Some(marker) = marker {
        return by_marker(id, marker, holdings, ground);
    }
    let likeness = facts.and_then(|facts| facts.likeness.clone())?;
    Some(match likeness.inside.or_else(|| inside(id, snapshot)) {
        Some(inside) => (Verdict::Helper, format!("{} inside {inside}", likeness.agent), Claim::default()),
        None => (
            Verdict::NotOurs,
            format!("{} that is on record nowhere and carries no marker", likeness.agent),
            Claim::default(),
        ),
    })
}

/// A marker alone: whoever was started by an agent has it, and anybody may set it.
fn by_marker<'a>(
    id: &ProcessId,
    marker: &Marker,
    holdings: &Holdings<'a>,
    ground: &Ground,
) -> Option<(Verdict, String, Claim<'a>)> {
    let claim = Claim { instance: marker.instance.clone(), ..Claim::default() };
    match &marker.town {
        Some(town) if *town == ground.town => {}
        Some(town) => {
            return Some((
                Verdict::OtherTown,
                format!("its marker names town {town}, which is not this one"),
                claim,
            ));
        }
        None => {
            let why = "its marker names an instance and no town; a marker alone proves nothing".to_owned();
            return Some((Verdict::Unproved, why, claim));
        }
    }
    let of = marker.instance.as_deref().and_then(|name| holdings.by_instance.get(name)).copied();
    let named = marker.instance.as_deref().unwrap_or("no instance");
    let why = match of {
        None => format!("its marker names {named}, which is not on record"),
        Some(one) if one.capture.oldest().is_some_and(|began| id.start < began.start) => {
            format!("its marker names instance {named} of {}, but it is older than that instance", one.agent)
        }
        Some(one) if one.live => {
            format!(
                "its marker names instance {named} of {}, which runs, and it does not descend from it",
                one.agent
            )
        }
        Some(one) => format!("only its marker says that it is of instance {named} of {}", one.agent),
    };
    Some((Verdict::Unproved, why, Claim { of, ..claim }))
}

/// The desktop program or editor among its parents.
fn inside(id: &ProcessId, snapshot: &Snapshot) -> Option<String> {
    let ancestry = snapshot.table.ancestors(id.pid)?;
    let mut parents = ancestry.chain.iter().filter_map(|parent| snapshot.table.alive(parent));
    parents.find_map(|parent| likeness::editor(&parent.comm))
}

/// A proof in a few words.
#[must_use]
pub fn in_words(proof: &Proof) -> String {
    match proof {
        Proof::Recorded => "it was recorded when it was started".to_owned(),
        Proof::Descendant { ancestor, captured_at } => {
            format!("it was seen below {ancestor} at {captured_at:.0}")
        }
        Proof::Group { leader } => format!("it is in the group of recorded process {leader}"),
        Proof::Session { leader } => format!("it is in the session of recorded process {leader}"),
        Proof::Cgroup { path } => format!("it is in the recorded cgroup {path}"),
        Proof::Server { socket } => format!("it is the tmux server of {socket}"),
    }
}

fn told(
    id: ProcessId,
    stat: &Stat,
    snapshot: &Snapshot,
    verdict: Verdict,
    reason: String,
    claim: Claim<'_>,
) -> Judged {
    let table: &ProcessTable = &snapshot.table;
    let facts = snapshot.facts.get(&id.pid);
    let chain = table.ancestors(id.pid).map(|ancestry| ancestry.chain).unwrap_or_default();
    let parents = chain.iter().take(PARENTS).filter_map(|parent| table.present(parent));
    Judged {
        comm: stat.comm.clone(),
        parent: stat.parent,
        group: stat.group,
        session: stat.session,
        tty: stat.tty != 0,
        verdict,
        reason,
        agent: claim.of.map(|one| one.agent.clone()),
        instance: claim.of.map(|one| one.instance.clone()).or(claim.instance),
        proof: claim.proof,
        marker: facts.and_then(|facts| facts.marker.clone()),
        ancestry: parents.map(|parent| (parent.pid, parent.comm.clone())).collect(),
        cwd: facts.and_then(|facts| facts.cwd.clone()),
        arguments: facts.map(|facts| facts.arguments.clone()).unwrap_or_default(),
        age: snapshot.age(stat),
        id,
    }
}

/// The marker of a process as far as the snapshot has it.
pub(super) fn remembered(snapshot: &Snapshot, id: &ProcessId) -> Observation<Marker> {
    match snapshot.facts.get(&id.pid).filter(|_| snapshot.table.present(id).is_some()) {
        Some(Facts { marker: Some(marker), .. }) => Observation::Alive(marker.clone()),
        Some(Facts { unread: Some(why), .. }) => Observation::Unknown(why.clone()),
        Some(_) => Observation::Absent,
        None if snapshot.looked_into.contains(&id.pid) => Observation::Absent,
        None => Observation::Unknown("its environment was not looked at".to_owned()),
    }
}
