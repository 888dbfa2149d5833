//! `gtctl witness …`, `refinery …`, `deacon …` and `mayor …`: the same verbs for the two roles that every rig has, and
//! for the two that the town has.

use gtd_proto::deacon::{DeaconStatus, Verdict};
use gtd_proto::rpc::{DeaconClient, MayorClient, RefineryClient, WitnessClient};
use gtd_proto::{Address, Agent, Change, Reply, RigName, params, town};
use serde::Serialize;
use serde_json::json;

use super::{attach, progress, status};
use crate::cli::{
    Overrides, RoleAttach, RoleRestart, RoleStart, RoleStop, RoleVerb, StandingAttach, StandingRestart,
    StandingStart, StandingStop, StandingVerb,
};
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::step;
use crate::output::confirm::confirm;
use crate::output::{change, note, time};
use crate::town as place;

/// Which role of a rig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `witness`
    Witness,
    /// `refinery`
    Refinery,
}

/// Which of the agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A rig's.
    Of(Kind, RigName),
    /// `deacon`
    Deacon,
    /// `mayor`
    Mayor,
}

/// What a card shows.
#[derive(Serialize)]
#[serde(untagged)]
enum Status {
    Role(Box<Reply<town::RoleStatus>>),
    Deacon(Box<Reply<DeaconStatus>>),
    Mayor(Box<Reply<Agent>>),
}

impl Status {
    fn agent(&self) -> &Agent {
        match self {
            Self::Role(status) => &status.body.agent,
            Self::Deacon(status) => &status.body.agent,
            Self::Mayor(status) => &status.body,
        }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Witness => "witness",
            Self::Refinery => "refinery",
        }
    }
}

/// Asks whichever of the four it is about: each has methods of its own, and a rig's take the rig as well.
macro_rules! put {
    ($verb:ident, $who:expr, $session:expr, $of:expr, $with:expr) => {{
        let (client, wait) = (&$session.client, $of.wait_ms);
        match $who {
            Who::Of(Kind::Witness, rig) => {
                client::change(wait, WitnessClient::$verb(client, $with(rig, $of))).await
            }
            Who::Of(Kind::Refinery, rig) => {
                client::change(wait, RefineryClient::$verb(client, $with(rig, $of))).await
            }
            Who::Deacon => client::change(wait, DeaconClient::$verb(client, $of)).await,
            Who::Mayor => client::change(wait, MayorClient::$verb(client, $of)).await,
        }
    }};
}

impl Who {
    fn word(&self) -> &'static str {
        match self {
            Self::Of(kind, _) => kind.word(),
            Self::Deacon => "deacon",
            Self::Mayor => "mayor",
        }
    }

    fn address(&self) -> Address {
        match self {
            Self::Of(Kind::Witness, rig) => Address::Witness(rig.clone()),
            Self::Of(Kind::Refinery, rig) => Address::Refinery(rig.clone()),
            Self::Deacon => Address::Deacon,
            Self::Mayor => Address::Mayor,
        }
    }

    /// The rest of a command line: ` alpha`.
    fn named(&self) -> String {
        match self {
            Self::Of(_, rig) => format!(" {rig}"),
            Self::Deacon | Self::Mayor => String::new(),
        }
    }

    async fn start(&self, session: &Session, of: params::StandingStart) -> Result<Reply<Change>, Failure> {
        put!(start, self, session, of, |rig: &RigName, of: params::StandingStart| params::RigStart {
            rig: rig.clone(),
            agent: of.agent,
            account: of.account,
            env: of.env,
            foreground: false,
            reset_overrides: of.reset_overrides,
            dry_run: of.dry_run,
            wait_ms: of.wait_ms,
            idempotency_key: of.idempotency_key,
            reason: of.reason,
        })
    }

    async fn stop(&self, session: &Session, of: params::StandingStop) -> Result<Reply<Change>, Failure> {
        put!(stop, self, session, of, |rig: &RigName, of: params::StandingStop| params::RigStop {
            rig: rig.clone(),
            now: of.now,
            force: of.force,
            dry_run: of.dry_run,
            wait_ms: of.wait_ms,
            idempotency_key: of.idempotency_key,
            reason: of.reason,
        })
    }

    async fn restart(
        &self,
        session: &Session,
        of: params::StandingRestart,
    ) -> Result<Reply<Change>, Failure> {
        put!(restart, self, session, of, |rig: &RigName, of: params::StandingRestart| params::RigRestart {
            rig: rig.clone(),
            agent: of.agent,
            account: of.account,
            env: of.env,
            reset_overrides: of.reset_overrides,
            now: of.now,
            force: of.force,
            dry_run: of.dry_run,
            wait_ms: of.wait_ms,
            idempotency_key: of.idempotency_key,
            reason: of.reason,
        })
    }

    async fn status(&self, session: &Session) -> Result<Status, Failure> {
        let client = &session.client;
        let none = params::None {};
        Ok(match self {
            Self::Of(kind, rig) => {
                let request = params::RigRef { rig: rig.clone() };
                let status = match kind {
                    Kind::Witness => client::read(WitnessClient::status(client, request)).await?,
                    Kind::Refinery => client::read(RefineryClient::status(client, request)).await?,
                };
                Status::Role(Box::new(status))
            }
            Self::Deacon => Status::Deacon(Box::new(client::read(DeaconClient::status(client, none)).await?)),
            Self::Mayor => Status::Mayor(Box::new(client::read(MayorClient::status(client, none)).await?)),
        })
    }
}

