//! Launches of each kind of program.

use super::*;
use crate::agents::preset::{self, PRESETS};
use crate::agents::resolve::ChosenBy;
use crate::town::settings::AgentEntry;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A directory with executables of the given names, as the only `PATH`.
struct Bin(tempfile::TempDir);

impl Bin {
    fn new(names: &[&str]) -> Self {
        let bin = Self(tempfile::tempdir().unwrap());
        for name in names {
            bin.file(name, 0o755);
        }
        bin
    }

    fn file(&self, name: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn base(&self) -> Env {
        [("PATH".to_owned(), self.0.path().display().to_string())].into()
    }
}

fn choice(preset: &str, change: impl FnOnce(&mut AgentEntry)) -> Choice {
    let mut entry = AgentEntry::default();
    change(&mut entry);
    Choice {
        name: preset.to_owned(),
        preset: preset::by_name(preset).unwrap(),
        entry,
        from: ChosenBy::BuiltIn,
    }
}

struct Case<'a> {
    agent: &'a str,
    choice: &'a Choice,
    base: &'a Env,
    overrides: Env,
    account: Option<Account>,
    conversation: Option<Conversation>,
    settings_file: Option<&'a Path>,
    report_hooks: bool,
    work: Option<Work>,
}

impl<'a> Case<'a> {
    fn new(agent: &'a str, choice: &'a Choice, base: &'a Env) -> Self {
        Self {
            agent,
            choice,
            base,
            overrides: Env::new(),
            account: None,
            conversation: None,
            settings_file: None,
            report_hooks: true,
            work: None,
        }
    }

    fn launch(&self) -> Result<Launch, LaunchError> {
        let agent: Address = self.agent.parse().unwrap();
        let town: TownId = "00000000-0000-4000-8000-000000000000".parse().unwrap();
        launch(&Request {
            agent: &agent,
            instance: &InstanceId::generate(),
            choice: self.choice,
            root: Path::new("/t"),
            town: &town,
            socket: Path::new("/t/daemon/gtd.sock"),
            spool: Path::new("/t/daemon/run/reports"),
            cwd: Path::new("/t/a"),
            base_env: self.base,
            account: self.account.as_ref(),
            overrides: &self.overrides,
            conversation: self.conversation.as_ref(),
            settings_file: self.settings_file,
            report_hooks: self.report_hooks,
            work: self.work.as_ref(),
        })
    }
}

#[test]
fn claude_is_started_as_its_users_expect() {
    let (bin, claude) = (Bin::new(&["claude"]), choice("claude", |_| {}));
    let base = bin.base();
    let mut case = Case::new("a/witness", &claude, &base);
    let launched = case.launch().unwrap();
    let prompt = launched.prompt.clone().unwrap();
    assert_eq!(launched.argv, [bin.path("claude"), "--dangerously-skip-permissions".into(), prompt]);
    assert!(launched.prompt_in_argv);
    assert_eq!(launched.ready, Ready::Report);
    assert_eq!(launched.cwd, Path::new("/t/a"));
    assert_eq!(launched.env["GT_ROLE"], "witness");
    assert_eq!(launched.env["PATH"], bin.0.path().display().to_string());

    case.settings_file = Some(Path::new("/t/a/witness/.claude/settings.json"));
    case.conversation = Some(Conversation::New("id-1".into()));
    let launched = case.launch().unwrap();
    assert_eq!(
        launched.argv[1..6],
        [
            "--dangerously-skip-permissions",
            "--settings",
            "/t/a/witness/.claude/settings.json",
            "--session-id",
            "id-1"
        ]
    );
    assert_eq!(launched.argv.last(), launched.prompt.as_ref());
    case.conversation = Some(Conversation::Resume("id-1".into()));
    case.work = Some(Work { id: "a-7".into(), title: "t".into() });
    let resumed = case.launch().unwrap();
    assert_eq!(resumed.argv[4..6], ["--resume", "id-1"]);
    assert!(resumed.prompt.as_ref().unwrap().contains("a-7"));
    assert!(resumed.stale(&launched).is_empty(), "a restart is no drift");

    case.report_hooks = false;
    let ready = case.launch().unwrap().ready;
    assert_eq!(ready, Ready::Prompt { prefix: "\u{276f} ".into(), alive_for: Duration::from_secs(2) });
}

