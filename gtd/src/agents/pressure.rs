//! Ending an instance through its shim: signals, each stronger than the one before, each proven and put on record.

use std::time::{Duration, Instant};

use gtd_proto::agent::SignalSent;
use tokio::sync::SemaphorePermit;

use super::order::{Life, What};
use super::runtime::Shared;
use super::task::{EndOrder, Work};
use crate::process::{Guard, ProcessTable, Proof, Sent, Signal, Target, send};

/// What a shim gets beyond the agent's grace before the next stronger signal.
const MARGIN: Duration = Duration::from_secs(3);

/// Signals to the shim, each stronger than the one before.
pub(super) struct Pressure<'a> {
    level: Signal,
    pub(super) until: Instant,
    by: String,
    _permit: SemaphorePermit<'a>,
}

impl<'a> Pressure<'a> {
    pub(super) async fn begin(
        shared: &Shared,
        work: &Work<'_>,
        life: &Life,
        order: &EndOrder,
        permit: SemaphorePermit<'a>,
    ) -> Self {
        let level = if order.force { Signal::Quit } else { Signal::Term };
        let grace = if order.force { Duration::ZERO } else { Duration::from_millis(life.grace_ms) };
        signal_shim(shared, work, life, level, &order.by).await;
        Self { level, until: Instant::now() + grace + MARGIN, by: order.by.clone(), _permit: permit }
    }

    pub(super) async fn force(&mut self, shared: &Shared, work: &Work<'_>, life: &Life, by: &str) {
        if self.level == Signal::Term {
            by.clone_into(&mut self.by);
            self.escalate(shared, work, life).await;
        }
    }

    /// TERM was not enough: QUIT, which kills at once; then KILL of the shim, which takes the agent along.
    pub(super) async fn escalate(&mut self, shared: &Shared, work: &Work<'_>, life: &Life) {
        self.level = if self.level == Signal::Term { Signal::Quit } else { Signal::Kill };
        self.until = Instant::now() + MARGIN;
        signal_shim(shared, work, life, self.level, &self.by).await;
    }
}

async fn signal_shim(shared: &Shared, work: &Work<'_>, life: &Life, signal: Signal, by: &str) {
    let Some(table) = process_table().await else { return };
    // What descends from the agent now may have other parents once the shim is dead.
    shared.with_capture(work.agent, |capture| {
        if let Some(capture) = capture {
            capture.merge(&table, shared.look.as_ref());
        }
    });
    let guard = match Guard::from_table(&table, shared.servers()) {
        Ok(guard) => guard,
        Err(error) => {
            tracing::error!(agent = %work.agent, %error, "no signal is sent");
            return;
        }
    };
    let target = Target::new(life.shim.clone(), Proof::Recorded);
    // A stopped shim hears nothing but KILL until it is continued.
    for signal in [signal, Signal::Cont] {
        match send(&guard, &target, signal) {
            Ok(sent) => work.report(What::Signals(vec![signal_sent(&sent, work, by)])).await,
            Err(crate::process::Refused::Gone(_)) => return,
            Err(error) => tracing::error!(agent = %work.agent, %error, "its shim could not be signalled"),
        }
    }
}

pub(super) fn signal_sent(sent: &Sent, work: &Work<'_>, by: &str) -> SignalSent {
    SignalSent {
        at: sent.at,
        agent: Some(work.agent.clone()),
        instance: Some(work.instance.clone()),
        pid: sent.target.pid.get(),
        start: sent.target.start.get(),
        signal: sent.signal.number(),
        evidence: serde_json::json!({ "proof": sent.proof, "comm": sent.comm, "boot": sent.target.boot }),
        by: by.to_owned(),
        because: None,
    }
}

pub(super) async fn process_table() -> Option<ProcessTable> {
    match tokio::task::spawn_blocking(ProcessTable::read).await {
        Ok(Ok(table)) => Some(table),
        Ok(Err(error)) => {
            tracing::error!(%error, "the process table cannot be read");
            None
        }
        Err(error) => {
            tracing::error!(%error, "reading the process table failed");
            None
        }
    }
}
