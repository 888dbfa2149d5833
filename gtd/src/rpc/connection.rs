//! One client: reading its lines, running them side by side, writing their answers.
//!
//! One task owns the socket. A request is polled once where it was read, and gets a task of its own only
//! when it has to wait; that task runs on when the client leaves, so a change that was begun is never cut in
//! two. Nothing here waits for one request before it looks at the next, and nothing waits for a client that
//! does not read longer than the write timeout.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::ErrorKind as Io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::DropGuard;

use super::dialect::{self, Dialect};
use super::framing::{Frame, Framer};
use super::line::{Line, RawId};
use super::output::Output;
use super::refusal::refuse;
use super::reply;
use super::server::Phase;
use super::service::{Answer, Caller, Service};

/// What the tasks of a connection tell it.
pub(super) enum Message {
    /// A request that had to wait is done.
    Done(u64, Answer),
    /// A frame of a subscription.
    Frame(Box<RawValue>),
    /// A subscription has no more frames.
    StreamEnded,
}

/// Messages under way to the connection's task.
const MESSAGES: usize = 64;

/// Lines taken, and messages handled, before others are given a turn.
const TURN: usize = 64;

/// How long a connection takes lines before others are given a turn, whatever their number: what is answered
/// where it is read holds up whoever shares the thread.
const SLICE: Duration = Duration::from_millis(2);

/// Bytes read at once.
const READ: usize = 16 * 1024;

/// How often a connection that is not read from is asked whether its client is still there. The kernel
/// would tell readers at once; a half-closed socket is for ever readable, so waiting for that would spin.
const LOOK: Duration = Duration::from_millis(500);

/// A connection closes no sooner than this after the server began to shut down: what a client had sent
/// before it could know is still answered.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client has all it was owed, and has closed.
    Complete,
    /// The client is gone.
    Gone,
    /// The client did not read.
    Slow,
    /// The server shuts down.
    ShutDown,
}

/// Serves one admitted client to its end.
pub(super) async fn serve(
    stream: UnixStream,
    service: Arc<Service>,
    caller: Caller,
    phase: watch::Receiver<Phase>,
) {
    let peer = caller.peer;
    // However this ends, what waits only for this client ends with it.
    let _left = caller.leaving();
    let mut connection = Connection::new(stream, service, caller, phase);
    let end = match connection.sniff().await {
        Ok(Dialect::Lines) => connection.run().await,
        Ok(Dialect::Http) => {
            refuse(connection.stream, dialect::decline_http()).await;
            End::Complete
        }
        Err(end) => end,
    };
    match end {
        End::Slow => {
            tracing::warn!(connection = %peer.connection_id, %peer, "client cut: it did not read its replies")
        }
        end => tracing::debug!(connection = %peer.connection_id, %peer, ?end, "connection ended"),
    }
}

/// The replies that a line under way is owed.
struct Owed {
    ids: Vec<RawId>,
    batch: bool,
}

struct Connection {
    stream: UnixStream,
    service: Arc<Service>,
    caller: Arc<Caller>,
    framer: Framer,
    output: Output,
    /// Whoever waits until what is in `output` was written.
    unsent: Vec<DropGuard>,
    /// Lines that are under way.
    owed: HashMap<u64, Owed>,
    next_key: u64,
    /// Subscriptions that have frames to come.
    streams: usize,
    /// The client has closed its writing side.
    half_closed: bool,
    sender: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
    phase: watch::Receiver<Phase>,
    /// Once the server shuts down: when this connection may end, and when it must.
    closing: Option<(Instant, Instant)>,
    look: Interval,
}

