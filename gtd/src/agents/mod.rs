//! What an agent is: its launch as one value, its environment, its readiness; and the tasks that start, watch
//! and end it.
//!
//! Owns every effect on an agent. Must never decide whether one should run, and never signal what is not
//! proven to be of the instance at hand.

mod adopt;
mod begin;
pub mod order;
pub mod runtime;
mod task;
mod tend;
