//! Whether a text may be typed for an agent now, by what is seen and what the agent says.
//!
//! Pure: reads no clock and no terminal. Must never allow to type over what a person does: what cannot be told stands
//! in the way.

use std::time::Duration;

use super::clean::LINE_MAX;
use super::line::{Line, at_cursor, behind_prompt};
use crate::tmux::Screen;

/// How long nobody may have touched the terminal of an agent whose input line is not known.
const QUIET: Duration = Duration::from_secs(5);
/// The same where the input line is known to be empty: tmux dates clients by whole seconds, and a key may just be on
/// its way.
const QUIET_KNOWN: Duration = Duration::from_secs(2);
/// How long the last line of an agent that never reports must have stood still.
const STILL: Duration = Duration::from_secs(2);
/// How long a program may take to draw its input line after it has reported that its turn is over.
const REDRAWN: Duration = Duration::from_millis(200);
/// Pause before the next look at what only a person can change: at first, and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// What an agent last said that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing, ever.
    Nothing,
    /// That a turn is under way.
    Working,
    /// That it has ended.
    Idle,
    /// That it needs a person.
    Waiting,
    /// That its session has ended.
    Ended,
}

/// For what occasion a text is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Between turns.
    Turn,
    /// As a person's answer to a question that the agent asked.
    Answer,
}

/// What is known at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// The pane.
    pub screen: &'a Screen,
    /// What the agent said.
    pub said: Said,
    /// How its input line begins, where that is known.
    pub prompt: Option<&'a str>,
    /// Whether the terminal hands its input out by lines; none when that cannot be told.
    pub by_lines: Option<bool>,
    /// When the agent began, in seconds since 1970.
    pub began: u64,
    /// The wall clock, in seconds since 1970.
    pub wall: u64,
    /// How long this daemon has run.
    pub now: Duration,
    /// Length of the text, in bytes.
    pub bytes: usize,
}

/// What earlier looks at the same instance saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the last line was, and since when it has been.
    last_line: Option<(String, Duration)>,
    /// The last activity of clients, and since when there has been no later one.
    activity: Option<(u64, Duration)>,
    /// Looks in a row that found somebody in the way.
    in_the_way: u32,
    /// A text of ours was left in the input line with its cursor there: until that has moved nothing is added.
    pub left: Option<(usize, usize, u64)>,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be typed.
    Type,
    /// Not now.
    Wait {
        /// Why, in words.
        why: String,
        /// When to look again; without, something else has to happen first.
        again: Option<Duration>,
        /// It is only a matter of moments.
        soon: bool,
    },
    /// Not into this program.
    Never(String),
}

impl Verdict {
    /// It waits for what the agent says or does.
    pub fn event(why: impl Into<String>) -> Self {
        Self::Wait { why: why.into(), again: None, soon: false }
    }

    fn look(why: impl Into<String>, again: Duration) -> Self {
        Self::Wait { why: why.into(), again: Some(again), soon: false }
    }
}

/// What the agent's own word allows, before any look at its terminal.
#[must_use]
pub fn by_word(said: Said, occasion: Occasion) -> Option<Verdict> {
    match (occasion, said) {
        (Occasion::Turn, Said::Working) => Some(Verdict::event("it reported that it is working")),
        (Occasion::Turn, Said::Waiting) => Some(Verdict::event("it waits for a person")),
        (_, Said::Ended) => Some(Verdict::event("it reported that its session has ended")),
        (Occasion::Answer, Said::Waiting) | (Occasion::Turn, Said::Idle | Said::Nothing) => None,
        (Occasion::Answer, _) => Some(Verdict::event("it does not wait for a person")),
    }
}

/// Whether a text may be typed now.
#[must_use]
pub fn judge(sight: &Sight<'_>, occasion: Occasion, memory: &mut Memory) -> Verdict {
    if let Some(verdict) = by_word(sight.said, occasion) {
        return verdict;
    }
    let screen = sight.screen;
    let line = last_line(screen);
    if memory.last_line.as_ref().is_none_or(|(before, _)| *before != line) {
        memory.last_line = Some((line, sight.now));
    }
    if let Some(at) = screen.client_activity
        && memory.activity.is_none_or(|(before, _)| before != at)
    {
        memory.activity = Some((at, sight.now));
    }
    let verdict = see(sight, occasion, memory);
    match &verdict {
        Verdict::Wait { again: Some(_), .. } => memory.in_the_way = memory.in_the_way.saturating_add(1),
        _ => memory.in_the_way = 0,
    }
    verdict
}

