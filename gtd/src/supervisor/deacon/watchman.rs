//! Looking after the deacon: what is seen of it, and what is remembered of that.

use std::sync::Arc;
use std::time::Duration;

use gtd_proto::deacon::{DeaconHeartbeat, DeaconPaused, DeaconStatus, Verdict};
use gtd_proto::town::{Alert, Severity};
use gtd_proto::{Activity, Address, Agent, Intent, NudgeState, State, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

use super::boot;
use super::files::{self, HeartbeatFile, PauseFile};
use super::judge::{Case, Judgement, Life, Memory, Numbers, judge};
use super::sleep::Naps;
use crate::config::{Config, Live, OnStale};
use crate::ledger::Write;
use crate::supervisor::handle::Handle;
use crate::supervisor::nudges::Nudges;
use crate::supervisor::planner::Mode;
use crate::supervisor::view::{Shown, at_rest};
use crate::tmux::ServerState;
use crate::town::Layout;

/// Name of the ledger's fact that has what is remembered.
pub const FACT: &str = "deacon";
/// Key of the alert about its heartbeat.
const ALERT: &str = "deacon:heartbeat";
/// Reading two small files takes microseconds; a file system that hangs is not waited for.
const READING: Duration = Duration::from_secs(5);

/// What outlives the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(default)]
    pub(super) memory: Memory,
    #[serde(default)]
    pub(super) naps: Naps,
    #[serde(default)]
    pub(super) boot: boot::Memory,
}

/// Looks after the deacon. Cheap to clone.
#[derive(Clone)]
pub struct Watchman(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) handle: Handle,
    pub(super) nudges: Nudges,
    pub(super) live: Live,
    pub(super) layout: Arc<Layout>,
    /// Held while something is done, so that two who look act once.
    pub(super) kept: Mutex<Kept>,
    /// Ends a boot that takes too long, between two rounds.
    pub(super) alarm: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// What was seen of the deacon at one look.
#[derive(Debug, Clone)]
pub struct Seen {
    pub(super) judgement: Judgement,
    pub(super) agent: Agent,
    pub(super) memory: Memory,
    file: HeartbeatFile,
    pause: PauseFile,
    /// tmux cannot be used.
    pub(super) degraded: bool,
}

impl Watchman {
    /// One that goes on from what the ledger's facts say.
    #[must_use]
    pub fn new(
        handle: Handle,
        nudges: Nudges,
        live: Live,
        layout: Arc<Layout>,
        kept: Option<&Value>,
    ) -> Self {
        let kept = kept.and_then(|kept| serde_json::from_value(kept.clone()).ok()).unwrap_or_default();
        Self(Arc::new(Inner {
            handle,
            nudges,
            live,
            layout,
            kept: Mutex::new(kept),
            alarm: std::sync::Mutex::default(),
        }))
    }

    /// Looks at the deacon's files and at what is known of it. Nothing is done to it.
    ///
    /// # Errors
    /// When its files could not be read in time.
    pub async fn look(&self) -> Result<Seen, String> {
        let layout = Arc::clone(&self.0.layout);
        let reading = tokio::task::spawn_blocking(move || files::read(&layout));
        let (file, pause) = match tokio::time::timeout(READING, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Err(format!("the deacon's files were not read: {error}")),
            Err(_) => return Err(format!("the deacon's files could not be read within {READING:?}")),
        };
        let mut kept = self.0.kept.lock().await;
        let before = kept.clone();
        let handle = &self.0.handle;
        let now = handle.now();
        let (boot, suspended) = handle.line().suspended();
        kept.naps.note(boot, suspended, now);
        let agent = handle.view().agent(&Address::Deacon);
        let agent = agent.unwrap_or_else(|| at_rest(&Address::Deacon, handle.wall()));
        let memory = &mut kept.memory;
        memory.about(agent.instance.as_ref());
        let claims = match &file {
            HeartbeatFile::Beat(beat) => Some(handle.on_line(beat.stamp.timestamp)),
            _ => None,
        };
        let asked = memory.asked.clone();
        if memory.see(&file, claims, now) {
            // It has said that it is there: it need not be asked.
            if let Some(id) = memory.asked.take() {
                let _ = self.0.nudges.cancel(&id, "supervisor").await;
            }
        } else if let Some(id) = asked {
            self.hear_of(&id, memory).await;
        }
        if matches!(agent.activity, Activity::Idle | Activity::Waiting)
            && let Some(since) = agent.activity_since
        {
            memory.ended_a_turn(handle.on_line(since));
        }
        let went_on = handle.view().read(|shown| shown.heard.get(&Address::Deacon)?.stood.went_on());
        memory.went_on(went_on);
        memory.pausing(agent.pause.is_some() || matches!(pause, PauseFile::Paused(_)), now);
        let judgement = self.judge(&agent, &file, &pause, &kept, now);
        let seen = Seen {
            judgement,
            agent,
            memory: kept.memory.clone(),
            file,
            pause,
            degraded: matches!(
                handle.runtime().driver().state(),
                ServerState::Unresponsive { .. } | ServerState::Unavailable { .. }
            ),
        };
        if *kept != before {
            self.keep(&kept).await;
        }
        drop(kept);
        self.tell(&seen.judgement).await;
        Ok(seen)
    }

    fn judge(
        &self,
        agent: &Agent,
        file: &HeartbeatFile,
        pause: &PauseFile,
        kept: &Kept,
        now: Timestamp,
    ) -> Judgement {
        let life = self.0.handle.view().read(|shown| life(agent, shown, |at| self.0.handle.on_line(at)));
        let written = kept.memory.counts_from();
        let started = match &life {
            Life::Runs { since } => Some(*since),
            _ => None,
        };
        let slept = |at: Option<Timestamp>| at.map_or(Duration::ZERO, |at| kept.naps.since(at));
        let case = Case {
            life,
            attached: agent.attached,
            file,
            pause,
            memory: &kept.memory,
            now,
            slept: (slept(written), slept(started)),
        };
        judge(&case, &numbers(&self.0.live.now()))
    }

