//! Prefixes of work items, which rigs do not share.
//!
//! Owns the one order in which the places that name a prefix are asked. Must never invent one silently.

use std::collections::BTreeMap;
use std::path::Path;

use gtd_proto::RigName;
use serde_json::Value;

use super::file;
use super::registry::trim_prefix;

/// Longest prefix: what `bd` takes.
const LENGTH_MAX: usize = 20;

/// Reads the prefixes that the town's work store routes by: the first one of each rig. Lines that are not
/// right are passed over, as their writer does. Missing file: none.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn routes(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let Some(bytes) = file::read(path)? else { return Ok(BTreeMap::new()) };
    let mut routes = BTreeMap::new();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        if let (Some(prefix), Some(path)) = (text("prefix"), text("path"))
            && let Some(rig) = path.split('/').next().filter(|rig| !matches!(*rig, "" | "."))
        {
            routes.entry(rig.to_owned()).or_insert_with(|| trim_prefix(prefix));
        }
    }
    Ok(routes)
}

/// Whether a text can be a prefix: a letter, then letters, digits and dashes, at most 20 in all, no dash at
/// the end.
#[must_use]
pub fn is_valid(prefix: &str) -> bool {
    prefix.len() <= LENGTH_MAX
        && prefix.starts_with(|c: char| c.is_ascii_alphabetic())
        && prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !prefix.ends_with('-')
}

/// Prefixes that would suit a name, the best first: initials of its parts, or its first letters, then ever
/// more of the name.
pub fn candidates(rig: &RigName) -> impl Iterator<Item = String> {
    let name: String = rig.as_str().to_ascii_lowercase();
    let parts: Vec<String> = name
        .split(['-', '_', '.'])
        .map(|part| part.chars().filter(char::is_ascii_alphanumeric).collect::<String>())
        .filter(|part| !part.is_empty())
        .collect();
    let initials: String = parts.iter().filter_map(|part| part.chars().next()).collect();
    let whole: String = parts.concat();
    let first = if parts.len() > 1 {
        initials
    } else if whole.len() <= 3 {
        whole.clone()
    } else {
        whole.chars().take(2).collect()
    };
    let longer = (2..=whole.len().min(LENGTH_MAX)).map(move |length| whole.chars().take(length).collect());
    std::iter::once(first).chain(longer).filter(|prefix: &String| is_valid(prefix) && prefix != "hq")
}

/// A prefix for a rig that has none anywhere.
#[must_use]
pub fn derived(rig: &RigName) -> String {
    candidates(rig).next().unwrap_or_else(|| "rig".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_are_derived_from_names() {
        for (name, prefix) in [
            ("gastown", "ga"),
            ("my-rig", "mr"),
            ("a", "a"),
            ("web", "web"),
            ("a-b-c", "abc"),
            ("9lives", "rig"),
            ("hq", "rig"),
        ] {
            assert_eq!(derived(&RigName::new(name).unwrap()), prefix, "{name}");
        }
        let all: Vec<String> = candidates(&RigName::new("alpha").unwrap()).collect();
        assert_eq!(all, ["al", "al", "alp", "alph", "alpha"]);
    }

    #[test]
    fn routes_are_read_past_what_is_not_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.jsonl");
        assert!(routes(&path).unwrap().is_empty());
        let text = "# x\n{\"prefix\":\"hq-\",\"path\":\".\"}\n{\"prefix\":\"pj-\",\"path\":\"proj/mayor/rig\"}\n{\n{\"prefix\":\"q-\",\"path\":\"proj\"}\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(routes(&path).unwrap(), BTreeMap::from([("proj".into(), "pj".into())]));
    }

    proptest! {
        #[test]
        fn what_is_derived_is_valid(name in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}") {
            prop_assert!(is_valid(&derived(&RigName::new(name).unwrap())));
        }
    }
}
