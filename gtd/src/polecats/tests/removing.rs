//! Letting go of worktrees, and never of work.

use std::fs;

use super::*;

fn write(path: &Path, name: &str, text: &str) {
    fs::write(path.join(name), text).unwrap();
}

/// A worker with work of every kind: a commit, something staged, changed again, untracked, stashed, beside it.
async fn busy(world: &World) -> NewTree {
    let new = world.worker("nux").await;
    let path = &new.path;
    write(path, "f", "stashed\n");
    git(path, &["stash", "-q"]);
    write(path, "f", "committed\n");
    git(path, &["commit", "-qam", "mine"]);
    write(path, "f", "staged\n");
    git(path, &["add", "f"]);
    write(path, "f", "changed\n");
    git(path, &["mv", "dir/g", "h"]);
    write(path, "new", "untracked\n");
    write(path, "ignored", "not kept\n");
    write(path.parent().unwrap(), "notes", "beside\n");
    new
}

/// All of that can be read from what is kept.
fn all_kept(world: &World) {
    let show = |end: &str, file: &str| {
        git(&world.repo(), &["show", &format!("{}:{file}", world.kept_as("nux", end))])
    };
    assert_eq!(show("tip", "f"), "committed");
    assert_eq!(show("staged", "f"), "staged");
    assert_eq!(show("uncommitted", "f"), "changed");
    assert_eq!(show("uncommitted", "new"), "untracked");
    assert_eq!(show("uncommitted", "h"), "two\nthree\nfour\nfive");
    assert_eq!(show("stash-1", "f"), "stashed");
    assert_eq!(show("beside", "notes"), "beside");
}

fn nothing_left(world: &World, new: &NewTree) {
    assert!(!new.path.parent().unwrap().exists());
    assert_eq!(fs::read_dir(world.home().join("polecats")).unwrap().count(), 0);
    let worktrees = world.repo().join("worktrees");
    assert!(!worktrees.exists() || fs::read_dir(&worktrees).unwrap().count() == 0);
    assert_eq!(git(&world.repo(), &["branch", "--list", "polecat/*"]), "");
}

#[tokio::test]
async fn what_is_merged_goes_and_its_tip_is_kept() {
    let world = World::new();
    let new = world.worker("nux").await;
    write(&new.path, "f", "x\n");
    git(&new.path, &["commit", "-qam", "x"]);
    git(&new.path, &["push", "-q", "-u", "origin", "HEAD:x"]);
    git(&world.origin(), &["merge", "-q", "x"]);
    git(&world.repo(), &["fetch", "-q", "origin"]);
    write(&new.path, "ignored", "does not count");
    let tip = git(&new.path, &["rev-parse", "HEAD"]);
    let removed = world.remove("nux", Gate::Merged).await.unwrap();
    assert_eq!(world.kept("nux"), [("tip".to_owned(), tip.clone())]);
    assert_eq!((removed.archived.len(), removed.archived[0].commit.as_str()), (1, tip.as_str()));
    assert_eq!((removed.branch, removed.aside), (Some(new.branch.clone()), None));
    nothing_left(&world, &new);
    assert!(!git(&world.repo(), &["config", "--list"]).contains("polecat/nux"));
    assert!(matches!(world.remove("nux", Gate::Forced).await, Err(TreeError::Absent { .. })));
    world.worker("nux").await;
}

#[tokio::test]
async fn what_would_be_lost_is_refused_with_the_figures_and_nothing_changes() {
    let world = World::new();
    let new = busy(&world).await;
    let before = world.everything();
    for gate in [Gate::Merged, Gate::Pushed] {
        let error = refusal(world.remove("nux", gate).await);
        assert_eq!((error.code, error.kind), (1008, gtd_proto::ErrorKind::UncommittedWork));
        let told =
            "3 uncommitted change(s), 1 stash(es), 1 unpushed commit(s), 1 other file(s) beside the worktree";
        assert_eq!(error.data["summary"], told);
        let would = world.trees.would_remove(&world.rig, &new.name, gate).await;
        assert_eq!(refusal(would), error);
    }
    let plan = world.trees.would_remove(&world.rig, &new.name, Gate::Forced).await.unwrap();
    let actions: Vec<&str> = plan.iter().map(|step| step.action.as_str()).collect();
    assert_eq!(actions, ["archive", "archive", "archive", "archive", "remove", "delete branch"]);
    assert!(plan[0].target.ends_with("/TIME/tip") && plan[5].target == new.branch, "{plan:?}");
    assert_eq!(world.everything(), before);
}