impl Connection {
    fn new(stream: UnixStream, service: Arc<Service>, caller: Caller, phase: watch::Receiver<Phase>) -> Self {
        let (sender, messages) = mpsc::channel(MESSAGES);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            stream,
            framer: Framer::new(service.limits.request_bytes),
            output: Output::new(service.limits.write_timeout),
            unsent: Vec::new(),
            service,
            caller: Arc::new(caller),
            owed: HashMap::new(),
            next_key: 0,
            streams: 0,
            half_closed: false,
            sender,
            messages,
            phase,
            closing: None,
            look,
        }
    }

    /// Reads until the client's language is clear. What was read stays for the lines.
    async fn sniff(&mut self) -> Result<Dialect, End> {
        loop {
            if let Some(dialect) = dialect::sniff(self.framer.pending()) {
                return Ok(dialect);
            }
            if self.half_closed {
                return Ok(Dialect::Lines);
            }
            tokio::select! {
                ready = self.stream.readable() => {
                    ready.map_err(|_| End::Gone)?;
                    self.read()?;
                }
                () = shut_down(&mut self.phase) => return Ok(Dialect::Lines),
            }
        }
    }

    async fn run(&mut self) -> End {
        loop {
            let more = self.take_lines().await;
            if let Err(end) = self.write() {
                return end;
            }
            if let Some(end) = self.ended(more) {
                return end;
            }
            let reading = !self.half_closed && !more && !self.blocked();
            let deadline = self.output.deadline();
            let closing = self.closing;
            tokio::select! {
                ready = self.stream.readable(), if reading => {
                    if ready.is_err() {
                        return End::Gone;
                    }
                    if let Err(end) = self.read() {
                        return end;
                    }
                }
                ready = self.stream.writable(), if deadline.is_some() => {
                    if ready.is_err() {
                        return End::Gone;
                    }
                }
                Some(message) = self.messages.recv(), if self.has_room() => self.handle(message),
                () = tokio::task::yield_now(), if more => {}
                _ = self.look.tick(), if !reading && !more => {
                    if hung_up(&self.stream) {
                        return End::Gone;
                    }
                }
                () = until(deadline), if deadline.is_some() => return End::Slow,
                () = shut_down(&mut self.phase), if closing.is_none() => {
                    let now = Instant::now();
                    self.closing = Some((now + LAST_WORDS, now + self.service.limits.drain));
                }
                // Woken at the first instant when it may end, then when it must; in between every answer
                // wakes it.
                () = until(closing.map(|(first, last)| if Instant::now() < first { first } else { last })),
                    if closing.is_some() => {}
            }
        }
    }

    /// Starts the lines that were read and may run; true when there are more that may.
    async fn take_lines(&mut self) -> bool {
        let began = Instant::now();
        for _ in 0..TURN {
            if self.blocked() {
                return false;
            }
            if began.elapsed() >= SLICE {
                return true;
            }
            let frame = match self.framer.next() {
                None if self.half_closed => self.framer.finish(),
                frame => frame,
            };
            let line = match frame {
                None => return false,
                Some(Frame::Line(bytes)) => Line::read(bytes, self.service.limits.batch),
                Some(Frame::TooLong) => {
                    let error = reply::request_too_large(self.service.limits.request_bytes);
                    self.say(&reply::error(&RawId::null(), error));
                    continue;
                }
            };
            self.start(line).await;
        }
        true
    }

    /// Runs a line here as far as it goes without waiting, and in a task of its own from there.
    async fn start(&mut self, line: Line) {
        let owed = Owed { ids: line.ids(), batch: matches!(line, Line::Batch(_)) };
        let mut call = Box::pin(Arc::clone(&self.service).answer(line, Arc::clone(&self.caller)));
        match poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            Poll::Ready(answer) => self.deliver(answer),
            Poll::Pending => {
                let key = self.next_key;
                self.next_key += 1;
                self.owed.insert(key, owed);
                let sender = self.sender.clone();
                tokio::spawn(async move {
                    let answer = call.await;
                    let _ = sender.send(Message::Done(key, answer)).await;
                });
            }
        }
    }

    /// Handles a message, and those that wait behind it.
    fn handle(&mut self, first: Message) {
        self.handle_one(first);
        for _ in 0..TURN {
            if !self.has_room() {
                return;
            }
            let Ok(message) = self.messages.try_recv() else { return };
            self.handle_one(message);
        }
    }

    fn handle_one(&mut self, message: Message) {
        match message {
            Message::Done(key, answer) => {
                self.owed.remove(&key);
                self.deliver(answer);
            }
            Message::Frame(frame) => self.say(frame.get().as_bytes()),
            Message::StreamEnded => self.streams = self.streams.saturating_sub(1),
        }
    }

    fn deliver(&mut self, answer: Answer) {
        if let Some(reply) = answer.reply {
            self.say(&reply);
        }
        self.unsent.extend(answer.unsent);
        if let Some(stream) = answer.stream {
            self.streams += 1;
            tokio::spawn(stream.carry(self.sender.clone()));
        }
    }

    fn say(&mut self, line: &[u8]) {
        self.output.push(line, Instant::now());
    }

    /// As many requests run as may, or the client has to read first.
    fn blocked(&self) -> bool {
        self.owed.len() >= self.service.limits.in_flight || !self.has_room()
    }

    fn has_room(&self) -> bool {
        self.output.len() <= self.service.limits.buffered_bytes
    }

    fn read(&mut self) -> Result<(), End> {
        let buffer = self.framer.buffer();
        buffer.reserve(READ);
        match self.stream.try_read_buf(buffer) {
            Ok(0) => {
                self.half_closed = true;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), Io::WouldBlock | Io::Interrupted) => Ok(()),
            Err(_) => Err(End::Gone),
        }
    }

    /// Writes what the client takes without waiting.
    fn write(&mut self) -> Result<(), End> {
        while !self.output.is_empty() {
            match self.stream.try_write(self.output.piece()) {
                Ok(count) => self.output.took(count, Instant::now()),
                Err(error) if matches!(error.kind(), Io::WouldBlock | Io::Interrupted) => return Ok(()),
                Err(_) => return Err(End::Gone),
            }
        }
        self.unsent.clear();
        Ok(())
    }

    /// Whether there is nothing left to do.
    fn ended(&mut self, more: bool) -> Option<End> {
        let nothing_owed = !more && self.owed.is_empty() && self.output.is_empty();
        if let Some((first, last)) = self.closing {
            let now = Instant::now();
            if now >= last {
                self.last_words();
                return Some(End::ShutDown);
            }
            // Subscriptions do not hold up the end.
            return (nothing_owed && now >= first).then_some(End::ShutDown);
        }
        (self.half_closed && nothing_owed && self.streams == 0).then_some(End::Complete)
    }

    /// Tells requests that did not end in time so, as far as the client takes it.
    fn last_words(&mut self) {
        let owed: Vec<Owed> = self.owed.drain().map(|(_, owed)| owed).collect();
        for Owed { ids, batch } in owed {
            let error =
                reply::shutting_down().hint("what was begun is recorded; ask again when the daemon is back");
            let replies: Vec<Vec<u8>> = ids.iter().map(|id| reply::error(id, error.clone())).collect();
            match replies.first() {
                Some(_) if batch => self.say(&reply::batch(&replies)),
                Some(only) => self.say(only),
                None => {}
            }
        }
        let _ = self.write();
    }
}

/// Waits until the server shuts down, or is no more.
async fn shut_down(phase: &mut watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
}

/// Waits for an instant; for ever without one.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Whether the client has closed both directions. An error of the question is no answer: then the next write
/// will tell.
fn hung_up(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let answered = poll(&mut fds, Some(&now));
    answered.is_ok() && fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}
