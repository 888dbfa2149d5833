//! The service manager's unit that a process lives in, and how to start a program outside of our own.
//!
//! Owns the reading of control groups for this one question. It must never take "cannot be read" for "in none".

use std::ffi::OsString;
use std::io;

/// The unit whose control group holds a process: `gtd@home-me-town.service`, `session-3.scope`. None where no
/// manager that names units is at work. `None` as the process is ourselves.
///
/// # Errors
/// When the process is gone, or the system does not say.
pub fn of(pid: Option<i32>) -> io::Result<Option<String>> {
    let who = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    Ok(innermost(&std::fs::read_to_string(format!("/proc/{who}/cgroup"))?))
}

/// Reads `/proc/PID/cgroup` (cgroups(7)): lines `number:controllers:path`. systemd keeps its units in the hierarchy
/// `name=systemd` where that is mounted, else in the unified one.
fn innermost(text: &str) -> Option<String> {
    let path = |name: &str| {
        text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            (controllers == name).then_some(path)
        })
    };
    // A unit may divide its own group further.
    let unit = path("name=systemd").or_else(|| path(""))?.rsplit('/').find(|part| is_unit(part))?;
    Some(unit.to_owned())
}

fn is_unit(part: &str) -> bool {
    is_service(part) || part.ends_with(".scope")
}

/// Whether the manager ends everything in it when it ends the unit, as far as its kind tells.
#[must_use]
pub fn is_service(unit: &str) -> bool {
    unit.ends_with(".service")
}

/// Words put in front of a program so that it starts elsewhere than in our own unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    words: Vec<OsString>,
    /// What the name of the scope begins with; none where the words need no name.
    scope: Option<String>,
}

/// Properties of the scope that not every version of systemd knows. Without them one agent that runs out of memory
/// may take the tmux server along: since version 253 a scope is ended when one of its processes is
/// (systemd.scope(5)), and systemd-oomd picks whole scopes.
const TUNED: [&str; 2] = ["OOMPolicy=continue", "ManagedOOMPreference=avoid"];

impl Launcher {
    /// These words.
    #[must_use]
    pub fn plain(words: Vec<OsString>) -> Self {
        Self { words, scope: None }
    }

    /// Ways out of a service, best first: a scope of the same user's manager.
    #[must_use]
    pub fn out_of_service(town_id: &str) -> Vec<Self> {
        [TUNED.as_slice(), &[]].map(|properties| Self::scope(town_id, properties)).into()
    }

    fn scope(town_id: &str, tuned: &[&str]) -> Self {
        let words = ["systemd-run", "--user", "--scope", "--quiet", "--collect"];
        let about = format!("--description=tmux server of the gtd town {town_id}");
        // A town may have more processes than a unit is allowed by default.
        let properties = ["TasksMax=infinity"].iter().chain(tuned).flat_map(|value| ["-p", *value]);
        let words = words.into_iter().chain([about.as_str()]).chain(properties).map(OsString::from).collect();
        Self { words, scope: Some(format!("gtd-tmux-{town_id}")) }
    }

    /// The words for one start. A scope has a name of its own each time: one that has just ended may still be
    /// known.
    #[must_use]
    pub fn words(&self) -> Vec<OsString> {
        let Some(scope) = &self.scope else { return self.words.clone() };
        let fresh = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("--unit={scope}-{}", fresh.get(..8).unwrap_or(&fresh));
        self.words.iter().cloned().chain([name.into(), "--".into()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_unit_is_found_in_every_kind_of_hierarchy() {
        let cases: [(&str, Option<&str>); 10] = [
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/gtd@a.service",
                Some("gtd@a.service"),
            ),
            ("0::/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("0::/user.slice/user@1000.service/app.slice/gtd@a.service/inner/most", Some("gtd@a.service")),
            ("9:name=systemd:/app.slice/x.scope\n0::/app.slice/x.scope", Some("x.scope")),
            ("9:name=systemd:/\n8:pids:/x.service\n0::/", None),
            ("3:cpu,cpuacct:/a.service\n0::/b.service", Some("b.service")),
            ("0::/docker/0123456789", None),
            ("0::/", None),
            ("", None),
            (r"0::/app.slice/gtd@home-me-my\x20town:1.service", Some(r"gtd@home-me-my\x20town:1.service")),
        ];
        for (text, expected) in cases {
            assert_eq!(innermost(text).as_deref(), expected, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_is_gone_is_an_error_and_no_answer() {
        assert!(of(None).is_ok());
        assert!(of(Some(i32::MAX)).is_err());
    }

    #[test]
    fn each_start_has_a_scope_of_its_own_and_the_command_follows() {
        let ways = Launcher::out_of_service("town-1");
        assert_eq!(ways.len(), 2);
        for way in &ways {
            let (first, second) = (way.words(), way.words());
            assert_ne!(first, second);
            assert_eq!(first.first().unwrap(), "systemd-run");
            assert_eq!(first.last().unwrap(), "--");
            assert!(first.iter().any(|word| word.to_string_lossy().starts_with("--unit=gtd-tmux-town-1-")));
        }
        let tuned = |way: &Launcher| way.words().iter().any(|word| word == "OOMPolicy=continue");
        assert_eq!(ways.iter().map(tuned).collect::<Vec<_>>(), [true, false]);
    }
}
