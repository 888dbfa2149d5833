//! `orphans.*`, `session.*` and `crew.*`: what stands on this machine, whose it is, and the end of what is left over.

use std::collections::BTreeMap;
use std::time::Duration;

use gtd_proto::agent::Capture;
use gtd_proto::doctor::{CrewMember, Orphan, Orphans, Session, SessionPane, SweepResult, SweptItem};
use gtd_proto::rpc::{CrewServer, OrphansServer, SessionServer};
use gtd_proto::{Address, AgentName, ErrorKind, Items, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};
use serde_json::{Map, Value, json};

use super::context::{Context, refuse, who};
use crate::doctor::{self, Remedy, Step};
use crate::process::{Judged, Verdict};
use crate::supervisor::orphans::{Blind, Seen, SeenSession, SessionVerdict, in_words};
use crate::tmux::TmuxError;

/// Lines of a screen unless said otherwise, and at most.
const LINES: (u32, u32) = (100, 5_000);
/// What can be swept.
const KINDS: [&str; 2] = ["session", "process"];

#[async_trait]
impl OrphansServer for Context {
    async fn list(&self, _: params::None) -> RpcResult<Reply<Orphans>> {
        let seq = self.seq();
        let seen = self.handle.look_for_orphans().await.map_err(blind)?;
        Ok(Reply::at(seq, listed(&seen)))
    }

    async fn sweep(&self, peer: &Extensions, params: params::OrphansSweep) -> RpcResult<Reply<SweepResult>> {
        let kinds = params.kinds.unwrap_or_else(|| KINDS.map(str::to_owned).to_vec());
        if let Some(kind) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            let why = format!("{kind:?} cannot be swept; there are session and process");
            return Err(refuse(RpcError::new(ErrorKind::InvalidParams, why).with("path", "/kinds")));
        }
        let wants = |kind: &str| kinds.iter().any(|wanted| wanted == kind);
        let (sessions, processes) = (wants("session"), wants("process"));
        let by = who(peer);
        let seen = self.handle.look_for_orphans().await.map_err(blind)?;
        if params.dry_run {
            return Ok(Reply::at(self.seq(), planned(&seen, sessions, processes)));
        }
        tracing::info!(%by, reason = params.reason.as_deref(), "asked to sweep what was left over");
        let doing = async {
            let mut result = SweepResult { left: left(&seen), ..SweepResult::default() };
            if sessions {
                for (session, step) in seen.sessions.iter().flat_map(|session| panes(&seen, session)) {
                    let (outcome, ok) = doctor::apply(&self.handle, &step, &by).await;
                    result.items.push(SweptItem {
                        kind: "session".to_owned(),
                        target: step.target,
                        agent: session.agent.clone(),
                        processes: Vec::new(),
                        details: vec![session.reason.clone()],
                        outcome,
                        ok,
                        survivors: Vec::new(),
                    });
                }
            }
            if processes {
                let by = format!("{by}: orphans sweep");
                let swept = self.handle.sweep_orphans(&seen, None, Duration::ZERO, &by).await;
                result.items.extend(swept.iter().map(|swept| SweptItem {
                    kind: "process".to_owned(),
                    target: swept.instance.clone(),
                    agent: swept.agent.parse().ok(),
                    processes: swept.targets.iter().map(|target| target.id.to_string()).collect(),
                    details: swept.targets.iter().map(line).collect(),
                    outcome: in_words(swept),
                    ok: swept.report.is_gone(),
                    survivors: swept.report.survivors.iter().map(ToString::to_string).collect(),
                }));
            }
            Ok(result)
        };
        let key = params.idempotency_key.as_deref();
        let body = self.handle.once(key, "orphans.sweep", doing).await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), body))
    }
}

#[async_trait]
impl SessionServer for Context {
    async fn list(&self, _: params::None) -> RpcResult<Reply<Items<Session>>> {
        let seq = self.seq();
        let seen = self.handle.look_for_orphans().await.map_err(blind)?;
        let server = self.handle.runtime().driver().socket().to_string_lossy().into_owned();
        let items = seen.sessions.iter().map(|session| shown(session, &server)).collect();
        Ok(Reply::at(seq, Items { items }))
    }

