//! `gtctl attach`: this terminal becomes a client of the agent's tmux session.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use gtd_proto::agent::Attach as Way;
use gtd_proto::rpc::AgentClient;
use gtd_proto::{Address, params};

use crate::cli::Attach;
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::shell_word;

/// Runs the verb; it becomes tmux.
///
/// # Errors
/// When the agent has no session, or this terminal cannot be handed over.
pub async fn run(cx: &mut Context, args: &Attach) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let agent = cx.agent(&session, &args.agent).await?;
    to(cx, session, agent, args.nested).await
}

/// Hands this terminal to an agent's session. With `--json` it only prints how.
///
/// # Errors
/// As [`run`].
pub async fn to(cx: &mut Context, session: Session, agent: Address, nested: bool) -> Result<Code, Failure> {
    let answer = client::read(AgentClient::attach(&session.client, params::AgentRef { agent })).await?;
    if cx.screen.json {
        cx.screen.envelope("agent.attach", &answer)?;
        return Ok(Code::Done);
    }
    cx.screen.flush()?;
    drop(session);
    let way = &answer.body;
    let inside = std::env::var_os("TMUX").filter(|value| !value.is_empty());
    let argv = choose(way, inside.as_deref(), nested)?;
    let Some((program, rest)) = argv.split_first() else {
        return Err(Failure::mismatch("the daemon named no command to attach with"));
    };
    let mut command = Command::new(program);
    command.args(rest);
    if argv == &way.argv {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(format!("attaching to {} needs a terminal", way.agent))
                .hint(format!("in a terminal: {}", words(argv))));
        }
        // tmux would refuse to start inside another server's pane; that this is wanted was said.
        command.env_remove("TMUX");
    }
    Err(Failure::failed(format!("cannot run {program}: {}", command.exec())))
}

/// Which of the two commands: the first field of `$TMUX` is the socket of the server around us.
fn choose<'a>(way: &'a Way, inside: Option<&OsStr>, nested: bool) -> Result<&'a Vec<String>, Failure> {
    let Some(inside) = inside else { return Ok(&way.argv) };
    let inside = inside.to_string_lossy();
    // The two fields after it are numbers; the path itself may contain commas.
    let socket = inside.rsplitn(3, ',').nth(2).unwrap_or(&inside);
    if same(Path::new(socket), Path::new(&way.server)) {
        return Ok(&way.argv_inside);
    }
    if nested {
        return Ok(&way.argv);
    }
    Err(Failure::refused(format!(
        "this terminal is inside another tmux server ({socket}), where {} would run nested",
        way.agent
    ))
    .hint(format!(
        "in a terminal outside tmux: {}; or here: gtctl attach {} --nested",
        words(&way.argv),
        way.agent
    )))
}

fn same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    a == b || real(a) == real(b)
}

/// A command line that a shell reads as it was meant.
fn words(argv: &[String]) -> String {
    argv.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way() -> Way {
        let argv = |words: &str| words.split(' ').map(str::to_owned).collect();
        Way {
            agent: "alpha/witness".parse().unwrap(),
            argv: argv("tmux -S /t/a,b.sock attach-session -t $3"),
            argv_inside: argv("tmux -S /t/a,b.sock switch-client -t $3"),
            server: "/t/a,b.sock".to_owned(),
        }
    }

    #[test]
    fn the_server_around_us_decides() {
        let way = way();
        let pick = |inside: Option<&str>, nested| choose(&way, inside.map(OsStr::new), nested);
        assert_eq!(pick(None, false).unwrap(), &way.argv);
        assert_eq!(pick(Some("/t/a,b.sock,123,0"), false).unwrap(), &way.argv_inside);
        assert_eq!(pick(Some("/t/other,123,0"), true).unwrap(), &way.argv);
        let refused = pick(Some("/t/other,123,0"), false).unwrap_err();
        assert_eq!(refused.code(), Code::Refused);
        assert!(refused.to_json()["hint"].as_str().unwrap().contains("attach-session -t '$3'"));
    }
}