#[tokio::test]
async fn pushed_and_not_merged_is_refused_for_a_removal_and_not_for_a_repair() {
    let world = World::new();
    let new = world.worker("nux").await;
    write(&new.path, "f", "x\n");
    git(&new.path, &["commit", "-qam", "x"]);
    git(&new.path, &["push", "-q", "origin", "HEAD:x"]);
    let error = refusal(world.remove("nux", Gate::Merged).await);
    assert_eq!(error.data["summary"], "1 commit(s) not merged into main");
    let removed = world.remove("nux", Gate::Pushed).await.unwrap();
    assert_eq!(removed.archived.len(), 1);
    nothing_left(&world, &new);
    world.worker("nux").await;
}

#[tokio::test]
async fn by_force_all_is_kept_before_it_goes() {
    let world = World::named("a town # with spaces", "r-1");
    let new = busy(&world).await;
    let removed = world.remove("nux", Gate::Forced).await.unwrap();
    all_kept(&world);
    assert_eq!(removed.archived.len(), 5, "{removed:?}");
    nothing_left(&world, &new);
    assert!(!world.repo().join("gtd-archive.index").exists());
    assert_eq!(
        git(&world.base, &["rev-list", "--count", "HEAD"]),
        "1",
        "the town's own repository is as it was"
    );
}

#[tokio::test]
async fn keeping_changes_nothing_of_the_worktree() {
    let world = World::new();
    let new = busy(&world).await;
    let before = (
        world.everything(),
        git(&new.path, &["status", "--porcelain=v2"]),
        git(&new.path, &["diff", "--cached"]),
    );
    *world.trees.end_at.lock().unwrap() = Some("archived");
    world.remove("nux", Gate::Forced).await.unwrap_err();
    all_kept(&world);
    git(&world.repo(), &["for-each-ref", "--format=delete %(refname)", "refs/gtd"])
        .lines()
        .for_each(|line| drop(git(&world.repo(), &["update-ref", "-d", line.trim_start_matches("delete ")])));
    let after = (
        world.everything(),
        git(&new.path, &["status", "--porcelain=v2"]),
        git(&new.path, &["diff", "--cached"]),
    );
    assert_eq!(before, after);
}

#[tokio::test]
async fn wherever_a_removal_ends_it_is_repeated_and_nothing_is_lost() {
    for end in ["archived", "moved", "looked again", "unlisted", "branch", "cleared"] {
        for again in [Gate::Forced, Gate::Merged] {
            let world = World::new();
            let new = busy(&world).await;
            *world.trees.end_at.lock().unwrap() = Some(end);
            assert!(matches!(world.remove("nux", Gate::Forced).await, Err(TreeError::Ended(_))), "{end}");
            all_kept(&world);
            // Ended once more at the same step, then let through.
            let _ = world.remove("nux", again).await;
            *world.trees.end_at.lock().unwrap() = None;
            let done = world.remove("nux", again).await;
            match (end, again) {
                // Before it was moved, nothing had been decided.
                ("archived", Gate::Merged) => assert_eq!(refusal(done).code, 1008),
                ("cleared", _) => assert!(matches!(done, Err(TreeError::Absent { .. })), "{end}: {done:?}"),
                _ => {
                    assert!(done.is_ok() || matches!(done, Err(TreeError::Absent { .. })), "{end}: {done:?}")
                }
            }
            all_kept(&world);
            if (end, again) != ("archived", Gate::Merged) {
                nothing_left(&world, &new);
                world.worker("nux").await;
            }
        }
    }
}

