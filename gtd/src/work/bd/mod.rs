//! The store that the `bd` program keeps, of both generations, through nothing but the program.
//!
//! Never in the control loop, never one call per agent. Success is an object with the id that was asked for; a
//! change that did not answer so is looked at once more before it counts as failed. `bd` completes ids by
//! itself, so nothing is changed whose whole id was not shown before.

pub mod answer;
mod flush;
mod messages;
pub mod run;
pub mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::{Address, Timestamp, WorkId};
use tokio::sync::Semaphore;

use super::store::{Done, WorkStore};
use super::{CLOSED, Filter, HOOKED, Item, NewItem, OPEN, Unknown, Why, WorkError};
use crate::ledger::NewEvent;
use answer::Said;
pub use messages::NewMessage;
use run::Output;
use version::{Generation, Stamp, Version};

/// Calls of one store at a time. Six at once take ten times as long as one (`bd` 1.0.5).
const AT_ONCE: usize = 2;
/// Statuses of the older generation, which answers a list of any other one with nothing.
const STATUSES: &[&str] =
    &["open", "in_progress", "blocked", "deferred", "closed", "tombstone", "pinned", "hooked"];

/// One directory's store.
#[derive(Debug)]
pub struct Bd {
    dir: PathBuf,
    key: String,
    prefix: String,
    env: BTreeMap<String, String>,
    timeout: Duration,
    calls: Semaphore,
    changing: tokio::sync::Mutex<()>,
    known: Mutex<Option<(Stamp, Version)>>,
}

impl Bd {
    /// The store of the `.beads` in a directory. `prefix` is that of its rig, and names the records of agents.
    #[must_use]
    pub fn new(
        dir: &Path,
        prefix: &str,
        ours: impl IntoIterator<Item = (String, String)>,
        timeout: Duration,
    ) -> Self {
        let beads = resolved(dir);
        Self {
            dir: dir.to_owned(),
            key: format!("bd:{}", beads.display()),
            prefix: prefix.to_owned(),
            env: run::environment(ours, &beads),
            timeout,
            calls: Semaphore::new(AT_ONCE),
            changing: tokio::sync::Mutex::new(()),
            known: Mutex::new(None),
        }
    }

    fn unknown(&self, what: &str, why: Why, stderr: String) -> Unknown {
        Unknown { store: format!("bd in {}", self.dir.display()), what: what.to_owned(), why, stderr }
    }

