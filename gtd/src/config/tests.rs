//! The table of keys against the file that people write.

use proptest::prelude::*;

use super::*;

const FILE: &str = "/t/settings/gtd.toml";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new(FILE))
}

/// For every key: a value that is not its default, and values that must be refused.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "daemon.heartbeat_interval",
        "\"30s\"",
        &["\"0s\"", "\"999ms\"", "30", "\"30\"", "\"-3m\"", "\"11000d\""],
    ),
    ("daemon.log_level", "\"debug\"", &["\"loud\"", "1", "\"Info\""]),
    (
        "daemon.log_max_bytes",
        "\"1GiB\"",
        &["\"1KiB\"", "\"0B\"", "1048576", "\"5 apples\"", "\"99999999TiB\""],
    ),
    ("daemon.log_files", "1", &["0", "-1", "101", "1.5", "99999999999999999999"]),
    ("daemon.ledger_max_age", "\"7d\"", &["\"59m\"", "true"]),
    ("tmux.server", "\"/run/x.sock\"", &["\"\"", "\"a/b\"", "\"-L\"", "3"]),
    ("tmux.command_timeout", "\"1s\"", &["\"99ms\"", "\"0s\""]),
    ("tmux.size", "\"80x24\"", &["\"80\"", "\"0x0\"", "\"19x5\"", "\"-80x24\"", "\"80x99999\""]),
    (
        "tmux.names",
        "{ role = \"{prefix}-{role}\" }",
        &[
            "\"x\"",
            "{ rig = \"x\" }",
            "{ town = \"hq\" }",
            "{ role = \"{rig}\" }",
            "{ polecat = \"{rig}-{\" }",
        ],
    ),
    ("metrics.listen", "\"127.0.0.1:9464\"", &["\"0.0.0.0:1\"", "\"localhost\"", "9464"]),
    ("start.timeout", "\"5s\"", &["\"0s\"", "\"10ms\""]),
    ("start.max_agents", "40", &["-1", "\"40\""]),
    ("start.min_free_memory", "\"0B\"", &["\"1KiB\"", "0"]),
    ("start.min_free_disk", "\"1GB\"", &["\"1B\""]),
    ("start.concurrency", "3", &["-3", "4294967296"]),
    ("stop.drain", "\"0s\"", &["\"1us\"", "0"]),
    ("stop.grace", "\"0s\"", &["\"1ns\""]),
    ("stop.concurrency", "1", &["0"]),
    ("stop.spare", "[\"emacs\"]", &["\"emacs\"", "[1]", "[\"\"]"]),
    ("restart.initial", "\"1s\"", &["\"1us\""]),
    ("restart.base", "\"2s\"", &["\"0s\"", "\"9ms\""]),
    ("restart.factor", "1", &["0.5", "101", "nan", "inf", "\"2\""]),
    ("restart.max", "\"1m\"", &["\"0s\"", "\"1ms\""]),
    ("restart.jitter", "0.0", &["-0.1", "1.1"]),
    ("restart.min_uptime", "\"0s\"", &["\"1us\""]),
    ("restart.healthy_after", "\"1s\"", &["\"0s\"", "\"99ms\""]),
    ("restart.churn_deaths", "0", &["1", "-1"]),
    ("restart.churn_window", "\"1h\"", &["\"999ms\""]),
    ("restart.burst", "0", &["1"]),
    ("restart.window", "\"1m\"", &["\"1ms\""]),
    ("restart.quarantine", "\"2s\"", &["\"0s\"", "\"99ms\""]),
    ("restart.quarantine_max", "\"2d\"", &["\"1ms\""]),
    ("restart.hold", "\"30m\"", &["\"never\"", "\"0s\"", "\"999ms\"", "30"]),
    ("restart.settle", "\"0s\"", &["\"1us\""]),
    ("mass_death.threshold", "0", &["1", "-3"]),
    ("mass_death.share", "0", &["2", "-0.5"]),
    ("mass_death.window", "\"5s\"", &["\"0s\"", "\"99ms\""]),
    ("mass_death.hold", "\"0s\"", &["\"1us\""]),
    ("mass_death.hold_max", "\"1m\"", &["\"99ms\""]),
    ("mass_death.canary", "\"0s\"", &["\"1us\""]),
    ("deacon.mode", "\"off\"", &["\"on_demand\""]),
    ("deacon.stale", "\"2m\"", &["\"999ms\""]),
    ("deacon.stuck", "\"2h\"", &["\"999ms\""]),
    ("deacon.grace", "\"0s\"", &["\"1us\""]),
    ("deacon.on_stale", "\"alert\"", &["\"kill\""]),
    ("boot.mode", "\"agent\"", &["\"always\""]),
    ("witness.mode", "\"on_demand\"", &["\"on-demand\""]),
    ("witness.idle_ttl", "\"1m\"", &["\"999ms\""]),
    ("refinery.mode", "\"off\"", &["false"]),
    ("refinery.idle_ttl", "\"1m\"", &["\"999ms\""]),
    ("polecat.gupp_after", "\"1h\"", &["\"999ms\""]),
    ("polecat.max_per_rig", "4", &["-4"]),
    ("sweep.mode", "\"report\"", &["\"all\""]),
    ("sweep.min_age", "\"2m\"", &["\"0s\"", "\"999ms\""]),
    ("callers.grant", "[\"alpha/*: polecat.remove\"]", &["[\"alpha\"]", "[\"a: b\"]", "\"alpha: a.b\""]),
    ("work.store", "\"bd\"", &["\"sqlite\""]),
    ("work.timeout", "\"3s\"", &["\"99ms\""]),
];

