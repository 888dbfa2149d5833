//! The house is as the design draws it: who may import whom, and what may lie at the top.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Subjects of `gtd/src`, from the top of the list to its end. Imports point down only; what shares a number
/// may import each other.
const RANKS: &[(&str, u32)] = &[
    ("main", 20),
    ("daemon", 20),
    ("lib", 20),
    ("rpc", 16),
    ("doctor", 15),
    ("polecats", 14),
    ("mail", 13),
    ("work", 12),
    ("supervisor", 11),
    ("agents", 10),
    ("tmux", 9),
    ("process", 8),
    ("town", 7),
    ("feed", 6),
    ("ledger", 5),
    ("host", 4),
    ("config", 1),
    ("error", 1),
    ("clock", 1),
];

/// What may lie at the top beside dot-folders.
const FOLDERS: &[&str] = &["proto", "gtd", "gtctl", "tests", "systemd", "launchd", "target"];
const FILES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "clippy.toml",
    "deny.toml",
    ".gitignore",
    ".gitattributes",
    ".editorconfig",
    ".git",
];

/// Longest source file, in lines.
const LONGEST: usize = 500;
/// Files that are longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];

fn rank(subject: &str) -> Option<u32> {
    RANKS.iter().find(|(name, _)| *name == subject).map(|(_, rank)| *rank)
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The text without comments and the insides of strings: what is left of it are the tokens.
fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let at = |i: usize| bytes.get(i).copied().unwrap_or('\0');
    while i < bytes.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < bytes.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                i += 2;
                while i < bytes.len() && !(at(i) == '*' && at(i + 1) == '/') {
                    i += 1;
                }
                i += 2;
            }
            ('r', '"' | '#') if !at(i.wrapping_sub(1)).is_alphanumeric() && at(i.wrapping_sub(1)) != '_' => {
                let mut hashes = 0;
                while at(i + 1 + hashes) == '#' {
                    hashes += 1;
                }
                if at(i + 1 + hashes) != '"' {
                    out.push('r');
                    i += 1;
                    continue;
                }
                i += 2 + hashes;
                while i < bytes.len() && !(at(i) == '"' && (0..hashes).all(|n| at(i + 1 + n) == '#')) {
                    i += 1;
                }
                i += 1 + hashes;
                out.push_str("\"\"");
            }
            ('"', _) => {
                i += 1;
                while i < bytes.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
                out.push_str("\"\"");
            }
            ('\'', '\\') => {
                i += 3;
                while i < bytes.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            (c, _) => {
                out.push(c);
                i += 1;
            }
        }
    }
    out
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// First names behind every `prefix::` in the code, also in groups (`crate::{a::B, c}`).
fn named_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let wanted = format!("{prefix}::");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(&wanted) {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = code.get(at + wanted.len()..).unwrap_or_default().trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest).to_owned());
            continue;
        };
        let (mut depth, mut fresh) = (0, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if c.is_whitespace() => {}
                _ if fresh => {
                    found.insert(word(group.get(i..).unwrap_or_default()).to_owned());
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

/// The module path of a file below `src`: `agents/task.rs` is `[agents, task]`, `agents/mod.rs` is `[agents]`.
fn module_of(relative: &Path) -> Vec<String> {
    let mut parts: Vec<String> = relative
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Subjects that a file reaches: by `crate::`, by its own crate's name, and by climbing with `super::`.
fn reached(code: &str, own_crate: &str, module: &[String]) -> BTreeSet<String> {
    let mut found = named_after(code, "crate");
    found.extend(named_after(code, own_crate));
    let climb = vec!["super"; module.len()].join("::");
    if module.len() > 1 {
        found.extend(named_after(code, &climb).into_iter().filter(|name| rank(name).is_some()));
    }
    found
}

#[test]
fn the_reader_of_imports_sees_groups_strings_and_comments() {
    let text = r##"
        use crate::{agents::order::{Order, What}, tmux, process as p}; // crate::rpc
        /* crate::host */ let s = "crate::ledger::x"; let r = r#"crate::feed"#; let c = '"';
        crate::town::look(); mycrate::doctor::x(); let l: &'static str = "\"crate::mail";
        use super::super::work::Thing;
    "##;
    let module = ["agents".to_owned(), "task".to_owned()];
    let found: Vec<String> = reached(&code(text), "gtd", &module).into_iter().collect();
    assert_eq!(found, ["agents", "process", "tmux", "town", "work"]);
}

#[test]
fn imports_in_gtd_point_down_the_list() {
    let src = top().join("gtd/src");
    let mut wrong = Vec::new();
    for file in sources(&src) {
        let relative = file.strip_prefix(&src).expect("below src");
        let module = module_of(relative);
        let subject = module.first().expect("a file has a name").clone();
        let text = code(&std::fs::read_to_string(&file).expect("a source file"));
        let reached = reached(&text, "gtd", &module);
        if subject == "bin" {
            for other in reached.iter().filter(|other| *other != "process") {
                wrong.push(format!(
                    "{} imports {other}; the shim may import process only",
                    relative.display()
                ));
            }
            continue;
        }
        let Some(own) = rank(&subject) else {
            wrong.push(format!("{}: {subject} has no place in the list of the design", relative.display()));
            continue;
        };
        for other in reached.iter().filter(|other| **other != subject) {
            match rank(other) {
                Some(theirs) if theirs <= own => {}
                Some(_) => {
                    wrong.push(format!("{} imports {other}, which is above {subject}", relative.display()))
                }
                // A macro or an item of the crate's root.
                None if subject == "main" || subject == "lib" => {}
                None => wrong
                    .push(format!("{} imports {other}, which has no place in the list", relative.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_folder_of_gtd_is_in_the_list() {
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(top().join("gtd/src")).expect("gtd/src").flatten() {
        let name =
            entry.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if name != "bin" && rank(&name).is_none() {
            wrong.push(name);
        }
    }
    let bins: Vec<String> = std::fs::read_dir(top().join("gtd/src/bin"))
        .expect("gtd/src/bin")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(wrong.is_empty(), "not in the list of the design: {wrong:?}");
    assert_eq!(bins, ["gtd-shim.rs"], "the shim is the only further program");
}

/// The names under a table of a manifest, `[dependencies]` and the like.
fn dependencies(manifest: &Path, table: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(manifest).expect("a manifest");
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == format!("[{table}]");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            found.insert(line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned());
        }
    }
    found
}

fn mentions(dir: &Path, forbidden: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in sources(dir) {
        let text = code(&std::fs::read_to_string(&file).expect("a source file"));
        for (prefix, name) in forbidden {
            let hit = if name.is_empty() {
                !named_after(&text, prefix).is_empty()
            } else {
                named_after(&text, prefix).contains(*name)
            };
            if hit {
                wrong.push(format!("{}: {prefix}::{name}", file.display()));
            }
        }
    }
    wrong
}

#[test]
fn proto_does_no_io_and_knows_no_runtime() {
    let wrong = mentions(
        &top().join("proto/src"),
        &[
            ("tokio", ""),
            ("nix", ""),
            ("rustix", ""),
            ("rusqlite", ""),
            ("libc", ""),
            ("std", "fs"),
            ("std", "net"),
            ("std", "process"),
            ("std", "env"),
            ("std", "thread"),
            ("std", "os"),
            ("gtd", ""),
            ("gtctl", ""),
        ],
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    let allowed =
        ["jiff", "jsonrpsee", "schemars", "serde", "serde_json", "serde_path_to_error", "thiserror", "uuid"];
    let surplus: Vec<String> = dependencies(&top().join("proto/Cargo.toml"), "dependencies")
        .into_iter()
        .filter(|name| !allowed.contains(&name.as_str()))
        .collect();
    assert!(surplus.is_empty(), "proto depends on {surplus:?}");
}

#[test]
fn gtctl_knows_the_daemon_by_its_protocol_only() {
    let wrong = mentions(&top().join("gtctl/src"), &[("gtd", ""), ("rusqlite", ""), ("gtd_tests", "")]);
    assert!(wrong.is_empty(), "{wrong:#?}");
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let ours: Vec<String> = dependencies(&top().join("gtctl/Cargo.toml"), table)
            .into_iter()
            .filter(|name| name == "gtd" || name == "gtd-tests" || name == "rusqlite")
            .collect();
        assert!(ours.is_empty(), "gtctl depends on {ours:?}");
    }
}

#[test]
fn gtd_does_not_depend_on_its_clients_or_tests() {
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let names = dependencies(&top().join("gtd/Cargo.toml"), table);
        assert!(!names.contains("gtctl") && !names.contains("gtd-tests"), "{names:?}");
    }
}

#[test]
fn the_top_level_holds_only_what_the_design_names() {
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(top()).expect("the workspace").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let fine = if entry.path().is_dir() {
            name.starts_with('.') || FOLDERS.contains(&name.as_str())
        } else {
            FILES.contains(&name.as_str())
        };
        if !fine {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "not in the design: {wrong:?}");
}

#[test]
fn long_files_are_divided_or_listed_with_a_reason() {
    let mut wrong = Vec::new();
    for part in ["proto/src", "gtd/src", "gtctl/src", "tests/src", "tests/tests", "gtd/tests"] {
        for file in sources(&top().join(part)) {
            let lines = std::fs::read_to_string(&file).expect("a source file").lines().count();
            let name = file.strip_prefix(top()).expect("below the top").display().to_string();
            let listed = LONGER.iter().any(|(known, _)| *known == name);
            if lines > LONGEST && !listed {
                wrong.push(format!("{name}: {lines} lines"));
            }
            if lines <= LONGEST && listed {
                wrong.push(format!("{name} is short now: take it off the list"));
            }
        }
    }
    assert!(wrong.is_empty(), "divide them, or list them with a reason: {wrong:#?}");
}

#[test]
fn every_file_of_tests_is_run() {
    let dir = top().join("tests/tests");
    let main = std::fs::read_to_string(dir.join("main.rs")).expect("the list of tests");
    let listed: BTreeSet<&str> =
        main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let there: BTreeSet<String> = std::fs::read_dir(&dir)
        .expect("the tests")
        .flatten()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .filter(|name| name != "main")
        .collect();
    // A file that is not in the list would be built by nobody, and fail never.
    assert_eq!(listed, there.iter().map(String::as_str).collect());
}
