//! The table of methods and classes of callers: who may call what, about whom.
//!
//! Data and pure functions only. People may do everything and what only looks is everybody's, so the cells are
//! those of agents. What has no row is a person's. The README's table is written from here.

use gtd_proto::{Address, RigName};
use serde_json::{Map, Value};

/// The classes of agents that have a column. People may do everything, the unknown may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// The mayor.
    Mayor,
    /// The deacon.
    Deacon,
    /// A rig's witness.
    Witness,
    /// A rig's refinery.
    Refinery,
    /// A worker.
    Polecat,
    /// The deacon's helper.
    Boot,
}

impl Column {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 6] =
        [Self::Mayor, Self::Deacon, Self::Witness, Self::Refinery, Self::Polecat, Self::Boot];

    /// The column of an agent; none for a crew's, which acts for its person.
    #[must_use]
    pub fn of(agent: &Address) -> Option<Self> {
        match agent {
            Address::Mayor => Some(Self::Mayor),
            Address::Deacon => Some(Self::Deacon),
            Address::Boot => Some(Self::Boot),
            Address::Witness(_) => Some(Self::Witness),
            Address::Refinery(_) => Some(Self::Refinery),
            Address::Polecat(..) => Some(Self::Polecat),
            Address::Crew(..) => None,
        }
    }
}

/// About whom a caller may ask for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// About anybody.
    Any,
    /// About itself.
    Itself,
    /// About workers of every rig.
    Polecats,
    /// About workers of its own rig.
    OwnPolecats,
    /// About everybody in its own rig.
    OwnRig,
    /// About witnesses and refineries.
    Patrols,
    /// About the deacon.
    Deacon,
}

impl Scope {
    /// Whether what is asked for is within it.
    #[must_use]
    pub fn covers(self, caller: &Address, target: &Target) -> bool {
        let own_rig = |rig: &RigName| caller.rig() == Some(rig);
        match (self, target) {
            (Self::Any, _) => true,
            (_, Target::Nothing | Target::Unclear) => false,
            (Self::Itself, Target::Agent(agent)) => agent == caller,
            (Self::Polecats, Target::Agent(agent)) => matches!(agent, Address::Polecat(..)),
            (Self::Polecats, Target::PolecatsOf(_)) => true,
            (Self::OwnPolecats, Target::Agent(Address::Polecat(rig, _)) | Target::PolecatsOf(rig)) => {
                own_rig(rig)
            }
            (Self::OwnRig, Target::Agent(agent)) => agent.rig().is_some_and(own_rig),
            (Self::OwnRig, Target::Rig(rig) | Target::PolecatsOf(rig)) => own_rig(rig),
            (Self::Patrols, Target::Agent(agent)) => {
                matches!(agent, Address::Witness(_) | Address::Refinery(_))
            }
            (Self::Deacon, Target::Agent(agent)) => *agent == Address::Deacon,
            _ => false,
        }
    }

    /// In words, for tables and refusals.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Itself => "itself",
            Self::Polecats => "polecats",
            Self::OwnPolecats => "polecats of its rig",
            Self::OwnRig => "its rig",
            Self::Patrols => "witnesses, refineries",
            Self::Deacon => "the deacon",
        }
    }
}

/// Whom a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nobody in particular, or the whole town.
    Nothing,
    /// A rig.
    Rig(RigName),
    /// All workers of a rig.
    PolecatsOf(RigName),
    /// One agent.
    Agent(Address),
    /// Its parameters do not say: no scope but `any` covers it.
    Unclear,
}

/// Where a method's parameters say whom it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Nowhere.
    Nothing,
    /// `rig`, and it is the rig.
    Rig,
    /// `rig`, and it is all its workers.
    PolecatsOf,
    /// `rig`, and it is that rig's witness.
    Witness,
    /// `rig`, and it is that rig's refinery.
    Refinery,
    /// Always the mayor.
    Mayor,
    /// Always the deacon.
    Deacon,
    /// `agent`
    Agent,
    /// `instance`, which is looked up; `agent` where nobody has it.
    Instance,
    /// `id`: the one whose item it is, which is looked up.
    Item,
}

