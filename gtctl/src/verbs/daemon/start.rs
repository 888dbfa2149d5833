//! `gtctl daemon start`: in the background, done when it answers.

use std::path::PathBuf;

use gtd_proto::params;
use gtd_proto::rpc::DaemonClient;
use serde_json::{Value, json};

use super::only_plan;
use crate::cli::Plan;
use crate::client::{self, Session};
use crate::context::Context;
use crate::daemon::start::{Launch, Running, ensure, outside_of_agents};
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::note;
use crate::service::Service;
use crate::town;

/// Runs the verb.
///
/// # Errors
/// The reason why it did not come up.
pub async fn run(cx: &mut Context, args: Plan) -> Result<Code, Failure> {
    if args.dry_run {
        let step = match cx.connect().await {
            Ok(_) => vec![],
            Err(failure) if failure.is_no_daemon() => {
                let service = town::find(&cx.around).ok().and_then(|root| Service::installed(&root));
                let target = service.map_or_else(|| "gtd".to_owned(), |service| service.name().to_owned());
                vec![("start", target, "no daemon is running")]
            }
            Err(failure) => return Err(failure),
        };
        return only_plan(cx, "daemon.start", &step);
    }
    start(cx, "daemon.start").await
}

/// Starts it and says so.
///
/// # Errors
/// As [`run`].
pub async fn start(cx: &mut Context, kind: &str) -> Result<Code, Failure> {
    outside_of_agents(cx.around.var("GT_INSTANCE"))?;
    let came = come(cx.root().await?).await?;
    if cx.screen.json {
        cx.screen.envelope(kind, &came.to_json())?;
        return Ok(Code::Done);
    }
    // After a restart by the manager it may be up before we look.
    let what =
        if came.0.already && kind == "daemon.start" { "daemon is running already" } else { "daemon running" };
    came.say(cx, what).await?;
    Ok(Code::Done)
}

/// A daemon that is up.
pub struct Came(Running);

/// Starts it, if it is not up.
///
/// # Errors
/// As [`run`].
pub async fn come(root: PathBuf) -> Result<Came, Failure> {
    ensure(&Launch { root, hold: false, scrub: false }, &mut Vec::new()).await.map(Came)
}

impl Came {
    /// For scripts.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Running { session, already } = &self.0;
        let hello = &session.hello.body;
        json!({
            "already": already, "pid": hello.pid, "version": hello.version, "town": hello.town,
            "socket": session.socket,
        })
    }

    /// For people.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub async fn say(&self, cx: &mut Context, what: &str) -> Result<(), Failure> {
        warn(&self.0.session).await;
        let hello = &self.0.session.hello.body;
        cx.screen.line(format!("{what}, pid {}, gtd {}, town {}", hello.pid, hello.version, hello.town))
    }
}

/// Says on stderr what a daemon that came up is troubled by. Why it should not be known is no error here.
pub async fn warn(session: &Session) {
    if let Ok(answer) = client::read(DaemonClient::status(&session.client, params::None {})).await {
        answer.body.reasons.iter().for_each(|reason| note(format!("warning: {reason}")));
    }
}
