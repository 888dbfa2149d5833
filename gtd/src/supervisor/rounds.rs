//! The heartbeat's steps about workers: who gets nowhere, whose work nobody does, and how they are.
//!
//! They look and ask; what follows is decided by the core. Screens are read of those only that are about to be told
//! of, a handful in a round.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::{Activity, Address, Agent, Intent, Role, State, Timestamp};
use jiff::tz::TimeZone;

use super::core::Input;
use super::handle::Handle;
use super::policy::after;
use super::progress::{Seen, Stall, TAIL, Watched, stalled};
use super::verdict::{LIMIT_MAX, LIMIT_UNTOLD};
use crate::agents::{dialogs, limits};
use crate::tmux::Listing;

/// Screens that are read in one round; the others are in the next.
const SCREENS: usize = 20;
/// Lines of a report's step at the most.
const LINES: usize = 100;

/// What a step did, in words, each with the agent that it is about.
pub(super) type Actions = Vec<String>;

/// When the agents' screens last changed, by the wall clock.
fn output(handle: &Handle, listing: &Listing) -> BTreeMap<Address, Timestamp> {
    let panes: BTreeMap<String, u64> =
        listing.panes.iter().map(|pane| (pane.pane.to_string(), pane.window_activity)).collect();
    let at = |seconds: u64| i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    handle.view().read(|shown| {
        let watched = shown.watched.keys().filter_map(|agent| {
            let pane = shown.agents.get(agent)?.pane.as_ref()?;
            Some((agent.clone(), at(*panes.get(pane)?)?))
        });
        watched.collect()
    })
}

/// Agents that live, have work, and get nowhere.
pub(super) async fn gupp(handle: &Handle, listing: &Listing, gupp_after: Duration) -> Actions {
    let now = handle.now();
    let output = output(handle, listing);
    let late = |(agent, watched): (&Address, &Watched)| {
        let changed = output.get(agent).map(|at| handle.on_line(*at));
        let idle = stalled(watched, changed, now, gupp_after)?;
        (!watched.stalled).then(|| (agent.clone(), watched.clone(), idle))
    };
    let late = handle.view().read(|shown| {
        let asks = |agent: &Address| shown.agents.get(agent).is_some_and(|a| a.activity == Activity::Waiting);
        in_turn(shown.watched.iter().filter_map(late).collect(), asks)
    });
    let looked = late.into_iter().map(|(agent, watched, idle)| async move {
        let lines = u32::try_from(TAIL).unwrap_or(u32::MAX);
        let tail = handle.runtime().capture(&agent, lines).await.unwrap_or_default();
        let seen = look_at(&tail, handle.wall(), handle.now());
        Stall { agent, instance: watched.instance, work: watched.work, idle, tail, seen }
    });
    let stalls = futures_util::future::join_all(looked).await;
    if !stalls.is_empty() {
        handle.input(Input::Stalls { stalls, gupp_after }).await;
        handle.settled().await;
    }
    handle.view().read(|shown| {
        let told = shown.watched.iter().filter(|(_, watched)| watched.stalled);
        told.take(LINES)
            .map(|(agent, watched)| format!("{agent} gets nowhere with {}", watched.work))
            .collect()
    })
}

/// Those whose screens are read in this round. Whoever is known to wait for a person stays late for as long as nobody
/// answers, and must not keep the others from being looked at.
fn in_turn<T>(
    mut late: Vec<(Address, T, Duration)>,
    asks: impl Fn(&Address) -> bool,
) -> Vec<(Address, T, Duration)> {
    late.sort_by_key(|(agent, ..)| asks(agent));
    late.truncate(SCREENS);
    late
}

/// What the end of a screen tells. `line` is the same instant as `wall`, on the heart's line.
fn look_at(tail: &[String], wall: Timestamp, line: Timestamp) -> Seen {
    match limits::recognise(tail, wall, &TimeZone::system()) {
        Some(limit) => {
            let wait = limit.wait.unwrap_or(LIMIT_UNTOLD).min(LIMIT_MAX);
            Seen::Limit { line: limit.line, until: after(line, wait) }
        }
        None => match dialogs::recognise(tail) {
            Some(dialog) => Seen::Question(dialog),
            None => Seen::Nothing,
        },
    }
}