    /// The program and its version, asked for when the file has changed.
    async fn program(&self) -> Result<(PathBuf, Version, Generation), Why> {
        let path = run::find("bd", self.env.get("PATH").map(String::as_str))?;
        let stamp = Stamp::of(&path)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let version = match known {
            Some((seen, version)) if seen == stamp => version,
            _ => {
                let output =
                    run::run(&path, &["version".to_owned()], &self.dir, &self.env, self.timeout).await?;
                let text = String::from_utf8_lossy(&output.stdout);
                let version = Version::parse(&text).ok_or_else(|| {
                    let said =
                        answer::reason(&output.stderr).map(|why| format!(": {why}")).unwrap_or_default();
                    Why::Version(format!("{} does not tell its version{said}", path.display()))
                })?;
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, version));
                version
            }
        };
        Ok((path, version, version.generation()?))
    }

    /// One call.
    async fn call(&self, what: &str, args: &[String]) -> Result<Output, Unknown> {
        let waiting = tokio::time::timeout(self.timeout, self.calls.acquire()).await;
        let Ok(Ok(_place)) = waiting else {
            return Err(self.unknown(what, Why::Crowded, String::new()));
        };
        let asked = async {
            let (path, _, generation) = self.program().await?;
            let mut all: Vec<String> = Vec::new();
            if generation == Generation::Sqlite {
                // Waits for a lock a little shorter than we do, so that the reason is said and not cut off.
                let lock = self.timeout.mul_f32(0.7).as_millis();
                all.extend(["--no-daemon".to_owned(), "--allow-stale".to_owned()]);
                all.push(format!("--lock-timeout={lock}ms"));
            }
            all.extend_from_slice(args);
            run::run(&path, &all, &self.dir, &self.env, self.timeout).await
        };
        asked.await.map_err(|why| self.unknown(what, why, String::new()))
    }

    /// A question: asked once more when it fails for a reason that may pass.
    async fn ask<T>(
        &self,
        what: &str,
        args: &[String],
        read: impl Fn(&Output) -> Result<T, Why>,
    ) -> Result<T, Unknown> {
        let once = async || {
            let output = self.call(what, args).await?;
            read(&output).map_err(|why| self.unknown(what, why, output.stderr.clone()))
        };
        match once().await {
            Err(first) if may_pass(&first.why) => once().await,
            other => other,
        }
    }

    async fn items(&self, what: &str, args: &[&str]) -> Result<Vec<Item>, Unknown> {
        let args = owned(&[&["list", "--json", "--limit", "0"], args].concat());
        self.ask(what, &args, |output| match answer::read(output) {
            Said::Items(items) => Ok(items),
            other => Err(answer::unexpected(other)),
        })
        .await
    }

    /// Changes one item, and sees to it that it is as wanted afterwards. The change is not asked for twice: one
    /// that was cut off may have happened, which the item itself tells.
    async fn change(
        &self,
        what: &str,
        id: &WorkId,
        args: Vec<String>,
        wanted: impl Fn(&Item) -> bool,
    ) -> Result<Item, WorkError> {
        let answer = self.call(what, &args).await;
        let failed = match answer {
            Ok(output) => match answer::read(&output) {
                Said::Items(items) => {
                    let given = items.iter().find(|item| item.id == *id).cloned();
                    match given {
                        Some(item) if wanted(&item) => return Ok(item),
                        Some(item) => {
                            let why = format!("afterwards {id} is {}", described(&item));
                            self.unknown(what, Why::Refused(why), output.stderr)
                        }
                        None => self.unknown(what, answer::unexpected(Said::Items(items)), output.stderr),
                    }
                }
                _ if answer::denies(&output, id.as_str()) => return Err(WorkError::NotFound(id.clone())),
                other => self.unknown(what, answer::unexpected(other), output.stderr),
            },
            Err(unknown) => unknown,
        };
        match self.item(id).await {
            Ok(Some(item)) if wanted(&item) => Ok(item),
            _ => Err(failed.into()),
        }
    }

    async fn assign(&self, id: &WorkId, status: &str, assignee: Option<&str>) -> Result<Item, WorkError> {
        let what = match assignee {
            Some(assignee) => format!("hook {id} for {assignee}"),
            None => format!("release {id}"),
        };
        let args = owned(&[
            "update",
            id.as_str(),
            "--status",
            status,
            "--assignee",
            assignee.unwrap_or_default(),
            "--json",
        ]);
        let wanted = |item: &Item| item.status == status && item.assignee.as_deref() == assignee;
        self.change(&what, id, args, wanted).await
    }

    async fn generation(&self, what: &str) -> Result<Generation, Unknown> {
        let (_, _, generation) =
            self.program().await.map_err(|why| self.unknown(what, why, String::new()))?;
        Ok(generation)
    }

    /// The record that the older generation keeps of an agent.
    fn record(&self, agent: &Address) -> String {
        let prefix = &self.prefix;
        match agent {
            Address::Mayor | Address::Deacon | Address::Boot => format!("hq-{}", agent.role()),
            Address::Witness(rig) | Address::Refinery(rig) => format!("{prefix}-{rig}-{}", agent.role()),
            Address::Polecat(rig, name) => format!("{prefix}-{rig}-polecat-{name}"),
            Address::Crew(rig, name) => format!("{prefix}-{rig}-crew-{name}"),
        }
    }

    /// Puts work into the slot of the agent's record, or empties it; without a record there is no slot.
    async fn slot(&self, agent: &Address, work: Option<&WorkId>) -> Result<(), Unknown> {
        if self.generation("set a slot").await? != Generation::Sqlite {
            return Ok(());
        }
        let record = self.record(agent);
        let what = format!("set the slot of {record}");
        let right = |said: &Said| {
            let Said::Object(object) = said else { return false };
            object.get("agent").and_then(|agent| agent.as_str()) == Some(record.as_str())
                && object.get("bead").and_then(|bead| bead.as_str()) == work.map(WorkId::as_str)
        };
        // A slot that is full refuses: it is emptied first, and set then.
        let mut steps = vec![owned(&["slot", "clear", &record, "hook", "--json"])];
        if let Some(work) = work {
            steps.push(owned(&["slot", "set", &record, "hook", work.as_str(), "--json"]));
        }
        let last = steps.len().saturating_sub(1);
        for (index, args) in steps.iter().enumerate() {
            let output = self.call(&what, args).await?;
            if answer::denies(&output, &record) {
                return Ok(());
            }
            let said = answer::read(&output);
            if index == last && !right(&said) {
                return Err(self.unknown(&what, answer::unexpected(said), output.stderr));
            }
        }
        Ok(())
    }
}

