//! One text, from the queue to Enter: each step is on record, in the ledger or on the pane, before the next.

use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{NudgeReached, NudgeState, Seq};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::policy::since;
use super::Nudges;
use crate::agents::typing::rules::{Occasion, Said};
use crate::agents::typing::{Hand, TypingError, by_lines, clean::one_line};
use crate::host::drill;
use crate::ledger::NudgeRow;
use crate::tmux::{Mark, Screen, Token};

/// How long somebody may scroll in a pane between a text and its Enter.
const IN_MODE: Duration = Duration::from_secs(10);
/// Between two tries to press Enter.
const AGAIN: Duration = Duration::from_millis(100);
/// Pause after an attempt that failed: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Attempts that may fail in a row.
const ATTEMPTS: u32 = 20;
/// How long a text that was sent off to an agent that reports may take to begin a turn, before the next is typed.
const TAKES_UP: Duration = Duration::from_secs(10);
/// How long an agent's report that a turn began is taken for the effect of a text.
const WATCHED: Duration = Duration::from_secs(60);

/// The steps of a delivery, after each of which the daemon may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is on record that the text is about to be typed.
    Recorded,
    /// The text is with tmux.
    Ready,
    /// It stands in the input line.
    Typed,
    /// That is on record.
    TypedRecorded,
    /// Enter was pressed.
    Sent,
    /// That is on record.
    SentRecorded,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 6] =
        [Self::Recorded, Self::Ready, Self::Typed, Self::TypedRecorded, Self::Sent, Self::SentRecorded];

    /// Its name as a point at which tests end the daemon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Recorded => "nudge:recorded",
            Self::Ready => "nudge:ready",
            Self::Typed => "nudge:typed",
            Self::TypedRecorded => "nudge:typed-recorded",
            Self::Sent => "nudge:sent",
            Self::SentRecorded => "nudge:sent-recorded",
        }
    }

    fn reached(self) {
        drill::at(self.name());
    }
}

/// The name of the present attempt.
pub(super) fn token(row: &NudgeRow) -> Option<Token> {
    Token::new(&format!("{}-{}", row.id, row.attempts))
}

impl Nudges {
    /// Types a text into a pane that was found free for it. When to look again.
    pub(super) async fn deliver(
        &self,
        hand: Hand,
        row: NudgeRow,
        seen: Screen,
        occasion: Occasion,
    ) -> Option<Duration> {
        let head = self.0.bus.head();
        let instance = self.0.handle.view().agent(&row.agent).and_then(|agent| agent.instance);
        let row = match self.recorded(row, instance).await {
            Some(row) => row,
            None => return Some(BACK_OFF.0),
        };
        Step::Recorded.reached();
        let token = token(&row)?;
        let text =
            if by_lines(&seen.tty) == Some(true) { one_line(&row.message) } else { row.message.clone() };
        if let Err(error) = hand.ready(&token, &text).await {
            hand.forget(&token).await;
            return self.failed(row, &error).await;
        }
        Step::Ready.reached();
        match hand.type_it(&token, &seen, occasion).await {
            Ok(true) => {}
            Ok(false) => {
                hand.forget(&token).await;
                return self.put_back(row, "its pane changed at the last moment".to_owned()).await;
            }
            Err(error) => {
                // It may have been typed: that is asked for until tmux tells.
                tracing::warn!(id = %row.id, agent = %row.agent, %error, "typing was not confirmed");
                drop(hand);
                return self.recover(row).await;
            }
        }
        Step::Typed.reached();
        let row = self.typed(row).await;
        Step::TypedRecorded.reached();
        if by_lines(&seen.tty) != Some(true) {
            hand.settle(&seen, text.len()).await;
        }
        self.send_off(hand, row, &token, &seen, head).await
    }

    /// Presses Enter behind a text that stands in the input line, and writes down what became of it. `seen` is the
    /// pane as it was before nobody touched it any more.
    pub(super) async fn send_off(
        &self,
        hand: Hand,
        row: NudgeRow,
        token: &Token,
        seen: &Screen,
        head: Seq,
    ) -> Option<Duration> {
        let end = Instant::now() + IN_MODE;
        let why = loop {
            match hand.send(token, seen).await {
                Ok(true) => {
                    Step::Sent.reached();
                    return self.sent_off(hand, row, token, head).await;
                }
                Ok(false) => match hand.look().await {
                    Ok(now) if now.in_mode || now.input_off => {
                        if Instant::now() >= end {
                            break "somebody scrolled in its pane for too long".to_owned();
                        }
                        sleep(AGAIN).await;
                    }
                    Ok(_) => break "somebody typed before it was sent off".to_owned(),
                    Err(TypingError::Gone(_)) => {
                        break "its instance ended before it was sent off".to_owned();
                    }
                    Err(TypingError::Tmux(_)) => return self.recover_later(hand),
                },
                Err(error) => match hand.how_far(token).await {
                    Ok(Mark::Sent) => return self.sent_off(hand, row, token, head).await,
                    Ok(_) if Instant::now() < end => sleep(AGAIN).await,
                    Ok(_) => break format!("Enter was refused: {error}"),
                    Err(TypingError::Gone(_)) => {
                        break "its instance ended before it was sent off".to_owned();
                    }
                    Err(TypingError::Tmux(_)) => return self.recover_later(hand),
                },
            }
        };
        hand.forget(token).await;
        if let (Ok(now), Some(instance)) = (hand.look().await, &row.typed_for) {
            let left = (now.cursor.0, now.cursor.1, now.history);
            self.with_book(|book| book.track_of(&row.agent, instance).memory.left = Some(left));
        }
        self.bury(row, "unsent", format!("{why}; it may stand in its input line and is not typed again"))
            .await;
        Some(Duration::ZERO)
    }

