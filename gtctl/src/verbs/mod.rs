//! One file per verb: ask the daemon, print the answer, say how it went.

pub mod agent;
mod attach;
mod boot;
mod completions;
mod config;
mod convoy;
mod daemon;
mod deaths;
mod declare_dead;
mod demo;
mod doctor;
mod down;
mod drain;
mod events;
mod exits;
mod explain;
mod hook;
mod init;
mod lifecycle;
mod logs;
mod mail;
mod nudge;
mod orphans;
mod pause;
mod peek;
mod polecat;
mod prime;
mod progress;
mod reset;
mod rig;
mod role;
mod rpc;
mod signals;
mod sling;
mod socket;
mod status;
mod towns;
mod up;
mod version;
mod wait;
mod waiting;
mod work;

use crate::cli::{Status, Verb};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// Runs the verb: `status` unless one was given.
///
/// # Errors
/// The verb's own.
pub async fn run(cx: &mut Context, verb: Option<Verb>) -> Result<Code, Failure> {
    match verb.unwrap_or(Verb::Status(Status::default())) {
        Verb::Status(args) => status::run(cx, &args).await,
        Verb::Up(args) => up::run(cx, &args).await,
        Verb::Down(args) => down::run(cx, &args).await,
        Verb::Init(args) => init::run(cx, &args),
        Verb::Rig(verb) => rig::run(cx, verb).await,
        Verb::Witness(verb) => role::run(cx, role::Kind::Witness, verb).await,
        Verb::Refinery(verb) => role::run(cx, role::Kind::Refinery, verb).await,
        Verb::Deacon(verb) => role::run_standing(cx, role::Who::Deacon, verb).await,
        Verb::Mayor(verb) => role::run_standing(cx, role::Who::Mayor, verb).await,
        Verb::Boot(verb) => boot::run(cx, verb).await,
        Verb::Sling(args) => sling::run(cx, args).await,
        Verb::Polecat(verb) => polecat::run(cx, verb).await,
        Verb::Work(verb) => work::run(cx, verb).await,
        Verb::Hook(verb) => hook::run(cx, verb).await,
        Verb::Convoy(verb) => convoy::run(cx, verb).await,
        Verb::Mail(verb) => mail::run(cx, verb).await,
        Verb::Lifecycle(verb) => lifecycle::run(cx, verb).await,
        Verb::Nudge(args) => nudge::run(cx, args).await,
        Verb::Respond(args) => nudge::respond(cx, args).await,
        Verb::Peek(args) => peek::run(cx, &args).await,
        Verb::Attach(args) => attach::run(cx, &args).await,
        Verb::Explain(args) => explain::run(cx, &args).await,
        Verb::Events(args) => events::run(cx, &args).await,
        Verb::Exits(args) => exits::run(cx, &args).await,
        Verb::Deaths(args) => deaths::run(cx, &args).await,
        Verb::Signals(args) => signals::run(cx, &args).await,
        Verb::Doctor(args) => doctor::run(cx, &args).await,
        Verb::Orphans(verb) => orphans::run(cx, verb).await,
        Verb::Session(verb) => orphans::session(cx, verb).await,
        Verb::Crew(verb) => orphans::crew(cx, verb).await,
        Verb::Towns => towns::run(cx),
        Verb::Waiting => waiting::run(cx).await,
        Verb::Drain(args) => drain::run(cx, args, false).await,
        Verb::Undrain(args) => drain::run(cx, args, true).await,
        Verb::Pause(args) => pause::run(cx, args).await,
        Verb::Resume(args) => pause::resume(cx, args).await,
        Verb::Reset(args) => reset::run(cx, args).await,
        Verb::DeclareDead(args) => declare_dead::run(cx, args).await,
        Verb::Wait(args) => wait::run(cx, &args).await,
        Verb::Prime(args) => prime::run(cx, &args).await,
        Verb::Agent(verb) => agent::run(cx, &verb),
        Verb::Daemon(verb) => daemon::run(cx, verb).await,
        Verb::Logs(args) => logs::run(cx, &args).await,
        Verb::Config(verb) => config::run(cx, verb).await,
        Verb::Rpc(args) => rpc::run(cx, &args).await,
        Verb::Socket => socket::run(cx),
        Verb::Version => version::run(cx).await,
        Verb::Completions(args) => completions::run(cx, &args),
        Verb::Demo(args) => demo::run(cx, &args).await,
    }
}
