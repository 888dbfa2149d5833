//! Texts of which it is not known how far they came: the daemon was killed over them, or tmux did not answer. The
//! mark on the pane tells; where there is none to ask, a text is given up rather than typed twice.

use std::time::Duration;

use gtd_proto::{NudgeReached, State};

use super::Nudges;
use super::deliver::token;
use crate::agents::typing::TypingError;
use crate::ledger::NudgeRow;
use crate::tmux::Mark;

/// Between two questions.
const AGAIN: Duration = Duration::from_secs(1);

impl Nudges {
    /// Finds out how far a text came and goes on from there. When to ask again.
    pub(super) async fn recover(&self, row: NudgeRow) -> Option<Duration> {
        let unclear = "whether it was typed cannot be told, so it is not typed again";
        let (Some(token), Some(instance)) = (token(&row), row.typed_for.clone()) else {
            self.bury(row, "unclear", unclear.to_owned()).await;
            return Some(Duration::ZERO);
        };
        let hand = match self.0.handle.runtime().hand(&row.agent, &instance).await {
            Ok(hand) => hand,
            Err(_) => {
                // After a restart of the daemon it may not have been found yet.
                let shown = self.0.handle.view().agent(&row.agent);
                let looked_for = shown.as_ref().is_some_and(|agent| {
                    agent.instance.as_ref() == Some(&instance)
                        && matches!(
                            agent.state,
                            State::Unknown | State::Starting | State::Running | State::Paused
                        )
                });
                if looked_for {
                    return Some(AGAIN);
                }
                self.bury(row, "unclear", format!("its instance is over, and {unclear}")).await;
                return Some(Duration::ZERO);
            }
        };
        let head = self.0.bus.head();
        match hand.how_far(&token).await {
            Ok(Mark::Sent) => self.sent_off(hand, row, &token, head).await,
            Ok(Mark::Typed) => {
                let before = row.updated_at;
                let row = if row.reached == NudgeReached::Queued { self.typed(row).await } else { row };
                match hand.look().await {
                    Ok(seen) => {
                        let typed =
                            u64::try_from(self.0.handle.dated(before).as_second()).unwrap_or(u64::MAX);
                        let touched = [seen.client_activity, seen.somebody_acted];
                        if touched.into_iter().flatten().any(|at| at >= typed) {
                            let why = "somebody was at its terminal before it was sent off";
                            let why = format!("{why}; it may stand in its input line and is not typed again");
                            let left = (seen.cursor.0, seen.cursor.1, seen.history);
                            self.with_book(|book| {
                                book.track_of(&row.agent, &instance).memory.left = Some(left);
                            });
                            self.bury(row, "unsent", why).await;
                            return Some(Duration::ZERO);
                        }
                        self.send_off(hand, row, &token, &seen, head).await
                    }
                    Err(TypingError::Gone(_)) => {
                        self.bury(row, "unsent", "its instance ended before it was sent off".to_owned())
                            .await;
                        Some(Duration::ZERO)
                    }
                    Err(TypingError::Tmux(_)) => Some(AGAIN),
                }
            }
            Ok(Mark::Nothing) => {
                hand.forget(&token).await;
                drop(hand);
                self.put_back(row, "it was about to be typed when the daemon ended".to_owned()).await
            }
            Err(TypingError::Gone(_)) => {
                self.bury(row, "unclear", format!("its pane is gone, and {unclear}")).await;
                Some(Duration::ZERO)
            }
            Err(TypingError::Tmux(_)) => Some(AGAIN),
        }
    }
}
