//! The shim's loop: kernel events in, plan, deeds out.
//!
//! Owns the agent from its fork to its record. One thread, one `ppoll`; it sleeps while nothing happens.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal as Received;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};

use super::frost::Frost;
use super::plan::{Action, Event, Plan};
use super::start::Started;
use super::tree::Tree;
use super::{boot_us, refuse, write};
use crate::process::id::{Pid, ProcessId};
use crate::process::launch::Launch;
use crate::process::observe::identify;
use crate::process::pidfd::Handle;
use crate::process::procfs;
use crate::process::record::{By, ExecError, Phase, PidStart, Record, Usage};

/// How often the rest of a tree is looked at when no signal can tell of its end.
const TICK: Duration = Duration::from_millis(5);
/// An agent that stops itself is continued at most this often, or one in the background that reads the
/// terminal would keep us busy.
const RESUME_PAUSE: Duration = Duration::from_millis(100);
/// A tmux server that closes its terminals because it is ending is gone this soon after.
const SERVER_LINGERS: Duration = Duration::from_millis(100);
/// So many looks in a row must find nothing: one alone may miss a process that forks and ends.
const EMPTY_LOOKS: u32 = 2;

/// Our parent, the tmux server, as it was when we began.
pub(super) struct Parent {
    pid: Option<rustix::process::Pid>,
    handle: Option<Handle>,
}

impl Parent {
    pub(super) fn now() -> Self {
        let pid = rustix::process::getppid();
        let known = pid.and_then(|pid| Pid::new(pid.as_raw_nonzero().get()));
        let handle = known.and_then(|pid| identify(pid).alive()).and_then(|id| Handle::open(&id).ok());
        Self { pid, handle }
    }

    /// Whether it has ended or is about to: the kernel closes a process's files, and with them our
    /// terminal, before it gives us a new parent.
    fn is_ending(&self) -> bool {
        rustix::process::getppid() != self.pid
            || self.handle.as_ref().is_some_and(|handle| {
                handle.has_exited().unwrap_or(false)
                    || procfs::stat(handle.stat.pid)
                        .is_ok_and(|stat| stat.start == handle.stat.start && stat.is_exiting())
            })
    }
}

/// A shim at work.
pub(super) struct Shim<'a> {
    pub(super) launch: &'a Launch,
    pub(super) record: Record,
    pub(super) plan: Plan,
    pub(super) tree: Tree,
    pub(super) frost: Frost,
    signals: SignalFd,
    parent: Parent,
    agent: Pid,
    /// While exec is under way.
    report: Option<OwnedFd>,
    exec_error: Option<ExecError>,
    /// While the terminal is there.
    terminal: bool,
    hung_up: Option<Instant>,
    resume_at: Option<Instant>,
    resumed: Option<Instant>,
    empty_looks: u32,
    finished: bool,
}

impl<'a> Shim<'a> {
    pub(super) fn new(
        launch: &'a Launch,
        mut record: Record,
        mut tree: Tree,
        signals: SignalFd,
        parent: Parent,
        terminal: bool,
        started: Started,
    ) -> Self {
        // Not collected yet, so the number is its own, even if it has ended already.
        if let Ok(stat) = procfs::stat(started.pid) {
            let id = ProcessId { boot: record.boot_id.clone(), pid: started.pid, start: stat.start };
            record.agent = Some(PidStart::from(&id));
            tree.set_agent(id);
        }
        Self {
            launch,
            record,
            plan: Plan::new(launch.grace),
            tree,
            frost: Frost::default(),
            signals,
            parent,
            agent: started.pid,
            report: Some(started.report),
            exec_error: None,
            terminal,
            hung_up: None,
            resume_at: None,
            resumed: None,
            empty_looks: 0,
            finished: false,
        }
    }

    /// Until everything is over; returns the exit code.
    pub(super) fn watch(mut self) -> u8 {
        while !self.finished {
            self.wait();
            self.receive();
            self.read_report();
            let childless = self.collect();
            self.resume();
            self.event(Event::Tick);
            self.tend_frost();
            if self.plan.agent_ended() && self.is_empty(childless) {
                self.event(Event::TreeEmpty);
            }
        }
        if let Some(error) = self.exec_error.take() {
            return refuse(self.launch, self.record, error);
        }
        self.finish()
    }

