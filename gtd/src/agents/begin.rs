//! From an order to a living agent.
//!
//! The instance is in the ledger before any of this begins. The launch file is the fence: whoever deletes it
//! first, the shim or we, decides whether there will be an agent; so a launch that went wrong, in whatever
//! way, is called off for certain before anybody may try again.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gtd_proto::InstanceId;
use gtd_proto::exit::ExecError;

use super::claude_settings;
use super::converse::Talk;
use super::launch::Launch;
use super::launch::Ready;
use super::order::{FailureKind, Life, Outfit, Overrides, Place, What};
use super::runtime::{Prepared, Shared, target};
use super::task::{EndOrder, Work};
use super::tend::is_over;
use super::waves;
use crate::process::launch::{self as launch_file, Launch as LaunchFile};
use crate::process::record::{self as files, Phase, Record, RecordLook};
use crate::process::{BootId, Observation, Pid, Watch, WatchError, identify_child};
use crate::tmux::{NewSession, PaneId, ServerId, TmuxError};

/// How long a shim may take from its start to the start of its agent. It takes about 2 ms; a machine that is
/// short of everything takes longer.
const SHIM_DEADLINE: Duration = Duration::from_secs(20);
/// The agent's `oom_score_adj`: when memory runs out, agents go before the daemon and tmux.
const OOM_SCORE_ADJ: i16 = 300;
/// How long tmux may take to see that a pane's process has ended. It takes about 1 ms.
const PANE_DEADLINE: Duration = Duration::from_millis(500);
/// How many other names are tried for a session whose name is taken.
const NAMES: u32 = 20;

/// A living instance, ready to be tended.
pub(super) struct Living {
    pub(super) life: Life,
    pub(super) shim: Watch,
    /// `None` when the agent's process was gone before it could be watched.
    pub(super) process: Option<Watch>,
    pub(super) ready: Option<Ready>,
    pub(super) end: Option<EndOrder>,
    pub(super) born: Instant,
}

/// Launches the instance; `None` when it came to nothing, which has been reported then.
pub(super) async fn begin(
    work: &mut Work<'_>,
    overrides: &Overrides,
    talk: &Talk,
    before: Option<Place>,
    place: Option<waves::Place>,
) -> Option<Living> {
    let shared = work.shared.clone();
    let prepared = match shared.prepare.prepare(work.agent, work.instance, overrides, Some(talk)) {
        Ok(prepared) => prepared,
        Err(failure) => {
            work.report(What::NotLaunched(failure)).await;
            return None;
        }
    };
    let mut place = place.unwrap_or_else(|| shared.starts.queue(waves::rank(work.agent)));
    work.starting = tokio::select! {
        permit = place.turn() => permit,
        end = work.end_ordered() => {
            work.not_launched(FailureKind::Cancelled, format!("asked by {}", end.by), None).await;
            return None;
        }
    };
    if let Some(end) = work.end_was_ordered() {
        work.not_launched(FailureKind::Cancelled, format!("asked by {}", end.by), None).await;
        return None;
    }
    if let Err(why) = write_settings(&prepared).await {
        work.not_launched(FailureKind::Ours, why, Some("df -h; gtctl daemon status")).await;
        return None;
    }
    if let Err(why) = write_launch_file(&shared, work, &prepared) {
        work.not_launched(FailureKind::Ours, why, Some("df -h; gtctl daemon status")).await;
        return None;
    }
    let opened = open_pane(&shared, work, &prepared, before).await;
    let (place, pane_pid) = match opened {
        Ok(opened) => opened,
        Err(error) => return called_off(work, &error).await,
    };
    let record = shared.record_file(work.instance);
    let shim = match identify_child(pane_pid, place.server.pid) {
        // Until the shim's own record is read, the pane's process is who it is.
        Observation::Alive(id) => Some(id),
        // Not to be told: it may live, so it is looked for until it can be.
        Observation::Unknown(why) => {
            work.report(What::Unknown { why }).await;
            return super::adopt::adopt(work, None, None).await;
        }
        // Gone already, and its number perhaps another's: its record says who it was, and why.
        _ => found(&record).map(|record| record.shim_id()),
    };
    let Some(shim) = shim else { return from_record(work, None).await };
    let life = Life {
        place,
        shim,
        process: None,
        started_at: None,
        preset: prepared.launch.preset.clone(),
        account: prepared.launch.account.clone(),
        cwd: prepared.launch.cwd.to_string_lossy().into_owned(),
        grace_ms: u64::try_from(prepared.grace.as_millis()).unwrap_or(u64::MAX),
        launch: digest(&prepared.launch),
        outfit: outfit(&prepared),
    };
    let living = follow(work, life, prepared.launch.ready).await;
    work.starting = None;
    living
}

