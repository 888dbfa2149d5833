//! What is done with sessions and panes.
//!
//! Owns the commands and their answers. It must never name a session but by its id, except in the very list of
//! commands that creates it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::driver::{Driver, Outcome, Repeat};
use super::error::TmuxError;
use super::facts::Facts;
use super::id::{PaneId, SessionId};
use super::listing::{self, Client, Everything, LISTED_OPTIONS, Listing, Mark, Pane};
use super::quote::{CommandList, directory, exact, literal, sanitise_name};
use super::server::{Known, ServerId};
use super::state::ServerState;
use crate::process::Pid;
use crate::process::observe::observe;

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its name; see [`sanitise_name`] for what becomes of it.
    pub name: String,
    /// Where its process starts. tmux says nothing when it does not exist and uses another.
    pub cwd: PathBuf,
    /// The process: an absolute path and at least one argument (a single word would go through a shell).
    pub argv: Vec<OsString>,
    /// User options of the session, `@gt_…` and its value.
    pub options: Vec<(String, String)>,
}

/// A session that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// On which server.
    pub server: ServerId,
    /// The session.
    pub session: SessionId,
    /// Its only pane.
    pub pane: PaneId,
    /// The process started in that pane.
    pub pane_pid: Pid,
    /// The name as it became.
    pub name: String,
}

/// The answer of `new-session`.
const CREATED: &str = "#{session_id} #{pane_id} #{pane_pid} #{session_name}";

/// Pane option of ours: lines of history that were there when its present process began.
const BEGINS: &str = "@gt_history";

impl Driver {
    /// Makes a detached session with one process, whose pane remains when the process ends.
    ///
    /// # Errors
    /// `NameTaken`; Unresponsive, when the session may still come into being: list to find out; others as they
    /// are.
    pub async fn new_session(&self, wanted: NewSession) -> Result<Created, TmuxError> {
        let name = sanitise_name(&wanted.name);
        let list = self.creation(&name, &wanted)?;
        let _changing = self.inner.changing().await?;
        let known = self.inner.current()?;
        let reply = match self.attempt(&known, &list, Repeat::Never).await? {
            Outcome::Done(reply) => reply,
            // The connection broke under us. Ask whether it was done before doing it again.
            Outcome::Lost => match self.look_for(&known, &name, &wanted).await? {
                Some(created) => return Ok(created),
                None => self.inner.run_plain_reply(&known, &list).await?,
            },
        };
        match (reply.error, reply.body.is_empty()) {
            (None, _) => created(&known.id, &reply.body),
            (Some(error), true) => Err(error),
            // It was made, but what comes after failed: it must not stay without its marks.
            (Some(error), false) => {
                let made = created(&known.id, &reply.body)?;
                let kill = CommandList::new(["kill-session", "-t", &made.session.to_string()]);
                self.run(&known, &kill).await?;
                Err(error)
            }
        }
    }

    /// Starts a process in a pane whose process has ended. The screen is cleared; `options` are set on the
    /// pane's session once it runs.
    ///
    /// # Errors
    /// `NotFound`; Refused when the pane's process still lives; `WrongServer`; Unresponsive, when it may still be
    /// done.
    pub async fn respawn_pane(
        &self,
        server: &ServerId,
        pane: &PaneId,
        cwd: &Path,
        argv: &[OsString],
        options: &[(String, String)],
    ) -> Result<Pid, TmuxError> {
        check_argv(argv)?;
        let _changing = self.inner.changing().await?;
        let known = self.meant(server)?;
        let target = pane.to_string();
        let cwd = directory(cwd);
        let words =
            [OsStr::new("respawn-pane"), "-t".as_ref(), target.as_ref(), "-c".as_ref(), &cwd, "--".as_ref()];
        let list = CommandList::new(words.into_iter().chain(argv.iter().map(OsString::as_os_str)));
        // What has scrolled away by now is the last one's, and stays for whoever wants to read it.
        let list = list.then(["set-option", "-p", "-F", "-t", &target, BEGINS, "#{history_size}"]);
        let list = with_options(list, &target, options)?.then([
            "display-message",
            "-p",
            "-t",
            &target,
            "#{pane_pid}",
        ]);
        let answer = match self.attempt(&known, &list, Repeat::Never).await? {
            Outcome::Done(reply) => reply.into_result()?,
            Outcome::Lost => {
                let look =
                    CommandList::new(["display-message", "-p", "-t", &target, "#{pane_dead} #{pane_pid}"]);
                let answer = self.inner.run_plain(&known, &look).await?;
                match line(&answer).strip_prefix(b"0 ") {
                    // Only a dead pane is respawned, so one that lives is the new one. Its options again.
                    Some(pid) => {
                        let list = with_options(CommandList::default(), &target, options)?;
                        if list.len() > 0 {
                            self.inner.run_plain(&known, &list).await?;
                        }
                        pid.to_vec()
                    }
                    None => self.inner.run_plain(&known, &list).await?,
                }
            }
        };
        let mut facts = Facts::new(line(&answer))?;
        pid_of(facts.next("pid")?)
    }