impl Aim {
    /// Whom a request with these parameters is about. `by_instance` is the agent whose present instance is
    /// named, where it was looked up.
    #[must_use]
    pub fn target(self, params: &Map<String, Value>, by_instance: Option<&Address>) -> Target {
        let text = |field: &str| params.get(field).and_then(Value::as_str);
        let rig = || text("rig").and_then(|rig| rig.parse::<RigName>().ok());
        let agent = |found: Option<Address>| found.map_or(Target::Unclear, Target::Agent);
        match self {
            Self::Nothing => Target::Nothing,
            Self::Rig => rig().map_or(Target::Unclear, Target::Rig),
            Self::PolecatsOf => rig().map_or(Target::Unclear, Target::PolecatsOf),
            Self::Witness => agent(rig().map(Address::Witness)),
            Self::Refinery => agent(rig().map(Address::Refinery)),
            Self::Mayor => Target::Agent(Address::Mayor),
            Self::Deacon => Target::Agent(Address::Deacon),
            Self::Agent => agent(text("agent").and_then(|text| text.parse().ok())),
            Self::Instance => {
                agent(by_instance.cloned().or_else(|| text("agent").and_then(|text| text.parse().ok())))
            }
            Self::Item => agent(by_instance.cloned()),
        }
    }
}

/// Whether a method only looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// It does: everybody may call it.
    Always,
    /// It does unless this parameter is given and not false.
    Unless(&'static str),
    /// It changes something.
    No,
}

/// One method.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name.
    pub method: &'static str,
    /// Whether it only looks.
    pub reads: Reads,
    /// Whom it is about.
    pub aim: Aim,
    /// What agents may ask for: about whom, by class. What is not here, they may not.
    pub cells: &'static [(Column, &'static [Scope])],
}

impl Row {
    /// The scopes of a class.
    #[must_use]
    pub fn scopes(&self, column: Column) -> &'static [Scope] {
        self.cells.iter().find(|(of, _)| *of == column).map_or(&[], |(_, scopes)| scopes)
    }
}

macro_rules! rows {
    (@reads) => { Reads::No };
    (@reads $reads:ident) => { Reads::Always };
    (@reads $reads:ident $field:literal) => { Reads::Unless($field) };
    (@aim) => { Aim::Nothing };
    (@aim $aim:ident) => { Aim::$aim };
    ($($name:literal $($reads:ident)? $(($field:literal))? $(=> $aim:ident)? $(: $($column:ident may $($scope:ident)+),+)?;)*) => {
        &[$(Row {
            method: $name,
            reads: rows!(@reads $($reads)? $($field)?),
            aim: rows!(@aim $($aim)?),
            cells: &[$($((Column::$column, &[$(Scope::$scope),+])),+)?],
        }),*]
    };
}