/// Waits until the shim's record tells of a running agent, or of why there is none.
pub(super) async fn follow(work: &mut Work<'_>, mut life: Life, ready: Ready) -> Option<Living> {
    let shared = work.shared.clone();
    let mut shim = match shared.watcher.watch(&life.shim) {
        Ok(watch) => watch,
        Err(WatchError::AlreadyGone(_)) => return from_record(work, Some(life)).await,
        Err(WatchError::Unknown(why)) => {
            // It may live: not let go of, or nobody would hear of its end, nor it of an order to end.
            work.report(What::Placed(Box::new(life.clone()))).await;
            work.report(What::Unknown { why }).await;
            return super::adopt::adopt(work, Some(life), None).await;
        }
    };
    work.report(What::Placed(Box::new(life.clone()))).await;
    let born = Instant::now();
    let mut end = None;
    let mut pause = Duration::from_millis(1);
    let path = shared.record_file(work.instance);
    let record = loop {
        if let Some(record) = found(&path).filter(|record| record.phase != Phase::Launching) {
            break record;
        }
        tokio::select! {
            _ = shim.exited() => return from_record(work, Some(life)).await,
            // An end waits for the shim to be there to hear it.
            order = work.end_ordered(), if end.is_none() => end = Some(order),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_millis(50)),
        }
        if born.elapsed() > SHIM_DEADLINE {
            match revoke(&shared, work.instance) {
                Revoked::Yes => {
                    // Nobody will start it any more; and whatever the pane's process is, it is no shim that
                    // took our launch, and not ours to end.
                    let why = "its launch was not taken up in time";
                    work.not_launched(FailureKind::Ours, why, Some("gtctl daemon status")).await;
                    return None;
                }
                Revoked::Unknown(_) => return super::adopt::adopt(work, Some(life), end).await,
                Revoked::TooLate => {}
            }
            let by = "supervisor: its launch did not come to an agent".to_owned();
            end.get_or_insert(EndOrder { force: true, keep_pane: false, by });
            work.report(What::Unknown { why: "its shim did not start an agent in time".to_owned() }).await;
            break found(&path).unwrap_or_else(|| shimless_record(&life, work.instance));
        }
    };
    life.shim = record.shim_id();
    life.process = record.agent_id();
    life.started_at = life.process.as_ref().map(|_| record.started_at);
    let process = match &life.process {
        None => None,
        Some(id) => match shared.watcher.watch(id) {
            Ok(watch) => Some(watch),
            Err(WatchError::AlreadyGone(_)) => None,
            Err(WatchError::Unknown(why)) => {
                // That it cannot be watched does not mean that it is gone.
                work.report(What::Unknown { why }).await;
                return super::adopt::adopt(work, Some(life), end).await;
            }
        },
    };
    if life.process.is_some() {
        work.report(What::Alive { life: Box::new(life.clone()), adopted: false }).await;
    }
    let capture = crate::process::Capture::new(
        work.instance.to_string(),
        [Some(life.shim.clone()), life.process.clone()].into_iter().flatten(),
    );
    shared.with_capture(work.agent, |slot| *slot = Some(capture));
    Some(Living { life, shim, process, ready: Some(ready), end, born })
}

fn shimless_record(life: &Life, instance: &InstanceId) -> Box<Record> {
    Box::new(Record {
        v: launch_file::VERSION,
        instance: instance.to_string(),
        boot_id: life.shim.boot.clone(),
        phase: Phase::Launching,
        shim: (&life.shim).into(),
        agent: None,
        exec_error: None,
        code: None,
        signal: None,
        by: files::By::Unknown,
        started_at: gtd_proto::Timestamp::now(),
        ended_at: None,
        began_boot_us: None,
        ended_boot_us: None,
        usage: files::Usage::default(),
        survivors: Vec::new(),
        spared: Vec::new(),
        frozen: Vec::new(),
    })
}

