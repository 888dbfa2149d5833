//! Processes: identity, observation, exit watching and the one way to signal.
//!
//! Owns everything that asks the kernel about processes or sends a signal. It must never act on a bare pid,
//! a name, a command line or a failed question: an identity is boot, pid and start time, and an error is
//! [`Observation::Unknown`], never death.
//!
//! Only Linux is implemented. What is Linux's own lives in two modules, `procfs` (reading `/proc`) and
//! `pidfd` (a handle on one process); the rest is written against them.

pub mod attribution;
mod below;
pub mod capture;
pub mod exit;
pub mod facts;
pub mod guard;
pub mod id;
pub mod launch;
pub mod lineage;
pub mod looks;
pub mod namespace;
pub mod observe;
mod pidfd;
mod procfs;
pub mod record;
pub mod shim;
pub mod signal;
pub mod spare;
pub mod stat;
pub mod stop;
pub mod sweep;
pub mod table;

pub use attribution::{Attribution, Ground, Judged, OnRecord, Verdict, attribute};
pub use below::{Stillness, is_still, stillness};
pub use capture::{Capture, Holding};
pub use exit::{ExitWatcher, Exited, Watch, WatchError};
pub use facts::Marker;
pub use guard::{Guard, GuardError};
pub use id::{BootId, Pid, ProcessId, StartTime};
pub use launch::{Launch, LaunchError, take_launch, write_launch};
pub use lineage::{Kin, lineage};
pub use looks::{Looks, Unseen};
pub use observe::{Evidence, Observation, identify, identify_child, observe};
pub use record::{Record, RecordLook, read_record, write_record};
pub use signal::{Proof, Refused, Sent, Signal, Target, send};
pub use spare::{LiveSpare, Look, Spare, SparedAs};
pub use stat::{Stat, WaitStatus};
pub use stop::{EndOptions, EndReport, end};
pub use table::{Ancestry, ProcessTable};
