//! Text into a pane: looking before, typing under a condition that the server itself checks, Enter as a step of
//! its own, and a mark on the pane that says how far it came.
//!
//! Looks travel over the control connection; what types is a `tmux` process with a deadline, whose condition and act
//! the server does in one go. The text goes in through a buffer and by standard input, never in an argument. The
//! mark makes it safe to go on after a crash or a lost answer: it is set in the same go as the text, and nothing is
//! typed any more for a token that was called off. It must never send a key, which a person's copy mode would take
//! or synchronised panes would share, nor type into another process than the caller saw.

use std::path::PathBuf;

use super::driver::Driver;
use super::error::TmuxError;
use super::facts::{Facts, junk};
use super::id::PaneId;
use super::quote::CommandList;
use super::screen::{Cell, cells};
use super::server::{Known, ServerId};
use crate::process::Pid;

/// Pane option of ours: which text was last about to be typed there, and how far it came.
const MARK: &str = "@gt_nudge";
/// What a guarded list prints when it was carried out.
const DONE: &str = "done";
/// What it prints when the pane was not as expected, and nothing was done.
const CHANGED: &str = "changed";

/// Names one attempt to type one text: letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token, if the text is fit for one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (plain && !text.is_empty() && text.len() <= 64).then(|| Self(text.to_owned()))
    }

    fn buffer(&self) -> String {
        format!("gtd-{}", self.0)
    }

    fn mark(&self, step: &str) -> String {
        format!("{step}-{}", self.0)
    }
}

/// How far an attempt came, by the mark on its pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing was typed, and nothing will be.
    Nothing,
    /// The text was typed.
    Typed,
    /// Enter was too.
    Sent,
}

/// What a pane shows, and who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screen {
    /// The process tmux started in it.
    pub pane_pid: Option<Pid>,
    /// That process has ended.
    pub dead: bool,
    /// Somebody is in copy mode or the like.
    pub in_mode: bool,
    /// Somebody has switched its input off.
    pub input_off: bool,
    /// Column and row of its cursor, from 0.
    pub cursor: (usize, usize),
    /// Lines that have scrolled away.
    pub history: u64,
    /// Its window is shown by further sessions.
    pub shared: bool,
    /// When tmux says that its session was last active: by a client, or made. In seconds since 1970.
    pub session_activity: u64,
    /// When a client of its session last did something, seconds since 1970, if any ever did.
    pub somebody_acted: Option<u64>,
    /// When somebody last attached to its session, in seconds since 1970; 0 for never.
    pub last_attached: u64,
    /// When any client that shows it last did something, in seconds since 1970; none where no client shows it.
    pub client_activity: Option<u64>,
    /// Its terminal.
    pub tty: PathBuf,
    /// The visible rows.
    pub rows: Vec<Vec<Cell>>,
}

/// What has to be as it was seen, at the instant of typing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    pid: i32,
    session_activity: Option<u64>,
    place: Option<(usize, usize, u64)>,
}

impl Guard {
    /// The same process, in no mode; no client of its session has done anything since. Of a window that other
    /// sessions show too tmux picks any, so that the last cannot be asked for.
    #[must_use]
    pub fn of(screen: &Screen) -> Option<Self> {
        Some(Self {
            pid: screen.pane_pid?.get(),
            session_activity: (!screen.shared).then_some(screen.session_activity),
            place: None,
        })
    }

    /// And the cursor has not moved.
    #[must_use]
    pub fn and_cursor(self, screen: &Screen) -> Self {
        let (x, y) = screen.cursor;
        Self { place: Some((x, y, screen.history)), ..self }
    }

    /// The condition, as the server evaluates it; `mark` is part of it.
    fn condition(&self, pane: &PaneId, mark: &str) -> String {
        let mut formats =
            vec!["#{pane_id}", "#{pane_pid}", "#{pane_dead}", "#{pane_in_mode}", "#{pane_input_off}"];
        let mut values = vec![pane.to_string(), self.pid.to_string(), "0".into(), "0".into(), "0".into()];
        let shown = format!("#{{{MARK}}}");
        formats.push(&shown);
        values.push(mark.to_owned());
        if let Some(activity) = self.session_activity {
            formats.push("#{session_activity}");
            values.push(activity.to_string());
        }
        if let Some((x, y, history)) = self.place {
            formats.extend(["#{cursor_x}", "#{cursor_y}", "#{history_size}"]);
            values.extend([x.to_string(), y.to_string(), history.to_string()]);
        }
        format!("#{{==:{},{}}}", formats.join("/"), values.join("/"))
    }
}

