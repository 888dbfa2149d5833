//! Who else works on this machine: other towns' daemons, and the system that gtd replaces.

use std::path::{Path, PathBuf};

use super::super::found::many;
use super::super::{Found, Hint, World};
use crate::process::{Observation, ProcessId, facts};

/// What a gtd holds open while it works.
const LOCK: &str = "daemon.lock";

pub(super) fn towns(world: &World) -> Found {
    let table = match &world.table {
        Ok(table) => table,
        Err(why) => return Found::unknown(format!("the processes cannot be listed: {why}")),
    };
    let own = world.layout.root().join("daemon").join(LOCK);
    let mut others: Vec<String> = Vec::new();
    let mut twice: Vec<String> = Vec::new();
    let mut unread = 0;
    for stat in table.iter().filter(|stat| stat.comm == "gtd" && !stat.is_gone()) {
        let id = table.id_of(stat);
        match facts::opened(&id, LOCK) {
            Observation::Alive(locks) => {
                for lock in locks {
                    if lock == own {
                        twice.push(format!("process {}", id.pid));
                    } else if let Some(root) = lock.parent().and_then(Path::parent) {
                        others.push(format!("{}, process {}", root.display(), id.pid));
                    }
                }
            }
            Observation::Unknown(_) => unread += 1,
            Observation::Dead(_) | Observation::Absent => {}
        }
    }
    others.sort();
    others.dedup();
    let alone = twice.len() <= 1;
    let found = if alone {
        Found::ok(format!(
            "{} besides this one",
            many(others.len(), "daemon of a town runs", "daemons of towns run")
        ))
    } else {
        Found::error(format!("several daemons have this town's lock open: {}", twice.join(", ")))
            .hint(Hint::Towns)
    };
    found.details(others).with("unreadable", unread)
}

pub(super) fn incumbent(world: &World) -> Found {
    let table = match &world.table {
        Ok(table) => table,
        Err(why) => return Found::unknown(format!("the processes cannot be listed: {why}")),
    };
    let mut here = Vec::new();
    let mut elsewhere = 0;
    for stat in table.iter().filter(|stat| stat.comm == "gt" && !stat.is_gone()) {
        let id = table.id_of(stat);
        let Observation::Alive(words) = facts::arguments(&id) else { continue };
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        if !is_incumbent(&words) {
            continue;
        }
        match works_here(&id, world.layout.root()) {
            true => here.push(format!("process {}: {}", id.pid, words.join(" "))),
            false => elsewhere += 1,
        }
    }
    let found = match here.first() {
        None => Found::ok("no other supervisor works here"),
        Some(first) => Found::error(format!(
            "another supervisor works on this town and will start and end its agents: {first}; end it with: gt daemon stop"
        ))
        .hint(Hint::Again("incumbent"))
        .details(here.iter().skip(1).cloned()),
    };
    found.with("elsewhere", elsewhere)
}

/// `gt daemon run`, whatever path it was called by.
fn is_incumbent(words: &[String]) -> bool {
    let mut words = words.iter();
    let program = words.next().map(|word| word.rsplit('/').next().unwrap_or(word).to_owned());
    let rest: Vec<&str> = words.map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    program.as_deref() == Some("gt") && rest.starts_with(&["daemon", "run"])
}

/// Whether it stands in this town; by whole directory names.
fn works_here(id: &ProcessId, root: &Path) -> bool {
    let cwd: Option<PathBuf> = facts::cwd(id).alive();
    cwd.is_some_and(|cwd| cwd.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_incumbent_is_known_by_its_words() {
        let is =
            |words: &[&str]| is_incumbent(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert!(is(&["/usr/local/bin/gt", "daemon", "run"]));
        assert!(is(&["gt", "--verbose", "daemon", "run"]));
        assert!(!is(&["gt", "daemon", "status"]));
        assert!(!is(&["vim", "gt", "daemon", "run"]));
        assert!(!is(&[]));
    }
}
