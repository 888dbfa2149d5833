//! `gtctl sling` and `gtctl polecat spawn`: work for a new worker, or for one that is there.

use gtd_proto::event::kind;
use gtd_proto::rpc::{HookClient, PolecatClient, WorkClient};
use gtd_proto::{
    Address, Agent, Change, ErrorKind, Event, PlanStep, Reply, RigName, RpcError, State, WorkId, params,
};
use serde_json::Value;

use super::progress;
use crate::cli::{Launch, PolecatSpawn, Sling};
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change;
use crate::output::confirm::confirm;
use crate::output::error::plain;
use crate::output::note;

/// A store may take its time, and is asked twice: longer than the daemon waits for it.
const ASKING: Option<u64> = Some(60_000);

/// What is to get the work.
enum Target {
    Rig(RigName),
    Worker(Address),
}

/// Runs `sling`.
///
/// # Errors
/// The daemon's; a target that is neither a rig nor a polecat, work that is no id.
pub async fn run(cx: &mut Context, args: Sling) -> Result<Code, Failure> {
    let title = args.new || args.work.trim().contains(' ');
    let id = match title {
        true => None,
        false => Some(work_id(&args.work).map_err(|failure| perhaps_a_title(failure, &args))?),
    };
    let session = cx.connect().await?;
    let target = target(cx, &session, &args.target).await?;
    if !args.change.dry_run() {
        let question = format!("take {} from whoever has it, for {}?", args.work, args.target);
        confirm("sling", args.force, cx.global.yes, &question)?;
    }
    let done = match target {
        Target::Worker(agent) => {
            if let Some(name) = &args.name {
                let text = format!("{agent} has a name already, and --name {name} is for a new polecat");
                return Err(Failure::usage(text).hint(format!("gtctl sling {} {agent}", word(&args.work))));
            }
            start(cx, &session, agent, id, &args).await
        }
        Target::Rig(rig) => {
            let spawn = PolecatSpawn {
                rig,
                work: id,
                name: args.name.clone(),
                launch: args.launch.clone(),
                force: args.force,
                change: args.change.clone(),
            };
            make(cx, &session, spawn, title.then_some(args.work.as_str()), "sling").await
        }
    };
    done.map_err(|failure| perhaps_a_title(failure, &args))
}

/// A title of one word reads like an id.
fn perhaps_a_title(failure: Failure, args: &Sling) -> Failure {
    match &failure {
        Failure::Rpc(error)
            if error.kind == ErrorKind::WorkNotFound
                && !error.data.contains_key("status")
                && !args.new
                && !args.work.trim().is_empty() =>
        {
            let as_title = format!("gtctl sling --new {} {}", word(&args.work), word(&args.target));
            failure.hint(format!("gtctl work list; or, where that is a title: {as_title}"))
        }
        _ => failure,
    }
}

/// Runs `polecat spawn`.
///
/// # Errors
/// The daemon's.
pub async fn spawn(cx: &mut Context, args: PolecatSpawn) -> Result<Code, Failure> {
    if !args.change.dry_run() {
        let question = format!("spawn a polecat in {} by force?", args.rig);
        confirm("polecat spawn", args.force, cx.global.yes, &question)?;
    }
    let session = cx.connect().await?;
    make(cx, &session, args, None, "polecat.spawn").await
}

/// Makes a worker, and before it the work where that has only a title.
async fn make(
    cx: &mut Context,
    session: &Session,
    args: PolecatSpawn,
    title: Option<&str>,
    envelope: &str,
) -> Result<Code, Failure> {
    let key = args.change.once.clone().unwrap_or_else(gtd_proto::id::fresh_key);
    let mut request = spawn_request(args, &key);
    let wait_ms = request.wait_ms;
    let mut made = None;
    if let Some(title) = title {
        // What can be refused is refused before there is an item that nobody asked for by itself.
        let mut plan = params::PolecatSpawn { dry_run: true, ..request.clone() };
        plan.idempotency_key = None;
        let planned = client::look(ASKING, PolecatClient::spawn(&session.client, plan)).await?;
        let item =
            create(session, title, &request.rig, request.dry_run, &key, request.reason.clone()).await?;
        if request.dry_run {
            return plan_with_work(cx, envelope, planned, title);
        }
        if !cx.screen.json {
            note(format!("  made {item}: {}", plain(title)));
        }
        request.work = Some(item.clone());
        made = Some(item);
    }
    let rig = request.rig.clone();
    let dry_run = request.dry_run;
    let asked = client::once(
        request.idempotency_key.clone(),
        wait_ms,
        PolecatClient::spawn(&session.client, request),
    );
    let mine = move |event: &Event| event.data.get("key").and_then(Value::as_str) == Some(key.as_str());
    let answer = progress::with_steps(
        session,
        "spawning",
        &[kind::POLECAT_SPAWNING],
        |event| mine(event).then(|| step(event))?,
        asked,
    )
    .await;
    let answer = answer.map_err(|failure| explained(failure, made.as_ref(), rig.as_str()))?;
    if dry_run || cx.screen.json {
        return shown(cx, envelope, &answer, "spawned");
    }
    shown(cx, envelope, &answer, "spawned")?;
    details(cx, &answer.body)
}

