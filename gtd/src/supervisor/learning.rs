//! What files and tmux say, taken over: rigs that came or went, agents that are to be there, a server that is silent.
//!
//! Pure. Nothing that cannot be read takes away what was known.

use gtd_proto::event::kind;
use gtd_proto::{Address, RigName, Timestamp};
use serde_json::json;

use super::core::Core;
use super::machine::Machine;
use super::planner::{Facts, wanted};
use super::turn::Turn;
use crate::ledger::{NewEvent, Write};

impl Core {
    pub(super) fn learn(&mut self, mut facts: Facts, now: Timestamp, turn: &mut Turn) {
        self.keep_newer(&mut facts);
        let old = std::mem::replace(&mut self.facts, facts);
        let rigs: Vec<RigName> = self.facts.rigs.keys().cloned().collect();
        let mut discovered = Vec::new();
        for rig in rigs.iter().filter(|rig| !old.rigs.contains_key(*rig)) {
            // What the ledger remembers agents of was discovered by an earlier daemon.
            if !self.agents.contains_key(&Address::Witness(rig.clone())) {
                self.first_sight(rig, now);
                discovered.push(rig);
            }
        }
        self.settle_rigs(None, now, turn);
        for rig in discovered {
            let barred = self.facts.rigs.get(rig).and_then(|facts| facts.standing.barred.clone());
            turn.writes.push(rig_event(kind::RIG_DISCOVERED, rig, now, json!({ "barred": barred })));
        }
        for rig in old.rigs.keys().filter(|rig| !self.facts.rigs.contains_key(*rig)) {
            turn.writes.push(rig_event(kind::RIG_REMOVED, rig, now, json!({})));
        }
        for (agent, mode) in
            wanted(&self.facts).map(|(agent, mode)| (agent, mode.clone())).collect::<Vec<_>>()
        {
            if self.is_nobody(&agent, &mode) {
                continue;
            }
            turn.touched(&agent);
            let machine = self.agents.entry(agent).or_insert_with_key(|agent| {
                let machine = Machine::new(agent.clone(), now);
                turn.agent_row(&machine);
                machine
            });
            machine.follow_mode(&mode, now, turn);
        }
        self.learn_workers(now, turn);
        self.reconcile_all(now, turn);
    }

    pub(super) fn see_tmux(&mut self, why: Option<String>, now: Timestamp, turn: &mut Turn) {
        if self.tmux == why {
            return;
        }
        let blind = why.clone();
        // One that died meanwhile has no session to be blind about, and must not stay so.
        for machine in
            self.agents.values_mut().filter(|machine| machine.current.is_some() || machine.blind.is_some())
        {
            if machine.blind != blind {
                if let Some(why) = &blind {
                    turn.event(machine, kind::AGENT_UNKNOWN, now, json!({ "why": why }));
                }
                machine.blind.clone_from(&blind);
                turn.changed.insert(machine.address.clone());
            }
        }
        self.tmux = why;
        self.reconcile_all(now, turn);
    }
}

fn rig_event(name: &'static str, rig: &RigName, at: Timestamp, data: serde_json::Value) -> Write {
    Write::Event(NewEvent {
        at,
        kind: name.into(),
        agent: None,
        rig: Some(rig.clone()),
        instance: None,
        cause: None,
        peer: None,
        data,
    })
}