fn line(key: &str, value: &str) -> String {
    let (table, name) = key.split_once('.').unwrap();
    format!("[{table}]\n{name} = {value}\n")
}

#[test]
fn the_cases_are_all_keys() {
    let mut known: Vec<String> = Config::keys().into_iter().map(|(key, _)| key).collect();
    known.retain(|key| !key.starts_with("notify."));
    let tested: Vec<&str> = CASES.iter().map(|(key, ..)| *key).collect();
    assert_eq!(known, tested);
}

#[test]
fn each_key_is_read_and_shown_with_its_origin() {
    let defaults = Config::default().values();
    for (key, value, _) in CASES {
        let config = parse(&line(key, value)).unwrap_or_else(|error| panic!("{key}: {error}"));
        for (shown, default) in config.values().iter().zip(&defaults) {
            let ours = shown.key == *key;
            assert_eq!(shown.value != default.value, ours, "{key} {}", shown.key);
            assert_eq!(shown.origin == Origin::File, ours, "{key} {}", shown.key);
        }
    }
}

#[test]
fn what_is_not_right_is_refused_at_its_place() {
    for (key, _, bad) in CASES {
        for value in *bad {
            let error = parse(&format!("\n{}", line(key, value))).expect_err(&format!("{key} = {value}"));
            assert_eq!(error.line, 3, "{key} = {value}: {error}");
            assert!(error.column > 1, "{key} = {value}: {error}");
            let named = error.key.as_deref().unwrap();
            assert!(named == *key || named.starts_with(&format!("{key}.")), "{error}");
            assert!(error.to_string().starts_with(&format!("{FILE}:3:")), "{error}");
        }
    }
}

#[test]
fn each_minimum_is_accepted_and_each_documented_bound_parses() {
    for (key, known) in Config::keys() {
        for bound in [known.rule.min, known.rule.max] {
            if bound.is_empty() {
                continue;
            }
            let value = if bound.parse::<f64>().is_ok() { bound.to_owned() } else { format!("\"{bound}\"") };
            let loosened = "[restart]\nmax = \"3000d\"\nquarantine_max = \"3000d\"\ninitial = \"0s\"\nbase=\"10ms\"\nquarantine=\"100ms\"\n\
                 [mass_death]\nhold_max = \"3000d\"\nhold=\"0s\"\n[deacon]\nstuck = \"3000d\"\nstale=\"1s\"\n";
            // The key under test replaces its line of the loosened file, so that no pair is violated.
            let (table, name) = key.split_once('.').unwrap();
            let mut file: toml::Table = loosened.parse().unwrap();
            let section = file.entry(table).or_insert_with(|| toml::Table::new().into());
            let parsed: toml::Table = format!("v = {value}").parse().unwrap();
            section.as_table_mut().unwrap().insert(name.to_owned(), parsed["v"].clone());
            if let Err(error) = parse(&file.to_string()) {
                panic!("{key} = {value}: {error}");
            }
        }
        assert!(known.doc.iter().all(|line| !line.trim().is_empty()), "{key}");
        assert!(!known.kind.is_empty(), "{key}");
    }
}

