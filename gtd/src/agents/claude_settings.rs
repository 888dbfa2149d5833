//! The settings file that Claude is given for a role: hooks that report to us, and no dialog about permissions.
//!
//! One file for each role and rig, outside of every worktree; its path goes into the launch. What we
//! wrote is known by its digest in a small file next to it. Must never write over what somebody else wrote or
//! changed: that is left as it is, used, and told.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use gtd_proto::Address;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::host::files::write_atomic;
use crate::town::Layout;

/// The file's name.
const FILE: &str = "settings.json";
/// What is known of what we wrote, beside it.
const MARK: &str = ".gtd-settings.json";
/// Digests remembered: an older daemon may have written any of them.
const DIGESTS: usize = 8;
/// A larger file is none that we wrote.
const READ_MAX: u64 = 1 << 20;
/// How long Claude waits for a hook, in seconds. A report takes some milliseconds and gives up by itself long before.
const HOOK_TIMEOUT_S: u64 = 5;
/// Tools with which Claude asks its person something, as a pattern of its own.
const ASKING_TOOLS: &str = "AskUserQuestion|ExitPlanMode";

/// Claude's events, the tools for which they are heard, and what is reported on each. What an event means beyond
/// that, such as a notification that is only about idling, is told apart by the report itself.
const HOOKS: [(&str, Option<&str>, &str); 7] = [
    ("SessionStart", None, "started"),
    ("UserPromptSubmit", None, "working"),
    ("PreToolUse", Some(ASKING_TOOLS), "waiting"),
    ("PostToolUse", Some(ASKING_TOOLS), "working"),
    ("Notification", None, "waiting"),
    ("Stop", None, "idle"),
    ("SessionEnd", None, "ended"),
];

/// Where the settings of an agent's role are: with the other settings of its rig, or of the town. No agent works there,
/// so that another Claude, which an agent or a person starts, does not find them by itself and report in its name;
/// and older tools' files are elsewhere.
#[must_use]
pub fn path(layout: &Layout, agent: &Address) -> PathBuf {
    let base = agent.rig().map_or_else(|| layout.root().to_owned(), |rig| layout.rig(rig));
    base.join("settings/claude").join(agent.role().as_str()).join(FILE)
}

/// The text of the file; `gtctl` is the program that its hooks call.
#[must_use]
pub fn text(gtctl: &Path) -> String {
    let program = quoted(&gtctl.to_string_lossy());
    let mut hooks = serde_json::Map::new();
    for (event, tools, state) in HOOKS {
        let command = format!("{program} agent report {state}");
        let call = json!({ "type": "command", "command": command, "timeout": HOOK_TIMEOUT_S });
        let entry = match tools {
            Some(tools) => json!({ "matcher": tools, "hooks": [call] }),
            None => json!({ "hooks": [call] }),
        };
        hooks.insert(event.to_owned(), json!([entry]));
    }
    let settings = json!({ "skipDangerousModePermissionPrompt": true, "hooks": hooks });
    format!("{settings:#}\n")
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing: it is to be written.
    Absent,
    /// What we would write.
    Current,
    /// What an earlier daemon wrote: it is to be written anew.
    Outdated,
    /// Somebody else's, or changed by somebody.
    Theirs {
        /// Its hooks report the start of a session to us all the same.
        reports: bool,
    },
    /// It cannot be read.
    Unreadable(String),
}

/// Looks at the file, and changes nothing.
#[must_use]
pub fn look(path: &Path, wanted: &str) -> Look {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Look::Absent,
        Err(error) => return Look::Unreadable(error.to_string()),
    };
    // A link leads to a file of somebody's; asked before opening, since a pipe would wait for ever.
    let target = if meta.is_symlink() { std::fs::metadata(path) } else { Ok(meta.clone()) };
    let found = match target {
        Ok(target) if target.is_file() && target.len() <= READ_MAX => std::fs::read_to_string(path),
        Ok(_) => return Look::Theirs { reports: false },
        Err(error) => Err(error),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return Look::Unreadable(error.to_string()),
    };
    if found == wanted {
        return Look::Current;
    }
    if !meta.is_symlink() && marks(path).contains(&digest(&found)) {
        return Look::Outdated;
    }
    Look::Theirs { reports: reports(&found) }
}

