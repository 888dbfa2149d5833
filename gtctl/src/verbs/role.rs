//! `gtctl witness …` and `gtctl refinery …`: the same verbs for the two roles that every rig has.

use gtd_proto::rpc::{RefineryClient, WitnessClient};
use gtd_proto::{Address, Change, Reply, RigName, params, town};
use serde_json::json;

use super::{attach, progress, status};
use crate::cli::{Overrides, RoleAttach, RoleRestart, RoleStart, RoleStop, RoleVerb};
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::{plan, step};
use crate::output::confirm::confirm;
use crate::output::{change, note};
use crate::town as place;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `witness`
    Witness,
    /// `refinery`
    Refinery,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Witness => "witness",
            Self::Refinery => "refinery",
        }
    }

    fn of(self, rig: RigName) -> Address {
        match self {
            Self::Witness => Address::Witness(rig),
            Self::Refinery => Address::Refinery(rig),
        }
    }

    async fn start(self, session: &Session, request: params::RigStart) -> Result<Reply<Change>, Failure> {
        let (client, wait) = (&session.client, request.wait_ms);
        match self {
            Self::Witness => client::change(wait, WitnessClient::start(client, request)).await,
            Self::Refinery => client::change(wait, RefineryClient::start(client, request)).await,
        }
    }

    async fn stop(self, session: &Session, request: params::RigStop) -> Result<Reply<Change>, Failure> {
        let (client, wait) = (&session.client, request.wait_ms);
        match self {
            Self::Witness => client::change(wait, WitnessClient::stop(client, request)).await,
            Self::Refinery => client::change(wait, RefineryClient::stop(client, request)).await,
        }
    }

    async fn restart(self, session: &Session, request: params::RigRestart) -> Result<Reply<Change>, Failure> {
        let (client, wait) = (&session.client, request.wait_ms);
        match self {
            Self::Witness => client::change(wait, WitnessClient::restart(client, request)).await,
            Self::Refinery => client::change(wait, RefineryClient::restart(client, request)).await,
        }
    }

    async fn status(self, session: &Session, rig: RigName) -> Result<Reply<town::RoleStatus>, Failure> {
        let (client, request) = (&session.client, params::RigRef { rig });
        match self {
            Self::Witness => client::read(WitnessClient::status(client, request)).await,
            Self::Refinery => client::read(RefineryClient::status(client, request)).await,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// The daemon's, or that a forced end was not confirmed.
pub async fn run(cx: &mut Context, kind: Kind, verb: RoleVerb) -> Result<Code, Failure> {
    match verb {
        RoleVerb::Start(args) => start(cx, kind, args).await,
        RoleVerb::Stop(args) => stop(cx, kind, args).await,
        RoleVerb::Restart(args) => restart(cx, kind, args).await,
        RoleVerb::Status(args) => show(cx, kind, args.rig).await,
        RoleVerb::Attach(args) => attach(cx, kind, args).await,
    }
}

async fn start(cx: &mut Context, kind: Kind, args: RoleStart) -> Result<Code, Failure> {
    if args.foreground {
        let words = format!(
            "patrols do not run in the foreground; start it with `gtctl {0} start {1}`, look with `gtctl {0} attach {1}`",
            kind.word(),
            args.rig
        );
        if cx.screen.json {
            let result = json!({ "foreground": false, "message": words });
            cx.screen.envelope(&format!("{}.start", kind.word()), &result)?;
        } else {
            note(words);
        }
        return Ok(Code::Done);
    }
    let session = cx.connect().await?;
    let Overrides { agent, account, env, reset_overrides } = args.overrides;
    let otherwise = agent.is_some() || account.is_some() || !env.is_empty() || reset_overrides;
    let rig = args.rig.clone();
    let request = params::RigStart {
        rig: args.rig,
        agent,
        account,
        env: env.into_iter().collect(),
        foreground: false,
        reset_overrides,
        dry_run: args.plan.dry_run,
        wait_ms: args.waiting.wait_ms(),
        idempotency_key: None,
        reason: args.reason.reason,
    };
    let answer = progress::with_clock("starting", kind.start(&session, request)).await?;
    if answer.body.already && otherwise && !answer.body.dry_run {
        let word = kind.word();
        note(format!(
            "it goes on as it was launched; what was asked for holds from its next start: gtctl {word} restart {rig}"
        ));
    }
    report(cx, kind, "start", "started", &answer)
}

async fn stop(cx: &mut Context, kind: Kind, args: RoleStop) -> Result<Code, Failure> {
    let agent = kind.of(args.rig.clone());
    ask(cx, kind, "stop", args.ending.force && !args.plan.dry_run, &agent)?;
    let session = cx.connect().await?;
    let request = params::RigStop {
        rig: args.rig,
        now: args.ending.now,
        force: args.ending.force,
        dry_run: args.plan.dry_run,
        wait_ms: args.waiting.wait_ms(),
        idempotency_key: None,
        reason: args.reason.reason,
    };
    let answer = progress::with_clock("stopping", kind.stop(&session, request)).await?;
    report(cx, kind, "stop", "stopped", &answer)
}

async fn restart(cx: &mut Context, kind: Kind, args: RoleRestart) -> Result<Code, Failure> {
    let agent = kind.of(args.rig.clone());
    ask(cx, kind, "restart", args.ending.force && !args.plan.dry_run, &agent)?;
    let session = cx.connect().await?;
    let Overrides { agent, account, env, reset_overrides } = args.overrides;
    let request = params::RigRestart {
        rig: args.rig,
        agent,
        account,
        env: env.into_iter().collect(),
        reset_overrides,
        now: args.ending.now,
        force: args.ending.force,
        dry_run: args.plan.dry_run,
        wait_ms: args.waiting.wait_ms(),
        idempotency_key: None,
        reason: args.reason.reason,
    };
    let answer = progress::with_clock("restarting", kind.restart(&session, request)).await?;
    report(cx, kind, "restart", "restarted", &answer)
}

fn ask(cx: &Context, kind: Kind, verb: &str, force: bool, agent: &Address) -> Result<(), Failure> {
    let question = format!("KILL {agent} at once, without waiting for its turn to end?");
    confirm(&format!("{} {verb}", kind.word()), force, cx.global.yes, &question)
}

/// Prints what became of a change, and says by the exit code whether processes are left.
fn report(
    cx: &mut Context,
    kind: Kind,
    verb: &str,
    done: &str,
    answer: &Reply<Change>,
) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope(&format!("{}.{verb}", kind.word()), answer)?;
    } else if answer.body.dry_run {
        let lines = plan(&answer.body.plan, screen.paint, screen.width);
        screen.lines(lines)?;
    } else {
        let lines = change::change(done, &answer.body, screen.paint);
        screen.lines(lines)?;
    }
    Ok(if answer.body.survivors.is_empty() { Code::Done } else { Code::Partial })
}

