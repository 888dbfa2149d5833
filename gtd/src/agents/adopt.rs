//! After a restart of the daemon: finding an instance again, or proving that there is none and will be none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gtd_proto::Timestamp;
use tokio::time::sleep;

use super::abandon::abandon;
use super::begin::{Living, Revoked, exec_failed, found, revoke};
use super::order::{EndedBy, Ending, Life, Outfit, Place, What};
use super::remains::{after_the_shim, recorded};
use super::runtime::Shared;
use super::task::{Asked, EndOrder, Work};
use super::tend::Told;
use crate::process::facts::arguments;
use crate::process::record::{self as files, Phase, Record, RecordLook};
use crate::process::{BootId, Observation, ProcessId, Watch, WatchError, identify, is_still, observe};
use crate::tmux::{Listing, Pane, ServerState, TmuxError};

/// How long a shim that has claimed its launch file may take to write its first record. It takes under 1 ms.
const CLAIMED: Duration = Duration::from_millis(500);
/// How often what cannot be told is looked at again.
const AGAIN: Duration = Duration::from_millis(500);

/// What looking for an instance came to.
enum Found {
    /// It lives.
    Alive(Box<Life>),
    /// It lived; its record tells the rest.
    Dead(Option<Box<Life>>, Box<Record>),
    /// It lived, its shim is proven dead, and no record tells how it ended.
    Lost(Box<Life>),
    /// It was lost to a restart of the machine.
    Reboot,
    /// There is none, and there will be none.
    Never,
    /// It cannot be told now.
    Unknown(String),
}

/// Looks for the instance until it is found, or proven not to be; `None` when there is nothing to tend, which
/// has been reported then. `end` is an order to end it that has come already.
pub(super) async fn adopt(
    work: &mut Work<'_>,
    life: Option<Life>,
    mut end: Option<EndOrder>,
) -> Option<Living> {
    // This may take for as long as something cannot be told, and others wait for their start.
    work.starting = None;
    loop {
        let why = match look(work, life.clone()).await {
            Found::Alive(life) => match watch(work, *life, end.clone()).await {
                Ok(living) => return Some(living),
                Err(why) => why,
            },
            Found::Dead(life, record) => {
                dead(work, life, &record).await;
                return None;
            }
            Found::Lost(mut life) => {
                after_the_shim(work, &mut life, &Told::while_away("procfs")).await;
                return None;
            }
            Found::Reboot => {
                reboot(work, life.as_ref()).await;
                return None;
            }
            Found::Never => {
                work.report(What::Never).await;
                return None;
            }
            Found::Unknown(why) => why,
        };
        work.report(What::Unknown { why }).await;
        tokio::select! {
            asked = work.asked() => match asked {
                Asked::End(order) => end = Some(order),
                Asked::Abandon(evidence) => {
                    if abandon(work, life.as_ref(), evidence).await {
                        return None;
                    }
                }
            },
            () = sleep(AGAIN) => {}
        }
    }
}

async fn look(work: &Work<'_>, life: Option<Life>) -> Found {
    let shared = work.shared;
    let current = match BootId::current() {
        Ok(boot) => boot,
        Err(error) => return Found::Unknown(format!("the boot id cannot be read: {error}")),
    };
    if life.as_ref().is_some_and(|life| life.shim.boot != current) {
        return Found::Reboot;
    }
    match files::read_record(&shared.record_file(work.instance)) {
        RecordLook::Found(record) if record.boot_id != current => Found::Reboot,
        RecordLook::Found(record) => with_record(work, life, record).await,
        RecordLook::Missing => without_record(work, life).await,
        RecordLook::Unreadable(why) => {
            Found::Unknown(format!("the record of its shim cannot be read: {why}"))
        }
        // These stay as they are: what the ledger has of it must do.
        RecordLook::Torn(why) => useless(life, format!("the record of its shim is damaged: {why}")),
        RecordLook::OtherVersion(v) => {
            useless(life, format!("the record of its shim is of version {v}, which this gtd does not read"))
        }
    }
}

/// There is a record, and it never will tell anything.
fn useless(life: Option<Life>, why: String) -> Found {
    match life.filter(|life| life.process.is_some()) {
        Some(life) => match observe(&life.shim) {
            Observation::Alive(_) => Found::Alive(Box::new(life)),
            Observation::Dead(_) | Observation::Absent => Found::Lost(Box::new(life)),
            Observation::Unknown(why) => Found::Unknown(why),
        },
        None => Found::Unknown(why),
    }
}

