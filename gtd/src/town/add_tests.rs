//! Rigs added with a real git, and with one that fails.

use super::*;
use crate::town::git::executable;
use crate::town::init::init;

struct World {
    _base: tempfile::TempDir,
    layout: Layout,
    source: String,
    git: Git,
}

fn env() -> Vec<(String, String)> {
    std::env::vars().collect()
}

fn sh(dir: &Path, script: &str) -> String {
    let out = std::process::Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn world() -> World {
    let base = tempfile::tempdir().unwrap();
    init(&base.path().join("town"), None, None, false).unwrap();
    sh(
        base.path(),
        "git init -q -b trunk source; cd source; git config user.name x; git config user.email x@x
         echo hello > file; git add file; git commit -qm one; git branch other",
    );
    World {
        layout: Layout::at(&base.path().join("town")).unwrap(),
        source: base.path().join("source").display().to_string(),
        git: Git::new(env()),
        _base: base,
    }
}

impl World {
    fn request(&self, name: &str) -> Request {
        Request {
            name: RigName::new(name).unwrap(),
            source: self.source.clone(),
            prefix: None,
            default_branch: None,
        }
    }

    /// A git that runs the real one until a subcommand comes, and then does something else.
    fn failing(&self, subcommand: &str, then: &str) -> Git {
        let path = self._base.path().join(format!("git-{subcommand}"));
        let script = format!(
            "#!/bin/sh\nfor a; do [ \"$a\" = {subcommand} ] && {{ {then}; }}; done\nexec git \"$@\"\n"
        );
        executable(&path, &script);
        Git::with_program(path, env())
    }

    fn registry(&self) -> Vec<u8> {
        fs::read(self.layout.rigs_json()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.layout.rig(&RigName::new(name).unwrap())
    }
}

#[tokio::test]
async fn a_rig_is_added_whole() {
    let world = world();
    let request = world.request("alpha-beta");
    let before = world.registry();
    let planned = add(&world.layout, &request, &world.git, true).await.unwrap();
    assert!(!planned.path.exists());
    assert_eq!(world.registry(), before);
    let added = add(&world.layout, &request, &world.git, false).await.unwrap();
    assert_eq!(planned, added);
    assert_eq!((added.prefix.as_str(), added.default_branch.as_str()), ("ab", "trunk"));
    assert_eq!(fs::read_to_string(added.path.join("refinery/rig/file")).unwrap(), "hello\n");
    assert_eq!(sh(&added.path.join("refinery/rig"), "git rev-parse --abbrev-ref HEAD"), "trunk");
    assert_eq!(
        sh(&added.path.join("refinery/rig"), "git rev-parse --abbrev-ref HEAD@{upstream}"),
        "origin/trunk"
    );
    assert_eq!(sh(&added.path.join("refinery/rig"), "git status --porcelain"), "");
    let mut names: Vec<String> = fs::read_dir(&added.path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".repo.git", "config.json", "crew", "polecats", "refinery", "witness"]);

    let town = snapshot::read(&world.layout, None);
    assert_eq!(town.findings, []);
    let facts = &town.rigs[&request.name];
    assert_eq!(facts.prefix, "ab");
    assert_eq!(facts.default_branch.as_deref(), Some("trunk"));
    assert_eq!(facts.operational, Ok(()));

    assert!(matches!(add(&world.layout, &request, &world.git, false).await, Err(AddError::Registered(_))));
    // The derived prefix is taken: a longer one is found, a given one refused.
    let mut second = world.request("ant-bee");
    second.prefix = Some("AB-".to_owned());
    assert!(matches!(
        add(&world.layout, &second, &world.git, false).await,
        Err(AddError::PrefixTaken { .. })
    ));
    second.prefix = None;
    second.default_branch = Some("other".to_owned());
    let added = add(&world.layout, &second, &world.git, false).await.unwrap();
    assert_eq!((added.prefix.as_str(), added.default_branch.as_str()), ("an", "other"));
    assert_eq!(sh(&added.path.join("refinery/rig"), "git rev-parse --abbrev-ref HEAD"), "other");
}

#[tokio::test]
async fn what_cannot_be_added_is_refused_and_leaves_nothing() {
    let world = world();
    let before = world.registry();
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = world.request("alpha");
        change(&mut request);
        request
    };
    let cases: Vec<(Request, ErrorKind)> = vec![
        (world.request("witness"), ErrorKind::NameInvalid),
        (world.request("settings"), ErrorKind::NameInvalid),
        (with(&|request| request.source = "relative/path".into()), ErrorKind::InvalidParams),
        (with(&|request| request.source = "--upload-pack=x".into()), ErrorKind::InvalidParams),
        (with(&|request| request.source = "ext::sh -c x".into()), ErrorKind::InvalidParams),
        (with(&|request| request.source = "/no/such/place".into()), ErrorKind::Git),
        (with(&|request| request.default_branch = Some("none".into())), ErrorKind::InvalidParams),
        (with(&|request| request.default_branch = Some("-x".into())), ErrorKind::InvalidParams),
        (with(&|request| request.prefix = Some("1x".into())), ErrorKind::NameInvalid),
        (with(&|request| request.prefix = Some("hq".into())), ErrorKind::NameTaken),
    ];
    for (request, kind) in cases {
        let error = add(&world.layout, &request, &world.git, false).await.expect_err(&format!("{request:?}"));
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(world.registry(), before);
        assert!(!world.path("alpha").exists(), "{error}");
    }
    fs::create_dir(world.path("alpha")).unwrap();
    fs::write(world.path("alpha").join("config.json"), "theirs").unwrap();
    for dry_run in [true, false] {
        let error = add(&world.layout, &world.request("alpha"), &world.git, dry_run).await.unwrap_err();
        assert!(matches!(error, AddError::DirectoryExists(_)), "{error}");
    }
    assert_eq!(fs::read_to_string(world.path("alpha").join("config.json")).unwrap(), "theirs");
    fs::write(world.layout.rigs_json(), "{").unwrap();
    let error = add(&world.layout, &world.request("beta"), &world.git, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(!world.path("beta").exists());
}

#[tokio::test]
async fn what_cannot_be_cloned_is_named_in_plain_words_with_a_command_that_says_more() {
    let world = world();
    let missing = world.layout.root().join("no such").display().to_string();
    for dry_run in [false, true] {
        let request = Request { source: missing.clone(), ..world.request("alpha") };
        let error = add(&world.layout, &request, &world.git, dry_run).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Git);
        let said = error.to_string();
        assert!(said.starts_with(&format!("cannot clone {missing}: ")), "{said}");
        assert!(!said.contains("fatal:") && !said.contains("exit status"), "{said}");
        assert_eq!(error.hint(), Some(format!("git ls-remote '{missing}'")));
    }
}

