//! `gtctl config …`: what the configuration says, and whether it can be used. The reading of files is gtd's, which
//! knows the keys; it is asked over the socket, or started to look once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gtd_proto::config::{ConfigValue, Origin, Shown};
use gtd_proto::rpc::DaemonClient;
use gtd_proto::{RpcError, params};
use serde_json::json;

use crate::cli::{Config, ConfigCheck, ConfigShow};
use crate::client;
use crate::context::Context;
use crate::daemon::sibling;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::event::shown;
use crate::output::note;
use crate::output::paint::{Paint, Tone};
use crate::output::table::{Cell, Table, cut};
use crate::town;

/// Where a town's file is.
const FILE: &str = "settings/gtd.toml";

/// Characters of a value that are shown at a terminal beside others.
const VALUE: usize = 20;

/// Runs the verb.
///
/// # Errors
/// The verb's own.
pub async fn run(cx: &mut Context, verb: Config) -> Result<Code, Failure> {
    match verb {
        Config::Show(args) => show(cx, &args).await,
        Config::Check(args) => check(cx, &args),
    }
}

async fn show(cx: &mut Context, args: &ConfigShow) -> Result<Code, Failure> {
    let (mut config, daemon, seq) = match cx.connect().await {
        Ok(session) => {
            let answer = client::read(DaemonClient::config(&session.client, params::None {})).await?;
            (answer.body, true, Some(answer.seq))
        }
        Err(failure) if failure.code() == Code::Unreachable => {
            (ask_gtd(&town::find(&cx.around)?.join(FILE))?, false, None)
        }
        Err(failure) => return Err(failure),
    };
    if let Some(part) = &args.key {
        config.values.retain(|value| value.key.contains(part.as_str()));
        if config.values.is_empty() {
            return Err(Failure::usage(format!("no key contains {part:?}")).hint("gtctl config show"));
        }
    }
    let screen = &mut cx.screen;
    if screen.json {
        let mut result = json!(config);
        if let Some(object) = result.as_object_mut() {
            object.insert("daemon".to_owned(), json!(daemon));
            object.extend(seq.map(|seq| ("seq".to_owned(), json!(seq))));
        }
        screen.envelope("daemon.config", &result)?;
        return Ok(Code::Done);
    }
    let lines = match config.values.as_slice() {
        [one] => card(one, screen.paint),
        values => table(values, screen.width.is_some()).render(screen.paint, screen.width),
    };
    screen.lines(lines)?;
    screen.flush()?;
    if !daemon {
        note(format!("no daemon is running: this is what {} says", config.file));
    }
    if let Some(why) = &config.rejected {
        note(format!(
            "{} the file cannot be used as it is now, and these are the last good values: {why}",
            Paint::new(false).text(Tone::Bad, "warning:")
        ));
    }
    Ok(Code::Done)
}

/// One key, with all that is to be said of it.
fn card(value: &ConfigValue, paint: Paint) -> Vec<String> {
    let origin = if value.not_yet { "; nothing uses it yet" } else { "" };
    let fields = [
        ("Value", shown(&value.value)),
        ("Origin", format!("{}{origin}", value.origin.as_str())),
        ("Unit", value.unit.clone()),
        ("Meaning", value.doc.clone()),
    ];
    let lines = fields.iter().map(|(title, text)| format!("  {} {text}", paint.dim(&format!("{title:>7}:"))));
    std::iter::once(paint.strong(&value.key)).chain(lines).collect()
}

fn table(values: &[ConfigValue], narrow: bool) -> Table {
    let mut table = Table::new(&["KEY", "VALUE", "ORIGIN", "MEANING", "UNIT"]);
    for value in values {
        let origin = if value.not_yet {
            Cell::new(format!("{}, not yet", value.origin.as_str()), Tone::Dim)
        } else if value.origin == Origin::Default {
            Cell::new("default", Tone::Dim)
        } else {
            Cell::from(value.origin.as_str())
        };
        let text = shown(&value.value);
        // One long value must not take the room of what all the others mean. Asked for alone it is shown whole.
        let text = if narrow { cut(&text, VALUE) } else { text };
        table.row(vec![
            value.key.as_str().into(),
            text.into(),
            origin,
            value.doc.as_str().into(),
            value.unit.as_str().into(),
        ]);
    }
    table
}

fn check(cx: &mut Context, args: &ConfigCheck) -> Result<Code, Failure> {
    let file: PathBuf = match &args.file {
        // One that was named has to be there; a town without one has the defaults.
        Some(file) => {
            let file = cx.around.cwd.join(file);
            if !file.exists() {
                return Err(Failure::usage(format!("there is no {}", file.display())));
            }
            file
        }
        None => town::find(&cx.around)?.join(FILE),
    };
    let config = ask_gtd(&file)?;
    let set = config.values.iter().filter(|value| value.origin == Origin::File).count();
    let idle: Vec<&str> = config
        .values
        .iter()
        .filter(|value| value.not_yet && value.origin == Origin::File)
        .map(|value| value.key.as_str())
        .collect();
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("config.check", &json!({ "file": config.file, "set": set, "not_yet": idle }))?;
        return Ok(Code::Done);
    }
    screen.line(if file.exists() {
        format!("{} can be used: {}", config.file, keys(set))
    } else {
        format!("there is no {}: all keys have their defaults", config.file)
    })?;
    if !idle.is_empty() {
        note(format!("without effect in this version: {}", idle.join(", ")));
    }
    Ok(Code::Done)
}

fn keys(set: usize) -> String {
    match set {
        0 => "it sets no key, all have their defaults".to_owned(),
        1 => "1 key is set".to_owned(),
        _ => format!("{set} keys are set"),
    }
}

/// Lets the gtd beside us read a file, without starting anything.
fn ask_gtd(file: &Path) -> Result<Shown, Failure> {
    let output = Command::new(sibling::gtd()?)
        .arg("--check-config")
        .arg(file)
        .arg("--json")
        // The file is named; which town is meant by our surroundings does not matter.
        .env_remove("GT_TOWN_ROOT")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Failure::failed(format!("cannot run gtd: {e}")))?;
    if let Ok(config) = serde_json::from_slice::<Shown>(&output.stdout) {
        return Ok(config);
    }
    match serde_json::from_slice::<RpcError>(&output.stdout) {
        Ok(error) => Err(error.into()),
        Err(_) => Err(Failure::failed(format!("gtd did not read {}", file.display()))
            .with("stderr", String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}
