//! The loop: the only writer. It takes in what happens, asks the pure [`Core`] what follows, commits that,
//! and only then passes on orders and answers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::{Address, ErrorKind, RpcError, Timestamp};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::core::{Core, Input};
use super::dating;
use super::handle::{Handle, Shared};
use super::planner::Settings;
use super::policy::since;
use super::requests::Request;
use super::turn::{Answer, Ticket, Turn};
use crate::agents::order::{Failure, FailureKind, Order, Report, What};
use crate::agents::runtime::Runtime;
pub use crate::clock::Timeline;
use crate::feed::Bus;
use crate::ledger::{Ledger, NewEvent, ProcessKey, ServerKey, ServerRow, Write};
use crate::tmux::{ServerId, ServerState, TmuxEvent};

/// Messages that may wait for the loop.
pub const INBOX: usize = 1_024;
/// How many messages one turn takes in at most, so that one commit serves many.
const BATCH: usize = 64;
/// How often a ledger that failed is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(2);

/// What reaches the loop beside the reports of agents' tasks.
pub enum Message {
    /// Somebody asks for something.
    Ask {
        /// What.
        request: Box<Request>,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<Answer, RpcError>>,
    },
    /// Something happened.
    Input(Box<Input>),
    /// tmux says something.
    Tmux(TmuxEvent),
    /// Rows that describe something else than an agent, to be committed in order with everything.
    Write(Vec<Write>),
    /// Say when everything before this has been carried out.
    Settled(oneshot::Sender<()>),
    /// Show agents, alerts and sessions anew: what they are made of has changed outside.
    Refresh,
}

/// The parts of the loop.
pub struct Supervisor {
    pub(super) core: Core,
    pub(super) runtime: Runtime,
    ledger: Ledger,
    bus: Bus,
    pub(super) shared: Arc<Shared>,
    pub(super) line: Timeline,
    answers: HashMap<Ticket, oneshot::Sender<Result<Answer, RpcError>>>,
    next_ticket: u64,
    settled: Vec<oneshot::Sender<()>>,
    unsaved: Vec<Write>,
    pub(super) ledger_failed: Option<String>,
    /// What the ledger says is wrong with it, although it takes what it is given.
    pub(super) ledger_trouble: Option<String>,
}

impl Supervisor {
    /// Puts the loop together. The first turn, from the ledger, is taken by [`Self::run`].
    #[must_use]
    pub fn new(
        core: Core,
        runtime: Runtime,
        ledger: Ledger,
        bus: Bus,
        line: Timeline,
    ) -> (Self, Handle, mpsc::Receiver<Message>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let shared = Arc::new(Shared::default());
        let handle = Handle::new(sender, runtime.clone(), ledger.clone(), Arc::clone(&shared), line.clone());
        let supervisor = Self {
            core,
            runtime,
            ledger,
            bus,
            shared,
            line,
            answers: HashMap::new(),
            next_ticket: 0,
            settled: Vec::new(),
            unsaved: Vec::new(),
            ledger_failed: None,
            ledger_trouble: None,
        };
        (supervisor, handle, inbox)
    }

