//! What an agent's screen says of a dialog that waits for a person.
//!
//! Pure: lines in, a finding out. A hint for people and never a reason to act: programs change their wording, and
//! a screen may show what an agent merely quotes. So a dialog has to be the last thing on the screen, and has to
//! offer a choice below its words.
//!
//! The wordings are those of Claude Code, Codex and Gemini as users have reported them, and the ways in which
//! ordinary programs ask.

use gtd_proto::waiting::WaitKind;

/// Last lines that are looked at: a dialog with the command or the change that it is about.
const LINES: usize = 30;
/// Lines that may stand below the last choice: how to choose, and a status line.
const BELOW: usize = 4;
/// Lines that may stand between the words and the first choice.
const BETWEEN: usize = 8;
/// Lines above the words that say what it is about, at the most.
const ABOUT: usize = 3;
/// Longest text that is kept, in characters.
const LONGEST: usize = 300;

/// A dialog on a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// What it wants.
    pub kind: WaitKind,
    /// Its words, in a line.
    pub text: String,
}

/// Words of dialogs, lower case, with what they want. The first that fits counts.
const DIALOGS: &[(&str, WaitKind)] = &[
    // A directory, or a mode without questions.
    ("do you trust", WaitKind::Trust),
    ("trust this folder", WaitKind::Trust),
    ("trust the files in this", WaitKind::Trust),
    ("trust the contents of this", WaitKind::Trust),
    ("quick safety check", WaitKind::Trust),
    ("is this a project you", WaitKind::Trust),
    ("bypass permissions mode", WaitKind::Trust),
    ("work in this folder without asking", WaitKind::Trust),
    ("new mcp server", WaitKind::Trust),
    // An account.
    ("select login method", WaitKind::Login),
    ("how would you like to authenticate", WaitKind::Login),
    ("sign in with chatgpt", WaitKind::Login),
    ("detected a custom api key", WaitKind::Login),
    // A step.
    ("do you want to proceed", WaitKind::Permission),
    ("do you want to make this edit", WaitKind::Permission),
    ("do you want to create", WaitKind::Permission),
    ("do you want to allow", WaitKind::Permission),
    ("do you want to run", WaitKind::Permission),
    ("would you like to proceed", WaitKind::Permission),
    ("would you like to run", WaitKind::Permission),
    ("would you like to make", WaitKind::Permission),
    ("would you like to apply", WaitKind::Permission),
    ("would you like to grant", WaitKind::Permission),
    ("needs your approval", WaitKind::Permission),
    ("needs your permission", WaitKind::Permission),
    ("requires approval", WaitKind::Permission),
    ("allow command", WaitKind::Permission),
    ("allow execution", WaitKind::Permission),
    ("apply this change", WaitKind::Permission),
    ("waiting for user confirmation", WaitKind::Permission),
];

/// Ends of a last line in which a program asks for a word and offers no list.
const PROMPTS: &[(&str, WaitKind)] = &[
    ("(y/n)", WaitKind::Question),
    ("[y/n]", WaitKind::Question),
    ("(yes/no)", WaitKind::Question),
    ("[yes/no]", WaitKind::Question),
    ("(yes/no/[fingerprint])", WaitKind::Question),
    ("password", WaitKind::Login),
    ("passphrase", WaitKind::Login),
    ("paste code here if prompted >", WaitKind::Login),
    ("press enter to continue", WaitKind::Question),
];

/// Longest last line that is taken for a question: prose that ends so is longer.
const PROMPT_MAX: usize = 160;

/// Finds a dialog in the last lines of a screen.
#[must_use]
pub fn recognise(lines: &[String]) -> Option<Dialog> {
    let said: Vec<&str> = lines.iter().map(|line| bare(line)).filter(|line| !line.is_empty()).collect();
    let last = said.get(said.len().saturating_sub(LINES)..).unwrap_or_default();
    by_choice(last).or_else(|| by_prompt(last.last()?))
}

