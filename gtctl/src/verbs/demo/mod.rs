//! `gtctl demo`: a throwaway town that starts, gets work, loses workers, recovers, explains itself, and is gone.
//!
//! Touches nothing that it did not make: a directory of its own, a daemon of its own, no `GT_` variable.
//! Whatever happens, also Ctrl-C, it ends what it started and counts what is left.

mod census;
mod killing;
mod play;
mod stage;

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use gtd_proto::town::Census;
use serde_json::json;

use crate::cli::Demo;
use crate::client::Session;
use crate::client::endpoint::Target;
use crate::context::Context;
use crate::daemon::lock::{self, Lock};
use crate::daemon::start::{self, Launch};
use crate::daemon::stop;
use crate::exit::Code;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::change::{left, step};
use crate::output::{note, time};
use crate::verbs::down::{self, How};
use stage::Stage;

/// The whole play; it takes a few seconds where nothing is wrong.
const PLAY: Duration = Duration::from_secs(45);

/// Ending everything: the agents are scripts and end at once.
const CLEAN_UP: Duration = Duration::from_secs(25);

/// Steps that are announced.
const STEPS: u32 = 9;

/// Runs the verb.
///
/// # Errors
/// What went wrong in the play, or that something is left after it.
pub async fn run(cx: &mut Context, args: &Demo) -> Result<Code, Failure> {
    if args.plan.dry_run {
        return only_plan(cx);
    }
    for (program, version) in [("git", ""), ("tmux", " 3.2 or newer")] {
        if !on_path(program, std::env::var_os("PATH").as_deref()) {
            return Err(Failure::failed(format!("the demo needs {program}, and there is none on the PATH"))
                .hint(format!("install {program}{version}")));
        }
    }
    let mut interrupts = Interrupts::take_over()
        .map_err(|e| Failure::failed(format!("cannot catch Ctrl-C, and so could not clean up: {e}")))?;
    let began = Instant::now();
    let mut stage = Stage::new()?;
    let played = tokio::select! {
        played = tokio::time::timeout(PLAY, play::play(cx, &mut stage)) => match played {
            Ok(played) => played,
            Err(_) => Err(Failure::timeout(format!("the demo took longer than {}s", PLAY.as_secs()))),
        },
        () = interrupts.next() => Err(Failure::interrupted()),
    };
    say(STEPS, "stop everything and count what is left");
    let (census, pressed) = clean_up_despite(&mut interrupts, &mut stage).await;
    let played = if pressed { played.and(Err(Failure::interrupted())) } else { played };
    finish(cx, args, &stage, played, census, began.elapsed())
}

/// Whether a program lies in one of the directories of a search path.
fn on_path(program: &str, path: Option<&OsStr>) -> bool {
    path.is_some_and(|path| std::env::split_paths(path).any(|dir| dir.join(program).is_file()))
}

/// Cleans up. One Ctrl-C meanwhile is too late to change anything and is only remembered; a second one means it.
async fn clean_up_despite(interrupts: &mut Interrupts, stage: &mut Stage) -> (Result<Census, Failure>, bool) {
    let cleaning = clean_up(stage);
    tokio::pin!(cleaning);
    tokio::select! {
        census = &mut cleaning => return (census, false),
        () = interrupts.next() => note("stopping everything; press Ctrl-C again to leave it as it is"),
    }
    tokio::select! {
        census = &mut cleaning => (census, true),
        () = interrupts.next() => (Err(Failure::interrupted()), true),
    }
}

/// A line per step.
fn say(number: u32, what: &str) {
    note(format!("[{number}/{STEPS}] {what}"));
}