#[tokio::test]
async fn what_a_killed_daemon_began_is_ended_at_the_next_start() {
    let world = World::new();
    let new = busy(&world).await;
    world.worker("max").await;
    *world.trees.end_at.lock().unwrap() = Some("moved");
    world.remove("nux", Gate::Forced).await.unwrap_err();
    *world.trees.end_at.lock().unwrap() = None;
    // Somebody was still in it.
    let out = fs::read_dir(world.home().join("polecats"))
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(".gtd-removing-nux@"))
        .unwrap();
    write(&out.path().join("a"), "late", "a line typed at the last moment");
    let ended = world.trees.finish_removals(&world.rig, Timestamp::now()).await.unwrap();
    assert_eq!(ended, std::slice::from_ref(&new.name));
    all_kept(&world);
    let late = world.kept("nux").into_iter().any(|(end, commit)| {
        end == "uncommitted" && try_git(&world.repo(), &["cat-file", "-e", &format!("{commit}:late")]).0
    });
    assert!(late, "{:?}", world.kept("nux"));
    assert!(!out.path().exists() && world.tree("max").await.is_untouched());
}

#[tokio::test]
async fn a_worktree_whose_directory_is_gone_is_told_and_its_commits_are_kept() {
    let world = World::new();
    let new = world.worker("nux").await;
    write(&new.path, "f", "x\n");
    git(&new.path, &["commit", "-qam", "x"]);
    write(&new.path, "f", "staged\n");
    git(&new.path, &["add", "f"]);
    fs::remove_dir_all(new.path.parent().unwrap()).unwrap();
    for gate in [Gate::Merged, Gate::Pushed] {
        let error = refusal(world.remove("nux", gate).await);
        let told = "1 uncommitted change(s), 1 unpushed commit(s); its directory is missing";
        assert_eq!((error.code, &error.data["summary"]), (1008, &told.into()));
    }
    world.remove("nux", Gate::Forced).await.unwrap();
    let show = |end: &str| git(&world.repo(), &["show", &format!("{}:f", world.kept_as("nux", end))]);
    assert_eq!((show("tip").as_str(), show("staged").as_str()), ("x", "staged"));
    nothing_left(&world, &new);
    world.worker("nux").await;
    // Nothing of this one would be lost.
    fs::remove_dir_all(world.home().join("polecats/nux")).unwrap();
    world.remove("nux", Gate::Merged).await.unwrap();
}

#[tokio::test]
async fn what_is_broken_is_refused_and_by_force_moved_aside_whole() {
    for what in ["junk", "gone", "foreign", "no record"] {
        let world = World::new();
        let new = world.worker("nux").await;
        write(&new.path, "f", "precious\n");
        let git_file = new.path.join(".git");
        match what {
            "junk" => fs::write(&git_file, "junk").unwrap(),
            "gone" => fs::write(&git_file, "gitdir: /nowhere\n").unwrap(),
            "foreign" => {
                fs::remove_file(&git_file).unwrap();
                git(&new.path, &["init", "-q"]);
            }
            _ => fs::remove_dir_all(world.repo().join("worktrees")).unwrap(),
        }
        let before = world.everything();
        for gate in [Gate::Merged, Gate::Pushed] {
            let error = refusal(world.remove("nux", gate).await);
            assert_eq!((error.code, &error.data["unknown"]), (1008, &true.into()), "{what}: {error}");
        }
        assert_eq!(world.everything(), before, "{what}");
        let plan = world.trees.would_remove(&world.rig, &new.name, Gate::Forced).await.unwrap();
        assert_eq!(plan[1].action, "move aside");
        let removed = world.remove("nux", Gate::Forced).await.unwrap();
        let aside = removed.aside.unwrap();
        assert_eq!(fs::read_to_string(aside.join("a/f")).unwrap(), "precious\n", "{what}");
        assert!(aside.parent() == Some(&world.home().join("polecats")), "{what}");
        assert!(git(&world.repo(), &["branch", "--list", "polecat/*"]).contains(&new.branch), "{what}");
        assert_eq!(world.seen("nux").await, Seen::Absent, "{what}");
        world.trees.add(&world.planned("nux", None, 9)).await.unwrap();
    }
}

