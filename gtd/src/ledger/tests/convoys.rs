//! Convoys: the end of one is one write, made once, and nothing that is not known is an end.

use gtd_proto::WorkId;

use super::*;

fn id(text: &str) -> WorkId {
    text.parse().unwrap()
}

fn convoy(number: i64, key: Option<&str>) -> Write {
    Write::Convoy(ConvoyWrite::Make(ConvoyRow {
        number,
        id: id(&format!("hq-cv-{number}")),
        title: "t".into(),
        status: "open".into(),
        watchers: vec!["mayor".into()],
        created_by: "mayor".into(),
        created_at: noon(),
        closed_at: None,
        key: key.map(str::to_owned),
    }))
}

fn tracked(convoy: &str, work: &str, kind: &str, status: &str) -> Write {
    Write::Convoy(ConvoyWrite::Track(TrackedRow {
        convoy: id(convoy),
        position: 0,
        work: id(work),
        title: "t".into(),
        store: kind.into(),
        kind: kind.into(),
        status: status.into(),
        seen_at: noon(),
    }))
}

fn item(number: i64, work: &str, status: &str) -> Write {
    Write::Work(WorkWrite::Item(WorkRow {
        number,
        id: id(work),
        title: "t".into(),
        description: None,
        status: status.into(),
        assignee: None,
        priority: 2,
        created_at: noon(),
        created_by: "t".into(),
        updated_at: noon(),
        hooked_at: None,
        closed_at: None,
        closed_why: None,
    }))
}

fn close(convoy: &str) -> Vec<Write> {
    let mail = NewMail {
        sender: "daemon".into(),
        recipient: "mayor".into(),
        subject: "over".into(),
        body: "b".into(),
        at: noon(),
        key: Some(format!("convoy:{convoy}")),
        incident: None,
        ours: true,
        cause: None,
        peer: None,
        via: None,
    };
    let told = Box::new(NewEvent::new(noon(), "convoy.closed", json!({"id": convoy})));
    vec![Write::Convoy(ConvoyWrite::Close { id: id(convoy), at: noon(), told, mails: vec![mail] })]
}

async fn over(ledger: &Ledger) -> Vec<String> {
    ledger.convoys_over().await.unwrap().into_iter().map(|(row, _)| row.id.to_string()).collect()
}

#[tokio::test]
async fn the_end_of_a_convoy_its_event_and_its_mail_are_one_write_that_is_made_once() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    ledger.commit(vec![convoy(1, Some("k")), tracked("hq-cv-1", "bd-1", "bd", "open")]).await.unwrap();
    // The same request in a race: nothing of it is left behind.
    ledger.commit(vec![convoy(2, Some("k")), tracked("hq-cv-2", "bd-1", "bd", "open")]).await.unwrap();
    assert_eq!(ledger.convoys(None, 10).await.unwrap().len(), 1);
    assert_eq!(ledger.convoy_work_elsewhere().await.unwrap().len(), 1);
    assert!(over(&ledger).await.is_empty());
    ledger.commit(vec![tracked("hq-cv-1", "bd-1", "bd", "closed")]).await.unwrap();
    assert_eq!(over(&ledger).await, ["hq-cv-1"]);
    let told = ledger.commit(close("hq-cv-1")).await.unwrap();
    let kinds: Vec<&str> = told.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["convoy.closed", "mail.sent"]);
    assert_eq!(told[1].cause, Some(told[0].seq));
    assert!(ledger.commit(close("hq-cv-1")).await.unwrap().is_empty());
    assert_eq!(ledger.mailbox("mayor", false).await.unwrap().0.len(), 1);
    assert!(over(&ledger).await.is_empty() && ledger.convoy_work_elsewhere().await.unwrap().is_empty());
    ledger.close().await;
}

#[tokio::test]
async fn items_of_the_ledger_are_as_they_are_now_and_as_last_known_when_they_are_gone() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let rows = vec![
        item(1, "hq-1", "open"),
        item(2, "hq-2", "closed"),
        convoy(1, None),
        tracked("hq-cv-1", "hq-1", "builtin", "open"),
        tracked("hq-cv-1", "hq-2", "builtin", "open"),
        // Nothing is tracked, and nothing that there is.
        convoy(2, None),
        convoy(3, None),
        tracked("hq-cv-3", "hq-9", "builtin", "open"),
        // Of the same name in another store.
        convoy(4, None),
        tracked("hq-cv-4", "hq-2", "bd", "open"),
    ];
    ledger.commit(rows).await.unwrap();
    assert!(over(&ledger).await.is_empty());
    assert!(ledger.convoy_work_differs().await.unwrap());
    ledger.commit(vec![item(1, "hq-1", "closed")]).await.unwrap();
    assert_eq!(over(&ledger).await, ["hq-cv-1"]);
    ledger.commit(vec![Write::Convoy(ConvoyWrite::TakeOver)]).await.unwrap();
    assert!(!ledger.convoy_work_differs().await.unwrap());
    // Pruned, and still over.
    let conn = Connection::open(dir.path().join("gtd.db")).unwrap();
    conn.execute("DELETE FROM work", []).unwrap();
    drop(conn);
    assert_eq!(over(&ledger).await, ["hq-cv-1"]);
    let counts = ledger.convoy_counts().await.unwrap();
    assert_eq!((counts.next, counts.open, counts.tracked), (5, 4, 4));
    ledger.close().await;
    // What goes on is loaded, for the snapshot.
    let (_, loaded) = open_sound(dir.path(), Condition::Existing);
    assert_eq!(
        (loaded.convoys.items.len(), loaded.convoys.tracked.len(), loaded.convoys.last_number),
        (4, 4, 4)
    );
}
