//! The methods as traits, one per namespace: the daemon implements the server half, clients call the
//! client half. Every method takes one struct of [`crate::params`], and its row in [`crate::method`] has
//! the same types; a test holds the two together.
//!
//! Methods that change something are given the request's extensions, where the daemon finds its peer.

#[cfg(any(feature = "client", feature = "server"))]
mod affairs;

#[cfg(any(feature = "client", feature = "server"))]
mod traits {
    #[cfg(feature = "server")]
    use jsonrpsee::core::{RpcResult, SubscriptionResult};
    use jsonrpsee::proc_macros::rpc;
    use serde_json::Value;

    #[cfg(feature = "client")]
    use crate::Frame;
    use crate::{
        Agent, Change, Exit, Incident, Items, Reply, agent, config, daemon, deacon, doctor, event, explain,
        params, pause, polecat, report, town, wait, waiting,
    };

    /// The daemon itself.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Daemon {
        /// Say who calls, learn who answers.
        #[method(name = "daemon.hello", with_extensions)]
        async fn hello(&self, params: params::Hello) -> RpcResult<Reply<daemon::Hello>>;

        /// The daemon's own state.
        #[method(name = "daemon.status")]
        async fn status(&self, params: params::None) -> RpcResult<Reply<daemon::DaemonStatus>>;

        /// Run one round now and report it.
        #[method(name = "daemon.heartbeat", with_extensions)]
        async fn heartbeat(&self, params: params::None) -> RpcResult<Reply<daemon::HeartbeatReport>>;

        /// Past rounds, newest first.
        #[method(name = "daemon.heartbeats")]
        async fn heartbeats(&self, params: params::Limit)
        -> RpcResult<Reply<Items<daemon::HeartbeatReport>>>;

        /// The configuration in force, with each value's origin.
        #[method(name = "daemon.config")]
        async fn config(&self, params: params::None) -> RpcResult<Reply<config::Shown>>;

        /// Read the configuration again.
        #[method(name = "daemon.reload", with_extensions)]
        async fn reload(&self, params: params::Reload) -> RpcResult<Reply<config::Reloaded>>;

        /// Log more or less until the next start or reload.
        #[method(name = "daemon.log_level", with_extensions)]
        async fn log_level(&self, params: params::LogLevel) -> RpcResult<Reply<config::LevelSet>>;

