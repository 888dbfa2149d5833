//! The way to the supervisor for everybody else: what is shown is read at once, what is asked for goes
//! through the loop.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use gtd_proto::agent::{Attach, Capture};
use gtd_proto::daemon::HeartbeatReport;
use gtd_proto::town::{Alert, Rig};
use gtd_proto::wait::WaitFor;
use gtd_proto::{Address, Change, ErrorKind, RigName, RpcError, Timestamp, town};
use tokio::sync::{Notify, mpsc, oneshot};

use super::core::Input;
use super::dating;
use super::hooked::Question;
use super::requests::{Request, Wait};
use super::run::{Message, Timeline};
use super::turn::Answer;
use super::view::{Shown, View};
use super::waiting::Awaited;
use crate::agents::runtime::{LookError, Runtime};
use crate::ledger::{Ledger, Write};

/// What loop and handles share.
#[derive(Debug, Default)]
pub struct Shared {
    /// What is shown.
    pub view: View,
    /// Sessions on the server changed: somebody should list.
    pub sessions_changed: Notify,
    /// Configuration or town changed: what could not be launched may be launchable.
    pub(super) configured: Notify,
    /// Somebody wants a round of the heartbeat now.
    pub(super) askers: Mutex<Vec<oneshot::Sender<HeartbeatReport>>>,
    /// Wakes the heartbeat for them.
    pub(super) round_wanted: Notify,
    /// There is something to be written into files for the rigs.
    pub(super) chores_changed: Notify,
    pub(super) heartbeat: Mutex<super::heartbeat::State>,
    /// Held while something that was left over is being ended.
    pub(super) sweeping: tokio::sync::Mutex<()>,
    /// What the stores of work are to be asked, by agent.
    pub(super) questions: Mutex<BTreeMap<Address, Question>>,
    /// There is something to be asked.
    pub(super) asked: Notify,
    pub(super) glanced: Mutex<super::glances::Seen>,
    /// Steps of the heartbeat that others carry out.
    pub(super) errands: super::errands::Errands,
    reasons: Mutex<Vec<String>>,
    notes: Mutex<BTreeMap<String, Alert>>,
    pub(super) keys: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Shared {
    /// The rounds of the heartbeat so far.
    #[must_use]
    pub fn rounds(&self) -> gtd_proto::daemon::HeartbeatState {
        self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner).shown.clone()
    }

    /// What the daemon relies on and does not work.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a reason why the daemon is degraded. Whether it is a new one.
    pub fn degrade(&self, reason: String) -> bool {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let new = !reasons.contains(&reason);
        if new {
            reasons.push(reason);
        }
        new
    }

    /// Alerts of parts of the daemon that are not the loop, for the loop to show.
    pub(super) fn notes(&self) -> Vec<Alert> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Removes a reason that no longer holds.
    pub fn restore(&self, reason: &str) {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != reason);
    }
}

/// The supervisor, for everybody else. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    sender: mpsc::Sender<Message>,
    runtime: Runtime,
    ledger: Ledger,
    shared: Arc<Shared>,
    line: Timeline,
}

impl Handle {
    pub(super) fn new(
        sender: mpsc::Sender<Message>,
        runtime: Runtime,
        ledger: Ledger,
        shared: Arc<Shared>,
        line: Timeline,
    ) -> Self {
        Self { sender, runtime, ledger, shared, line }
    }