fn spawn_request(args: PolecatSpawn, key: &str) -> params::PolecatSpawn {
    let Launch { agent, account, env } = args.launch;
    params::PolecatSpawn {
        rig: args.rig,
        work: args.work,
        name: args.name,
        agent_preset: agent,
        account: account.or_else(own_account),
        env: env.into_iter().collect(),
        force: args.force,
        dry_run: args.change.dry_run(),
        wait_ms: args.change.wait_ms(),
        idempotency_key: Some(key.to_owned()),
        reason: args.change.reason(),
    }
}

/// The account that whoever calls works under.
fn own_account() -> Option<String> {
    std::env::var("GT_ACCOUNT").ok().filter(|account| !account.is_empty())
}

async fn create(
    session: &Session,
    title: &str,
    rig: &RigName,
    dry_run: bool,
    key: &str,
    reason: Option<String>,
) -> Result<WorkId, Failure> {
    let request = params::WorkCreate {
        title: title.trim().to_owned(),
        rig: Some(rig.clone()),
        description: None,
        priority: None,
        dry_run,
        wait_ms: None,
        idempotency_key: (!dry_run).then(|| format!("{key}-work")),
        reason,
    };
    let made =
        client::once(request.idempotency_key.clone(), ASKING, WorkClient::create(&session.client, request))
            .await?;
    match made.body.work {
        Some(item) => Ok(item.id),
        // Of a plan there is none.
        None if dry_run => work_id("planned"),
        None => {
            Err(Failure::failed("the work was made, and the daemon did not say as what")
                .hint("gtctl work list"))
        }
    }
}

/// Work for a worker that is there: it is started with it.
async fn start(
    cx: &mut Context,
    session: &Session,
    agent: Address,
    id: Option<WorkId>,
    args: &Sling,
) -> Result<Code, Failure> {
    let key = args.change.once.clone().unwrap_or_else(gtd_proto::id::fresh_key);
    let mut request = params::PolecatStart {
        agent: agent.clone(),
        work: id,
        agent_preset: args.launch.agent.clone(),
        account: args.launch.account.clone().or_else(own_account),
        env: args.launch.env.iter().cloned().collect(),
        reset_overrides: false,
        force: args.force,
        dry_run: args.change.dry_run(),
        wait_ms: args.change.wait_ms(),
        idempotency_key: Some(key.clone()),
        reason: args.change.reason(),
    };
    let mut made = None;
    if request.work.is_none() {
        let plan = params::PolecatStart { dry_run: true, idempotency_key: None, ..request.clone() };
        let planned = client::look(ASKING, PolecatClient::start(&session.client, plan)).await?;
        let Some(rig) = agent.rig() else { return Err(no_target(&args.target)) };
        takes_new_work(session, &planned.body.agent, rig, args).await?;
        let item = create(session, &args.work, rig, request.dry_run, &key, request.reason.clone()).await?;
        if request.dry_run {
            return plan_with_work(cx, "sling", planned, &args.work);
        }
        if !cx.screen.json {
            note(format!("  made {item}: {}", plain(&args.work)));
        }
        request.work = Some(item.clone());
        made = Some(item);
    }
    let wait_ms = request.wait_ms;
    let asked = client::once(
        request.idempotency_key.clone(),
        wait_ms,
        PolecatClient::start(&session.client, request),
    );
    let answer = progress::with_clock("starting", asked)
        .await
        .map_err(|failure| explained(failure, made.as_ref(), &agent.to_string()))?;
    shown(cx, "sling", &answer, "started")
}

/// An item that was made for this stays, and is named.
fn explained(failure: Failure, made: Option<&WorkId>, target: &str) -> Failure {
    let Some(item) = made else { return failure };
    let again = format!("{item} stays, open: gtctl sling {item} {target}, or gtctl work close {item}");
    let hint = match failure.hinted() {
        Some(before) => format!("{before}; {again}"),
        None => again,
    };
    failure.hint(hint).with("work", item.as_str())
}