    async fn capture(&self, params: params::SessionCapture) -> RpcResult<Reply<Capture>> {
        let seq = self.seq();
        let driver = self.handle.runtime().driver();
        let unavailable = |error: TmuxError| {
            let why = format!("the sessions cannot be listed: {error}");
            refuse(RpcError::new(ErrorKind::TmuxUnavailable, why).hint("gtctl daemon status"))
        };
        let none = || {
            let why = format!("there is no session {:?}", params.session);
            refuse(RpcError::new(ErrorKind::NotRunning, why).hint("gtctl session list"))
        };
        let listing = match driver.list().await {
            Ok(listing) => listing,
            Err(TmuxError::NoServer { .. }) => return Err(none()),
            Err(error) => return Err(unavailable(error)),
        };
        // By its id, or its whole name.
        let mut panes = listing.panes.iter();
        let pane = panes
            .find(|pane| pane.session.to_string() == params.session || pane.session_name == params.session)
            .ok_or_else(none)?;
        let lines = params.lines.unwrap_or(LINES.0).clamp(1, LINES.1);
        let mut all = driver
            .capture(&listing.server, &pane.pane, lines.saturating_add(1))
            .await
            .map_err(unavailable)?;
        let surplus = all.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
        Ok(Reply::at(seq, Capture { lines: all.split_off(surplus), truncated: surplus > 0 }))
    }
}

#[async_trait]
impl CrewServer for Context {
    async fn list(&self, params: params::CrewList) -> RpcResult<Reply<Items<CrewMember>>> {
        let seq = self.seq();
        if let Some(rig) = &params.rig {
            self.handle.rig(rig).map_err(refuse)?;
        }
        // Who is in a crew stands in files; that their sessions cannot be listed is no reason not to say so.
        let sessions = self.handle.look_for_orphans().await.map(|seen| seen.sessions).unwrap_or_default();
        let root = self.layout.root();
        let items = self.handle.view().read(|shown| {
            let rigs = shown.facts.rigs.iter();
            rigs.filter(|(rig, _)| params.rig.as_ref().is_none_or(|only| only == *rig))
                .flat_map(|(rig, facts)| facts.crew.iter().map(move |name| (rig.clone(), name.clone())))
                .filter_map(|(rig, name)| {
                    let agent = Address::Crew(rig.clone(), AgentName::new(name.clone()).ok()?);
                    let session = sessions.iter().find(|session| {
                        session.agent.as_ref() == Some(&agent)
                            || session.name == format!("gt-{rig}-crew-{name}")
                    });
                    Some(CrewMember {
                        path: root.join(rig.as_str()).join("crew").join(&name).to_string_lossy().into_owned(),
                        session: session.map(|session| session.session.clone()),
                        session_name: session.map(|session| session.name.clone()),
                        attached: session.is_some_and(|session| session.attached),
                        agent,
                        rig,
                        name,
                    })
                })
                .collect()
        });
        Ok(Reply::at(seq, Items { items }))
    }
}

/// What could not be looked at: nothing is said of the rest.
fn blind(blind: Blind) -> jsonrpsee::types::ErrorObjectOwned {
    let error = RpcError::new(ErrorKind::Internal, format!("what was left behind is not known: {blind}"));
    refuse(error.hint("gtctl daemon status"))
}

