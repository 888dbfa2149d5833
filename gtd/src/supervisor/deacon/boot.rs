//! The boot: a look at the deacon, mechanical, and with `[boot] mode = "agent"` by a short-lived agent where the
//! mechanical look does not know what to do.
//!
//! An agent costs a model's time: none is started while the deacon is well, none while another was started a short
//! while ago, and each is ended at its deadline like any other agent.

use std::sync::PoisonError;
use std::time::Duration;

use gtd_proto::deacon::{BootRun, BootStatus, Triage, Verdict};
use gtd_proto::{Address, State, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::judge::{Action, Judgement, span};
use super::watchman::{Seen, Watchman};
use crate::config::BootMode;
use crate::host::files::write_atomic;
use crate::supervisor::core::Input;
use crate::supervisor::policy::{after, since};
use crate::supervisor::requests::{Ask, How, Request, Wait};
use crate::supervisor::stood::Stood;
use crate::supervisor::view::{Shown, at_rest};
use crate::town::file;

/// Between the starts of two boot agents: as long as a deacon may be silent until it counts as stuck.
const COOLDOWN: Duration = Duration::from_secs(30 * 60);
/// How long a boot agent may take. Its predecessor's marker says five minutes, and nobody heeds it.
const DEADLINE: Duration = Duration::from_secs(5 * 60);
/// Between two looks whether one that was paused has had its time.
const LOOK: Duration = Duration::from_secs(1);
/// The file's mode.
const STATUS_MODE: u32 = 0o644;
/// What the incumbent writes for no time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// What is remembered of boot agents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// When the last one was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) started: Option<Timestamp>,
    /// It is still to be ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) open: bool,
}

/// What is to be done about a boot agent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Nothing, for this reason.
    Nothing(String),
    /// One is started.
    Start,
    /// The one that runs is looked at again then.
    Wait(Duration),
    /// The one that runs has run for long enough.
    Stop,
    /// It has ended by itself.
    Over,
}

/// What is left of the time of one that was started. While it is paused none of that passes.
fn left(started: Timestamp, stood: &Stood, now: Timestamp) -> Duration {
    DEADLINE.saturating_sub(since(started, now).saturating_sub(stood.within(started, now)))
}

/// Decides. `busy` while one runs or is about to; `stood` is when it was paused.
fn decide(memory: &Memory, busy: bool, stood: &Stood, judgement: &Judgement, now: Timestamp) -> Step {
    let left = memory.started.map(|started| left(started, stood, now));
    let ago = memory.started.map(|started| since(started, now));
    match (memory.open, left) {
        (true, Some(left)) if busy && !left.is_zero() => return Step::Wait(left),
        (true, _) if busy => return Step::Stop,
        (true, _) => return Step::Over,
        // Somebody else's.
        (false, _) if busy => {
            return Step::Nothing("a boot agent runs that was not started for this".to_owned());
        }
        _ => {}
    }
    let puzzling =
        judgement.tell && judgement.verdict != Verdict::Paused && judgement.action == Action::Nothing;
    match ago {
        _ if !puzzling => Step::Nothing("no boot agent is needed".to_owned()),
        Some(ago) if ago < COOLDOWN => Step::Nothing(format!("a boot agent was started {} ago", span(ago))),
        _ => Step::Start,
    }
}

