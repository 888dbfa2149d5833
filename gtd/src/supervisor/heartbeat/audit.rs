//! What a round finds beside its steps: sessions that nobody knows, panes that are gone, what is mended.

use std::sync::PoisonError;

use gtd_proto::{Address, InstanceId, State as AgentState, Timestamp};

use super::super::core::Input;
use super::super::handle::Handle;
use super::super::leftovers;
use super::super::run::Message;
use super::super::view::SessionFacts;
use super::round::Look;
use crate::agents::runtime::Prepare;
use crate::process::{Observation, Pid, identify};
use crate::tmux::{Driver, Listing, ServerState, TmuxError};

/// What follows from the look of a round.
pub(super) async fn follow_up(handle: &Handle, look: &Look, grace: bool) {
    if let Ok(listing) = &look.listing {
        let (found, gone) = audit(handle, listing);
        let before = {
            let mut state = handle.shared().heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut state.leftovers)
        };
        let seen = leftovers::sweep(handle, listing, &before).await;
        handle.shared().heartbeat.lock().unwrap_or_else(PoisonError::into_inner).leftovers = seen;
        let found = to_look_for(handle, found).await;
        handle.input(Input::Found(found)).await;
        if !gone.is_empty() && !grace {
            handle.input(Input::PaneGone(gone)).await;
        }
    }
    if is_none(&look.listing, handle.runtime().driver()) {
        handle.input(Input::Found(Vec::new())).await;
    }
    look_at_broken(handle).await;
    handle.input(Input::Round).await;
    handle.glance().await;
}

/// Releases those whose program and directory are there now.
pub(super) async fn look_at_broken(handle: &Handle) {
    let mended = mended(handle, handle.runtime().shared().prepare.as_ref());
    if !mended.is_empty() {
        handle.input(Input::Mended(mended)).await;
    }
}

/// No server lives, so that there are no sessions.
fn is_none(listing: &Result<Listing, TmuxError>, driver: &Driver) -> bool {
    matches!(listing, Err(TmuxError::NoServer { .. })) && driver.state() == ServerState::Down
}

/// Looks at the sessions for what the ledger does not know: after it was lost, before anybody can ask for a
/// start. Where that fails a round of the heartbeat does it.
pub async fn survey(handle: &Handle) {
    let driver = handle.runtime().driver();
    let listing = driver.list().await;
    match &listing {
        Ok(listing) => {
            let found = to_look_for(handle, marked(handle, listing)).await;
            handle.input(Input::Found(found)).await;
        }
        Err(_) if is_none(&listing, driver) => handle.input(Input::Found(Vec::new())).await,
        Err(error) => tracing::warn!(%error, "the sessions could not be looked at"),
    }
}

/// Agents that wait for a program or a directory that is there now.
fn mended(handle: &Handle, prepare: &dyn Prepare) -> Vec<Address> {
    let broken: Vec<Address> = handle.view().read(|shown| {
        let waits = shown.agents.values();
        waits
            .filter(|agent| agent.state == AgentState::Quarantined && agent.next_attempt.is_none())
            .map(|agent| agent.agent.clone())
            .collect()
    });
    broken.into_iter().filter(|agent| prepare.is_mended(agent)).collect()
}

/// A living pane that carries our mark and an instance that nobody knows.
struct Marked {
    agent: Address,
    instance: InstanceId,
    process: Option<Pid>,
}

fn marked(handle: &Handle, listing: &Listing) -> Vec<Marked> {
    let town = &handle.runtime().shared().town_id;
    let mut found = Vec::new();
    for pane in listing.panes.iter().filter(|pane| !pane.dead && pane.options.get("@gt_town") == Some(town)) {
        let agent = pane.options.get("@gt_agent").and_then(|text| text.parse::<Address>().ok());
        let instance = pane.options.get("@gt_instance").and_then(|text| text.parse::<InstanceId>().ok());
        if let (Some(agent), Some(instance)) = (agent, instance)
            && handle.view().agent(&agent).is_none_or(|agent| agent.instance.is_none())
        {
            found.push(Marked { agent, instance, process: pane.pane_pid });
        }
    }
    found
}

/// Without those whose end is on record and whose process is gone: a listing may be older than that, and its agent
/// forgotten since. One that lives is looked for, whatever is on record: nothing is started beside it.
async fn to_look_for(handle: &Handle, found: Vec<Marked>) -> Vec<(Address, InstanceId)> {
    let mut left = Vec::new();
    for Marked { agent, instance, process } in found {
        let gone =
            process.is_some_and(|pid| matches!(identify(pid), Observation::Dead(_) | Observation::Absent));
        // Where the ledger cannot tell it is looked for as well.
        if !gone || !matches!(handle.ledger().is_open(&instance).await, Ok(Some(false))) {
            left.push((agent, instance));
        }
    }
    left
}

/// Compares a listing with what we think: sessions that carry our mark and nobody knows, and agents whose pane
/// has not been there twice in a row.
fn audit(handle: &Handle, listing: &Listing) -> (Vec<Marked>, Vec<Address>) {
    let shared = handle.shared();
    let found = marked(handle, listing);
    let mut state = shared.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
    let mut gone = Vec::new();
    let running: Vec<Address> = handle.view().read(|shown| {
        let agents = shown
            .agents
            .values()
            .filter(|agent| matches!(agent.state, AgentState::Running | AgentState::Paused));
        agents.map(|agent| agent.agent.clone()).collect()
    });
    state.missing.retain(|agent, _| running.contains(agent));
    for agent in running {
        let Some(place) = handle.runtime().place(&agent) else { continue };
        let same_server = place.server == listing.server.process;
        let there = listing.panes.iter().any(|pane| pane.pane.to_string() == place.pane);
        if !same_server || there {
            state.missing.remove(&agent);
            continue;
        }
        let seen = state.missing.entry(agent.clone()).or_insert(0);
        *seen += 1;
        if *seen >= 2 {
            gone.push(agent);
        }
    }
    (found, gone)
}

/// Takes over what a listing says of our agents' sessions.
pub(super) async fn show_sessions(handle: &Handle, listing: &Listing) {
    let now = handle.wall();
    let instant = |seconds: u64| i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    let places: Vec<(Address, Option<String>)> = handle
        .view()
        .read(|shown| shown.agents.values().map(|agent| (agent.agent.clone(), agent.pane.clone())).collect());
    let changed = handle.view().change(|shown| {
        let mut changed = false;
        let mut names: Vec<&str> = listing.panes.iter().map(|pane| pane.session_name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        shown.sessions_total = u64::try_from(names.len()).unwrap_or(u64::MAX);
        for (agent, pane) in &places {
            let seen =
                pane.as_ref().and_then(|id| listing.panes.iter().find(|pane| pane.pane.to_string() == *id));
            let facts = seen.map(|pane| SessionFacts {
                created_at: instant(pane.session_created),
                windows: pane.session_windows,
                last_activity: instant(pane.session_activity.max(pane.window_activity)),
                attached: pane.session_attached > 0,
                seen_at: now,
            });
            changed |= facts.as_ref() != shown.sessions.get(agent);
            match facts {
                Some(facts) => shown.sessions.insert(agent.clone(), facts),
                None => shown.sessions.remove(agent),
            };
        }
        changed
    });
    if listing.panes.iter().any(|pane| pane.session_attached > 0 && pane.options.contains_key("@gt_agent")) {
        handle.runtime().shared().attention.somebody_attached();
    }
    if changed {
        handle.tell(Message::Refresh).await;
    }
}