fn may_pass(why: &Why) -> bool {
    !matches!(why, Why::Missing(_) | Why::Version(_) | Why::Other(_))
}

fn described(item: &Item) -> String {
    match &item.assignee {
        Some(assignee) => format!("{}, with {assignee}", item.status),
        None => item.status.clone(),
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// Where the `.beads` of a directory leads: the program itself follows one redirection only.
fn resolved(dir: &Path) -> PathBuf {
    let mut beads = dir.join(".beads");
    for _ in 0..4 {
        let Ok(text) = std::fs::read_to_string(beads.join("redirect")) else { break };
        let target = text.trim();
        let Some(parent) = beads.parent().filter(|_| !target.is_empty()) else { break };
        let next = parent.join(target);
        match std::fs::canonicalize(&next) {
            Ok(next) if next != beads => beads = next,
            _ => break,
        }
    }
    beads
}

impl WorkStore for Bd {
    fn kind(&self) -> &'static str {
        "bd"
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn source(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((_, version)) => format!("bd {version} in {}", self.dir.display()),
            None => format!("bd in {}", self.dir.display()),
        }
    }

    fn changing(&self) -> &tokio::sync::Mutex<()> {
        &self.changing
    }

    async fn hooks(&self) -> Result<Vec<Item>, Unknown> {
        let mut items = self.items("list hooks", &["--status", HOOKED]).await?;
        items.retain(|item| item.status == HOOKED);
        Ok(items)
    }

    async fn item(&self, id: &WorkId) -> Result<Option<Item>, Unknown> {
        let args = owned(&["show", id.as_str(), "--json"]);
        self.ask(&format!("show {id}"), &args, |output| match answer::read(output) {
            Said::Items(items) => match items.iter().find(|item| item.id == *id) {
                Some(item) => Ok(Some(item.clone())),
                None => Err(answer::unexpected(Said::Items(items))),
            },
            _ if answer::denies(output, id.as_str()) => Ok(None),
            other => Err(answer::unexpected(other)),
        })
        .await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Item>, WorkError> {
        let mut args = Vec::new();
        if let Some(status) = &filter.status {
            // The older generation would say that there is none; the newer one knows what it has.
            let known = STATUSES.contains(&status.as_str());
            if !known && self.generation("list").await? == Generation::Sqlite {
                let why = format!("{status:?} is no status of bd, which has {}", STATUSES.join(", "));
                return Err(WorkError::Invalid { path: "/status", why });
            }
            args.push(format!("--status={status}"));
        }
        if let Some(assignee) = &filter.assignee {
            args.push(format!("--assignee={assignee}"));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut items = self.items("list", &args).await?;
        items.retain(|item| !item.record);
        // Equal ones stay in the order of the store.
        items.sort_by_key(|item| item.priority.unwrap_or(i64::MAX));
        Ok(items)
    }

    async fn changes(&self, since: Timestamp) -> Result<Vec<Item>, Unknown> {
        // The stores keep whole seconds (1.x) or ask for later ones only: one second more may come twice.
        let from = since.checked_sub(jiff::SignedDuration::from_secs(1)).unwrap_or(Timestamp::MIN);
        let after = format!("--updated-after={from:.0}");
        let mut items = self.items("list changes", &["--all", &after]).await?;
        items.retain(|item| item.updated_at.is_none_or(|at| at >= from));
        Ok(items)
    }

    async fn create(&self, new: &NewItem) -> Result<Done, WorkError> {
        let mut args = owned(&["create", "--json"]);
        args.push(format!("--title={}", new.title));
        if let Some(description) = &new.description {
            args.push(format!("--description={description}"));
        }
        if let Some(priority) = new.priority {
            args.push(format!("--priority={priority}"));
        }
        let output = self.call("create", &args).await?;
        match answer::read(&output) {
            Said::Items(items) => match items.into_iter().find(|item| item.title == new.title) {
                Some(item) => Ok(Done { item, told: None }),
                None => Err(self.unknown("create", Why::Unreadable, output.stderr).into()),
            },
            other => Err(self.unknown("create", answer::unexpected(other), output.stderr).into()),
        }
    }

    async fn hook(
        &self,
        id: &WorkId,
        agent: &Address,
        release: &[WorkId],
        _: &[NewEvent],
    ) -> Result<Done, WorkError> {
        let Some(before) = self.item(id).await? else { return Err(WorkError::NotFound(id.clone())) };
        let item = self.assign(id, HOOKED, Some(&agent_name(agent))).await?;
        let rest = async {
            for other in release {
                self.assign(other, OPEN, None).await?;
            }
            Ok::<(), WorkError>(self.slot(agent, Some(id)).await?)
        };
        if let Err(error) = rest.await {
            // Half a hook is none: the item goes back to what it was.
            if let Err(undo) = self.assign(id, &before.status, before.assignee.as_deref()).await {
                tracing::warn!(%id, %undo, "a hook that failed half-way was not taken back");
            }
            return Err(error);
        }
        if let Some(previous) = before.hook().filter(|previous| previous != agent)
            && let Err(error) = self.slot(&previous, None).await
        {
            tracing::warn!(agent = %previous, %error, "the slot of the agent that had the work was not emptied");
        }
        Ok(Done { item, told: None })
    }

    async fn unhook(&self, id: &WorkId, agent: &Address, _: &[NewEvent]) -> Result<Done, WorkError> {
        let item = self.assign(id, OPEN, None).await?;
        self.slot(agent, None).await?;
        Ok(Done { item, told: None })
    }

    async fn close(&self, id: &WorkId, reason: &str, _: &[NewEvent]) -> Result<Done, WorkError> {
        let before = self.item(id).await?;
        let mut args = owned(&["close", id.as_str()]);
        if !reason.is_empty() {
            args.push(format!("--reason={reason}"));
        }
        args.push("--json".to_owned());
        let item = self.change(&format!("close {id}"), id, args, |item| item.status == CLOSED).await?;
        if let Some(agent) = before.and_then(|item| item.hook())
            && let Err(error) = self.slot(&agent, None).await
        {
            tracing::warn!(%agent, %error, "the slot of the agent that had the work was not emptied");
        }
        Ok(Done { item, told: None })
    }

    async fn agent_state(&self, agent: &Address) -> Result<Option<String>, WorkError> {
        self.has_agents().await?;
        let record = self.record(agent);
        let args = owned(&["agent", "show", &record, "--json"]);
        let what = format!("show agent {record}");
        let state = self.ask(&what, &args, |output| match answer::read(output) {
            Said::Object(object) if object.get("id").and_then(|id| id.as_str()) == Some(record.as_str()) => {
                Ok(object.get("agent_state").and_then(|state| state.as_str()).map(str::to_owned))
            }
            _ if answer::denies(output, &record) => Ok(None),
            other => Err(answer::unexpected(other)),
        });
        Ok(state.await?)
    }

    async fn set_agent_state(&self, agent: &Address, state: &str) -> Result<(), WorkError> {
        self.has_agents().await?;
        let record = self.record(agent);
        let what = format!("set the state of agent {record}");
        let output = self.call(&what, &owned(&["agent", "state", &record, state, "--json"])).await?;
        match answer::read(&output) {
            Said::Object(object)
                if object.get("agent_state").and_then(|kept| kept.as_str()) == Some(state) =>
            {
                Ok(())
            }
            other => Err(self.unknown(&what, answer::unexpected(other), output.stderr).into()),
        }
    }
}

impl Bd {
    /// Only the older generation keeps a state of agents.
    async fn has_agents(&self) -> Result<(), WorkError> {
        match self.generation("tell the state of an agent").await? {
            Generation::Sqlite => Ok(()),
            Generation::Dolt => {
                Err(WorkError::Unsupported { store: self.source(), what: "states of agents" })
            }
        }
    }
}

/// An agent as the incumbent's tools write it into an item.
fn agent_name(agent: &Address) -> String {
    match agent {
        Address::Mayor | Address::Deacon => format!("{agent}/"),
        other => other.to_string(),
    }
}