    /// All panes of the server, our holder's excepted, in one question. Looks for a server when none is known.
    ///
    /// # Errors
    /// `NoServer`; Junk when a row cannot be read; others as they are. Never a shorter list.
    pub async fn list(&self) -> Result<Listing, TmuxError> {
        let known = self.inner.current_or_found().await?;
        let panes = self.everything(&known).await?.others;
        Ok(Listing { server: known.id, panes })
    }

    /// The last `lines` lines of what the pane's present process wrote, history included, without blank ones at the
    /// end. Where tmux has thrown history away since that process began, lines of an earlier one may be among them.
    ///
    /// # Errors
    /// `NotFound`, `WrongServer`, others as they are.
    pub async fn capture(
        &self,
        server: &ServerId,
        pane: &PaneId,
        lines: u32,
    ) -> Result<Vec<String>, TmuxError> {
        let known = self.meant(server)?;
        let (target, from) = (pane.to_string(), format!("-{lines}"));
        let facts = format!("#{{pane_height}} #{{history_size}} #{{{BEGINS}}}");
        let list = CommandList::new(["display-message", "-p", "-t", &target, &facts]);
        let list = list.then(["capture-pane", "-p", "-t", &target, "-S", &from]);
        let answer = self.run(&known, &list).await?;
        Ok(listing::captured(listing::of_the_present(&answer), lines))
    }

    /// Ends a pane; its process gets SIGHUP. `false` when there is no such pane.
    ///
    /// # Errors
    /// `WrongServer`, others as they are.
    pub async fn kill_pane(&self, server: &ServerId, pane: &PaneId) -> Result<bool, TmuxError> {
        self.kill(server, "kill-pane", pane.to_string()).await
    }

    /// Closes a pane whose process has ended; tmux itself looks at that in the moment in which it closes it. `false`
    /// when there is no such pane.
    ///
    /// # Errors
    /// `WrongServer`, others as they are.
    pub async fn close_dead_pane(&self, server: &ServerId, pane: &PaneId) -> Result<bool, TmuxError> {
        self.close_if(server, pane, "#{pane_dead}").await
    }

    /// Closes a pane in which this process ran and has ended, also while a child of it keeps the terminal. tmux itself
    /// looks, in the moment in which it closes it, whether something else was started there. `false` when there is no
    /// such pane.
    ///
    /// # Errors
    /// `WrongServer`, others as they are.
    pub async fn close_pane_of(
        &self,
        server: &ServerId,
        pane: &PaneId,
        ended: Pid,
    ) -> Result<bool, TmuxError> {
        self.close_if(server, pane, &format!("#{{||:#{{pane_dead}},#{{==:#{{pane_pid}},{ended}}}}}")).await
    }