impl Driver {
    /// What a pane shows now.
    ///
    /// # Errors
    /// `NotFound`, `WrongServer`, others as they are.
    pub async fn look(&self, server: &ServerId, pane: &PaneId) -> Result<Screen, TmuxError> {
        let known = self.meant(server)?;
        let target = pane.to_string();
        let end = format!("end-{}", uuid::Uuid::new_v4().simple());
        let list = CommandList::new(["display-message", "-p", "-t", &target, FACTS])
            .then(["list-clients", "-F", "#{client_activity} #{session_id} #{window_id}"])
            .then(["display-message", "-p", &end])
            .then(["capture-pane", "-p", "-e", "-t", &target]);
        read(&target, &end, &self.run(&known, &list).await?)
    }

    /// Gets a text ready to be typed into a pane, under a token of its own.
    ///
    /// # Errors
    /// As they are; then nothing will be typed for the token, but [`Self::forget_text`] is still to be called.
    pub async fn ready_text(
        &self,
        server: &ServerId,
        pane: &PaneId,
        token: &Token,
        text: &[u8],
    ) -> Result<(), TmuxError> {
        let known = self.meant(server)?;
        let list =
            CommandList::new(["set-option", "-p", "-t", &pane.to_string(), MARK, &token.mark("ready")])
                .then(["load-buffer", "-b", &token.buffer(), "-"]);
        self.inner.run_plain_fed(&known, &list, Some(text)).await?.into_result().map(drop)
    }

    /// Types a text that is ready: as a bracketed paste where the program asked for such. `false` when the pane is no
    /// longer as it was seen, and nothing was typed.
    ///
    /// # Errors
    /// As they are; then it may have been typed, which [`Self::how_far`] tells.
    pub async fn type_text(
        &self,
        server: &ServerId,
        pane: &PaneId,
        token: &Token,
        guard: &Guard,
    ) -> Result<bool, TmuxError> {
        let (known, target, buffer) = (self.meant(server)?, pane.to_string(), token.buffer());
        // `-r`: newlines stay what they are.
        let act = CommandList::new(["paste-buffer", "-p", "-r", "-d", "-b", &buffer, "-t", &target]);
        self.guarded(&known, pane, &guard.condition(pane, &token.mark("ready")), act, &token.mark("typed"))
            .await
    }

    /// Presses Enter after a text. `false` when the pane is no longer as it was seen, and it was not pressed.
    ///
    /// # Errors
    /// As they are; then it may have been pressed, which [`Self::how_far`] tells.
    pub async fn send_text(
        &self,
        server: &ServerId,
        pane: &PaneId,
        token: &Token,
        guard: &Guard,
    ) -> Result<bool, TmuxError> {
        let (known, target, buffer) = (self.meant(server)?, pane.to_string(), token.buffer());
        let act = CommandList::new(["set-buffer", "-b", &buffer, "\r"]).then([
            "paste-buffer",
            "-r",
            "-d",
            "-b",
            &buffer,
            "-t",
            &target,
        ]);
        self.guarded(&known, pane, &guard.condition(pane, &token.mark("typed")), act, &token.mark("sent"))
            .await
    }

    /// How far an attempt came. From then on nothing more is typed for it that was not typed before, whatever may
    /// still be under way.
    ///
    /// # Errors
    /// `NotFound` when there is no such pane any more; others as they are.
    pub async fn how_far(&self, server: &ServerId, pane: &PaneId, token: &Token) -> Result<Mark, TmuxError> {
        let (known, target) = (self.meant(server)?, pane.to_string());
        let ready = format!("#{{==:#{{{MARK}}},{}}}", token.mark("ready"));
        let call_off = CommandList::new(["set-option", "-p", "-t", &target, MARK, "called-off"]).text()?;
        let list = CommandList::new(["if-shell", "-F", "-t", &target, &ready, &call_off]).then([
            "display-message",
            "-p",
            "-t",
            &target,
            &format!("#{{pane_id}} #{{{MARK}}}"),
        ]);
        let answer = self.inner.run_plain(&known, &list).await?;
        let line = String::from_utf8_lossy(&answer).trim_end().to_owned();
        let Some(mark) = line.strip_prefix(&target) else {
            return Err(TmuxError::NotFound { what: format!("can't find pane: {target}") });
        };
        Ok(match mark.trim_start() {
            mark if mark == token.mark("typed") => Mark::Typed,
            mark if mark == token.mark("sent") => Mark::Sent,
            _ => Mark::Nothing,
        })
    }

    /// Takes a text out of the server's memory that may still be there.
    pub async fn forget_text(&self, server: &ServerId, token: &Token) {
        let Ok(known) = self.meant(server) else { return };
        let list = CommandList::new(["delete-buffer", "-b", &token.buffer()]);
        if let Err(error) = self.run(&known, &list).await {
            // Mostly: that there is none.
            tracing::debug!(%error, "a buffer was not deleted");
        }
    }

