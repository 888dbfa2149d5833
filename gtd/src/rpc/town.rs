//! `town.*`: the whole town.

use std::time::{Duration, Instant};

use gtd_proto::rpc::TownServer;
use gtd_proto::town::{Census, TmuxServer, TmuxState, TownChange, TownStatus};
use gtd_proto::{PlanStep, Reply, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};

use super::context::{Context, refuse};
use super::plan::step;
use crate::process::facts::marker;
use crate::process::{Marker, Observation, ProcessTable};
use crate::supervisor::requests::{How, Request};
use crate::supervisor::waiting::Awaited;
use crate::tmux::{Pane, ServerState, TmuxError};

/// How long the last panes may take to close after their agents are gone.
const CLOSING: Duration = Duration::from_secs(3);

#[async_trait]
impl TownServer for Context {
    async fn status(&self, _: params::None) -> RpcResult<Reply<TownStatus>> {
        let seq = self.seq();
        let daemon = self.brief();
        let tmux = vec![self.tmux_server()];
        let status = self.handle.view().read(|shown| {
            self.handle.rigs_of(shown).map(|rigs| TownStatus {
                name: shown.facts.name.clone(),
                root: self.root(),
                town_id: self.town_id.clone(),
                daemon,
                tmux,
                rigs,
                agents: shown.without_rig().cloned().collect(),
                incidents: shown.incidents.iter().filter(|incident| incident.is_open()).cloned().collect(),
                alerts: shown.alerts.values().cloned().collect(),
                summary: shown.summary(),
                pause: self.handle.paused_town(shown),
            })
        });
        Ok(Reply::at(seq, status.map_err(refuse)?))
    }

    async fn start(&self, peer: &Extensions, params: params::TownStart) -> RpcResult<Reply<TownChange>> {
        let seq = self.seq();
        if params.dry_run {
            return Ok(Reply::at(seq, planned(self.plan_up())));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let again = Request::Wait { agent: None, awaited: Awaited::Started, wait: ask.wait };
        let doing = async |request| {
            let items = self.handle.change_town(request).await?;
            Ok(TownChange { items, census: None, plan: Vec::new(), dry_run: false })
        };
        let key = params.idempotency_key.as_deref();
        let started =
            self.handle.once_or_wait(key, "town.start", doing(Request::TownStart { ask }), doing(again));
        let change = started.await.map_err(refuse)?;
        Ok(Reply::at(seq, change))
    }

    async fn pause(
        &self,
        peer: &Extensions,
        params: params::TownPause,
    ) -> RpcResult<Reply<gtd_proto::pause::PauseChange>> {
        self.pause_town(peer, params).await
    }

    async fn resume(
        &self,
        peer: &Extensions,
        params: params::TownResume,
    ) -> RpcResult<Reply<gtd_proto::pause::PauseChange>> {
        self.resume_town(peer, params).await
    }

    async fn stop(&self, peer: &Extensions, params: params::TownStop) -> RpcResult<Reply<TownChange>> {
        let seq = self.seq();
        let how = How { now: params.now, force: params.force };
        if params.dry_run {
            let mut plan = self.plan_down(how);
            let server = self.tmux_server();
            if server.state == TmuxState::Up {
                let why = "unless somebody else has sessions on it";
                plan.push(step("end tmux server", server.socket, why));
            }
            return Ok(Reply::at(seq, planned(plan)));
        }
        let ask = self.ask(peer, params.reason, params.wait_ms);
        let again = Request::Wait { agent: None, awaited: Awaited::Stopped, wait: ask.wait };
        let doing = async |request| {
            let items = self.handle.change_town(request).await?;
            self.end_server().await;
            let census = self.census().await;
            Ok(TownChange { items, census: Some(census), plan: Vec::new(), dry_run: false })
        };
        let key = params.idempotency_key.as_deref();
        let stopped =
            self.handle.once_or_wait(key, "town.stop", doing(Request::TownStop { how, ask }), doing(again));
        let change = stopped.await.map_err(refuse)?;
        Ok(Reply::at(seq, change))
    }
}

fn planned(plan: Vec<PlanStep>) -> TownChange {
    TownChange { items: Vec::new(), census: None, plan, dry_run: true }
}

impl Context {
    fn tmux_server(&self) -> TmuxServer {
        let driver = self.handle.runtime().driver();
        let (pid, state) = match driver.state() {
            ServerState::Up(server) => (Some(server.process.pid.get()), TmuxState::Up),
            ServerState::Down => (None, TmuxState::Down),
            ServerState::Unresponsive { server, .. } => {
                (server.map(|server| server.process.pid.get()), TmuxState::Unresponsive)
            }
            ServerState::Unavailable { .. } => (None, TmuxState::Unresponsive),
        };
        let sessions = self.handle.view().read(|shown| shown.sessions_total);
        let sessions = if state == TmuxState::Down { 0 } else { sessions };
        TmuxServer { socket: driver.socket().to_string_lossy().into_owned(), pid, state, sessions }
    }

