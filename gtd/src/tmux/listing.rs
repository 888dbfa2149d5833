//! What is on a server: panes and clients, as formats asked for and answers read.
//!
//! Owns the formats and their strict parsers. It must never return a shorter list than tmux gave: one row
//! that cannot be read makes the whole answer an error.
//!
//! Free texts (names, paths, titles) may hold newlines and anything else, so fields are set apart by a random
//! mark that is new for each listing, not by a character that could occur.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::error::TmuxError;
use super::facts::{Facts, junk};
use super::id::{PaneId, SessionId, WindowId};
use super::server::ServerId;
use crate::process::Pid;

/// The options of ours that a listing shows, besides the holder's.
pub const LISTED_OPTIONS: [&str; 3] = ["@gt_instance", "@gt_agent", "@gt_town"];
/// The option that marks the session we keep for ourselves; its value is the town's id.
pub(super) const HOLDER_OPTION: &str = "@gt_holder";

/// All panes of a server, the holder's excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Whose panes these are.
    pub server: ServerId,
    /// One entry for each pane and each session that shows it: a pane in a group of sessions comes several times.
    pub panes: Vec<Pane>,
}

/// A pane, as tmux describes it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pane {
    /// Its session.
    pub session: SessionId,
    /// Its session's name.
    pub session_name: String,
    /// When its session was created, in seconds since 1970.
    pub session_created: u64,
    /// When something last happened in its session, in seconds since 1970.
    pub session_activity: u64,
    /// How many clients are attached to its session.
    pub session_attached: u32,
    /// How many windows its session has.
    pub session_windows: u32,
    /// When something was last written in its window, in seconds since 1970.
    pub window_activity: u64,
    /// Its window.
    pub window: WindowId,
    /// The pane itself.
    pub pane: PaneId,
    /// The process tmux started in it; of a dead pane the last one. `None` where tmux started none.
    pub pane_pid: Option<Pid>,
    /// Whether that process has ended and the pane remains.
    pub dead: bool,
    /// Whether somebody is in copy mode or the like there.
    pub in_mode: bool,
    /// Name of the foreground process.
    pub current_command: String,
    /// Directory of the foreground process; empty when it could not be read.
    pub current_path: PathBuf,
    /// The title that its programs set.
    pub title: String,
    /// Those of [`LISTED_OPTIONS`] that are set and not empty.
    pub options: BTreeMap<String, String>,
}

/// A client that is attached to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Which session it shows.
    pub session: SessionId,
    /// When it last did something, in seconds since 1970.
    pub activity: u64,
    /// Its name in tmux, usually the terminal.
    pub name: String,
    /// Its process.
    pub pid: Option<Pid>,
    /// Whether a program holds it (as we do) and no person.
    pub control_mode: bool,
}

/// Everything on the server, told apart from what is ours for technical reasons.
#[derive(Debug)]
pub(super) struct Everything {
    /// Panes of the holder session.
    pub(super) holder: Vec<Pane>,
    /// All others.
    pub(super) others: Vec<Pane>,
}

/// A fresh mark between fields.
#[derive(Debug)]
pub(super) struct Mark(String);

