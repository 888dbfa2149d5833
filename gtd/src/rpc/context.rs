//! What the methods of all namespaces need.

use std::sync::Arc;

use gtd_proto::daemon::Hello;
use gtd_proto::town::DaemonBrief;
use gtd_proto::{Change, PROTOCOL, Reply, RpcError, Seq, Timestamp, TownId};
use jsonrpsee::Extensions;
use jsonrpsee::types::ErrorObjectOwned;
use tokio_util::sync::CancellationToken;

use super::callers::Who;
use super::configuration::Configuration;
use super::peer::Peer;
use super::server::Counters;
use crate::agents::runtime::Prepare;
use crate::feed::Bus;
use crate::supervisor::Handle;
use crate::supervisor::requests::{Ask, Wait};
use crate::town::Layout;

/// This gtd's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the methods of all namespaces need. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The supervisor.
    pub handle: Handle,
    /// Makes launches; asked before a request goes to the supervisor, for errors with a reason.
    pub prepare: Arc<dyn Prepare>,
    /// Events.
    pub bus: Bus,
    /// The town's paths.
    pub layout: Arc<Layout>,
    /// Identity of the town.
    pub town_id: TownId,
    /// When this daemon began.
    pub started_at: Timestamp,
    /// Numbers of the socket.
    pub counters: Counters,
    /// The configuration in force, and the way to another one.
    pub config: Arc<dyn Configuration>,
    /// The town's work.
    pub desk: Arc<crate::work::Desk>,
    /// Makes workers.
    pub spawner: Arc<crate::polecats::Spawner>,
    /// Work that belongs together.
    pub convoys: Arc<crate::work::convoys::Convoys>,
    /// The town's mail.
    pub office: crate::mail::Office,
    /// Lifecycle requests.
    pub clerk: crate::mail::lifecycle::Clerk,
    /// Text for agents.
    pub nudges: crate::supervisor::nudges::Nudges,
    /// Looks after the deacon.
    pub watchman: crate::supervisor::deacon::Watchman,
    /// Looks at the town that several requests share.
    pub looks: crate::doctor::Looks,
    /// Ends the daemon.
    pub stop: CancellationToken,
}

impl Context {
    /// The last event that was told. To be read before what a result shows: what is not in the result yet comes
    /// as an event after this number.
    pub(super) fn seq(&self) -> Seq {
        self.bus.head()
    }

    /// The result of a change of one agent: the agent as it is shown now.
    pub(super) fn changed(&self, mut change: Change) -> Reply<Change> {
        let seq = self.seq();
        if let Some(agent) = self.handle.view().agent(&change.agent.agent) {
            change.agent = agent;
        }
        Reply { body: change, seq }
    }

    /// The first answer on a connection.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            town: self.root(),
            town_id: self.town_id.clone(),
            pid: own_pid(),
        }
    }

    pub(super) fn brief(&self) -> DaemonBrief {
        let reasons = self.reasons();
        DaemonBrief {
            pid: own_pid(),
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            started_at: self.started_at,
            degraded: !reasons.is_empty(),
            reasons,
            hold: self.handle.view().read(|shown| shown.hold.is_some()),
        }
    }

    /// What does not work: told by the parts of the daemon, and the alerts that concern all of it.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = self.handle.shared().reasons();
        self.handle.view().read(|shown| {
            for key in ["tmux", "tmux:trouble", "ledger", "config", "events_file"] {
                reasons.extend(shown.alerts.get(key).map(|alert| alert.message.clone()));
            }
        });
        reasons
    }

    pub(super) fn root(&self) -> String {
        self.layout.root().to_string_lossy().into_owned()
    }

    /// Who asks, why, and how long they wait.
    pub(super) fn ask(&self, peer: &Extensions, reason: Option<String>, wait_ms: Option<u64>) -> Ask {
        let wait = match wait_ms {
            None => Wait::ToTheEnd,
            Some(0) => Wait::No,
            Some(ms) => {
                let span = std::time::Duration::from_millis(ms);
                Wait::Until(crate::supervisor::policy::after(self.handle.now(), span))
            }
        };
        let by = who(peer);
        tracing::debug!(peer = %name_of(peer), %by, "request");
        Ask { by, reason, wait }
    }
}

/// Who asks, for intents, signals and events: `person`, or an agent's address.
pub(super) fn who(extensions: &Extensions) -> String {
    extensions.get::<Who>().map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

/// The peer, for records.
pub(super) fn name_of(extensions: &Extensions) -> String {
    extensions.get::<Peer>().map_or_else(|| "unknown".to_owned(), ToString::to_string)
}

/// Our own pid, as results show it.
pub(super) fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// Refuses a request of which a part cannot be used.
pub(super) fn refuse(error: RpcError) -> ErrorObjectOwned {
    error.into()
}
