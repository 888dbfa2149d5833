//! Judging worktrees.

use std::fs;

use super::*;

/// What is told of a worker after something was done in its worktree.
async fn summary(what: impl FnOnce(&World, &Path)) -> String {
    let world = World::new();
    let new = world.worker("nux").await;
    what(&world, &new.path);
    world.tree("nux").await.summary_with_unmerged()
}

fn write(path: &Path, name: &str, text: &str) {
    fs::write(path.join(name), text).unwrap();
}

#[tokio::test]
async fn each_kind_of_change_is_counted_once() {
    assert_eq!(summary(|_, _| {}).await, "");
    let first_line_changed = summary(|_, path| write(path, "f", "x")).await;
    assert_eq!(first_line_changed, "1 uncommitted change(s)");
    let renamed = summary(|_, path| drop(git(path, &["mv", "dir/g", "dir/h"]))).await;
    assert_eq!(renamed, "1 uncommitted change(s)");
    let staged_and_changed_again = summary(|_, path| {
        write(path, "f", "x");
        git(path, &["add", "f"]);
        write(path, "f", "y");
    });
    assert_eq!(staged_and_changed_again.await, "1 uncommitted change(s)");
    let ignored = summary(|_, path| write(path, "ignored", "x")).await;
    assert_eq!(ignored, "");
    let all = summary(|_, path| {
        git(path, &["mv", "dir/g", "g"]);
        fs::remove_file(path.join("f")).unwrap();
        fs::create_dir(path.join("new")).unwrap();
        write(path, "new/one", "");
        write(path, "new/two", "");
        write(path, "odd\nname", "");
    });
    assert_eq!(all.await, "4 uncommitted change(s)");
}

#[tokio::test]
async fn a_conflict_counts_and_so_does_what_it_came_from() {
    let told = summary(|_, path| {
        git(path, &["checkout", "-q", "-b", "other"]);
        write(path, "f", "theirs\n");
        git(path, &["commit", "-qam", "theirs"]);
        git(path, &["checkout", "-q", "-"]);
        write(path, "f", "ours\n");
        git(path, &["commit", "-qam", "ours"]);
        assert!(!try_git(path, &["merge", "-q", "other"]).0);
    });
    assert_eq!(told.await, "1 uncommitted change(s), 1 unpushed commit(s), a merge under way");
    let rebase = summary(|_, path| {
        git(path, &["branch", "other"]);
        write(path, "f", "ours\n");
        git(path, &["commit", "-qam", "ours"]);
        git(path, &["checkout", "-q", "other"]);
        write(path, "f", "theirs\n");
        git(path, &["commit", "-qam", "theirs"]);
        assert!(!try_git(path, &["rebase", "-q", "-"]).0);
    });
    assert_eq!(rebase.await, "1 uncommitted change(s), 1 unpushed commit(s), a rebase under way");
}

#[tokio::test]
async fn stashes_are_those_of_this_branch() {
    let world = World::new();
    let (nux, max) = (world.worker("nux").await, world.worker("max").await);
    for text in ["x", "y"] {
        write(&nux.path, "f", text);
        git(&nux.path, &["stash", "-q"]);
    }
    write(&max.path, "f", "z");
    git(&max.path, &["stash", "push", "-q", "-m", &format!("{}: not of it", nux.branch)]);
    assert_eq!(world.tree("nux").await.summary(), "2 stash(es)");
    assert_eq!(world.tree("max").await.summary(), "1 stash(es)");
    git(&max.path, &["checkout", "-q", "--detach"]);
    assert_eq!(world.tree("max").await.summary(), "", "HEAD is on no branch, and the stash is on one");
}

#[tokio::test]
async fn commits_count_until_a_remote_branch_has_them() {
    let world = World::new();
    let new = world.worker("nux").await;
    let path = &new.path;
    for text in ["x\n", "y\n"] {
        write(path, "f", text);
        git(path, &["commit", "-qam", text.trim()]);
    }
    assert_eq!(world.tree("nux").await.summary_with_unmerged(), "2 unpushed commit(s)");
    git(path, &["checkout", "-q", "--detach"]);
    let tree = world.tree("nux").await;
    assert_eq!((tree.branch, tree.unpushed), (None, 2));
    git(path, &["checkout", "-q", &new.branch]);
    // Pushed without -u: it follows no branch, and yet it is there.
    git(path, &["push", "-q", "origin", "HEAD:refs/heads/elsewhere"]);
    let tree = world.tree("nux").await;
    assert_eq!((tree.summary(), tree.is_untouched()), (String::new(), false));
    assert_eq!(tree.summary_with_unmerged(), "2 commit(s) not merged into main");
    // Merged as one commit of another name, and then the branch goes on elsewhere.
    let origin = world.origin();
    git(&origin, &["merge", "-q", "--squash", "elsewhere"]);
    git(&origin, &["commit", "-qm", "squashed"]);
    write(&origin, "dir/g", "two\nthree\nfour\nmore\n");
    git(&origin, &["commit", "-qam", "more"]);
    git(&world.repo(), &["fetch", "-q", "origin"]);
    let tree = world.tree("nux").await;
    assert_eq!((tree.unmerged, tree.summary_with_unmerged()), (0, String::new()));
}

