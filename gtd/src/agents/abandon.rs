//! Letting go of an instance that a person declared dead.
//!
//! Looked at once more: what lives is not let go of, and a launch that nobody took up is called off first, so
//! that nothing can come of it later. Nothing is signalled.

use gtd_proto::Timestamp;
use gtd_proto::exit::Usage;

use super::begin::{Revoked, found, revoke};
use super::order::{EndedBy, Ending, Life, What};
use super::pressure::process_table;
use super::task::Work;
use crate::process::{Observation, ProcessId, observe};

/// Lets go of the instance, unless something of it is proven to live. `true` when it is done, and reported.
pub(super) async fn abandon(work: &Work<'_>, life: Option<&Life>, evidence: String) -> bool {
    if let Some(why) = speaks_against(work, life).await {
        work.report(What::Unknown { why: format!("it was declared dead, and {why}") }).await;
        return false;
    }
    let now = Timestamp::now();
    let ending = Ending {
        pid: life.and_then(|life| life.process.as_ref()).map(|process| process.pid.get()),
        started_at: life.and_then(|life| life.started_at),
        ended_at: now,
        code: None,
        signal: None,
        by: EndedBy::Declared,
        exec_error: None,
        output: Vec::new(),
        usage: Usage::default(),
        client_activity: None,
        limit: None,
        oom: None,
        said: Some(evidence),
        detected_by: "person",
        detect_ms: None,
    };
    work.report(What::Ended(Box::new(ending))).await;
    work.report(What::Gone { survivors: Vec::new() }).await;
    true
}

async fn speaks_against(work: &Work<'_>, life: Option<&Life>) -> Option<String> {
    let record = found(&work.shared.record_file(work.instance));
    let recorded = record.iter().flat_map(|record| [Some(record.shim_id()), record.agent_id()]);
    let remembered = life.iter().flat_map(|life| [Some(life.shim.clone()), life.process.clone()]);
    let alive: Option<ProcessId> =
        recorded.chain(remembered).flatten().find(|id| matches!(observe(id), Observation::Alive(_)));
    if let Some(id) = alive {
        return Some(format!("its process {} is alive", id.pid));
    }
    if let Some(table) = process_table().await {
        let look = work.shared.look.as_ref();
        let left = work.shared.with_capture(work.agent, |capture| {
            let capture = capture.as_mut()?;
            capture.proven(&table, look).targets.first().map(|target| target.id().pid)
        });
        if let Some(pid) = left {
            return Some(format!("process {pid}, which descends from it, is alive"));
        }
    }
    match revoke(work.shared, work.instance) {
        Revoked::Yes | Revoked::TooLate => None,
        Revoked::Unknown(why) => Some(format!("it may yet begin: {why}")),
    }
}