#[test]
fn what_is_unknown_is_refused_with_what_was_probably_meant() {
    let cases = [
        ("[restart]\nbaze = \"1s\"\n", "restart.baze", 2, 1, "did you mean \"base\"?"),
        ("[restrat]\nbase = \"1s\"\n", "restrat", 1, 2, "did you mean [restart]?"),
        ("base = \"1s\"\n", "base", 1, 1, "\"base\" is a key of [restart]"),
        ("[stop]\nthreshold = 1\n", "stop.threshold", 2, 1, "\"threshold\" is a key of [mass_death]"),
        ("[boot]\n  x = 1\n", "boot.x", 2, 3, "its keys are mode"),
        ("[[notify]]\non = [\"a\"]\nexe = [\"b\"]\n", "notify.exe", 3, 1, "did you mean \"exec\"?"),
        ("[tmux]\nnames = { polcat = \"x\" }\n", "tmux.names.polcat", 2, 11, "did you mean \"polecat\"?"),
        ("[deacon]\nmode = \"alway\"\n", "deacon.mode", 2, 8, "did you mean \"always\"?"),
        ("[stop]\ndrain = 30\n", "stop.drain", 2, 9, "did you mean \"30s\"?"),
    ];
    for (text, key, line, column, hint) in cases {
        let error = parse(text).expect_err(text);
        assert_eq!((error.key.as_deref(), error.line, error.column), (Some(key), line, column), "{error}");
        assert_eq!(error.hint.as_deref(), Some(hint), "{error}");
    }
}

#[test]
fn the_first_error_in_the_file_is_told() {
    let error = parse("[work]\nstore = 1\n[daemon]\nlog_files = 0\n").unwrap_err();
    assert_eq!(error.key.as_deref(), Some("work.store"));
    let error = parse("[work\n").unwrap_err();
    assert_eq!((error.key, error.line), (None, 1));
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    for (text, key) in [
        ("[restart]\nmax = \"500ms\"\n", "restart.max"),
        ("[restart]\nbase = \"10m\"\n", "restart.base"),
        ("[restart]\nquarantine = \"2d\"\n", "restart.quarantine"),
        ("[mass_death]\nhold_max = \"1s\"\n", "mass_death.hold_max"),
        ("[deacon]\nstuck = \"1m\"\n", "deacon.stuck"),
    ] {
        assert_eq!(parse(text).unwrap_err().key.as_deref(), Some(key));
    }
}

#[test]
fn notify_tables_are_read_whole_or_refused() {
    let config = parse("[[notify]]\non = [\"a.*\"]\nexec = [\"x\", \"{title}\"]\n").unwrap();
    assert_eq!(config.notify, [Notify { on: vec!["a.*".into()], exec: vec!["x".into(), "{title}".into()] }]);
    for bad in [
        "[notify]\n",
        "[[notify]]\n",
        "[[notify]]\non = [\"a\"]\n",
        "[[notify]]\non = []\nexec = [\"a\"]\n",
        "notify = 1\n",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_template_shows_every_default() {
    let template = Config::template();
    let config = parse(&template).unwrap();
    assert_eq!(config, Config::default());
    let uncommented: String = template
        .lines()
        .map(|line| line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut config = parse(&uncommented).unwrap();
    assert_eq!(config.set.len(), CASES.len() + 1, "every key is in the template");
    assert_eq!(config.notify.len(), 1);
    config.set.clear();
    config.notify.clear();
    assert_eq!(config, Config::default());
}

#[test]
fn a_reload_keeps_what_cannot_change() {
    let old = parse("[tmux]\nserver = \"private\"\n[stop]\ngrace = \"1s\"\n").unwrap();
    let new = parse("[tmux]\nserver = \"default\"\n[stop]\ngrace = \"2s\"\n").unwrap();
    let reload = old.reload(new);
    assert_eq!(reload.config.tmux.server, Server::Private);
    assert_eq!(reload.refused.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["tmux.server"]);
    assert_eq!(reload.changed, [Changed { key: "stop.grace".into(), old: "1s".into(), new: "2s".into() }]);
    for (key, _) in FIXED {
        assert!(reload.changed.iter().all(|change| change.key != key));
    }
}

#[test]
fn a_missing_file_is_the_defaults_and_an_unreadable_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Config::load(&dir.path().join("none.toml")).unwrap(), Config::default());
    assert!(Config::load(dir.path()).is_err(), "a directory");
    let file = dir.path().join("gtd.toml");
    std::fs::write(&file, b"[work]\n\xff").unwrap();
    assert!(Config::load(&file).unwrap_err().message.contains("UTF-8"));
    std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
    assert!(Config::load(&file).unwrap_err().message.contains("1 MiB"));
}

#[test]
fn a_file_that_is_being_written_is_read_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gtd.toml");
    let whole = "[stop]\ngrace = \"2s\"\n";
    std::fs::write(&file, whole).unwrap();
    for moved in [false, true] {
        // As editors do it: emptied or moved away, and filled a little later.
        if moved {
            std::fs::remove_file(&file).unwrap()
        } else {
            std::fs::write(&file, "").unwrap()
        }
        let path = file.clone();
        let editor = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::write(path, whole).unwrap();
        });
        let (config, text) = Config::load_settled(&file).unwrap();
        assert_eq!((config.stop.grace, text.as_str()), (Duration::from_secs(2), whole));
        editor.join().unwrap();
    }
}

