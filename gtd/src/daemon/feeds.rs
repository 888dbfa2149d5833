//! What goes out of the daemon by itself: the lines for the incumbent's tools, and the notification programs.
//!
//! Owns starting them, and what is shown of their troubles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gtd_proto::Address;
use gtd_proto::town::{Alert, Severity};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::supervised::{Rest, show_death, supervised};
use crate::config::Live;
use crate::feed::curated::{self, Files};
use crate::feed::hooks::{self, Outcome, Surroundings};
use crate::feed::lines::{self, Bounds};
use crate::feed::{Bus, Cursor};
use crate::ledger::Loaded;
use crate::mail::{self, Mailbox, Office, Post};
use crate::supervisor::Handle;
use crate::supervisor::nudges::{Nudges, Sending};
use crate::supervisor::requests::{Ask, PERSON, Request, Wait};
use crate::town::Layout;

/// Key of the alert about a file that cannot be written.
const ALERT: &str = "events_file";
/// Key of the alert about a feed that cannot be made.
const FEED: &str = "feed_file";
/// Outcomes of notification programs that may wait to be shown.
const OUTCOMES: usize = 64;

/// How far the readers of the stream were when the ledger was opened.
#[derive(Default)]
pub(super) struct Cursors {
    lines: Option<Value>,
    hooks: BTreeMap<String, Value>,
    mail: Option<Value>,
}

impl Cursors {
    pub(super) fn of(state: &Loaded) -> Self {
        let hooks = state.facts.iter().filter(|(key, _)| key.starts_with(hooks::CURSORS));
        Self {
            lines: state.facts.get(lines::CURSOR).cloned(),
            mail: state.facts.get(mail::CURSOR).cloned(),
            hooks: hooks.map(|(key, fact)| (key.clone(), fact.clone())).collect(),
        }
    }
}

/// Starts everything; it ends when `stop` is cancelled, which the tracker tells.
pub(super) async fn start(
    post: PostOf,
    bus: &Bus,
    live: &Live,
    layout: &Layout,
    cursors: Cursors,
    stop: &CancellationToken,
) -> TaskTracker {
    let tasks = TaskTracker::new();
    let handle = &post.handle.clone();
    let ledger = handle.ledger().clone();
    let head = bus.head();
    let cursor = Cursor::open(ledger.clone(), lines::CURSOR.to_owned(), cursors.lines.as_ref(), head).await;
    let teller = handle.clone();
    let trouble = move |why| show_trouble(teller.clone(), why);
    tasks.spawn(lines::keep(
        bus.clone(),
        cursor,
        ledger.stream_id(),
        layout.events_jsonl(),
        Bounds::default(),
        stop.clone(),
        trouble,
    ));
    let files = Files { events: layout.events_jsonl(), feed: layout.feed_jsonl(), bounds: Bounds::default() };
    let (keeper, shower) = (handle.clone(), handle.clone());
    let raised = Arc::new(AtomicBool::new(false));
    let curated = move |stop| {
        let (teller, raised) = (keeper.clone(), Arc::clone(&raised));
        let trouble = move |why| show_feed(teller.clone(), Arc::clone(&raised), why);
        curated::keep(keeper.ledger().clone(), files.clone(), stop, trouble)
    };
    let died = move |why| show_death(shower.clone(), "the feed", why);
    tasks.spawn(supervised(curated, died, Rest::default(), stop.clone()));
    let ours = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    let around = Surroundings::new(ours, layout.root());
    let (outcomes, heard) = mpsc::channel(OUTCOMES);
    tasks.spawn(hooks::keep(
        bus.clone(),
        ledger,
        live.clone(),
        around,
        cursors.hooks,
        outcomes,
        stop.clone(),
    ));
    tasks.spawn(mail::deliver(handle.ledger().clone(), bus.clone(), cursors.mail, post, stop.clone()));
    tasks.spawn(show(handle.clone(), heard));
    tasks.close();
    tasks
}

/// What the daemon's own mail needs of the supervisor.
pub(super) struct PostOf {
    pub(super) handle: Handle,
    pub(super) nudges: Nudges,
    pub(super) office: Office,
}

