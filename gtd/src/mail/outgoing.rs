//! The daemon's own mail for boxes that another program keeps: it waits in the ledger until it is there.
//!
//! Owns that each is put there once, however long the store does not answer and however often the daemon is killed.
//! One store that fails holds up no other.

use std::collections::BTreeSet;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::town::{Alert, Severity};
use tokio_util::sync::CancellationToken;

use super::address::Mailbox;
use super::office::Office;
use crate::feed::Bus;
use crate::host::drill;
use crate::ledger::{MailRow, MailWrite, Write};
use crate::work::WorkStore as _;
use crate::work::bd::NewMessage;

/// Key of the alert about a store that takes no mail.
const ALERT: &str = "mail:store";
/// How soon a store that failed is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How long to wait after so many rounds that failed in a row.
#[must_use]
fn pause(failed: u32) -> Duration {
    AGAIN.0.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1))).min(AGAIN.1)
}

/// Why something waits.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The ledger tells that by itself.
    #[error("{0}")]
    Ledger(String),
    /// A store does not take it.
    #[error("{0}")]
    Store(String),
}

/// Puts mail where it belongs until it is cancelled.
pub async fn carry(office: Office, bus: Bus, stop: CancellationToken) {
    let work = async {
        let mut sent = bus.subscribe(None, Some(vec![kind::MAIL_SENT.to_owned()]), None);
        let mut failed = 0_u32;
        loop {
            match round(&office).await {
                Ok(()) => {
                    if std::mem::take(&mut failed) > 0 {
                        office.handle().settle(ALERT).await;
                    }
                    if sent.next().await.is_none() {
                        tokio::time::sleep(AGAIN.1).await;
                        sent = bus.subscribe(None, Some(vec![kind::MAIL_SENT.to_owned()]), None);
                    }
                }
                Err(why) => {
                    failed = failed.saturating_add(1);
                    tracing::warn!(%why, "the daemon's mail waits");
                    if let Trouble::Store(why) = why {
                        raise(&office, &why).await;
                    }
                    tokio::time::sleep(pause(failed)).await;
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn raise(office: &Office, why: &str) {
    let message = format!("the daemon's mail waits until its store takes it: {why}");
    let hint = Some("gtctl doctor, or look at the store with bd itself".to_owned());
    let since = office.handle().wall();
    let alert = Alert { key: ALERT.to_owned(), since, severity: Severity::Warning, message, hint };
    office.handle().raise(alert).await;
}

/// Puts everything that waits where it belongs; the first reason why something could not be.
async fn round(office: &Office) -> Result<(), Trouble> {
    let ledger = office.handle().ledger();
    if ledger.info().in_memory {
        return Err(Trouble::Ledger("the ledger's file cannot be used".to_owned()));
    }
    let waiting = ledger.outgoing_mail().await.map_err(|error| Trouble::Ledger(error.to_string()))?;
    let mut failed: Option<String> = None;
    let mut down = BTreeSet::new();
    for row in waiting {
        // Its box may be ours by now: there it lies already.
        let Some(room) = Mailbox::of(&row.recipient).and_then(|whose| office.room(&whose)) else { continue };
        if down.contains(room.key()) {
            continue;
        }
        let new = NewMessage {
            from: row.sender.clone(),
            to: row.recipient.clone(),
            subject: row.subject.clone(),
            body: row.body.clone(),
            key: Some(known_by(&row)),
        };
        // Whether an earlier try came through is asked first: nobody may have lived to hear of it.
        match room.send_message(&new, true).await {
            Ok(there) => {
                drill::at("mail.posted");
                let at = office.handle().wall();
                let posted = MailWrite::Posted { id: row.id.clone(), there: there.id, at };
                let written = ledger.commit(vec![Write::Mail(posted)]).await;
                written.map_err(|error| Trouble::Ledger(error.to_string()))?;
            }
            Err(unknown) => {
                failed = failed.or_else(|| Some(unknown.to_string()));
                down.insert(room.key().to_owned());
            }
        }
    }
    failed.map_or(Ok(()), |why| Err(Trouble::Store(why)))
}

fn known_by(row: &MailRow) -> String {
    format!("{} {} {}", row.id, row.at, row.recipient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_down_for_an_hour_is_asked_some_sixty_times() {
        let (mut asked, mut passed) = (0_u32, Duration::ZERO);
        while passed < Duration::from_secs(3_600) {
            asked += 1;
            passed += pause(asked);
        }
        assert!((60..70).contains(&asked), "{asked}");
        assert_eq!(pause(u32::MAX), AGAIN.1);
    }
}