#[tokio::test]
async fn a_dirty_submodule_counts() {
    let world = World::new();
    let origin = world.origin();
    git(world.base.as_path(), &["init", "-q", "-b", "main", "library"]);
    let library = world.base.join("library");
    write(&library, "l", "1\n");
    git(&library, &["add", "."]);
    git(&library, &["commit", "-qm", "l"]);
    git(&origin, &["submodule", "add", "-q", library.to_str().unwrap(), "lib"]);
    git(&origin, &["commit", "-qm", "lib"]);
    let new = world.worker("nux").await;
    git(&new.path, &["submodule", "update", "-q", "--init"]);
    assert_eq!(world.tree("nux").await.summary(), "");
    git(&new.path, &["config", "diff.ignoreSubmodules", "all"]);
    write(&new.path, "lib/l", "2\n");
    assert_eq!(world.tree("nux").await.summary(), "1 uncommitted change(s)");
    git(&new.path.join("lib"), &["commit", "-qam", "2"]);
    assert_eq!(world.tree("nux").await.summary(), "1 uncommitted change(s)");
}

#[tokio::test]
async fn what_is_broken_is_unknown_and_never_the_towns() {
    let world = World::new();
    let new = world.worker("nux").await;
    let git_file = new.path.join(".git");
    let good = fs::read_to_string(&git_file).unwrap();
    let admin = good.trim().strip_prefix("gitdir: ").unwrap().to_owned();
    for text in [
        "",
        "junk",
        "gitdir: ",
        "gitdir: /nowhere",
        &format!("gitdir: {}\n", world.base.join(".git").display()),
    ] {
        fs::write(&git_file, text).unwrap();
        let seen = world.seen("nux").await;
        assert!(matches!(&seen, Seen::Unknown(why) if why.contains(".git")), "{text:?}: {seen:?}");
    }
    fs::remove_file(&git_file).unwrap();
    let seen = world.seen("nux").await;
    assert!(matches!(&seen, Seen::Tree(tree) if tree.missing && tree.others == ["a"]), "{seen:?}");
    fs::create_dir(&git_file).unwrap();
    assert!(matches!(world.seen("nux").await, Seen::Unknown(why) if why.contains("of its own")));
    fs::remove_dir(&git_file).unwrap();
    fs::write(&git_file, &good).unwrap();
    assert!(world.tree("nux").await.is_untouched());
    // git cannot read what it keeps.
    for name in ["HEAD", "index"] {
        let file = Path::new(&admin).join(name);
        let content = fs::read(&file).unwrap();
        fs::write(&file, "junk").unwrap();
        assert!(matches!(world.seen("nux").await, Seen::Unknown(_)), "{name}");
        fs::write(&file, content).unwrap();
    }
    // It was moved by hand.
    let moved = world.home().join("polecats/max");
    fs::rename(new.path.parent().unwrap(), &moved).unwrap();
    assert!(matches!(world.seen("max").await, Seen::Unknown(why) if why.contains("believes it at")));
    assert!(matches!(world.seen("nux").await, Seen::Tree(tree) if tree.missing));
    assert_eq!(world.seen("ace").await, Seen::Absent);
    fs::create_dir(world.home().join("polecats/ace")).unwrap();
    assert_eq!(world.seen("ace").await, Seen::Bare(Vec::new()));
    write(&world.home().join("polecats/ace"), "notes", "");
    assert_eq!(world.seen("ace").await, Seen::Bare(vec!["notes".into()]));
}

#[tokio::test]
async fn old_places_are_known_and_bullet_is_not_bullet_farmer() {
    let world = World::new();
    let repo = world.repo();
    let old = world.home().join("polecats/bullet");
    git(&repo, &["worktree", "add", "-q", "-b", "polecat/bullet-1", old.to_str().unwrap(), "main"]);
    let farmer = world.worker("bullet-farmer").await;
    write(&farmer.path, "f", "x");
    let tree = world.tree("bullet").await;
    assert_eq!((tree.path.as_path(), tree.summary()), (old.as_path(), String::new()));
    assert_eq!(world.tree("bullet-farmer").await.summary(), "1 uncommitted change(s)");
}

#[tokio::test]
async fn a_git_that_hangs_or_fails_is_unknown() {
    let script = r#"case "$*" in *"status"*) exit 128 ;; *) exec git "$@" ;; esac"#;
    let world = World::new().with_git(script);
    world.worker("nux").await;
    assert!(matches!(world.seen("nux").await, Seen::Unknown(why) if why.starts_with("git status")));
}