/// A list of numbered choices of which one is marked, the last thing on the screen.
fn by_choice(lines: &[&str]) -> Option<Dialog> {
    let marked = lines.iter().rposition(|line| is_marked_choice(line))?;
    let end = end_of_choices(lines, marked);
    let below = lines.iter().skip(end).filter(|line| !is_rule(line)).count();
    if below > BELOW {
        return None;
    }
    // The first choice may stand above the marked one.
    let first = lines.iter().take(marked).rev().take_while(|line| number(line).is_some()).count();
    let top = marked.saturating_sub(first);
    let from = top.saturating_sub(BETWEEN);
    let above = lines.get(from..top)?;
    let known =
        above.iter().enumerate().rev().find_map(|(index, line)| Some((from + index, kind_by_words(line)?)));
    let (at, kind) = match known {
        Some(known) => known,
        // Some question, with a list of answers below it.
        None => {
            let index = above.iter().rposition(|line| line.ends_with('?') || line.ends_with(':'))?;
            (from + index, WaitKind::Question)
        }
    };
    let about = lines.get(at.saturating_sub(ABOUT)..at).unwrap_or_default();
    let framed = about.iter().rposition(|line| is_rule(line)).map_or(0, |rule| rule + 1);
    let words: Vec<&str> = about.iter().skip(framed).chain(lines.get(at)).copied().collect();
    Some(Dialog { kind, text: shorten(&words.join(" · ")) })
}

/// A program's question at the end of its last line.
fn by_prompt(line: &str) -> Option<Dialog> {
    if line.chars().count() > PROMPT_MAX {
        return None;
    }
    let plain = line.to_lowercase();
    let end = plain.trim_end_matches([':', '?', ' ', '.', '…']);
    let kind =
        PROMPTS.iter().find_map(|(word, kind)| end.ends_with(word).then_some(*kind)).or_else(|| {
            // `Enter passphrase for key '/home/max/.ssh/id':`, `[sudo] password for max:`
            let asks =
                plain.ends_with(':') && (plain.contains("password for") || plain.contains("passphrase for"));
            asks.then_some(WaitKind::Login)
        })?;
    Some(Dialog { kind, text: shorten(line) })
}

fn kind_by_words(line: &str) -> Option<WaitKind> {
    let line = line.to_lowercase();
    DIALOGS.iter().find_map(|(words, kind)| line.contains(words).then_some(*kind))
}

/// What an agent wants that says itself that it waits, by its own words.
#[must_use]
pub fn kind_of(text: &str) -> WaitKind {
    let plain = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| plain.contains(word));
    if let Some(kind) = kind_by_words(text) {
        kind
    } else if has(&["permission", "approv", "allow "]) {
        WaitKind::Permission
    } else if has(&["trust"]) {
        WaitKind::Trust
    } else if has(&["log in", "login", "sign in", "authenticat", "api key"]) {
        WaitKind::Login
    } else if plain.trim_end().ends_with('?') || has(&["question"]) {
        WaitKind::Question
    } else {
        WaitKind::Input
    }
}

/// One line without control characters, not too long.
#[must_use]
pub fn shorten(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out: String = flat.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if flat.chars().count() > LONGEST {
        out.push('…');
    }
    out
}

/// A line without the frame around it.
fn bare(line: &str) -> &str {
    let frame = |c: char| c.is_whitespace() || c == '\u{a0}' || matches!(c, '│' | '┃' | '║' | '|');
    line.trim_matches(frame)
}

/// Signs that mark a choice.
const MARKS: [char; 6] = ['❯', '›', '●', '▶', '◉', '>'];

/// A line of a frame, or one that divides.
fn is_rule(line: &str) -> bool {
    line.chars().all(|c| ('\u{2500}'..='\u{259f}').contains(&c) || matches!(c, '-' | '=' | '_' | ' '))
}

/// `❯ 1. Yes`
fn is_marked_choice(line: &str) -> bool {
    let rest = line.strip_prefix(MARKS);
    rest.is_some_and(|rest| number(rest).is_some())
}

/// Behind the last choice of the list in which this one is marked. A choice may go on for some lines.
fn end_of_choices(lines: &[&str], marked: usize) -> usize {
    let own = lines.get(marked).and_then(|line| number(line.trim_start_matches(MARKS)));
    let (mut end, mut next) = (marked + 1, own.unwrap_or(0).saturating_add(1));
    for (index, line) in lines.iter().enumerate().skip(end) {
        if index - end > BELOW {
            break;
        }
        if number(line) == Some(next) {
            (end, next) = (index + 1, next.saturating_add(1));
        }
    }
    end
}

/// The number that a choice begins with.
fn number(line: &str) -> Option<u32> {
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{a0}');
    let digits = line.chars().take_while(char::is_ascii_digit).count();
    let number: u32 = line.get(..digits)?.parse().ok()?;
    let rest = line.get(digits..)?.strip_prefix(['.', ')'])?;
    (number < 100 && rest.starts_with([' ', '\u{a0}'])).then_some(number)
}

#[cfg(test)]
#[path = "dialogs_tests.rs"]
mod tests;
