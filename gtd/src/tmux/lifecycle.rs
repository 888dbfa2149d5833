//! Finding, starting and connecting to the server.
//!
//! Owns the decisions about which server we work with, one at a time behind one lock. It must never start a
//! server while an earlier one lives or may live, and never work with one that took an earlier one's place while
//! that one lives.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, RwLockReadGuard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{DriverConfig, holder_name};
use super::control::Control;
use super::doorplate::Doorplate;
use super::error::TmuxError;
use super::facts::Facts;
use super::limits::Limits;
use super::listing::HOLDER_OPTION;
use super::plain::Runner;
use super::quote::{CommandList, exact};
use super::server::{
    Door, Known, Missing, ServerId, holder_commands, introduce, knock, settle_missing, start,
};
use super::state::{Condition, State};
use super::version::Version;
use crate::process::observe::observe;
use crate::process::{ExitWatcher, Observation};

/// How long a found lack of a usable program is believed, so that a hundred callers do not ask a hundred times.
const BELIEVED: Duration = Duration::from_secs(1);
/// Pause before asking again a server that was just ending.
const ENDING_PAUSE: Duration = Duration::from_millis(20);

/// Everything that the handles of one driver share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) config: DriverConfig,
    pub(super) limits: Limits,
    pub(super) socket: PathBuf,
    pub(super) holder: String,
    pub(super) runner: Runner,
    pub(super) watcher: ExitWatcher,
    pub(super) state: State,
    /// Notified when sessions changed.
    pub(super) hint: Arc<Notify>,
    pub(super) closed: CancellationToken,
    /// The socket that our server last answered on.
    pub(super) doorplate: Doorplate,
    /// Held while deciding which server we work with.
    pub(super) deciding: tokio::sync::Mutex<()>,
    /// Held by those who change sessions, all together, or by the one who connects, alone: see
    /// [`super::version::Version::is_steady`].
    calm: tokio::sync::RwLock<()>,
    /// What runs beside the callers and must not be cut short with them.
    pub(super) tasks: TaskTracker,
}

impl Inner {
    pub(super) fn new(
        config: DriverConfig,
        socket: PathBuf,
        watcher: ExitWatcher,
        state: State,
        hint: Arc<Notify>,
    ) -> Self {
        Self {
            holder: holder_name(&config.town_id),
            runner: Runner::new(&config, &socket),
            limits: Limits::of(&config),
            config,
            socket,
            watcher,
            state,
            hint,
            closed: CancellationToken::new(),
            doorplate: Doorplate::default(),
            deciding: tokio::sync::Mutex::new(()),
            calm: tokio::sync::RwLock::new(()),
            tasks: TaskTracker::new(),
        }
    }

    /// How long any one command may take, as it is now.
    pub(super) fn timeout(&self) -> Duration {
        self.limits.timeout()
    }

    fn config_now(&self) -> DriverConfig {
        DriverConfig { command_timeout: self.timeout(), size: self.limits.size(), ..self.config.clone() }
    }

    /// The server we work with, or why there is none just now. Asks nobody.
    pub(super) fn current(&self) -> Result<Known, TmuxError> {
        match &self.state.lock().condition {
            Condition::Up(known) => Ok(known.clone()),
            Condition::Down => Err(self.no_server()),
            Condition::Unavailable { error, .. } => Err(error.clone()),
            Condition::Unresponsive { since, why, .. } => {
                Err(TmuxError::Unresponsive { after: since.elapsed(), what: why.clone() })
            }
        }
    }

    /// As [`Self::current`], but looks for one when none is known.
    pub(super) async fn current_or_found(self: &Arc<Self>) -> Result<Known, TmuxError> {
        match self.current() {
            Err(TmuxError::NoServer { .. } | TmuxError::Unavailable { .. }) => {
                let _deciding = self.deciding.lock().await;
                self.find().await?.ok_or_else(|| self.no_server())
            }
            other => other,
        }
    }

