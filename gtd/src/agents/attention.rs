//! Whether a person is at an agent's terminal: when the clients attached to its session were last active.
//!
//! Asked every 5 s, and only while somebody is attached; our own client is attached to a session of ours, never
//! to an agent's. It must never take a failed question for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::order::Place;
use super::runtime::{Runtime, Shared};
use crate::process::ProcessId;
use crate::tmux::Client;

/// Between two samples while somebody is attached.
const EVERY: Duration = Duration::from_secs(5);
/// How long the question at an agent's end may take: its death is told then with the last sample.
const AT_THE_END: Duration = Duration::from_millis(500);

/// A session of a server.
type Session = (ProcessId, String);

/// What is known of clients.
#[derive(Debug, Default)]
pub struct Attention {
    last: Mutex<BTreeMap<Session, Timestamp>>,
    wanted: Notify,
}

impl Attention {
    /// A listing showed that somebody is attached to an agent's session.
    pub fn somebody_attached(&self) {
        self.wanted.notify_one();
    }

    fn replace(&self, sample: BTreeMap<Session, Timestamp>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = sample;
    }

    fn last(&self, session: &Session) -> Option<Timestamp> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(session).copied()
    }
}

/// The latest activity by session, of clients that belong to one of these.
fn activities(
    clients: &[Client],
    server: &ProcessId,
    ours: &BTreeSet<Session>,
) -> BTreeMap<Session, Timestamp> {
    let mut latest = BTreeMap::new();
    for client in clients {
        let session = (server.clone(), client.session.to_string());
        let at = i64::try_from(client.activity).ok().and_then(|second| Timestamp::from_second(second).ok());
        if let (true, Some(at)) = (ours.contains(&session), at) {
            let known = latest.entry(session).or_insert(at);
            *known = (*known).max(at);
        }
    }
    latest
}

impl Shared {
    /// When somebody attached to a session was last active: asked now, else as last sampled.
    pub(super) async fn client_activity(&self, place: &Place) -> Option<Timestamp> {
        let session = (place.server.clone(), place.session.clone());
        let asked = match self.servers().first() {
            Some(server) if *server == place.server => {
                tokio::time::timeout(AT_THE_END, self.driver.clients()).await.ok().and_then(Result::ok)
            }
            _ => None,
        };
        let now = asked.and_then(|clients| {
            activities(&clients, &place.server, &BTreeSet::from([session.clone()])).remove(&session)
        });
        now.max(self.attention.last(&session))
    }
}

impl Runtime {
    /// Samples the activity of clients while any is attached to an agent's session, until the daemon goes down.
    pub async fn watch_clients(self, stop: CancellationToken) {
        let shared = self.shared();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = shared.attention.wanted.notified() => {}
            }
            loop {
                let servers = shared.servers();
                match (servers.first(), shared.driver.clients().await) {
                    (Some(server), Ok(clients)) => {
                        let sample = activities(&clients, server, &shared.sessions());
                        let nobody = sample.is_empty();
                        shared.attention.replace(sample);
                        if nobody {
                            break;
                        }
                    }
                    (None, _) => break,
                    // Not to be told now: asked again.
                    (Some(_), Err(error)) => tracing::debug!(%error, "the clients of tmux were not listed"),
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(EVERY) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{BootId, Pid, StartTime};

    #[test]
    fn the_latest_activity_at_each_of_our_sessions_counts() {
        let server =
            ProcessId { boot: BootId::new("b"), pid: Pid::new(2).unwrap(), start: StartTime::new(1) };
        let client = |session: &str, activity| Client {
            session: session.parse().unwrap(),
            activity,
            name: "/dev/pts/1".to_owned(),
            pid: None,
            control_mode: false,
        };
        let ours: BTreeSet<Session> =
            ["$1", "$2"].iter().map(|session| (server.clone(), (*session).to_owned())).collect();
        let clients = [client("$0", 99), client("$1", 10), client("$1", 30), client("$1", 20)];
        let latest = activities(&clients, &server, &ours);
        assert_eq!(latest.len(), 1);
        assert_eq!(latest[&(server, "$1".to_owned())], Timestamp::from_second(30).unwrap());
    }
}
