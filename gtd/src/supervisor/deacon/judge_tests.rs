use super::*;
use crate::supervisor::deacon::files::Beat;
use gtd_proto::deacon::DeaconPaused;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_770_000_000 + minute * 60).unwrap()
}

fn numbers() -> Numbers {
    Numbers { stale: 15 * MINUTE, stuck: 30 * MINUTE, grace: 5 * MINUTE, apart: 3 * MINUTE, restart: true }
}

fn beat(minute: i64, cycle: u64) -> HeartbeatFile {
    HeartbeatFile::Beat(Beat {
        stamp: Stamp { timestamp: at(minute), cycle: Some(cycle) },
        last_action: None,
    })
}

/// A deacon that was started at minute 0 and wrote a heartbeat at minute 10, which was seen then.
fn seen() -> Memory {
    let mut memory = Memory { instance: Some(InstanceId::generate()), ..Memory::default() };
    assert!(memory.see(&beat(10, 1), Some(at(10)), at(10)));
    memory
}

struct Given {
    life: Life,
    attached: bool,
    file: HeartbeatFile,
    pause: PauseFile,
    memory: Memory,
    now: i64,
    slept: (Duration, Duration),
    numbers: Numbers,
}

impl Given {
    fn at(now: i64) -> Self {
        Self {
            life: Life::Runs { since: at(0) },
            attached: false,
            file: beat(10, 1),
            pause: PauseFile::No,
            memory: seen(),
            now,
            slept: Default::default(),
            numbers: numbers(),
        }
    }

