//! `gtctl completions`: a script for a shell, which asks this program for each completion.

use clap_complete::env::Shells;

use crate::cli::Completions;
use crate::complete::VARIABLE;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// Runs the verb.
///
/// # Errors
/// When the script cannot be written.
pub fn run(cx: &mut Context, args: &Completions) -> Result<Code, Failure> {
    let failed = |why: String| Failure::failed(format!("no script for {}: {why}", args.shell.as_str()));
    let shells = Shells::builtins();
    let completer =
        shells.completer(args.shell.as_str()).ok_or_else(|| failed("it is not known".to_owned()))?;
    let mut script = Vec::new();
    // By its name, so that the script outlives a reinstallation elsewhere on the PATH.
    completer
        .write_registration(VARIABLE, "gtctl", "gtctl", "gtctl", &mut script)
        .map_err(|error| failed(error.to_string()))?;
    let script = String::from_utf8_lossy(&script);
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope(
            "completions",
            &serde_json::json!({ "shell": args.shell.as_str(), "script": script }),
        )?;
    } else {
        screen.line(script.trim_end())?;
    }
    Ok(Code::Done)
}
