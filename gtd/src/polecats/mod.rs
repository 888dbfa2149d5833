//! Workers: their names, their worktrees, how they are made and how they are let go of.
//!
//! Owns everything below a rig's `polecats` directory. Must never let go of work that is nowhere else: what is
//! removed is kept first, under `refs/gtd/archive` of the rig's repository, and what cannot be kept is moved aside.

pub mod names;
pub mod themes;
