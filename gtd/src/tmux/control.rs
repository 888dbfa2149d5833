//! One control connection.
//!
//! Owns the client process, the order of requests and replies, and the end of both. It must never wait for the
//! server anywhere but in its own task, and never let a reply reach another request: at the first sign of
//! confusion the connection ends and everybody who waits is told so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::TmuxError;
use super::plain::Runner;
use super::protocol::{Item, Parser};
use super::quote::CommandList;
use crate::host::leash::Leashed;

/// Requests that may wait to be written. More wait in `call`, within their deadline.
const QUEUE: usize = 256;
/// While this much is not yet taken by the pipe, no further requests are accepted.
const HIGH_WATER: usize = 256 << 10;
/// How long a client may take to leave after its input has ended.
const FAREWELL: Duration = Duration::from_millis(200);
/// Bytes read at once.
const READ: usize = 64 << 10;

/// A connection. Cheap to clone; all clones end together.
#[derive(Clone, Debug)]
pub(super) struct Control {
    requests: mpsc::Sender<Request>,
    /// Asks the task to end.
    abort: CancellationToken,
    /// Set by the task when it has ended and its process is collected.
    ended: CancellationToken,
}

/// What came back for a list of commands.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// All output, in order.
    pub(super) body: Vec<u8>,
    /// What the first command that failed said. The rest was not run.
    pub(super) error: Option<Vec<u8>>,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// The request was not sent.
    NotSent,
    /// The connection ended after it was sent: what became of it is not known.
    Lost,
    /// The deadline passed; the connection was given up. What became of it is not known.
    Late,
}

#[derive(Debug)]
struct Request {
    line: Vec<u8>,
    commands: usize,
    reply: oneshot::Sender<Result<Reply, NoReply>>,
}

/// A request that has been written and not been answered in full.
#[derive(Debug)]
struct Pending {
    left: usize,
    so_far: Reply,
    reply: oneshot::Sender<Result<Reply, NoReply>>,
}

impl Control {
    /// Attaches to a session. `hint` is notified whenever tmux says that something changed.
    ///
    /// # Errors
    /// tmux's own message, or that it did not answer in time.
    pub(super) async fn open(
        runner: &Runner,
        target: &str,
        deadline: Duration,
        hint: Arc<Notify>,
        tasks: &TaskTracker,
    ) -> Result<Self, TmuxError> {
        let mut child = runner.control(target)?;
        let (Some(stdin), Some(stdout)) = (child.0.stdin.take(), child.0.stdout.take()) else {
            child.kill().await;
            return Err(TmuxError::Refused("the control client has no pipes".to_owned()));
        };
        let mut talk = Talk::new(stdin, stdout, hint);
        match tokio::time::timeout(deadline, talk.greeting(&mut child)).await {
            Ok(Ok(())) => {}
            Ok(Err(message)) => {
                child.kill().await;
                return Err(TmuxError::from_message(&message, runner.socket()));
            }
            Err(_) => {
                child.kill().await;
                return Err(TmuxError::Unresponsive { after: deadline, what: "attaching".to_owned() });
            }
        }
        let (requests, queue) = mpsc::channel(QUEUE);
        let (abort, ended) = (CancellationToken::new(), CancellationToken::new());
        let control = Self { requests, abort: abort.clone(), ended: ended.clone() };
        // Errors that come later are of no use: the end of the stream says all.
        drop(child.0.stderr.take());
        tasks.spawn(async move {
            let why = talk.run(queue, &abort).await;
            tracing::debug!(why, "control connection ended");
            if talk.end() {
                let _ = tokio::time::timeout(FAREWELL, child.0.wait()).await;
            }
            child.kill().await;
            ended.cancel();
        });
        Ok(control)
    }

    /// Sends a list of commands and waits for its replies. After a missed deadline the connection is ended.
    pub(super) async fn call(
        &self,
        line: Vec<u8>,
        commands: usize,
        deadline: Duration,
    ) -> Result<Reply, NoReply> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            let request = Request { line, commands, reply };
            self.requests.send(request).await.map_err(|_| NoReply::NotSent)?;
            answer.await.unwrap_or(Err(NoReply::Lost))
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.abort();
                Err(NoReply::Late)
            }
        }
    }

    /// [`Self::call`] for a list that is known to be sound.
    pub(super) async fn ask(&self, list: &CommandList, deadline: Duration) -> Result<Reply, NoReply> {
        let line = list.line().map_err(|_| NoReply::NotSent)?;
        self.call(line, list.len(), deadline).await
    }

    /// Ends the connection.
    pub(super) fn abort(&self) {
        self.abort.cancel();
    }

    /// Waits until it has ended and its process is collected.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether both are handles on the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.requests.same_channel(&other.requests)
    }
}

/// The state of the conversation.
struct Talk {
    stdin: ChildStdin,
    stdout: ChildStdout,
    parser: Parser,
    items: Vec<Item>,
    input: Vec<u8>,
    output: Vec<u8>,
    pending: VecDeque<Pending>,
    /// The conversation ended with questions open.
    unanswered: bool,
    hint: Arc<Notify>,
}

