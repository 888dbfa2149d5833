//! Texts for agents come back as they were written, in order, and what is done with is no longer in the way.

use gtd_proto::{NudgeId, NudgeReached, NudgeState};

use super::*;

fn text(number: i64, state: NudgeState) -> NudgeRow {
    let at = "2026-01-31T12:00:00Z".parse().unwrap();
    NudgeRow {
        number,
        id: NudgeId::generate(),
        agent: "alpha/polecats/nux".parse().unwrap(),
        instance: Some(InstanceId::generate()),
        typed_for: None,
        now_or_never: number == 2,
        message: "é\n'\";--".to_owned(),
        bytes: 8,
        key: Some("mail".to_owned()),
        sender: "person".to_owned(),
        state,
        reached: NudgeReached::Queued,
        attempts: 3,
        why: None,
        created_at: at,
        updated_at: at,
        expires_at: at,
    }
}

#[tokio::test]
async fn texts_come_back_in_order() {
    let dir = scratch::dir();
    let ledger = open(dir.path()).ledger;
    let rows = [text(1, NudgeState::Queued), text(2, NudgeState::Delivering), text(3, NudgeState::Queued)];
    for row in &rows {
        ledger.commit(vec![Write::Nudge(Box::new(row.clone()))]).await.unwrap();
    }
    assert_eq!(ledger.open_nudges().await.unwrap().open, rows);
    let done = NudgeRow { state: NudgeState::Dead, why: Some("expired".to_owned()), ..rows[0].clone() };
    ledger.commit(vec![Write::Nudge(Box::new(done.clone()))]).await.unwrap();
    ledger.close().await;
    let ledger = open(dir.path()).ledger;
    let kept = ledger.open_nudges().await.unwrap();
    assert_eq!((kept.open.as_slice(), kept.last_number, kept.unreadable.len()), (&rows[1..], 3, 0));
    assert_eq!(ledger.past_nudges(None, 10).await.unwrap(), std::slice::from_ref(&done));
    assert_eq!(ledger.past_nudges(Some("mayor".parse().unwrap()), 10).await.unwrap(), []);
    assert_eq!(ledger.nudge(&done.id).await.unwrap(), Some(done));
    assert_eq!(ledger.nudge(&NudgeId::generate()).await.unwrap(), None);
    ledger.close().await;
}

#[tokio::test]
async fn the_last_report_of_an_instance_is_found() {
    let dir = scratch::dir();
    let ledger = open(dir.path()).ledger;
    let (one, other) = (InstanceId::generate(), InstanceId::generate());
    let agent = "alpha/witness".parse().unwrap();
    for (kind, instance, state) in [
        ("agent.reported", &one, "working"),
        ("agent.reported", &one, "idle"),
        ("agent.reported", &other, "waiting"),
        ("agent.ready", &one, "x"),
    ] {
        let event = NewEvent::of(Timestamp::now(), kind, &agent, serde_json::json!({ "state": state }));
        let event = NewEvent { instance: Some(instance.clone()), ..event };
        ledger.commit(vec![Write::Event(event)]).await.unwrap();
    }
    assert_eq!(ledger.last_report(&one).await.unwrap().as_deref(), Some("idle"));
    assert_eq!(ledger.last_report(&other).await.unwrap().as_deref(), Some("waiting"));
    assert_eq!(ledger.last_report(&InstanceId::generate()).await.unwrap(), None);
    ledger.close().await;
}
