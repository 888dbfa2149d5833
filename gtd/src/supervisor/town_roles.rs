//! The town's own agents: the deacon, the mayor, and the boot that looks after the deacon.
//!
//! Pure. They are there without a rig: the deacon is looked after like a rig's standing agents, the mayor is kept as
//! its person wants it, a boot is started for one look and not again.

use gtd_proto::{Address, ErrorKind, InstanceId, Intent, RpcError, Timestamp};

use super::core::Core;
use super::machine::{Machine, Phase, Then, Wish};
use super::moves::End;
use super::planner::Mode;
use super::requests::Ask;
use super::throttle::Asker;
use super::turn::{Answer, Ticket, Turn};

impl Core {
    /// An agent of the town that nobody has ever started, and that nobody is to look after: not worth showing.
    pub(super) fn is_nobody(&self, agent: &Address, mode: &Mode) -> bool {
        agent.rig().is_none() && matches!(mode, Mode::Off(_)) && !self.agents.contains_key(agent)
    }

    /// Whoever is asked for among the town's own agents is there.
    pub(super) fn meet(&mut self, agent: &Address, now: Timestamp, turn: &mut Turn) {
        if agent.rig().is_some() || self.agents.contains_key(agent) {
            return;
        }
        let mut machine = Machine::new(agent.clone(), now);
        if let (Address::Deacon, Some(mode)) = (agent, &self.facts.deacon) {
            machine.wish = Wish::of_policy(agent, mode, now);
        }
        turn.agent_row(&machine);
        turn.touched(agent);
        self.agents.insert(agent.clone(), machine);
    }

    /// Ends an instance and starts another, where it is still the present one and may be started. Nothing of what
    /// is wanted of the agent changes, and no failure is forgiven.
    pub(super) fn renew(
        &mut self,
        ticket: Ticket,
        agent: &Address,
        instance: &InstanceId,
        ask: &Ask,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if let Err(error) = self.known(agent) {
            return Self::reply(turn, ticket, Answer::Failed(Box::new(error)));
        }
        let renewed = self.each(agent, now, turn, |machine, situation, turn| {
            let present = machine.current.as_ref().is_some_and(|current| current.instance == *instance);
            if !present || machine.phase != Phase::Running || machine.wish.intent != Intent::Running {
                let why = format!("{} is not the instance of {agent} that runs, or it is to end", instance);
                return Err(RpcError::new(ErrorKind::Busy, why).hint(format!("gtctl explain {agent}")));
            }
            // What may not be started again is not ended for it.
            let asker = if machine.wish.is_of_policy() { Asker::Policy } else { Asker::Program };
            machine.may_start(situation, asker).map_err(|blocked| blocked.error)?;
            let why = ask.reason.as_deref().unwrap_or("it is renewed");
            machine.end(End::new(Then::Start, &ask.by, why), situation, turn);
            turn.agent_row(machine);
            Ok(())
        });
        let answer = match renewed {
            Some(Ok(())) => Answer::Changed { already: false, accepted: true, survivors: Vec::new() },
            Some(Err(error)) => Answer::Failed(Box::new(error)),
            None => return,
        };
        Self::reply(turn, ticket, answer);
    }
}

impl Machine {
    /// A boot has ended: it is started again for the next look, not before.
    pub(super) fn triage_is_over(&mut self, now: Timestamp, why: Option<String>, turn: &mut Turn) {
        let why = why.unwrap_or_else(|| "it ended".to_owned());
        self.wish = Wish::of_policy(&self.address, &Mode::Off(why.clone()), now);
        (self.owed, self.throttle) = (None, None);
        self.enter(Phase::Rest, now, Some(why), turn);
        self.close_pane(turn);
    }
}
