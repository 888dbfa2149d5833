//! `gtctl down`: everything of a town ends, and a census says whether it did.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gtd_proto::rpc::TownClient;
use gtd_proto::town::{Census, TownChange};
use gtd_proto::{Reply, params};

use super::progress;
use crate::cli::{Down, millis};
use crate::client::{self, Session};
use crate::context::Context;
use crate::daemon::identity::Identity;
use crate::daemon::lock::{self, Lock};
use crate::daemon::start::{self, Launch};
use crate::daemon::stop;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::{left, step};
use crate::output::confirm::confirm;
use crate::output::{change, note};

/// How long the daemon may take to end, once its agents have.
const DAEMON_END: Duration = Duration::from_secs(10);

/// How the agents are to be ended.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Do not wait for turns to end.
    pub now: bool,
    /// KILL at once.
    pub force: bool,
    /// How long to wait, in milliseconds.
    pub wait_ms: Option<u64>,
    /// Why.
    pub reason: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// When it was not confirmed, or a daemon can neither be reached nor started.
pub async fn run(cx: &mut Context, args: &Down) -> Result<Code, Failure> {
    if args.plan.dry_run {
        return plan_only(cx, args).await;
    }
    let root = cx.root().await?;
    let question = format!("Stop every agent of {} and its daemon?", root.display());
    confirm("down", args.ending.force, cx.global.yes, &question)?;
    let session = reach(cx, &root).await?;
    let how = How {
        now: args.ending.now,
        force: args.ending.force,
        wait_ms: args.timeout.map(millis),
        reason: args.reason.reason.clone(),
    };
    let answer = take_down(session, &root, how).await?;

    let census = answer.body.census.clone().unwrap_or_default();
    let failed = answer.body.items.iter().any(|item| !item.ok);
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("town.stop", &answer)?;
    } else {
        let lines = change::town("stopped", &answer.body, screen.paint, screen.width);
        screen.lines(lines)?;
        screen.lines(left(&census))?;
        if census.is_empty() && !failed {
            screen.line(format!("town {} is down, nothing is left", root.display()))?;
        } else {
            screen.line(format!("town {} is down, except for the above", root.display()))?;
        }
    }
    Ok(if census.is_empty() && !failed { Code::Done } else { Code::Partial })
}

/// The daemon that is to stop the agents: the one that runs, or one that is started for it, under a hold so that
/// it starts nothing.
async fn reach(cx: &Context, root: &Path) -> Result<Session, Failure> {
    match cx.connect().await {
        Err(failure) if failure.is_no_daemon() => {
            start::outside_of_agents(cx.around.var("GT_INSTANCE"))?;
            note("no daemon is running; starting one that starts nothing, to stop what it finds");
            Ok(start::ensure(&Launch { root: root.to_owned(), hold: true, scrub: false }, &mut Vec::new())
                .await?
                .session)
        }
        other => other,
    }
}

/// Stops the agents, then the daemon, and looks at what is left. The answer's census is the last look.
///
/// # Errors
/// When the daemon refuses, or does not end.
pub async fn take_down(session: Session, root: &Path, how: How) -> Result<Reply<TownChange>, Failure> {
    let request = params::TownStop {
        dry_run: false,
        now: how.now,
        force: how.force,
        wait_ms: how.wait_ms,
        idempotency_key: None,
        reason: how.reason,
    };
    note("stopping the agents");
    let stopping = client::change(how.wait_ms, TownClient::stop(&session.client, request));
    let mut answer = progress::with_events(&session, "stopping", stopping).await?;
    let socket = session.socket.clone();
    drop(session);
    note("stopping the daemon");
    stop::stop(root, DAEMON_END, false).await?;
    answer.body.census = Some(count(answer.body.census.take().unwrap_or_default(), root, &socket));
    Ok(answer)
}

/// Looks again at what the daemon found, now that it is gone itself, and at what it leaves.
fn count(mut found: Census, root: &Path, socket: &Path) -> Census {
    found.processes.retain(|entry| lives(entry));
    found.sessions.retain(|entry| !is_dead_socket(entry));
    found.files.retain(|path| Path::new(path).symlink_metadata().is_ok());
    if socket.symlink_metadata().is_ok() {
        found.files.push(socket.display().to_string());
    }
    let held = root.join("daemon/daemon.lock").display().to_string();
    match lock::look(root) {
        Lock::Free => {}
        Lock::Held => found.files.push(format!("{held} (held)")),
        Lock::Unknown(error) => found.files.push(format!("{held} ({error})")),
    }
    found
}

/// Whether a `pid:start program` of a census is alive. What cannot be read counts as left.
fn lives(entry: &str) -> bool {
    let id = entry.split_whitespace().next().unwrap_or_default();
    let parsed = id.split_once(':').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
    parsed.is_none_or(|(pid, start)| Identity { pid, start }.is_alive())
}

/// Whether an entry is the path of a socket on which nobody listens any more.
fn is_dead_socket(entry: &str) -> bool {
    let path = PathBuf::from(entry);
    path.is_absolute() && std::os::unix::net::UnixStream::connect(path).is_err()
}

async fn plan_only(cx: &mut Context, args: &Down) -> Result<Code, Failure> {
    let steps = match cx.connect().await {
        Ok(session) => {
            let request = params::TownStop {
                dry_run: true,
                now: args.ending.now,
                force: args.ending.force,
                ..params::TownStop::default()
            };
            let answer = client::read(TownClient::stop(&session.client, request)).await?;
            let mut steps = answer.body.plan;
            steps.push(step(
                "stop",
                format!("gtd pid {}", session.hello.body.pid),
                "nothing is left to supervise",
            ));
            steps
        }
        Err(failure) if failure.is_no_daemon() => {
            cx.root().await?;
            vec![
                step("start", "gtd --hold", "no daemon is running"),
                step("stop", "what it finds", "agents outlive their daemon"),
                step("stop", "that gtd", "nothing is left to supervise"),
            ]
        }
        Err(failure) => return Err(failure),
    };
    let screen = &mut cx.screen;
    if screen.json {
        let change = TownChange { items: Vec::new(), census: None, plan: steps, dry_run: true };
        screen.envelope("town.stop", &change)?;
    } else {
        screen.plan(&steps)?;
    }
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_proven_gone_leaves_the_census() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("daemon")).unwrap();
        let alive = format!("{}:{} test", me.pid, me.start);
        let gone = format!("{}:{} test", me.pid, me.start - 1);
        let file = dir.path().join("daemon/gtd.pid");
        std::fs::write(&file, "").unwrap();
        let found = Census {
            sessions: vec![
                "$3 gt-alpha-witness".to_owned(),
                dir.path().join("no.sock").display().to_string(),
            ],
            processes: vec![alive.clone(), gone, "unreadable".to_owned()],
            files: vec![file.display().to_string(), dir.path().join("none").display().to_string()],
        };
        let census = count(found, dir.path(), &dir.path().join("daemon/gtd.sock"));
        assert_eq!(census.sessions, ["$3 gt-alpha-witness"]);
        assert_eq!(census.processes, [alive, "unreadable".to_owned()]);
        assert_eq!(census.files, [file.display().to_string()]);
    }
}