    /// Whether a pane's process has ended and the pane remains, and the command line that tmux started it with, as
    /// tmux writes it. `None` when there is no such pane.
    ///
    /// # Errors
    /// `WrongServer`, others as they are.
    pub async fn started_with(
        &self,
        server: &ServerId,
        pane: &PaneId,
    ) -> Result<Option<(bool, String)>, TmuxError> {
        let known = self.meant(server)?;
        let target = pane.to_string();
        let list = CommandList::new([
            "display-message",
            "-p",
            "-t",
            &target,
            "#{pane_id} #{pane_dead} #{pane_start_command}",
        ]);
        let answer = match self.run(&known, &list).await {
            Err(TmuxError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let line = String::from_utf8_lossy(&answer).trim_end_matches('\n').to_owned();
        // Of a pane that is not there tmux may write empty fields.
        let Some(rest) = line.strip_prefix(&format!("{target} ")) else { return Ok(None) };
        let (dead, command) = rest.split_once(' ').unwrap_or((rest, ""));
        Ok(Some((dead == "1", command.to_owned())))
    }

    /// Ends a session; the processes of its panes get SIGHUP. `false` when there is no such session.
    ///
    /// # Errors
    /// `WrongServer`, others as they are.
    pub async fn kill_session(&self, server: &ServerId, session: &SessionId) -> Result<bool, TmuxError> {
        self.kill(server, "kill-session", session.to_string()).await
    }

    /// Who is attached, our own control client included. Looks for a server when none is known.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn clients(&self) -> Result<Vec<Client>, TmuxError> {
        let known = self.inner.current_or_found().await?;
        self.clients_of(&known).await
    }

    /// Ends a server on which nothing is left but our holder, by ending that: a server without sessions goes of
    /// itself, and one on which a session appears in that moment stays. `false` when anything else is there, or
    /// when the server did not go (the user's may be told to stay).
    ///
    /// # Errors
    /// `WrongServer`, others as they are.
    pub async fn kill_server_if_empty(&self, server: &ServerId) -> Result<bool, TmuxError> {
        let known = self.meant(server)?;
        let all = self.everything(&known).await?;
        let holder = all.holder.first();
        // A second pane in the holder's session is a person's.
        if !all.others.is_empty() || all.holder.len() > 1 {
            return Ok(false);
        }
        if let Some(holder) = holder {
            let people = self.clients_of(&known).await?;
            if people.iter().any(|client| client.session == holder.session && !client.control_mode) {
                return Ok(false);
            }
            self.inner.state.lock().retired = true;
            let session = holder.session;
            if let Err(error) = self.kill_session(server, &session).await
                && !matches!(error, TmuxError::NoServer { .. })
            {
                self.inner.state.lock().retired = false;
                return Err(error);
            }
        }
        self.gone(server).await
    }

    /// The command line that shows a session in the terminal it is run in; from within a pane of the same
    /// server it switches that client.
    pub fn attach_argv(&self, session: &SessionId, inside_tmux: bool) -> Vec<String> {
        let program = self.inner.config.tmux.to_string_lossy().into_owned();
        let socket = self.inner.socket.to_string_lossy().into_owned();
        let verb = if inside_tmux { "switch-client" } else { "attach-session" };
        vec![program, "-S".into(), socket, verb.into(), "-t".into(), session.to_string()]
    }

    fn creation(&self, name: &str, wanted: &NewSession) -> Result<CommandList, TmuxError> {
        check_argv(&wanted.argv)?;
        let (columns, rows) = self.inner.limits.size();
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let (target, shown, cwd) = (exact(name), literal(name), directory(&wanted.cwd));
        // Without a name the window would be called after the shim, which says nothing to people.
        let words = [
            "new-session",
            "-d",
            "-s",
            &shown,
            "-n",
            "agent",
            "-x",
            &columns,
            "-y",
            &rows,
            "-P",
            "-F",
            CREATED,
            "-c",
        ];
        let words = words.into_iter().map(OsStr::new).chain([cwd.as_os_str(), "--".as_ref()]);
        let list = CommandList::new(words.chain(wanted.argv.iter().map(OsString::as_os_str))).then([
            "set-option",
            "-p",
            "-t",
            &target,
            "remain-on-exit",
            "on",
        ]);
        with_options(list, &target, &wanted.options)
    }

    /// Whether a session that we may have made is there.
    async fn look_for(
        &self,
        known: &Known,
        name: &str,
        wanted: &NewSession,
    ) -> Result<Option<Created>, TmuxError> {
        let ours = |pane: &&Pane| {
            pane.session_name == name
                && wanted
                    .options
                    .iter()
                    .filter(|(option, _)| LISTED_OPTIONS.contains(&option.as_str()))
                    .all(|(option, value)| pane.options.get(option) == Some(value))
        };
        let all = self.everything(known).await?;
        let Some(pane) = all.others.iter().find(ours) else { return Ok(None) };
        let pane_pid = pane.pane_pid.ok_or_else(|| TmuxError::Junk("a new pane without a process".into()))?;
        Ok(Some(Created {
            server: known.id.clone(),
            session: pane.session,
            pane: pane.pane,
            pane_pid,
            name: name.to_owned(),
        }))
    }

    async fn everything(&self, known: &Known) -> Result<Everything, TmuxError> {
        let mark = Mark::fresh();
        let list = CommandList::new(["list-panes", "-a", "-F", &listing::panes_format(&mark)]);
        let answer = self.run(known, &list).await?;
        listing::panes(&mark, &answer, &self.inner.config.town_id)
    }

    async fn clients_of(&self, known: &Known) -> Result<Vec<Client>, TmuxError> {
        let mark = Mark::fresh();
        let list = CommandList::new(["list-clients", "-F", &listing::clients_format(&mark)]);
        listing::clients(&mark, &self.run(known, &list).await?)
    }

    async fn close_if(&self, server: &ServerId, pane: &PaneId, what: &str) -> Result<bool, TmuxError> {
        let _changing = self.inner.changing().await?;
        let known = self.meant(server)?;
        let (target, close) = (pane.to_string(), format!("kill-pane -t {pane}"));
        let list = CommandList::new(["if-shell", "-F", "-t", &target, what, &close]);
        // Not over the connection: there a command inside another has a reply of its own, when it is run.
        match self.inner.run_plain(&known, &list).await {
            Ok(_) => Ok(true),
            Err(TmuxError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn kill(&self, server: &ServerId, verb: &str, target: String) -> Result<bool, TmuxError> {
        let _changing = self.inner.changing().await?;
        let known = self.meant(server)?;
        match self.run(&known, &CommandList::new([verb, "-t", &target])).await {
            Ok(_) => Ok(true),
            Err(TmuxError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for the end of a server that was left to end.
    async fn gone(&self, server: &ServerId) -> Result<bool, TmuxError> {
        let end = tokio::time::Instant::now() + self.inner.timeout();
        // The keeper's watch sets the state within milliseconds.
        const LOOK: Duration = Duration::from_millis(5);
        while tokio::time::Instant::now() < end {
            if observe(&server.process).is_dead() && self.state() != ServerState::Up(server.clone()) {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.inner.state.lock().retired = false;
        Ok(false)
    }
}

/// Appends the setting of user options.
fn with_options(
    list: CommandList,
    target: &str,
    options: &[(String, String)],
) -> Result<CommandList, TmuxError> {
    let user = |name: &str| {
        name.strip_prefix('@').is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        })
    };
    options.iter().try_fold(list, |list, (name, value)| {
        if user(name) {
            Ok(list.then(["set-option", "-t", target, "--", name, value]))
        } else {
            Err(TmuxError::Refused(format!("`{name}` is not the name of a user option, such as `@gt_town`")))
        }
    })
}

fn check_argv(argv: &[OsString]) -> Result<(), TmuxError> {
    if argv.len() < 2 || argv.first().is_some_and(|program| program.is_empty()) {
        return Err(TmuxError::Refused(
            "a command of fewer than two words would be run by a shell; give it an argument".to_owned(),
        ));
    }
    Ok(())
}

fn created(server: &ServerId, answer: &[u8]) -> Result<Created, TmuxError> {
    let mut facts = Facts::new(line(answer))?;
    Ok(Created {
        server: server.clone(),
        session: facts.next("session")?,
        pane: facts.next("pane")?,
        pane_pid: pid_of(facts.next("pid")?)?,
        name: facts.rest().to_owned(),
    })
}

fn pid_of(raw: i32) -> Result<Pid, TmuxError> {
    Pid::new(raw).ok_or_else(|| TmuxError::Junk(format!("a pane with the process {raw}")))
}

/// An answer of one line without its newline.
fn line(answer: &[u8]) -> &[u8] {
    answer.strip_suffix(b"\n").unwrap_or(answer)
}