impl Mark {
    /// A mark that nobody can have known before.
    pub(super) fn fresh() -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self(format!("|{}|", random.get(..12).unwrap_or(&random)))
    }

    /// The format that shows these texts, with a mark before, between and after.
    fn format(&self, texts: &[&str]) -> String {
        let mark = &self.0;
        texts.iter().fold(mark.clone(), |format, text| format + text + mark)
    }

    /// The rows of an answer, each of `N` fields.
    fn rows<'a, const N: usize>(&self, answer: &'a [u8]) -> Result<Vec<[&'a [u8]; N]>, TmuxError> {
        let mut parts = split(answer, self.0.as_bytes()).into_iter();
        if parts.next() != Some(&[]) {
            return Err(junk("no mark at the beginning", answer));
        }
        let mut rows = Vec::new();
        let mut parts = parts.peekable();
        while parts.peek().is_some() {
            let mut row = [&[][..]; N];
            for field in &mut row {
                *field = parts.next().ok_or_else(|| junk("a row is cut short", answer))?;
            }
            if parts.next() != Some(b"\n") {
                return Err(junk("a row does not end where it should", answer));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

const PANE_FACTS: &str = "#{session_id} #{window_id} #{pane_id} #{pane_pid} #{pane_dead} #{pane_in_mode} \
    #{session_created} #{session_activity} #{session_attached} #{session_windows} #{window_activity}";

/// The format of `list-panes -a` that [`panes`] reads.
pub(super) fn panes_format(mark: &Mark) -> String {
    mark.format(&[
        PANE_FACTS,
        "#{session_name}",
        "#{pane_current_command}",
        "#{pane_current_path}",
        "#{pane_title}",
        "#{@gt_instance}",
        "#{@gt_agent}",
        "#{@gt_town}",
        "#{@gt_holder}",
    ])
}

/// Reads the answer to [`panes_format`]; `town` tells our holder from another town's.
pub(super) fn panes(mark: &Mark, answer: &[u8], town: &str) -> Result<Everything, TmuxError> {
    // A server always has a session, our holder at least.
    if answer.is_empty() {
        return Err(junk("no panes at all", answer));
    }
    let mut all = Everything { holder: Vec::new(), others: Vec::new() };
    for [facts, name, command, path, title, instance, agent, of_town, holder] in mark.rows(answer)? {
        let mut facts = Facts::new(facts)?;
        let pane = Pane {
            session: facts.next("session")?,
            window: facts.next("window")?,
            pane: facts.next("pane")?,
            // Written as -1 or 0 where there is no process.
            pane_pid: Pid::new(facts.next::<i32>("pid")?),
            dead: facts.flag("dead")?,
            in_mode: facts.next::<u32>("mode")? > 0,
            session_created: facts.next("created")?,
            session_activity: facts.next("activity")?,
            session_attached: facts.next("attached")?,
            session_windows: facts.next("windows")?,
            window_activity: facts.next("output")?,
            session_name: text(name),
            current_command: text(command),
            current_path: PathBuf::from(OsString::from_vec(path.to_vec())),
            title: text(title),
            options: LISTED_OPTIONS
                .into_iter()
                .zip([instance, agent, of_town])
                .filter(|(_, value)| !value.is_empty())
                .map(|(option, value)| (option.to_owned(), text(value)))
                .collect(),
        };
        facts.end()?;
        if holder == town.as_bytes() && !town.is_empty() { &mut all.holder } else { &mut all.others }
            .push(pane);
    }
    Ok(all)
}

/// The format of `list-clients` that [`clients`] reads.
pub(super) fn clients_format(mark: &Mark) -> String {
    mark.format(&["#{session_id} #{client_activity} #{client_pid} #{client_control_mode}", "#{client_name}"])
}

/// Reads the answer to [`clients_format`].
pub(super) fn clients(mark: &Mark, answer: &[u8]) -> Result<Vec<Client>, TmuxError> {
    // Nobody attached: tmux prints nothing at all.
    if answer.is_empty() {
        return Ok(Vec::new());
    }
    let mut clients = Vec::new();
    for [facts, name] in mark.rows(answer)? {
        let mut facts = Facts::new(facts)?;
        clients.push(Client {
            session: facts.next("session")?,
            activity: facts.next("activity")?,
            pid: Pid::new(facts.next::<i32>("pid")?),
            control_mode: facts.flag("control mode")?,
            name: text(name),
        });
        facts.end()?;
    }
    Ok(clients)
}

/// A captured screen without what an earlier process of the pane wrote. The first line of the answer has the
/// pane's height, the lines of its history, and, after a respawn, how many of those there were then.
pub(super) fn of_the_present(answer: &[u8]) -> &[u8] {
    let (facts, screen) = match answer.iter().position(|byte| *byte == b'\n') {
        Some(end) => (answer.get(..end).unwrap_or_default(), answer.get(end + 1..).unwrap_or_default()),
        None => return &[],
    };
    let facts = String::from_utf8_lossy(facts);
    let numbers: Vec<usize> = facts.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [height, history, before] = numbers.as_slice() else { return screen };
    // Less than there was: some of it was thrown away, and where the present begins cannot be told.
    let Some(since) = history.checked_sub(*before) else { return screen };
    let ends = screen.iter().filter(|byte| **byte == b'\n').count();
    let rows = if screen.last() == Some(&b'\n') { ends } else { ends + 1 };
    let skip = rows.saturating_sub(since.saturating_add(*height));
    let starts = screen.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let from = if skip == 0 { 0 } else { starts.into_iter().nth(skip - 1).unwrap_or(screen.len()) };
    screen.get(from..).unwrap_or_default()
}

/// The lines of a captured screen: at most the last `count`, without blank ones at the end and without the
/// line that tmux writes into a dead pane.
pub(super) fn captured(answer: &[u8], count: u32) -> Vec<String> {
    let mut lines: Vec<String> = answer.split(|b| *b == b'\n').map(text).collect();
    let cut = |lines: &mut Vec<String>| {
        while lines.last().is_some_and(|line| line.trim().is_empty()) {
            lines.pop();
        }
    };
    cut(&mut lines);
    if lines.last().is_some_and(|line| line.starts_with("Pane is dead")) {
        lines.pop();
        cut(&mut lines);
    }
    let skip = lines.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    lines.drain(..skip);
    lines
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All parts between occurrences of a mark.
fn split<'a>(mut bytes: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut from = 0;
    loop {
        // Marks begin with a bar, which is rare, so looking for it first is fast enough for megabytes.
        let bar = bytes.get(from..).and_then(|rest| rest.iter().position(|b| mark.first() == Some(b)));
        let Some(at) = bar.map(|offset| from + offset) else {
            parts.push(bytes);
            return parts;
        };
        let rest = bytes.get(at..).unwrap_or_default();
        match rest.strip_prefix(mark) {
            Some(after) => {
                parts.push(bytes.get(..at).unwrap_or_default());
                bytes = after;
                from = 0;
            }
            None => from = at + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(mark: &Mark, facts: &str, texts: [&str; 8]) -> String {
        let mut all = vec![facts];
        all.extend(texts);
        format!("{}\n", mark.format(&all))
    }

    const FACTS: &str = "$1 @2 %3 4004 0 1 1700000000 1700000100 2 1 1700000050";

    #[test]
    fn panes_of_all_kinds() {
        let mark = Mark::fresh();
        let mut answer =
            row(&mark, FACTS, ["a | b", "sleep", "/tmp/x\n|y", "tit\nle", "i1", "alpha/witness", "", ""]);
        answer += &row(&mark, "$0 @0 %0 -1 1 0 5 6 0 1 7", ["_gtd", "", "", "", "", "", "", "town"]);
        answer += &row(&mark, "$9 @9 %9 900 1 0 5 6 0 1 7", ["_gtd-2", "", "", "", "", "", "", "other"]);
        let all = panes(&mark, answer.as_bytes(), "town").unwrap();
        assert_eq!((all.holder.len(), all.others.len()), (1, 2));
        let pane = &all.others[0];
        assert_eq!(pane.session.to_string(), "$1");
        assert_eq!(pane.session_name, "a | b");
        assert_eq!(pane.current_path, PathBuf::from("/tmp/x\n|y"));
        assert_eq!(pane.pane_pid.map(Pid::get), Some(4004));
        assert!(!pane.dead && pane.in_mode);
        assert_eq!((pane.session_attached, pane.session_windows), (2, 1));
        let options: Vec<_> = pane.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(options, [("@gt_agent", "alpha/witness"), ("@gt_instance", "i1")]);
        assert!(all.holder[0].dead && all.holder[0].pane_pid.is_none());
    }

    #[test]
    fn junk_is_an_error_and_never_a_shorter_list() {
        let mark = Mark::fresh();
        let good = row(&mark, FACTS, ["n", "c", "/", "t", "", "", "", ""]);
        assert_eq!(panes(&mark, good.repeat(3).as_bytes(), "t").unwrap().others.len(), 3);
        let mut bad = vec![
            String::new(),
            "junk".to_owned(),
            format!("{good}junk\n"),
            format!("junk\n{good}"),
            good.trim_end().to_owned(),
            good[..good.len() / 2].to_owned(),
        ];
        let wrong_facts = [
            "",
            "x",
            "$1 @2 %3 4004 0 1 1 1 1 1",
            "$1 @2 %3 4004 0 1 1 1 1 1 1 1",
            "%1 @2 %3 4 0 1 1 1 1 1 1",
        ];
        bad.extend(wrong_facts.map(|facts| row(&mark, facts, [""; 8])));
        for answer in bad {
            let read = panes(&mark, answer.as_bytes(), "t");
            assert!(matches!(read, Err(TmuxError::Junk(_))), "{answer:?}: {read:?}");
        }
    }

    #[test]
    fn clients_and_none() {
        let mark = Mark::fresh();
        assert_eq!(clients(&mark, b"").unwrap(), []);
        let answer = format!("{}\n", mark.format(&["$1 1700000000 77 1", "/dev/pts/1"]));
        let read = clients(&mark, answer.as_bytes()).unwrap();
        assert_eq!((read.len(), read[0].control_mode, read[0].name.as_str()), (1, true, "/dev/pts/1"));
        assert!(clients(&mark, b"\n").is_err());
    }

    #[test]
    fn captured_screens() {
        assert_eq!(captured(b"a\nb\n\n  \n\n", 10), ["a", "b"]);
        assert_eq!(captured(b"a\n\nb\n", 2), ["", "b"]);
        assert_eq!(captured(b"", 5), Vec::<String>::new());
        assert_eq!(captured(b"a\n\nPane is dead (status 1, now)\n\n", 5), ["a"]);
        assert_eq!(captured(b"a\nb", 0), Vec::<String>::new());
        assert_eq!(captured(b"\xff\n", 5), ["\u{fffd}"]);
    }

    #[test]
    fn what_an_earlier_process_wrote_is_left_out() {
        let screen = b"old 1\nold 2\nnew 1\nnew 2\n\n";
        let cases = [
            // Two rows on the screen, five lines in all.
            ("2 3 2", &b"new 1\nnew 2\n\n"[..]),
            ("2 3 3", b"new 2\n\n"),
            ("2 3 0", screen),
            ("2 3 ", screen),
            ("2 3 9", screen),
            ("2 300 290", screen),
            ("junk", screen),
            ("9 0 0", screen),
        ];
        for (facts, expected) in cases {
            let answer = [facts.as_bytes(), b"\n", screen].concat();
            assert_eq!(of_the_present(&answer), expected, "{facts}");
        }
        assert_eq!(of_the_present(b"2 3 2\na\nb\nc"), b"a\nb\nc");
        assert_eq!(of_the_present(b"1 3 3\na\nb\nc"), b"c");
        assert_eq!(of_the_present(b""), b"");
        assert_eq!(of_the_present(b"2 3 2"), b"");
    }

    proptest! {
        #[test]
        fn texts_come_back(texts in prop::collection::vec("(?s:.{0,12})|[|a-f0-9]{0,30}", 8)) {
            let mark = Mark::fresh();
            let texts: [&str; 8] = std::array::from_fn(|i| texts[i].as_str());
            let answer = row(&mark, FACTS, texts).repeat(2);
            let all = panes(&mark, answer.as_bytes(), "").unwrap();
            prop_assert_eq!(all.others.len(), 2);
            prop_assert_eq!(all.others[1].session_name.as_str(), texts[0]);
            prop_assert_eq!(all.others[1].title.as_str(), texts[3]);
        }

        #[test]
        fn any_answer_is_taken(answer in prop::collection::vec(any::<u8>(), 0..300)) {
            let mark = Mark::fresh();
            let _ = panes(&mark, &answer, "t");
            let _ = clients(&mark, &answer);
            let _ = captured(&answer, 20);
        }
    }
}