#[tokio::test]
async fn an_index_that_cannot_be_read_loses_only_itself() {
    let world = World::new();
    let new = busy(&world).await;
    let admin = git(&new.path, &["rev-parse", "--git-dir"]);
    fs::write(Path::new(&admin).join("index"), "junk").unwrap();
    assert_eq!(refusal(world.remove("nux", Gate::Merged).await).data["unknown"], true);
    let removed = world.remove("nux", Gate::Forced).await.unwrap();
    assert_eq!(removed.aside, None);
    let show = |file: &str| {
        git(&world.repo(), &["show", &format!("{}:{file}", world.kept_as("nux", "uncommitted"))])
    };
    assert_eq!((show("f").as_str(), show("new").as_str()), ("changed", "untracked"));
    nothing_left(&world, &new);
}

#[tokio::test]
async fn repositories_within_are_moved_aside_with_everything() {
    for submodule in [true, false] {
        let world = World::new();
        git(world.base.as_path(), &["init", "-q", "-b", "main", "library"]);
        let library = world.base.join("library");
        write(&library, "l", "1\n");
        git(&library, &["add", "."]);
        git(&library, &["commit", "-qm", "l"]);
        if submodule {
            git(&world.origin(), &["submodule", "add", "-q", library.to_str().unwrap(), "lib"]);
            git(&world.origin(), &["commit", "-qm", "lib"]);
        }
        let new = world.worker("nux").await;
        if submodule {
            git(&new.path, &["submodule", "update", "-q", "--init"]);
        } else {
            git(&new.path, &["clone", "-q", library.to_str().unwrap(), "lib"]);
        }
        write(&new.path.join("lib"), "l", "mine\n");
        git(&new.path.join("lib"), &["commit", "-qam", "mine"]);
        assert_eq!(refusal(world.remove("nux", Gate::Merged).await).code, 1008);
        let removed = world.remove("nux", Gate::Forced).await.unwrap();
        let aside = removed.aside.unwrap();
        assert!(removed.why.unwrap().contains("lib"));
        assert_eq!(git(&aside.join("a/lib"), &["show", "HEAD:l"]), "mine");
        // It is still a worktree, which git finds at its new place.
        assert_eq!(git(&aside.join("a"), &["branch", "--show-current"]), new.branch);
        assert!(git(&world.repo(), &["worktree", "list"]).contains(".gtd-aside"));
        git(&world.repo(), &["worktree", "prune"]);
        world.trees.add(&world.planned("nux", None, 9)).await.unwrap();
    }
}

#[tokio::test]
async fn what_git_was_in_the_middle_of_is_kept() {
    let world = World::new();
    let new = world.worker("nux").await;
    let path = &new.path;
    git(path, &["branch", "other"]);
    write(path, "f", "ours\n");
    git(path, &["commit", "-qam", "ours"]);
    let ours = git(path, &["rev-parse", "HEAD"]);
    git(path, &["checkout", "-q", "other"]);
    write(path, "f", "theirs\n");
    git(path, &["commit", "-qam", "theirs"]);
    git(path, &["checkout", "-q", &new.branch]);
    write(path, "dir/g", "not committed\n");
    assert!(!try_git(path, &["rebase", "-q", "--autostash", "other"]).0);
    assert!(world.tree("nux").await.summary().ends_with("a rebase under way"));
    world.remove("nux", Gate::Forced).await.unwrap();
    assert_eq!(world.kept_as("nux", "rebase"), ours);
    assert_eq!(
        git(&world.repo(), &["show", &format!("{}:dir/g", world.kept_as("nux", "autostash"))]),
        "not committed"
    );
    // HEAD was on no branch: the branches stay.
    assert!(git(&world.repo(), &["branch", "--list"]).contains(&new.branch));
}