    /// What is shown, and what else handles share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What is shown.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.shared.view
    }

    /// The agents' tasks.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The store.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The supervisor's time: for deadlines, not for eyes.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.line.now()
    }

    /// The supervisor's line of time.
    pub(super) fn line(&self) -> &Timeline {
        &self.line
    }

    /// The wall clock, for what people are shown.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.line.to_wall(self.line.now())
    }

    /// An instant of the wall clock, on the supervisor's line.
    #[must_use]
    pub fn on_line(&self, at: Timestamp) -> Timestamp {
        self.line.from_wall(at)
    }

    /// An instant of the supervisor's time, by the wall clock.
    #[must_use]
    pub fn dated(&self, at: Timestamp) -> Timestamp {
        self.line.to_wall(at)
    }

    /// A registered rig, as people see it.
    ///
    /// # Errors
    /// `rig_not_found`, with the rigs there are.
    pub fn rig(&self, name: &RigName) -> Result<Rig, RpcError> {
        self.view().read(|shown| self.rig_of(shown, name))
    }

    /// All registered rigs, as people see them, out of what is shown.
    ///
    /// # Errors
    /// None that is known.
    pub fn rigs_of(&self, shown: &Shown) -> Result<Vec<Rig>, RpcError> {
        shown.facts.rigs.keys().map(|name| self.rig_of(shown, name)).collect()
    }

    fn rig_of(&self, shown: &Shown, name: &RigName) -> Result<Rig, RpcError> {
        let mut rig = shown.rig(name)?;
        dating::rig(&mut rig.since, [&mut rig.parked, &mut rig.docked], &self.line);
        rig.pause.iter_mut().for_each(|pause| dating::pause(pause, &self.line));
        Ok(rig)
    }

    /// The pause of the whole town, as people see it, out of what is shown.
    #[must_use]
    pub fn paused_town(&self, shown: &Shown) -> Option<gtd_proto::pause::Pause> {
        let mut pause = shown.pauses.town().map(|standing| standing.shown());
        pause.iter_mut().for_each(|pause| dating::pause(pause, &self.line));
        pause
    }

    /// How long the daemon has run, suspended time included.
    #[must_use]
    pub fn uptime(&self) -> std::time::Duration {
        self.line.elapsed()
    }

    /// The row that lets the next daemon go on with the supervisor's time.
    #[must_use]
    pub fn clock_row(&self) -> Write {
        clock_row(&self.line)
    }

    /// Tells the loop something. Waits while it is busy.
    pub async fn tell(&self, message: Message) {
        // Without a loop the daemon is going down, and nothing needs telling.
        let _ = self.sender.send(message).await;
    }

    /// Tells the loop of something that happened.
    pub async fn input(&self, input: Input) {
        self.tell(Message::Input(Box::new(input))).await;
    }

    /// Raises an alert of a part of the daemon, in place of an earlier one with the same key.
    pub async fn raise(&self, alert: Alert) {
        let before = {
            let mut notes = self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.insert(alert.key.clone(), alert.clone())
        };
        if before.is_none_or(|before| before.message != alert.message || before.hint != alert.hint) {
            self.tell(Message::Refresh).await;
        }
    }

    /// Takes such an alert back.
    pub async fn settle(&self, key: &str) {
        let before = {
            let mut notes = self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.remove(key)
        };
        if before.is_some() {
            self.tell(Message::Refresh).await;
        }
    }

    /// Commits rows in order with everything else.
    pub async fn write(&self, writes: Vec<Write>) {
        self.tell(Message::Write(writes)).await;
    }

    /// Returns when everything that the loop was told before has been carried out: also a sign that it turns.
    pub async fn settled(&self) {
        let (sender, receiver) = oneshot::channel();
        self.tell(Message::Settled(sender)).await;
        let _ = receiver.await;
    }

    pub(super) async fn ask(&self, request: Request) -> Result<Answer, RpcError> {
        let gone =
            || RpcError::new(ErrorKind::ShuttingDown, "the daemon is going down").hint("gtctl daemon start");
        let (answer, answered) = oneshot::channel();
        let message = Message::Ask { request: Box::new(request), answer };
        self.sender.send(message).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Asks for a change of one agent; the answer shows it afterwards.
    ///
    /// # Errors
    /// Whatever the change failed with.
    pub async fn change(&self, agent: &Address, request: Request) -> Result<Change, RpcError> {
        match self.ask(request).await? {
            Answer::Changed { already, accepted, survivors } => {
                let agent = self.view().agent(agent).ok_or_else(|| {
                    RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}"))
                })?;
                Ok(Change { agent, already, accepted, dry_run: false, plan: Vec::new(), survivors })
            }
            Answer::Heard { .. } | Answer::Rig { .. } | Answer::Town(_) | Answer::Failed(_) => {
                Err(RpcError::internal("an answer of another kind was given"))
            }
        }
    }

    /// Waits until an agent is as wanted. The wait ends when the future is dropped.
    ///
    /// # Errors
    /// `agent_not_found`; `timeout` with `data.reached`; `too_busy` when too many wait already.
    pub async fn wait(&self, agent: &Address, wanted: WaitFor, wait: Wait) -> Result<(), RpcError> {
        let awaited = Awaited::Reached(wanted);
        self.ask(Request::Wait { agent: Some(agent.clone()), awaited, wait }).await.map(|_| ())
    }

    /// Asks for a change of the whole town.
    ///
    /// # Errors
    /// Whatever the change failed with as a whole; what became of each agent is in the answer.
    pub async fn change_town(&self, request: Request) -> Result<Vec<town::Outcome>, RpcError> {
        match self.ask(request).await? {
            Answer::Town(items) => Ok(items),
            Answer::Changed { .. } | Answer::Heard { .. } | Answer::Rig { .. } | Answer::Failed(_) => {
                Err(RpcError::internal("an answer of another kind was given"))
            }
        }
    }

    /// Runs one round of the heartbeat now and reports it.
    ///
    /// # Errors
    /// When the daemon goes down meanwhile.
    pub async fn round(&self) -> Result<HeartbeatReport, RpcError> {
        let (sender, receiver) = oneshot::channel();
        self.shared.askers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        self.shared.round_wanted.notify_one();
        receiver.await.map_err(|_| RpcError::new(ErrorKind::ShuttingDown, "the daemon is going down"))
    }

    /// The last lines of an agent's screen.
    ///
    /// # Errors
    /// `not_running`, or `tmux_unavailable`.
    pub async fn capture(&self, agent: &Address, lines: u32) -> Result<Capture, RpcError> {
        self.known(agent)?;
        // One more than asked for tells whether there are more.
        let mut all = self
            .runtime
            .capture(agent, lines.saturating_add(1))
            .await
            .map_err(|error| look_error(agent, error))?;
        let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
        let surplus = all.len().saturating_sub(wanted);
        Ok(Capture { lines: all.split_off(surplus), truncated: surplus > 0 })
    }

    /// How to look at an agent's session.
    ///
    /// # Errors
    /// `not_running`.
    pub fn attach(&self, agent: &Address) -> Result<Attach, RpcError> {
        let known = self.known(agent)?;
        // The pane of one at rest closes by itself; what a person has beside it is not the agent's.
        if known.session.is_none() || known.state == gtd_proto::State::Stopped {
            return Err(look_error(agent, LookError::NoSession(agent.clone())));
        }
        let (argv, argv_inside, place) =
            self.runtime.attach(agent).map_err(|error| look_error(agent, error))?;
        Ok(Attach { agent: agent.clone(), argv, argv_inside, server: place.socket })
    }

    pub(super) fn known(&self, agent: &Address) -> Result<gtd_proto::Agent, RpcError> {
        self.view().agent(agent).ok_or_else(|| {
            RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}")).hint("gtctl status")
        })
    }
}

/// Name of the ledger's fact that says where the supervisor's time stood.
pub const CLOCK: &str = "clock";

/// The row that lets the next daemon go on with a line.
#[must_use]
pub fn clock_row(line: &Timeline) -> Write {
    Write::Fact { key: CLOCK.to_owned(), value: serde_json::to_value(line.anchor()).ok() }
}

fn look_error(agent: &Address, error: LookError) -> RpcError {
    match error {
        LookError::NoSession(_) => RpcError::new(ErrorKind::NotRunning, format!("{agent} is not running"))
            .hint(format!("gtctl status {agent}")),
        LookError::Tmux(error) => RpcError::new(
            ErrorKind::TmuxUnavailable,
            format!("the screen of {agent} cannot be read: {error}"),
        )
        .hint("gtctl daemon status"),
    }
}