async fn with_record(work: &Work<'_>, life: Option<Life>, record: Box<Record>) -> Found {
    match observe(&record.shim_id()) {
        Observation::Unknown(why) => Found::Unknown(why),
        Observation::Dead(_) | Observation::Absent => {
            // It may have written its last word between our two looks.
            let record = found(&work.shared.record_file(work.instance)).unwrap_or(record);
            Found::Dead(life.map(|life| Box::new(renewed(life, &record))), record)
        }
        Observation::Alive(_) => match life {
            Some(life) => Found::Alive(Box::new(renewed(life, &record))),
            None => match place(work, |pane| Ok(pane.pane_pid == Some(record.shim.pid))).await {
                Ok(Some(pane)) => Found::Alive(Box::new(renewed(stranger(pane, record.shim_id()), &record))),
                Ok(None) => Found::Unknown("its shim lives, and its pane is not to be found".to_owned()),
                Err(error) => Found::Unknown(error.to_string()),
            },
        },
    }
}

/// No record: it never began, or began a moment ago, or tmux still has it in hand.
async fn without_record(work: &Work<'_>, life: Option<Life>) -> Found {
    let shared = work.shared;
    match revoke(shared, work.instance) {
        Revoked::Yes => return Found::Never,
        Revoked::TooLate => {}
        // A shim may still take it up: that it never will is not known.
        Revoked::Unknown(why) => return Found::Unknown(why),
    }
    let asked = Instant::now();
    while asked.elapsed() < CLAIMED {
        if let Some(record) = found(&shared.record_file(work.instance)) {
            return Box::pin(with_record(work, life, record)).await;
        }
        sleep(Duration::from_millis(5)).await;
    }
    if let Some(life) = life {
        return match observe(&life.shim) {
            Observation::Alive(_) => Found::Alive(Box::new(life)),
            Observation::Unknown(why) => Found::Unknown(why),
            // It ran: its end is told, and what it left is looked for.
            Observation::Dead(_) | Observation::Absent if life.process.is_some() => {
                Found::Lost(Box::new(life))
            }
            Observation::Dead(_) | Observation::Absent => Found::Never,
        };
    }
    let launch = shared.launch_file(work.instance);
    match place(work, |pane| is_its_shim(pane, &launch)).await {
        Err(TmuxError::NoServer { .. }) if matches!(shared.driver.state(), ServerState::Down) => Found::Never,
        Err(error) => Found::Unknown(error.to_string()),
        Ok(None) => Found::Never,
        Ok(Some((place, pane))) => match pane.pane_pid.map(identify) {
            Some(Observation::Alive(shim)) => Found::Alive(Box::new(stranger((place, pane), shim))),
            Some(Observation::Unknown(why)) => Found::Unknown(why),
            _ => Found::Unknown("its pane lives, and its process is not to be found".to_owned()),
        },
    }
}

/// Whether a pane's process was started with this launch file. The options that name the instance are the
/// session's, so that a person's panes in it carry them too.
fn is_its_shim(pane: &Pane, launch: &Path) -> Result<bool, TmuxError> {
    let Some(pid) = pane.pane_pid.filter(|_| !pane.dead) else { return Ok(false) };
    let words = match identify(pid) {
        Observation::Alive(id) => arguments(&id),
        Observation::Unknown(why) => Observation::Unknown(why),
        _ => Observation::Absent,
    };
    match words {
        Observation::Alive(words) => Ok(words.get(1).is_some_and(|word| word == launch)),
        Observation::Dead(_) | Observation::Absent => Ok(false),
        Observation::Unknown(why) => Err(TmuxError::Refused(why)),
    }
}

/// The pane that carries the instance's id, by the server's own word, and is the one meant.
async fn place(
    work: &Work<'_>,
    is_it: impl Fn(&Pane) -> Result<bool, TmuxError>,
) -> Result<Option<(Place, Pane)>, TmuxError> {
    let listing: Listing = work.shared.driver.list().await?;
    let instance = work.instance.as_str();
    let server = listing.server.clone();
    for pane in listing.panes {
        if pane.options.get("@gt_instance").is_none_or(|value| value != instance) || !is_it(&pane)? {
            continue;
        }
        let place = Place {
            socket: server.socket.to_string_lossy().into_owned(),
            server: server.process.clone(),
            session: pane.session.to_string(),
            session_name: pane.session_name.clone(),
            pane: pane.pane.to_string(),
        };
        return Ok(Some((place, pane)));
    }
    Ok(None)
}