    /// Ends our tmux server when nothing is left on it: the last panes may just be closing.
    async fn end_server(&self) {
        let driver = self.handle.runtime().driver();
        let ServerState::Up(server) = driver.state() else { return };
        let asked = Instant::now();
        loop {
            match driver.kill_server_if_empty(&server).await {
                Ok(true) => {
                    // tmux leaves its socket behind. The server is proven dead, and it was ours alone.
                    if driver.is_private() {
                        let _ = std::fs::remove_file(&server.socket);
                    }
                    return;
                }
                Err(TmuxError::NoServer { .. } | TmuxError::WrongServer { .. }) => return,
                Ok(false) if asked.elapsed() < CLOSING && !self.has_only_foreign_panes().await => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "the tmux server could not be ended");
                    return;
                }
            }
        }
    }

    /// Somebody else's panes are there, and none of ours: waiting would change nothing.
    async fn has_only_foreign_panes(&self) -> bool {
        let town = &self.handle.runtime().shared().town_id;
        let Ok(listing) = self.handle.runtime().driver().list().await else { return false };
        let ours = |pane: &Pane| pane.options.get("@gt_town") == Some(town);
        !listing.panes.is_empty() && !listing.panes.iter().any(ours)
    }

    /// What is left of the town: sessions on our server, processes that carry its mark, launch files.
    async fn census(&self) -> Census {
        let mut census = Census::default();
        let driver = self.handle.runtime().driver();
        match driver.state() {
            ServerState::Down => {}
            ServerState::Up(_) => match driver.list().await {
                Ok(listing) => {
                    census.sessions = listing.panes.iter().map(|pane| pane.session_name.clone()).collect();
                    census.sessions.sort_unstable();
                    census.sessions.dedup();
                }
                Err(TmuxError::NoServer { .. }) => {}
                Err(error) => census.sessions.push(format!("unknown: {error}")),
            },
            ServerState::Unresponsive { why, .. } | ServerState::Unavailable { why } => {
                census.sessions.push(format!("unknown: {why}"));
            }
        }
        let town = self.town_id.to_string();
        let processes = tokio::task::spawn_blocking(move || marked(&town)).await;
        census.processes = processes.unwrap_or_else(|error| vec![format!("unknown: {error}")]);
        if let Ok(files) = std::fs::read_dir(&self.handle.runtime().shared().run_dir) {
            let names = files.filter_map(Result::ok).map(|file| file.path());
            let launches = names.filter(|path| path.extension().is_some_and(|end| end == "launch"));
            census.files = launches.map(|path| path.to_string_lossy().into_owned()).collect();
            census.files.sort_unstable();
        }
        census
    }
}

/// Processes that carry the town's mark. They are reported, and never signalled for it.
fn marked(town: &str) -> Vec<String> {
    let table = match ProcessTable::read() {
        Ok(table) => table,
        Err(error) => return vec![format!("unknown: {error}")],
    };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    table
        .iter()
        .filter(|stat| stat.pid.get() != own && stat.state != 'Z')
        .filter(|stat| {
            let found = marker(&table.id_of(stat));
            matches!(found, Observation::Alive(Marker { town: Some(ref id), .. }) if id == town)
        })
        .map(|stat| format!("{} {}", table.id_of(stat), stat.comm))
        .collect()
}
