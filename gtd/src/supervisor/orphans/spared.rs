//! What is spared when an agent ends is not left over afterwards.
//!
//! A program that `[stop] spare` names, or a gtd at work, lives on in its agent's session with everything below it; the
//! record of its session would prove it ours for ever.

use crate::process::{Attribution, Look, ProcessTable, SparedAs, Verdict};

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