/// Refuses where the daemon would refuse the work once it is made: an item that nobody can do would stay.
async fn takes_new_work(
    session: &Session,
    worker: &Agent,
    rig: &RigName,
    args: &Sling,
) -> Result<(), Failure> {
    let agent = &worker.agent;
    let busy = |text: String, hint: String| Err(RpcError::new(ErrorKind::Busy, text).hint(hint).into());
    if worker.running || matches!(worker.state, State::Starting | State::Stopping) {
        let title = word(&args.work);
        let new = if args.new { "--new " } else { "" };
        let hint = format!(
            "gtctl sling {new}{title} {rig} for a new worker; for this one: gtctl work create {title} --rig {rig}, then gtctl hook set {agent} ID",
        );
        return busy(format!("{agent} runs already"), hint);
    }
    let asked = params::AgentRef { agent: agent.clone() };
    let hook = client::look(ASKING, HookClient::show(&session.client, asked)).await?;
    match hook.body.work {
        Some(held) if !args.force => busy(
            format!("the hook of {agent} holds {} already", held.id),
            format!("gtctl hook clear {agent}, or --force to put it back"),
        ),
        _ => Ok(()),
    }
}

/// A rig, or a worker; everything else is no target.
async fn target(cx: &Context, session: &Session, text: &str) -> Result<Target, Failure> {
    const ROLES: [&str; 9] = ["mayor", "may", "deacon", "dea", "crew", "witness", "wit", "refinery", "ref"];
    if !text.contains('/') {
        let rig = RigName::new(text).ok().filter(|_| !ROLES.contains(&text.to_ascii_lowercase().as_str()));
        return rig.map(Target::Rig).ok_or_else(|| no_target(text));
    }
    // A path is never an address, and never looked at.
    if text.starts_with(['/', '.', '~']) || text.ends_with('/') {
        return Err(no_target(text));
    }
    match cx.agent(session, text).await? {
        agent @ Address::Polecat(..) => Ok(Target::Worker(agent)),
        _ => Err(no_target(text)),
    }
}

fn no_target(text: &str) -> Failure {
    let text = format!("{text:?} is neither a rig nor a polecat");
    RpcError::new(ErrorKind::NameInvalid, text)
        .hint("gtctl rig list; a polecat is named as alpha/polecats/nux")
        .into()
}

fn work_id(text: &str) -> Result<WorkId, Failure> {
    WorkId::new(text).map_err(|error| {
        RpcError::new(ErrorKind::WorkNotFound, format!("there is no work item {text:?}: {error}"))
            .hint("gtctl work list")
            .into()
    })
}

fn word(text: &str) -> String {
    crate::output::shell_word(text)
}

/// The line of a step that begins.
fn step(event: &Event) -> Option<String> {
    let text = |key: &str| event.data.get(key).and_then(Value::as_str);
    let agent = event.agent.as_ref()?;
    Some(match text("step")? {
        "reserve" => format!("  {agent}"),
        "tree" => format!("  worktree on {}", text("branch").unwrap_or("a new branch")),
        "hook" => format!("  hook: {}", text("work")?),
        "start" => "  its agent starts".to_owned(),
        _ => return None,
    })
}

/// What a plan lacks because the work is not made yet.
fn plan_with_work(
    cx: &mut Context,
    envelope: &str,
    mut planned: Reply<Change>,
    title: &str,
) -> Result<Code, Failure> {
    let step = |action: &str, why: &str| PlanStep {
        action: action.to_owned(),
        target: title.trim().to_owned(),
        why: why.to_owned(),
    };
    let agent = planned.body.agent.agent.clone();
    let plan = &mut planned.body.plan;
    let at = plan.iter().position(|step| step.action == "start").unwrap_or(plan.len());
    plan.insert(at, step("hook", &format!("for {agent}")));
    plan.insert(0, step("create", "a new work item"));
    shown(cx, envelope, &planned, "spawned")
}

fn shown(cx: &mut Context, envelope: &str, answer: &Reply<Change>, done: &str) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope(envelope, answer)?;
    } else if answer.body.dry_run {
        screen.plan(&answer.body.plan)?;
    } else {
        let lines = change::change(done, &answer.body, screen.paint);
        screen.lines(lines)?;
    }
    Ok(Code::Done)
}

fn details(cx: &mut Context, change: &Change) -> Result<Code, Failure> {
    let agent = &change.agent;
    let mut lines = Vec::new();
    lines.extend(agent.hook.as_ref().map(|work| format!("  work      {work}")));
    lines.extend(agent.worktree.as_ref().map(|path| format!("  worktree  {path}")));
    lines.extend(agent.branch.as_ref().map(|branch| format!("  branch    {branch}")));
    cx.screen.lines(lines)?;
    Ok(Code::Done)
}
