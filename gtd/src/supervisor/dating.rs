//! Between the heart's time and the wall clock: the core decides on a line that nobody can set, the processes'
//! records and people's eyes go by the wall clock.
//!
//! Changes instants and nothing else. While both clocks agree, which they nearly always do, it does nothing.

use gtd_proto::event::kind;
use gtd_proto::pause::Pause;
use gtd_proto::town::Aside;
use gtd_proto::{Agent, Cause, Incident, Timestamp};
use serde_json::Value;

use crate::agents::order::{Report, What};
use crate::clock::Timeline;
use crate::ledger::Write;

/// Keys of an event's facts that are instants of the line.
const FACTS: [&str; 5] = ["next_attempt", "expires", "until", "next_due", "said_at"];

/// Facts of an end that never was a life: it has no record of its own, and is dated by the line.
const ENDS: [&str; 2] = ["started_at", "ended_at"];

/// Facts of a stall: the heart noticed it.
const STALL: [&str; 1] = ["since"];

/// What an agent's task dated by the wall clock, on the line.
pub(super) fn incoming(report: &mut Report, line: &Timeline) {
    if let What::Placed(life) | What::Alive { life, .. } = &mut report.what {
        life.started_at = life.started_at.map(|at| line.from_wall(at));
    }
}

/// History, as people will read it. State keeps the line's instants: the next daemon goes on with them.
pub(super) fn outgoing(writes: &mut [Write], line: &Timeline) {
    for write in writes {
        match write {
            Write::Event(event) => {
                event.at = line.to_wall(event.at);
                let unborn = event.kind == kind::AGENT_EXITED
                    && event.data.get("cause").and_then(Value::as_str) == Some(Cause::LaunchError.as_str());
                let stall = event.kind == kind::AGENT_STALLED;
                let more = ENDS.iter().filter(|_| unborn).chain(STALL.iter().filter(|_| stall));
                for key in FACTS.iter().chain(more) {
                    if let Some(fact) = event.data.get_mut(*key) {
                        *fact = moved(fact, line);
                    }
                }
            }
            Write::Exit(exit) if exit.cause == Cause::LaunchError => {
                exit.started_at = line.to_wall(exit.started_at);
                exit.ended_at = line.to_wall(exit.ended_at);
            }
            Write::Decision { decision, .. } => decision.at = line.to_wall(decision.at),
            _ => {}
        }
    }
}

fn moved(fact: &Value, line: &Timeline) -> Value {
    match fact.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(at) => Value::from(line.to_wall(at).to_string()),
        None => fact.clone(),
    }
}

/// An agent as people see it.
pub(super) fn shown(agent: &mut Agent, line: &Timeline) {
    agent.since = line.to_wall(agent.since);
    agent.started_at = agent.started_at.map(|at| line.to_wall(at));
    if let Some(drain) = &mut agent.drain {
        drain.since = line.to_wall(drain.since);
    }
    agent.pause.iter_mut().for_each(|one| pause(one, line));
    agent.next_attempt = agent.next_attempt.map(|at| line.to_wall(at));
    agent.activity_since = agent.activity_since.map(|at| line.to_wall(at));
}

/// A pause as people see it.
pub(super) fn pause(pause: &mut Pause, line: &Timeline) {
    pause.since = line.to_wall(pause.since);
    pause.until = pause.until.map(|at| line.to_wall(at));
}

/// Since when a rig is as it is, and who set it aside when.
pub(super) fn rig(since: &mut Option<Timestamp>, aside: [&mut Option<Aside>; 2], line: &Timeline) {
    *since = since.map(|at| line.to_wall(at));
    for aside in aside.into_iter().flatten() {
        aside.at = line.to_wall(aside.at);
    }
}

/// Mass deaths as people see them.
pub(super) fn incidents(incidents: &mut [Incident], line: &Timeline) {
    for incident in incidents {
        incident.opened_at = line.to_wall(incident.opened_at);
        incident.closed_at = incident.closed_at.map(|at| line.to_wall(at));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gtd_proto::explain::Decision;
    use serde_json::json;

    use super::*;
    use crate::clock::{Clock, Now};
    use crate::ledger::NewEvent;

    #[test]
    fn whatever_is_dated_by_the_line_is_told_by_the_clock_of_people() {
        let noon: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let later: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        let clock = Clock::manual(Now { wall: noon, boot: Duration::from_secs(100) });
        let line = Timeline::start(clock.clone());
        clock.set_wall(later);
        let exit = |cause: Cause| gtd_proto::Exit {
            agent: "a/witness".parse().unwrap(),
            instance: gtd_proto::InstanceId::generate(),
            pid: None,
            started_at: noon,
            ended_at: noon,
            uptime_ms: 0,
            code: None,
            signal: None,
            cause,
            requested: false,
            counts: false,
            exec_error: None,
            incident: None,
            evidence: None,
            killed: Vec::new(),
            output: Vec::new(),
            usage: gtd_proto::exit::Usage::default(),
        };
        for (cause, at) in [(Cause::LaunchError, later), (Cause::Crash, noon)] {
            let data = serde_json::to_value(exit(cause)).unwrap();
            let mut writes = vec![
                Write::Exit(Box::new(exit(cause))),
                Write::Event(NewEvent::new(noon, kind::AGENT_EXITED, data)),
                Write::Event(NewEvent::new(noon, "agent.throttled", json!({ "until": noon }))),
            ];
            outgoing(&mut writes, &line);
            let [Write::Exit(exit), Write::Event(exited), Write::Event(throttled)] = writes.as_slice() else {
                panic!()
            };
            // What ran is dated by its own record, what never ran by us.
            assert_eq!((exit.started_at, exit.ended_at), (at, at), "{cause:?}");
            assert_eq!(exited.data["ended_at"], json!(at));
            assert_eq!(throttled.data["until"], json!(later));
        }
        let aside = Aside { by: "person".into(), reason: None, at: noon };
        let (mut since, mut parked, mut docked) = (Some(noon), Some(aside), None);
        rig(&mut since, [&mut parked, &mut docked], &line);
        assert_eq!((since, parked.map(|aside| aside.at), docked), (Some(later), Some(later), None));
    }

    #[test]
    fn what_people_read_follows_their_clock_and_only_when_it_was_set() {
        let noon: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let clock = Clock::manual(Now { wall: noon, boot: Duration::from_secs(100) });
        let line = Timeline::start(clock.clone());
        let written = || {
            let data = json!({ "next_attempt": noon, "attempt": 2, "expires": null });
            let decision =
                Decision { at: noon, event: String::new(), decision: String::new(), reason: String::new() };
            let agent = "a/witness".parse().unwrap();
            let mut writes =
                vec![Write::Event(NewEvent::new(noon, "x", data)), Write::Decision { agent, decision }];
            outgoing(&mut writes, &line);
            writes
        };
        let Some(Write::Event(event)) = written().into_iter().next() else { panic!() };
        assert_eq!((event.at, &event.data["next_attempt"]), (noon, &json!(noon)));
        clock.set_wall("2026-03-02T12:00:00Z".parse().unwrap());
        let writes = written();
        let [Write::Event(event), Write::Decision { decision, .. }] = writes.as_slice() else { panic!() };
        assert_eq!(event.at.to_string(), "2026-03-02T12:00:00Z");
        assert_eq!(
            event.data,
            json!({ "next_attempt": "2026-03-02T12:00:00Z", "attempt": 2, "expires": null })
        );
        assert_eq!(decision.at.to_string(), "2026-03-02T12:00:00Z");
    }
}
