//! Who looks like a coding agent, and who like one inside a desktop program. For reports alone: a name is no
//! reason to signal.

use std::path::Path;

/// Programs that are coding agents.
const AGENTS: [&str; 10] = [
    "claude",
    "claude-code",
    "codex",
    "gemini",
    "cursor-agent",
    "auggie",
    "amp",
    "opencode",
    "copilot",
    "aider",
];
/// Programs that run a script, which is then the agent.
const INTERPRETERS: [&str; 5] = ["node", "bun", "deno", "python", "python3"];
/// Editors and desktop programs, as they call themselves; the kernel keeps 15 bytes.
const EDITORS: [&str; 16] = [
    "code",
    "code-insiders",
    "codium",
    "cursor",
    "windsurf",
    "zed",
    "zed-editor",
    "electron",
    "idea",
    "java",
    "pycharm",
    "goland",
    "webstorm",
    "nvim",
    "emacs",
    "Claude",
];
/// Parts of paths that lie within editors and desktop programs.
const WITHIN: [&str; 10] = [
    "/.vscode/",
    "/.vscode-server/",
    "/.cursor/",
    "/.cursor-server/",
    "/.windsurf-server/",
    "/extensions/",
    "/resources/app",
    ".app/Contents/",
    "/JetBrains/",
    "/claude-desktop/",
];

/// What a process looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    /// Which agent.
    pub agent: String,
    /// The program it is a part of, where its own words tell.
    pub inside: Option<String>,
}

/// Whether the words of a process are worth reading: by its name it may be an agent.
pub(super) fn worth_reading(comm: &str) -> bool {
    let bare = bare(comm);
    AGENTS.contains(&bare) || INTERPRETERS.iter().any(|name| is_kind(bare, name)) || is_version(comm)
}

/// Which coding agent this is, by its name and the words it was started with.
#[must_use]
pub fn likeness(comm: &str, arguments: &[String]) -> Option<Likeness> {
    let mut words = arguments.iter().map(|word| bare(base(word)));
    let first = words.next().unwrap_or_default();
    let by_name = [bare(comm), first].into_iter().find(|name| AGENTS.contains(name));
    let by_script = || {
        let interpreted = INTERPRETERS.iter().any(|name| is_kind(bare(comm), name) || is_kind(first, name));
        let script = arguments.iter().skip(1).find(|word| !word.starts_with('-')).filter(|_| interpreted)?;
        // A package's main file: its directory tells more than its name.
        let mut parts = Path::new(script).components().rev().filter_map(|part| part.as_os_str().to_str());
        parts.find(|part| AGENTS.contains(&bare(part))).map(|part| bare(part).to_owned())
    };
    let agent = by_name.map(str::to_owned).or_else(by_script)?;
    let within = arguments.iter().take(3).find_map(|word| WITHIN.iter().find(|part| word.contains(**part)));
    let electron = arguments.iter().any(|word| word.starts_with("--type="));
    let inside = match (within, electron) {
        (Some(part), _) => Some(format!("a program with {}", part.trim_matches('/'))),
        (None, true) => Some("a desktop program".to_owned()),
        (None, false) => None,
    };
    Some(Likeness { agent, inside })
}

/// The editor or desktop program of this name.
pub(super) fn editor(comm: &str) -> Option<String> {
    let name = comm.split([' ', ':']).next().unwrap_or_default();
    EDITORS.contains(&name).then(|| name.to_owned())
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// A name without what packagers put around it: `.claude-unwrapped`, `claude.exe`, `cli.js`.
fn bare(name: &str) -> &str {
    let name = name.strip_prefix('.').unwrap_or(name);
    ["-unwrapped", "-wrapped", ".exe", ".js", ".mjs", ".cjs"]
        .iter()
        .fold(name, |name, end| name.strip_suffix(end).unwrap_or(name))
}

/// `python3.12` is a `python3`.
fn is_kind(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// A program that calls itself by its version, such as `2.0.14`.
fn is_version(comm: &str) -> bool {
    comm.contains('.') && comm.chars().all(|c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_known_by_name_script_and_place() {
        let like = |comm: &str, words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            likeness(comm, &words).map(|like| (like.agent, like.inside.is_some()))
        };
        let yes = |agent: &str, inside: bool| Some((agent.to_owned(), inside));
        assert_eq!(like("claude", &["claude", "--resume"]), yes("claude", false));
        assert_eq!(like(".claude-wrapped", &[]), yes("claude", false));
        assert_eq!(like("node", &["node", "/usr/lib/node_modules/codex/bin/codex.js"]), yes("codex", false));
        assert_eq!(
            like("node", &["node", "--max-old-space-size=1", "/x/gemini/dist/index.js"]),
            yes("gemini", false)
        );
        assert_eq!(like("2.0.14", &["/home/u/.local/bin/claude"]), yes("claude", false));
        assert_eq!(like("claude", &["/home/u/.vscode/extensions/x/claude"]), yes("claude", true));
        assert_eq!(like("node", &["node", "server.js"]), None);
        assert_eq!(like("vim", &["vim", "claude"]), None, "a file of that name is no agent");
        assert_eq!(like("grep", &["grep", "codex"]), None);
        assert!(worth_reading("2.0.14") && worth_reading("python3.12") && !worth_reading("bash"));
        assert_eq!(editor("code"), Some("code".to_owned()));
        assert_eq!(editor("bash"), None);
    }
}
