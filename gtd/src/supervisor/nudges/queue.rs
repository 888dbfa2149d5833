//! The task that drives the queue: woken by what agents report, by what happens to them and by timers. While
//! nothing waits it looks at nothing.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Activity, Address, Agent, Event, Frame, NudgeState, State};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Nudges, said_by};
use crate::agents::typing::by_lines;
use crate::agents::typing::rules::{Occasion, Sight, Verdict, by_word, judge};
use crate::agents::typing::{Hand, TypingError};
use crate::feed::Subscription;
use crate::ledger::NudgeRow;
use crate::tmux::Screen;

/// Longest sleep while something waits: the machine may have been suspended meanwhile.
const NAP: Duration = Duration::from_secs(60);
/// Pause before an agent is looked at again whose pane, or whose tmux server, did not answer.
const BLIND: Duration = Duration::from_secs(1);
/// Kinds of events after which a look may be worth it.
const KINDS: [&str; 3] = ["agent.*", "tmux.*", kind::POLECAT_REMOVED];

/// What is to be done about a text, by what is known without a look.
enum Standing {
    /// A look may be worth it.
    Look,
    /// Not before something happens.
    Wait(String),
    /// Never: it was for an instance that is over.
    Over(String),
}

impl Nudges {
    /// Until the daemon goes down.
    pub async fn run(self, stop: CancellationToken) {
        let mut events: Option<Subscription> = None;
        loop {
            for entry in self.expired() {
                self.expire(&entry.row, entry.waits.map(|(why, _)| why)).await;
            }
            if !self.with_book(super::book::Book::is_watching) {
                events = None;
            } else if events.is_none() {
                let kinds = KINDS.iter().map(|kind| (*kind).to_owned()).collect();
                events = Some(self.0.bus.subscribe(None, Some(kinds), None));
                // What happened before is not told.
                self.with_book(|book| book.stir(None));
            }
            self.begin();
            let nap = self.with_book(|book| book.next(NAP)).min(self.next_expiry().unwrap_or(NAP));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                frame = next(&mut events) => match frame {
                    Some(Frame::Event(event)) => self.heard(&event).await,
                    // Something was missed.
                    Some(_) => self.with_book(|book| book.stir(None)),
                    None => events = None,
                },
                () = tokio::time::sleep(nap), if events.is_some() => {}
            }
        }
    }

    /// Begins with every agent that is due.
    fn begin(&self) {
        let now = Instant::now();
        let due: Vec<Address> = self.with_book(|book| {
            let mut due = book.agents();
            due.retain(|agent| {
                let track = book.track(agent);
                !track.busy && track.due.is_some_and(|due| due <= now)
            });
            due
        });
        for agent in due {
            let Ok(place) = std::sync::Arc::clone(&self.0.budget).try_acquire_owned() else { return };
            self.with_book(|book| {
                let track = book.track(&agent);
                (track.busy, track.due) = (true, None);
            });
            let nudges = self.clone();
            tokio::spawn(async move {
                let again = nudges.attend(&agent).await;
                nudges.with_book(|book| {
                    let track = book.track(&agent);
                    track.busy = false;
                    // What happened meanwhile may have said sooner.
                    let again = again.map(|again| Instant::now() + again);
                    track.due = [track.due, again].into_iter().flatten().min();
                });
                drop(place);
                nudges.0.wake.notify_one();
            });
        }
    }

    /// Looks after the first text of an agent. When to look again, if time alone may change something.
    async fn attend(&self, agent: &Address) -> Option<Duration> {
        let row = self.with_book(|book| book.head(agent).cloned())?;
        if row.state == NudgeState::Delivering {
            return self.recover(row).await;
        }
        let shown = self.0.handle.view().agent(agent);
        let standing = standing(&row, shown.as_ref());
        let (shown, instance) = match (standing, shown) {
            (Standing::Over(why), _) => {
                self.bury(row, "instance", why).await;
                return Some(Duration::ZERO);
            }
            (Standing::Wait(why), _) => return self.waits(agent, Verdict::event(why)),
            (Standing::Look, Some(shown)) => match shown.instance.clone() {
                Some(instance) => (shown, instance),
                None => return self.waits(agent, Verdict::event("it does not run")),
            },
            (Standing::Look, None) => return None,
        };
        if let Some(why) = self.0.handle.ledger().trouble() {
            let why = format!("the ledger cannot be written: {why}");
            return self.waits(agent, Verdict::Wait { why, again: Some(BLIND * 5), soon: false });
        }
        let pause = self.with_book(|book| book.track_of(agent, &instance).pause);
        if let Some(left) = pause.map(|pause| pause.saturating_duration_since(Instant::now()))
            && !left.is_zero()
        {
            let why = "it was sent a text just now, and has not reported what it does".to_owned();
            return self.waits(agent, Verdict::Wait { why, again: Some(left), soon: true });
        }
        let (hand, screen, verdict) = match self.look(&shown, &row, Occasion::Turn).await {
            Ok(Ok(looked)) => looked,
            Ok(Err(verdict)) => return self.waits(agent, verdict),
            Err(why) => {
                return self.waits(agent, Verdict::Wait { why, again: Some(BLIND), soon: false });
            }
        };
        match verdict {
            Verdict::Type => self.deliver(hand, row, screen, Occasion::Turn).await,
            Verdict::Never(why) => {
                self.bury(row, "refused", why).await;
                Some(Duration::ZERO)
            }
            wait @ Verdict::Wait { .. } => self.waits(agent, wait),
        }
    }

    /// Takes an agent's turn and looks at its pane. The inner error says why there was no look.
    pub(super) async fn look(
        &self,
        shown: &Agent,
        row: &NudgeRow,
        occasion: Occasion,
    ) -> Result<Result<(Hand, Screen, Verdict), Verdict>, String> {
        let Some(instance) = shown.instance.clone() else {
            return Ok(Err(Verdict::event("it does not run")));
        };
        let agent = &shown.agent;
        let said = self.said(shown).await.map_err(|error| format!("what it said cannot be read: {error}"))?;
        if let Some(verdict) = by_word(said, occasion) {
            return Ok(Err(verdict));
        }
        let runtime = self.0.handle.runtime();
        let hand = runtime.hand(agent, &instance).await.map_err(|error| error.to_string())?;
        let screen = hand.look().await.map_err(|error| match error {
            TypingError::Gone(_) => "its pane shows another process".to_owned(),
            TypingError::Tmux(error) => format!("its pane cannot be looked at: {error}"),
        })?;
        let prompt = runtime.prompt(agent, &shown.agent_preset);
        let seconds = |at: gtd_proto::Timestamp| u64::try_from(at.as_second()).unwrap_or(0);
        let sight = Sight {
            screen: &screen,
            said,
            prompt: prompt.as_deref(),
            by_lines: by_lines(&screen.tty),
            began: shown.started_at.map_or(0, seconds),
            wall: seconds(self.0.handle.wall()),
            now: self.clock(),
            bytes: row.message.len(),
        };
        let mut memory = self.with_book(|book| std::mem::take(&mut book.track_of(agent, &instance).memory));
        let verdict = judge(&sight, occasion, &mut memory);
        self.with_book(|book| book.track_of(agent, &instance).memory = memory);
        Ok(Ok((hand, screen, verdict)))
    }

    /// Says why texts wait.
    fn waits(&self, agent: &Address, verdict: Verdict) -> Option<Duration> {
        let Verdict::Wait { why, again, soon } = verdict else { return None };
        if self.with_book(|book| book.wait(agent, &why, soon)) {
            tracing::debug!(%agent, %why, "text for an agent waits");
            self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
        again
    }

    async fn heard(&self, event: &Event) {
        let Some(agent) = &event.agent else { return self.with_book(|book| book.stir(None)) };
        if event.kind == kind::POLECAT_REMOVED {
            self.removed(agent, event.at).await;
        }
        if event.kind == kind::AGENT_REPORTED
            && let Some(instance) = &event.instance
        {
            let word = event.data.get("state").and_then(serde_json::Value::as_str).unwrap_or_default();
            let seen = self.with_book(|book| book.reported(agent, instance, said_by(word), event.seq));
            if let Some(row) = seen {
                self.was_seen(row).await;
            }
        }
        self.with_book(|book| book.stir(Some(agent)));
    }

    /// Who gets its name later is somebody else.
    async fn removed(&self, agent: &Address, at: gtd_proto::Timestamp) {
        let queued = |row: &NudgeRow| {
            row.agent == *agent
                && row.state == NudgeState::Queued
                && self.0.handle.dated(row.created_at) <= at
        };
        let rows: Vec<NudgeRow> = self.with_book(|book| {
            book.open.values().map(|entry| &entry.row).filter(|row| queued(row)).cloned().collect()
        });
        for row in rows {
            self.bury(row, "instance", format!("{agent} was removed")).await;
        }
    }

    async fn expire(&self, row: &NudgeRow, why: Option<String>) {
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        self.bury(row.clone(), "expired", format!("it could not be typed before it expired{why}")).await;
    }

    /// Gives a text up, unless something else became of it meanwhile.
    pub(super) async fn bury(&self, row: NudgeRow, cause: &str, why: String) {
        let _changing = self.0.changing.lock().await;
        let present = self.with_book(|book| book.find(&row.id));
        if present.is_none_or(|entry| entry.row.state != row.state) {
            return;
        }
        let (dead, event) = self.ended(row, cause, why);
        let (id, agent) = (dead.id.clone(), dead.agent.clone());
        match self.commit(dead, Some(event)).await {
            Ok(dead) => tracing::info!(%id, %agent, why = dead.why, "a text for an agent is given up"),
            Err(error) => {
                tracing::error!(%id, %agent, %error, "what became of a text cannot be written down")
            }
        }
    }
}

/// What an agent's state says of a text for it.
fn standing(row: &NudgeRow, shown: Option<&Agent>) -> Standing {
    let Some(agent) = shown else { return Standing::Wait("there is no such agent now".to_owned()) };
    let at_rest = matches!(
        agent.state,
        State::Stopped | State::Backoff | State::Quarantined | State::Held | State::Throttled
    );
    if let Some(bound) = &row.instance {
        let other = agent.instance.as_ref() != Some(bound);
        if other || (at_rest && !agent.running) {
            return Standing::Over(format!("it was for instance {bound}, which is over"));
        }
    }
    if let Some(pause) = &agent.pause {
        return Standing::Wait(format!("it is paused, by {}: {}", pause.by, pause.clear));
    }
    match agent.state {
        State::Running if agent.running => Standing::Look,
        _ if agent.activity == Activity::Waiting && agent.running => Standing::Look,
        state => {
            let reason = agent.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Standing::Wait(format!("it is {state}{reason}"))
        }
    }
}

async fn next(events: &mut Option<Subscription>) -> Option<Frame> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}