impl Talk {
    fn new(stdin: ChildStdin, stdout: ChildStdout, hint: Arc<Notify>) -> Self {
        Self {
            stdin,
            stdout,
            parser: Parser::default(),
            items: Vec::new(),
            input: Vec::with_capacity(READ),
            output: Vec::new(),
            pending: VecDeque::new(),
            unanswered: false,
            hint,
        }
    }

    /// Waits for the block of the attach itself. The error is what tmux said.
    async fn greeting(&mut self, child: &mut Leashed) -> Result<(), Vec<u8>> {
        loop {
            self.input.clear();
            let read = self.stdout.read_buf(&mut self.input).await.map_err(|e| e.to_string().into_bytes())?;
            if read == 0 {
                let mut message = Vec::new();
                if let Some(stderr) = child.0.stderr.take() {
                    let _ = stderr.take(4096).read_to_end(&mut message).await;
                }
                return Err(message);
            }
            let input = std::mem::take(&mut self.input);
            let parsed = self.parser.push(&input, &mut self.items);
            self.input = input;
            parsed.map_err(|e| e.to_string().into_bytes())?;
            let mut items = std::mem::take(&mut self.items).into_iter();
            while let Some(item) = items.next() {
                match item {
                    Item::Block { ok: true, .. } => {
                        self.items = items.collect();
                        return self.dispatch().map_err(String::into_bytes);
                    }
                    Item::Block { body, .. } => return Err(body),
                    Item::Exit(reason) => return Err(reason.into_bytes()),
                    // Something changed just before: the attach itself comes later.
                    Item::Notification(_) => self.hint.notify_one(),
                }
            }
        }
    }

    /// Talks until the end and says why it came.
    async fn run(&mut self, mut queue: mpsc::Receiver<Request>, abort: &CancellationToken) -> String {
        let why = loop {
            self.input.clear();
            tokio::select! {
                biased;
                () = abort.cancelled() => break "given up".to_owned(),
                read = self.stdout.read_buf(&mut self.input) => match read {
                    Ok(0) => break "end of stream".to_owned(),
                    Ok(_) => {
                        if let Err(why) = self.take_input() {
                            break why;
                        }
                    }
                    Err(error) => break error.to_string(),
                },
                written = self.stdin.write(&self.output), if !self.output.is_empty() => match written {
                    Ok(0) => break "the client takes nothing".to_owned(),
                    Ok(count) => drop(self.output.drain(..count)),
                    Err(error) => break error.to_string(),
                },
                request = queue.recv(), if self.output.len() < HIGH_WATER => match request {
                    None => break "nobody is left to ask".to_owned(),
                    Some(request) => {
                        self.accept(request);
                        // One write for all that wait: this is what makes pipelining cheap.
                        while self.output.len() < HIGH_WATER {
                            let Ok(request) = queue.try_recv() else { break };
                            self.accept(request);
                        }
                    }
                },
            }
        };
        self.unanswered = !self.pending.is_empty();
        for waiting in self.pending.drain(..) {
            let _ = waiting.reply.send(Err(NoReply::Lost));
        }
        queue.close();
        while let Ok(request) = queue.try_recv() {
            let _ = request.reply.send(Err(NoReply::NotSent));
        }
        why
    }

    /// Closes the pipes. True when the client may be waited for: it leaves by itself, unless it is stuck with what
    /// was asked.
    fn end(self) -> bool {
        !self.unanswered
    }

    fn accept(&mut self, request: Request) {
        // The caller has gone: nobody wants this any more. An empty line would detach us.
        if request.reply.is_closed() || request.line.is_empty() {
            return;
        }
        self.output.extend_from_slice(&request.line);
        self.output.push(b'\n');
        let pending = Pending { left: request.commands, so_far: Reply::default(), reply: request.reply };
        self.pending.push_back(pending);
    }

    fn take_input(&mut self) -> Result<(), String> {
        let input = std::mem::take(&mut self.input);
        let parsed = self.parser.push(&input, &mut self.items);
        self.input = input;
        // What was complete before the error is still good.
        self.dispatch()?;
        parsed.map_err(|e| e.to_string())
    }

    fn dispatch(&mut self) -> Result<(), String> {
        for item in std::mem::take(&mut self.items) {
            match item {
                // The block of a hook or the like.
                Item::Block { ours: false, .. } => {}
                Item::Block { ours: true, ok, body } => self.answer(ok, body)?,
                Item::Exit(reason) => return Err(format!("tmux said exit: {reason}")),
                Item::Notification(word) => {
                    const QUIET: [&str; 6] =
                        ["output", "extended-output", "pause", "continue", "message", "session-changed"];
                    if !QUIET.contains(&word.as_str()) {
                        self.hint.notify_one();
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives a block to the oldest request.
    fn answer(&mut self, ok: bool, body: Vec<u8>) -> Result<(), String> {
        let Some(oldest) = self.pending.front_mut() else {
            return Err("a reply that nobody waits for".to_owned());
        };
        oldest.left = oldest.left.saturating_sub(1);
        if ok {
            oldest.so_far.body.extend(body);
        } else {
            oldest.so_far.error = Some(body);
            oldest.left = 0;
        }
        if oldest.left == 0
            && let Some(done) = self.pending.pop_front()
        {
            let _ = done.reply.send(Ok(done.so_far));
        }
        Ok(())
    }
}
