//! `gtctl prime`: an agent's own context, in words for a model: who it is, what it has to do, what it may use.

use std::time::Duration;

use clap::CommandFactory;
use gtd_proto::rpc::{AgentClient, HookClient};
use gtd_proto::work::{HookShown, Work};
use gtd_proto::{Address, Agent, Role, method, params};
use jsonrpsee::core::client::ClientT;
use jsonrpsee::core::params::ObjectParams;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{Cli, Prime};
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::time;
use crate::who::Who;

/// How long the store of the work may take: the whole is to be there within 200 ms, and a store may hang.
const STORE: Duration = Duration::from_millis(100);
/// The same of the mailbox.
const MAIL: Duration = Duration::from_millis(30);
/// Longest description that is told, in characters; the rest is in the store.
const DESCRIPTION: usize = 6_000;

/// What an agent is told.
#[derive(Debug, Serialize)]
struct Told {
    agent: Agent,
    town: String,
    /// In a sentence.
    who: String,
    /// What is on its hook; null where it is empty or not known.
    work: Option<Work>,
    /// Whether that was answered by the store just now.
    work_known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_unread: Option<u64>,
    tasks: Vec<String>,
    verbs: Vec<Use>,
}

/// A verb that it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Use {
    command: String,
    why: &'static str,
}

/// Runs the verb.
///
/// # Errors
/// When no agent runs it, or no daemon answers.
pub async fn run(cx: &mut Context, args: &Prime) -> Result<Code, Failure> {
    let who = Who::here(&cx.around);
    if args.agent.is_none() && who.is_none() {
        return Err(Failure::usage("gtctl prime is run by an agent: GT_INSTANCE is not set")
            .hint("gtctl prime AGENT"));
    }
    let session = cx.connect().await?;
    let agent = match (&args.agent, &who) {
        (None, Some(who)) => own(&session, who).await?,
        (named, _) => cx.agent(&session, named.as_deref().unwrap_or_default()).await?,
    };
    let told = gather(&session, agent).await?;
    if cx.screen.json {
        cx.screen.envelope("prime", &told)?;
    } else {
        cx.screen.lines(words(&told))?;
    }
    Ok(Code::Done)
}

/// The agent whose present instance runs this.
async fn own(session: &Session, who: &Who) -> Result<Address, Failure> {
    let all = client::read(AgentClient::list(&session.client, params::AgentList::default())).await?;
    let mut agents = all.body.items.into_iter();
    match agents.find(|agent| agent.instance.as_ref() == Some(&who.instance)) {
        Some(agent) => Ok(agent.agent),
        // Of an earlier start, and still the same agent.
        None => who.agent.clone().ok_or_else(|| {
            Failure::no_such(format!("no agent has instance {}", who.instance)).hint("gtctl status")
        }),
    }
}

async fn gather(session: &Session, address: Address) -> Result<Told, Failure> {
    let request = params::AgentList { selector: Some(address.to_string()) };
    let found = client::read(AgentClient::list(&session.client, request)).await?.body.items;
    let agent = found.into_iter().find(|agent| agent.agent == address);
    let agent =
        agent.ok_or_else(|| Failure::no_such(format!("there is no agent {address}")).hint("gtctl status"))?;
    let asked = HookClient::show(&session.client, params::AgentRef { agent: address.clone() });
    let (hook, mail_unread) = tokio::join!(tokio::time::timeout(STORE, asked), unread(session, &address));
    let hook: Option<HookShown> = hook.ok().and_then(Result::ok).map(|answer| answer.body);
    let built = Cli::command();
    Ok(Told {
        town: session.root().display().to_string(),
        who: name(&address),
        work_known: hook.is_some(),
        tasks: tasks(&address, hook.as_ref().map_or(agent.hook.is_some(), |hook| hook.work.is_some())),
        work: hook.and_then(|hook| hook.work),
        mail_unread,
        verbs: verbs(&address).into_iter().filter(|one| is_built(&built, &one.command)).collect(),
        agent,
    })
}

/// How much mail it has not read, where there is a mailbox.
async fn unread(session: &Session, address: &Address) -> Option<u64> {
    method::find("mail.inbox")?;
    let mut request = ObjectParams::new();
    request.insert("for", address).ok()?;
    let asked = session.client.request::<Value, _>("mail.inbox", request);
    let answer = tokio::time::timeout(MAIL, asked).await.ok()?.ok()?;
    count_unread(&answer)
}

fn count_unread(inbox: &Value) -> Option<u64> {
    let items = inbox.get("items")?.as_array()?;
    let unread = items.iter().filter(|item| item.get("read").and_then(Value::as_bool) == Some(false));
    u64::try_from(unread.count()).ok()
}

