//! `gtd`: the daemon of one town, in the foreground.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use gtd::config::Config;
use gtd::daemon::{self, Options};
use gtd::doctor;
use gtd::town::{init, marker};
use gtd_proto::config::Shown;
use gtd_proto::doctor::{CheckResult, CheckStatus};

/// The supervisor daemon of a town of coding agents.
///
/// Runs in the foreground and logs to daemon/gtd.log, and to standard error on a terminal or under a service
/// manager. People usually start it with `gtctl daemon start` or `gtctl up`.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 ended as asked, 1 another daemon has the town, 2 usage, 70 the system refused, 78 bad configuration"
)]
struct Cli {
    /// Root directory of the town [default: found from the current directory upwards]
    #[arg(long, value_name = "DIR", env = "GT_TOWN_ROOT")]
    town: Option<PathBuf>,

    /// Check a configuration file without starting anything [default file: the town's settings/gtd.toml]
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["init", "hold"])]
    check_config: Option<Option<PathBuf>>,

    /// Look for what is wrong with the town, without a daemon and without changing anything
    #[arg(long, conflicts_with_all = ["init", "hold", "check_config"])]
    check: bool,

    /// With --check: only this check; may be given several times
    #[arg(long, value_name = "NAME", requires = "check")]
    only: Vec<String>,

    /// With --check and --json: first the names of the checks, then each on a line when it is done, then the report
    #[arg(long, requires_all = ["check", "json"])]
    each: bool,

    /// With --check: only what concerns this rig
    #[arg(long, requires = "check")]
    rig: Option<gtd_proto::RigName>,

    /// With --check-config: every value, or the error, as JSON. With --check: the report as JSON
    #[arg(long)]
    json: bool,

    /// Come up with the whole town held: start nothing until `gtctl up`
    #[arg(long, conflicts_with = "init")]
    hold: bool,

    /// Make a new town in DIR, or complete one, and exit
    #[arg(long, requires = "town")]
    init: bool,

    /// With --init: name of the town [default: that of its directory]
    #[arg(long, requires = "init")]
    name: Option<String>,

    /// With --init: who owns the town
    #[arg(long, requires = "init")]
    owner: Option<String>,

    /// With --init: only say what would be done
    #[arg(long, requires = "init")]
    dry_run: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Some(file)) = &cli.check_config {
        return check_config(file, cli.json);
    }
    let town = match cli.town.clone().map_or_else(find_town, Ok) {
        Ok(town) => town,
        Err(why) => {
            return fail(2, &why, Some("name a town with --town DIR, or make one with: gtctl init DIR"));
        }
    };
    if cli.check_config.is_some() {
        return check_config(&town.join("settings/gtd.toml"), cli.json);
    }
    if cli.check {
        return check(&cli, &town);
    }
    if cli.init {
        return make_town(&cli, &town);
    }
    match daemon::run(&Options { town, hold: cli.hold }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.exit_code(), &error.to_string(), error.hint().as_deref()),
    }
}