    /// tmux does not answer: what came of it is asked for again.
    fn recover_later(&self, hand: Hand) -> Option<Duration> {
        drop(hand);
        Some(Duration::from_secs(1))
    }

    /// Enter was pressed: that is written down, if need be later.
    pub(super) async fn sent_off(
        &self,
        hand: Hand,
        row: NudgeRow,
        token: &Token,
        head: Seq,
    ) -> Option<Duration> {
        let said = match self.0.handle.view().agent(&row.agent) {
            Some(agent) => self.said(&agent).await.unwrap_or(Said::Nothing),
            None => Said::Nothing,
        };
        // One that never reports says no more of itself than that it was typed at.
        let reports = said != Said::Nothing;
        let reached = if reports { NudgeReached::Submitted } else { NudgeReached::Typed };
        let waited = since(row.created_at, self.now()).as_millis();
        let (agent, instance) = (row.agent.clone(), row.typed_for.clone());
        let row = NudgeRow { state: NudgeState::Delivered, reached, why: None, ..row };
        let data = json!({
            "id": row.id, "reached": reached, "attempts": row.attempts,
            "waited_ms": u64::try_from(waited).unwrap_or(u64::MAX),
        });
        let event = self.event(kind::NUDGE_DELIVERED, &row, data);
        let changing = self.0.changing.lock().await;
        if let Some(instance) = &instance {
            self.with_book(|book| {
                let track = book.track_of(&agent, instance);
                track.failed = 0;
                track.memory.left = None;
                if reports {
                    track.pause = Some(Instant::now() + TAKES_UP);
                }
                // Before it is told: the report may come first.
                track.watched = Some((row.clone(), head, Instant::now() + WATCHED));
            });
        }
        let committed = self.commit(row, Some(event)).await;
        drop(changing);
        if let Err(error) = committed {
            tracing::error!(%agent, %error, "that a text was sent off cannot be written down");
            return self.recover_later(hand);
        }
        Step::SentRecorded.reached();
        hand.forget(token).await;
        let seen = instance.and_then(|instance| self.with_book(|book| book.seen(&agent, &instance)));
        if let Some(row) = seen {
            self.was_seen(row).await;
        }
        Some(Duration::ZERO)
    }

    /// The agent reported after a text that it works.
    pub(super) async fn was_seen(&self, row: NudgeRow) {
        let _changing = self.0.changing.lock().await;
        let row = NudgeRow { reached: NudgeReached::Seen, ..row };
        let event = self.event(kind::NUDGE_SEEN, &row, json!({ "id": row.id }));
        if let Err(error) = self.commit(row, Some(event)).await {
            tracing::warn!(%error, "that a text was seen cannot be written down");
        }
    }

    /// Writes down that a text is about to be typed. Nothing when it was taken back, or that cannot be done.
    async fn recorded(&self, row: NudgeRow, instance: Option<gtd_proto::InstanceId>) -> Option<NudgeRow> {
        let _changing = self.0.changing.lock().await;
        let present = self.with_book(|book| book.find(&row.id));
        // What is now or never is not in the book before.
        if present.map_or(!row.now_or_never, |entry| entry.row.state != NudgeState::Queued) {
            return None;
        }
        let attempts = row.attempts.saturating_add(1);
        let row = NudgeRow { state: NudgeState::Delivering, typed_for: instance, attempts, ..row };
        let sent = (row.now_or_never && row.attempts == 1).then(|| self.sent(&row, None));
        let event = match sent {
            Some(crate::ledger::Write::Event(event)) => Some(event),
            _ => None,
        };
        match self.commit(row, event).await {
            Ok(row) => Some(row),
            Err(error) => {
                tracing::error!(%error, "a text is not typed, since that cannot be written down");
                None
            }
        }
    }

    /// Writes down that it stands in the input line. The pane knows it as well.
    pub(super) async fn typed(&self, row: NudgeRow) -> NudgeRow {
        let _changing = self.0.changing.lock().await;
        let row = NudgeRow { reached: NudgeReached::Typed, ..row };
        match self.commit(row.clone(), None).await {
            Ok(row) => row,
            Err(error) => {
                tracing::error!(%error, "that a text was typed cannot be written down");
                row
            }
        }
    }

    /// Nothing was typed, through nobody's fault: it waits again. What was now or never is given up.
    pub(super) async fn put_back(&self, row: NudgeRow, why: String) -> Option<Duration> {
        if row.now_or_never {
            self.bury(row, "refused", why).await;
            return None;
        }
        let agent = row.agent.clone();
        let _changing = self.0.changing.lock().await;
        let row =
            NudgeRow { state: NudgeState::Queued, reached: NudgeReached::Queued, typed_for: None, ..row };
        if let Err(error) = self.commit(row, None).await {
            tracing::error!(%agent, %error, "that a text waits again cannot be written down");
        }
        self.with_book(|book| book.wait(&agent, &why, false));
        Some(BACK_OFF.0)
    }

    /// tmux did not take it: it waits again, longer each time, and not for ever.
    async fn failed(&self, row: NudgeRow, error: &TypingError) -> Option<Duration> {
        let agent = row.agent.clone();
        let failed = self.with_book(|book| {
            let track = book.track(&agent);
            track.failed = track.failed.saturating_add(1);
            track.failed
        });
        if failed >= ATTEMPTS && !matches!(error, TypingError::Gone(_)) {
            self.with_book(|book| book.track(&agent).failed = 0);
            self.bury(row, "refused", format!("it could not be typed in {failed} attempts: {error}")).await;
            return Some(Duration::ZERO);
        }
        let pause = BACK_OFF.0.saturating_mul(1 << failed.min(10)).min(BACK_OFF.1);
        self.put_back(row, format!("it could not be typed: {error}")).await;
        Some(pause)
    }
}