    /// What became of the text that asks whether it is there.
    async fn hear_of(&self, id: &gtd_proto::NudgeId, memory: &mut Memory) {
        match self.0.nudges.show(id).await {
            Ok(text) => match text.state {
                NudgeState::Delivered => memory.was_typed(self.0.handle.on_line(text.updated_at)),
                // Never typed: it was not asked.
                NudgeState::Dead => memory.asked = None,
                NudgeState::Queued | NudgeState::Delivering | NudgeState::Unknown => {}
            },
            Err(error) => {
                tracing::warn!(%error, "what became of a text for the deacon is not known");
                memory.asked = None;
            }
        }
    }

    /// Writes down what is to be remembered.
    pub(super) async fn keep(&self, kept: &Kept) {
        let value = serde_json::to_value(kept).ok();
        self.0.handle.write(vec![Write::Fact { key: FACT.to_owned(), value }]).await;
    }

    async fn tell(&self, judgement: &Judgement) {
        let handle = &self.0.handle;
        if !judgement.tell {
            return handle.settle(ALERT).await;
        }
        let alert = Alert {
            key: ALERT.to_owned(),
            since: handle.wall(),
            severity: Severity::Warning,
            // Without its age, which changes with each look.
            message: format!("the deacon is {}: {}", judgement.verdict.as_str(), steady(&judgement.why)),
            hint: Some("gtctl deacon status".to_owned()),
        };
        handle.raise(alert).await;
    }

    /// `deacon.status`
    ///
    /// # Errors
    /// When its files could not be read in time.
    pub async fn status(&self) -> Result<DeaconStatus, String> {
        let seen = self.look().await?;
        let heartbeat = match &seen.file {
            HeartbeatFile::Missing => None,
            HeartbeatFile::Bad(why) => {
                Some(DeaconHeartbeat { error: Some(why.clone()), ..DeaconHeartbeat::default() })
            }
            HeartbeatFile::Beat(beat) => Some(DeaconHeartbeat {
                timestamp: Some(beat.stamp.timestamp),
                cycle: beat.stamp.cycle,
                last_action: beat.last_action.clone(),
                age_ms: seen.judgement.age.and_then(|age| u64::try_from(age.as_millis()).ok()),
                unanswered: match seen.memory.answered {
                    true => 0,
                    false => u32::try_from(seen.memory.typed.len()).unwrap_or(u32::MAX),
                },
                error: None,
            }),
        };
        let paused: Option<DeaconPaused> = match seen.pause {
            PauseFile::No => None,
            PauseFile::Paused(paused) => Some(paused),
        };
        Ok(DeaconStatus {
            agent: seen.agent,
            verdict: seen.judgement.verdict,
            why: seen.judgement.why,
            heartbeat,
            paused,
        })
    }
}

impl Seen {
    /// How it is, in one line.
    pub(in crate::supervisor) fn line(&self) -> String {
        format!("deacon is {}: {}", self.judgement.verdict.as_str(), self.judgement.why)
    }

    /// Why there is nothing to be looked after.
    pub(in crate::supervisor) fn off(&self) -> Option<&str> {
        (self.judgement.verdict == Verdict::Off).then_some(self.judgement.why.as_str())
    }

    /// What the heartbeat file says, where that is nothing.
    pub(in crate::supervisor) fn unread(&self) -> Option<String> {
        match &self.file {
            HeartbeatFile::Bad(why) => Some(format!("deacon/heartbeat.json {why}")),
            HeartbeatFile::Missing | HeartbeatFile::Beat(_) => None,
        }
    }

    /// There is no heartbeat file.
    pub(in crate::supervisor) fn has_no_file(&self) -> bool {
        self.file == HeartbeatFile::Missing
    }
}

/// The reason without the age that it begins with.
fn steady(why: &str) -> &str {
    why.split_once(" old; ").map_or(why, |(_, rest)| rest)
}

fn numbers(config: &Config) -> Numbers {
    Numbers {
        stale: config.deacon.stale,
        stuck: config.deacon.stuck,
        grace: config.deacon.grace,
        apart: config.daemon.heartbeat_interval,
        restart: config.deacon.on_stale == OnStale::Restart,
    }
}

/// Whether it lives, by what is shown.
fn life(agent: &Agent, shown: &Shown, on_line: impl Fn(Timestamp) -> Timestamp) -> Life {
    if shown.hold.is_some() {
        return Life::Off("the town is stopped".to_owned());
    }
    match &shown.facts.deacon {
        Some(Mode::Off(why)) => return Life::Off(why.clone()),
        None => return Life::Unknown("the town's files have not been read".to_owned()),
        Some(Mode::Always | Mode::OnDemand(_)) => {}
    }
    let why = || agent.reason.clone().unwrap_or_else(|| format!("it is {}", agent.state));
    match (agent.state, agent.intent) {
        (State::Unknown, _) => Life::Unknown(why()),
        (_, Intent::Running) if agent.running && agent.state == State::Running => {
            Life::Runs { since: on_line(agent.started_at.unwrap_or(agent.since)) }
        }
        (State::Running | State::Starting | State::Stopping | State::Lingering, Intent::Running) => {
            Life::Changes
        }
        (_, Intent::Running) => Life::Down(why()),
        _ => Life::Off(agent.intent_reason.clone().unwrap_or_else(|| "it was stopped".to_owned())),
    }
}