/// All methods of the interface, those included that are not built yet.
pub const ROWS: &[Row] = rows! {
    "daemon.hello" reads;
    "daemon.status" reads;
    "daemon.heartbeat";
    "daemon.heartbeats" reads;
    "daemon.reload";
    "daemon.config" reads;
    "daemon.log_level";
    "daemon.shutdown";
    "town.status" reads;
    "town.stop";
    "town.start";
    "town.pause" => Rig;
    "town.resume" => Rig;
    "rig.list" reads;
    "rig.status" reads => Rig;
    "rig.add";
    "rig.remove" => Rig;
    "rig.park" => Rig;
    "rig.unpark" => Rig;
    "rig.dock" => Rig;
    "rig.undock" => Rig;
    "witness.start" => Witness;
    "witness.stop" => Witness;
    "witness.restart" => Witness: Deacon may Patrols;
    "witness.status" reads => Witness;
    "refinery.start" => Refinery;
    "refinery.stop" => Refinery;
    "refinery.restart" => Refinery: Deacon may Patrols;
    "refinery.status" reads => Refinery;
    "deacon.start" => Deacon;
    "deacon.stop" => Deacon;
    "deacon.restart" => Deacon;
    "deacon.status" reads => Deacon;
    "mayor.start" => Mayor;
    "mayor.stop" => Mayor;
    "mayor.restart" => Mayor;
    "mayor.status" reads => Mayor;
    "boot.triage";
    "boot.status" reads;
    "polecat.list" reads;
    "polecat.status" reads => Agent;
    "polecat.spawn" => PolecatsOf: Mayor may Any;
    "polecat.start" => Agent: Mayor may Polecats, Witness may OwnPolecats;
    "polecat.stop" => Agent: Mayor may Polecats, Witness may OwnPolecats;
    "polecat.stop_all" => PolecatsOf: Mayor may Polecats, Witness may OwnPolecats;
    "polecat.restart" => Agent: Mayor may Polecats, Witness may OwnPolecats;
    "polecat.capture" reads => Agent;
    "polecat.inject" => Agent;
    "polecat.remove" => Agent: Witness may OwnPolecats;
    "crew.list" reads;
    "agent.list" reads;
    "agent.capture" reads => Agent;
    "agent.explain" reads => Agent;
    "agent.waiting" reads;
    "agent.respond" => Agent;
    "agent.drain" => Agent;
    "agent.undrain" => Agent;
    "agent.declare_dead" => Agent;
    "agent.reset" => Agent;
    "agent.report" => Instance: Mayor may Itself, Deacon may Itself, Witness may Itself, Refinery may Itself, Polecat may Itself, Boot may Itself;
    "agent.wait" reads => Agent;
    "agent.attach" reads => Agent;
    "agent.exits" reads => Agent;
    "agent.signals" reads => Agent;
    "session.list" reads;
    "session.capture" reads;
    "hook.show" reads => Agent;
    "hook.set" => Agent: Mayor may Any, Deacon may Itself, Witness may Itself, Refinery may Itself, Polecat may Itself, Boot may Itself;
    "hook.clear" => Agent: Mayor may Any, Deacon may Itself, Witness may Itself, Refinery may Itself, Polecat may Itself, Boot may Itself;
    "work.create": Mayor may Any;
    "work.show" reads;
    "work.list" reads;
    "work.close": Mayor may Any, Refinery may Any;
    "convoy.create": Mayor may Any;
    "convoy.add": Mayor may Any;
    "convoy.status" reads;
    "convoy.list" reads;
    "nudge.send" => Agent: Mayor may Any, Deacon may Any, Witness may OwnPolecats, Refinery may OwnRig, Boot may Deacon;
    "nudge.list" reads;
    "nudge.cancel" => Item: Mayor may Any;
    "mail.send": Mayor may Any, Deacon may Any, Witness may Any, Refinery may Any, Polecat may Any, Boot may Any;
    "mail.inbox" reads;
    "mail.read" => Item: Mayor may Any, Deacon may Itself, Witness may Itself, Refinery may Itself, Polecat may Itself, Boot may Itself;
    "mail.archive" => Item: Mayor may Any, Deacon may Itself, Witness may Itself, Refinery may Itself, Polecat may Itself, Boot may Itself;
    "lifecycle.request" => Agent: Mayor may Itself, Deacon may Any, Witness may Itself, Refinery may Itself, Polecat may Itself, Boot may Itself Deacon;
    "lifecycle.list" reads;
    "deaths.list" reads;
    "deaths.incidents" reads;
    "orphans.list" reads;
    "orphans.sweep";
    "doctor.checks" reads;
    "doctor.run" reads_unless ("fix");
    "events.history" reads;
    "events.subscribe" reads;
    "events.unsubscribe" reads;
    "rpc.discover" reads;
};

/// The row of a method.
#[must_use]
pub fn find(method: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.method == method)
}

/// The table for people: what agents may beyond looking.
#[must_use]
pub fn markdown() -> String {
    let mut out =
        "| method | mayor | deacon | witness | refinery | polecat | boot |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in ROWS.iter().filter(|row| !row.cells.is_empty()) {
        let cells = Column::ALL.map(|column| {
            let words: Vec<&str> = row.scopes(column).iter().map(|scope| scope.words()).collect();
            if words.is_empty() { "–".to_owned() } else { words.join(", ") }
        });
        out.push_str(&format!("| `{}` | {} |\n", row.method, cells.join(" | ")));
    }
    let list = |reads: fn(&Row) -> bool| {
        let names: Vec<String> =
            ROWS.iter().filter(|row| reads(row)).map(|row| format!("`{}`", row.method)).collect();
        names.join(" ")
    };
    let looks = list(|row| matches!(row.reads, Reads::Always));
    let people = list(|row| row.reads == Reads::No && row.cells.is_empty());
    out.push_str(&format!("\nEverybody may look: {looks}.\n"));
    for row in ROWS {
        if let Reads::Unless(field) = row.reads {
            out.push_str(&format!("`{}` is everybody's too, unless `{field}` is given.\n", row.method));
        }
    }
    out.push_str(&format!("\nOnly people, and whom `[callers] grant` names: {people}.\n"));
    out
}