    /// Runs until the daemon goes down. Agents and their sessions are left as they are.
    pub async fn run(
        mut self,
        first: Turn,
        mut inbox: mpsc::Receiver<Message>,
        mut reports: mpsc::Receiver<Report>,
        stop: tokio_util::sync::CancellationToken,
    ) {
        let tmux = self.tmux_trouble();
        let mut first = first;
        let mut shifts = self.line.shifts();
        // The incidents of earlier daemons are shown from the start.
        first.incident = true;
        merge(&mut first, self.core.step(Input::Tmux(tmux), self.line.now()));
        self.carry_out(first).await;
        loop {
            let wake = self.wake();
            let woke = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(report) = reports.recv() => Message::Input(Box::new(Input::Report(report))),
                message = inbox.recv() => match message {
                    Some(message) => message,
                    None => break,
                },
                () = tokio::time::sleep(wake) => Message::Input(Box::new(Input::Time)),
            };
            let mut turn = Turn::default();
            // Before what is told of a suspension is judged.
            let shift = shifts.look();
            if shift.is_resume() {
                turn = self.core.step(Input::Resumed { suspended: shift.suspended }, self.line.now());
            }
            let next = self.take(woke);
            merge(&mut turn, next);
            // Whatever else has come by now shares the commit.
            for _ in 0..BATCH {
                if let Ok(report) = reports.try_recv() {
                    let more = self.take(Message::Input(Box::new(Input::Report(report))));
                    merge(&mut turn, more);
                } else if let Ok(message) = inbox.try_recv() {
                    let more = self.take(message);
                    merge(&mut turn, more);
                } else {
                    break;
                }
            }
            self.carry_out(turn).await;
            for sender in self.settled.drain(..) {
                let _ = sender.send(());
            }
        }
        let gone =
            RpcError::new(ErrorKind::ShuttingDown, "the daemon is going down").hint("gtctl daemon start");
        for (_, answer) in self.answers.drain() {
            let _ = answer.send(Err(gone.clone()));
        }
    }

    fn wake(&self) -> Duration {
        let sound = self.unsaved.is_empty() && self.ledger_trouble.is_none();
        let quiet = if sound { Duration::from_secs(3_600) } else { SAVE_AGAIN };
        match self.core.next_deadline() {
            Some(deadline) => since(self.line.now(), deadline).min(quiet),
            None => quiet,
        }
    }

    fn take(&mut self, message: Message) -> Turn {
        let now = self.line.now();
        match message {
            Message::Ask { request, answer } => {
                self.next_ticket += 1;
                let ticket = Ticket(self.next_ticket);
                if matches!(*request, Request::Wait { .. }) {
                    self.forget_who_left();
                }
                self.answers.insert(ticket, answer);
                self.core.step(Input::Request { ticket, request }, now)
            }
            Message::Input(mut input) => {
                if let Input::Report(report) = &mut *input {
                    dating::incoming(report, &self.line);
                }
                let configured = matches!(*input, Input::Facts(_) | Input::Settings(_));
                let turn = self.core.step(*input, now);
                if configured {
                    self.shared.configured.notify_one();
                }
                turn
            }
            Message::Tmux(event) => self.hear_tmux(event, now),
            Message::Write(writes) => Turn { writes, ..Turn::default() },
            Message::Settled(sender) => {
                self.settled.push(sender);
                Turn::default()
            }
            Message::Refresh => {
                let changed = self.core.agents().keys().cloned().collect();
                Turn { changed, ..Turn::default() }
            }
        }
    }

    /// Nobody waits for these answers any more: what was asked for goes on, waits do not.
    fn forget_who_left(&mut self) {
        let left = self.answers.iter().filter(|(_, answer)| answer.is_closed()).map(|(ticket, _)| *ticket);
        let left: BTreeSet<Ticket> = left.collect();
        self.core.forget(&left);
        self.answers.retain(|ticket, _| !left.contains(ticket));
    }

    fn hear_tmux(&mut self, event: TmuxEvent, now: Timestamp) -> Turn {
        let mut turn = Turn::default();
        let happened = |name: &'static str, data| Write::Event(NewEvent::new(now, name, data));
        match event {
            TmuxEvent::ServerStarted(server) => {
                turn.writes.push(Write::Server(server_row(&server, now)));
                turn.writes.push(happened(kind::TMUX_SERVER_STARTED, server_json(&server)));
            }
            TmuxEvent::ServerDied { server, .. } => {
                turn.writes.push(Write::ServerGone { server: server_key(&server), at: now });
                turn.writes.push(happened(kind::TMUX_SERVER_DIED, server_json(&server)));
            }
            TmuxEvent::Unresponsive { server, why } => {
                let socket = server.map(|server| server.socket.to_string_lossy().into_owned());
                let data = json!({ "socket": socket, "responsive": false, "why": why });
                turn.writes.push(happened(kind::TMUX_UNRESPONSIVE, data));
            }
            TmuxEvent::Recovered(server) => {
                let data = json!({ "socket": server.socket.to_string_lossy(), "responsive": true, "why": "it answers again" });
                turn.writes.push(happened(kind::TMUX_UNRESPONSIVE, data));
            }
            TmuxEvent::Degraded(why) => {
                turn.writes.push(happened(kind::DAEMON_DEGRADED, json!({ "reason": why })));
            }
            // An alert ends with it.
            TmuxEvent::Mended => turn.changed.extend(self.core.agents().keys().cloned()),
            TmuxEvent::Usable => tracing::info!("tmux can be used again"),
            TmuxEvent::Changed => self.shared.sessions_changed.notify_one(),
        }
        let trouble = self.tmux_trouble();
        merge(&mut turn, self.core.step(Input::Tmux(trouble), now));
        turn
    }

    /// Why tmux cannot be used, if it cannot. A server that is not there is no trouble: one is started.
    fn tmux_trouble(&self) -> Option<String> {
        match self.runtime.driver().state() {
            ServerState::Up(_) | ServerState::Down => None,
            ServerState::Unresponsive { why, .. } => Some(why),
            ServerState::Unavailable { why } => Some(why),
        }
    }

    /// Takes over what the ledger says of itself, which may change while nothing else happens.
    fn look_at_ledger(&mut self) {
        let trouble = self.ledger.trouble();
        if trouble == self.ledger_trouble {
            return;
        }
        if let Some(before) = &self.ledger_trouble {
            self.shared.restore(before);
        }
        if let Some(now) = &trouble {
            self.shared.degrade(now.clone());
        }
        self.ledger_trouble = trouble;
        self.show(&Turn::default());
    }

    async fn carry_out(&mut self, turn: Turn) {
        self.commit_and_act(turn).await;
        self.look_at_ledger();
    }

    async fn commit_and_act(&mut self, mut turn: Turn) {
        if turn.is_empty() && self.unsaved.is_empty() {
            return;
        }
        dating::outgoing(&mut turn.writes, &self.line);
        let mut writes = std::mem::take(&mut self.unsaved);
        writes.append(&mut turn.writes);
        let committed =
            if writes.is_empty() { Ok(Vec::new()) } else { self.ledger.commit(writes.clone()).await };
        match committed {
            Ok(events) => {
                self.ledger_failed = None;
                // Shown before it is told: whoever hears of an event can read the state that it led to.
                self.show(&turn);
                self.shared.see_chores(self.core.chores());
                self.bus.publish(events);
            }
            Err(error) => {
                if self.ledger_failed.is_none() {
                    tracing::error!(%error, "the ledger cannot be written; nothing is started until it can");
                }
                self.ledger_failed = Some(error.to_string());
                super::unsaved::shorten(&mut writes);
                self.unsaved = writes;
                self.show(&turn);
            }
        }
        let Turn { mut orders, mut answers, questions, .. } = turn;
        self.shared.ask(questions);
        // What could not be begun has consequences of its own: answers above all, for those who wait for it.
        while !orders.is_empty() || !answers.is_empty() {
            let undone = self.pass_on(std::mem::take(&mut orders));
            self.give(std::mem::take(&mut answers));
            for report in undone {
                let mut again = self.core.step(Input::Report(report), self.line.now());
                self.show(&again);
                dating::outgoing(&mut again.writes, &self.line);
                self.unsaved.append(&mut again.writes);
                orders.append(&mut again.orders);
                answers.append(&mut again.answers);
                self.shared.ask(again.questions);
            }
        }
    }

    /// Passes orders on to the agents' tasks; returns what is to be said of those that must not be begun.
    fn pass_on(&self, orders: Vec<(Address, Order)>) -> Vec<Report> {
        let mut undone = Vec::new();
        // Also what was written down into the last room there is: the room is for ends.
        let trouble = self.ledger_failed.clone().or_else(|| self.ledger.trouble());
        for (agent, order) in orders {
            match (&trouble, order) {
                // What is not written down is not begun. Ending needs no permission from a disk.
                (Some(why), Order::Launch { instance, .. }) => {
                    let failure = Failure {
                        message: format!("the ledger cannot be written: {why}"),
                        hint: Some("df -h; gtctl daemon status".to_owned()),
                        kind: FailureKind::Ours,
                    };
                    undone.push(Report { agent, instance, what: What::NotLaunched(failure) });
                }
                (_, order) => self.runtime.order(&agent, order),
            }
        }
        undone
    }

    fn give(&mut self, answers: Vec<(Ticket, Answer)>) {
        for (ticket, answer) in answers {
            if let Some(sender) = self.answers.remove(&ticket) {
                let answer = match answer {
                    Answer::Failed(error) => Err(*error),
                    other => Ok(other),
                };
                let _ = sender.send(answer);
            }
        }
    }
}

