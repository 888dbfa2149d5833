//! Making worktrees.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn a_worker_begins_on_a_branch_of_its_own_where_the_remote_is() {
    let world = World::new();
    fs::write(world.origin().join("f"), "newer\n").unwrap();
    git(&world.origin(), &["commit", "-qam", "two"]);
    let new = world.planned("nux", Some("gt-1"), 0);
    let added = world.trees.add(&new).await.unwrap();
    assert_eq!(added.notes, Vec::<String>::new());
    assert_eq!(added.base, "refs/remotes/origin/main");
    assert_eq!(new.path, world.home().join("polecats/nux/a"));
    assert_eq!(fs::read_to_string(new.path.join("f")).unwrap(), "newer\n", "it was fetched");
    assert_eq!(git(&new.path, &["branch", "--show-current"]), new.branch);
    assert!(new.branch.starts_with("polecat/nux/gt-1@"), "{}", new.branch);
    assert!(!try_git(&new.path, &["rev-parse", "@{upstream}"]).0, "it follows no other branch");
    assert_eq!(git(&new.path, &["status", "--porcelain"]), "");
    let list = git(&world.repo(), &["worktree", "list", "--porcelain"]);
    assert!(list.contains("locked in use by the polecat nux of the rig a"), "{list}");
    assert_eq!(
        fs::read_dir(world.home().join("polecats/nux")).unwrap().count(),
        1,
        "nothing else is left there"
    );
    assert!(!world.repo().join("FETCH_HEAD").exists());
    let tree = world.tree("nux").await;
    assert!(tree.is_untouched(), "{tree:?}");
    assert_eq!((tree.branch.as_deref(), tree.tip.as_deref()), (Some(&*new.branch), Some(&*added.commit)));
}

#[tokio::test]
async fn what_is_there_already_stays_as_it_is() {
    let world = World::new();
    let new = world.worker("nux").await;
    fs::write(new.path.join("f"), "mine\n").unwrap();
    fs::create_dir(world.home().join("polecats/max")).unwrap();
    git(&world.repo(), &["branch", "-q", &world.planned("ace", Some("gt-1"), 0).branch, "main"]);
    let before = world.everything();
    for (name, ms, kind) in [("nux", 0, 1015), ("nux", 1, 1015), ("max", 0, 1015), ("ace", 0, 1015)] {
        let error = refusal(world.trees.add(&world.planned(name, Some("gt-1"), ms)).await);
        assert_eq!(error.code, kind, "{name}: {error}");
        assert!(error.message.ends_with("is there already"), "{error}");
    }
    assert_eq!(world.everything(), before);
    // A directory that is gone while git has a record of it: the worktree may only be out of sight.
    fs::rename(world.home().join("polecats/nux"), world.base.join("elsewhere")).unwrap();
    assert_eq!(refusal(world.trees.add(&world.planned("nux", None, 2)).await).code, 1015);
    assert_eq!(world.trees.names_in_git(&world.rig).await.unwrap(), std::slice::from_ref(&new.name));
    assert!(
        world.trees.add(&world.planned("ace", Some("gt-1"), 7)).await.is_ok(),
        "another time, another branch"
    );
}

#[tokio::test]
async fn twenty_at_once_all_come_about() {
    let world = World::named("a town with spaces and a #", "r");
    let plans: Vec<NewTree> =
        (0..20).map(|number| world.planned(&format!("n{number}"), Some("gt-1"), 0)).collect();
    let done = futures_util::future::join_all(plans.iter().map(|new| world.trees.add(new))).await;
    for (done, new) in done.into_iter().zip(&plans) {
        assert_eq!(done.unwrap().notes, Vec::<String>::new());
        assert_eq!(git(&new.path, &["branch", "--show-current"]), new.branch);
        assert!(world.tree(new.name.as_str()).await.is_untouched());
    }
    assert_eq!(world.trees.names_in_git(&world.rig).await.unwrap().len(), 20);
}

#[tokio::test]
async fn the_rigs_own_files_are_laid_over_and_its_programs_are_run() {
    let world = World::new();
    let runtime = world.home().join(".runtime");
    fs::create_dir_all(runtime.join("overlay/below")).unwrap();
    fs::create_dir_all(runtime.join("setup-hooks")).unwrap();
    fs::write(runtime.join("overlay/.env [x]"), "SECRET=1").unwrap();
    fs::write(runtime.join("overlay/f"), "not the project's").unwrap();
    let script = |name: &str, text: &str| {
        crate::town::git::executable(
            &runtime.join("setup-hooks").join(name),
            &format!("#!/bin/sh\n{text}\n"),
        );
    };
    script("10-first", "echo \"$PWD $GT_WORKTREE_PATH $GT_RIG_PATH $GT_TEST_SECRET\" > made");
    script("20-fails", "echo why >&2; exit 3");
    script("30-last", "echo last >> made");
    script("40-off", "echo off >> made");
    fs::set_permissions(runtime.join("setup-hooks/40-off"), fs::Permissions::from_mode(0o644)).unwrap();
    let new = world.planned("nux", None, 0);
    let added = world.trees.add(&new).await.unwrap();
    assert_eq!(added.notes.len(), 2, "{:?}", added.notes);
    assert!(added.notes[0].starts_with("f of the overlay was left out"), "{:?}", added.notes);
    assert!(
        added.notes[1].contains("20-fails failed") && added.notes[1].ends_with("why"),
        "{:?}",
        added.notes
    );
    let path = new.path.display();
    assert_eq!(
        fs::read_to_string(new.path.join("made")).unwrap(),
        format!("{path} {path} {} \nlast\n", world.home().display())
    );
    assert_eq!(fs::read_to_string(new.path.join("f")).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(new.path.join(".env [x]")).unwrap(), "SECRET=1");
    assert_eq!(git(&new.path, &["status", "--porcelain"]), "?? made", "what is laid over is nobody's work");
    let exclude = || fs::read_to_string(world.repo().join("info/exclude")).unwrap();
    let once = exclude();
    world.trees.add(&world.planned("max", None, 0)).await.unwrap();
    assert_eq!(exclude(), once);
    // Nobody worked there yet: what the programs left does not keep it.
    let undone = world.trees.undo(&new, false).await.unwrap();
    assert!(undone.directory && undone.record && undone.branch);
}