    /// Texts were typed at these minutes.
    fn typed(mut self, minutes: &[i64]) -> Self {
        for minute in minutes {
            self.memory.was_typed(at(*minute));
        }
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn judged(&self) -> Judgement {
        let case = Case {
            life: self.life.clone(),
            attached: self.attached,
            file: &self.file,
            pause: &self.pause,
            memory: &self.memory,
            now: at(self.now),
            slept: self.slept,
        };
        judge(&case, &self.numbers)
    }
}

fn paused(error: Option<&str>) -> PauseFile {
    PauseFile::Paused(DeaconPaused { error: error.map(str::to_owned), ..DeaconPaused::default() })
}

#[test]
fn the_table() {
    use Action::{Ask, Nothing, Restart};
    let missing = |given: &mut Given| {
        given.file = HeartbeatFile::Missing;
        given.memory.sighting = None;
    };
    let stuck = || Given::at(50).typed(&[26, 30]);
    let cases: Vec<(&str, Given, Verdict, Action, bool)> = vec![
        // By age.
        ("fresh", Given::at(14), Verdict::Healthy, Nothing, false),
        ("five minutes", Given::at(15), Verdict::Late, Nothing, false),
        ("just not stale", Given::at(24), Verdict::Late, Nothing, false),
        ("fifteen minutes", Given::at(25), Verdict::Stale, Ask, false),
        ("thirty minutes", Given::at(40).typed(&[25, 28]), Verdict::Stale, Nothing, true),
        ("more than thirty, asked twice", Given::at(41).typed(&[25, 28]), Verdict::Stuck, Restart, false),
        // Texts: delivered ones, two of them, a heartbeat apart, and time to answer.
        ("never asked", Given::at(200), Verdict::Stuck, Ask, false),
        ("asked once, just now", Given::at(50).typed(&[48]), Verdict::Stuck, Nothing, true),
        ("asked once", Given::at(51).typed(&[48]), Verdict::Stuck, Ask, false),
        ("asked twice, just now", Given::at(53).typed(&[48, 51]), Verdict::Stuck, Nothing, true),
        ("asked twice", Given::at(54).typed(&[48, 51]), Verdict::Stuck, Restart, false),
        (
            "a text that was not typed yet",
            Given::at(50).with(|given| given.memory.asked = Some(NudgeId::generate())),
            Verdict::Stuck,
            Nothing,
            true,
        ),
        (
            "it answered",
            stuck().with(|given| given.memory.ended_a_turn(at(31))),
            Verdict::Stuck,
            Nothing,
            true,
        ),
        (
            "a turn that ended before",
            stuck().with(|g| g.memory.ended_a_turn(at(20))),
            Verdict::Stuck,
            Restart,
            false,
        ),
        // What keeps it from being restarted.
        ("somebody looks", stuck().with(|given| given.attached = true), Verdict::Stuck, Nothing, true),
        ("only told of", stuck().with(|given| given.numbers.restart = false), Verdict::Stuck, Nothing, true),
        (
            "the heartbeat of an earlier instance",
            stuck().with(|given| given.life = Life::Runs { since: at(11) }),
            Verdict::Stuck,
            Nothing,
            true,
        ),
        // Grace.
        (
            "started just now",
            Given::at(50).with(|g| g.life = Life::Runs { since: at(46) }),
            Verdict::Starting,
            Nothing,
            false,
        ),
        (
            "started five minutes ago",
            Given::at(50).with(|g| g.life = Life::Runs { since: at(45) }),
            Verdict::Stuck,
            Ask,
            false,
        ),
        (
            "started five minutes ago, and slept for four",
            Given::at(50).with(|given| {
                given.life = Life::Runs { since: at(45) };
                given.slept = (4 * MINUTE, 4 * MINUTE);
            }),
            Verdict::Starting,
            Nothing,
            false,
        ),
        // Eight hours asleep.
        (
            "asleep for eight hours",
            Given::at(10 + 8 * 60 + 4).with(|given| given.slept = (480 * MINUTE, 480 * MINUTE)),
            Verdict::Healthy,
            Nothing,
            false,
        ),
        // Files.
        ("no file", Given::at(200).with(missing), Verdict::Healthy, Nothing, false),
        (
            "a file that says nothing",
            stuck().with(|given| given.file = HeartbeatFile::Bad("is empty".to_owned())),
            Verdict::Healthy,
            Nothing,
            true,
        ),
        ("a pause", stuck().with(|given| given.pause = paused(None)), Verdict::Paused, Nothing, false),
        (
            "a torn pause",
            stuck().with(|given| given.pause = paused(Some("is empty"))),
            Verdict::Paused,
            Nothing,
            true,
        ),
        // Life.
        (
            "down",
            stuck().with(|g| g.life = Life::Down("it failed".to_owned())),
            Verdict::Down,
            Nothing,
            false,
        ),
        ("off", stuck().with(|g| g.life = Life::Off("stopped".to_owned())), Verdict::Off, Nothing, false),
        ("changing", stuck().with(|given| given.life = Life::Changes), Verdict::Starting, Nothing, false),
        (
            "not to be told",
            stuck().with(|given| given.life = Life::Unknown("tmux does not answer".to_owned())),
            Verdict::Unknown,
            Nothing,
            false,
        ),
    ];
    for (name, given, verdict, action, tell) in cases {
        let judged = given.judged();
        assert_eq!(
            (judged.verdict, judged.action, judged.tell),
            (verdict, action, tell),
            "{name}: {judged:?}"
        );
        assert!(!judged.why.is_empty(), "{name}");
    }
}

#[test]
fn a_heartbeat_from_the_future_ages_from_when_it_was_seen() {
    let mut memory = Memory::default();
    // Two days ahead: somebody has set the clock back.
    assert!(memory.see(&beat(2_880, 7), Some(at(2_880)), at(20)));
    let sighting = memory.sighting.clone().unwrap();
    assert_eq!((sighting.written, sighting.not_before), (at(20), Timestamp::MIN));
    assert!(!memory.see(&beat(2_880, 7), Some(at(2_880)), at(40)));
    let given = |now| Given::at(now).with(|given| given.memory = memory.clone());
    assert_eq!(given(24).judged().verdict, Verdict::Healthy);
    assert_eq!(given(36).judged().action, Action::Ask);
    // It may be an earlier instance's: nobody is restarted for it.
    assert_eq!(given(60).typed(&[36, 40]).judged().action, Action::Nothing);
    // Another one that comes while we look is this instance's, whatever it is dated.
    assert!(memory.see(&beat(2_881, 8), Some(at(2_881)), at(43)));
    assert_eq!(memory.sighting.clone().unwrap().not_before, at(40));
    let given = |now| Given::at(now).with(|given| given.memory = memory.clone());
    assert_eq!(given(80).typed(&[60, 64]).judged().action, Action::Restart);
}

#[test]
fn a_clock_that_was_set_makes_nothing_old() {
    let mut memory = seen();
    // The wall clock was set three hours ahead: what was written a minute ago looks like three hours old.
    assert!(memory.see(&beat(10, 2), Some(at(10 - 180)), at(20)));
    assert_eq!(memory.sighting.clone().unwrap().written, at(10), "not before the last look");
    // Set once more, it says something else about the same file, which is known.
    assert!(!memory.see(&beat(10, 2), Some(at(500)), at(22)));
    assert_eq!(memory.sighting.unwrap().written, at(10));
}

#[test]
fn a_torn_file_is_neither_a_heartbeat_nor_the_lack_of_one() {
    let mut memory = seen();
    let before = memory.clone();
    assert!(!memory.see(&HeartbeatFile::Bad("is empty".to_owned()), None, at(30)));
    assert_eq!(memory, before);
    assert!(!memory.see(&HeartbeatFile::Missing, None, at(31)));
    assert_eq!(memory.sighting, None);
}

#[test]
fn a_heartbeat_answers_what_was_typed_before_it() {
    let mut memory = seen();
    memory.was_typed(at(26));
    memory.was_typed(at(30));
    assert!(memory.see(&beat(31, 2), Some(at(31)), at(32)));
    assert!(memory.typed.is_empty());
    // A text that was under way when it came.
    memory.was_typed(at(30));
    assert!(memory.typed.is_empty());
    memory.was_typed(at(60));
    memory.about(Some(&InstanceId::generate()));
    assert!(memory.typed.is_empty(), "another instance was asked nothing");
}

proptest! {
    #[test]
    fn nobody_is_restarted_who_was_not_asked_twice_and_is_not_old(
        written in 0i64..200, started in 0i64..200, now in 0i64..400, typed in proptest::collection::vec(0i64..400, 0..3),
        slept in 0u64..400, attached: bool, pause: bool, future in 0i64..500
    ) {
        let mut typed = typed;
        typed.sort_unstable();
        let mut memory = Memory::default();
        memory.see(&beat(written, 1), Some(at(written + future)), at(written));
        for minute in &typed {
            memory.was_typed(at(*minute));
        }
        let slept = MINUTE * u32::try_from(slept).unwrap();
        let given = Given::at(now).with(|given| {
            given.memory = memory.clone();
            given.life = Life::Runs { since: at(started) };
            given.attached = attached;
            given.slept = (slept, slept);
            given.pause = if pause { paused(None) } else { PauseFile::No };
        });
        let judged = given.judged();
        if judged.action == Action::Restart {
            prop_assert!(!attached && !pause);
            prop_assert!(written > started && future == 0);
            prop_assert!(judged.age.unwrap() > 30 * MINUTE);
            prop_assert_eq!(given.memory.typed.len(), 2);
            prop_assert!(since(given.memory.typed[1], at(now)) >= 3 * MINUTE);
        }
        if judged.action == Action::Ask {
            prop_assert!(judged.age.unwrap() >= 15 * MINUTE && !pause);
        }
    }
}

#[test]
fn what_it_was_paused_for_is_not_held_against_it() {
    // Asked twice, and paused before it could answer; let go on after three hours.
    let mut given = Given::at(240).typed(&[26, 30]);
    assert_eq!(given.judged().action, Action::Restart);
    for minute in [33, 120, 237] {
        given.memory.pausing(true, at(minute));
    }
    given.memory.pausing(false, at(240));
    let judged = given.judged();
    assert_eq!((judged.verdict, judged.action), (Verdict::Healthy, Action::Nothing), "{}", judged.why);
    // From then on it is looked after like any other.
    given.memory.pausing(false, at(255));
    given.now = 255;
    assert_eq!((given.judged().verdict, given.judged().action), (Verdict::Stale, Action::Ask));
    let given = given.typed(&[255, 258]).with(|given| given.now = 271);
    assert_eq!(given.judged().action, Action::Restart);
    // Its own heartbeat counts again.
    let given = given.with(|given| assert!(given.memory.see(&beat(272, 2), Some(at(272)), at(273))));
    assert_eq!(given.with(|given| given.now = 273).judged().action, Action::Nothing);
}

#[test]
fn a_pause_that_lies_between_two_looks_is_not_held_against_it() {
    // It was asked twice; then somebody paused it, and let it go on, and nobody looked meanwhile.
    let mut given = Given::at(41).typed(&[26, 30]);
    assert_eq!(given.judged().action, Action::Restart);
    given.memory.pausing(false, at(30));
    given.memory.went_on(Some(at(40)));
    given.memory.pausing(false, at(41));
    let judged = given.judged();
    assert_eq!((judged.verdict, judged.action), (Verdict::Healthy, Action::Nothing), "{}", judged.why);
    assert_eq!(judged.age, Some(MINUTE));
    // Looked at again, it is the same pause; what it left unanswered since counts.
    let mut given = given.typed(&[54, 57]).with(|given| given.now = 71);
    given.memory.went_on(Some(at(40)));
    assert_eq!(given.judged().action, Action::Restart);
    // One that was seen while it lasted, and ended since.
    given.memory.pausing(true, at(71));
    given.memory.went_on(Some(at(72)));
    given.memory.pausing(false, at(73));
    given.memory.went_on(None);
    assert_eq!(given.judged().action, Action::Nothing);
    assert_eq!(given.memory.let_go, Some(at(73)));
}
