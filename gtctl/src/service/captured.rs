//! What of this moment goes into a service: the way to the programs, and to gtd itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::daemon::sibling;
use crate::failure::Failure;

/// The `PATH` for the daemon and its agents: that of whoever installs, without what is not absolute, is not there
/// or is there twice; at its end the directory of gtctl, which agents call.
#[must_use]
pub fn path(now: Option<&OsStr>, own_dir: &Path, is_dir: impl Fn(&Path) -> bool) -> String {
    let all = now.map(std::env::split_paths).into_iter().flatten().chain([own_dir.to_owned()]);
    let mut kept: Vec<String> = Vec::new();
    for dir in all.filter(|dir| dir.is_absolute() && is_dir(dir)) {
        // What is no text cannot be written into every manager's files; a line break would end the line.
        let Some(text) = dir.to_str().filter(|text| !text.contains(char::is_control)) else { continue };
        if !kept.iter().any(|before| before == text) {
            kept.push(text.to_owned());
        }
    }
    kept.join(":")
}

/// The gtd that the service is to run: by the name under which people find it, which stays when a package manager
/// puts the next version elsewhere; else the one beside this program.
///
/// # Errors
/// When there is none beside this program.
pub fn gtd() -> Result<PathBuf, Failure> {
    let beside = sibling::gtd()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(lasting(&beside, std::env::split_paths(&path)).unwrap_or(beside))
}

/// A `gtd` in one of these directories, beside a `gtctl`, that leads to this very file.
fn lasting(beside: &Path, dirs: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let real = std::fs::canonicalize(beside).ok()?;
    dirs.filter(|dir| dir.is_absolute() && dir.join("gtctl").is_file())
        .map(|dir| dir.join("gtd"))
        .find(|file| std::fs::canonicalize(file).is_ok_and(|found| found == real))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_holds_what_is_there_once_and_gtctl_is_found() {
        let there = |dir: &Path| !dir.starts_with("/gone");
        let own = Path::new("/opt/gtd");
        let cases: [(Option<&str>, &str); 5] = [
            (Some("/a:/b:/a"), "/a:/b:/opt/gtd"),
            (Some("/opt/gtd:/a"), "/opt/gtd:/a"),
            (Some(".:bin::/gone/x:/with space"), "/with space:/opt/gtd"),
            (Some("/a\nb:/c"), "/c:/opt/gtd"),
            (None, "/opt/gtd"),
        ];
        for (now, expected) in cases {
            assert_eq!(path(now.map(OsStr::new), own, there), expected, "{now:?}");
        }
    }

    #[test]
    fn a_link_that_stays_is_better_than_what_it_leads_to_today() {
        let dir = tempfile::tempdir().unwrap();
        let (cellar, bin) = (dir.path().join("cellar/1.0"), dir.path().join("bin"));
        for dir in [&cellar, &bin] {
            std::fs::create_dir_all(dir).unwrap();
        }
        for name in ["gtd", "gtctl"] {
            std::fs::write(cellar.join(name), "").unwrap();
            std::os::unix::fs::symlink(cellar.join(name), bin.join(name)).unwrap();
        }
        let find = |dirs: &[&PathBuf]| lasting(&cellar.join("gtd"), dirs.iter().map(|dir| (*dir).clone()));
        assert_eq!(find(&[&bin]), Some(bin.join("gtd")));
        assert_eq!(find(&[]), None);
        std::fs::remove_file(bin.join("gtd")).unwrap();
        std::fs::write(bin.join("gtd"), "another").unwrap();
        assert_eq!(find(&[&bin]), None);
    }
}