fn stranger((place, _): (Place, Pane), shim: ProcessId) -> Life {
    Life {
        place,
        shim,
        process: None,
        started_at: None,
        preset: String::new(),
        account: None,
        cwd: String::new(),
        grace_ms: 10_000,
        launch: std::collections::BTreeMap::new(),
        outfit: Outfit::default(),
    }
}

fn renewed(mut life: Life, record: &Record) -> Life {
    life.shim = record.shim_id();
    life.process = record.agent_id().or(life.process);
    life.started_at = Some(record.began());
    life
}

/// Watches what was found alive, and says that it is.
async fn watch(work: &mut Work<'_>, mut life: Life, end: Option<EndOrder>) -> Result<Living, String> {
    let shared = Arc::clone(work.shared);
    let watch = |id: &ProcessId| -> Result<Option<Watch>, String> {
        match shared.watcher.watch(id) {
            Ok(watch) => Ok(Some(watch)),
            Err(WatchError::AlreadyGone(_)) => Ok(None),
            Err(WatchError::Unknown(why)) => Err(why),
        }
    };
    let Some(shim) = watch(&life.shim)? else {
        return Err("its shim ended while it was looked at".to_owned());
    };
    if life.process.is_none() {
        // Claimed, and not yet running: the record will say.
        let path: PathBuf = shared.record_file(work.instance);
        let record = found(&path).filter(|record| record.phase != Phase::Launching);
        let Some(record) = record else { return Err("its shim has not started an agent yet".to_owned()) };
        life = renewed(life, &record);
    }
    let process = match &life.process {
        Some(id) => watch(id)?,
        None => None,
    };
    let capture = recorded(work, &life);
    shared.with_capture(work.agent, |slot| *slot = Some(capture));
    if process.is_some() {
        work.report(What::Alive { life: Box::new(life.clone()), adopted: true }).await;
        // Somebody's pause may be unknown to us, or its end may not have reached it.
        let still = |id: &ProcessId| observe(id).alive().is_some_and(|stat| is_still(&stat));
        if life.process.as_ref().is_some_and(still) {
            work.report(What::Still).await;
        }
        work.report(What::Ready).await;
    }
    Ok(Living { life, shim, process, ready: None, end, born: Instant::now() })
}

/// It ended while nobody looked: its record tells how and when.
async fn dead(work: &mut Work<'_>, life: Option<Box<Life>>, record: &Record) {
    if let Some(error) = &record.exec_error {
        exec_failed(work, error).await;
        return;
    }
    let mut life = match life {
        Some(life) => *life,
        None => match lost_place(work.shared, record) {
            Some(life) => life,
            None => {
                work.report(What::Never).await;
                return;
            }
        },
    };
    after_the_shim(work, &mut life, &Told::while_away("record")).await;
}

/// A life without a place: what is known of an instance whose session is gone together with our memory of it.
fn lost_place(shared: &Shared, record: &Record) -> Option<Life> {
    record.agent?;
    let server = shared.servers().into_iter().next().unwrap_or_else(|| record.shim_id());
    let place = Place {
        socket: shared.driver.socket().to_string_lossy().into_owned(),
        server,
        session: String::new(),
        session_name: String::new(),
        pane: String::new(),
    };
    Some(renewed(
        Life {
            place,
            shim: record.shim_id(),
            process: None,
            started_at: None,
            preset: String::new(),
            account: None,
            cwd: String::new(),
            grace_ms: 10_000,
            launch: std::collections::BTreeMap::new(),
            outfit: Outfit::default(),
        },
        record,
    ))
}

async fn reboot(work: &Work<'_>, life: Option<&Life>) {
    let now = Timestamp::now();
    let ending = Ending {
        pid: life.and_then(|life| life.process.as_ref()).map(|process| process.pid.get()),
        started_at: life.and_then(|life| life.started_at),
        ended_at: now,
        code: None,
        signal: None,
        by: EndedBy::Reboot,
        exec_error: None,
        output: Vec::new(),
        usage: gtd_proto::exit::Usage::default(),
        client_activity: None,
        limit: None,
        oom: None,
        said: None,
        detected_by: "boot id",
        detect_ms: None,
    };
    work.report(What::Ended(Box::new(ending))).await;
    work.report(What::Gone { survivors: Vec::new() }).await;
}
