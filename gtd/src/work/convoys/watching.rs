//! When a convoy closes.
//!
//! What is closed is read from the stores, never from an event: events, changes of a store's files and the start only
//! say that it is time to look. So a close that happened while nobody looked is found as well, and one that a store
//! cannot confirm at the moment is left until it can. Of the built-in store the items lie beside the convoys; of
//! `bd` one query tells what has changed, for all convoys together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::mail::{DAEMON, PERSON};
use gtd_proto::{Address, Timestamp, WorkId};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Convoys;
use crate::feed::Reader;
use crate::ledger::{ConvoyRow, ConvoyWrite, LedgerError, NewEvent, NewMail, TrackedRow, Write};
use crate::work::store::{Store, WorkStore as _};

/// At least so far apart are two looks at a store that others change. Doubled while nothing of ours changes there.
const APART: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Pauses before a store that did not answer is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often stores are looked at without any sign: one query each, where a convoy has work in one.
const RECONCILE: Duration = Duration::from_secs(1_800);
/// So much earlier changes are asked for as well: stores date them themselves, in whole seconds.
const SLACK: i64 = 10;
/// The same at the start and in between, in case the clock was set.
const DAY: i64 = 24 * 3_600;
/// How soon a ledger that cannot be read is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Longest list of work in a mail; the rest is a number.
const LISTED: usize = 50;

/// What is known of looking at one store.
#[derive(Debug, Clone)]
struct Looks {
    /// Before this it is not asked.
    after: Instant,
    /// Somebody may have changed something there.
    due: bool,
    /// Ask for all of a day.
    wide: bool,
    /// Looks in a row that failed.
    failures: u32,
    /// Looks in a row after which nothing was new.
    quiet: u32,
    reconcile: Instant,
}

impl Looks {
    fn new(now: Instant) -> Self {
        Self { after: now, due: true, wide: true, failures: 0, quiet: 0, reconcile: now + RECONCILE }
    }

    /// When it is to be asked next.
    fn next(&self) -> Instant {
        if self.due { self.after } else { self.reconcile }
    }

    fn answered(&mut self, now: Instant, news: bool) {
        if self.wide {
            self.reconcile = now + RECONCILE;
        }
        (self.due, self.wide, self.failures) = (false, false, 0);
        self.quiet = if news { 0 } else { self.quiet.saturating_add(1) };
        self.after = now + doubled(APART, self.quiet);
    }

    fn failed(&mut self, now: Instant) {
        self.due = true;
        self.after = now + doubled(PAUSES, self.failures);
        self.failures = self.failures.saturating_add(1);
    }
}

/// The first pause, doubled so many times, up to the longest.
fn doubled((first, most): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

/// Closes convoys until it is cancelled.
pub async fn watch(convoys: Arc<Convoys>, stop: CancellationToken) {
    stop.run_until_cancelled(close(&convoys)).await;
}

async fn close(convoys: &Convoys) {
    let kinds = vec![kind::WORK_CLOSED.to_owned(), kind::WORK_HOOKED.to_owned()];
    let mut reader = Reader::new(convoys.bus.clone(), kinds, convoys.bus.head());
    let mut looks: BTreeMap<String, Looks> = BTreeMap::new();
    loop {
        let next = match convoys.pass(&mut looks).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "convoys cannot be looked after at the moment");
                Some(Instant::now() + AGAIN)
            }
        };
        let far = Instant::now() + RECONCILE;
        tokio::select! {
            () = convoys.changed.notified() => {}
            () = convoys.desk.stirred.notified() => looks.values_mut().for_each(|looks| looks.due = true),
            () = tokio::time::sleep_until(next.unwrap_or(far)) => {}
            event = reader.next() => {
                // Work of the built-in store is looked at in any case.
                if event.data.get("store").is_some_and(|store| store == "bd") {
                    for looks in looks.values_mut() {
                        (looks.due, looks.quiet) = (true, 0);
                    }
                }
            }
        }
    }
}

