//! Agents that run.

use super::super::found::many;
use super::super::{Found, Hint, World};
use crate::process::attribution::OnRecord;
use crate::process::{Observation, Pid, facts};

pub(super) fn environment(world: &World) -> Found {
    let Some(live) = &world.live else { return Found::skipped("no daemon runs") };
    let Ok(table) = &world.table else { return Found::unknown("the processes cannot be listed") };
    let records: &[OnRecord] = live.orphans.as_ref().map_or(&[], |seen| &seen.on_record);
    let town = world.town_id.as_ref().map(ToString::to_string);
    let (mut wrong, mut unknown, mut looked, mut first) = (Vec::new(), Vec::new(), 0, None);
    for agent in live.agents.iter().filter(|agent| agent.running && world.means_agent(&agent.agent)) {
        let (Some(pid), Some(instance)) = (agent.pid.and_then(Pid::new), &agent.instance) else { continue };
        let Some(stat) = table.at_pid(pid) else { continue };
        let id = table.id_of(stat);
        // Another one may have the number by now.
        if records.iter().any(|one| {
            one.instance == instance.as_str() && one.capture.oldest().is_some_and(|old| id.start < old.start)
        }) {
            continue;
        }
        looked += 1;
        let why = match facts::marker(&id) {
            Observation::Alive(marker) if marker.instance.as_deref() != Some(instance.as_str()) => {
                format!(
                    "names instance {}, and it is {instance}",
                    marker.instance.as_deref().unwrap_or("none")
                )
            }
            Observation::Alive(marker) if town.is_some() && marker.town != town => {
                format!("names town {}", marker.town.as_deref().unwrap_or("none"))
            }
            Observation::Alive(_) | Observation::Dead(_) => continue,
            Observation::Absent => {
                "carries no mark of ours: what it starts cannot be told from other people's".to_owned()
            }
            Observation::Unknown(why) => {
                unknown.push(format!("{}: {why}", agent.agent));
                continue;
            }
        };
        wrong.push(format!("the environment of {} {why}", agent.agent));
        first.get_or_insert_with(|| agent.agent.to_string());
    }
    let found = match (first, unknown.is_empty()) {
        (Some(agent), _) => Found::warning(many(
            wrong.len(),
            "agent has another environment",
            "agents have another environment",
        ))
        .hint(Hint::Explain(agent)),
        (None, false) => Found::unknown("not all environments can be read"),
        (None, true) => {
            Found::ok(many(looked, "agent carries its own marks", "agents carry their own marks"))
        }
    };
    found.details(wrong).details(unknown)
}