async fn show(cx: &mut Context, kind: Kind, rig: RigName) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let answer = kind.status(&session, rig).await?;
    if cx.screen.json {
        cx.screen.envelope(&format!("{}.status", kind.word()), &answer)?;
        return Ok(Code::Done);
    }
    let mut more = Vec::new();
    if let Some(workers) = &answer.body.monitored_polecats {
        more.push((
            "Watches",
            if workers.is_empty() { "no polecats".to_owned() } else { workers.join(", ") },
        ));
    }
    if let Some(length) = answer.body.queue_length {
        more.push(("Queue", length.to_string()));
    }
    status::print_card(cx, &session, &answer.body.agent, more).await?;
    Ok(Code::Done)
}

async fn attach(cx: &mut Context, kind: Kind, args: RoleAttach) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let around = || place::rig_at(session.root(), &cx.around.cwd);
    let Some(rig) = args.rig.or_else(around) else {
        return Err(Failure::usage(format!(
            "name a rig: {} is in none of those of {}",
            cx.around.cwd.display(),
            session.root().display()
        ))
        .hint(format!("gtctl {} attach RIG; gtctl rig list", kind.word())));
    };
    let request = params::RigStart {
        rig: rig.clone(),
        agent: args.agent,
        account: None,
        env: std::collections::BTreeMap::new(),
        foreground: false,
        reset_overrides: false,
        dry_run: args.plan.dry_run,
        wait_ms: None,
        idempotency_key: None,
        reason: None,
    };
    if args.plan.dry_run {
        let mut answer = kind.start(&session, request).await?;
        let name = answer.body.agent.agent.to_string();
        answer.body.plan.push(step("attach", name, "this terminal becomes a client of its session"));
        return report(cx, kind, "start", "started", &answer);
    }
    // What runs is only looked at: asking for a start would touch its intent.
    if !kind.status(&session, rig.clone()).await?.body.agent.running {
        let answer = progress::with_clock("starting", kind.start(&session, request)).await?;
        if !answer.body.already {
            note(format!("Started {} session for {rig}", kind.word()));
        }
    }
    attach::to(cx, session, kind.of(rig), args.nested).await
}
