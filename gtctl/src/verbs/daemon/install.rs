//! `gtctl daemon install` and `uninstall`: the daemon as a service of the user's own manager.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::start::{self, Came};
use crate::cli::{Install, Plan};
use crate::context::Context;
use crate::daemon::start::outside_of_agents;
use crate::daemon::{lock, sibling, stop};
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::change::step;
use crate::output::confirm::confirm;
use crate::output::note;
use crate::service::{self, Change, File, Service};
use gtd_proto::agent::PlanStep;

/// What is to be done, with the files in full.
struct Doing<'a> {
    service: &'a Service,
    /// Files that are missing or out of date.
    files: Vec<File>,
    /// Units that do not start by themselves yet.
    enable: Vec<String>,
    steps: Vec<PlanStep>,
}

impl<'a> Doing<'a> {
    fn of(service: &'a Service, files: Vec<File>, socket: bool) -> Result<Self, Failure> {
        let mut doing = Self { service, files: Vec::new(), enable: Vec::new(), steps: Vec::new() };
        for file in files {
            let verb = match file.change()? {
                Change::Keep => continue,
                Change::Make => "make",
                Change::Replace => "replace",
            };
            doing.steps.push(step(verb, file.path.display().to_string(), file.why));
            doing.files.push(file);
        }
        for unit in service.to_enable(socket) {
            doing.steps.push(step("enable", unit, "it starts with your session"));
            doing.enable.push(unit.to_owned());
        }
        Ok(doing)
    }

    async fn run(&self) -> Result<(), Failure> {
        // Before anything is written.
        self.service.reachable().await?;
        for file in &self.files {
            file.write()?;
        }
        let units: Vec<&str> = self.enable.iter().map(String::as_str).collect();
        self.service.enable(&units).await
    }
}

/// Runs `daemon install`.
///
/// # Errors
/// When there is no manager, a file is somebody else's, or with `--now` the daemon does not come up.
pub async fn run(cx: &mut Context, args: Install) -> Result<Code, Failure> {
    let root = cx.root().await?;
    let gtd = service::gtd()?;
    let own_dir = sibling::this()?.parent().map(Path::to_owned).unwrap_or_default();
    let path = service::path(std::env::var_os("PATH").as_deref(), &own_dir, Path::is_dir);
    let service = Service::of(&root)?;
    let doing = Doing::of(&service, service.files(&gtd, &path, args.listen)?, args.listen)?;
    if args.plan.dry_run {
        return show(cx, &service, "daemon.install", &doing.steps, &doing.files);
    }
    outside_of_agents(cx.around.var("GT_INSTANCE"))?;
    if !doing.steps.is_empty() {
        doing.run().await?;
    }
    if !cx.screen.json {
        cx.screen.lines(past(&doing.steps))?;
        let how = if doing.steps.is_empty() { "is installed already" } else { "is installed" };
        cx.screen.line(format!("the service {} {how}", service.name()))?;
        if let Some(words) = service.about_logout() {
            note(words);
        }
        cx.screen.flush()?;
    }
    let installed = json!({
        "dry_run": false, "unit": service.name(), "already": doing.steps.is_empty(), "plan": doing.steps,
    });
    if args.now {
        let came = now(&root, &service).await?;
        if cx.screen.json {
            cx.screen.envelope("daemon.install", &both(installed, came.to_json()))?;
            return Ok(Code::Done);
        }
        came.say(cx, "daemon running").await?;
        return Ok(Code::Done);
    }
    if cx.screen.json {
        cx.screen.envelope("daemon.install", &installed)?;
    } else if !is_its_own(&root, &service).await {
        let (verb, why) = match lock::look(&root) {
            lock::Lock::Free => ("start", "starts it"),
            _ => ("restart", "lets the manager run the daemon; agents go on"),
        };
        note(format!("next: gtctl daemon {verb} {why}"));
    }
    Ok(Code::Done)
}

/// What the installation did, and beside it whose daemon runs now; `already` is that of the service.
fn both(mut installed: Value, daemon: Value) -> Value {
    if let (Some(all), Value::Object(facts)) = (installed.as_object_mut(), &daemon) {
        for (name, value) in facts {
            all.entry(name.clone()).or_insert_with(|| value.clone());
        }
        all.insert("daemon".to_owned(), daemon);
    }
    installed
}

/// Lets the manager run the daemon, also in the place of one that runs otherwise.
async fn now(root: &Path, service: &Service) -> Result<Came, Failure> {
    let held = !matches!(lock::look(root), lock::Lock::Free);
    if held && !is_its_own(root, service).await {
        note("ending the daemon that runs without the manager; agents go on");
        stop::stop(root, stop::PATIENT, false).await?;
    }
    start::come(root.to_owned()).await
}

