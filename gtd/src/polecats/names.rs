//! What a worker may be called, and what the next one is called.
//!
//! Pure. A name only stands for a worker within its rig: nothing is ever found out from it.

use std::collections::BTreeSet;

use gtd_proto::id::RESERVED;
use gtd_proto::{AgentName, RigName};

use super::themes::THEMES;
use crate::town::file::Known;
use crate::town::settings::{NamePool, Settings};

/// How many names of a list are used before numbers are, unless the rig's settings say otherwise (reference §2.1).
const MOST: usize = 50;

/// Words that mean a role where a rig or a worker could be named (`sling`).
const ROLE_WORDS: [&str; 9] = ["mayor", "may", "deacon", "dea", "crew", "witness", "wit", "refinery", "ref"];

/// Further words that mean somebody or something else in a town.
const TAKEN_WORDS: [&str; 9] = ["all", "dog", "gtd", "hq", "human", "none", "overseer", "person", "self"];

/// A name that no worker may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the polecat name {name:?} {why}")]
pub struct BadName {
    /// The text given.
    pub name: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

/// The rule for the name of a *new* worker. Workers that are there already are not asked.
///
/// # Errors
/// Which part of the rule the text breaks.
pub fn checked(text: &str) -> Result<AgentName, BadName> {
    let fail = |why| BadName { name: text.to_owned(), why };
    let name = AgentName::new(text).map_err(|error| fail(error.why))?;
    let lower = text.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || TAKEN_WORDS.contains(&lower.as_str()) {
        return Err(fail("means a role or a place in every town"));
    }
    // Its session would be called as that of a person's workspace.
    if lower.strip_prefix("crew").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric())) {
        return Err(fail("would be taken for a crew member's"));
    }
    // It is a part of the branch's name, where git allows neither.
    if text.contains("..") || text.ends_with('.') || lower.ends_with(".lock") {
        return Err(fail("cannot be a part of a branch's name"));
    }
    Ok(name)
}

/// The rig that a text names, where it can name one: no path, no role word, and registered. So `sling` tells a rig
/// from everything else.
#[must_use]
pub fn is_rig_name(text: &str, registered: impl Fn(&RigName) -> bool) -> Option<RigName> {
    if text.contains('/') || ROLE_WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        return None;
    }
    RigName::new(text).ok().filter(|rig| registered(rig))
}

/// The theme of a rig that chose none: by its name, in the way in which older tools pick it too.
#[must_use]
pub fn theme_of(rig: &RigName) -> &'static str {
    let hash =
        rig.as_str().bytes().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let [(first, _), (second, _), (third, _)] = THEMES;
    match hash % 3 {
        0 => first,
        1 => second,
        _ => third,
    }
}

/// A rig's names cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the names of rig {rig}'s polecats cannot be told: {why}")]
pub struct NoPool {
    /// The rig.
    pub rig: RigName,
    /// Why: of the file `settings/config.json` in the rig's directory.
    pub why: String,
}

/// The names of a rig's workers, in the order in which they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    names: Vec<AgentName>,
    /// Numbers begin after this.
    most: usize,
    /// Names of the rig's own list that no worker may have, each with the reason: passed over.
    pub passed_over: Vec<BadName>,
}

impl Pool {
    /// The pool that a rig's settings make.
    ///
    /// # Errors
    /// When they cannot be read, or `namepool` in them is not as it should be: names from a list that was not meant
    /// would stay for as long as their workers do.
    pub fn of(rig: &RigName, settings: &Known<Settings>) -> Result<Self, NoPool> {
        let fail = |why: String| NoPool { rig: rig.clone(), why };
        if let Some(error) = settings.error() {
            return Err(fail(error.to_owned()));
        }
        let pool = settings.value().map(|settings| settings.names.clone()).unwrap_or_default();
        match pool.wrong.first() {
            Some(wrong) => Err(fail(format!("settings/config.json: {wrong}"))),
            None => Ok(Self::from(rig, &pool)),
        }
    }

