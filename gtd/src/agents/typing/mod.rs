//! Typing for an agent: when it may be done, and doing it.
//!
//! Owns the only way in which text of ours reaches a pane. Whoever types holds the agent's turn, so that there is one
//! writer for each. It must never type into an instance other than the one that was asked for, and never decide
//! what is typed.

pub mod clean;
pub mod line;
pub mod rules;
#[cfg(test)]
mod rules_tests;

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::{Address, InstanceId};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep};

use super::runtime::{Runtime, target};
use crate::tmux::{Driver, Guard, Mark, PaneId, Screen, ServerId, TmuxError, Token};

/// Between two looks whether a program has taken a text.
const SETTLE_LOOK: Duration = Duration::from_millis(10);
/// A text of more bytes is drawn piece by piece, and has to stand still for longer.
const LARGE: usize = 1_000;
/// How long a program that draws its input line itself may take for that; Enter comes then all the same.
const SETTLE: Duration = Duration::from_millis(500);

/// Why an agent's pane could not be typed into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypingError {
    /// That instance has no pane any more, or never had one.
    #[error("{0} does not run in a pane")]
    Gone(Address),
    /// tmux did not do its part.
    #[error(transparent)]
    Tmux(TmuxError),
}

/// The turns of those who type: one at a time for each agent.
#[derive(Debug, Default)]
pub struct Turns(Mutex<BTreeMap<Address, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, agent: &Address) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(agent.clone()).or_default())
    }
}

/// The turn to type for an agent, and its pane.
#[derive(Debug)]
pub struct Hand {
    agent: Address,
    driver: Driver,
    server: ServerId,
    pane: PaneId,
    /// Process of the pane, as the instance was placed.
    pid: i32,
    _turn: OwnedMutexGuard<()>,
}

impl Runtime {
    /// The turn to type for one instance of an agent, as soon as nobody else has it.
    ///
    /// # Errors
    /// [`TypingError::Gone`] when the agent has another instance, or none that was placed.
    pub async fn hand(&self, agent: &Address, instance: &InstanceId) -> Result<Hand, TypingError> {
        let turn = self.shared().turns.of(agent).lock_owned().await;
        let gone = || TypingError::Gone(agent.clone());
        let (present, life) = self.shared().life(agent).ok_or_else(gone)?;
        let life = life.filter(|_| present == *instance).ok_or_else(gone)?;
        let (server, pane) = target(&life.place).ok_or_else(gone)?;
        Ok(Hand {
            agent: agent.clone(),
            driver: self.driver().clone(),
            server,
            pane,
            pid: life.shim.pid.get(),
            _turn: turn,
        })
    }

    /// How the input line of an agent begins that was launched as `entry`, where that is known.
    #[must_use]
    pub fn prompt(&self, agent: &Address, entry: &str) -> Option<String> {
        self.shared().prepare.prompt(agent, entry)
    }
}

impl Hand {
    /// What the pane shows.
    ///
    /// # Errors
    /// [`TypingError::Gone`] when the instance is no longer there.
    pub async fn look(&self) -> Result<Screen, TypingError> {
        let screen = self.driver.look(&self.server, &self.pane).await.map_err(|error| self.error(error))?;
        if screen.dead || screen.pane_pid.is_none_or(|pid| pid.get() != self.pid) {
            return Err(TypingError::Gone(self.agent.clone()));
        }
        Ok(screen)
    }

    /// Gets a text ready under a token. To be followed by [`Self::forget`], whatever comes of it.
    ///
    /// # Errors
    /// Then it will never be typed.
    pub async fn ready(&self, token: &Token, text: &str) -> Result<(), TypingError> {
        let doing = self.driver.ready_text(&self.server, &self.pane, token, text.as_bytes());
        doing.await.map_err(|error| self.error(error))
    }

    /// Types it, if the pane still is as it was seen. An answer may be given while a program redraws its question;
    /// otherwise the cursor must not have moved either.
    ///
    /// # Errors
    /// Then it may have been typed: [`Self::how_far`].
    pub async fn type_it(
        &self,
        token: &Token,
        seen: &Screen,
        occasion: rules::Occasion,
    ) -> Result<bool, TypingError> {
        let Some(guard) = Guard::of(seen) else { return Ok(false) };
        let guard = if occasion == rules::Occasion::Turn { guard.and_cursor(seen) } else { guard };
        let doing = self.driver.type_text(&self.server, &self.pane, token, &guard);
        doing.await.map_err(|error| self.error(error))
    }

    /// Presses Enter, if nobody has touched the terminal since it was seen.
    ///
    /// # Errors
    /// Then it may have been pressed: [`Self::how_far`].
    pub async fn send(&self, token: &Token, seen: &Screen) -> Result<bool, TypingError> {
        let Some(guard) = Guard::of(seen) else { return Ok(false) };
        let doing = self.driver.send_text(&self.server, &self.pane, token, &guard);
        doing.await.map_err(|error| self.error(error))
    }

    /// How far an attempt came; nothing more comes of it by itself.
    ///
    /// # Errors
    /// [`TypingError::Gone`] when its pane is gone, so that nobody can tell.
    pub async fn how_far(&self, token: &Token) -> Result<Mark, TypingError> {
        let doing = self.driver.how_far(&self.server, &self.pane, token);
        doing.await.map_err(|error| self.error(error))
    }

    /// Takes what is left of an attempt out of tmux's memory.
    pub async fn forget(&self, token: &Token) {
        self.driver.forget_text(&self.server, token).await;
    }

    /// Waits until a program that draws its input line itself has taken a text in, so that Enter is not taken for a
    /// part of it.
    pub async fn settle(&self, before: &Screen, bytes: usize) {
        let end = Instant::now() + SETTLE;
        let needed = if bytes > LARGE { 5 } else { 1 };
        let (mut last, mut still) = (None::<Screen>, 0);
        while Instant::now() < end {
            let Ok(now) = self.look().await else { return };
            let taken = now.rows != before.rows || now.cursor != before.cursor;
            let same = last.as_ref().is_some_and(|last| last.rows == now.rows && last.cursor == now.cursor);
            still = if taken && same { still + 1 } else { 0 };
            if still >= needed {
                return;
            }
            last = Some(now);
            sleep(SETTLE_LOOK).await;
        }
    }

    fn error(&self, error: TmuxError) -> TypingError {
        match error {
            TmuxError::NotFound { .. } | TmuxError::WrongServer { .. } => {
                TypingError::Gone(self.agent.clone())
            }
            error => TypingError::Tmux(error),
        }
    }
}

/// Whether a terminal hands its input out by lines. None when that cannot be told.
#[must_use]
pub fn by_lines(tty: &Path) -> Option<bool> {
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).ok()?;
    let terminal = std::fs::File::options().read(true).custom_flags(flags).open(tty).ok()?;
    let modes = rustix::termios::tcgetattr(&terminal).ok()?.local_modes;
    Some(modes.contains(rustix::termios::LocalModes::ICANON))
}