/// Runs a verb about a rig's agent.
///
/// # Errors
/// The daemon's, or that a forced end was not confirmed.
pub async fn run(cx: &mut Context, kind: Kind, verb: RoleVerb) -> Result<Code, Failure> {
    match verb {
        RoleVerb::Start(RoleStart { rig, overrides, foreground, change }) => {
            let who = Who::Of(kind, rig);
            if foreground {
                return in_the_foreground(cx, &who);
            }
            start(cx, &who, StandingStart { overrides, change }).await
        }
        RoleVerb::Stop(RoleStop { rig, ending, change }) => {
            stop(cx, &Who::Of(kind, rig), StandingStop { ending, change }).await
        }
        RoleVerb::Restart(RoleRestart { rig, overrides, ending, change }) => {
            restart(cx, &Who::Of(kind, rig), StandingRestart { overrides, ending, change }).await
        }
        RoleVerb::Status(args) => show(cx, &Who::Of(kind, args.rig)).await,
        RoleVerb::Attach(RoleAttach { rig, agent, nested, plan }) => {
            let session = cx.connect().await?;
            let around = || place::rig_at(session.root(), &cx.around.cwd);
            let Some(rig) = rig.or_else(around) else {
                return Err(Failure::usage(format!(
                    "name a rig: {} is in none of those of {}",
                    cx.around.cwd.display(),
                    session.root().display()
                ))
                .hint(format!("gtctl {} attach RIG; gtctl rig list", kind.word())));
            };
            attach(cx, session, &Who::Of(kind, rig), StandingAttach { agent, nested, plan }).await
        }
    }
}

/// Runs a verb about one of the town's agents.
///
/// # Errors
/// The daemon's, or that a forced end was not confirmed.
pub async fn run_standing(cx: &mut Context, who: Who, verb: StandingVerb) -> Result<Code, Failure> {
    match verb {
        StandingVerb::Start(args) => start(cx, &who, args).await,
        StandingVerb::Stop(args) => stop(cx, &who, args).await,
        StandingVerb::Restart(args) => restart(cx, &who, args).await,
        StandingVerb::Status => show(cx, &who).await,
        StandingVerb::Attach(args) => {
            let session = cx.connect().await?;
            attach(cx, session, &who, args).await
        }
    }
}

fn in_the_foreground(cx: &mut Context, who: &Who) -> Result<Code, Failure> {
    let words = format!(
        "patrols do not run in the foreground; start it with `gtctl {0} start{1}`, look with `gtctl {0} attach{1}`",
        who.word(),
        who.named()
    );
    if cx.screen.json {
        let result = json!({ "foreground": false, "message": words });
        cx.screen.envelope(&format!("{}.start", who.word()), &result)?;
    } else {
        note(words);
    }
    Ok(Code::Done)
}

async fn start(cx: &mut Context, who: &Who, args: StandingStart) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let Overrides { agent, account, env, reset_overrides } = args.overrides;
    let otherwise = agent.is_some() || account.is_some() || !env.is_empty() || reset_overrides;
    let request = params::StandingStart {
        agent,
        account,
        env: env.into_iter().collect(),
        reset_overrides,
        dry_run: args.change.dry_run(),
        wait_ms: args.change.wait_ms(),
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let answer = progress::with_clock("starting", who.start(&session, request)).await?;
    if answer.body.already && otherwise && !answer.body.dry_run {
        note(format!(
            "it goes on as it was launched; what was asked for holds from its next start: gtctl {} restart{}",
            who.word(),
            who.named()
        ));
    }
    report(cx, who, "start", "started", &answer)
}

