//! Naming several agents at once.

use std::fmt;
use std::str::FromStr;

use crate::{Address, InvalidName};

/// An address, a rig, a role, or a glob over addresses (`alpha/*`, `*/witness`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(String);

impl Selector {
    /// Whether an agent is meant.
    #[must_use]
    pub fn matches(&self, agent: &Address) -> bool {
        let text = agent.to_string();
        self.0 == text
            || agent.rig().is_some_and(|rig| rig.as_str() == self.0)
            || agent.role().as_str() == self.0
            || shorthand(agent).is_some_and(|short| short == self.0)
            || (self.0.contains(['*', '?']) && glob(&self.0, &text))
    }

    /// The text it was made from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `alpha/nux` for the worker `alpha/polecats/nux`.
fn shorthand(agent: &Address) -> Option<String> {
    match agent {
        Address::Polecat(rig, name) => Some(format!("{rig}/{name}")),
        _ => None,
    }
}

impl FromStr for Selector {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName { what: "selector", given: String::new(), why: "is empty" });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether a text matches a pattern in which `*` stands for any run of characters, also none and also `/`
/// and `.`, and `?` for one.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Greedy with one point of return: the last star seen. Linear in practice, never exponential.
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((star, taken)) => {
                    p = star;
                    t = taken + 1;
                    back = Some((star, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn selectors_mean_what_they_say() {
        let cases = [
            ("a/witness", "a/witness", true),
            ("a", "a/refinery", true),
            ("a", "a-b/refinery", false),
            ("witness", "a-b/witness", true),
            ("a/*", "a/polecats/nux", true),
            ("a/*", "a-b/witness", false),
            ("*/witness", "a-witness/witness", true),
            ("*/witness", "a-witness/refinery", false),
            ("a/nux", "a/polecats/nux", true),
            ("mayor", "mayor", true),
        ];
        for (selector, agent, expected) in cases {
            let selector: Selector = selector.parse().unwrap();
            assert_eq!(selector.matches(&agent.parse().unwrap()), expected, "{selector} {agent}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_a_star_in_place_of_any_part(text in "[a-z./]{0,12}", cut in 0usize..12, len in 0usize..12) {
            prop_assert!(glob(&text, &text));
            let cut = cut.min(text.len());
            let end = (cut + len).min(text.len());
            let pattern = format!("{}*{}", &text[..cut], &text[end..]);
            prop_assert!(glob(&pattern, &text));
        }
    }
}
