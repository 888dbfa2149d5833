//! The rules as a table.

use std::time::Duration;

use super::rules::{Memory, Occasion, Said, Sight, Verdict, by_word, judge};
use crate::tmux::{Cell, Screen};

const WALL: u64 = 1_700_000_000;

fn screen(last: &str, cursor: usize) -> Screen {
    let cells = |row: &str| row.chars().map(|letter| Cell { letter, faint: false, inverse: false }).collect();
    Screen {
        pane_pid: None,
        dead: false,
        in_mode: false,
        input_off: false,
        cursor: (cursor, 1),
        history: 0,
        shared: false,
        session_activity: 0,
        somebody_acted: None,
        last_attached: 0,
        client_activity: None,
        tty: "/dev/null".into(),
        rows: vec![cells("hello"), cells(last)],
    }
}

fn sight(screen: &Screen, said: Said) -> Sight<'_> {
    Sight {
        screen,
        said,
        prompt: None,
        by_lines: Some(false),
        began: WALL - 100,
        wall: WALL,
        now: Duration::from_secs(50),
        bytes: 10,
    }
}

fn waits(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Wait { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn idle(screen: &Screen) -> Verdict {
    let sight = Sight { prompt: Some("> "), ..sight(screen, Said::Idle) };
    judge(&sight, Occasion::Turn, &mut Memory::default())
}

#[test]
fn what_the_agent_says_comes_first() {
    use Said::{Ended, Idle, Nothing, Waiting, Working};
    for (said, turn, answer) in [
        (Nothing, true, false),
        (Idle, true, false),
        (Working, false, false),
        (Waiting, false, true),
        (Ended, false, false),
    ] {
        assert_eq!(by_word(said, Occasion::Turn).is_none(), turn, "{said:?}");
        assert_eq!(by_word(said, Occasion::Answer).is_none(), answer, "{said:?}");
    }
    // It is not even looked at again before it says something else.
    let busy = screen("> ", 2);
    let verdict = judge(&sight(&busy, Working), Occasion::Turn, &mut Memory::default());
    assert!(matches!(verdict, Verdict::Wait { again: None, soon: false, .. }));
}

#[test]
fn an_idle_agent_with_an_empty_line_gets_it_at_once() {
    assert_eq!(idle(&screen("> ", 2)), Verdict::Type);
    assert!(waits(&idle(&screen("> half", 6))).contains("not empty"));
    assert!(waits(&idle(&screen("no prompt", 0))).contains("not to be seen"));
    let scrolled = Screen { in_mode: true, ..screen("> ", 2) };
    assert!(waits(&idle(&scrolled)).contains("scrolls"));
    let off = Screen { input_off: true, ..screen("> ", 2) };
    assert!(waits(&idle(&off)).contains("switched off"));
}

#[test]
fn somebody_at_the_terminal_is_left_alone() {
    for (ago, known, unknown) in
        [(0, false, false), (1, false, false), (2, true, false), (4, true, false), (5, true, true)]
    {
        let seen = Screen { client_activity: Some(WALL - ago), ..screen("> ", 2) };
        assert_eq!(idle(&seen) == Verdict::Type, known, "{ago}");
        let plain = sight(&seen, Said::Idle);
        assert_eq!(judge(&plain, Occasion::Turn, &mut Memory::default()) == Verdict::Type, unknown, "{ago}");
    }
    // The wall clock was set back: what does not change is no activity.
    let seen = Screen { client_activity: Some(WALL + 1_000), ..screen("> ", 2) };
    let mut memory = Memory::default();
    let first = Sight { prompt: Some(">"), ..sight(&seen, Said::Idle) };
    assert!(waits(&judge(&first, Occasion::Turn, &mut memory)).contains("at its terminal"));
    let later = Sight { now: first.now + Duration::from_secs(3), ..first };
    assert_eq!(judge(&later, Occasion::Turn, &mut memory), Verdict::Type);
}

#[test]
fn without_a_prompt_only_who_was_never_there_cannot_have_typed() {
    let half = screen("half", 4);
    let mut memory = Memory::default();
    assert_eq!(judge(&sight(&half, Said::Idle), Occasion::Turn, &mut memory), Verdict::Type);
    for seen in [
        Screen { last_attached: WALL - 50, ..half.clone() },
        Screen { shared: true, ..half.clone() },
        Screen { client_activity: Some(WALL - 70), ..half.clone() },
        Screen { somebody_acted: Some(WALL - 50), ..half.clone() },
    ] {
        let verdict = judge(&sight(&seen, Said::Idle), Occasion::Turn, &mut Memory::default());
        assert!(waits(&verdict).contains("cannot be told"), "{verdict:?}");
    }
    // Attached to an earlier instance.
    let earlier = Screen { last_attached: WALL - 101, somebody_acted: Some(WALL - 101), ..half };
    assert_eq!(judge(&sight(&earlier, Said::Idle), Occasion::Turn, &mut Memory::default()), Verdict::Type);
    let blank = Screen { last_attached: WALL - 50, ..screen("", 0) };
    assert_eq!(judge(&sight(&blank, Said::Idle), Occasion::Turn, &mut Memory::default()), Verdict::Type);
}

#[test]
fn one_that_never_reports_must_stand_still() {
    let mut memory = Memory::default();
    let mut look = |text: &str, at_ms: u64| {
        let seen = screen(text, 0);
        let sight = Sight { now: Duration::from_millis(at_ms), ..sight(&seen, Said::Nothing) };
        judge(&sight, Occasion::Turn, &mut memory)
    };
    let Verdict::Wait { again: Some(again), soon: true, .. } = look("a", 0) else { panic!("typed at once") };
    assert_eq!(again, Duration::from_secs(2));
    assert!(matches!(look("b", 1_900), Verdict::Wait { .. }));
    assert!(matches!(look("b", 3_800), Verdict::Wait { .. }));
    assert_eq!(look("b", 3_900), Verdict::Type);
}

#[test]
fn a_program_that_reads_lines_gets_no_more_than_a_line() {
    let seen = screen("", 0);
    let lines = Sight { by_lines: Some(true), bytes: 5_000, ..sight(&seen, Said::Idle) };
    assert!(matches!(judge(&lines, Occasion::Turn, &mut Memory::default()), Verdict::Never(_)));
    let raw = Sight { by_lines: Some(false), ..lines };
    assert_eq!(judge(&raw, Occasion::Turn, &mut Memory::default()), Verdict::Type);
    let unknown = Sight { by_lines: None, ..lines };
    assert!(waits(&judge(&unknown, Occasion::Turn, &mut Memory::default())).contains("cannot be told"));
}

#[test]
fn looks_at_somebody_who_stays_become_rarer() {
    let scrolled = Screen { in_mode: true, ..screen("> ", 2) };
    let mut memory = Memory::default();
    let pauses: Vec<u64> = (0..6)
        .map(|_| match judge(&sight(&scrolled, Said::Idle), Occasion::Turn, &mut memory) {
            Verdict::Wait { again: Some(again), .. } => u64::try_from(again.as_millis()).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 5_000, 5_000]);
}

#[test]
fn a_line_that_is_not_drawn_yet_is_looked_at_again_in_a_moment() {
    let half = screen("> half", 6);
    let mut memory = Memory::default();
    let mut look = || {
        let sight = Sight { prompt: Some("> "), ..sight(&half, Said::Idle) };
        match judge(&sight, Occasion::Turn, &mut memory) {
            Verdict::Wait { again: Some(again), soon, .. } => (again.as_millis(), soon),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([look(), look(), look()], [(200, true), (1_000, false), (2_000, false)]);
}

#[test]
fn what_was_left_in_the_line_gets_nothing_added() {
    let seen = screen("> text", 6);
    let mut memory = Memory::default();
    memory.left = Some((6, 1, 0));
    assert!(waits(&judge(&sight(&seen, Said::Idle), Occasion::Turn, &mut memory)).contains("not sent off"));
    let moved = screen("> ", 2);
    assert_eq!(judge(&sight(&moved, Said::Idle), Occasion::Turn, &mut memory), Verdict::Type);
}

#[test]
fn an_answer_is_typed_into_a_question() {
    let question = screen("Do you want that? (y/n)", 23);
    let asked = sight(&question, Said::Waiting);
    assert_eq!(judge(&asked, Occasion::Answer, &mut Memory::default()), Verdict::Type);
    let scrolled = Screen { in_mode: true, ..question.clone() };
    let asked = sight(&scrolled, Said::Waiting);
    assert!(waits(&judge(&asked, Occasion::Answer, &mut Memory::default())).contains("scrolls"));
    let busy = Screen { client_activity: Some(WALL - 1), ..question };
    let asked = sight(&busy, Said::Waiting);
    assert!(waits(&judge(&asked, Occasion::Answer, &mut Memory::default())).contains("at its terminal"));
}
