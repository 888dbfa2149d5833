//! Mail: one for each occasion, boxes that are bounded, and nothing unread that is lost.

use super::*;

fn to(recipient: &str, subject: &str) -> NewMail {
    NewMail {
        sender: "daemon".into(),
        recipient: recipient.into(),
        subject: subject.into(),
        body: "b".into(),
        at: noon(),
        key: None,
        incident: None,
        ours: false,
        via: None,
        cause: None,
        peer: None,
    }
}

fn send(new: NewMail) -> Vec<Write> {
    vec![Write::Mail(MailWrite::Send(new))]
}

async fn subjects(ledger: &Ledger, whose: &str) -> Vec<String> {
    ledger.mailbox(whose, false).await.unwrap().0.into_iter().map(|mail| mail.subject).collect()
}

#[tokio::test]
async fn a_mail_and_its_event_are_one_and_each_occasion_has_one() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let keyed = |subject: &str, key: &str, incident: Option<&str>| NewMail {
        key: Some(key.into()),
        incident: incident.map(str::to_owned),
        ..to("a/witness", subject)
    };
    let told = ledger.commit(send(keyed("one", "k1", Some("i")))).await.unwrap();
    assert_eq!((told.len(), &told[0].kind, &told[0].data["id"]), (1, &"mail.sent".to_owned(), &json!("m-1")));
    assert_eq!(told[0].agent, Some(address("a/witness")));
    // The same occasion, and another one of what goes on.
    for (key, incident) in [("k1", None), ("k2", Some("i"))] {
        assert!(ledger.commit(send(keyed("again", key, incident))).await.unwrap().is_empty(), "{key}");
    }
    assert_eq!(ledger.mail_incidents().await.unwrap(), ["i".to_owned()].into());
    ledger.commit(vec![Write::Mail(MailWrite::Over { incident: "i".into() })]).await.unwrap();
    assert_eq!(ledger.commit(send(keyed("later", "k3", Some("i")))).await.unwrap().len(), 1);
    assert_eq!(subjects(&ledger, "a/witness").await, ["later", "one"]);
    // Both in one transaction, as after a wait for the disk.
    let both = tokio::join!(
        ledger.commit(send(keyed("x", "k4", None))),
        ledger.commit(send(keyed("x", "k4", None)))
    );
    assert_eq!(both.0.unwrap().len() + both.1.unwrap().len(), 1);
    assert_eq!(ledger.mail_of("k4").await.unwrap().unwrap().id, "m-3");
    ledger.close().await;
}

#[tokio::test]
async fn read_and_archived_are_dated_once() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    ledger.commit(send(to("mayor", "s"))).await.unwrap();
    let id = "m-1".to_owned();
    for at in [noon(), at("2027-01-01T00:00:00Z")] {
        let writes = [MailWrite::Read { id: id.clone(), at }, MailWrite::Archive { id: id.clone(), at }];
        ledger.commit(writes.map(Write::Mail).to_vec()).await.unwrap();
    }
    let mail = ledger.mail("m-1").await.unwrap().unwrap();
    assert_eq!((mail.read_at, mail.archived_at), (Some(noon()), Some(noon())));
    assert_eq!(ledger.mailbox("mayor", false).await.unwrap(), (Vec::new(), 0));
    assert_eq!(ledger.mail("m-2").await.unwrap(), None);
    ledger.close().await;
}

#[tokio::test]
async fn a_full_box_loses_what_was_read_and_refuses_before_it_loses_what_was_not() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    let fill: Vec<Write> = (0..1_000).flat_map(|n| send(to("mayor", &n.to_string()))).collect();
    ledger.commit(fill).await.unwrap();
    let full = ledger.commit(send(to("mayor", "more"))).await.unwrap_err();
    assert_eq!(full, LedgerError::BoxFull { whose: "mayor".into(), unread: 1_000 });
    // Other boxes have room, and the daemon's own mail has some more in this one.
    ledger.commit(send(to("deacon", "x"))).await.unwrap();
    ledger.commit(send(NewMail { ours: true, ..to("mayor", "ours") })).await.unwrap();
    let read = |id: &str| Write::Mail(MailWrite::Read { id: id.into(), at: noon() });
    ledger.commit(vec![read("m-500"), read("m-7"), read("m-900")]).await.unwrap();
    ledger.commit(send(to("mayor", "more"))).await.unwrap();
    let left = subjects(&ledger, "mayor").await;
    // The daemon's was one above: two had to go, and went by age.
    assert_eq!(left.len(), 1_000);
    assert!(!left.contains(&"6".to_owned()) && !left.contains(&"499".to_owned()), "the oldest read went");
    assert!(left.contains(&"899".to_owned()) && left.contains(&"0".to_owned()));
    // By bytes as well.
    let big = NewMail { body: "x".repeat(64 << 10), ..to("overseer", "big") };
    let mut refused = 0;
    for _ in 0..80 {
        refused += usize::from(ledger.commit(send(big.clone())).await.is_err());
    }
    assert_eq!(refused, 80 - 63);
    ledger.close().await;
}

#[tokio::test]
async fn unread_mail_outlives_a_lost_file_and_no_name_is_given_twice() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    for subject in ["read", "unread", "archived"] {
        ledger.commit(send(to("a/witness", subject))).await.unwrap();
    }
    let goes_on = NewMail { incident: Some("i".into()), key: Some("k".into()), ..to("a/witness", "goes on") };
    ledger.commit(send(goes_on.clone())).await.unwrap();
    let marks = [
        MailWrite::Read { id: "m-1".into(), at: noon() },
        MailWrite::Archive { id: "m-3".into(), at: noon() },
        MailWrite::Read { id: "m-4".into(), at: noon() },
    ];
    ledger.commit(marks.map(Write::Mail).to_vec()).await.unwrap();
    ledger.close().await;
    std::fs::write(dir.path().join("gtd.db"), "garbage").unwrap();
    let Opened { ledger, condition, state } = open(dir.path());
    assert!(matches!(condition, Condition::SetAside { .. }), "{condition:?}");
    assert!(state.mail.whole);
    assert_eq!(subjects(&ledger, "a/witness").await, ["goes on", "unread"]);
    assert!(ledger.commit(send(goes_on)).await.unwrap().is_empty(), "it was written about");
    ledger.commit(send(to("a/witness", "new"))).await.unwrap();
    let newest = &ledger.mailbox("a/witness", true).await.unwrap().0[0];
    assert!(newest.number > 1_000, "{newest:?}");
    ledger.close().await;
}

#[tokio::test]
async fn old_mail_goes_when_it_was_read_and_stays_when_it_was_not() {
    let dir = scratch::dir();
    let (ledger, _) = open_sound(dir.path(), Condition::Fresh);
    for subject in ["old and read", "old", "young"] {
        let at = if subject == "young" { Timestamp::now() } else { at("2020-01-01T00:00:00Z") };
        ledger.commit(send(NewMail { at, ..to("mayor", subject) })).await.unwrap();
    }
    ledger.commit(vec![Write::Mail(MailWrite::Read { id: "m-1".into(), at: noon() })]).await.unwrap();
    ledger.set_keep(Keep::default());
    for _ in 0..500 {
        if subjects(&ledger, "mayor").await.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(subjects(&ledger, "mayor").await, ["young", "old"]);
    ledger.close().await;
}