impl Convoys {
    /// One look at everything that is due. The answer is when something is due next.
    async fn pass(&self, looks: &mut BTreeMap<String, Looks>) -> Result<Option<Instant>, LedgerError> {
        if self.ledger().info().in_memory {
            return Ok(Some(Instant::now() + AGAIN));
        }
        if self.ledger().convoy_work_differs().await? {
            self.ledger().commit(vec![Write::Convoy(ConvoyWrite::TakeOver)]).await?;
        }
        let elsewhere = by_store(self.ledger().convoy_work_elsewhere().await?);
        looks.retain(|key, _| elsewhere.contains_key(key));
        self.silent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|key, _| elsewhere.contains_key(key));
        for (key, rows) in &elsewhere {
            let now = Instant::now();
            let look = looks.entry(key.clone()).or_insert_with(|| Looks::new(now));
            if look.reconcile <= now {
                (look.due, look.wide) = (true, true);
            }
            if look.due && look.after <= now {
                self.look(key, rows, look).await?;
            }
        }
        let over = self.ledger().convoys_over().await?;
        for (row, tracked) in over {
            self.end(row, tracked, looks).await?;
        }
        Ok(looks.values().map(Looks::next).min())
    }

    /// Takes over what has changed in a store. True when it answered.
    async fn look(&self, key: &str, rows: &[TrackedRow], look: &mut Looks) -> Result<bool, LedgerError> {
        let began = self.handle.wall();
        let store = match self.store_of(key, rows) {
            Ok(store) => store,
            Err(why) => {
                self.unanswered(key, why, look);
                return Ok(false);
            }
        };
        let slack = jiff::SignedDuration::from_secs(if look.wide { DAY } else { SLACK });
        let since = rows.iter().map(|row| row.seen_at).min().unwrap_or(began).min(began);
        let since = since.checked_sub(slack).unwrap_or(Timestamp::MIN);
        let changes = match store.changes(since).await {
            Ok(changes) => changes,
            Err(unknown) => {
                self.unanswered(key, unknown.to_string(), look);
                return Ok(false);
            }
        };
        let statuses: BTreeMap<WorkId, String> =
            changes.into_iter().map(|item| (item.id, item.status)).collect();
        let _changing = self.changing.lock().await;
        // Others may have been added while it was asked.
        let rows = by_store(self.ledger().convoy_work_elsewhere().await?).remove(key).unwrap_or_default();
        let changed = rows.into_iter().filter_map(|row| {
            let status = statuses.get(&row.work).filter(|status| **status != row.status)?.clone();
            Some(Write::Convoy(ConvoyWrite::Track(TrackedRow { status, ..row })))
        });
        let mut writes: Vec<Write> = changed.collect();
        let news = !writes.is_empty();
        writes.push(Write::Convoy(ConvoyWrite::Seen { store: key.to_owned(), since, at: began }));
        self.ledger().commit(writes).await?;
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        look.answered(Instant::now(), news);
        Ok(true)
    }

    /// The store of tracked work, when it is still the one that had it.
    fn store_of(&self, key: &str, rows: &[TrackedRow]) -> Result<Store, String> {
        let Some(row) = rows.first() else { return Err("nothing is tracked in it".to_owned()) };
        let store = self.desk.store_of(&row.work).map_err(|unknown| unknown.to_string())?;
        if store.key() != key {
            // Another store would say that there is no such work.
            return Err(format!("{} was in {key}, and is looked for in {} now", row.work, store.key()));
        }
        Ok(store)
    }

    fn unanswered(&self, key: &str, why: String, look: &mut Looks) {
        look.failed(Instant::now());
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.insert(key.to_owned(), why.clone()).is_none() {
            tracing::warn!(store = key, why, "what convoys track is not known; none is closed on that");
        }
    }

    /// Closes a convoy of which everything seems to be over, when its stores say so now.
    async fn end(
        &self,
        row: ConvoyRow,
        tracked: Vec<TrackedRow>,
        looks: &mut BTreeMap<String, Looks>,
    ) -> Result<(), LedgerError> {
        let stores: BTreeSet<&String> =
            tracked.iter().filter(|row| row.kind != "builtin").map(|row| &row.store).collect();
        for key in stores {
            let now = Instant::now();
            let look = looks.entry(key.clone()).or_insert_with(|| Looks::new(now));
            // One that did not answer is not asked before its time.
            if look.due && look.after > now {
                return Ok(());
            }
            let all = by_store(self.ledger().convoy_work_elsewhere().await?);
            let rows = all.get(key).map(Vec::as_slice).unwrap_or_default();
            if !self.look(key, rows, look).await? {
                return Ok(());
            }
        }
        let _changing = self.changing.lock().await;
        // More may have been added, or one opened again.
        let over = self.ledger().convoys_over().await?;
        let Some((row, tracked)) = over.into_iter().find(|(other, _)| other.id == row.id) else {
            return Ok(());
        };
        let at = self.handle.wall();
        let write = ConvoyWrite::Close {
            id: row.id.clone(),
            at,
            told: Box::new(told(&row, &tracked, at)),
            mails: mails(&row, &tracked, at, |watcher| self.keeper(watcher)),
        };
        let events =
            self.ledger().commit(vec![Write::Convoy(ConvoyWrite::TakeOver), Write::Convoy(write)]).await?;
        tracing::info!(convoy = %row.id, work = tracked.len(), "a convoy is over");
        self.bus.publish(events);
        Ok(())
    }
}