#[test]
fn each_preset_gets_its_text_in_its_way() {
    let programs: Vec<&str> = PRESETS.iter().filter_map(|preset| preset.command).collect();
    let bin = Bin::new(&programs);
    let base = bin.base();
    for preset in PRESETS.iter().filter(|preset| preset.command.is_some()) {
        let choice = choice(preset.name, |_| {});
        let mut case = Case::new("a/polecats/nux", &choice, &base);
        case.conversation = Some(Conversation::Resume("c-1".into()));
        let launched = case.launch().unwrap();
        let text = launched.prompt.clone().unwrap();
        let (argv, last) = (&launched.argv, launched.argv.last().unwrap());
        assert_eq!(launched.prompt_in_argv, *last == text, "{}", preset.name);
        match preset.prompt {
            PromptArg::Flag(flag) => assert_eq!(argv[argv.len() - 2], flag),
            PromptArg::Last => assert_eq!(*last, text),
            PromptArg::Typed => assert!(!argv.contains(&text)),
            PromptArg::Never => panic!("{}", preset.name),
        }
        match preset.resume {
            Resume::Flag(flag) => {
                let at = argv.iter().position(|arg| arg == flag).unwrap();
                assert_eq!(argv[at + 1], "c-1");
            }
            Resume::Subcommand(words) => {
                assert_eq!(argv[1..=words.len()], *words);
                assert_eq!(argv[words.len() + 1], "c-1");
            }
            Resume::None => assert_eq!(launched.conversation, None),
        }
        for (key, value) in preset.env {
            assert_eq!(launched.env[*key], *value);
        }
    }
}

#[test]
fn a_script_is_run_as_it_is() {
    let bin = Bin::new(&["x"]);
    let base = bin.base();
    let script = choice("script", |entry| {
        entry.command = Some(bin.path("x"));
        entry.env.insert("A".into(), "entry".into());
        entry.env.insert("B".into(), "entry".into());
    });
    let mut case = Case::new("a/refinery", &script, &base);
    case.overrides.insert("A".into(), "override".into());
    case.conversation = Some(Conversation::New("c".into()));
    let launched = case.launch().unwrap();
    assert_eq!(launched.argv, [bin.path("x")]);
    assert_eq!((launched.prompt, launched.conversation), (None, None));
    assert_eq!(launched.ready, Ready::AliveFor(Duration::from_millis(200)));
    assert_eq!((launched.env["A"].as_str(), launched.env["B"].as_str()), ("override", "entry"));
    assert_eq!(launched.process_names, ["x"]);
    let slow = choice("script", |entry| {
        entry.command = Some("x".into());
        entry.args = Some(vec!["a b".into(), "$c".into()]);
        entry.ready_after_ms = Some(7);
    });
    let launched = Case::new("a/witness", &slow, &base).launch().unwrap();
    assert_eq!(launched.argv, [bin.path("x"), "a b".into(), "$c".into()]);
    assert_eq!(launched.ready, Ready::AliveFor(Duration::from_millis(7)));
}

#[test]
fn entries_change_their_preset() {
    let bin = Bin::new(&["claude", "codex"]);
    let base = bin.base();
    let haiku = choice("claude", |entry| {
        entry.args = Some(vec!["--model".into(), "haiku".into()]);
        entry.initial_prompt = Some("hello".into());
    });
    let mut case = Case::new("deacon", &haiku, &base);
    case.account = Some(Account { handle: "work".into(), config_dir: "/home/x/.work".into() });
    let launched = case.launch().unwrap();
    assert_eq!(launched.argv[1..], ["--model", "haiku", "hello"]);
    assert_eq!(launched.env["CLAUDE_CONFIG_DIR"], "/home/x/.work");
    assert_eq!(launched.account.as_deref(), Some("work"));
    let silent = choice("claude", |entry| entry.prompt_mode = Some("none".into()));
    let launched = Case::new("deacon", &silent, &base).launch().unwrap();
    assert_eq!((launched.argv.len(), launched.prompt_in_argv), (2, false));
    assert!(launched.prompt.is_some());
    let codex = choice("codex", |entry| {
        entry.prompt_mode = Some("arg".into());
        entry.ready_prompt_prefix = Some("> ".into());
    });
    let launched = Case::new("deacon", &codex, &base).launch().unwrap();
    assert!(launched.prompt_in_argv);
    assert_eq!(launched.ready, Ready::Prompt { prefix: "> ".into(), alive_for: SCREEN_READY });
}

