//! Ends on which nothing is decided before the store of work was asked: whether a worker that ended by itself is
//! done, only a fresh answer tells.
//!
//! Pure. The answer has a deadline; without one the work counts as not done. Until then the end is not told, and
//! the next daemon finds it by its record.

use std::time::Duration;

use gtd_proto::{Address, Timestamp};

use super::hooked::Known;
use super::machine::{Machine, Phase};
use super::planner::Situation;
use super::policy::{self, Next, after};
use super::turn::Turn;
use super::verdict::Named;
use crate::agents::order::Ending;

/// How long an answer may take: `[work] timeout` is 10 s, and reads are tried twice.
pub const ANSWER: Duration = Duration::from_secs(30);

/// An end that was not asked for, as its task told it.
#[derive(Debug, Clone)]
pub struct Unjudged {
    pub(super) ending: Ending,
    pub(super) named: Named,
    /// By the heart's clock.
    pub(super) died_at: Timestamp,
    pub(super) uptime: Duration,
    /// It was not ready yet.
    pub(super) was_starting: bool,
    /// Somebody had asked for it.
    pub(super) requested: bool,
    /// Nothing of the instance is left.
    pub(super) gone: bool,
    /// The question that is to decide it.
    pub(super) question: u64,
    /// Without an answer by then the work counts as not done.
    pub(super) until: Timestamp,
}

impl Machine {
    /// Whether an end can only be judged by asking. One that failed with work on its hook is brought back at once.
    pub(super) fn must_ask(&self, end: &Unjudged, situation: &Situation<'_>) -> bool {
        if end.requested || !matches!(self.address, Address::Polecat(..)) {
            return false;
        }
        match end.named.ending {
            policy::Ending::Clean => true,
            policy::Ending::Failure => self.known_work(situation) == Known::Unknown,
            _ => false,
        }
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask_first(&mut self, mut end: Unjudged, situation: &mut Situation<'_>, turn: &mut Turn) {
        let now = situation.now;
        end.question = self.question(situation, turn);
        end.until = after(now, ANSWER);
        // No more than a place to wait in: what follows is decided with the answer.
        let phase =
            Phase::Dead { died_at: end.died_at, settled_at: end.until, gone: false, next: Next::Rest };
        self.unjudged = Some(Box::new(end));
        self.enter(
            phase,
            now,
            Some("it ended; its store is asked whether its work is done".to_owned()),
            turn,
        );
    }

    /// The answer to this question, or to one that took its place, if an end waits for it.
    pub(super) fn judge_if_asked(
        &mut self,
        question: u64,
        open: bool,
        situation: &mut Situation<'_>,
        turn: &mut Turn,
    ) {
        if let Some(end) = self.unjudged.take_if(|end| end.question <= question) {
            self.judge(*end, open, situation, turn);
        }
    }

    /// Somebody asks for something of it now, or time is up: what is known has to do.
    pub(super) fn judge_by_what_is_known(&mut self, situation: &mut Situation<'_>, turn: &mut Turn) {
        if let Some(end) = self.unjudged.take() {
            let open = self.known_work(situation) != Known::Nothing;
            self.judge(*end, open, situation, turn);
        }
    }
}