/// Whether a settings file's hooks report the start of a session.
fn reports(text: &str) -> bool {
    let Ok(settings) = serde_json::from_str::<Value>(text) else { return false };
    let entries = settings.pointer("/hooks/SessionStart").and_then(Value::as_array);
    let calls = entries.into_iter().flatten().filter_map(|entry| entry["hooks"].as_array()).flatten();
    calls.filter_map(|call| call["command"].as_str()).any(|command| command.contains("agent report started"))
}

/// Writes the file. What was looked at before may have changed since: it is looked at again.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, wanted: &str) -> io::Result<()> {
    if !matches!(look(path, wanted), Look::Absent | Look::Outdated) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    // First that it is ours, then the file: a crash in between leaves one that is known either way.
    let mut mark = Mark { digests: marks(path) };
    mark.digests.retain(|known| *known != digest(wanted));
    mark.digests.insert(0, digest(wanted));
    mark.digests.truncate(DIGESTS);
    write_atomic(&path.with_file_name(MARK), &serde_json::to_vec(&mark)?, 0o600)?;
    write_atomic(path, wanted.as_bytes(), 0o600)
}

/// What we wrote, the latest first.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Mark {
    digests: Vec<String>,
}

fn marks(path: &Path) -> Vec<String> {
    let mark = path.with_file_name(MARK);
    let small = std::fs::symlink_metadata(&mark).is_ok_and(|meta| meta.is_file() && meta.len() <= READ_MAX);
    let read = small.then(|| std::fs::read(&mark).ok()).flatten();
    // One that cannot be read makes the file somebody's, which is the safe side.
    read.and_then(|read| serde_json::from_slice::<Mark>(&read).ok()).unwrap_or_default().digests
}

/// FNV-1a with the length: tells an edited text from ours, and protects from nobody.
fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{}-{hash:016x}", text.len())
}

/// What a launch does with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where it is.
    pub path: PathBuf,
    /// What is to be written there before the launch, if anything is.
    pub write: Option<String>,
    /// The launch names it.
    pub used: bool,
    /// Its hooks report.
    pub reports: bool,
    /// What a person should know about it.
    pub note: Option<String>,
}

