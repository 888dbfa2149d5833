//! Reading what `git status --porcelain=v2 -z --branch` says. Pure.

/// What it says, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Status {
    /// The commit; none on a branch without one.
    pub(super) tip: Option<String>,
    /// The branch; none when HEAD is detached.
    pub(super) branch: Option<String>,
    /// Changes: each path counts once, whatever happened to it; a rename is one.
    pub(super) changes: usize,
    /// Those of them that are in conflict.
    pub(super) conflicts: usize,
    /// Those of them that git does not know.
    pub(super) untracked: usize,
}

/// Reads it. What is not understood is an error: a change that is not counted would be lost.
pub(super) fn parse(said: &[u8]) -> Result<Status, String> {
    let mut status = Status::default();
    let (mut head, mut oid) = (false, false);
    let mut records = said.split(|byte| *byte == 0);
    while let Some(record) = records.next() {
        match record.first_chunk() {
            // After the last NUL.
            None if record.is_empty() => {}
            Some(b"1 ") => status.changes += 1,
            Some(b"? ") => {
                status.changes += 1;
                status.untracked += 1;
            }
            Some(b"u ") => {
                status.changes += 1;
                status.conflicts += 1;
            }
            Some(b"2 ") => {
                status.changes += 1;
                // The old path is a record of its own.
                records.next().ok_or("a rename without its old path")?;
            }
            Some(b"! ") => {}
            Some(b"# ") => {
                let line = String::from_utf8_lossy(record);
                if let Some(tip) = line.strip_prefix("# branch.oid ") {
                    oid = true;
                    status.tip = (tip != "(initial)").then(|| tip.to_owned());
                } else if let Some(branch) = line.strip_prefix("# branch.head ") {
                    head = true;
                    status.branch = (branch != "(detached)").then(|| branch.to_owned());
                }
            }
            _ => return Err(format!("git status says {:?}", String::from_utf8_lossy(record))),
        }
    }
    if head && oid { Ok(status) } else { Err("git status does not say what is checked out".to_owned()) }
}

/// Whether a stash was made on a branch, by the words that git gives it; older versions say only the branch's last
/// part, which is its own for the branches that we make.
pub(super) fn stashed_on(words: &str, branch: Option<&str>) -> bool {
    let Some(rest) = words.strip_prefix("WIP on ").or_else(|| words.strip_prefix("On ")) else {
        return false;
    };
    let Some((on, _)) = rest.split_once(": ") else { return false };
    match branch {
        None => on == "(no branch)",
        Some(branch) => {
            on == branch
                || (branch.starts_with("polecat/")
                    && branch.rsplit('/').next().is_some_and(|last| last == on))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "# branch.oid 12ab\0# branch.head polecat/nux/x@1\0";

    fn of(rest: &str) -> Result<Status, String> {
        parse(format!("{HEAD}{rest}").as_bytes())
    }

    #[test]
    fn each_change_counts_once() {
        for (said, changes, conflicts) in [
            ("", 0, 0),
            ("1 .M N... 100644 100644 100644 a b f\0", 1, 0),
            ("2 R. N... 100644 100644 100644 a a R100 new name\0old name\0", 1, 0),
            ("2 R. N... 100644 100644 100644 a a R100 new\0? old\0? other\0", 2, 0),
            ("u UU N... 100644 100644 100644 100644 a b c f\0", 1, 1),
            ("? a\nb\0! ignored\0? c\0", 2, 0),
            ("1 .M S..U 160000 160000 160000 a a sub\0", 1, 0),
        ] {
            let status = of(said).unwrap();
            assert_eq!((status.changes, status.conflicts), (changes, conflicts), "{said:?}");
            assert_eq!(status.branch.as_deref(), Some("polecat/nux/x@1"));
        }
    }

    #[test]
    fn what_is_not_understood_is_no_answer() {
        for bad in ["", "# branch.oid x\0", " M f\0", "x y\0"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(of("2 R. x\0").is_ok_and(|status| status.changes == 1), "the end stands for an empty path");
        assert!(of("2 R. x").is_err());
        let none = parse(b"# branch.oid (initial)\0# branch.head (detached)\0").unwrap();
        assert_eq!((none.tip, none.branch), (None, None));
    }

    #[test]
    fn a_stash_belongs_to_the_branch_that_it_names() {
        let mine = Some("polecat/nux/gt-1@z");
        for (words, is) in [
            ("WIP on polecat/nux/gt-1@z: 12ab x", true),
            ("On polecat/nux/gt-1@z: polecat/max/gt-2@z: y", true),
            ("WIP on gt-1@z: 12ab x", true),
            ("WIP on polecat/max/gt-1@y: 12ab x", false),
            ("WIP on main: polecat/nux/gt-1@z: x", false),
            ("mine", false),
            ("WIP on (no branch): x", false),
        ] {
            assert_eq!(stashed_on(words, mine), is, "{words}");
        }
        assert!(stashed_on("WIP on (no branch): 12ab x", None));
        assert!(!stashed_on("WIP on main: 12ab x", None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
