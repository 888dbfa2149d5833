//! The heart: what should run, what does, and what follows from the difference.
//!
//! Pure are the state machine, the planner, the restart policy and the whole of [`core`]; around them one loop
//! ([`run`]) that is the only writer. It decides on addresses, instances and observations: tmux ids and pids
//! only pass through, in records that show them. It must never do I/O in a decision, and never take an error
//! for a death.

pub mod asking;
pub mod closed;
mod conversation;
pub mod core;
mod dating;
pub mod deacon;
mod declare;
pub mod drain;
pub mod errands;
mod explain;
pub mod facts;
pub mod frost;
mod glances;
pub mod handle;
pub mod heartbeat;
pub mod hooked;
pub mod hooks;
pub mod incident;
pub mod killed;
mod learning;
mod leftovers;
mod life;
pub mod machine;
mod moves;
pub mod noted;
pub mod nudges;
mod on_demand;
mod once;
pub mod orphaned;
pub mod orphans;
pub mod pause_requests;
pub mod pauses;
pub mod planner;
pub mod policy;
pub mod progress;
mod recall;
pub mod recorded;
pub mod reports;
pub mod requests;
pub mod resources;
mod resume;
pub mod rig_files;
pub mod rig_requests;
pub mod rigs;
mod rounds;
pub mod run;
mod showing;
pub mod spool;
pub mod stood;
pub mod throttle;
mod town;
mod town_roles;
pub mod turn;
mod unjudged;
mod unsaved;
mod verdict;
pub mod view;
pub mod waiting;
pub mod waits;
mod wishes;
pub mod workers;
pub mod worktrees;

pub use handle::Handle;
pub use planner::{Facts, Mode, RigFacts, Settings};