#[test]
fn a_program_that_is_not_there_is_a_launch_error() {
    let bin = Bin::new(&[]);
    bin.file("plain", 0o644);
    fs::create_dir(bin.0.path().join("dir")).unwrap();
    let base = bin.base();
    let cases = [
        ("claude", "ENOENT"),
        ("/no/such/program", "ENOENT"),
        ("./relative", "ENOENT"),
        ("", "ENOENT"),
        ("plain", "EACCES"),
        ("dir", "EACCES"),
        ("~/x", "ENOENT"),
        ("claude --model x", "ENOENT"),
    ];
    for (command, errno) in cases {
        let script = choice("script", |entry| entry.command = Some(command.to_owned()));
        let error = Case::new("a/witness", &script, &base).launch().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiedDuringStartup);
        let LaunchError::Exec { error, hint, .. } = error else { panic!("{error}") };
        assert_eq!((error.op.as_str(), error.errno.as_str()), ("execve", errno), "{command}");
        assert_eq!(error.path.as_deref(), Some(command));
        assert!(!hint.is_empty());
    }
    let absolute = format!("{}/plain", bin.0.path().display());
    assert_eq!(find(&absolute, "", None).unwrap_err().errno, "EACCES");
    assert_eq!(find(&format!("{absolute}/x"), "", None).unwrap_err().errno, "ENOTDIR");
    bin.file("tool", 0o755);
    let tool = bin.0.path().join("tool");
    assert_eq!(find("~/tool", "", Some(bin.0.path())), Ok(tool.clone()));
    let path = format!("relative::{}/none:{}", bin.0.path().display(), bin.0.path().display());
    assert_eq!(find("tool", &path, None), Ok(tool));
}

#[test]
fn the_identity_cannot_be_requested() {
    let bin = Bin::new(&["claude"]);
    let (claude, base) = (choice("claude", |_| {}), bin.base());
    let mut case = Case::new("a/witness", &claude, &base);
    case.overrides.insert("GT_ROLE".into(), "mayor".into());
    let error = case.launch().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParams);
    assert!(error.to_string().contains("GT_ROLE"), "{error}");
}

#[test]
fn program_and_directory_can_be_looked_at() {
    let bin = Bin::new(&["claude"]);
    let (claude, base) = (choice("claude", |_| {}), bin.base());
    let mut launched = Case::new("a/witness", &claude, &base).launch().unwrap();
    assert_eq!(launched.look().unwrap_err().op, "chdir");
    launched.cwd = bin.0.path().to_owned();
    assert_eq!(launched.look(), Ok(()));
    let before = launched.clone();
    fs::remove_file(bin.path("claude")).unwrap();
    let error = launched.look().unwrap_err();
    assert_eq!((error.op.as_str(), error.errno.as_str()), ("execve", "ENOENT"));
    launched.env.insert("NEW".into(), "x".into());
    launched.program.push("--model".into());
    assert_eq!(before.stale(&launched), ["argv", "env"]);
    launched.cwd = "/other".into();
    assert_eq!(before.stale(&launched), ["argv", "env", "cwd"]);
    assert!(!format!("{launched:?}").contains(&launched.env["GT_TOWN_ID"]), "values stay out of logs");
    let text = serde_json::to_string(&launched).unwrap();
    assert_eq!(serde_json::from_str::<Launch>(&text).unwrap(), launched);
}
