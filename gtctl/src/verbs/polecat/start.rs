//! `gtctl polecat start`: a worker, with work if some is named.

use gtd_proto::params;
use gtd_proto::rpc::PolecatClient;

use super::super::progress;
use super::report;
use crate::cli::{Overrides, PolecatStart};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::confirm::confirm;
use crate::output::note;

/// Runs the verb.
///
/// # Errors
/// The daemon's.
pub async fn run(cx: &mut Context, args: PolecatStart) -> Result<Code, Failure> {
    // What is taken from another may be half done there.
    let takes = args.force && args.work.is_some() && !args.change.dry_run();
    let question = "take the work from whoever has it?";
    confirm("polecat start", takes, cx.global.yes, question)?;
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.polecat).await?;
    let Overrides { agent: agent_preset, account, env, reset_overrides } = args.overrides;
    let otherwise = agent_preset.is_some() || account.is_some() || !env.is_empty() || reset_overrides;
    let wait_ms = args.change.wait_ms();
    let request = params::PolecatStart {
        agent: agent.clone(),
        work: args.work,
        agent_preset,
        account,
        env: env.into_iter().collect(),
        reset_overrides,
        force: args.force,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let asked = client::change(wait_ms, PolecatClient::start(&session.client, request));
    let answer = progress::with_clock("starting", asked).await?;
    if answer.body.already && otherwise && !answer.body.dry_run {
        note(format!(
            "it goes on as it was launched; what was asked for holds from its next start: gtctl polecat restart {agent}"
        ));
    }
    report(cx, "start", "started", &answer)
}