async fn stop(cx: &mut Context, who: &Who, args: StandingStop) -> Result<Code, Failure> {
    ask(cx, who, "stop", args.ending.force && !args.change.dry_run())?;
    let session = cx.connect().await?;
    let request = params::StandingStop {
        now: args.ending.now,
        force: args.ending.force,
        dry_run: args.change.dry_run(),
        wait_ms: args.change.wait_ms(),
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let answer = progress::with_clock("stopping", who.stop(&session, request)).await?;
    report(cx, who, "stop", "stopped", &answer)
}

async fn restart(cx: &mut Context, who: &Who, args: StandingRestart) -> Result<Code, Failure> {
    ask(cx, who, "restart", args.ending.force && !args.change.dry_run())?;
    let session = cx.connect().await?;
    let Overrides { agent, account, env, reset_overrides } = args.overrides;
    let request = params::StandingRestart {
        agent,
        account,
        env: env.into_iter().collect(),
        reset_overrides,
        now: args.ending.now,
        force: args.ending.force,
        dry_run: args.change.dry_run(),
        wait_ms: args.change.wait_ms(),
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let answer = progress::with_clock("restarting", who.restart(&session, request)).await?;
    report(cx, who, "restart", "restarted", &answer)
}

fn ask(cx: &Context, who: &Who, verb: &str, force: bool) -> Result<(), Failure> {
    let question = format!("KILL {} at once, without waiting for its turn to end?", who.address());
    confirm(&format!("{} {verb}", who.word()), force, cx.global.yes, &question)
}

/// Prints what became of a change, and says by the exit code whether processes are left.
fn report(
    cx: &mut Context,
    who: &Who,
    verb: &str,
    done: &str,
    answer: &Reply<Change>,
) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope(&format!("{}.{verb}", who.word()), answer)?;
    } else if answer.body.dry_run {
        screen.plan(&answer.body.plan)?;
    } else {
        let lines = change::change(done, &answer.body, screen.paint);
        screen.lines(lines)?;
    }
    Ok(if answer.body.survivors.is_empty() { Code::Done } else { Code::Partial })
}

async fn show(cx: &mut Context, who: &Who) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let answer = who.status(&session).await?;
    if cx.screen.json {
        cx.screen.envelope(&format!("{}.status", who.word()), &answer)?;
        return Ok(Code::Done);
    }
    status::print_card(cx, &session, answer.agent(), more(&answer)).await?;
    Ok(Code::Done)
}

/// Lines of a card that only this role has.
fn more(answer: &Status) -> Vec<(&'static str, String)> {
    let mut more = Vec::new();
    match answer {
        Status::Role(status) => {
            if let Some(workers) = &status.body.monitored_polecats {
                let none = workers.is_empty();
                more.push(("Watches", if none { "no polecats".to_owned() } else { workers.join(", ") }));
            }
            if let Some(length) = status.body.queue_length {
                more.push(("Queue", length.to_string()));
            }
        }
        Status::Deacon(status) => {
            let (verdict, why) = (status.body.verdict, &status.body.why);
            // One that is young is not judged yet, which is all that its verdict says.
            more.push((
                "Health",
                match verdict {
                    Verdict::Starting => why.clone(),
                    verdict => format!("{}: {why}", verdict.as_str()),
                },
            ));
            if let Some(beat) = &status.body.heartbeat {
                let mut words: Vec<String> = beat.timestamp.map(time::relative).into_iter().collect();
                words.extend(beat.cycle.map(|cycle| format!("cycle {cycle}")));
                words.extend(beat.last_action.clone());
                words.extend(beat.error.as_ref().map(|why| format!("the file {why}")));
                if beat.unanswered > 0 {
                    words.push(format!("asked {} times without an answer", beat.unanswered));
                }
                more.push(("Heartbeat", words.join(", ")));
            }
            if let Some(paused) = &status.body.paused {
                let by = paused.paused_by.as_deref().map(|by| format!("by {by}"));
                let words: Vec<String> = by
                    .into_iter()
                    .chain(paused.paused_at.map(time::relative))
                    .chain(paused.reason.clone())
                    .collect();
                more.push(("Paused", if words.is_empty() { "yes".to_owned() } else { words.join(", ") }));
            }
        }
        Status::Mayor(_) => {}
    }
    more
}

async fn attach(
    cx: &mut Context,
    session: Session,
    who: &Who,
    args: StandingAttach,
) -> Result<Code, Failure> {
    let request = params::StandingStart {
        agent: args.agent,
        dry_run: args.plan.dry_run,
        ..params::StandingStart::default()
    };
    if args.plan.dry_run {
        let mut answer = who.start(&session, request).await?;
        let name = answer.body.agent.agent.to_string();
        answer.body.plan.push(step("attach", name, "this terminal becomes a client of its session"));
        return report(cx, who, "start", "started", &answer);
    }
    // What runs is only looked at: asking for a start would touch its intent.
    if !who.status(&session).await?.agent().running {
        let answer = progress::with_clock("starting", who.start(&session, request)).await?;
        if !answer.body.already {
            match who {
                Who::Of(kind, rig) => note(format!("Started {} session for {rig}", kind.word())),
                Who::Deacon | Who::Mayor => note(format!("Started {} session", who.word())),
            }
        }
    }
    attach::to(cx, session, who.address(), args.nested).await
}