    async fn guarded(
        &self,
        known: &Known,
        pane: &PaneId,
        condition: &str,
        act: CommandList,
        mark: &str,
    ) -> Result<bool, TmuxError> {
        let target = pane.to_string();
        let act = act
            .then(["set-option", "-p", "-t", &target, MARK, mark])
            .then(["display-message", "-p", DONE])
            .text()?;
        let otherwise = CommandList::new(["display-message", "-p", CHANGED]).text()?;
        let list = CommandList::new(["if-shell", "-F", "-t", &target, condition, &act, &otherwise]);
        let answer = self.inner.run_plain(known, &list).await?;
        match String::from_utf8_lossy(&answer).trim_end() {
            DONE => Ok(true),
            CHANGED => Ok(false),
            _ => Err(junk("neither done nor refused", &answer)),
        }
    }
}

const FACTS: &str = "#{pane_id} #{pane_pid} #{pane_dead} #{pane_in_mode} #{pane_input_off} #{cursor_x} #{cursor_y} \
    #{history_size} #{window_linked} #{session_grouped} #{session_created} #{session_activity} \
    #{?session_last_attached,#{session_last_attached},0} #{session_id} #{window_id} #{pane_tty}";

/// Reads the answer to a look.
fn read(target: &str, end: &str, answer: &[u8]) -> Result<Screen, TmuxError> {
    let cut = format!("{end}\n");
    let at = answer
        .windows(cut.len())
        .position(|window| window == cut.as_bytes())
        .ok_or_else(|| junk("no end of the facts", answer))?;
    let (facts, rows) =
        (answer.get(..at).unwrap_or_default(), answer.get(at + cut.len()..).unwrap_or_default());
    let facts = std::str::from_utf8(facts).map_err(|_| junk("no text", answer))?;
    let mut lines = facts.lines();
    let first = lines.next().unwrap_or_default();
    // Of a pane that is not there tmux may write empty fields.
    if first.split(' ').next() != Some(target) {
        return Err(TmuxError::NotFound { what: format!("can't find pane: {target}") });
    }
    let mut facts = Facts::new(first.as_bytes())?;
    let _: PaneId = facts.next("pane")?;
    let pane_pid = Pid::new(facts.next::<i32>("pid")?);
    let (dead, in_mode) = (facts.flag("dead")?, facts.next::<u32>("mode")? > 0);
    let input_off = facts.flag("input off")?;
    let cursor = (facts.next("cursor column")?, facts.next("cursor row")?);
    let history = facts.next("history")?;
    let shared = facts.flag("linked")? | facts.flag("grouped")?;
    let created: u64 = facts.next("creation")?;
    let (session_activity, last_attached) = (facts.next("activity")?, facts.next("attached")?);
    let (session, window): (String, String) = (facts.next("session")?, facts.next("window")?);
    let tty = PathBuf::from(facts.rest());
    let mut client_activity: Option<u64> = None;
    for line in lines {
        let mut client = Facts::new(line.as_bytes())?;
        let at: u64 = client.next("client activity")?;
        let (of, shows): (String, String) = (client.next("session")?, client.next("window")?);
        client.end()?;
        if of == session || shows == window {
            client_activity = Some(client_activity.map_or(at, |known| known.max(at)));
        }
    }
    Ok(Screen {
        pane_pid,
        dead,
        in_mode,
        input_off,
        cursor,
        history,
        shared,
        session_activity,
        // tmux dates it from the session's creation on.
        somebody_acted: (session_activity > created).then_some(session_activity),
        last_attached,
        client_activity,
        tty,
        rows: cells(rows),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end() {
        let answer = b"%7 4004 0 0 0 2 1 30 0 0 1600000000 1700000000 1699999999 $3 @5 /dev/pts/4\n\
            1700000007 $0 @0\n1700000003 $3 @5\n1700000005 $9 @5\nend-1\nfirst\n> \xc3\xa9\n";
        let screen = read("%7", "end-1", answer).unwrap();
        assert_eq!((screen.cursor, screen.history, screen.session_activity), ((2, 1), 30, 1_700_000_000));
        assert_eq!((screen.last_attached, screen.client_activity), (1_699_999_999, Some(1_700_000_005)));
        assert_eq!((screen.tty.to_str(), screen.rows.len(), screen.shared), (Some("/dev/pts/4"), 2, false));
        assert!(matches!(read("%8", "end-1", answer), Err(TmuxError::NotFound { .. })));
        assert!(matches!(read("%7", "end-2", answer), Err(TmuxError::Junk(_))));
        let short = b"%7 4004 0 0\nend-1\n";
        assert!(matches!(read("%7", "end-1", short), Err(TmuxError::Junk(_))));
        let screen = read("%7", "end-1", b"%7 1 0 0 0 0 0 0 1 0 1 1 0 $3 @5 /dev/pts/4\nend-1\n").unwrap();
        assert_eq!((screen.client_activity, screen.shared), (None, true));
    }

    #[test]
    fn a_token_can_be_part_of_a_condition() {
        for bad in ["", "a,b", "a}", "a b", "#a", &"x".repeat(65)] {
            assert!(Token::new(bad).is_none(), "{bad}");
        }
        assert_eq!(Token::new("n-1-2").unwrap().buffer(), "gtd-n-1-2");
    }
}
