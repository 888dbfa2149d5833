//! End-to-end tests of gtd: real daemon, real client, a real private tmux server, real git, a scripted agent.
//!
//! This library is the harness. It owns throwaway towns and everything that runs in them: each town has a
//! directory of its own with a random name, its own tmux server and its own home, and is cleaned up by
//! identity however a test ends. It must never look for a real town, nor touch a process that does not carry
//! the random name of one of its own.

mod agents;
pub mod bd;
pub mod claude;
pub mod client;
pub mod disk;
pub mod doctoring;
mod guard;
pub mod hand;
pub mod journal;
pub mod mail_bd;
pub mod manager;
pub mod nudging;
pub mod people;
pub mod procs;
pub mod programs;
mod reaper;
mod repo;
pub mod run;
pub mod served;
pub mod setup;
pub mod terminal;
pub mod tmux;
pub mod town;
pub mod typist;
pub mod wait;
pub mod workers;

pub use client::{Client, Failure, Follower};
pub use journal::{Entry, What};
pub use procs::Process;
pub use run::Output;
pub use setup::Setup;
pub use terminal::Terminal;
pub use town::Town;
pub use wait::{CHANGE, QUICK, START, chaos_delay, wait_for, wait_until};

/// Says why a test did nothing, where the machine lacks something; the test then counts as passed.
pub fn skipped(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
}