    /// Sleeps until something happens or is due.
    fn wait(&mut self) {
        let now = Instant::now();
        let tick = self.plan.agent_ended() || self.plan.forcing();
        let due = [self.plan.deadline(), self.resume_at, self.frost.due(), tick.then(|| now + TICK)];
        let timeout = due.into_iter().flatten().min().map(|at| timespec(at.saturating_duration_since(now)));
        let stdin = rustix::stdio::stdin();
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(report) = &self.report {
            fds.push(PollFd::new(report, PollFlags::IN));
        }
        if self.terminal {
            // Only the hang-up, which comes unasked: what is typed is the agent's to read.
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::empty()));
        }
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return;
        }
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let hung_up = self.terminal && fds.last().is_some_and(|fd| fd.revents().intersects(gone));
        drop(fds);
        if hung_up {
            self.terminal_gone();
        }
    }

    /// Takes in the signals that came.
    fn receive(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Received::try_from(n).ok());
            match signal {
                Some(Received::SIGTERM) => self.event(Event::Term),
                Some(Received::SIGQUIT) => self.event(Event::Quit),
                Some(Received::SIGHUP) => self.terminal_gone(),
                Some(Received::SIGUSR1) => self.event(Event::Freeze),
                Some(Received::SIGUSR2) => self.event(Event::Thaw),
                // SIGCHLD is why we collect after each sleep; the others are not for us.
                _ => {}
            }
        }
    }

    fn terminal_gone(&mut self) {
        // It stays hung up: polled on, it would keep us awake.
        self.terminal = false;
        self.hung_up.get_or_insert_with(Instant::now);
        self.event(Event::TerminalGone);
    }

    fn event(&mut self, event: Event) {
        let Some(action) = self.plan.step(event, Instant::now()) else { return };
        match action {
            Action::Send(signals) => self.tree.ask(signals),
            Action::Freeze => {
                self.resume_at = None;
                self.freeze();
            }
            Action::Thaw => self.thaw(),
            Action::Kill => self.tree.kill(),
            Action::Finish => self.finished = true,
        }
    }

    /// Learns whether exec succeeded.
    fn read_report(&mut self) {
        let Some(report) = &self.report else { return };
        let mut errno = [0; size_of::<i32>()];
        match rustix::io::read(report, &mut errno) {
            Ok(0) => {
                self.record.phase = Phase::Running;
                write(self.launch, &self.record);
            }
            Ok(_) => {
                self.exec_error = Some(ExecError { op: "exec".into(), errno: i32::from_ne_bytes(errno) });
            }
            // Exec is still under way.
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(errno) => {
                self.exec_error = Some(ExecError { op: "read".into(), errno: errno.raw_os_error() });
            }
        }
        self.report = None;
    }

    /// Collects every child that ended or stopped; true when there are none left at all.
    fn collect(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == self.agent.get() => {
                    self.agent_changed(status);
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return false,
                Err(errno) => return errno == Errno::CHILD,
            }
        }
    }

    fn agent_changed(&mut self, status: WaitStatus) {
        if status.stopped() {
            let stopped = status.stopping_signal().and_then(|n| Received::try_from(n).ok());
            // tmux continues only the pane's own process, so nobody else would. A SIGSTOP is somebody's wish.
            let by_itself = [Received::SIGTSTP, Received::SIGTTIN, Received::SIGTTOU];
            if stopped.is_some_and(|signal| by_itself.contains(&signal)) && !self.plan.frozen() {
                let now = Instant::now();
                let earliest = self.resumed.map_or(now, |at| at + RESUME_PAUSE);
                self.resume_at = Some(earliest.max(now));
            }
            return;
        }
        // The hang-up that an agent noticed was told to us first; it may have come since we last looked.
        self.receive();
        // Written before the end of the one that wrote it, so it is there if it ever will be.
        self.read_report();
        self.record.code = status.exit_status();
        self.record.signal = status.terminating_signal();
        self.record.ended_at = Some(Timestamp::now());
        self.record.ended_boot_us = boot_us();
        self.record.usage = usage();
        self.record.by = self.by();
        self.record.frozen.clear();
        self.resume_at = None;
        // Alone, it leaves nothing to wait for, and the last record follows at once.
        let alone = matches!(rustix::process::wait(WaitOptions::NOHANG), Err(Errno::CHILD));
        if !alone && self.exec_error.is_none() {
            self.record.phase = Phase::Ended;
            write(self.launch, &self.record);
        }
        self.event(Event::AgentEnded);
    }

    /// Continues an agent that stopped itself, in the foreground.
    fn resume(&mut self) {
        let now = Instant::now();
        if self.plan.agent_ended() || self.plan.frozen() || self.resume_at.is_none_or(|at| now < at) {
            return;
        }
        self.resume_at = None;
        self.resumed = Some(now);
        if self.terminal
            && let Some(group) = self.agent.rustix()
        {
            let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group);
        }
        self.tree.resume_group(self.agent);
    }

    /// Whether nothing is left below us but what is spared.
    fn is_empty(&mut self, childless: bool) -> bool {
        if childless {
            return true;
        }
        let view = self.tree.look();
        self.empty_looks = if view.complete && view.ours.is_empty() { self.empty_looks + 1 } else { 0 };
        self.empty_looks >= EMPTY_LOOKS
    }

    /// What ended the agent, as far as it can be told now.
    fn by(&self) -> By {
        match self.plan.by() {
            By::PaneClosed if self.parent.is_ending() => By::ServerGone,
            by => by,
        }
    }

    /// Writes the last record; returns the exit code.
    fn finish(mut self) -> u8 {
        if let (By::PaneClosed, Some(at)) = (self.record.by, self.hung_up) {
            self.record.by = self.wait_for_server(at + SERVER_LINGERS);
        }
        let view = self.tree.look();
        self.record.survivors = Tree::list(&view.ours);
        self.record.spared = Tree::list(&view.spared);
        self.record.phase = Phase::Gone;
        self.record.usage = usage();
        write(self.launch, &self.record);
        let code = self.record.signal.map_or(self.record.code.unwrap_or(0), |signal| 128 + signal);
        u8::try_from(code & 0xff).unwrap_or(u8::MAX)
    }

    /// A server that ends in order closes the terminals one by one before it goes.
    fn wait_for_server(&self, until: Instant) -> By {
        while !self.parent.is_ending() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return By::PaneClosed;
            }
            let mut fds: Vec<_> = self.parent.handle.iter().map(|h| PollFd::new(h, PollFlags::IN)).collect();
            let _ = poll(&mut fds, Some(&timespec(left.min(TICK))));
        }
        By::ServerGone
    }
}

/// What all collected children used, the agent among them.
fn usage() -> Usage {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let millis = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1000 + time.tv_usec() / 1000).unwrap_or_default()
    };
    Usage {
        user_ms: millis(usage.user_time()),
        system_ms: millis(usage.system_time()),
        // The kernel counts kibibytes.
        max_rss_bytes: u64::try_from(usage.max_rss()).unwrap_or_default().saturating_mul(1024),
    }
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}