/// Decides it, from what is there.
#[must_use]
pub fn plan(path: PathBuf, gtctl: &Path) -> Plan {
    let wanted = text(gtctl);
    let seen = look(&path, &wanted);
    let shown = path.display();
    let note = match &seen {
        Look::Absent | Look::Current | Look::Outdated => None,
        Look::Theirs { reports: true } => Some(format!(
            "{shown} was written or changed by somebody and is left as it is; it still reports to us"
        )),
        Look::Theirs { reports: false } => Some(format!(
            "{shown} was written or changed by somebody and is left as it is; agents that use it do not report what \
             they do"
        )),
        Look::Unreadable(why) => {
            Some(format!("{shown} cannot be read, and the agent is started without it: {why}"))
        }
    };
    let ours = matches!(seen, Look::Absent | Look::Current | Look::Outdated);
    Plan {
        used: !matches!(seen, Look::Unreadable(_)),
        reports: ours || seen == Look::Theirs { reports: true },
        write: matches!(seen, Look::Absent | Look::Outdated).then_some(wanted),
        note,
        path,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings/claude/polecat").join(FILE);
        (dir, path)
    }

    #[test]
    fn the_text_is_json_with_a_report_on_every_event() {
        let settings: Value = serde_json::from_str(&text(Path::new("/opt/it's here/gtctl"))).unwrap();
        assert_eq!(settings["skipDangerousModePermissionPrompt"], true);
        for (event, tools, state) in HOOKS {
            let entry = &settings["hooks"][event][0];
            let command = entry["hooks"][0]["command"].as_str().unwrap();
            assert_eq!(command, format!(r"'/opt/it'\''s here/gtctl' agent report {state}"));
            assert_eq!(entry["matcher"].as_str(), tools);
        }
        assert!(reports(&text(Path::new("/x/gtctl"))));
    }

    #[test]
    fn it_is_made_kept_and_refreshed_while_it_is_ours() {
        let (_dir, path) = scratch();
        let (old, new) = (text(Path::new("/old/gtctl")), text(Path::new("/new/gtctl")));
        assert_eq!(look(&path, &old), Look::Absent);
        write(&path, &old).unwrap();
        assert_eq!(look(&path, &old), Look::Current);
        assert_eq!(look(&path, &new), Look::Outdated);
        let plan = plan(path.clone(), Path::new("/new/gtctl"));
        assert_eq!((plan.write.as_deref(), plan.used, plan.reports), (Some(new.as_str()), true, true));
        write(&path, &new).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), new);
        // A crash between the mark and the file: what an earlier daemon wrote is still known.
        fs::write(&path, &old).unwrap();
        assert_eq!(look(&path, &new), Look::Outdated);
        // Nothing is left beside it but what is known of it.
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn what_somebody_wrote_or_changed_is_left_used_and_told() {
        let (_dir, path) = scratch();
        let (ours, gtctl) = (text(Path::new("/x/gtctl")), Path::new("/x/gtctl"));
        write(&path, &ours).unwrap();
        let edited = ours.replace("\"timeout\": 5", "\"timeout\": 7");
        let theirs = [
            (edited.as_str(), true),
            (r#"{"hooks":{}}"#, false),
            (r#"{"hooks":{"SessionStart":[{"hooks":[{"command":"gt prime"}]}]}}"#, false),
            ("{ torn", false),
            ("", false),
        ];
        for (text, reports) in theirs {
            fs::write(&path, text).unwrap();
            let plan = plan(path.clone(), gtctl);
            assert_eq!((plan.write.as_deref(), plan.used, plan.reports), (None, true, reports), "{text}");
            assert!(plan.note.unwrap().contains("left as it is"), "{text}");
            write(&path, &ours).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it was written over");
        }
    }

    #[test]
    fn a_lost_or_torn_mark_makes_it_somebodys_and_odd_things_are_not_opened() {
        let (_dir, path) = scratch();
        let (old, new) = (text(Path::new("/old/gtctl")), text(Path::new("/new/gtctl")));
        write(&path, &old).unwrap();
        fs::write(path.with_file_name(MARK), "{").unwrap();
        assert_eq!(look(&path, &new), Look::Theirs { reports: true });
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(look(&path, &new), Look::Theirs { reports: false });
        fs::remove_dir(&path).unwrap();
        let fifo = nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU);
        fifo.unwrap();
        assert_eq!(look(&path, &new), Look::Theirs { reports: false });
        fs::remove_file(&path).unwrap();
        // A link is its owner's, also when it leads to a text of ours.
        fs::write(path.with_file_name("mine.json"), &old).unwrap();
        fs::write(
            path.with_file_name(MARK),
            serde_json::to_vec(&Mark { digests: vec![digest(&old)] }).unwrap(),
        )
        .unwrap();
        std::os::unix::fs::symlink("mine.json", &path).unwrap();
        assert_eq!(look(&path, &new), Look::Theirs { reports: true });
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(matches!(look(&path, &new), Look::Unreadable(_)));
    }

    #[test]
    fn each_role_has_one_place_outside_of_every_worktree() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path()).unwrap();
        let at = |agent: &str| {
            let path = path(&layout, &agent.parse().unwrap());
            path.strip_prefix(layout.root()).unwrap().to_string_lossy().into_owned()
        };
        assert_eq!(at("mayor"), "settings/claude/mayor/settings.json");
        assert_eq!(at("deacon"), "settings/claude/deacon/settings.json");
        assert_eq!(at("a/witness"), "a/settings/claude/witness/settings.json");
        assert_eq!(at("a/polecats/nux"), "a/settings/claude/polecat/settings.json");
        assert_eq!(at("a/polecats/max"), at("a/polecats/nux"));
        for agent in ["mayor", "deacon", "boot", "a/witness", "a/refinery", "a/polecats/nux", "a/crew/max"] {
            let agent: Address = agent.parse().unwrap();
            let place = path(&layout, &agent);
            let workdir = crate::town::rigs::workdir(&layout, &agent);
            // Claude reads the settings of the directory that it is started in.
            assert!(!place.starts_with(workdir.join(".claude")), "{agent}");
            let checkout = matches!(agent, Address::Refinery(_) | Address::Polecat(..) | Address::Crew(..));
            assert!(!checkout || !place.starts_with(&workdir), "{agent}");
        }
    }
}
