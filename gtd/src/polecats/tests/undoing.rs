//! Taking back what an addition made.

use std::fs;

use super::*;

#[tokio::test]
async fn wherever_an_addition_ends_it_is_taken_back_and_may_be_made_again() {
    for end in ["claimed", "added", "laid over", "set up"] {
        let world = World::new();
        world.trees.exclude(&world.trees.repo(&world.rig).await.unwrap()).unwrap();
        let before = world.everything();
        let new = world.planned("nux", Some("gt-1"), 0);
        *world.trees.end_at.lock().unwrap() = Some(end);
        let done = world.trees.add(&new).await;
        assert!(matches!(done, Err(TreeError::Ended(_))) || end == "set up", "{end}: {done:?}");
        assert_ne!(world.everything(), before, "{end}");
        // Taking back may be ended just as well, and is repeated.
        for again in ["marked", "cleared", "unlisted"] {
            *world.trees.end_at.lock().unwrap() = Some(again);
            let _ = world.trees.undo(&new, false).await;
        }
        *world.trees.end_at.lock().unwrap() = None;
        world.trees.undo(&new, false).await.unwrap();
        assert_eq!(world.everything(), before, "{end}");
        assert_eq!(world.trees.undo(&new, false).await.unwrap(), super::super::Undone::default(), "{end}");
        world.trees.add(&new).await.unwrap();
    }
}

#[tokio::test]
async fn git_killed_half_way_is_taken_back() {
    // As SIGKILL leaves it: some files are missing, the index is not written, the record is.
    let script = r#"case "$*" in
    *"worktree add"*) git "$@" || exit 9
        for record in "$GIT_DIR"/worktrees/*; do rm -f "$record/index" "$record/HEAD"; done
        kill -9 $$ ;;
    *) exec git "$@" ;;
esac"#;
    let world = World::new().with_git(script);
    world.trees.exclude(&world.trees.repo(&world.rig).await.unwrap()).unwrap();
    let before = world.everything();
    assert_eq!(refusal(world.trees.add(&world.planned("nux", None, 0)).await).code, 1017);
    assert_eq!(world.everything(), before);
}

#[tokio::test]
async fn what_somebody_did_there_is_not_taken_back() {
    for (what, ran, done) in [
        ("nothing", true, true),
        ("ignored", true, true),
        ("untracked", true, false),
        ("untracked", false, false),
        ("changed", false, false),
        ("committed", false, false),
        ("committed elsewhere", false, false),
        ("beside", false, false),
    ] {
        let world = World::new();
        let new = world.worker("nux").await;
        let path = &new.path;
        match what {
            "ignored" => fs::write(path.join("ignored"), "").unwrap(),
            "untracked" => fs::write(path.join("new"), "").unwrap(),
            "changed" => fs::write(path.join("f"), "changed").unwrap(),
            "committed" => drop(git(path, &["commit", "-q", "--allow-empty", "-m", "mine"])),
            "committed elsewhere" => {
                git(path, &["commit", "-q", "--allow-empty", "-m", "mine"]);
                git(path, &["checkout", "-q", "--detach", "origin/main"]);
            }
            "beside" => fs::write(path.parent().unwrap().join("notes.txt"), "").unwrap(),
            _ => {}
        }
        let before = world.everything();
        let undone = world.trees.undo(&new, ran).await;
        if done {
            assert!(undone.unwrap().directory, "{what}");
            assert!(
                !path.exists() && world.trees.names_in_git(&world.rig).await.unwrap().is_empty(),
                "{what}"
            );
        } else {
            undone.unwrap_err();
            assert_eq!(world.everything(), before, "{what}");
        }
    }
}

#[tokio::test]
async fn what_another_made_is_not_taken_back() {
    let world = World::new();
    let theirs = world.worker("nux").await;
    let mine = world.planned("nux", Some("gt-2"), 5);
    let before = world.everything();
    assert!(matches!(world.trees.undo(&mine, false).await, Err(TreeError::Exists(_))));
    assert_eq!(world.everything(), before);
    // Its directory is a link to it.
    let (dir, away) = (theirs.path.parent().unwrap(), world.base.join("away"));
    fs::rename(dir, &away).unwrap();
    std::os::unix::fs::symlink(&away, dir).unwrap();
    assert!(matches!(world.trees.undo(&theirs, false).await, Err(TreeError::Link(_))));
    assert!(away.join("a/f").exists());
}