impl Convoys {
    /// The program that keeps a watcher's box, where that is not us.
    fn keeper(&self, watcher: &str) -> Option<String> {
        let room = match watcher {
            PERSON => self.desk.mailroom(None),
            agent => self.desk.mailroom(agent.parse::<Address>().ok()?.rig()),
        };
        room.map(|_| "bd".to_owned())
    }
}

fn by_store(rows: Vec<TrackedRow>) -> BTreeMap<String, Vec<TrackedRow>> {
    let mut stores: BTreeMap<String, Vec<TrackedRow>> = BTreeMap::new();
    for row in rows {
        stores.entry(row.store.clone()).or_default().push(row);
    }
    stores
}

fn told(row: &ConvoyRow, tracked: &[TrackedRow], at: Timestamp) -> NewEvent {
    let work: Vec<&WorkId> = tracked.iter().map(|row| &row.work).collect();
    let data = json!({
        "id": row.id, "title": row.title, "work": work, "watchers": row.watchers, "by": row.created_by,
    });
    NewEvent::new(at, kind::CONVOY_CLOSED, data)
}

/// What its watchers get: one mail each, whatever happens.
fn mails(
    row: &ConvoyRow,
    tracked: &[TrackedRow],
    at: Timestamp,
    keeper: impl Fn(&str) -> Option<String>,
) -> Vec<NewMail> {
    let mut body = format!("Everything that convoy {} tracks is closed: {}\n", row.id, row.title);
    for row in tracked.iter().take(LISTED) {
        let _ = write!(body, "\n{}: {}", row.work, row.title);
    }
    if let Some(more) = tracked.len().checked_sub(LISTED).filter(|more| *more > 0) {
        let _ = write!(body, "\nand {more} more");
    }
    let mut subject = format!("CONVOY_CLOSED: {} {}", row.id, row.title);
    while subject.len() > gtd_proto::mail::SUBJECT_MAX {
        subject.pop();
    }
    let mail = |watcher: &String| NewMail {
        sender: DAEMON.to_owned(),
        recipient: watcher.clone(),
        subject: subject.clone(),
        body: body.clone(),
        at,
        key: Some(format!("convoy:{}:{}:{watcher}", row.id, row.created_at)),
        incident: None,
        ours: true,
        cause: None,
        peer: None,
        via: keeper(watcher),
    };
    row.watchers.iter().map(mail).collect()
}

#[cfg(test)]
#[path = "watching_tests.rs"]
mod tests;
