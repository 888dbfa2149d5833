//! `gtctl agent report`: what an agent's hooks call on its events.
//!
//! It costs the agent some milliseconds and never one of its turns: it has a deadline for everything, prints nothing
//! that the agent would read, and ends well whatever happened. What the daemon does not take in time is left in its
//! spool, and what goes wrong is written into a small log there.

mod hook;
mod send;
mod spool;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use gtd_proto::params::AgentReport;
use gtd_proto::{ErrorKind, RpcError, Timestamp};

use crate::cli::{AgentReport as Args, AgentVerb, Cli, Verb};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::note;
use crate::town::Surroundings;
use crate::who::Who;

/// From the start: for so long the program that runs a hook may take to say what happened. It says so at once, but on
/// a busy machine it may be some time until it is let.
const STDIN: Duration = Duration::from_millis(25);
/// From the start: after that the daemon's answer is not waited for. The agent waits for us, and is promised 50 ms.
const ANSWER: Duration = Duration::from_millis(42);

/// Answers an agent's hook, and ends; returns where something else was asked for. Nothing that a hook can do wrong may
/// end its turn: with some programs an exit code of 2 does just that.
pub fn answer_a_hook() -> Option<Code> {
    let mut words = std::env::args_os().skip(1);
    let called = words.next().is_some_and(|word| word == "agent")
        && words.next().is_some_and(|word| word == "report")
        && !words.any(|word| word == "--help" || word == "-h");
    if !called {
        return None;
    }
    let began = Instant::now();
    let around = Surroundings::here(None);
    let who = Who::here(&around);
    match (Cli::read(), who) {
        (Ok(Cli { global, verb: Some(Verb::Agent(AgentVerb::Report(args))) }), Some(who)) => {
            let mut context = Context::new(global);
            // Also where nobody reads what it prints.
            let _ = report(&mut context, &args, Some(who), began);
            let _ = context.screen.flush();
            Some(Code::Done)
        }
        // Settings that are newer than this program, or not ours: the turn goes on.
        (Err(error), Some(who)) => {
            spool::log(
                &who,
                &format!("not understood: {}", error.to_string().lines().next().unwrap_or_default()),
            );
            Some(Code::Done)
        }
        _ => None,
    }
}

/// Runs the verb.
///
/// # Errors
/// That no agent runs it.
pub fn run(cx: &mut Context, verb: &AgentVerb) -> Result<Code, Failure> {
    let AgentVerb::Report(args) = verb;
    let who = Who::here(&cx.around);
    report(cx, args, who, Instant::now())
}

/// Reports, or leaves the report to be found.
fn report(cx: &mut Context, args: &Args, who: Option<Who>, began: Instant) -> Result<Code, Failure> {
    let said = if std::io::stdin().is_terminal() { hook::Read::Nothing } else { hook::read(began + STDIN) };
    // What an agent's own model typed may be answered; what its program runs may not.
    let by_hand = said == hook::Read::Nothing;
    let event = match said {
        hook::Read::Event(event) => Some(event),
        hook::Read::Nothing | hook::Read::Late => None,
    };
    let Some(who) = who else {
        // Somebody runs the program by hand in a place with our settings.
        if !by_hand {
            return Ok(Code::Done);
        }
        return Err(Failure::usage("gtctl agent report is run by an agent: GT_INSTANCE is not set")
            .hint("gtctl status shows what agents report"));
    };
    let Some(spoken) = hook::spoken(args.state.into(), event.as_ref()) else {
        // An event that says nothing about what it does.
        return Ok(Code::Done);
    };
    let report = AgentReport {
        agent: who.agent.clone(),
        instance: who.instance.clone(),
        state: spoken.state,
        next_due: args.next_due,
        conversation: args.conversation.clone().or(spoken.conversation),
        detail: args.detail.as_deref().map(hook::short).or(spoken.detail),
        at: Some(Timestamp::now()),
    };
    if args.plan.dry_run {
        cx.screen.value(&report)?;
        return Ok(Code::Done);
    }
    let said = match send::send(&who.socket, &report, began + ANSWER) {
        Ok(answer) => {
            let ignored = answer.get("ignored").and_then(serde_json::Value::as_str).map(str::to_owned);
            if by_hand && cx.screen.json {
                cx.screen.envelope("agent.report", &answer)?;
            }
            ignored.map(|why| format!("it was ignored: {why}"))
        }
        Err(send::Trouble::Refused(error)) if is_final(&error) => {
            spool::log(&who, &format!("{} was refused: {}", report.state.as_str(), error.message));
            Some(format!("it was refused: {}", error.message))
        }
        Err(trouble) => match spool::leave(&who, &report) {
            Ok(()) => Some(format!("the daemon will hear of it later: {trouble}")),
            Err(error) => {
                spool::log(&who, &format!("{} is lost: {trouble}; {error}", report.state.as_str()));
                Some(format!("it is lost: {trouble}; {error}"))
            }
        },
    };
    if let (true, Some(said)) = (by_hand && !cx.screen.json, said) {
        note(said);
    }
    Ok(Code::Done)
}

/// Said again it would be refused again.
fn is_final(error: &RpcError) -> bool {
    !matches!(error.kind, ErrorKind::ShuttingDown | ErrorKind::TooBusy | ErrorKind::Internal)
}