    fn from(rig: &RigName, pool: &NamePool) -> Self {
        let most = pool.max_before_numbering.filter(|most| *most > 0).unwrap_or(MOST);
        let theme = match pool.style.as_deref() {
            Some(style) => style,
            // A list or a number without a style is still a choice: then it is the first theme, as ever.
            None if *pool != NamePool::default() => "mad-max",
            None => theme_of(rig),
        };
        let [first, ..] = THEMES;
        let theme = THEMES.into_iter().find(|(name, _)| *name == theme).unwrap_or(first).1;
        let chosen: Vec<&str> = match pool.names.as_slice() {
            [] => theme.to_vec(),
            own => own.iter().map(String::as_str).collect(),
        };
        let (mut names, mut passed_over, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for text in chosen.into_iter().take(most) {
            match checked(text) {
                Ok(name) if seen.insert(lower(&name)) => names.push(name),
                Ok(_) => {}
                Err(bad) => passed_over.push(bad),
            }
        }
        Self { names, most, passed_over }
    }

    /// The next name: the first of the list that is not taken, else the lowest number beyond it. `taken` is every
    /// name that a directory, a row, a session or a worktree of the rig has; a name that is gone from all of them
    /// is given again, and so is a number. Names that differ only in the case of their letters count as one.
    #[must_use]
    pub fn choose(&self, taken: &BTreeSet<AgentName>) -> AgentName {
        let taken: BTreeSet<String> = taken.iter().map(lower).collect();
        let free = |name: &AgentName| !taken.contains(&lower(name));
        if let Some(name) = self.names.iter().find(|name| free(name)) {
            return name.clone();
        }
        let mut number = self.most;
        // Of as many numbers as names are taken, and one more, one is free.
        loop {
            number = number.saturating_add(1);
            if let Ok(name) = AgentName::new(number.to_string())
                && free(&name)
            {
                return name;
            }
        }
    }
}

fn lower(name: &AgentName) -> String {
    name.as_str().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rig(name: &str) -> RigName {
        RigName::new(name).unwrap()
    }

    fn name(text: &str) -> AgentName {
        AgentName::new(text).unwrap()
    }

    fn pool(style: Option<&str>, names: &[&str], most: Option<usize>) -> Pool {
        let pool = NamePool {
            style: style.map(str::to_owned),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            max_before_numbering: most,
            wrong: Vec::new(),
        };
        Pool::of(&rig("a"), &Known::Good(Settings { names: pool, ..Settings::default() })).unwrap()
    }

    #[test]
    fn every_name_of_every_theme_may_be_given() {
        for (theme, names) in THEMES {
            let distinct: BTreeSet<&str> = names.into_iter().collect();
            assert_eq!(distinct.len(), 50, "{theme} has a name twice");
            for name in names {
                assert_eq!(checked(name).map(String::from), Ok(name.to_owned()), "{theme}");
            }
            assert!(!distinct.contains("witness"), "{theme}");
        }
        assert!(THEMES[0].1.contains(&"bullet") && THEMES[0].1.contains(&"bullet-farmer"));
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for bad in [
            "witness", "Witness", "refinery", "mayor", "may", "deacon", "dea", "boot", "crew", "crew-joe",
            "CREW_x", "crew.x", "wit", "ref", "polecats", "rig", "hq", "all", "", "-x", "a b", "a/b",
            "x.lock", "a..b", "x.", "é",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        for good in ["nux", "bullet", "bullet-farmer", "crewe", "witness-2", "b-witness", "51", "x.y", "Max"]
        {
            assert!(checked(good).is_ok(), "{good}: {:?}", checked(good));
        }
    }

    #[test]
    fn a_rig_is_told_from_a_path_and_a_role() {
        let known = |name: &RigName| ["alpha", "crew", "bullet-farmer"].contains(&name.as_str());
        for (text, is) in [
            ("alpha", true),
            ("bullet-farmer", true),
            ("beta", false),
            ("alpha/nux", false),
            ("/alpha", false),
            ("crew", false),
            ("wit", false),
            ("may", false),
            ("Deacon", false),
            ("", false),
            (".", false),
        ] {
            assert_eq!(is_rig_name(text, known).is_some(), is, "{text}");
        }
    }

    #[test]
    fn a_rigs_name_picks_its_theme_as_it_always_did() {
        for (name, theme) in [("gastown", "mad-max"), ("beads", "minerals"), ("greenplace", "wasteland")] {
            assert_eq!(theme_of(&rig(name)), theme);
        }
    }

    #[test]
    fn names_are_given_in_order_then_numbers_and_again_when_they_are_free() {
        let small = pool(None, &["one", "two", "three"], Some(2));
        let taken = |names: &[&str]| names.iter().map(|text| name(text)).collect::<BTreeSet<_>>();
        for (used, next) in [
            (&[][..], "one"),
            (&["one"], "two"),
            (&["ONE"], "two"),
            (&["one", "two"], "3"),
            (&["one", "two", "3", "4"], "5"),
            (&["one", "two", "4"], "3"),
            (&["two", "3"], "one"),
        ] {
            assert_eq!(small.choose(&taken(used)).as_str(), next, "{used:?}");
        }
    }

    #[test]
    fn settings_decide_and_bad_ones_are_an_error() {
        assert_eq!(pool(Some("minerals"), &[], None).choose(&BTreeSet::new()).as_str(), "agate");
        assert_eq!(pool(Some("unheard-of"), &[], None).choose(&BTreeSet::new()).as_str(), "furiosa");
        assert_eq!(pool(None, &[], Some(0)).names.len(), 50);
        let odd = pool(None, &["witness", "ok", "OK", "crew-x"], None);
        assert_eq!((odd.names, odd.passed_over.len()), (vec![name("ok")], 2));
        let nothing = pool(None, &["witness"], None);
        assert_eq!(nothing.choose(&BTreeSet::new()).as_str(), "51");

        let wrong = NamePool { wrong: vec!["namepool is no object".into()], ..NamePool::default() };
        let wrong = Known::Good(Settings { names: wrong, ..Settings::default() });
        assert!(Pool::of(&rig("a"), &wrong).unwrap_err().to_string().contains("no object"));
        let kept = Known::Kept { value: Settings::default(), error: "is not JSON".to_owned() };
        assert!(Pool::of(&rig("a"), &kept).unwrap_err().to_string().ends_with("is not JSON"));
    }

    proptest! {
        #[test]
        fn no_name_is_given_twice(most in 1usize..8, used in 0usize..40, gone in proptest::collection::vec(0usize..40, 0..10)) {
            let pool = pool(Some("wasteland"), &[], Some(most));
            let mut taken = BTreeSet::new();
            for _ in 0..used {
                let next = pool.choose(&taken);
                prop_assert!(checked(next.as_str()).is_ok());
                prop_assert!(taken.insert(next));
            }
            let all: Vec<AgentName> = taken.iter().cloned().collect();
            for index in gone {
                if let Some(name) = all.get(index) {
                    taken.remove(name);
                }
            }
            let next = pool.choose(&taken);
            prop_assert!(!taken.contains(&next));
            prop_assert_eq!(&next, &pool.choose(&taken));
        }
    }
}
