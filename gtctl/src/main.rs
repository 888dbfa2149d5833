//! `gtctl`, the client of gtd: reads the command line, runs one verb, ends with its exit code.
//!
//! All that is known of a town comes from its daemon; this program holds no policy and touches no agent.

mod cli;
mod client;
mod complete;
mod context;
mod daemon;
mod effects;
mod exit;
mod failure;
mod interrupt;
mod output;
mod service;
mod town;
mod verbs;
mod who;

use std::process::ExitCode;

use clap::error::ErrorKind;

use cli::Cli;
use context::Context;
use exit::Code;
use failure::Failure;

fn main() -> ExitCode {
    // Before everything that takes time: an agent waits for it.
    if let Some(code) = verbs::agent::answer_a_hook() {
        return code.into();
    }
    complete::answer_a_shell();
    interrupt::leave_on_ctrl_c();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error).into(),
    };
    let mut context = Context::new(cli.global);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&mut context, cli.verb)),
        Err(error) => Err(Failure::failed(format!("cannot set up asynchronous input and output: {error}"))),
    };
    let flushed = context.screen.flush();
    let outcome = outcome.and_then(|code| flushed.map(|()| code));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            let failure = failure.of_crew();
            let failure = match context.town_to_name() {
                Some(dir) => failure.in_town(&dir),
                None => failure,
            };
            say(&mut context, &failure)
        }
    }
    .into()
}

/// Runs the verb. Where no daemon answers whose manager has given it up, the failure says that too.
async fn run(context: &mut Context, verb: Option<cli::Verb>) -> Result<Code, Failure> {
    match verbs::run(context, verb).await {
        Err(failure) if failure.is_no_daemon() => match town::find(&context.around) {
            Ok(root) => Err(service::explain(failure, &root).await),
            Err(_) => Err(failure),
        },
        other => other,
    }
}

/// Says what went wrong: as an envelope on stdout, or in words on stderr.
fn say(context: &mut Context, failure: &Failure) -> Code {
    let screen = &mut context.screen;
    if screen.json {
        // When stdout is gone there is nowhere left to say it.
        let _ = screen.error_envelope(failure).and_then(|()| screen.flush());
    } else {
        output::error::lines(failure, screen.paint).iter().for_each(output::note);
    }
    failure.code()
}

/// Help and version are data and go to stdout; a wrong command line is an error like others.
fn not_understood(error: &clap::Error) -> Code {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match error.print() {
            Ok(()) => Code::Done,
            Err(_) => Code::BrokenPipe,
        };
    }
    let guess = match error.kind() {
        ErrorKind::InvalidSubcommand => cli::guess::hint(std::env::args_os().skip(1)),
        _ => None,
    };
    if std::env::args_os().any(|arg| arg == "--json") {
        let said = error.to_string();
        // What is missing stands on lines of its own, up to the first empty one.
        let words: Vec<&str> = said.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let words = words.join(" ");
        let failure = Failure::usage(words.trim_start_matches("error: "))
            .hint(guess.as_deref().unwrap_or("gtctl --help"));
        let envelope =
            serde_json::json!({ "schema_version": 1, "kind": "error", "error": failure.to_json() });
        // Not `println!`: it would panic when the reader is gone.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{envelope}\n").as_bytes());
    } else {
        let _ = error.print();
        if let Some(guess) = guess {
            output::note(format!("hint: {guess}"));
        }
    }
    Code::Usage
}
