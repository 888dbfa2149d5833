//! Names of tmux sessions, for people.
//!
//! Made from a template and never read back: an agent's identity is in the ledger and in the session's
//! options.

use gtd_proto::Address;

use crate::config::Names;

/// The name that the templates give an agent's session. `prefix` is the rig's; its name stands in for it
/// where there is none.
#[must_use]
pub fn expand(names: &Names, agent: &Address, prefix: Option<&str>) -> String {
    let template = match agent {
        Address::Mayor | Address::Deacon | Address::Boot => &names.town,
        Address::Witness(_) | Address::Refinery(_) => &names.role,
        Address::Polecat(..) => &names.polecat,
        Address::Crew(..) => &names.crew,
    };
    let rig = agent.rig().map_or("", |rig| rig.as_str());
    let mut out = String::new();
    let mut rest = template.as_str();
    // One pass, so that a name with braces in it could not be taken for a placeholder.
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((placeholder, tail)) = after.split_once('}') else { break };
        out.push_str(match placeholder {
            "rig" => rig,
            "prefix" => prefix.unwrap_or(rig),
            "role" => agent.role().as_str(),
            "name" => agent.name().map_or("", |name| name.as_str()),
            _ => "",
        });
        rest = tail;
    }
    if !rest.contains('{') {
        out.push_str(rest);
    }
    clean(&out)
}

/// A name that tmux takes as it is: it would itself put `_` for `.` and `:`, expand `#`, and read a first
/// `$`, `@`, `%`, `=`, `-` or `!` of a target as something else.
fn clean(name: &str) -> String {
    let name: String =
        name.chars()
            .map(|c| {
                if matches!(c, '.' | ':' | '#' | '\\') || c.is_control() || c.is_whitespace() {
                    '_'
                } else {
                    c
                }
            })
            .collect();
    let odd = |c: char| matches!(c, '$' | '@' | '%' | '=' | '-' | '!' | '+' | '{');
    if name.is_empty() || name.starts_with(odd) { format!("_{name}") } else { name }
}

/// The name, or the next one that is free: `name~2`, `name~3`, …
#[must_use]
pub fn unused(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    // More sessions of one name than a town has agents cannot be; the last number is then as good as any.
    (2..10_000)
        .map(|number| format!("{name}~{number}"))
        .find(|name| !taken(name))
        .unwrap_or_else(|| format!("{name}~10000"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn named(names: &Names, agent: &str, prefix: Option<&str>) -> String {
        expand(names, &agent.parse().unwrap(), prefix)
    }

    #[test]
    fn templates_are_filled_in() {
        let names = Names::default();
        for (agent, expected) in [
            ("mayor", "hq-mayor"),
            ("deacon", "hq-deacon"),
            ("boot", "hq-boot"),
            ("a-b/witness", "gt-a-b-witness"),
            ("a/refinery", "gt-a-refinery"),
            ("a/polecats/nux", "gt-a-nux"),
            ("a/crew/max", "gt-a-crew-max"),
            ("x.y/polecats/a.b", "gt-x_y-a_b"),
        ] {
            assert_eq!(named(&names, agent, Some("pp")), expected);
        }
        let later = Names {
            role: "{prefix}-{role}".into(),
            polecat: "{prefix}-{name}".into(),
            crew: "{prefix}-crew-{name}".into(),
            ..Names::default()
        };
        assert_eq!(named(&later, "proj/witness", Some("pj")), "pj-witness");
        assert_eq!(named(&later, "proj/polecats/obsidian", Some("pj")), "pj-obsidian");
        assert_eq!(named(&later, "proj/crew/max", None), "proj-crew-max");
    }

    #[test]
    fn names_that_tmux_would_read_otherwise_are_not_made() {
        for (template, expected) in [
            ("${role}", "_$mayor"),
            ("={role}", "_=mayor"),
            ("a:b.{role}", "a_b_mayor"),
            ("#S {role}", "_S_mayor"),
        ] {
            let names = Names { town: template.into(), ..Names::default() };
            assert_eq!(named(&names, "mayor", None), expected);
        }
    }

    #[test]
    fn the_later_of_two_equal_names_gets_a_number() {
        let names = Names::default();
        let mut taken = BTreeSet::new();
        for agent in ["a/polecats/b-witness", "a-b/witness", "a-b/polecats/witness"] {
            let name = unused(&named(&names, agent, None), |name| taken.contains(name));
            assert!(taken.insert(name));
        }
        assert_eq!(
            taken.into_iter().collect::<Vec<_>>(),
            ["gt-a-b-witness", "gt-a-b-witness~2", "gt-a-b-witness~3"]
        );
    }

    proptest! {
        #[test]
        fn no_name_is_empty_or_odd(template in ".{0,24}", rig in "[a-z][a-z.-]{0,8}") {
            let names = Names { role: template, ..Names::default() };
            let name = named(&names, &format!("{rig}/witness"), None);
            prop_assert!(!name.is_empty() && !name.contains(['.', ':', '#', '\n']) && !name.starts_with(['$', '=']));
        }
    }
}