#[tokio::test]
async fn a_set_up_program_that_hangs_is_ended_with_all_it_started() {
    let world = World::new();
    let new = world.worker("nux").await;
    let hook = world.base.join("hook");
    crate::town::git::executable(&hook, "#!/bin/sh\nsleep 1000 & echo $! > child; wait\n");
    let repo = world.trees.repo(&world.rig).await.unwrap();
    let why = world.trees.hook(&hook, &repo, &new, std::time::Duration::from_millis(500)).await.unwrap_err();
    assert!(why.contains("not done within"), "{why}");
    let pid = fs::read_to_string(new.path.join("child")).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    let gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !gone() && std::time::Instant::now() < until {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(gone());
}

#[tokio::test]
async fn a_remote_that_is_away_is_a_note() {
    let world = World::new();
    fs::rename(world.origin(), world.base.join("away")).unwrap();
    let added = world.trees.add(&world.planned("nux", None, 0)).await.unwrap();
    assert!(added.notes[0].starts_with("origin was not asked"), "{:?}", added.notes);
    let next = world.trees.add(&world.planned("max", None, 0)).await.unwrap();
    assert_eq!(next.notes, Vec::<String>::new(), "it is not asked again at once");
}

#[tokio::test]
async fn without_a_bare_repository_the_mayors_clone_is_used() {
    let world = World::new();
    fs::remove_dir_all(world.repo()).unwrap();
    assert!(refusal(world.trees.add(&world.planned("nux", None, 0)).await).message.contains("no repository"));
    let home = world.home();
    fs::create_dir(home.join("mayor")).unwrap();
    git(&home, &["clone", "-q", world.origin().to_str().unwrap(), "mayor/rig"]);
    git(&home.join("mayor/rig"), &["checkout", "-q", "-b", "other"]);
    let new = world.planned("nux", None, 0);
    let added = world.trees.add(&new).await.unwrap();
    assert_eq!(added.base, "refs/remotes/origin/main");
    assert_eq!(git(&home.join("mayor/rig"), &["status", "--porcelain"]), "");
    assert!(world.tree("nux").await.is_untouched());
    fs::write(home.join("config.json"), r#"{"default_branch":"nowhere"}"#).unwrap();
    let error = refusal(world.trees.add(&world.planned("max", None, 0)).await);
    assert!(error.message.contains("no branch \"nowhere\""), "{error}");
    fs::write(home.join("config.json"), "{").unwrap();
    assert!(refusal(world.trees.add(&world.planned("max", None, 0)).await).message.contains("config.json"));
}

/// A disk that fills up while git writes the files: git says so and takes back its own part.
#[tokio::test]
async fn a_disk_that_is_full_leaves_nothing() {
    let script = r#"case "$*" in
    *"worktree add"*) git "$@" || exit 9
        last= path=
        for arg; do [ "$last" = -- ] && path="$arg"; last="$arg"; done
        rm "$path/f"; echo "error: unable to write file f: No space left on device" >&2; exit 128 ;;
    *) exec git "$@" ;;
esac"#;
    let world = World::new().with_git(script);
    world.trees.exclude(&world.trees.repo(&world.rig).await.unwrap()).unwrap();
    let before = world.everything();
    let error = refusal(world.trees.add(&world.planned("nux", None, 0)).await);
    assert_eq!((error.code, error.hint.as_deref()), (1017, Some("df -h")), "{error}");
    assert!(error.data["stderr"].as_str().unwrap().contains("No space left"), "{error}");
    assert_eq!(world.everything(), before);
}

#[tokio::test]
async fn a_corrupt_repository_leaves_nothing() {
    let world = World::new();
    world.trees.exclude(&world.trees.repo(&world.rig).await.unwrap()).unwrap();
    let blob = git(&world.repo(), &["rev-parse", "main:f"]);
    // Packed objects are unpacked, to take one of them away.
    let pack = world.repo().join("objects/pack");
    for entry in fs::read_dir(&pack)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|x| x == "pack"))
    {
        let moved = world.base.join("pack");
        fs::rename(entry.path(), &moved).unwrap();
        let _ = fs::remove_file(entry.path().with_extension("idx"));
        let file = fs::File::open(&moved).unwrap();
        let unpacked =
            Command::new("git").args(["unpack-objects", "-q"]).current_dir(world.repo()).stdin(file).status();
        assert!(unpacked.unwrap().success());
        fs::remove_file(moved).unwrap();
    }
    let object = world.repo().join("objects").join(&blob[..2]).join(&blob[2..]);
    fs::remove_file(object).unwrap();
    fs::rename(world.origin(), world.base.join("away")).unwrap();
    let before = world.everything();
    let error = refusal(world.trees.add(&world.planned("nux", None, 0)).await);
    assert_eq!(error.code, 1017, "{error}");
    assert_eq!(world.everything(), before);
    fs::write(world.repo().join("HEAD"), "junk").unwrap();
    let error = refusal(world.trees.add(&world.planned("nux", None, 0)).await);
    assert_eq!(error.code, 1017, "{error}");
    assert!(!world.home().join("polecats/nux").exists());
}