fn listed(seen: &Seen) -> Orphans {
    let sessions = seen.sessions.iter().filter(|session| {
        !matches!(session.verdict, SessionVerdict::Agent | SessionVerdict::Crew | SessionVerdict::Foreign)
    });
    let mut items: Vec<Orphan> = sessions.map(of_session).collect();
    items.extend(seen.found.items.iter().map(of_process));
    // What is ours first; then as each list has it.
    items.sort_by_key(|item| !item.owned);
    Orphans {
        items,
        processes: count(seen.found.looked),
        sessions: count(seen.sessions.len()),
        live: count(seen.found.live),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn of_process(item: &Judged) -> Orphan {
    let mut evidence = Map::new();
    evidence.insert("parent".to_owned(), json!(item.parent.map_or(1, |parent| parent.get())));
    let ancestry: Vec<Value> =
        item.ancestry.iter().map(|(pid, comm)| json!({ "pid": pid.get(), "comm": comm })).collect();
    evidence.insert("ancestry".to_owned(), json!(ancestry));
    evidence.insert("group".to_owned(), json!(item.group));
    evidence.insert("session".to_owned(), json!(item.session));
    evidence.insert("tty".to_owned(), json!(item.tty));
    evidence.insert("arguments".to_owned(), json!(item.arguments));
    if let Some(marker) = &item.marker {
        evidence.insert("marker".to_owned(), json!({ "town": marker.town, "instance": marker.instance }));
    }
    if let Some(proof) = &item.proof {
        evidence.insert("proof".to_owned(), json!(proof));
    }
    Orphan {
        kind: "process".to_owned(),
        pid: Some(item.id.pid.get()),
        start: Some(item.id.start.get()),
        session: None,
        name: item.comm.clone(),
        owned: item.verdict == Verdict::Orphan,
        verdict: item.verdict.as_str().to_owned(),
        reason: item.reason.clone(),
        evidence,
        cwd: item.cwd.as_ref().map(|cwd| cwd.to_string_lossy().into_owned()),
        age_ms: u64::try_from(item.age.as_millis()).unwrap_or(u64::MAX),
        agent: item.agent.as_deref().and_then(|agent| agent.parse().ok()),
        instance: item.instance.as_deref().and_then(|instance| instance.parse().ok()),
    }
}

fn of_session(session: &SeenSession) -> Orphan {
    let mut evidence = Map::new();
    evidence.insert("panes".to_owned(), json!(panes_of(session)));
    evidence.insert("attached".to_owned(), json!(session.attached));
    if let Some(proof) = &session.proof {
        evidence.insert("proof".to_owned(), json!(proof));
    }
    let age = session.created_at.map(|at| crate::supervisor::policy::since(at, gtd_proto::Timestamp::now()));
    Orphan {
        kind: "session".to_owned(),
        pid: None,
        start: None,
        session: Some(session.session.clone()),
        name: session.name.clone(),
        owned: session.verdict == SessionVerdict::Orphan,
        verdict: session.verdict.as_str().to_owned(),
        reason: session.reason.clone(),
        evidence,
        cwd: None,
        age_ms: age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        agent: session.agent.clone(),
        instance: session.instance.clone(),
    }
}

fn panes_of(session: &SeenSession) -> Vec<SessionPane> {
    let pane = |(pane, pid, dead): &(String, Option<crate::process::Pid>, bool)| SessionPane {
        pane: pane.clone(),
        pid: pid.map(crate::process::Pid::get),
        dead: *dead,
    };
    session.panes.iter().map(pane).collect()
}

fn shown(session: &SeenSession, server: &str) -> Session {
    Session {
        server: server.to_owned(),
        session: session.session.clone(),
        session_name: session.name.clone(),
        created_at: session.created_at,
        windows: session.windows,
        last_activity: session.last_activity,
        panes: panes_of(session),
        attached: session.attached,
        agent: session.agent.clone(),
        owned: matches!(session.verdict, SessionVerdict::Agent | SessionVerdict::Zombie)
            && session.proof.is_some(),
        proof: session.proof.clone(),
        verdict: session.verdict.as_str().to_owned(),
        reason: session.reason.clone(),
    }
}

/// The dead panes of a session that is left over. Whether they are ours is proven when they are closed.
fn panes<'a>(seen: &'a Seen, session: &'a SeenSession) -> Vec<(&'a SeenSession, Step)> {
    let (SessionVerdict::Orphan, Some(listing), Some(instance)) =
        (session.verdict, &seen.listing, &session.instance)
    else {
        return Vec::new();
    };
    let dead = session.panes.iter().filter(|(_, _, dead)| *dead);
    dead.filter_map(|(pane, _, _)| {
        let step = Step {
            remedy: Remedy::ClosePane {
                server: listing.server.clone(),
                pane: pane.parse().ok()?,
                instance: instance.to_string(),
            },
            target: format!("pane {pane} of {}", session.name),
            evidence: Map::new(),
        };
        Some((session, step))
    })
    .collect()
}

fn planned(seen: &Seen, sessions: bool, processes: bool) -> SweepResult {
    let mut result = SweepResult { dry_run: true, left: left(seen), ..SweepResult::default() };
    if sessions {
        let steps = seen.sessions.iter().flat_map(|session| panes(seen, session));
        result.items.extend(steps.map(|(session, step)| SweptItem {
            kind: "session".to_owned(),
            target: step.target,
            agent: session.agent.clone(),
            processes: Vec::new(),
            details: vec![session.reason.clone()],
            outcome: "would be closed".to_owned(),
            ok: true,
            survivors: Vec::new(),
        }));
    }
    if processes {
        let chosen = crate::process::sweep::chosen(&seen.found, &seen.on_record, Duration::ZERO);
        result.items.extend(chosen.into_iter().map(|(one, targets)| SweptItem {
            kind: "process".to_owned(),
            target: one.instance.clone(),
            agent: one.agent.parse().ok(),
            processes: targets.iter().map(|target| target.id.to_string()).collect(),
            details: targets.iter().map(|target| line(target)).collect(),
            outcome: "would be ended".to_owned(),
            ok: true,
            survivors: Vec::new(),
        }));
    }
    result
}

/// A process that is swept, for people.
fn line(item: &Judged) -> String {
    let age = humantime::format_duration(Duration::from_secs(item.age.as_secs()));
    let cwd = item.cwd.as_ref().map(|cwd| format!(", in {}", cwd.display())).unwrap_or_default();
    format!("{} {}, {age} old{cwd}: {}", item.id.pid, item.comm, item.reason)
}

/// What is left alone, by verdict.
fn left(seen: &Seen) -> BTreeMap<String, u64> {
    let mut left = BTreeMap::new();
    for item in listed(seen).items.iter().filter(|item| !item.owned) {
        *left.entry(item.verdict.clone()).or_insert(0) += 1;
    }
    left
}