/// What the boot's step of a round comes to.
pub struct Look {
    /// What was done, in words.
    pub actions: Vec<String>,
    /// Why it was left out.
    pub skipped: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Watchman {
    /// The boot's step of a round: says how the deacon is, writes its file, and has an agent look where it must.
    pub async fn triage_step(&self, seen: &Seen) -> Look {
        let mode = self.0.live.now().boot.mode;
        let mut look = Look { actions: Vec::new(), skipped: None, error: None };
        if mode != BootMode::Agent {
            // One may be left of when it was.
            self.end_agent(&mut look).await;
        }
        if mode == BootMode::Off {
            look.skipped = Some("[boot] mode is \"off\"".to_owned());
            return look;
        }
        if let Some(why) = seen.off() {
            // One that is at it is ended in time all the same, also by the next daemon.
            if mode == BootMode::Agent && self.0.kept.lock().await.boot.open {
                self.agent_step(seen, &mut look).await;
            }
            look.skipped = Some(format!("the deacon is not to run: {why}"));
            return look;
        }
        look.actions.push(seen.line());
        if mode == BootMode::Agent {
            self.agent_step(seen, &mut look).await;
        }
        if let Err(why) = self.write_status(seen, seen.judgement.action != Action::Nothing).await {
            look.error = Some(why);
        }
        look
    }

    /// `boot.triage`
    ///
    /// # Errors
    /// Why nothing could be seen or done.
    pub async fn triage(&self, dry_run: bool) -> Result<Triage, String> {
        let seen = self.look().await?;
        let Judgement { verdict, why, action, .. } = seen.judgement.clone();
        let planned = match (action, verdict) {
            (Action::Ask, _) => vec!["ask the deacon whether it is there".to_owned()],
            (Action::Restart, _) => vec!["restart the deacon".to_owned()],
            (Action::Nothing, Verdict::Down) => {
                vec!["look again whether the deacon may be started".to_owned()]
            }
            (Action::Nothing, _) => Vec::new(),
        };
        let mut triage = Triage { verdict, why, actions: planned, degraded: seen.degraded, dry_run };
        if dry_run {
            return Ok(triage);
        }
        let acted = self.act(&seen).await;
        if verdict == Verdict::Down {
            self.0.handle.input(Input::Round).await;
            self.0.handle.settled().await;
        } else {
            triage.actions = acted.clone().unwrap_or_default();
        }
        self.write_status(&seen, acted.as_ref().is_ok_and(|acted| !acted.is_empty())).await?;
        acted.map(|_| triage)
    }

    /// `boot.status`
    pub async fn boot_status(&self) -> BootStatus {
        let handle = &self.0.handle;
        let agent = handle.view().agent(&Address::Boot);
        let agent = agent.unwrap_or_else(|| at_rest(&Address::Boot, handle.wall()));
        let path = self.0.layout.boot_status();
        let read = tokio::task::spawn_blocking(move || file::read_object(&path)).await;
        let (last_status, error) = match read {
            Ok(Ok(Some(map))) => match run(map) {
                Ok(run) => (Some(run), None),
                Err(why) => (None, Some(why)),
            },
            Ok(Ok(None)) => (None, None),
            Ok(Err(why)) => (None, Some(why)),
            Err(error) => (None, Some(error.to_string())),
        };
        let started = self.0.kept.lock().await.boot.started;
        let now = handle.now();
        BootStatus {
            mode: self.0.live.now().boot.mode.as_str().to_owned(),
            running: agent.running,
            session_alive: agent.session.is_some() && agent.running,
            degraded: matches!(
                handle.runtime().driver().state(),
                crate::tmux::ServerState::Unresponsive { .. } | crate::tmux::ServerState::Unavailable { .. }
            ),
            boot_dir: self.0.layout.boot_dir().to_string_lossy().into_owned(),
            last_status,
            error,
            agent,
            cooldown_until: started
                .map(|started| after(started, COOLDOWN))
                .filter(|until| *until > now)
                .map(|until| handle.dated(until)),
        }
    }

    async fn agent_step(&self, seen: &Seen, look: &mut Look) {
        let mut kept = self.0.kept.lock().await;
        let now = self.0.handle.now();
        match decide(&kept.boot, self.is_busy(), &self.boot_stood(), &seen.judgement, now) {
            Step::Nothing(why) => look.actions.push(why),
            Step::Wait(left) => {
                self.set_alarm(left);
                look.actions.push("a boot agent is at it".to_owned());
            }
            Step::Over => {
                kept.boot.open = false;
                self.keep(&kept).await;
                look.actions.push("the boot agent has ended".to_owned());
            }
            Step::Stop => {
                drop(kept);
                self.end_agent(look).await;
            }
            Step::Start => {
                // Also one that does not come up is not tried again before the cooldown is over.
                kept.boot = Memory { started: Some(now), open: true };
                self.keep(&kept).await;
                drop(kept);
                let why =
                    format!("the deacon is {}: {}", seen.judgement.verdict.as_str(), seen.judgement.why);
                let ask = Ask { by: "supervisor".to_owned(), reason: Some(why), wait: Wait::No };
                let request = Request::Start { agent: Address::Boot, overrides: None, ask };
                match self.0.handle.change(&Address::Boot, request).await {
                    Ok(_) => {
                        self.set_alarm(DEADLINE);
                        look.actions.push("started a boot agent".to_owned());
                    }
                    Err(error) => look.error = Some(format!("no boot agent was started: {}", error.message)),
                }
            }
        }
    }

    fn is_busy(&self) -> bool {
        let boot = self.0.handle.view().agent(&Address::Boot);
        boot.is_some_and(|boot| boot.running || boot.state != State::Stopped)
    }

    /// When the boot was paused lately.
    fn boot_stood(&self) -> Stood {
        let stood = |shown: &Shown| Some(shown.heard.get(&Address::Boot)?.stood.clone());
        self.0.handle.view().read(stood).unwrap_or_default()
    }

    /// How much is left of the time of the boot agent that we have started, where something is.
    async fn time_left(&self) -> Option<Duration> {
        let boot = self.0.kept.lock().await.boot.clone();
        let started = boot.started.filter(|_| boot.open)?;
        Some(left(started, &self.boot_stood(), self.0.handle.now())).filter(|left| !left.is_zero())
    }

    /// Ends the boot agent that we have started, by the one way to stop.
    async fn end_agent(&self, look: &mut Look) {
        let mut kept = self.0.kept.lock().await;
        if !kept.boot.open {
            return;
        }
        let ask = Ask {
            by: "supervisor".to_owned(),
            reason: Some("its time for a look at the deacon is over".to_owned()),
            wait: Wait::No,
        };
        let how = How { now: true, force: false };
        let request = Request::Stop { agent: Address::Boot, how, ask };
        match self.0.handle.change(&Address::Boot, request).await {
            Ok(_) => {
                kept.boot.open = false;
                self.keep(&kept).await;
                look.actions.push("stopped the boot agent: its time was over".to_owned());
            }
            Err(error) => look.error = Some(format!("the boot agent was not stopped: {}", error.message)),
        }
    }

    /// Has a boot agent ended at its deadline, also between two rounds. After a suspension the round does it.
    fn set_alarm(&self, left: Duration) {
        let watchman = self.clone();
        let alarm = tokio::spawn(async move {
            tokio::time::sleep(left).await;
            // It was paused meanwhile, or is: what it lost is given back.
            while let Some(left) = watchman.time_left().await {
                tokio::time::sleep(left.max(LOOK)).await;
            }
            let mut look = Look { actions: Vec::new(), skipped: None, error: None };
            watchman.end_agent(&mut look).await;
            if let Some(why) = look.error {
                tracing::warn!(%why, "a boot agent is past its deadline");
            }
        });
        let before = self.0.alarm.lock().unwrap_or_else(PoisonError::into_inner).replace(alarm);
        if let Some(before) = before {
            before.abort();
        }
    }

    async fn write_status(&self, seen: &Seen, acted: bool) -> Result<(), String> {
        let now = self.0.handle.wall();
        let boot = self.0.handle.view().agent(&Address::Boot);
        let (action, target) = told(&seen.judgement, acted);
        let mut status = json!({
            "running": boot.is_some_and(|boot| boot.running),
            "started_at": now,
            "completed_at": now,
            "last_action": action,
        });
        if let Some(map) = status.as_object_mut() {
            if !target.is_empty() {
                map.insert("target".to_owned(), json!(target));
            }
            if action == "error" {
                map.insert("error".to_owned(), json!(seen.judgement.why));
            }
        }
        let path = self.0.layout.boot_status();
        let written = tokio::task::spawn_blocking(move || {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            write_atomic(&path, format!("{status:#}\n").as_bytes(), STATUS_MODE)
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What the file calls it: what was done, and to whom.
fn told(judgement: &Judgement, acted: bool) -> (&'static str, &'static str) {
    match (judgement.verdict, judgement.action) {
        (Verdict::Unknown, _) => ("error", "deacon"),
        (Verdict::Down, _) => ("start", "deacon"),
        (_, Action::Ask) if acted => ("nudge", "deacon-stale"),
        (_, Action::Restart) if acted => ("restart", "deacon-stuck"),
        (Verdict::Stuck, _) => ("report", "deacon-stuck"),
        (Verdict::Stale, _) if judgement.tell => ("report", "deacon-stale"),
        _ => ("nothing", ""),
    }
}

/// The file as it is shown: no time is none.
fn run(mut map: serde_json::Map<String, Value>) -> Result<BootRun, String> {
    for key in ["started_at", "completed_at"] {
        if map.get(key).and_then(Value::as_str) == Some(NO_TIME) {
            map.remove(key);
        }
    }
    serde_json::from_value(Value::Object(map)).map_err(|error| format!("is no status of a triage: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(verdict: Verdict, action: Action, tell: bool) -> Judgement {
        Judgement { verdict, why: String::new(), action, age: None, tell }
    }

    #[test]
    fn an_agent_looks_only_where_it_must_and_not_for_long_nor_often() {
        let at = |minute: i64| Timestamp::from_second(1_770_000_000 + minute * 60).unwrap();
        let puzzle = judged(Verdict::Stuck, Action::Nothing, true);
        let none = Memory::default();
        let open = |minute| Memory { started: Some(at(minute)), open: true };
        let over = |minute| Memory { started: Some(at(minute)), open: false };
        for calm in [
            judged(Verdict::Healthy, Action::Nothing, false),
            judged(Verdict::Late, Action::Nothing, false),
            judged(Verdict::Stale, Action::Ask, false),
            judged(Verdict::Stuck, Action::Restart, false),
            judged(Verdict::Paused, Action::Nothing, true),
            judged(Verdict::Down, Action::Nothing, false),
            judged(Verdict::Unknown, Action::Nothing, false),
        ] {
            assert!(
                matches!(decide(&none, false, &Stood::default(), &calm, at(0)), Step::Nothing(_)),
                "{calm:?}"
            );
        }
        assert_eq!(decide(&none, false, &Stood::default(), &puzzle, at(0)), Step::Start);
        assert_eq!(
            decide(&open(0), true, &Stood::default(), &puzzle, at(4)),
            Step::Wait(Duration::from_secs(60))
        );
        assert_eq!(decide(&open(0), true, &Stood::default(), &puzzle, at(5)), Step::Stop);
        assert_eq!(decide(&open(0), false, &Stood::default(), &puzzle, at(2)), Step::Over);
        assert!(matches!(decide(&over(0), false, &Stood::default(), &puzzle, at(29)), Step::Nothing(_)));
        assert_eq!(decide(&over(0), false, &Stood::default(), &puzzle, at(30)), Step::Start);
        // While one is open none is started, however it is with the deacon.
        for (busy, minute) in [(true, 0), (true, 60), (false, 60)] {
            assert_ne!(decide(&open(0), busy, &Stood::default(), &puzzle, at(minute)), Step::Start);
        }
        // A person's own is left alone.
        assert!(matches!(decide(&over(0), true, &Stood::default(), &puzzle, at(60)), Step::Nothing(_)));
    }

    #[test]
    fn a_pause_takes_nothing_of_its_time() {
        let at = |minute: i64| Timestamp::from_second(1_770_000_000 + minute * 60).unwrap();
        let calm = judged(Verdict::Healthy, Action::Nothing, false);
        let open = Memory { started: Some(at(0)), open: true };
        let minutes = |many: u64| Duration::from_secs(many * 60);
        let mut stood = Stood::default();
        stood.begin(at(2));
        assert_eq!(decide(&open, true, &stood, &calm, at(60)), Step::Wait(minutes(3)));
        stood.end(at(60));
        assert_eq!(decide(&open, true, &stood, &calm, at(60)), Step::Wait(minutes(3)));
        assert_eq!(decide(&open, true, &stood, &calm, at(62)), Step::Wait(minutes(1)));
        assert_eq!(decide(&open, true, &stood, &calm, at(63)), Step::Stop);
        // A pause before it was started gives it nothing.
        let later = Memory { started: Some(at(100)), open: true };
        assert_eq!(decide(&later, true, &stood, &calm, at(105)), Step::Stop);
    }

    #[test]
    fn a_status_of_the_incumbent_is_understood() {
        let text = r#"{"running":false,"started_at":"2026-01-02T18:30:00Z","completed_at":"0001-01-01T00:00:00Z","last_action":"nudge","target":"deacon-stale"}"#;
        let run = run(serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!((run.last_action.as_str(), run.target.as_str()), ("nudge", "deacon-stale"));
        assert!(run.started_at.is_some() && run.completed_at.is_none());
        assert!(super::run(serde_json::from_str(r#"{"running":"yes"}"#).unwrap()).is_err());
    }
}
