//! `gtctl polecat remove`: lets go of a worker; what it has is archived.

use gtd_proto::params;
use gtd_proto::polecat::PolecatRemoved;
use gtd_proto::rpc::PolecatClient;

use super::super::progress;
use crate::cli::PolecatRemove;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::confirm::confirm;
use crate::output::error::plain;

/// Runs the verb.
///
/// # Errors
/// The daemon's, or that it was not confirmed.
pub async fn run(cx: &mut Context, args: PolecatRemove) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.polecat).await?;
    if !args.change.dry_run() {
        let question = if args.force {
            format!(
                "Stop {agent}, archive what it has, and remove its worktree with the files that git ignores?"
            )
        } else {
            format!("Remove {agent} and its worktree, with the files that git ignores?")
        };
        confirm("polecat remove", args.force, cx.global.yes, &question)?;
    }
    let wait_ms = args.change.wait_ms();
    let request = params::PolecatRemove {
        agent,
        force: args.force,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let asked = client::change(wait_ms, PolecatClient::remove(&session.client, request));
    let answer = progress::with_clock("removing", asked).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("polecat.remove", &answer)?;
    } else if answer.body.dry_run {
        screen.plan(&answer.body.plan)?;
    } else {
        screen.lines(words(&answer.body))?;
    }
    Ok(Code::Done)
}

fn words(removed: &PolecatRemoved) -> Vec<String> {
    let agent = &removed.agent;
    if removed.accepted {
        return vec![format!("accepted; follow it with `gtctl events -f --agent {agent}`")];
    }
    let mut out = vec![format!("removed {agent}")];
    out.extend(
        removed
            .archived
            .iter()
            .map(|kept| format!("  archived {} as {}", short(&kept.commit), plain(&kept.name))),
    );
    if let (Some(aside), Some(why)) = (&removed.aside, &removed.why) {
        out.push(format!("  moved aside to {}: {}", plain(aside), plain(why)));
    }
    if let Some(branch) = &removed.branch {
        out.push(format!("  deleted the branch {}", plain(branch)));
    }
    if let Some(work) = &removed.work {
        out.push(format!("  {work} is open again"));
    }
    out
}

/// A commit, as git would shorten it.
fn short(commit: &str) -> String {
    plain(commit.get(..12).unwrap_or(commit)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gtd_proto::polecat::ArchivedRef;

    #[test]
    fn it_says_what_was_kept_and_where() {
        let removed = PolecatRemoved {
            agent: "alpha/polecats/nux".parse().unwrap(),
            archived: vec![ArchivedRef {
                name: "refs/gtd/archive/nux/20250304T050607.089Z/tip".into(),
                commit: "2ff16d0bf96747a3a9e9cca630139747e6540bd5".into(),
            }],
            branch: Some("polecat/nux/al-12@m7u1x4".into()),
            worktree: Some("/town/alpha/polecats/nux".into()),
            aside: Some("/town/alpha/polecats/.gtd-aside-nux@x".into()),
            why: Some("there is a repository of its own within it, lib".into()),
            work: Some("al-12".parse().unwrap()),
            accepted: false,
            dry_run: false,
            plan: Vec::new(),
        };
        assert_eq!(
            words(&removed),
            [
                "removed alpha/polecats/nux",
                "  archived 2ff16d0bf967 as refs/gtd/archive/nux/20250304T050607.089Z/tip",
                "  moved aside to /town/alpha/polecats/.gtd-aside-nux@x: there is a repository of its own within it, lib",
                "  deleted the branch polecat/nux/al-12@m7u1x4",
                "  al-12 is open again",
            ]
        );
        let accepted = words(&PolecatRemoved { accepted: true, ..removed });
        assert_eq!(accepted, ["accepted; follow it with `gtctl events -f --agent alpha/polecats/nux`"]);
    }
}
