//! What is left of an instance when its shim is gone: found by proof, ended, and reported until there is nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::begin::{exec_failed, found};
use super::order::{Life, What};
use super::pressure::{process_table, signal_sent};
use super::runtime::Shared;
use super::task::Work;
use super::tend::{Told, tell_end};
use crate::process::record::{Phase, Record};
use crate::process::{Capture, EndOptions, Observation, ProcessId, WatchError, end, observe};

/// How often a process table that cannot be read is tried again.
const TABLE_AGAIN: Duration = Duration::from_millis(500);
/// How often survivors are looked for that nobody can watch.
const SURVIVOR_POLL: Duration = Duration::from_secs(5);

/// The shim is gone: what is left is found by proof, ended, and reported until there is nothing.
pub(super) async fn after_the_shim(work: &mut Work<'_>, life: &mut Life, told: &Told) {
    let shared = Arc::clone(work.shared);
    let record = found(&shared.record_file(work.instance));
    if let Some(error) = record.as_ref().and_then(|record| record.exec_error.as_ref()) {
        exec_failed(work, error).await;
        return;
    }
    if let (None, Some(record)) = (&life.process, &record) {
        life.process = record.agent_id();
    }
    if !told.ended && life.process.is_some() {
        tell_end(work, life, record.as_deref(), told.by).await;
    }
    if life.process.is_none() {
        let why = "its shim ended before it could start the agent";
        work.not_launched(super::order::FailureKind::Ours, why, None).await;
        return;
    }
    let mut capture = shared.with_capture(work.agent, Option::take).unwrap_or_else(|| recorded(work, life));
    if let Some(record) = &record {
        // What it froze has new parents now, and would stand still for ever.
        capture.descended(&record.shim_id(), record.frozen_ids(), record.started_at);
    }
    let proper = record.as_ref().is_some_and(|record| record.phase == Phase::Gone);
    if proper && record.as_ref().is_some_and(|record| !record.spared.is_empty()) {
        shared.note_spared(work.instance);
    }
    let mut left = if proper { survivors(record.as_deref()) } else { proven(work, &mut capture).await };
    if !proper && !left.is_empty() {
        work.report(What::Lingering { processes: left.clone() }).await;
        left = end_rest(&shared, work, &mut capture, life).await;
    }
    while !left.is_empty() {
        work.report(What::Gone { survivors: left.clone() }).await;
        outlive(&shared, &left).await;
        left.retain(|id| !matches!(observe(id), Observation::Dead(_) | Observation::Absent));
    }
    work.report(What::Gone { survivors: Vec::new() }).await;
}

pub(super) fn recorded(work: &Work<'_>, life: &Life) -> Capture {
    let ids = [Some(life.shim.clone()), life.process.clone()].into_iter().flatten();
    Capture::new(work.instance.to_string(), ids)
}

/// What a shim could not end, as far as it still lives.
fn survivors(record: Option<&Record>) -> Vec<ProcessId> {
    let Some(record) = record else { return Vec::new() };
    let ids = record.survivors.iter().map(|left| ProcessId {
        boot: record.boot_id.clone(),
        pid: left.pid,
        start: left.start,
    });
    ids.filter(|id| !matches!(observe(id), Observation::Dead(_) | Observation::Absent)).collect()
}

/// What is proven of it and alive. That there is nothing is never concluded from a table that cannot be read.
async fn proven(work: &Work<'_>, capture: &mut Capture) -> Vec<ProcessId> {
    let table = loop {
        if let Some(table) = process_table().await {
            break table;
        }
        let why = "the process table cannot be read, so what is left of it is not known".to_owned();
        work.report(What::Unknown { why }).await;
        sleep(TABLE_AGAIN).await;
    };
    let look = &work.shared.look;
    capture.merge(&table, look.as_ref());
    capture.proven(&table, look.as_ref()).targets.iter().map(|target| target.id().clone()).collect()
}

async fn end_rest(shared: &Shared, work: &Work<'_>, capture: &mut Capture, life: &Life) -> Vec<ProcessId> {
    let options =
        EndOptions { grace: Duration::from_millis(life.grace_ms.min(10_000)), ..EndOptions::default() };
    let report = end(&shared.watcher, capture, &shared.servers(), &shared.look, options).await;
    let by = "supervisor: left over after its shim";
    let signals = report.signals.iter().map(|sent| signal_sent(sent, work, by)).collect();
    work.report(What::Signals(signals)).await;
    for (id, why) in &report.refused {
        tracing::warn!(agent = %work.agent, process = %id, %why, "not signalled");
    }
    match report.unverified {
        None => report.survivors,
        Some(why) => {
            work.report(What::Unknown { why }).await;
            proven(work, capture).await
        }
    }
}

/// Waits until one of them is gone, or for a while.
async fn outlive(shared: &Shared, left: &[ProcessId]) {
    for id in left {
        match shared.watcher.watch(id) {
            Ok(mut watch) => {
                let _ = tokio::time::timeout(SURVIVOR_POLL, watch.exited()).await;
                return;
            }
            Err(WatchError::AlreadyGone(_)) => return,
            Err(WatchError::Unknown(_)) => {}
        }
    }
    sleep(SURVIVOR_POLL).await;
}