#[test]
fn an_error_shows_its_line() {
    let excerpt = |text: &str| parse(text).unwrap_err().excerpt;
    assert_eq!(excerpt("[stop]\n  grace = 1 # x\n").as_deref(), Some("  grace = 1 # x"));
    assert_eq!(excerpt("[stop\n").as_deref(), Some("[stop"));
    assert_eq!(excerpt(&format!("[stop]\ngrace = {}\n", "1".repeat(9_000))), None, "too long to be of use");
    let error = parse("[stop]\ngrase = 1\n").unwrap_err().to_rpc();
    assert_eq!(error.code, 1014);
    let data = serde_json::Value::from(error.data);
    assert_eq!(
        data,
        serde_json::json!({"file": FILE, "line": 2, "column": 1, "key": "stop.grase", "excerpt": "grase = 1"})
    );
}

#[test]
fn marks_of_what_is_not_yet_there_are_of_keys() {
    let known: Vec<String> = Config::keys().into_iter().map(|(key, _)| key).collect();
    assert!(NOT_YET.iter().all(|key| known.iter().any(|known| known == key)));
    assert_eq!(Config::default().values().iter().filter(|value| value.not_yet).count(), NOT_YET.len());
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_panics(case in 0..CASES.len(), value in "[-+0-9a-zA-Z\"'{}\\[\\]., :=_]{0,24}") {
        let (key, ..) = CASES[case];
        let _ = parse(&line(key, &value));
        let _ = parse(&line(key, &format!("{value:?}")));
    }

    #[test]
    fn no_lines_panic(lines in proptest::collection::vec("(\\[{0,2}[a-z_.]{1,12}\\]{0,2}|[a-z_.]{1,12} ?= ?[-0-9a-z\".\\[\\]{}]{0,12}|#.{0,5})", 0..8)) {
        if let Err(error) = parse(&lines.join("\n")) {
            prop_assert!(error.line >= 1 && error.line as usize <= lines.len() + 1);
        }
    }
}

/// The table of the user's book: every key with its default and what it means.
fn markdown() -> String {
    let mut text = String::from("| Key | Default | What it means |\n|---|---|---|\n");
    for value in Config::default().values() {
        let shown = match &value.value {
            serde_json::Value::String(text) => format!("`\"{text}\"`"),
            other => format!("`{other}`"),
        };
        let default = if value.key == "tmux.names" { "see below".to_owned() } else { shown };
        let later = if value.not_yet { " *(not yet)*" } else { "" };
        text.push_str(&format!(
            "| `{}` | {default} | {}{later} |\n",
            value.key,
            value.doc.replace('|', "\\|")
        ));
    }
    text
}

#[test]
fn the_book_has_the_table_of_keys_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let book = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = book.split_once("<!-- keys -->\n").expect("the book has a place for the keys");
    let (there, after) = rest.split_once("<!-- /keys -->").expect("that place has an end");
    if std::env::var_os("GTD_BLESS").is_some() {
        let text = format!("{before}<!-- keys -->\n{}<!-- /keys -->{after}", markdown());
        return std::fs::write(path, text).unwrap();
    }
    assert_eq!(there, markdown(), "GTD_BLESS=1 writes it anew");
}
