//! What the loop shows of each turn: agents as results have them, and what is wrong.
//!
//! It only reads the core. Instants leave it by people's clock.

use std::collections::BTreeSet;
use std::time::Duration;

use gtd_proto::town::{Alert, Severity};
use gtd_proto::{Address, Agent, Incident, Timestamp};

use super::core::Core;
use super::dating;
use super::machine::Phase;
use super::planner::Facts;
use super::policy::since;
use super::reports::Heard;
use super::run::Supervisor;
use super::turn::Turn;
use super::view::{alert, incident_alerts, render, settle_alerts};
use crate::clock::Timeline;

/// How long an agent may be unobservable before somebody should know.
const LASTING: Duration = Duration::from_secs(60);

impl Supervisor {
    pub(super) fn show(&self, turn: &Turn) {
        let (now, wall) = (self.line.now(), self.line.to_wall(self.line.now()));
        let core = &self.core;
        let degraded = self.shared.reasons();
        let complaint = self.runtime.driver().complaint().filter(|_| core.tmux_trouble().is_none());
        self.shared.view.change(|shown| {
            for agent in &turn.changed {
                match core.agents().get(agent) {
                    Some(machine) => {
                        let mut rendered = render(machine, shown.sessions.get(agent));
                        dating::shown(&mut rendered, &self.line);
                        shown.heard.insert(agent.clone(), Heard::of(machine, &self.line));
                        say_until(&mut rendered);
                        rendered.hook = shown.hooks.work(agent);
                        if shown.hooks.stores.is_empty() {
                            // No store was asked yet.
                            rendered.hook = machine.work.as_ref().map(|work| work.id.clone());
                        }
                        shown.place(&mut rendered);
                        shown.dress(&mut rendered);
                        match machine.watched() {
                            Some(watched) => drop(shown.watched.insert(agent.clone(), watched)),
                            None => drop(shown.watched.remove(agent)),
                        }
                        shown.agents.insert(agent.clone(), rendered);
                        shown.recorded.see(machine);
                        match machine.waits_now(&self.line) {
                            Some(waits) => drop(shown.waiting.insert(agent.clone(), waits)),
                            None => drop(shown.waiting.remove(agent)),
                        }
                        match &machine.last_place {
                            Some(place) => drop(shown.panes.insert(agent.clone(), place.pane.clone())),
                            None => drop(shown.panes.remove(agent)),
                        }
                    }
                    None => {
                        shown.agents.remove(agent);
                        shown.watched.remove(agent);
                        shown.heard.remove(agent);
                        shown.waiting.remove(agent);
                        shown.panes.remove(agent);
                    }
                }
            }
            if shown.facts != *core.facts() {
                shown.facts.clone_from(core.facts());
            }
            shown.orphaned.clone_from(&core.orphaned);
            shown.hold = core.hold().cloned();
            if shown.pauses != *core.pauses() {
                shown.pauses.clone_from(core.pauses());
            }
            if turn.incident || shown.incidents.iter().any(Incident::is_open) {
                shown.incidents = core.incidents();
                dating::incidents(&mut shown.incidents, &self.line);
            }
            let mut alerts = core.facts().findings.clone();
            alerts.iter_mut().for_each(|alert| alert.since = self.line.to_wall(alert.since));
            alerts.extend(incident_alerts(&shown.incidents, wall));
            alerts.extend(core.rig_alerts(wall));
            alerts.extend(core.pauses().alerts(wall, &self.line));
            alerts.extend(agent_alerts(core, now, wall, &self.line));
            if let Some(why) = core.tmux_trouble() {
                let hint = "gtctl daemon status";
                alerts.push(alert("tmux", Severity::Error, why.to_owned(), hint, wall));
            }
            if let Some(why) = complaint {
                alerts.push(alert("tmux:trouble", Severity::Warning, why, "gtctl daemon status", wall));
            }
            if let Some(why) = self.ledger_failed.as_ref().or(self.ledger_trouble.as_ref()) {
                let message = format!("the ledger cannot be written, and nothing is started: {why}");
                alerts.push(alert("ledger", Severity::Error, message, "df -h; gtctl daemon status", wall));
            }
            for reason in degraded {
                alerts.push(alert(
                    format!("daemon:{reason}"),
                    Severity::Warning,
                    reason,
                    "gtctl daemon status",
                    wall,
                ));
            }
            alerts.extend(self.shared.notes());
            settle_alerts(shown, alerts);
        });
    }
}

/// A reason that is a pause says until when, by people's clock.
fn say_until(agent: &mut Agent) {
    let until = agent.pause.as_ref().and_then(|pause| pause.until);
    if let (Some(until), Some(reason)) =
        (until, agent.reason.as_mut().filter(|reason| reason.contains("paused, by ")))
    {
        reason.push_str(&format!("; until {until:.0}"));
    }
}

fn agent_alerts(core: &Core, now: Timestamp, wall: Timestamp, line: &Timeline) -> Vec<Alert> {
    let facts: &Facts = core.facts();
    let mut alerts = Vec::new();
    for machine in core.agents().values() {
        let address: &Address = &machine.address;
        let hint = format!("gtctl explain {address}");
        let lost = facts.known && address.rig().is_some_and(|rig| !facts.rigs.contains_key(rig));
        if lost && machine.current.is_some() {
            let rig = address.rig().map(ToString::to_string).unwrap_or_default();
            let message = format!("{address} runs, and its rig is no longer registered; it is left alone");
            let hint = format!("put {rig} back into mayor/rigs.json, or: gtctl rig remove {rig}");
            alerts.push(alert(format!("agent:{address}"), Severity::Warning, message, &hint, wall));
        } else if let Some(note) = &machine.alert {
            let message = format!("{address}: {note}");
            alerts.push(alert(format!("agent:{address}"), Severity::Warning, message, &hint, wall));
        } else if let Some((since, why)) =
            machine.unsure.as_ref().filter(|(at, _)| machine.current.is_some() && since(*at, now) >= LASTING)
        {
            let since = line.to_wall(*since);
            let message =
                format!("{address} cannot be told about since {since:.0}, and is left alone: {why}");
            let hint = format!("gtctl explain {address} --probe");
            alerts.push(alert(format!("agent:{address}"), Severity::Warning, message, &hint, wall));
        } else if machine.state() == gtd_proto::State::Quarantined {
            let why = machine.reason.as_deref().unwrap_or("it failed too often");
            let message = format!("{address} is quarantined: {why}");
            // Without an end it waits for its program or directory, and a reset would meet the same.
            let endless = matches!(&machine.phase, Phase::Waiting { until, .. } if *until == Timestamp::MAX);
            let hint = if endless {
                "gtctl doctor agent-binaries".to_owned()
            } else {
                format!("gtctl reset {address}")
            };
            alerts.push(alert(format!("agent:{address}"), Severity::Error, message, &hint, wall));
        }
    }
    alerts.extend(settings_alerts(core, wall));
    alerts
}

/// One for each settings file that is not ours, however many agents use it.
fn settings_alerts(core: &Core, wall: Timestamp) -> Vec<Alert> {
    let lives = core.agents().values().filter_map(|machine| machine.current.as_ref()?.life.as_ref());
    let notes: BTreeSet<&String> = lives.filter_map(|life| life.outfit.settings_note.as_ref()).collect();
    let hint = "remove it to have it generated again at the next start";
    let told = notes
        .into_iter()
        .map(|note| alert(format!("settings:{note}"), Severity::Warning, note.clone(), hint, wall));
    told.collect()
}
