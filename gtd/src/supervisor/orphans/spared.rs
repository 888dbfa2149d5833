//! What is spared when an agent ends is not left over afterwards.
//!
//! A program that `[stop] spare` names, or a gtd at work, lives on in its agent's session with everything below it; the
//! record of its session would prove it ours for ever. What it starts later is theirs who use it, also when it has
//! ended itself: of an instance whose shim ended everything but the spared, nothing can be left over.

use std::collections::BTreeSet;

use gtd_proto::InstanceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Blind, Handle};
use crate::ledger::Write;
use crate::process::{Attribution, BootId, Look, ProcessTable, SparedAs, Verdict};

/// Name of the ledger's fact.
const SPARED: &str = "spared";
/// Most instances kept, the newest: as many as are looked at.
const MOST: usize = 4_096;

/// As the ledger has it.
#[derive(Serialize, Deserialize)]
struct Kept {
    boot: BootId,
    instances: BTreeSet<InstanceId>,
}

/// Instances of this boot of which only what was spared is left.
pub(super) async fn of(handle: &Handle, boot: &BootId) -> Result<BTreeSet<InstanceId>, Blind> {
    let fact = handle.ledger().fact(SPARED).await;
    let fact = fact.map_err(|error| Blind::new("the ledger", "read", error))?;
    let unreadable = |error| Blind::new("what was spared", "read", error);
    let mut all = fact.map(|fact| read(fact, boot)).transpose().map_err(unreadable)?.unwrap_or_default();
    all.extend(handle.runtime().shared().only_spared());
    Ok(all)
}

/// Writes them down for the next daemon.
pub(in crate::supervisor) async fn keep(handle: &Handle) {
    let seen = handle.runtime().shared().only_spared();
    let (false, Ok(boot)) = (seen.is_empty(), BootId::current()) else { return };
    let Ok(fact) = handle.ledger().fact(SPARED).await else { return };
    // One that cannot be read is kept, and nothing is swept.
    let Ok(known) = fact.map(|fact| read(fact, &boot)).transpose() else { return };
    let mut all = known.unwrap_or_default();
    if seen.is_subset(&all) {
        return;
    }
    all.extend(seen);
    // Their ids are in order of time.
    while all.len() > MOST {
        all.pop_first();
    }
    let Ok(value) = serde_json::to_value(Kept { boot, instances: all }) else { return };
    let value = Some(value);
    handle.write(vec![Write::Fact { key: SPARED.to_owned(), value }]).await;
}

/// What was written down of this boot.
fn read(fact: Value, boot: &BootId) -> Result<BTreeSet<InstanceId>, serde_json::Error> {
    let kept: Kept = serde_json::from_value(fact)?;
    Ok(if kept.boot == *boot { kept.instances } else { BTreeSet::new() })
}

/// Makes what is spared, and what stands below it, protected instead of left over.
pub(super) fn protect(found: &mut Attribution, table: &ProcessTable, look: &dyn Look) {
    let spared = |id: &_| table.alive(id).and_then(|stat| look.spared(stat));
    for item in found.items.iter_mut().filter(|item| item.verdict == Verdict::Orphan) {
        let above = table.ancestors(item.id.pid).map(|ancestry| ancestry.chain).unwrap_or_default();
        let why = match (spared(&item.id), above.iter().find_map(|id| Some((id.pid, spared(id)?)))) {
            (Some(why), _) => in_words(&why),
            (None, Some((pid, why))) => {
                format!("it lies below process {pid}, and that is spared: {}", in_words(&why))
            }
            (None, None) => continue,
        };
        item.verdict = Verdict::Protected;
        item.proof = None;
        item.reason = format!("{}, but {why}", item.reason);
    }
    found.items.sort_by(|a, b| (a.verdict, &a.id).cmp(&(b.verdict, &b.id)));
}

fn in_words(why: &SparedAs) -> String {
    match why {
        SparedAs::TmuxServer => "it is a tmux server".to_owned(),
        SparedAs::Daemon => "it is a gtd at work".to_owned(),
        SparedAs::Named(name) => format!("[stop] spare names {name}"),
        SparedAs::Below => "it is below a spared one".to_owned(),
    }
}
