//! Which branch is checked out in a worktree, by its files: no program is run, and nothing is followed that is not
//! git's own.
//!
//! Must never write, nor take a file that cannot be read for anything.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest file that is read: a path, or the name of a branch.
const MOST: u64 = 8 << 10;

/// The branch of a checkout; none where it is detached, is no checkout, or cannot be read.
#[must_use]
pub fn branch(worktree: &Path) -> Option<String> {
    let git = worktree.join(".git");
    let head = match std::fs::symlink_metadata(&git).ok()? {
        found if found.is_dir() => git.join("HEAD"),
        found if found.is_file() => {
            let text = read(&git)?;
            worktree.join(text.strip_prefix("gitdir:")?.trim()).join("HEAD")
        }
        _ => return None,
    };
    let text = read(&head)?;
    let name = text.strip_prefix("ref:")?.trim().strip_prefix("refs/heads/")?;
    (!name.is_empty() && !name.contains(char::is_control)).then(|| name.to_owned())
}

fn read(path: &Path) -> Option<String> {
    // What is no plain file may never end.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(MOST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_read_from_the_files_of_git() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), text).unwrap();
        };
        assert_eq!(branch(&at("none")), None);
        write("plain/.git/HEAD", "ref: refs/heads/main\n");
        assert_eq!(branch(&at("plain")).as_deref(), Some("main"));
        // A worktree, by an absolute path and by a relative one.
        let admin = at("repo/worktrees/nux");
        write("repo/worktrees/nux/HEAD", "ref: refs/heads/polecat/nux/a-1@x\n");
        write("nux/.git", &format!("gitdir: {}\n", admin.display()));
        write("rel/.git", "gitdir: ../repo/worktrees/nux\n");
        for place in ["nux", "rel"] {
            assert_eq!(branch(&at(place)).as_deref(), Some("polecat/nux/a-1@x"), "{place}");
        }
        for head in ["0123456789abcdef\n", "", "ref: refs/tags/v1\n", "ref: refs/heads/\n"] {
            write("plain/.git/HEAD", head);
            assert_eq!(branch(&at("plain")), None, "{head:?}");
        }
        write("junk/.git", "nothing of the kind");
        assert_eq!(branch(&at("junk")), None);
        // A pipe would be waited for.
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir_all(at("odd/.git")).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("odd/.git/HEAD")).unwrap();
        assert_eq!(branch(&at("odd")), None);
    }
}
