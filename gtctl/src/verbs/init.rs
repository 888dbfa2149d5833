//! `gtctl init`: a new town. The work is gtd's, which knows the layout.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::cli::Init;
use crate::context::Context;
use crate::daemon::sibling;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::step;

/// Runs the verb; for people it becomes gtd.
///
/// # Errors
/// When gtd is missing, or with `--json` when it fails.
pub fn run(cx: &mut Context, args: &Init) -> Result<Code, Failure> {
    let gtd = sibling::gtd()?;
    let dir = plain(cx.around.cwd.join(&args.dir));
    let mut command = Command::new(gtd);
    command.arg("--town").arg(&dir).arg("--init");
    if let Some(name) = &args.name {
        command.arg("--name").arg(name);
    }
    let shown = dir.display().to_string();
    if args.plan.dry_run {
        let steps = [step("make", shown, "a new town")];
        let screen = &mut cx.screen;
        if screen.json {
            screen.envelope("init", &json!({ "dry_run": true, "plan": steps }))?;
        } else {
            screen.plan(&steps)?;
        }
        return Ok(Code::Done);
    }
    if !cx.screen.json {
        cx.screen.flush()?;
        return Err(Failure::failed(format!("cannot run gtd: {}", command.exec())));
    }
    let done =
        command.stdin(Stdio::null()).output().map_err(|e| Failure::failed(format!("cannot run gtd: {e}")))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let lines: Vec<&str> = said.lines().collect();
        let failure = match done.status.code() {
            Some(2) => Failure::usage(format!("gtd did not make a town in {shown}")),
            _ => Failure::failed(format!("gtd did not make a town in {shown}")),
        };
        return Err(failure.with("stderr", lines.join("\n")));
    }
    cx.screen.envelope("init", &json!({ "root": shown }))?;
    Ok(Code::Done)
}

/// The path without `..`, where what it leads through is there.
fn plain(dir: PathBuf) -> PathBuf {
    match (dir.parent().map(Path::canonicalize), dir.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => dir,
    }
}
