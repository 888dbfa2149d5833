//! Dead panes that a launch left behind: tmux hung, we called the launch off, and later it made the pane after all.
//!
//! A pane is closed only when tmux itself says that it is dead and was started with our shim on a launch file of
//! ours, when no agent knows its instance, and when that was so in two rounds in a row. The marks of a session
//! only say where to look: a person's own panes in it carry them too.

use std::collections::{BTreeMap, BTreeSet};

use gtd_proto::event::kind;
use gtd_proto::{Address, InstanceId, State};
use serde_json::json;

use super::handle::Handle;
use crate::ledger::{NewEvent, Write};
use crate::tmux::{Listing, Pane, PaneId};

/// What the last round saw: dead panes with marks of ours that nobody knows.
pub(super) type Seen = BTreeSet<(i32, String)>;

/// Panes to be asked about, and what this round saw. Pure.
fn suspects<'a>(
    listing: &'a Listing,
    town: &str,
    known: &BTreeMap<InstanceId, Option<String>>,
    kept: &BTreeSet<String>,
    before: &Seen,
) -> (Vec<(&'a Pane, InstanceId)>, Seen) {
    let server = listing.server.process.pid.get();
    let mut seen = Seen::new();
    let mut suspects = Vec::new();
    for pane in listing.panes.iter().filter(|pane| pane.dead) {
        if pane.options.get("@gt_town").is_none_or(|mark| mark != town) {
            continue;
        }
        let Some(instance) = pane.options.get("@gt_instance").and_then(|text| text.parse().ok()) else {
            continue;
        };
        let id = pane.pane.to_string();
        // The pane that an agent ran in last is used again, or closed by whoever ends it.
        let stays =
            known.contains_key(&instance) || known.values().any(|place| place.as_deref() == Some(&id));
        if stays || kept.contains(&id) {
            continue;
        }
        let key = (server, id);
        if before.contains(&key) {
            suspects.push((pane, instance));
        }
        seen.insert(key);
    }
    (suspects, seen)
}

/// Closes what two rounds have seen and what is proven ours.
pub(super) async fn sweep(handle: &Handle, listing: &Listing, before: &Seen) -> Seen {
    let shared = handle.runtime().shared().clone();
    let known: BTreeMap<InstanceId, Option<String>> = handle.view().read(|shown| {
        let agents = shown.agents.values();
        // What is at rest has no pane that it will come back to.
        agents
            .filter(|agent| agent.state != State::Stopped)
            .filter_map(|agent| Some((agent.instance.clone()?, agent.pane.clone())))
            .collect()
    });
    // One at rest may be started in its last pane at any moment.
    let kept: BTreeSet<String> = handle.view().read(|shown| shown.panes.values().cloned().collect());
    let (suspects, seen) = suspects(listing, &shared.town_id, &known, &kept, before);
    for (pane, instance) in suspects {
        let launch = shared.run_dir.join(format!("{instance}.launch"));
        match proof(handle, listing, &pane.pane, &launch.to_string_lossy()).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::warn!(pane = %pane.pane, %error, "a dead pane cannot be looked at");
                continue;
            }
        }
        // tmux looks once more: a person may start something in it at this very moment.
        let driver = handle.runtime().driver();
        let closed = match driver.close_dead_pane(&listing.server, &pane.pane).await {
            Ok(_) => driver.started_with(&listing.server, &pane.pane).await,
            Err(error) => Err(error),
        };
        match closed {
            Ok(None) => tell(handle, pane, &instance).await,
            Ok(Some(_)) => {}
            Err(error) => tracing::warn!(pane = %pane.pane, %error, "a dead pane stays"),
        }
    }
    seen
}

/// tmux says that the pane is dead, and that it was started with our shim on this launch file.
async fn proof(
    handle: &Handle,
    listing: &Listing,
    pane: &PaneId,
    launch: &str,
) -> Result<bool, crate::tmux::TmuxError> {
    let told = handle.runtime().driver().started_with(&listing.server, pane).await?;
    Ok(told.is_some_and(|(dead, command)| dead && command.contains("gtd-shim") && command.contains(launch)))
}

async fn tell(handle: &Handle, pane: &Pane, instance: &InstanceId) {
    let agent = pane.options.get("@gt_agent").and_then(|text| text.parse::<Address>().ok());
    let data = json!({
        "kind": "pane",
        "pane": pane.pane.to_string(),
        "session_name": pane.session_name,
        "proof": "dead, and started with our shim on a launch that was called off",
    });
    let event = NewEvent {
        rig: agent.as_ref().and_then(|agent| agent.rig().cloned()),
        agent,
        instance: Some(instance.clone()),
        ..NewEvent::new(handle.now(), kind::SWEEP_KILLED, data)
    };
    handle.write(vec![Write::Event(event)]).await;
}