/// Work on the hooks of agents that will not do it.
pub(super) async fn orphaned_work(handle: &Handle) -> Actions {
    handle.input(Input::Orphans).await;
    handle.settled().await;
    handle.view().read(|shown| {
        let told = shown.orphaned.iter().filter(|(_, orphan)| orphan.told).take(LINES);
        told.map(|(agent, orphan)| format!("{} is on the hook of {agent}: {}", orphan.work, orphan.why))
            .collect()
    })
}

/// How the workers are: those that need somebody, and how many do not.
pub(super) async fn polecat_health(handle: &Handle) -> Actions {
    handle.look_at_all_worktrees().await;
    handle.view().read(|shown| {
        let workers: Vec<&Agent> =
            shown.agents.values().filter(|agent| agent.role == Role::Polecat).collect();
        let well = workers.iter().filter(|agent| agent.state == State::Running).count();
        let mut actions = Vec::new();
        if !workers.is_empty() {
            actions.push(format!("{well} of {} polecats run", workers.len()));
        }
        let ill = workers.iter().filter_map(|agent| complaint(agent)).take(LINES);
        actions.extend(ill);
        actions
    })
}

fn complaint(agent: &Agent) -> Option<String> {
    let why = agent.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    match (agent.state, agent.intent) {
        (State::Running | State::Starting | State::Stopping | State::Paused, _) => None,
        // It is somebody's wish, and said in an alert of its own.
        (_, Intent::Paused) => None,
        // Stopped by somebody: nothing to look after. One that ended by itself is there to be cleaned up.
        (State::Stopped, Intent::Stopped) if agent.intent_by != "supervisor" || agent.instance.is_none() => {
            None
        }
        (State::Stopped, Intent::Stopped) => Some(format!("{} may be cleaned up{why}", agent.agent)),
        (state, _) => Some(format!("{} is {state}{why}", agent.agent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::view::at_rest;

    #[test]
    fn a_limit_on_the_screen_says_until_when() {
        let wall: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let line: Timestamp = "2026-03-01T09:00:00Z".parse().unwrap();
        let tail = [
            "working",
            "You have exhausted your capacity on this model. Your quota will reset after 48m20s.",
        ];
        let Seen::Limit { until, .. } = look_at(&tail.map(str::to_owned), wall, line) else { panic!() };
        assert_eq!(until.to_string(), "2026-03-01T09:48:20Z");
        assert_eq!(look_at(&["thinking about rate limits".to_owned()], wall, line), Seen::Nothing);
        assert_eq!(look_at(&[], wall, line), Seen::Nothing);
    }

    #[test]
    fn those_who_wait_for_a_person_keep_nobody_from_being_looked_at() {
        let agent = |n: usize| format!("a/polecats/p{n:03}").parse::<Address>().unwrap();
        let late = (0..=SCREENS).map(|n| (agent(n), (), Duration::ZERO)).collect();
        let last = agent(SCREENS);
        let looked = in_turn(late, |agent| *agent != last);
        assert_eq!(looked.len(), SCREENS);
        assert_eq!(looked[0].0, last);
    }

    #[test]
    fn only_those_who_need_somebody_are_complained_about() {
        let address: Address = "a/polecats/nux".parse().unwrap();
        let agent = |state, intent, by: &str, ran: bool| Agent {
            state,
            intent,
            intent_by: by.to_owned(),
            instance: ran.then(gtd_proto::InstanceId::generate),
            reason: Some("because".to_owned()),
            ..at_rest(&address, Timestamp::UNIX_EPOCH)
        };
        let told = |state, intent, by, ran| complaint(&agent(state, intent, by, ran));
        assert_eq!(told(State::Running, Intent::Running, "person", true), None);
        assert_eq!(told(State::Stopped, Intent::Stopped, "person", true), None);
        assert_eq!(told(State::Stopped, Intent::Stopped, "supervisor", false), None);
        assert!(told(State::Stopped, Intent::Stopped, "supervisor", true).unwrap().contains("cleaned up"));
        assert_eq!(
            told(State::Stopped, Intent::Running, "person", true).unwrap(),
            "a/polecats/nux is stopped: because"
        );
        assert!(told(State::Quarantined, Intent::Running, "person", true).is_some());
    }
}