fn finish(
    cx: &mut Context,
    args: &Demo,
    stage: &Stage,
    played: Result<play::Played, Failure>,
    census: Result<Census, Failure>,
    took: Duration,
) -> Result<Code, Failure> {
    let home = stage.home.display();
    let kept = format!("the demo's directory is kept: {home}");
    let (played, census) = match (played, census) {
        (Ok(played), Ok(census)) => (played, census),
        (Err(failure), Ok(census)) if census.is_empty() && failure.code() == Code::Interrupted => {
            // Nothing is left and nothing went wrong: there is nothing to keep.
            remove(stage);
            return Err(failure.hint("nothing is left"));
        }
        (Err(failure), census) => {
            note(kept);
            if let Ok(census) = census {
                left(&census).iter().for_each(note);
            }
            return Err(failure);
        }
        (Ok(_), Err(failure)) => {
            note(kept);
            return Err(failure);
        }
    };
    if !census.is_empty() {
        left(&census).iter().for_each(note);
        return Err(Failure::partial(format!(
            "something of the demo is left; its directory is kept: {home}"
        )));
    }
    if args.keep {
        note(kept);
    } else {
        remove(stage);
    }
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope(
            "demo",
            &json!({
                "recovered": true, "recovery": played.recovery, "incident": played.incident,
                "work": played.work, "census": census,
                "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            }),
        )?;
    } else {
        screen.line(format!(
            "nothing is left: no process, no tmux server, no lock, no file. It took {}.",
            time::span(took)
        ))?;
        screen.line("Your own: gtctl init ~/town && cd ~/town && gtctl up && gtctl rig add NAME SOURCE")?;
    }
    Ok(Code::Done)
}

fn remove(stage: &Stage) {
    if let Err(error) = std::fs::remove_dir_all(&stage.home) {
        note(format!("cannot remove {}: {error}", stage.home.display()));
    }
}

/// Ends whatever of the town runs, by the same way as `gtctl down`, and looks at what is left.
async fn clean_up(stage: &mut Stage) -> Result<Census, Failure> {
    let ended = match tokio::time::timeout(CLEAN_UP, end(stage)).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::timeout("the demo's town did not end in time")),
    };
    if let Err(failure) = ended {
        note(format!("{failure}; ending its daemon"));
        let forced = stop::stop(&stage.root, Duration::from_secs(3), true).await;
        if let Err(failure) = forced {
            note(failure.to_string());
            stage.kill_daemons();
        }
    }
    stage.reap().await;
    Ok(census::look(stage))
}

async fn end(stage: &mut Stage) -> Result<(), Failure> {
    if !stage.is_town() {
        return Ok(());
    }
    let session = match Session::open(&Target::of_town(&stage.root)).await {
        Ok(session) => session,
        // It is coming up still, or died: agents may live on all the same.
        Err(_) if stage.was_up || stage.has_daemon() || matches!(lock::look(&stage.root), Lock::Held) => {
            let launch = Launch { root: stage.root.clone(), hold: true, scrub: true };
            start::ensure(&launch, &mut stage.children).await?.session
        }
        Err(_) => return Ok(()),
    };
    let how = How { now: true, wait_ms: Some(15_000), ..How::default() };
    down::take_down(session, &stage.root, how).await.map(drop)
}

fn only_plan(cx: &mut Context) -> Result<Code, Failure> {
    let steps = [
        step("make", "a directory for a town and two git repositories", "removed at the end"),
        step("start", "a daemon, two rigs with scripts as agents", "no network, no model"),
        step("spawn", "three workers, each with work and a worktree", "by the same way as gtctl sling"),
        step("kill", "one worker's process, with SIGKILL", "to see it come back to its work"),
        step("kill", "all three at once", "to see one incident, with one of them going first"),
        step("stop", "everything", "and count what is left"),
    ];
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("demo", &json!({ "dry_run": true, "plan": steps }))?;
    } else {
        screen.plan(&steps)?;
    }
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_over_the_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("git")).unwrap();
        std::fs::write(dir.path().join("tmux"), "").unwrap();
        let path = std::env::join_paths(["/nowhere".as_ref(), dir.path()]).unwrap();
        assert!(on_path("tmux", Some(&path)));
        assert!(!on_path("git", Some(&path)));
        assert!(!on_path("tmux", None));
    }
}