    /// Waits until no control client is connecting, and keeps it so while sessions are changed. Not to be taken
    /// twice by one task.
    pub(super) async fn changing(&self) -> Result<RwLockReadGuard<'_, ()>, TmuxError> {
        let deadline = self.timeout();
        tokio::time::timeout(deadline, self.calm.read()).await.map_err(|_| TmuxError::Unresponsive {
            after: deadline,
            what: "waiting for a control client to connect".to_owned(),
        })
    }

    pub(super) fn no_server(&self) -> TmuxError {
        TmuxError::NoServer { socket: self.socket.clone(), why: "none is known".to_owned() }
    }

    /// The server, started when none lives.
    pub(super) async fn ensure(self: &Arc<Self>) -> Result<Known, TmuxError> {
        self.state.lock().retired = false;
        match self.current() {
            Ok(known) => match observe(&known.id.process) {
                // Noticed before the watch told us.
                Observation::Dead(_) | Observation::Absent => self.state.died(&known.id, Instant::now()),
                Observation::Alive(_) | Observation::Unknown(_) => return Ok(known),
            },
            Err(error @ TmuxError::Unresponsive { .. }) => return Err(error),
            Err(_) => {}
        }
        let _deciding = self.deciding.lock().await;
        if let Some(known) = self.find().await? {
            return Ok(known);
        }
        match start(&self.config_now(), &self.runner, &self.holder).await {
            Ok(started) => {
                self.state.lock().not_launched = started.not_launched;
                Ok(self.settle(started.known).await)
            }
            // Somebody else started one at the same moment.
            Err(error @ TmuxError::NameTaken { .. }) => self.find().await?.ok_or(error),
            Err(error) => Err(self.note(self.late(None, error))),
        }
    }

    /// Looks again at a server that may have changed, and keeps the outcome.
    pub(super) async fn look_again(self: &Arc<Self>) -> Result<(), TmuxError> {
        let _deciding = self.deciding.lock().await;
        if self.current().is_ok() && !self.wants_control() {
            // Somebody was faster.
            return Ok(());
        }
        let known = match self.look().await {
            Ok(Some(known)) => known,
            Ok(None) => {
                self.state.down();
                return Ok(());
            }
            Err(error) => return Err(self.note(error)),
        };
        self.settle(known).await;
        Ok(())
    }

    /// The server we know or the one that answers, and the connection to it. Under the lock.
    async fn find(self: &Arc<Self>) -> Result<Option<Known>, TmuxError> {
        match self.current() {
            Ok(known) => return Ok(Some(known)),
            Err(error @ TmuxError::Unresponsive { .. }) => return Err(error),
            Err(error) => {
                if let Condition::Unavailable { since, .. } = &self.state.lock().condition
                    && since.elapsed() < BELIEVED
                {
                    return Err(error);
                }
            }
        }
        match self.look().await {
            Ok(Some(known)) => Ok(Some(self.settle(known).await)),
            Ok(None) => {
                self.state.down();
                Ok(None)
            }
            Err(error) => Err(self.note(error)),
        }
    }

    /// Looks at program, socket and process table. `None` is proof that no server lives. Under the lock.
    pub(super) async fn look(&self) -> Result<Option<Known>, TmuxError> {
        let deadline = self.timeout();
        if self.state.lock().version.is_none() {
            let last = self.state.lock().last.clone();
            let version = self.runner.version(deadline).await.map_err(|e| self.late(last.as_ref(), e))?;
            self.state.lock().version = Some(version);
        }
        let end = tokio::time::Instant::now() + deadline;
        loop {
            let last = self.state.lock().last.clone();
            let outcome = match knock(&self.socket, deadline).await {
                Door::Answers => match introduce(&self.runner, deadline).await {
                    Ok(known) => return self.accept(last.as_ref(), known).map(Some),
                    Err(error) => Err(self.late(last.as_ref(), error)),
                },
                Door::Nobody => match &last {
                    None => return Ok(None),
                    Some(last) => match settle_missing(last).await.map_err(|e| self.late(Some(last), e))? {
                        Missing::Ended => {
                            self.state.died(last, Instant::now());
                            return Ok(None);
                        }
                        Missing::Restored => {
                            self.state
                                .complain(&format!("the socket of {last} was gone and has been restored"));
                            Err(self.no_server())
                        }
                    },
                },
                Door::Unclear(error) => {
                    return Err(TmuxError::Refused(format!(
                        "cannot connect to {}: {error}",
                        self.socket.display()
                    )));
                }
            };
            match outcome {
                // It was ending while we asked, or has just been restored: look once more.
                Err(TmuxError::NoServer { .. }) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(ENDING_PAUSE).await;
                }
                Err(error) => return Err(error),
                Ok(()) => {}
            }
        }
    }

    /// Whether we may work with the server that answers, in view of the last one.
    fn accept(&self, last: Option<&ServerId>, known: Known) -> Result<Known, TmuxError> {
        let Some(last) = last.filter(|last| last.process != known.id.process) else {
            return Ok(known);
        };
        match observe(&last.process) {
            Observation::Dead(_) | Observation::Absent => {
                self.state.died(last, Instant::now());
                Ok(known)
            }
            Observation::Alive(_) => {
                self.state.complain(&format!(
                    "another tmux server answers on the socket of {last}, which still lives; end one of them"
                ));
                Err(TmuxError::WrongServer {
                    wanted: Box::new(last.clone()),
                    connected: known.id.to_string(),
                })
            }
            Observation::Unknown(why) => {
                Err(TmuxError::Refused(format!("whether {last} still lives cannot be told: {why}")))
            }
        }
    }

    /// Works with this server from now on. Under the lock.
    async fn settle(self: &Arc<Self>, known: Known) -> Known {
        self.state.up(known.clone());
        if self.wants_control() {
            // In a task of its own: a client that is killed while it connects takes an older server with it, so
            // it must not end with a caller who gives up.
            let (inner, server) = (Arc::clone(self), known.clone());
            let _ = self.tasks.spawn(async move { inner.join(&server).await }).await;
        }
        known
    }

    /// Whether there should be a control connection and is none.
    pub(super) fn wants_control(&self) -> bool {
        let shared = self.state.lock();
        // Of the servers of users we do not know when something changes, so older ones are spared the risk.
        let safe = self.config.server.is_private() || shared.version.as_ref().is_some_and(Version::is_steady);
        let up = matches!(shared.condition, Condition::Up(_));
        safe && up && shared.control.is_none() && !shared.retired && !self.closed.is_cancelled()
    }

    /// Connects and keeps the connection.
    async fn join(&self, known: &Known) {
        let _calm = self.calm.write().await;
        if !self.wants_control() {
            return;
        }
        match self.connect(known).await {
            Ok(control) => {
                let mut shared = self.state.lock();
                // It may have died meanwhile.
                let still = matches!(&shared.condition, Condition::Up(now) if now == known);
                if still && !self.closed.is_cancelled() {
                    shared.control = Some(control);
                } else {
                    control.abort();
                }
                drop(shared);
                self.state.content();
                // What happened before we listened.
                self.hint.notify_one();
                self.state.poke.notify_one();
            }
            // The server has just answered a process, so it is not silent: the keeper tries again.
            Err(error) => self.state.complain(&format!("no control connection to {}: {error}", known.id)),
        }
    }

    /// Opens a control connection to this server, making the holder session when it is not there.
    async fn connect(&self, known: &Known) -> Result<Control, TmuxError> {
        let deadline = self.timeout();
        let target = exact(&self.holder);
        let open = || Control::open(&self.runner, &target, deadline, Arc::clone(&self.hint), &self.tasks);
        let control = match open().await {
            Err(TmuxError::NotFound { .. }) => {
                let commands = holder_commands(&self.config_now(), &self.holder);
                match self.run_plain(known, &commands).await {
                    Ok(_) | Err(TmuxError::NameTaken { .. }) => open().await?,
                    Err(error) => return Err(error),
                }
            }
            other => other?,
        };
        match self.check(&control, known).await {
            Ok(()) => Ok(control),
            Err(error) => {
                control.abort();
                Err(error)
            }
        }
    }

    /// Proves over the connection that it leads to this server and to a holder of ours.
    async fn check(&self, control: &Control, known: &Known) -> Result<(), TmuxError> {
        let deadline = self.timeout();
        let format = format!("#{{pid}} #{{start_time}} #{{{HOLDER_OPTION}}}");
        let list = CommandList::new(["display-message", "-p", &format]);
        let reply = control.ask(&list, deadline).await.map_err(|_| TmuxError::Unresponsive {
            after: deadline,
            what: "the first question on a new control connection".to_owned(),
        })?;
        let answer = reply.body.strip_suffix(b"\n").unwrap_or(&reply.body);
        let mut facts = Facts::new(answer)?;
        let (pid, start_time): (i32, u64) = (facts.next("pid")?, facts.next("start time")?);
        if (pid, start_time) != (known.id.process.pid.get(), known.start_time) {
            return Err(TmuxError::WrongServer {
                wanted: Box::new(known.id.clone()),
                connected: format!("{} (process {pid})", self.socket.display()),
            });
        }
        if facts.rest() != self.config.town_id {
            return Err(TmuxError::Refused(format!(
                "the session `{}` is not ours, since its {HOLDER_OPTION} is another",
                self.holder
            )));
        }
        Ok(())
    }

    /// Runs commands in a process, if the server that answers is this one.
    pub(super) async fn run_plain(&self, known: &Known, list: &CommandList) -> Result<Vec<u8>, TmuxError> {
        self.run_plain_reply(known, list).await?.into_result()
    }

    /// As [`Self::run_plain`], with the output of the commands before one that failed.
    pub(super) async fn run_plain_reply(
        &self,
        known: &Known,
        list: &CommandList,
    ) -> Result<PlainReply, TmuxError> {
        self.run_plain_fed(known, list, None).await
    }

    /// As [`Self::run_plain_reply`], with something on the process's standard input.
    pub(super) async fn run_plain_fed(
        &self,
        known: &Known,
        list: &CommandList,
        input: Option<&[u8]>,
    ) -> Result<PlainReply, TmuxError> {
        let wrong = format!("wrong-server-{}", uuid::Uuid::new_v4().simple());
        let pid = known.id.process.pid.get();
        let args = list.guarded_argv(pid, known.start_time, &format!("{wrong} #{{pid}}"))?;
        let finished = match input {
            None => self.runner.run(&args, &list.name(), self.timeout()).await,
            Some(input) => self.runner.run_fed(&args, input, &list.name(), self.timeout()).await,
        };
        let finished = finished.map_err(|error| self.note(self.late(Some(&known.id), error)))?;
        if let Some(other) = finished.stdout.strip_prefix(wrong.as_bytes()) {
            let other = String::from_utf8_lossy(other);
            self.state.poke.notify_one();
            return Err(TmuxError::WrongServer {
                wanted: Box::new(known.id.clone()),
                connected: format!("{} (process {})", self.socket.display(), other.trim()),
            });
        }
        let error = (!finished.ok).then(|| TmuxError::from_message(&finished.stderr, &self.socket));
        Ok(PlainReply { body: finished.stdout, error })
    }

    /// Notes when an error is a silence of this server, and hands it on.
    fn late(&self, about: Option<&ServerId>, error: TmuxError) -> TmuxError {
        if matches!(error, TmuxError::Unresponsive { .. }) {
            self.state.silent(about, &error.to_string());
        }
        error
    }

    /// Draws the conclusion from an error that concerns tmux as a whole, and hands it on.
    pub(super) fn note(&self, error: TmuxError) -> TmuxError {
        match &error {
            TmuxError::Unavailable { .. } => {
                // Perhaps it was exchanged: look again before the next use.
                let down = !matches!(self.state.lock().condition, Condition::Up(_));
                if down {
                    self.state.lock().version = None;
                    self.state.unavailable(&error);
                }
            }
            TmuxError::Refused(text) => self.state.complain(text),
            TmuxError::Junk(_) => self.state.complain(&error.to_string()),
            _ => {}
        }
        error
    }
}

/// Output and failure of a list of commands.
#[derive(Debug)]
pub(super) struct PlainReply {
    /// What the commands before the failure printed.
    pub(super) body: Vec<u8>,
    /// What the first one that failed said.
    pub(super) error: Option<TmuxError>,
}

impl PlainReply {
    pub(super) fn into_result(self) -> Result<Vec<u8>, TmuxError> {
        match self.error {
            None => Ok(self.body),
            Some(error) => Err(error),
        }
    }
}