/// Looks at a town without its daemon. Exit code 0 nothing above a warning, 1 errors, 5 something could not be told.
fn check(cli: &Cli, town: &Path) -> ExitCode {
    let checks = match doctor::named(Some(&cli.only)) {
        Ok(checks) => checks,
        Err(error) => return fail(2, &error.to_string(), Some("gtctl doctor --list")),
    };
    if !town.join("mayor/town.json").is_file() {
        return fail(2, &format!("{} is no town: it has no mayor/town.json", town.display()), None);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(70, &format!("no runtime: {error}"), None),
    };
    let looking = async {
        let world = doctor::World::without_daemon(town, cli.rig.clone()).await?;
        if cli.each {
            let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
            println!("{}", serde_json::to_string(&names).unwrap_or_default());
        }
        let tell = |check: &CheckResult| match (cli.json, cli.each) {
            (true, true) => println!("{}", serde_json::to_string(check).unwrap_or_default()),
            (true, false) => {}
            (false, _) => {
                println!("{:<8} {:<18} {}", check.status.as_str(), check.name, check.message);
                check.details.iter().for_each(|line| println!("         {line}"));
                check.hint.iter().for_each(|hint| println!("         hint: {hint}"));
            }
        };
        Ok::<_, std::io::Error>(doctor::run_each(Arc::new(world), &checks, tell).await.report)
    };
    let looked = runtime.block_on(looking);
    // A check that hangs would keep the runtime from ending.
    runtime.shutdown_background();
    let report = match looked {
        Ok(report) => report,
        Err(error) => return fail(1, &format!("{} cannot be looked at: {error}", town.display()), None),
    };
    if cli.json {
        println!("{}", serde_json::to_string(&report).unwrap_or_default());
    }
    let any = |status| report.checks.iter().any(|check| check.status == status);
    match (any(CheckStatus::Error), any(CheckStatus::Unknown)) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(5),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// Reads a file as the daemon would, and says what came of it: exit code 0, or 78.
fn check_config(file: &Path, json: bool) -> ExitCode {
    let read = Config::load(file);
    let shown = |config: &Config| Shown {
        file: file.to_string_lossy().into_owned(),
        values: config.values(),
        rejected: None,
    };
    match read {
        Ok(config) if json => {
            println!("{}", serde_json::to_string(&shown(&config)).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Ok(_) => {
            let there = if file.exists() { "can be used" } else { "is not there: the defaults hold" };
            println!("{} {there}", file.display());
            ExitCode::SUCCESS
        }
        Err(error) if json => {
            println!("{}", serde_json::to_string(&error.to_rpc()).unwrap_or_default());
            ExitCode::from(78)
        }
        Err(error) => {
            let code = fail(78, &error.to_string(), error.hint.as_deref());
            if let Some(line) = &error.excerpt {
                eprintln!("  {line}");
            }
            code
        }
    }
}

fn find_town() -> Result<PathBuf, String> {
    let here =
        std::env::current_dir().map_err(|error| format!("the current directory cannot be read: {error}"))?;
    match marker::find(&here) {
        Ok(Some(root)) => Ok(root),
        Ok(None) => Err(format!("{} is not inside a town", here.display())),
        Err(error) => Err(format!("looking for the town failed: {error}")),
    }
}

fn make_town(cli: &Cli, dir: &Path) -> ExitCode {
    match init::init(dir, cli.name.as_deref(), cli.owner.as_deref(), cli.dry_run) {
        Ok(steps) => {
            told(&steps, cli.dry_run, dir).iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(2, &error.to_string(), error.hint()),
    }
}

/// A new town in one line; what was missing in one that was there, step by step.
fn told(steps: &[init::Step], dry_run: bool, dir: &Path) -> Vec<String> {
    let kept = steps.iter().filter(|step| step.action == init::Action::Keep).count();
    let lines = |steps: &mut dyn Iterator<Item = &init::Step>| {
        steps.map(|step| format!("{} {}: {}", verb(step.action), step.path.display(), step.why)).collect()
    };
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let dir = dir.display();
    match kept {
        _ if dry_run => lines(&mut steps.iter()),
        0 => vec![
            format!("made a town in {dir}"),
            "next: say in its settings/config.json what its agents are, then there: gtctl up".to_owned(),
        ],
        _ if kept == steps.len() => vec![format!("{dir} is a town already, and nothing of it is missing")],
        _ => lines(&mut steps.iter().filter(|step| step.action != init::Action::Keep)),
    }
}

fn verb(action: init::Action) -> &'static str {
    match action {
        init::Action::MakeDirectory | init::Action::WriteFile => "make",
        init::Action::Keep => "keep",
        init::Action::Leave => "leave",
    }
}

fn fail(code: u8, what: &str, hint: Option<&str>) -> ExitCode {
    eprintln!("error: {what}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(code)
}
