//! The heart: what should run, what does, and what follows from the difference.
//!
//! Pure are the state machine, the planner, the restart policy and the whole of [`core`]; around them one loop
//! ([`run`]) that is the only writer. It decides on addresses, instances and observations: tmux ids and pids
//! only pass through, in records that show them. It must never do I/O in a decision, and never take an error
//! for a death.

pub mod core;
mod explain;
pub mod facts;
pub mod handle;
pub mod heartbeat;
pub mod hooks;
mod life;
pub mod machine;
mod moves;
pub mod planner;
pub mod policy;
pub mod requests;
pub mod run;
mod town;
pub mod turn;
mod unsaved;
pub mod view;
mod waiting;

pub use handle::Handle;
pub use planner::{Facts, Mode, RigFacts, Settings};
