//! Whether a rig's agents may run: what a person asked for, by the ledger, together with what its state file says.
//!
//! *Parked* is this machine's and goes into the ledger first, then into the file, for older tools; *docked* is the
//! rig's own and is kept in the ledger. What was asked for here ends a rig's witness and refinery; what somebody
//! wrote into the file only bars starts. Neither touches an intent, so that the end of it brings back what was to
//! run. Pure: the file is written by [`super::rig_files`], which says so when it is done.

use gtd_proto::town::Aside;
use gtd_proto::{Address, ErrorKind, RigName, Role, RpcError, Timestamp};
use serde::{Deserialize, Serialize};

use super::planner::{Blocked, Facts, RigFacts, Situation, not_operational};
use crate::town::wisp::{self, Status};
use crate::town::wisp_edit::Edit;
use crate::town::{Known, Reason};

/// What is written of whoever changed the file.
pub(super) const BY_FILE: &str = "state file";

/// What a rig's state file says, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileState {
    /// Whether it can be read.
    pub sight: Sight,
    /// The rig is set aside in it; what it said last when it cannot be read.
    pub status: Option<Status>,
    /// Restarts are off in it; what it said last when it cannot be read.
    pub restarts: Option<Reason>,
}

/// Whether a file can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sight {
    /// There is none, and that is normal.
    #[default]
    Missing,
    /// It is there and was read.
    Good,
    /// It is there and cannot be read.
    Bad,
}

impl FileState {
    /// From a reading of the file.
    #[must_use]
    pub fn of(known: &Known<wisp::State>) -> Self {
        let sight = match known {
            Known::Good(state) if state.present => Sight::Good,
            Known::Good(_) => Sight::Missing,
            Known::Kept { .. } | Known::Unknown { .. } => Sight::Bad,
        };
        let state = known.value();
        Self {
            sight,
            status: state.and_then(|state| state.status),
            restarts: state.and_then(|state| state.restarts),
        }
    }
}

/// Who set something, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Who.
    pub by: String,
    /// In their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl Mark {
    fn shown(&self) -> Aside {
        Aside { by: self.by.clone(), reason: self.reason.clone(), at: self.at }
    }
}

/// What the ledger says of a rig. A rig without a record is as its file says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// It was parked here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Mark>,
    /// It was docked here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docked: Option<Mark>,
    /// It is to be taken out of the registry as soon as nothing of it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing: Option<Mark>,
    /// What the file does not say yet. Until it does, what was asked for counts, and not the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
    /// What was told last.
    #[serde(default)]
    pub told: Told,
    /// Why a file could not be written, while it could not.
    #[serde(skip)]
    pub trouble: Option<String>,
    /// Readings of the file that began before this are older than what we wrote into it.
    #[serde(skip)]
    pub wrote_at: Option<Timestamp>,
    /// The ledger's record is there and cannot be understood.
    #[serde(skip)]
    pub unreadable: bool,
}

/// What was told of a rig: events are the differences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// It is parked, by ledger or file.
    #[serde(default)]
    pub parked: bool,
    /// It is docked, by ledger or file.
    #[serde(default)]
    pub docked: bool,
    /// Why its agents may not be started, the first of several reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<String>,
    /// Since when it is barred for that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// Whether a rig's agents may be started, and who says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Why they may not, the first of several reasons.
    pub barred: Option<String>,
    /// Since when, for that reason.
    pub since: Option<Timestamp>,
    /// It is parked.
    pub parked: Option<Aside>,
    /// It is docked.
    pub docked: Option<Aside>,
    /// It is being removed.
    pub removing: bool,
}

impl Record {
    /// It says nothing that an absent record does not say.
    pub(super) fn is_blank(&self) -> bool {
        *self == Self { wrote_at: self.wrote_at, ..Self::default() }
    }