#[tokio::test]
async fn a_failure_at_any_step_leaves_nothing() {
    let world = world();
    let before = world.registry();
    for subcommand in ["clone", "fetch", "worktree", "symbolic-ref", "config"] {
        let git = world.failing(subcommand, "echo broken >&2; exit 9");
        let error = add(&world.layout, &world.request("alpha"), &git, false).await.unwrap_err();
        let (AddError::Git(error) | AddError::Clone { git: error, .. }) = error else {
            panic!("{subcommand}: {error}")
        };
        assert_eq!(error.stderr.trim(), "broken");
        assert!(error.command.contains(subcommand));
        assert!(!world.path("alpha").exists(), "{subcommand}");
    }
    // The registry goes bad while the clone is made: found out at the last step.
    let git = world.failing("worktree", &format!("echo torn > {}", world.layout.rigs_json().display()));
    let error = add(&world.layout, &world.request("alpha"), &git, false).await.unwrap_err();
    assert!(matches!(error, AddError::Registry(_)), "{error}");
    assert!(!world.path("alpha").exists());
    fs::write(world.layout.rigs_json(), before).unwrap();
    // A person's file in the half-made directory stays.
    let git = world.failing("fetch", "touch ../mine; exit 1");
    assert!(add(&world.layout, &world.request("alpha"), &git, false).await.is_err());
    assert_eq!(fs::read_dir(world.path("alpha")).unwrap().count(), 1);
    assert!(world.path("alpha").join("mine").exists());
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_leaves_nothing() {
    let world = world();
    let git = world.failing("fetch", "touch ../../begun; sleep 1000");
    let begun = world.layout.root().join("begun");
    let request = world.request("alpha");
    {
        let work = add(&world.layout, &request, &git, false);
        tokio::pin!(work);
        let started = async {
            while !begun.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            result = &mut work => panic!("{result:?}"),
            () = started => {}
        }
        // While it is under way, nobody else may have the place.
        let error = add(&world.layout, &request, &world.git, false).await.unwrap_err();
        assert!(matches!(error, AddError::UnderWay(_)), "{error}");
    }
    assert!(!world.path("alpha").exists());
    add(&world.layout, &request, &world.git, false).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_call_left_is_cleared_by_the_next() {
    let world = world();
    let path = world.path("alpha");
    fs::create_dir_all(path.join(".repo.git/objects")).unwrap();
    fs::create_dir_all(path.join("refinery/rig")).unwrap();
    fs::write(path.join(MARKER), "").unwrap();
    let added = add(&world.layout, &world.request("alpha"), &world.git, false).await.unwrap();
    assert!(added.path.join("refinery/rig/file").exists());
    assert!(!path.join(MARKER).exists());
}

#[test]
fn sources_are_told_from_programs() {
    for good in
        ["/x", "https://h/x.git", "ssh://h/x", "git@h:x/y.git", "h.example:x", "git@h:/abs/x", "file:///x"]
    {
        assert!(is_source(good), "{good}");
    }
    for bad in ["", "x", "./x", "../x", "-x", "ext::x", "fd::3", "a/b:c", ":x", "h:", "odd://x", "x\ny:z"] {
        assert!(!is_source(bad), "{bad}");
    }
}