fn name(agent: &Address) -> String {
    match agent {
        Address::Mayor => "You are the mayor: you coordinate this town for its person.".to_owned(),
        Address::Deacon => "You are the deacon: you make rounds of this town.".to_owned(),
        Address::Boot => "You look after the deacon of this town.".to_owned(),
        Address::Witness(rig) => format!("You are the witness of the rig {rig}: you watch its workers."),
        Address::Refinery(rig) => {
            format!("You are the refinery of the rig {rig}: you merge what its workers have done.")
        }
        Address::Polecat(rig, name) => format!("You are {name}, a worker of the rig {rig}."),
        Address::Crew(rig, name) => {
            format!("You are in the workspace {name} of the rig {rig}, for a person.")
        }
    }
}

/// What to do, in the order in which it is done.
fn tasks(agent: &Address, has_work: bool) -> Vec<String> {
    let own = |text: &[&str]| text.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let mut tasks = match agent.role() {
        Role::Polecat if has_work => own(&[
            "Do what your hook holds, in your own directory and on your own branch. See first how far it is: you may have been started again in the midst of it.",
            "Commit as you go. Work in no other directory of the town.",
            "When it is done: commit, push your branch, and tell the refinery of your rig which branch is ready. It merges, and closes the work.",
            "When you cannot go on: say to the witness of your rig what is missing, and end your turn.",
        ]),
        Role::Polecat => own(&["Your hook is empty. Wait: you are told when there is work."]),
        Role::Witness => own(&[
            "See which workers there are, what is on their hooks, and whether they get on.",
            "Who has work and does not get on is asked about it. Who cannot go on is reported to your person.",
            "Do not do the workers' work, and end none of them that works. The daemon brings back who dies.",
            "When nothing is to be done, end your turn.",
        ]),
        Role::Refinery => own(&[
            "Take what workers say is ready, one branch at a time: look at it, run the tests, merge it into the default branch, push.",
            "Close the work when it is merged. What cannot be merged goes back to its worker with the reason.",
            "When nothing is ready, end your turn.",
        ]),
        Role::Deacon => own(&[
            "Say that you are well, at the beginning of each round: date -u '+{\"timestamp\":\"%FT%TZ\"}' > heartbeat.json, in your own directory (deacon/ of the town). Who stops saying so is started anew.",
            "See how the town is: what is unwell, what waits for a person, which alerts are open.",
            "Restart a witness or a refinery that does not get on. Everything else that dies the daemon brings back.",
            "When nothing is to be done, end your turn.",
        ]),
        Role::Mayor => own(&[
            "See what your person wants and what the town is doing. Make work items of it, and hand them to workers.",
            "Do not do the workers' work yourself.",
        ]),
        Role::Boot => own(&["Say how the deacon is, and end."]),
        Role::Crew | Role::Unknown => {
            own(&["You work for the person of this workspace: what they say counts."])
        }
    };
    if has_work && agent.role() != Role::Polecat {
        tasks.insert(0, "Your hook holds work: that comes first.".to_owned());
    }
    tasks
}

fn verbs(agent: &Address) -> Vec<Use> {
    let one = |command: String, why: &'static str| Use { command, why };
    let mut verbs = vec![one(format!("gtctl hook show {agent}"), "what your hook holds")];
    let rig = agent.rig().map(ToString::to_string).unwrap_or_default();
    match agent.role() {
        Role::Polecat | Role::Crew => {
            verbs.push(one("gtctl work show ID".to_owned(), "a work item in full"));
            verbs.push(one(format!("gtctl mail send {rig}/refinery SUBJECT BODY"), "a branch is ready"));
            verbs.push(one(format!("gtctl mail send {rig}/witness SUBJECT BODY"), "something is missing"));
        }
        Role::Witness => {
            verbs.push(one(format!("gtctl status '{rig}/*'"), "the rig at a glance"));
            verbs.push(one(format!("gtctl peek {rig}/polecats/NAME"), "a worker's screen"));
            verbs.push(one(format!("gtctl nudge {rig}/polecats/NAME TEXT"), "ask a worker something"));
            verbs.push(one("gtctl polecat restart AGENT".to_owned(), "start a worker anew"));
        }
        Role::Refinery => {
            verbs.push(one("gtctl work show ID".to_owned(), "a work item in full"));
            verbs.push(one("gtctl work close ID".to_owned(), "it is merged"));
            verbs.push(one(format!("gtctl nudge {rig}/polecats/NAME TEXT"), "send something back"));
        }
        Role::Deacon | Role::Boot => {
            verbs.push(one("gtctl status".to_owned(), "the town at a glance, what is unwell first"));
            verbs.push(one("gtctl deaths".to_owned(), "who died lately, and of what"));
            verbs.push(one("gtctl nudge AGENT TEXT".to_owned(), "ask an agent something"));
            if agent.role() == Role::Deacon {
                verbs.push(one("gtctl witness restart RIG".to_owned(), "start a witness anew"));
            }
        }
        Role::Mayor | Role::Unknown => {
            verbs.push(one("gtctl status".to_owned(), "the town at a glance, what is unwell first"));
            verbs.push(one("gtctl work create TITLE --rig RIG".to_owned(), "a new work item"));
            verbs.push(one("gtctl work list".to_owned(), "what there is to do"));
            verbs.push(one("gtctl sling WORK RIG".to_owned(), "hand it to a new worker"));
            verbs.push(one("gtctl nudge AGENT TEXT".to_owned(), "tell an agent something"));
        }
    }
    verbs.push(one("gtctl mail inbox".to_owned(), "your mail"));
    verbs.push(one("gtctl agent report waiting --detail TEXT".to_owned(), "say that you need a person"));
    verbs
}