#[tokio::test]
async fn links_are_not_followed() {
    let world = World::new();
    let new = world.worker("nux").await;
    let outside = world.base.join("outside");
    fs::create_dir(&outside).unwrap();
    write(&outside, "precious", "");
    std::os::unix::fs::symlink(&outside, new.path.join("ignored")).unwrap();
    std::os::unix::fs::symlink(&outside, world.home().join("polecats/max")).unwrap();
    world.remove("nux", Gate::Merged).await.unwrap();
    assert!(matches!(world.remove("max", Gate::Forced).await, Err(TreeError::Link(_))));
    assert!(outside.join("precious").exists());
    let polecats = world.home().join("polecats");
    fs::remove_file(polecats.join("max")).unwrap();
    fs::remove_dir(&polecats).unwrap();
    fs::create_dir(outside.join("ace")).unwrap();
    std::os::unix::fs::symlink(&outside, &polecats).unwrap();
    assert!(matches!(world.remove("ace", Gate::Forced).await, Err(TreeError::Link(_))));
    assert!(outside.join("ace").exists());
}

#[tokio::test]
async fn directories_without_a_worktree() {
    let world = World::new();
    let dir = world.home().join("polecats/nux");
    fs::create_dir(&dir).unwrap();
    world.remove("nux", Gate::Pushed).await.unwrap();
    assert!(!dir.exists());
    fs::create_dir_all(dir.join("a")).unwrap();
    write(&dir.join("a"), "notes", "mine\n");
    assert_eq!(refusal(world.remove("nux", Gate::Pushed).await).data["summary"], "1 file(s) in no worktree");
    world.remove("nux", Gate::Forced).await.unwrap();
    assert_eq!(git(&world.repo(), &["show", &format!("{}:a/notes", world.kept_as("nux", "beside"))]), "mine");
    assert!(!dir.exists());
    // A worktree in an old place.
    git(&world.repo(), &["worktree", "add", "-q", "-b", "polecat/nux-mk1", dir.to_str().unwrap(), "main"]);
    let removed = world.remove("nux", Gate::Merged).await.unwrap();
    assert_eq!(removed.branch.as_deref(), Some("polecat/nux-mk1"));
    assert!(!dir.exists());
}

/// Whatever git cannot write is a reason to remove nothing.
#[tokio::test]
async fn what_cannot_be_kept_is_not_removed() {
    for failing in [
        "add --all",
        "write-tree",
        "commit-tree",
        "update-ref",
        "for-each-ref --format=%(refname) %(objectname) %(objecttype)",
        "stash list",
    ] {
        let script = format!(
            r#"case "$*" in *"{failing}"*) [ -e "$GT_FULL" ] || true
        if [ -e "$(dirname "$0")/full" ]; then echo "error: No space left on device" >&2; exit 128; fi ;; esac
exec git "$@""#
        );
        let world = World::new().with_git(&script);
        let new = busy(&world).await;
        fs::remove_file(new.path.parent().unwrap().join("notes")).unwrap();
        let before = (world.everything(), git(&new.path, &["status", "--porcelain=v2"]));
        fs::write(world.base.join("full"), "").unwrap();
        let done = world.remove("nux", Gate::Forced).await;
        fs::remove_file(world.base.join("full")).unwrap();
        if failing == "stash list" {
            // What is there was unknown, and stays so: then it is only moved.
            let aside = done.unwrap().aside.unwrap();
            assert_eq!(fs::read_to_string(aside.join("a/f")).unwrap(), "changed\n");
            continue;
        }
        let error = refusal(done);
        assert_eq!((error.code, error.hint.as_deref()), (1017, Some("df -h")), "{failing}: {error}");
        let now = (world.everything(), git(&new.path, &["status", "--porcelain=v2"]));
        // What was kept already may stay; nothing else is different.
        assert_eq!(now.1, before.1, "{failing}");
        assert!(new.path.join("new").exists(), "{failing}");
        world.remove("nux", Gate::Forced).await.unwrap();
        nothing_left(&world, &new);
    }
}
