use super::*;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn mark(second: i64) -> Mark {
    Mark { by: "person".into(), reason: None, at: at(second) }
}

fn good(status: Option<Status>) -> FileState {
    FileState { sight: Sight::Good, status, restarts: None }
}

const MISSING: FileState = FileState { sight: Sight::Missing, status: None, restarts: None };
const BAD: FileState = FileState { sight: Sight::Bad, status: None, restarts: None };

fn barred(record: &Record, file: FileState) -> Option<String> {
    record.tell(file, at(0)).barred
}

#[test]
fn without_a_record_a_rig_is_as_its_file_says() {
    let record = Record::default();
    let restarts = |reason| FileState { sight: Sight::Good, status: None, restarts: Some(reason) };
    for (file, expected) in [
        (MISSING, None),
        (good(None), None),
        (BAD, Some("state file unreadable")),
        (good(Some(Status::Parked)), Some("parked")),
        (good(Some(Status::Docked)), Some("docked")),
        (restarts(Reason::AutoRestartBlocked), Some("auto_restart is blocked")),
        (restarts(Reason::AutoRestartDisabled), Some("auto_restart is disabled")),
        // Torn after it said so: what was set aside stays so, for its own reason.
        (FileState { status: Some(Status::Docked), ..BAD }, Some("docked")),
    ] {
        assert_eq!(barred(&record, file).as_deref(), expected, "{file:?}");
        assert_eq!(record.aside(), None, "a file ends nothing");
    }
}

#[test]
fn what_was_asked_for_counts_until_the_file_says_it_and_then_the_file_does() {
    let mut record = Record::default();
    record.park(mark(1), good(None));
    assert_eq!((record.edit, record.aside()), (Some(Edit::Park), Some("rig parked")));
    // Not written yet: a reading without the word means nothing.
    record.obey_file(good(None));
    assert!(record.parked.is_some());
    let mut file = good(None);
    record.written(Edit::Park, &mut file, at(2));
    assert_eq!((record.edit, file), (None, good(Some(Status::Parked))));
    for file in [MISSING, BAD, good(Some(Status::Parked))] {
        record.obey_file(file);
        assert!(record.parked.is_some(), "{file:?} unparks nothing");
    }
    record.obey_file(good(None));
    assert_eq!((record.parked.clone(), barred(&record, good(None))), (None, None), "somebody took it out");
}

#[test]
fn a_record_that_cannot_be_understood_bars_and_ends_nothing() {
    let record = Record { unreadable: true, ..Record::default() };
    assert_eq!(barred(&record, good(None)).as_deref(), Some("state file unreadable"));
    assert_eq!(record.aside(), None);
    assert!(!record.is_blank());
}

#[test]
fn since_is_the_beginning_of_the_present_reason() {
    let mut record = Record::default();
    record.told = record.tell(good(Some(Status::Parked)), at(5));
    record.told = record.tell(good(Some(Status::Parked)), at(9));
    assert_eq!(record.told.since, Some(at(5)));
    record.told = record.tell(good(Some(Status::Docked)), at(12));
    assert_eq!(record.told.since, Some(at(12)));
    record.told = record.tell(good(None), at(20));
    assert_eq!(record.told, Told::default());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Park,
    Unpark,
    Dock,
    Undock,
    Write,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Park),
        Just(Step::Unpark),
        Just(Step::Dock),
        Just(Step::Undock),
        Just(Step::Write),
        Just(Step::Restart)
    ]
}

proptest! {
    /// Whatever is asked for, in whatever order, and whenever the file follows: the last word counts, and what the
    /// file comes to say agrees with it.
    #[test]
    fn the_last_word_counts(steps in proptest::collection::vec(step(), 1..40), first in 0u8..4) {
        let mut file = [MISSING, good(None), good(Some(Status::Parked)), good(Some(Status::Docked))][usize::from(first)];
        let (mut parked, mut docked) = (file.status == Some(Status::Parked), file.status == Some(Status::Docked));
        let mut record = Record::default();
        record.told = record.tell(file, at(0));
        for step in steps {
            match step {
                Step::Park => { record.park(mark(1), file); parked = true; }
                Step::Unpark => { record.unpark(file); parked = false; }
                Step::Dock => { record.dock(mark(1)); docked = true; }
                Step::Undock => { record.undock(file); docked = false; }
                Step::Write => if let Some(edit) = record.edit {
                    record.written(edit, &mut file, at(2));
                },
                Step::Restart => record = serde_json::from_value(serde_json::to_value(&record).unwrap()).unwrap(),
            }
            record.obey_file(file);
            record.told = record.tell(file, at(3));
            prop_assert_eq!((record.told.parked, record.told.docked), (parked, docked));
            prop_assert_eq!(record.standing().barred.is_some(), parked || docked);
        }
        if let Some(edit) = record.edit {
            record.written(edit, &mut file, at(4));
        }
        record.obey_file(file);
        let told = record.tell(file, at(5));
        prop_assert_eq!((told.parked, told.docked), (parked, docked), "and no less when the file has followed");
    }
}