/// The shim was gone before it could be watched: everything there is to know is in its record.
async fn from_record(work: &mut Work<'_>, life: Option<Life>) -> Option<Living> {
    let path = work.shared.record_file(work.instance);
    match files::read_record(&path) {
        RecordLook::Found(record) => {
            if let Some(error) = &record.exec_error {
                exec_failed(work, error).await;
            } else if record.agent.is_some() {
                let Some(mut life) = life else { return super::adopt::adopt(work, None, None).await };
                life.process = record.agent_id();
                life.started_at = Some(record.started_at);
                work.report(What::Alive { life: Box::new(life.clone()), adopted: false }).await;
                super::remains::after_the_shim(work, &mut life, &super::tend::Told::default()).await;
            } else {
                let why = "its shim ended before it could start the agent";
                work.not_launched(FailureKind::Ours, why, Some("gtctl daemon status")).await;
            }
        }
        RecordLook::Missing => {
            // Gone without a word, so it did not claim the launch file, or was killed at once.
            revoke(work.shared, work.instance);
            let why = "its shim ended without a record";
            work.not_launched(FailureKind::Ours, why, Some("gtctl daemon status")).await;
        }
        // What became of the agent is not known: the same question as after a restart of the daemon.
        _ => return super::adopt::adopt(work, life, None).await,
    }
    None
}

/// The record, when there is one that can be read.
pub(super) fn found(path: &std::path::Path) -> Option<Box<Record>> {
    match files::read_record(path) {
        RecordLook::Found(record) => Some(record),
        _ => None,
    }
}

pub(super) async fn exec_failed(work: &Work<'_>, error: &files::ExecError) {
    let errno = errno_name(error.errno);
    let meaning = rustix::io::Errno::from_raw_os_error(error.errno);
    let message = format!("{} failed: {meaning}", if error.op == "exec" { "its program" } else { &error.op });
    let error = ExecError { op: error.op.clone(), errno, path: None };
    let hint = format!("gtctl explain {}", work.agent);
    work.not_launched(FailureKind::Exec(error), message, Some(&hint)).await;
}

fn errno_name(errno: i32) -> String {
    // nix knows the names; its Debug prints nothing else.
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

/// Something went wrong before there was a pane, as far as we know. Makes sure that nothing will come of it.
async fn called_off(work: &mut Work<'_>, error: &TmuxError) -> Option<Living> {
    match revoke(work.shared, work.instance) {
        Revoked::Yes => {
            let hint = match error {
                TmuxError::Unavailable { .. } => "install tmux 3.2 or newer",
                _ => "gtctl status",
            };
            work.not_launched(FailureKind::Tmux, error.to_string(), Some(hint)).await;
            None
        }
        // tmux did it after all, and the shim was quicker than we: there is an instance.
        // Adoption goes on trying.
        Revoked::TooLate | Revoked::Unknown(_) => super::adopt::adopt(work, None, None).await,
    }
}

/// What became of calling a launch off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Revoked {
    /// No shim will ever read the launch file.
    Yes,
    /// There is none: a shim has it, or it was never written.
    TooLate,
    /// It cannot be told, for this reason: a shim may still take it up.
    Unknown(String),
}

/// Takes the launch file away. The shim does the same before it starts anything; the one that succeeds decides.
pub(super) fn revoke(shared: &Shared, instance: &InstanceId) -> Revoked {
    match std::fs::remove_file(shared.launch_file(instance)) {
        Ok(()) => Revoked::Yes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Revoked::TooLate,
        Err(error) => Revoked::Unknown(format!("its launch file cannot be taken away: {error}")),
    }
}

/// The settings of its program are there before the program is.
async fn write_settings(prepared: &Prepared) -> Result<(), String> {
    let Some(plan) = &prepared.settings else { return Ok(()) };
    if let Some(note) = &plan.note {
        tracing::warn!("{note}");
    }
    let Some(text) = plan.write.clone() else { return Ok(()) };
    let path = plan.path.clone();
    let written = tokio::task::spawn_blocking(move || claude_settings::write(&path, &text)).await;
    let written = written.map_err(std::io::Error::other).and_then(|written| written);
    written.map_err(|error| format!("its settings {} cannot be written: {error}", plan.path.display()))
}

fn outfit(prepared: &Prepared) -> Outfit {
    let launch = &prepared.launch;
    let settings = prepared.settings.as_ref();
    Outfit {
        conversation: launch.conversation.clone(),
        settings: settings.filter(|plan| plan.used).map(|plan| plan.path.to_string_lossy().into_owned()),
        settings_note: settings.and_then(|plan| plan.note.clone()),
        reports: launch.ready == Ready::Report,
        to_type: launch.prompt.clone().filter(|_| !launch.prompt_in_argv),
    }
}

