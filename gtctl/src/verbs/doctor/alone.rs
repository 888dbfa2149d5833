//! The look without a daemon: the gtd beside us does it, and says each check when it is done.

use std::process::Stdio;
use std::time::Duration;

use gtd_proto::doctor::{CheckResult, Report};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::code;
use super::show::{self, Printer};
use crate::cli::Doctor;
use crate::context::Context;
use crate::daemon::sibling;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::{Screen, note};
use crate::town;
use crate::verbs::progress;

/// Longer than all of its own deadlines together.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the verb.
///
/// # Errors
/// When gtd cannot be run, or did not look.
pub async fn run(cx: &mut Context, args: &Doctor) -> Result<Code, Failure> {
    let root = town::find(&cx.around)?;
    let mut command = Command::new(sibling::gtd()?);
    command.arg("--town").arg(&root).args(["--check", "--json", "--each"]);
    for name in &args.checks {
        command.args(["--only", name]);
    }
    if let Some(rig) = &args.rig {
        command.args(["--rig", rig.as_str()]);
    }
    let looking = tokio::time::timeout(LIMIT, look(&mut cx.screen, command, args));
    let looking = async {
        looking.await.unwrap_or_else(|_| {
            Err(Failure::timeout(format!("gtd did not end its look within {}s", LIMIT.as_secs())))
        })
    };
    let report = progress::with_clock("looking", looking).await?;
    if cx.screen.json {
        cx.screen.envelope("doctor.run", &report)?;
    } else {
        show::end(&mut cx.screen, &report, args)?;
        cx.screen.flush()?;
        note("no daemon runs: only files and processes were looked at");
    }
    Ok(code(&report))
}

async fn look(screen: &mut Screen, mut command: Command, args: &Doctor) -> Result<Report, Failure> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot run gtd: {error}"));
    let mut child = command.spawn().map_err(cannot)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let complaints = tokio::spawn(async move {
        let mut said = String::new();
        if let Some(err) = err {
            let _ = err.take(64 << 10).read_to_string(&mut said).await;
        }
        said
    });
    let mut lines = BufReader::new(out.ok_or_else(|| Failure::failed("gtd has no output"))?).lines();
    let mut printer = Printer::new(Vec::new(), args);
    let mut report = None;
    loop {
        let line = tokio::select! {
            biased;
            line = lines.next_line() => line.map_err(cannot)?,
            () = printer.impatient() => {
                printer.all_that_is_there(screen)?;
                continue;
            }
        };
        let Some(line) = line else { break };
        if let Ok(names) = serde_json::from_str::<Vec<String>>(&line) {
            printer = Printer::new(names, args);
        } else if let Ok(whole) = serde_json::from_str::<Report>(&line) {
            report = Some(whole);
        } else if let Ok(check) = serde_json::from_str::<CheckResult>(&line)
            && !screen.json
        {
            printer.take(screen, check)?;
        }
    }
    let status = child.wait().await.map_err(cannot)?;
    if let Some(report) = report {
        printer.finish(screen)?;
        return Ok(report);
    }
    let said = complaints.await.unwrap_or_default();
    let what =
        said.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or("gtd did not look at the town");
    let failure = match status.code() {
        Some(2) => Failure::usage(what).hint("gtctl doctor --list"),
        _ => Failure::failed(what),
    };
    Err(failure.with("stderr", said.clone()))
}