fn see(sight: &Sight<'_>, occasion: Occasion, memory: &Memory) -> Verdict {
    let screen = sight.screen;
    let pause = LOOKS.0.saturating_mul(1 << memory.in_the_way.min(8)).min(LOOKS.1);
    if screen.in_mode {
        return Verdict::look("somebody scrolls or selects in its pane", pause);
    }
    if screen.input_off {
        return Verdict::look("the input of its pane is switched off", LOOKS.1);
    }
    let (x, y) = screen.cursor;
    if memory.left == Some((x, y, screen.history)) {
        return Verdict::look("an earlier text stands in its input line and was not sent off", LOOKS.1);
    }
    let known = sight.prompt.map(|prompt| behind_prompt(screen, prompt));
    let needed = if known == Some(Line::Empty) || occasion == Occasion::Answer { QUIET_KNOWN } else { QUIET };
    if let Some(left) = still_active(sight, memory, needed) {
        return Verdict::look("somebody is at its terminal", left.max(LOOKS.0));
    }
    let since_it_began = |at: Option<u64>| at.is_some_and(|at| at >= sight.began.max(1));
    let attached = screen.shared
        || screen.client_activity.is_some()
        || since_it_began(Some(screen.last_attached))
        || since_it_began(screen.somebody_acted);
    match (occasion, known) {
        (Occasion::Answer, _) | (_, Some(Line::Empty)) => {}
        (_, Some(line)) => {
            let why = if line == Line::Text { "not empty" } else { "not to be seen" };
            // It may report that a turn has ended a moment before it draws its prompt.
            let first = memory.in_the_way == 0;
            let again = Some(if first { REDRAWN } else { pause });
            return Verdict::Wait { why: format!("its input line is {why}"), again, soon: first };
        }
        // Nobody can have typed anything who was never there.
        (_, None) if !attached || at_cursor(screen) == Line::Empty => {}
        (_, None) => {
            let why = "somebody was at its terminal, and whether its input line is empty cannot be told without \
                       tmux.ready_prompt_prefix in its settings";
            return Verdict::look(why, pause);
        }
    }
    match sight.by_lines {
        None => return Verdict::look("how its terminal takes input cannot be told", LOOKS.1),
        Some(true) if sight.bytes > LINE_MAX => {
            return Verdict::Never(format!(
                "its program reads lines, and a line has at most {LINE_MAX} bytes where this has {}",
                sight.bytes
            ));
        }
        Some(_) => {}
    }
    if sight.said == Said::Nothing {
        let since = memory.last_line.as_ref().map_or(sight.now, |(_, since)| *since);
        let still = sight.now.saturating_sub(since);
        if still < STILL {
            let why = "its last line has not stood still for long enough".to_owned();
            // A line that moves for ever is no matter of moments.
            let soon = memory.in_the_way == 0;
            return Verdict::Wait { why, again: Some(STILL.saturating_sub(still)), soon };
        }
    }
    Verdict::Type
}

/// How much longer a client has to be inactive, if it has.
fn still_active(sight: &Sight<'_>, memory: &Memory, needed: Duration) -> Option<Duration> {
    let at = sight.screen.client_activity?;
    let ago = Duration::from_secs(sight.wall.saturating_sub(at));
    // A wall clock that was set back makes nobody active for ever.
    let unchanged = memory.activity.map_or(Duration::ZERO, |(_, since)| sight.now.saturating_sub(since));
    let quiet = ago.max(unchanged);
    (quiet < needed).then(|| needed.saturating_sub(quiet))
}

/// The last row that shows something.
fn last_line(screen: &Screen) -> String {
    let text = |row: &Vec<crate::tmux::Cell>| -> String { row.iter().map(|cell| cell.letter).collect() };
    let mut rows = screen.rows.iter().rev().map(text);
    rows.find(|line| !line.trim().is_empty()).unwrap_or_default()
}