fn write_launch_file(shared: &Shared, work: &Work<'_>, prepared: &Prepared) -> Result<(), String> {
    let boot_id = BootId::current().map_err(|error| format!("the boot id cannot be read: {error}"))?;
    let launch = LaunchFile {
        v: launch_file::VERSION,
        instance: work.instance.to_string(),
        agent: work.agent.to_string(),
        boot_id,
        argv: prepared.launch.argv.clone(),
        env: prepared.launch.env.clone(),
        env_keep: launch_file::ENV_KEEP.iter().map(ToString::to_string).collect(),
        cwd: prepared.launch.cwd.clone(),
        grace: prepared.grace,
        oom_score_adj: Some(OOM_SCORE_ADJ),
        record: shared.record_file(work.instance),
        spare: prepared.spare.clone(),
    };
    let path = shared.launch_file(work.instance);
    launch_file::write_launch(&path, &launch)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// A pane with the shim in it: the agent's old pane where it is still there and dead, else a new session.
async fn open_pane(
    shared: &Shared,
    work: &Work<'_>,
    prepared: &Prepared,
    before: Option<Place>,
) -> Result<(Place, Pid), TmuxError> {
    let server = shared.driver.ensure_server().await?;
    let argv: Vec<OsString> =
        vec![shared.shim.clone().into_os_string(), shared.launch_file(work.instance).into_os_string()];
    let options = vec![
        ("@gt_town".to_owned(), shared.town_id.clone()),
        ("@gt_agent".to_owned(), work.agent.to_string()),
        ("@gt_instance".to_owned(), work.instance.to_string()),
    ];
    // The shim goes to the agent's directory itself, and says so when it cannot; tmux would take another silently.
    let cwd = PathBuf::from("/");
    if let Some(old) = before
        && let Some((old_server, pane)) = target(&old)
        && old_server == server
    {
        let asked = Instant::now();
        loop {
            match shared.driver.respawn_pane(&server, &pane, &cwd, &argv, &options).await {
                Ok(pid) => return Ok((old, pid)),
                // We learn of a death before tmux does; a moment later the pane can be used again.
                Err(TmuxError::Refused(_))
                    if asked.elapsed() < PANE_DEADLINE && is_closing(shared, &server, &pane).await =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                // The session was closed, or somebody put something else into the pane: a new one then.
                Err(TmuxError::NotFound { .. } | TmuxError::Refused(_)) => break,
                Err(error) => return Err(error),
            }
        }
    }
    let wanted = &prepared.session_name;
    let mut taken = false;
    for n in 1..=NAMES {
        let name = if n == 1 { wanted.clone() } else { format!("{wanted}~{n}") };
        let session = NewSession { name, cwd: cwd.clone(), argv: argv.clone(), options: options.clone() };
        match shared.driver.new_session(session).await {
            Ok(created) => {
                if taken {
                    let what = What::NameTaken { wanted: wanted.clone(), used: created.name.clone() };
                    work.report(what).await;
                }
                let place = Place {
                    socket: created.server.socket.to_string_lossy().into_owned(),
                    server: created.server.process,
                    session: created.session.to_string(),
                    session_name: created.name,
                    pane: created.pane.to_string(),
                };
                return Ok((place, created.pane_pid));
            }
            Err(TmuxError::NameTaken { .. }) => taken = true,
            Err(error) => return Err(error),
        }
    }
    Err(TmuxError::NameTaken { name: wanted.clone() })
}

/// Whether a pane's process has ended, though tmux may not have seen it yet.
async fn is_closing(shared: &Shared, server: &ServerId, pane: &PaneId) -> bool {
    let listing = shared.driver.list().await;
    listing.is_ok_and(|listing| {
        listing.server == *server && listing.panes.iter().any(|other| other.pane == *pane && is_over(other))
    })
}

/// What it is launched with, part by part, to tell later whether today's settings would launch it otherwise.
/// What differs from start to start is no part of it.
pub(super) fn digest(launch: &Launch) -> std::collections::BTreeMap<String, String> {
    let of = |text: String| format!("{:016x}", fnv(text.as_bytes()));
    let env: Vec<String> = launch
        .env
        .iter()
        .filter(|(name, _)| name.as_str() != crate::process::facts::INSTANCE_VARIABLE)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    [
        ("argv".to_owned(), of(launch.program.join("\0"))),
        ("env".to_owned(), of(env.join("\0"))),
        ("cwd".to_owned(), of(launch.cwd.to_string_lossy().into_owned())),
    ]
    .into()
}

/// FNV-1a: told apart, not protected.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
