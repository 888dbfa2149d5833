//! When to look, and what is written.

use super::*;

#[test]
fn a_store_that_is_silent_or_has_nothing_new_is_asked_less_and_less() {
    let zero = Instant::now();
    let mut looks = Looks::new(zero);
    assert_eq!(looks.next(), zero);
    let waits = |looks: &mut Looks, news: bool| {
        looks.answered(zero, news);
        looks.due = true;
        looks.next().duration_since(zero).as_secs()
    };
    let quiet: Vec<u64> = (0..7).map(|_| waits(&mut looks, false)).collect();
    assert_eq!(quiet, [4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(waits(&mut looks, true), 2);
    let failed: Vec<u64> = (0..8)
        .map(|_| {
            looks.failed(zero);
            looks.next().duration_since(zero).as_secs()
        })
        .collect();
    assert_eq!(failed, [5, 10, 20, 40, 80, 160, 300, 300]);
    looks.answered(zero, true);
    assert_eq!(looks.next(), zero + RECONCILE, "without a sign nothing is asked");
}

#[test]
fn a_letter_fits_into_a_mail_whatever_is_tracked() {
    let id: WorkId = "hq-cv-1".parse().unwrap();
    let at: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let row = ConvoyRow {
        number: 1,
        id: id.clone(),
        title: "ä".repeat(250),
        status: "open".to_owned(),
        watchers: vec!["mayor".to_owned(), "overseer".to_owned()],
        created_by: "mayor".to_owned(),
        created_at: at,
        closed_at: None,
        key: None,
    };
    let tracked = |number: usize| TrackedRow {
        convoy: id.clone(),
        position: 0,
        work: format!("hq-{number}").parse().unwrap(),
        title: "x".repeat(500),
        store: "builtin".to_owned(),
        kind: "builtin".to_owned(),
        status: "closed".to_owned(),
        seen_at: at,
    };
    let tracked: Vec<TrackedRow> = (0..500).map(tracked).collect();
    let mails = mails(&row, &tracked, at, |whose| (whose == "mayor").then(|| "bd".to_owned()));
    // A box that another program keeps gets its mail there.
    assert_eq!(mails.iter().map(|mail| mail.via.as_deref()).collect::<Vec<_>>(), [Some("bd"), None]);
    assert_eq!(mails.iter().map(|mail| mail.recipient.as_str()).collect::<Vec<_>>(), ["mayor", "overseer"]);
    assert_ne!(mails[0].key, mails[1].key);
    for mail in mails {
        assert!(mail.subject.len() <= gtd_proto::mail::SUBJECT_MAX);
        assert!(mail.subject.starts_with("CONVOY_CLOSED: hq-cv-1"));
        assert!(mail.body.len() < gtd_proto::mail::BODY_MAX && mail.body.ends_with("and 450 more"));
    }
}
