//! The first text that an agent gets: who it is, and how it learns the rest.
//!
//! One text, once. What an agent is to do in detail comes from `gtctl prime`, so that it can change without
//! a restart.

use gtd_proto::Address;

/// Longest title that is said, in characters: the whole is in the store.
const TITLE: usize = 120;

/// A piece of work, as far as it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Its id.
    pub id: String,
    /// What is to be done.
    pub title: String,
}

impl Work {
    /// The id and a title of one plain line: somebody else wrote it, and it must not look like more than a title.
    fn said(&self) -> String {
        let plain: String = self.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut title: String = words.chars().take(TITLE).collect();
        if words.chars().count() > TITLE {
            title.push('\u{2026}');
        }
        if title.is_empty() { self.id.clone() } else { format!("{} ({title})", self.id) }
    }
}

/// What a start is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occasion<'a> {
    /// The work on the agent's hook.
    pub work: Option<&'a Work>,
    /// The conversation goes on: the agent knows who it is.
    pub resumed: bool,
}

/// The start-up text of an agent. Crew get none: a person talks to them.
#[must_use]
pub fn text(agent: &Address, occasion: Occasion<'_>) -> Option<String> {
    let who = match agent {
        Address::Crew(..) => return None,
        Address::Mayor => "You are the mayor of this town".to_owned(),
        Address::Deacon => "You are the deacon of this town".to_owned(),
        Address::Boot => "You look after the deacon of this town".to_owned(),
        Address::Witness(rig) => format!("You are the witness of the rig {rig}"),
        Address::Refinery(rig) => format!("You are the refinery of the rig {rig}"),
        Address::Polecat(rig, name) => format!("You are {name}, a worker of the rig {rig}"),
    };
    let work = occasion.work.map(|work| format!("Your hook holds {}.", work.said())).unwrap_or_default();
    if occasion.resumed {
        let next = match occasion.work {
            Some(_) => "See in your worktree how far it is, and go on with it.",
            None => "Go on where you were.",
        };
        return Some(join(&["Your last process ended and you were started again.", &work, next]));
    }
    let next = match agent {
        Address::Mayor => "then see what has come in, and wait for your person.",
        Address::Deacon => "then make your rounds of the town.",
        Address::Boot => "then say how the deacon is, and end.",
        Address::Witness(_) => "then keep watch over the rig's workers.",
        Address::Refinery(_) => "then merge what is ready.",
        Address::Polecat(..) | Address::Crew(..) if occasion.work.is_some() => "then do it.",
        Address::Polecat(..) | Address::Crew(..) => "then wait for work on your hook.",
    };
    Some(join(&[&format!("{who}."), &work, &format!("Run `gtctl prime` to learn your task, {next}")]))
}

fn join(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_is_told_who_it_is_in_one_line() {
        let fresh = Occasion { work: None, resumed: false };
        for agent in ["mayor", "deacon", "boot", "a-b/witness", "a/refinery", "a/polecats/nux"] {
            let agent: Address = agent.parse().unwrap();
            let text = text(&agent, fresh).unwrap();
            assert!(text.contains("gtctl prime") && !text.contains('\n') && text.len() < 200, "{text}");
            assert!(agent.rig().is_none_or(|rig| text.contains(rig.as_str())), "{text}");
        }
        assert_eq!(text(&"a/crew/max".parse().unwrap(), fresh), None);
    }

    #[test]
    fn work_and_a_second_start_are_told() {
        let worker: Address = "a/polecats/nux".parse().unwrap();
        let work = Work { id: "a-12".into(), title: "mend the\n\x1b gate".into() };
        let hooked = text(&worker, Occasion { work: Some(&work), resumed: false }).unwrap();
        assert!(hooked.contains("a-12 (mend the gate)") && hooked.contains("nux"), "{hooked}");
        let long = Work { id: "a-12".into(), title: "very ".repeat(100) };
        let long = text(&worker, Occasion { work: Some(&long), resumed: false }).unwrap();
        assert!(long.chars().count() < 400, "{long}");
        let again = text(&worker, Occasion { work: Some(&work), resumed: true }).unwrap();
        assert!(again.contains("a-12") && !again.contains("gtctl prime"), "{again}");
        assert!(text(&worker, Occasion { work: None, resumed: true }).unwrap().contains("started again"));
    }
}