impl Post for PostOf {
    async fn wake(&self, agent: Address, from: String, id: String) {
        let by = if from == gtd_proto::mail::PERSON { PERSON.to_owned() } else { from };
        let ask = Ask { by, reason: Some(format!("mail {id} is there for it")), wait: Wait::No };
        let asked = self.handle.change(&agent, Request::Wake { agent: agent.clone(), ask }).await;
        if let Err(error) = asked {
            tracing::debug!(%agent, %error, "nobody was woken by mail");
        }
    }

    fn via(&self, whose: &str) -> Option<String> {
        Mailbox::of(whose).and_then(|whose| self.office.via(&whose))
    }

    async fn told(&self, agent: Address, from: String, id: String, subject: String) {
        // One that never says what it does may be at anything: nobody types into that because of a mail.
        let reads = |one: gtd_proto::Agent| one.running && one.activity != gtd_proto::Activity::Unknown;
        if matches!(agent, Address::Crew(..)) || !self.handle.view().agent(&agent).is_some_and(reads) {
            return;
        }
        let sending = Sending {
            message: format!("You have mail from {from}: {subject} (gtctl mail read {id})"),
            agent,
            // Of several that wait it needs one.
            key: Some("mail".to_owned()),
            expires: None,
            instance: None,
            sender: gtd_proto::mail::DAEMON.to_owned(),
            peer: None,
        };
        if let Err(error) = self.nudges.send(sending).await {
            tracing::debug!(%id, error = %error.message, "nobody was told of a mail");
        }
    }

    async fn undelivered(&self, whose: &str, why: Option<String>) {
        let key = format!("mail:{whose}");
        let Some(why) = why else { return self.handle.settle(&key).await };
        let message = format!("the daemon could not write to {whose}: {why}");
        let hint = Some(format!("gtctl mail inbox {whose}"));
        let since = self.handle.wall();
        self.handle.raise(Alert { key, since, severity: Severity::Warning, message, hint }).await;
    }

    async fn unkept(&self, why: Option<String>) {
        let key = "mail".to_owned();
        let Some(why) = why else { return self.handle.settle(&key).await };
        let message = format!("the daemon's mail waits until the ledger can be written: {why}");
        let hint = Some("df -h; gtctl daemon status".to_owned());
        let since = self.handle.wall();
        self.handle.raise(Alert { key, since, severity: Severity::Warning, message, hint }).await;
    }
}

async fn show_trouble(handle: Handle, why: Option<String>) {
    let Some(message) = why else { return handle.settle(ALERT).await };
    tracing::warn!("{message}");
    let hint = Some("make it writable; nothing is lost meanwhile".to_owned());
    let (key, since) = (ALERT.to_owned(), handle.wall());
    handle.raise(Alert { key, since, severity: Severity::Warning, message, hint }).await;
}

/// All is well with each look: only the edges are shown.
async fn show_feed(handle: Handle, raised: Arc<AtomicBool>, why: Option<String>) {
    if !raised.swap(why.is_some(), Ordering::AcqRel) && why.is_none() {
        return;
    }
    let Some(message) = why else { return handle.settle(FEED).await };
    tracing::warn!("{message}");
    let hint = Some("make it usable; the feed goes on where it stopped".to_owned());
    let (key, since) = (FEED.to_owned(), handle.wall());
    handle.raise(Alert { key, since, severity: Severity::Warning, message, hint }).await;
}

/// Shows which programs failed at their last turn.
async fn show(handle: Handle, mut outcomes: mpsc::Receiver<Outcome>) {
    while let Some(Outcome { key, program, failed }) = outcomes.recv().await {
        match failed {
            Some(why) => {
                let message = format!("the notification program {program:?} failed: {why}");
                let hint = Some("look at [[notify]] in settings/gtd.toml; gtctl logs".to_owned());
                let since = handle.wall();
                handle.raise(Alert { key, since, severity: Severity::Warning, message, hint }).await;
            }
            None => handle.settle(&key).await,
        }
    }
}