/// Whether this program has the verb: what it lacks is not proposed.
fn is_built(cli: &clap::Command, command: &str) -> bool {
    let mut at = cli;
    for word in command.split(' ').skip(1) {
        match at.find_subcommand(word) {
            Some(sub) => at = sub,
            None => return !std::ptr::eq(at, cli) && at.get_subcommands().next().is_none(),
        }
    }
    at.get_subcommands().next().is_none()
}

fn words(told: &Told) -> Vec<String> {
    let agent = &told.agent;
    let mut out = vec![
        told.who.clone(),
        String::new(),
        format!("Address: {}", agent.agent),
        format!("Town: {}", told.town),
    ];
    out.extend(agent.worktree.as_ref().map(|dir| format!("Directory: {}", plain(dir))));
    out.extend(agent.branch.as_ref().map(|branch| format!("Branch: {}", plain(branch))));
    out.push(String::new());
    match (&told.work, told.work_known, &agent.hook) {
        (Some(work), ..) => {
            out.push(format!("Your hook holds {}: {}", work.id, plain(&work.title)));
            out.push(format!("  {}, in the store {}", plain(&work.status), work.store));
            out.extend(work.updated_at.map(|at| format!("  last changed {}", time::full(at))));
            out.extend(description(work));
        }
        (None, true, _) => out.push("Your hook is empty.".to_owned()),
        (None, false, Some(id)) => out.push(format!(
            "Your hook held {} when its store last answered. It does not answer now: gtctl hook show {}",
            plain(id),
            agent.agent
        )),
        (None, false, None) => out.push(format!(
            "What your hook holds is not known now, its store does not answer: gtctl hook show {}",
            agent.agent
        )),
    }
    match told.mail_unread {
        Some(0) => out.push("You have no unread mail.".to_owned()),
        Some(n) => out.push(format!("You have unread mail: {n}")),
        None => {}
    }
    out.extend([String::new(), "What to do:".to_owned()]);
    out.extend(told.tasks.iter().enumerate().map(|(n, task)| format!("{}. {task}", n + 1)));
    out.extend([String::new(), "What you use:".to_owned()]);
    let wide = told.verbs.iter().map(|one| one.command.len()).max().unwrap_or_default();
    out.extend(told.verbs.iter().map(|one| format!("  {:<wide$}  {}", one.command, one.why)));
    out
}

/// What somebody wrote about the work: set apart, so that it is not taken for what the town says.
fn description(work: &Work) -> Vec<String> {
    let Some(text) = work.description.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
        return Vec::new();
    };
    let cut: String = text.chars().take(DESCRIPTION).collect();
    let mut out = vec!["  its description:".to_owned()];
    out.extend(cut.lines().map(|line| format!("  | {}", plain(line)).trim_end().to_owned()));
    if cut.len() < text.len() {
        out.push(format!("  | \u{2026} (the rest: gtctl work show {})", work.id));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 7] =
        ["mayor", "deacon", "boot", "a/witness", "a/refinery", "a/polecats/nux", "a/crew/max"];

    #[test]
    fn every_agent_has_something_to_do_and_verbs_that_are_built() {
        let cli = Cli::command();
        for agent in ALL {
            let agent: Address = agent.parse().unwrap();
            for has_work in [true, false] {
                assert!(!tasks(&agent, has_work).is_empty(), "{agent}");
            }
            let all = verbs(&agent);
            assert!(all.iter().any(|one| is_built(&cli, &one.command)), "{agent}");
            assert!(name(&agent).ends_with('.'), "{agent}");
        }
    }

    #[test]
    fn a_verb_that_is_not_there_is_not_proposed() {
        let cli = Cli::command();
        assert!(is_built(&cli, "gtctl hook show a/witness"));
        assert!(is_built(&cli, "gtctl status"));
        assert!(is_built(&cli, "gtctl agent report waiting --detail TEXT"));
        for missing in ["gtctl fly", "gtctl hook fly AGENT", "gtctl hook"] {
            assert!(!is_built(&cli, missing), "{missing}");
        }
    }

    #[test]
    fn unread_mail_is_counted_and_odd_answers_are_not_known() {
        let inbox =
            serde_json::json!({ "items": [{ "read": false }, { "read": true }, { "read": false }, {}] });
        assert_eq!(count_unread(&inbox), Some(2));
        for odd in [serde_json::json!({}), serde_json::json!({ "items": 5 }), Value::Null] {
            assert_eq!(count_unread(&odd), None, "{odd}");
        }
    }
}