fn merge(turn: &mut Turn, more: Turn) {
    // Of a fact only the last word counts, and the record of a mass death has one with each death.
    turn.writes.retain(|old| {
        let Write::Fact { key, .. } = old else { return true };
        !more.writes.iter().any(|new| matches!(new, Write::Fact { key: other, .. } if other == key))
    });
    turn.incident |= more.incident;
    turn.writes.extend(more.writes);
    turn.orders.extend(more.orders);
    turn.answers.extend(more.answers);
    turn.questions.extend(more.questions);
    turn.changed.extend(more.changed);
}

fn server_key(server: &ServerId) -> ServerKey {
    ServerKey {
        socket: server.socket.to_string_lossy().into_owned(),
        process: ProcessKey {
            boot: server.process.boot.as_str().to_owned(),
            pid: server.process.pid.get(),
            start: server.process.start.get(),
        },
    }
}

fn server_row(server: &ServerId, now: Timestamp) -> ServerRow {
    ServerRow { server: server_key(server), seen_at: now, ours: true, detail: serde_json::Value::Null }
}

fn server_json(server: &ServerId) -> serde_json::Value {
    json!({ "socket": server.socket.to_string_lossy(), "pid": server.process.pid.get() })
}

/// The numbers of the heart, out of the configuration.
impl Settings {
    /// Changes the loop's numbers; used on reload.
    #[must_use]
    pub fn into_input(self) -> Input {
        Input::Settings(Box::new(self))
    }
}