/// Whether the daemon that lives is the service's.
async fn is_its_own(root: &Path, service: &Service) -> bool {
    let recorded = crate::client::endpoint::endpoint(root).map(|end| end.pid);
    let held = !matches!(lock::look(root), lock::Lock::Free);
    held && recorded.is_some() && service.state().await.is_ok_and(|state| state.pid == recorded)
}

/// Runs `daemon uninstall`.
///
/// # Errors
/// When it was not confirmed, or something of it cannot be taken away.
pub async fn uninstall(cx: &mut Context, args: Plan) -> Result<Code, Failure> {
    let root = gone_or_there(cx).await?;
    let service = Service::of(&root)?;
    let files = service.leftovers();
    let mut steps = Vec::new();
    if service.is_installed() {
        steps.extend(
            service.units().iter().map(|unit| step("stop", *unit, "agents go on, and nobody restarts them")),
        );
        steps.extend(
            service.units().iter().map(|unit| step("disable", *unit, "it starts no more with your session")),
        );
    }
    steps.extend(files.iter().map(|file| step("remove", file.display().to_string(), "written by gtctl")));
    if args.dry_run {
        return show(cx, &service, "daemon.uninstall", &steps, &[]);
    }
    outside_of_agents(cx.around.var("GT_INSTANCE"))?;
    if !steps.is_empty() {
        let question = format!("Take away the service {} and end its daemon?", service.name());
        confirm("daemon uninstall", false, cx.global.yes, &question)?;
        take_away(&root, &service, &files).await?;
    }
    if cx.screen.json {
        let result = json!({
            "dry_run": false, "unit": service.name(), "already": steps.is_empty(), "plan": steps,
        });
        cx.screen.envelope("daemon.uninstall", &result)?;
        return Ok(Code::Done);
    }
    if steps.is_empty() {
        cx.screen.line(format!("no service is installed for {}", root.display()))?;
        return Ok(Code::Done);
    }
    cx.screen.lines(past(&steps))?;
    cx.screen.line(format!("the service {} is gone", service.name()))?;
    note("agents go on; gtctl daemon start runs their daemon without a service");
    Ok(Code::Done)
}

async fn take_away(root: &Path, service: &Service, files: &[PathBuf]) -> Result<(), Failure> {
    if service.is_installed() {
        service.reachable().await?;
        // Whoever may not end the daemon may not take its service away; that is found out here.
        stop::stop(root, stop::PATIENT, false).await?;
        service.disable().await?;
    }
    for file in files {
        service::remove(file)?;
    }
    service.forget().await
}

/// The town that is meant. One that was removed may have left its service.
async fn gone_or_there(cx: &Context) -> Result<PathBuf, Failure> {
    match (cx.root().await, &cx.global.town) {
        (Ok(root), _) => Ok(root),
        (Err(failure), Some(named)) => {
            let path = std::path::absolute(named).unwrap_or_else(|_| named.clone());
            if Service::installed(&path).is_some() { Ok(path) } else { Err(failure) }
        }
        (Err(failure), None) => Err(failure),
    }
}

/// What was done, a line each.
fn past(steps: &[PlanStep]) -> Vec<String> {
    let done = |action: &str| match action {
        "make" => "made".to_owned(),
        "stop" => "stopped".to_owned(),
        other => format!("{}d", other),
    };
    steps.iter().map(|step| format!("{} {}", done(&step.action), step.target)).collect()
}

/// Prints what would be done, and every file as it would be.
fn show(
    cx: &mut Context,
    service: &Service,
    kind: &str,
    steps: &[PlanStep],
    files: &[File],
) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if screen.json {
        let files: Vec<_> =
            files.iter().map(|file| json!({ "path": file.path, "text": file.text })).collect();
        let result = json!({ "dry_run": true, "unit": service.name(), "plan": steps, "files": files });
        screen.envelope(kind, &result)?;
        return Ok(Code::Done);
    }
    screen.plan(steps)?;
    for file in files {
        screen.line(String::new())?;
        screen.line(format!("{}:", file.path.display()))?;
        screen.lines(file.text.lines().map(|line| format!("  {line}").trim_end().to_owned()))?;
    }
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_says_what_was_installed_and_what_runs() {
        let installed = json!({ "unit": "u", "already": false, "plan": [] });
        let said = both(installed, json!({ "already": true, "pid": 7 }));
        assert_eq!(
            said,
            json!({ "unit": "u", "already": false, "plan": [], "pid": 7, "daemon": { "already": true, "pid": 7 } })
        );
    }
}