    /// Why its witness and refinery must not even go on running: somebody asked for it here.
    #[must_use]
    pub fn aside(&self) -> Option<&'static str> {
        match self {
            Self { removing: Some(_), .. } => Some("rig being removed"),
            Self { parked: Some(_), .. } => Some("rig parked"),
            Self { docked: Some(_), .. } => Some("rig docked"),
            _ => None,
        }
    }

    /// Somebody took the word out of the file after it was there: older tools unpark so.
    pub(super) fn obey_file(&mut self, file: FileState) {
        if file.sight == Sight::Good && file.status != Some(Status::Parked) && self.edit.is_none() {
            self.parked = None;
        }
    }

    fn is_parked(&self, file: FileState) -> bool {
        match self.edit {
            Some(Edit::Park) => true,
            Some(Edit::Unpark | Edit::Clear) => false,
            // A file that is gone, or torn, unparks nothing.
            _ => self.parked.is_some() || file.status == Some(Status::Parked),
        }
    }

    fn is_docked(&self, file: FileState) -> bool {
        // What it said of docking was taken over when our own word for it was decided.
        let to_go = self.edit.is_some_and(|edit| edit.takes_out(Status::Docked));
        let by_file = file.status == Some(Status::Docked) && !to_go;
        self.docked.is_some() || by_file
    }

    /// What is to be told of the rig now.
    pub(super) fn tell(&self, file: FileState, now: Timestamp) -> Told {
        let (parked, docked) = (self.is_parked(file), self.is_docked(file));
        let bad = file.sight == Sight::Bad || self.unreadable;
        let reason = match (parked, docked) {
            (true, _) => Some(Reason::Parked),
            (_, true) => Some(Reason::Docked),
            _ if bad => Some(Reason::Unreadable),
            _ => file.restarts,
        };
        let barred = reason.map(|reason| reason.as_str().to_owned());
        let since = match &barred {
            None => None,
            same if *same == self.told.barred => self.told.since.or(Some(now)),
            _ => Some(now),
        };
        Told { parked, docked, barred, since }
    }

    /// The standing that follows from what was told last.
    pub(super) fn standing(&self) -> Standing {
        let told = &self.told;
        let shown = |is: bool, mark: &Option<Mark>| {
            let by_file = || Aside {
                by: BY_FILE.to_owned(),
                reason: None,
                at: told.since.unwrap_or(Timestamp::UNIX_EPOCH),
            };
            is.then(|| mark.as_ref().map_or_else(by_file, Mark::shown))
        };
        Standing {
            barred: told.barred.clone(),
            since: told.since,
            parked: shown(told.parked, &self.parked),
            docked: shown(told.docked, &self.docked),
            removing: self.removing.is_some(),
        }
    }

    pub(super) fn park(&mut self, mark: Mark, file: FileState) {
        // The file has one word for both: what it says of docking must not get lost under ours.
        if self.is_docked(file) && self.docked.is_none() {
            self.docked =
                Some(Mark { by: BY_FILE.to_owned(), reason: None, at: self.told.since.unwrap_or(mark.at) });
        }
        self.parked.get_or_insert(mark);
        self.unreadable = false;
        let says_so = file.sight == Sight::Good && file.status == Some(Status::Parked);
        self.edit = (!says_so || self.edit.is_some()).then_some(Edit::Park);
    }

    pub(super) fn unpark(&mut self, file: FileState) {
        // A torn file that was not known to say so is left to whoever mends it.
        let torn = file.sight == Sight::Bad && self.parked.is_some();
        let written = self.edit == Some(Edit::Park) || file.status == Some(Status::Parked) || torn;
        self.parked = None;
        self.unreadable = false;
        if written {
            // Under a park that may not be there yet there may still be the dock that was lifted meanwhile.
            let lifted = self.edit == Some(Edit::Park) && self.docked.is_none();
            self.edit = Some(if lifted { Edit::Clear } else { Edit::Unpark });
        }
    }

    pub(super) fn dock(&mut self, mark: Mark) {
        self.docked.get_or_insert(mark);
        self.unreadable = false;
        self.edit = match self.edit {
            Some(Edit::Undock) => None,
            Some(Edit::Clear) => Some(Edit::Unpark),
            edit => edit,
        };
    }

    pub(super) fn undock(&mut self, file: FileState) {
        self.docked = None;
        self.unreadable = false;
        self.edit = match self.edit {
            None if file.status == Some(Status::Docked) => Some(Edit::Undock),
            Some(Edit::Unpark) => Some(Edit::Clear),
            edit => edit,
        };
    }

    /// The file says what it should.
    pub(super) fn written(&mut self, edit: Edit, file: &mut FileState, at: Timestamp) {
        if self.edit != Some(edit) {
            return;
        }
        self.edit = None;
        self.wrote_at = Some(at);
        match edit {
            Edit::Park => {
                file.sight = Sight::Good;
                file.status = Some(Status::Parked);
            }
            Edit::Unpark | Edit::Undock | Edit::Clear => {
                file.status = file.status.filter(|status| !edit.takes_out(*status));
            }
        }
    }
}

impl Situation<'_> {
    /// Why a rig's witness or refinery must not go on running: what was asked for, not what is in a file.
    pub(super) fn aside(&self, agent: &Address) -> Option<&'static str> {
        self.record_of(agent)?.aside()
    }

    /// Who asked for that.
    pub(super) fn aside_by(&self, agent: &Address) -> Option<&str> {
        let record = self.record_of(agent)?;
        let mark = record.removing.as_ref().or(record.parked.as_ref()).or(record.docked.as_ref())?;
        Some(&mark.by)
    }

    fn record_of(&self, agent: &Address) -> Option<&Record> {
        let standing = matches!(agent.role(), Role::Witness | Role::Refinery);
        agent.rig().filter(|_| standing).and_then(|rig| self.rigs.get(rig))
    }
}

/// Why an agent of a rig may not be started, if it may not.
pub(super) fn barred(
    agent: &Address,
    rig: &RigName,
    facts: &RigFacts,
    record: Option<&Record>,
) -> Option<Blocked> {
    if record.is_some_and(|record| record.removing.is_some()) {
        let why = "rig being removed";
        let error =
            RpcError::new(ErrorKind::Busy, format!("{agent} may not be started: rig {rig} is being removed"))
                .hint(format!("gtctl rig status {rig}"));
        return Some(Blocked { reason: why.to_owned(), error, shortage: None });
    }
    let why = facts.standing.barred.as_deref()?;
    Some(not_operational(agent, why, &format!("rig {why}"), &way_back(rig, why)))
}

/// The command that undoes a bar, or shows what else would.
#[must_use]
pub fn way_back(rig: &RigName, why: &str) -> String {
    match why {
        "parked" => format!("gtctl rig unpark {rig}"),
        "docked" => format!("gtctl rig undock {rig}"),
        _ => format!("gtctl rig status {rig}"),
    }
}

/// The error about a rig that the registry does not have.
#[must_use]
pub fn unknown_rig(rig: &RigName, facts: &Facts) -> RpcError {
    let known: Vec<&str> = facts.rigs.keys().map(RigName::as_str).collect();
    RpcError::new(ErrorKind::RigNotFound, format!("no rig {:?} is registered", rig.as_str()))
        .hint("gtctl rig list")
        .with("known", known)
}

#[cfg(test)]
#[path = "rigs_tests.rs"]
mod tests;