        /// End the daemon; agents stay unless asked otherwise.
        #[method(name = "daemon.shutdown", with_extensions)]
        async fn shutdown(&self, params: params::Shutdown) -> RpcResult<Reply<daemon::ShuttingDown>>;
    }

    /// The whole town.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Town {
        /// Town, rigs and agents.
        #[method(name = "town.status")]
        async fn status(&self, params: params::None) -> RpcResult<Reply<town::TownStatus>>;

        /// Lift the town's hold and start what should run.
        #[method(name = "town.start", with_extensions)]
        async fn start(&self, params: params::TownStart) -> RpcResult<Reply<town::TownChange>>;

        /// Stop everything, verified by a census.
        #[method(name = "town.stop", with_extensions)]
        async fn stop(&self, params: params::TownStop) -> RpcResult<Reply<town::TownChange>>;

        /// Freeze agents with everything below them, and start nothing of them.
        #[method(name = "town.pause", with_extensions)]
        async fn pause(&self, params: params::TownPause) -> RpcResult<Reply<pause::PauseChange>>;

        /// The end of a pause: what was frozen goes on.
        #[method(name = "town.resume", with_extensions)]
        async fn resume(&self, params: params::TownResume) -> RpcResult<Reply<pause::PauseChange>>;
    }

    /// Rigs.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Rig {
        /// All rigs.
        #[method(name = "rig.list")]
        async fn list(&self, params: params::None) -> RpcResult<Reply<Items<town::Rig>>>;

        /// One rig.
        #[method(name = "rig.status")]
        async fn status(&self, params: params::RigRef) -> RpcResult<Reply<town::Rig>>;

        /// Clone a repository and register it as a rig.
        #[method(name = "rig.add", with_extensions)]
        async fn add(&self, params: params::RigAdd) -> RpcResult<Reply<town::RigAdded>>;

        /// End what runs of a rig and take it out of the registry; its directory stays.
        #[method(name = "rig.remove", with_extensions)]
        async fn remove(&self, params: params::RigRemove) -> RpcResult<Reply<town::RigRemoved>>;

        /// Set a rig aside on this machine.
        #[method(name = "rig.park", with_extensions)]
        async fn park(&self, params: params::RigAside) -> RpcResult<Reply<town::RigChange>>;

        /// The end of a park.
        #[method(name = "rig.unpark", with_extensions)]
        async fn unpark(&self, params: params::RigAside) -> RpcResult<Reply<town::RigChange>>;

        /// Set a rig aside for good.
        #[method(name = "rig.dock", with_extensions)]
        async fn dock(&self, params: params::RigAside) -> RpcResult<Reply<town::RigChange>>;

        /// The end of a dock.
        #[method(name = "rig.undock", with_extensions)]
        async fn undock(&self, params: params::RigAside) -> RpcResult<Reply<town::RigChange>>;
    }

    /// Witnesses.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Witness {
        /// Start a rig's witness.
        #[method(name = "witness.start", with_extensions)]
        async fn start(&self, params: params::RigStart) -> RpcResult<Reply<Change>>;

        /// Stop a rig's witness; it stays stopped.
        #[method(name = "witness.stop", with_extensions)]
        async fn stop(&self, params: params::RigStop) -> RpcResult<Reply<Change>>;

        /// Stop and start a rig's witness as a new instance.
        #[method(name = "witness.restart", with_extensions)]
        async fn restart(&self, params: params::RigRestart) -> RpcResult<Reply<Change>>;

        /// A rig's witness.
        #[method(name = "witness.status")]
        async fn status(&self, params: params::RigRef) -> RpcResult<Reply<town::RoleStatus>>;
    }

    /// Refineries.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Refinery {
        /// Start a rig's refinery.
        #[method(name = "refinery.start", with_extensions)]
        async fn start(&self, params: params::RigStart) -> RpcResult<Reply<Change>>;

        /// Stop a rig's refinery; it stays stopped.
        #[method(name = "refinery.stop", with_extensions)]
        async fn stop(&self, params: params::RigStop) -> RpcResult<Reply<Change>>;

        /// Stop and start a rig's refinery as a new instance.
        #[method(name = "refinery.restart", with_extensions)]
        async fn restart(&self, params: params::RigRestart) -> RpcResult<Reply<Change>>;

        /// A rig's refinery.
        #[method(name = "refinery.status")]
        async fn status(&self, params: params::RigRef) -> RpcResult<Reply<town::RoleStatus>>;
    }

    /// The deacon.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Deacon {
        /// Start the deacon.
        #[method(name = "deacon.start", with_extensions)]
        async fn start(&self, params: params::StandingStart) -> RpcResult<Reply<Change>>;

        /// Stop the deacon; it stays stopped.
        #[method(name = "deacon.stop", with_extensions)]
        async fn stop(&self, params: params::StandingStop) -> RpcResult<Reply<Change>>;

        /// Stop and start the deacon as a new instance.
        #[method(name = "deacon.restart", with_extensions)]
        async fn restart(&self, params: params::StandingRestart) -> RpcResult<Reply<Change>>;

        /// The deacon, with its heartbeat file.
        #[method(name = "deacon.status")]
        async fn status(&self, params: params::None) -> RpcResult<Reply<deacon::DeaconStatus>>;
    }

    /// The mayor.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Mayor {
        /// Start the mayor.
        #[method(name = "mayor.start", with_extensions)]
        async fn start(&self, params: params::StandingStart) -> RpcResult<Reply<Change>>;

        /// Stop the mayor; it stays stopped.
        #[method(name = "mayor.stop", with_extensions)]
        async fn stop(&self, params: params::StandingStop) -> RpcResult<Reply<Change>>;

        /// Stop and start the mayor as a new instance.
        #[method(name = "mayor.restart", with_extensions)]
        async fn restart(&self, params: params::StandingRestart) -> RpcResult<Reply<Change>>;

        /// The mayor.
        #[method(name = "mayor.status")]
        async fn status(&self, params: params::None) -> RpcResult<Reply<Agent>>;
    }

    /// Who looks after the deacon.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Boot {
        /// Look after the deacon as the heartbeat does, now.
        #[method(name = "boot.triage", with_extensions)]
        async fn triage(&self, params: params::BootTriage) -> RpcResult<Reply<deacon::Triage>>;

        /// Who looks after the deacon, and what came of it last.
        #[method(name = "boot.status")]
        async fn status(&self, params: params::None) -> RpcResult<Reply<deacon::BootStatus>>;
    }

    /// Workers.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Polecat {
        /// Make a worker: a name, a worktree, work on its hook, and its agent started.
        #[method(name = "polecat.spawn", with_extensions)]
        async fn spawn(&self, params: params::PolecatSpawn) -> RpcResult<Reply<Change>>;
        /// Workers.
        #[method(name = "polecat.list")]
        async fn list(&self, params: params::PolecatList) -> RpcResult<Reply<Items<Agent>>>;

        /// One worker.
        #[method(name = "polecat.status")]
        async fn status(&self, params: params::AgentRef) -> RpcResult<Reply<Agent>>;

        /// Put work on a worker's hook, and start it.
        #[method(name = "polecat.start", with_extensions)]
        async fn start(&self, params: params::PolecatStart) -> RpcResult<Reply<Change>>;

        /// Stop a worker; it stays stopped, with its work on its hook.
        #[method(name = "polecat.stop", with_extensions)]
        async fn stop(&self, params: params::PolecatStop) -> RpcResult<Reply<Change>>;

        /// Stop a rig's workers, and nobody else.
        #[method(name = "polecat.stop_all", with_extensions)]
        async fn stop_all(&self, params: params::PolecatStopAll)
        -> RpcResult<Reply<polecat::PolecatsChange>>;

        /// Stop and start a worker as a new instance.
        #[method(name = "polecat.restart", with_extensions)]
        async fn restart(&self, params: params::PolecatRestart) -> RpcResult<Reply<Change>>;

        /// Remove a worker: its worktree, its branch, its name. What it has is archived.
        #[method(name = "polecat.remove", with_extensions)]
        async fn remove(&self, params: params::PolecatRemove) -> RpcResult<Reply<polecat::PolecatRemoved>>;

        /// The last lines of a worker's screen.
        #[method(name = "polecat.capture")]
        async fn capture(&self, params: params::AgentCapture) -> RpcResult<Reply<agent::Capture>>;
    }

    /// Agents of any role.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Agent {
        /// Agents.
        #[method(name = "agent.list")]
        async fn list(&self, params: params::AgentList) -> RpcResult<Reply<Items<Agent>>>;

        /// The last lines of an agent's screen.
        #[method(name = "agent.capture")]
        async fn capture(&self, params: params::AgentCapture) -> RpcResult<Reply<agent::Capture>>;

        /// Why an agent is as it is.
        #[method(name = "agent.explain")]
        async fn explain(&self, params: params::AgentExplain) -> RpcResult<Reply<explain::Explanation>>;

        /// Clear back-off and quarantine.
        #[method(name = "agent.reset", with_extensions)]
        async fn reset(&self, params: params::AgentReset) -> RpcResult<Reply<Change>>;

        /// A person's word that an agent of which nothing can be told is dead.
        #[method(name = "agent.declare_dead", with_extensions)]
        async fn declare_dead(&self, params: params::AgentDeclareDead) -> RpcResult<Reply<Change>>;

        /// What an agent's own hooks say.
        #[method(name = "agent.report", with_extensions)]
        async fn report(&self, params: params::AgentReport) -> RpcResult<Reply<report::Reported>>;

        /// Wait until an agent is as wanted; the wait ends with the connection.
        #[method(name = "agent.wait", with_extensions)]
        async fn wait(&self, params: wait::AgentWait) -> RpcResult<Reply<wait::Waited>>;

        /// How to look at an agent's session.
        #[method(name = "agent.attach")]
        async fn attach(&self, params: params::AgentRef) -> RpcResult<Reply<agent::Attach>>;

        /// Agents that wait for a person, and for what.
        #[method(name = "agent.waiting")]
        async fn waiting(&self, params: params::None) -> RpcResult<Reply<waiting::WaitingList>>;

        /// Let an agent end its turn, stop it, and keep it stopped.
        #[method(name = "agent.drain", with_extensions)]
        async fn drain(&self, params: params::AgentDrain) -> RpcResult<Reply<Change>>;

        /// The end of a drain.
        #[method(name = "agent.undrain", with_extensions)]
        async fn undrain(&self, params: params::AgentDrain) -> RpcResult<Reply<Change>>;

        /// Ended instances, newest first.
        #[method(name = "agent.exits")]
        async fn exits(&self, params: params::AgentExits) -> RpcResult<Reply<Items<Exit>>>;

        /// Signals that we sent, newest first.
        #[method(name = "agent.signals")]
        async fn signals(&self, params: params::AgentSignals) -> RpcResult<Reply<Items<agent::SignalSent>>>;
    }

    /// Deaths of agents of any role.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Deaths {
        /// Ends that nobody asked for, newest first.
        #[method(name = "deaths.list")]
        async fn list(&self, params: params::DeathsList) -> RpcResult<Reply<Items<Exit>>>;

        /// Mass deaths, newest first.
        #[method(name = "deaths.incidents")]
        async fn incidents(&self, params: params::None) -> RpcResult<Reply<Items<Incident>>>;
    }

    /// People's workspaces.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Crew {
        /// People's workspaces.
        #[method(name = "crew.list")]
        async fn list(&self, params: params::CrewList) -> RpcResult<Reply<Items<doctor::CrewMember>>>;
    }

    /// Sessions of the tmux server.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Session {
        /// Every session on the tmux server, ours or not, with the proof.
        #[method(name = "session.list")]
        async fn list(&self, params: params::None) -> RpcResult<Reply<Items<doctor::Session>>>;

        /// The last lines of a session's screen, whoever it belongs to.
        #[method(name = "session.capture")]
        async fn capture(&self, params: params::SessionCapture) -> RpcResult<Reply<agent::Capture>>;
    }

    /// What was left behind.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Orphans {
        /// What looks left behind, with the evidence.
        #[method(name = "orphans.list")]
        async fn list(&self, params: params::None) -> RpcResult<Reply<doctor::Orphans>>;

        /// End what is proven ours and left over.
        #[method(name = "orphans.sweep", with_extensions)]
        async fn sweep(&self, params: params::OrphansSweep) -> RpcResult<Reply<doctor::SweepResult>>;
    }

    /// What is wrong.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Doctor {
        /// The checks that there are.
        #[method(name = "doctor.checks")]
        async fn checks(&self, params: params::None) -> RpcResult<Reply<Items<doctor::CheckInfo>>>;

        /// Look for what is wrong; with `fix`, put right what is safe.
        #[method(name = "doctor.run", with_extensions)]
        async fn run(&self, params: params::DoctorRun) -> RpcResult<Reply<doctor::Report>>;
    }

    /// What happened, and what happens.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Events {
        /// Past events, oldest first.
        #[method(name = "events.history")]
        async fn history(&self, params: params::EventsHistory) -> RpcResult<Reply<event::History>>;

        /// Events as they happen.
        #[subscription(name = "events.subscribe" => "events.event", unsubscribe = "events.unsubscribe", item = Frame, with_extensions)]
        async fn follow(&self, params: params::EventsSubscribe) -> SubscriptionResult;
    }

    /// The interface itself.
    #[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
    #[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
    #[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
    pub trait Rpc {
        /// This table as an OpenRPC document.
        #[method(name = "rpc.discover")]
        async fn discover(&self, params: params::None) -> RpcResult<Value>;
    }
}

#[cfg(any(feature = "client", feature = "server"))]
pub use affairs::*;
#[cfg(any(feature = "client", feature = "server"))]
pub use traits::*;
