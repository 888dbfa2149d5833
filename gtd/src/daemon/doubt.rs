//! What the ledger could not tell at the start, and which of that decides what may be started.
//!
//! Pure. Something that cannot be read is never taken for something that is not there.

use crate::ledger::Loaded;
use crate::supervisor::pauses::{self, Pauses};

/// How what is said of a book of pauses that cannot be read begins, as of any fact.
const PAUSES: &str = "fact pauses: ";

/// A book of pauses that cannot be understood is no empty one.
pub(super) fn doubt_pauses(state: &mut Loaded) {
    if let Err(why) = Pauses::recall(state.facts.get(pauses::FACT)) {
        state.unreadable.push(format!("{PAUSES}{why}"));
    }
}

/// What the ledger cannot read of agents, instances and pauses decides what may be started.
pub(super) fn is_vital(unreadable: &str) -> bool {
    ["agent ", "instance ", PAUSES].iter().any(|what| unreadable.starts_with(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_book_of_pauses_that_cannot_be_read_starts_nothing() {
        assert!(PAUSES.contains(pauses::FACT));
        let vital = |fact| {
            let mut state = Loaded { facts: [(pauses::FACT.to_owned(), fact)].into(), ..Loaded::default() };
            doubt_pauses(&mut state);
            state.unreadable.iter().any(|what| is_vital(what))
        };
        assert!(vital(json!({ "town": 5 })) && vital(json!("damaged")));
        assert!(!vital(json!({})));
        assert!(!vital(json!({ "town": { "by": "person", "at": "2026-01-01T00:00:00Z" } })));
        let mut none = Loaded::default();
        doubt_pauses(&mut none);
        assert!(none.unreadable.is_empty() && !is_vital("fact config: bad"));
    }
}
