//! Rows of workers: names and work are given once.

use super::*;
use crate::ledger::{LedgerError, Write, open, scratch};
use serde_json::json;

fn row(rig: &str, name: &str, state: PolecatState, work: Option<&str>) -> PolecatRow {
    PolecatRow {
        rig: rig.parse().unwrap(),
        name: name.parse().unwrap(),
        state,
        worktree: Some(format!("/t/{rig}/polecats/{name}/{rig}")),
        branch: Some(format!("polecat/{name}@1")),
        work: work.map(|id| id.parse().unwrap()),
        made_at: "2026-03-01T12:00:00Z".parse().unwrap(),
        journal: Some(json!({"step": "tree"})),
    }
}

fn reserve(row: PolecatRow) -> Write {
    Write::Polecat(PolecatWrite::Reserve(row))
}

#[tokio::test]
async fn a_name_and_a_piece_of_work_are_reserved_once_and_survive_the_ledger() {
    let dir = scratch::dir();
    let ledger = open(dir.path()).ledger;
    let nux = row("a", "nux", PolecatState::Spawning, Some("a-1"));
    ledger.commit(vec![reserve(nux.clone())]).await.unwrap();
    for taken in [
        row("a", "nux", PolecatState::Spawning, Some("a-2")),
        row("a", "max", PolecatState::Spawning, Some("a-1")),
        row("b", "nux", PolecatState::Spawning, Some("a-1")),
    ] {
        let refused = ledger.commit(vec![reserve(taken)]).await;
        assert!(matches!(refused, Err(LedgerError::Value { .. })), "{refused:?}");
    }
    // Elsewhere the name is another's, and without work there is nothing to share.
    let others =
        [row("b", "nux", PolecatState::Spawning, None), row("b", "max", PolecatState::Spawning, None)];
    ledger.commit(others.iter().cloned().map(reserve).collect()).await.unwrap();
    // Of one that is made the work may go on to another.
    let ready = PolecatRow { state: PolecatState::Ready, journal: None, ..nux.clone() };
    ledger.commit(vec![Write::Polecat(PolecatWrite::Set(ready.clone()))]).await.unwrap();
    let max = row("a", "max", PolecatState::Spawning, Some("a-1"));
    ledger.commit(vec![reserve(max.clone())]).await.unwrap();
    // Two of which one must go back to where the other is: neither takes the other away.
    assert!(ledger.commit(vec![Write::Polecat(PolecatWrite::Set(nux.clone()))]).await.is_err());
    let all = [max.clone(), ready.clone(), others[1].clone(), others[0].clone()];
    assert_eq!(ledger.polecats(None).await.unwrap(), all);
    assert_eq!(ledger.polecats(Some(&nux.rig)).await.unwrap(), all[..2]);
    assert_eq!(ledger.polecat(&nux.rig, &nux.name).await.unwrap(), Some(ready.clone()));
    let forget = PolecatWrite::Forget { rig: max.rig.clone(), name: max.name.clone() };
    ledger.commit(vec![Write::Polecat(forget)]).await.unwrap();
    assert_eq!(ledger.polecat(&max.rig, &max.name).await.unwrap(), None);
    ledger.close().await;
    // The file goes, the snapshot remembers.
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("gtd.db{end}")));
    }
    let opened = open(dir.path());
    assert_eq!(opened.state.polecats, all[1..]);
    assert_eq!(opened.ledger.polecats(None).await.unwrap(), all[1..]);
    opened.ledger.close().await;
}

#[test]
fn a_word_of_a_later_version_is_nobodys_to_act_upon() {
    for state in
        [PolecatState::Spawning, PolecatState::Ready, PolecatState::Abandoned, PolecatState::Removing]
    {
        assert_eq!(PolecatState::of(state.as_str()), state);
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    assert_eq!(PolecatState::of("flying"), PolecatState::Unknown);
}
