//! Values of the protocol as a daemon would send them.

use std::path::Path;
use std::time::Duration;

use gtd_proto::town::{
    Alert, Aside, DaemonBrief, Outcome, Rig, RigChange, RigRemoved, RoleStatus, Severity, TmuxServer,
    TmuxState, TownStatus,
};
use gtd_proto::{
    Activity, Address, Agent, Cause, Change, Event, Exit, Incident, IncidentCause, IncidentState, InstanceId,
    Intent, Items, PlanStep, Reply, Restarts, RigName, Seq, State, Timestamp, TownId, config, daemon, event,
    exit, explain,
};
use gtd_proto::{NudgeReached, NudgeState};
use serde_json::{Value, json};

use super::fake::Reply as Answer;
use super::{TOWN_ID, Town};

pub const INSTANCE: &str = "01938c3e-6b2a-7c41-9d0e-0a4d0a7c4d5e";

/// So long ago. Half a minute is added, so that a slow test sees the same minute.
pub fn ago(minutes: u64) -> Timestamp {
    Timestamp::now() - Duration::from_secs(minutes * 60 + 20)
}

pub fn answer(body: impl serde::Serialize) -> Answer {
    Answer::Result(serde_json::to_value(Reply { body, seq: Seq(42) }).unwrap())
}

pub fn agent(address: &str, state: State) -> Agent {
    let address: Address = address.parse().unwrap();
    let running = matches!(state, State::Running);
    let role = address.role();
    let name = match address.rig() {
        Some(rig) => format!("gt-{rig}-{role}"),
        None => format!("hq-{role}"),
    };
    Agent {
        role,
        rig: address.rig().cloned(),
        name: address.name().cloned(),
        agent: address,
        state,
        activity: if running { Activity::Idle } else { Activity::Unknown },
        activity_detail: None,
        activity_since: None,
        running,
        intent: if state == State::Stopped { Intent::Stopped } else { Intent::Running },
        intent_by: "supervisor".to_owned(),
        intent_reason: None,
        instance: running.then(|| InstanceId::new(INSTANCE).unwrap()),
        server: running.then(|| "/run/town/tmux-0.sock".to_owned()),
        session: running.then(|| "$3".to_owned()),
        session_name: running.then_some(name),
        pane: running.then(|| "%7".to_owned()),
        created_at: running.then(|| ago(200)),
        windows: running.then_some(1),
        last_activity: running.then(|| ago(1)),
        pid: running.then_some(5001),
        shim_pid: running.then_some(5000),
        started_at: running.then(|| ago(200)),
        since: ago(200),
        restarts: Restarts { lifetime: 2, consecutive: 0 },
        next_attempt: None,
        reason: None,
        hook: None,
        worktree: None,
        branch: None,
        agent_preset: "fake".to_owned(),
        account: None,
        attached: false,
        drain: None,
        pause: None,
        stale: Vec::new(),
    }
}

pub fn backoff(address: &str) -> Agent {
    let mut agent = agent(address, State::Backoff);
    agent.since = ago(1);
    agent.restarts = Restarts { lifetime: 9, consecutive: 3 };
    agent.reason = Some("3 failures in a row, the last one: signal 9".to_owned());
    agent.next_attempt = Some(Timestamp::now() + Duration::from_secs(20 * 60 + 20));
    agent
}

/// Six agents that died together, or three.
pub fn incident(open: bool) -> Incident {
    let agents = ["alpha", "beta", "gamma"]
        .iter()
        .flat_map(|rig| ["witness", "refinery"].map(|role| format!("{rig}/{role}").parse().unwrap()));
    let agents: Vec<Address> = agents.take(if open { 6 } else { 3 }).collect();
    let opened_at = ago(if open { 0 } else { 60 });
    Incident {
        id: if open { "i2" } else { "i1" }.to_owned(),
        opened_at,
        closed_at: (!open).then(|| opened_at + Duration::from_millis(12_400)),
        count: agents.len() as u64,
        window_ms: 30_000,
        sessions: agents.iter().map(|agent| format!("gt-{agent}").replace('/', "-")).collect(),
        canary: (!open).then(|| agents[0].clone()),
        recovered: if open { 1 } else { 3 },
        agents,
        cause: if open { IncidentCause::TmuxServer } else { IncidentCause::Crashes },
        state: if open { IncidentState::Holding } else { IncidentState::Closed },
        held_until: open.then(|| Timestamp::now() + Duration::from_millis(9_900)),
    }
}

pub fn rig(name: &str, operational: bool) -> Rig {
    let (witness, refinery) = if operational {
        (agent(&format!("{name}/witness"), State::Running), backoff(&format!("{name}/refinery")))
    } else {
        let stopped = |role: &str| {
            let mut agent = agent(&format!("{name}/{role}"), State::Stopped);
            agent.reason = Some("rig parked".to_owned());
            agent
        };
        (stopped("witness"), stopped("refinery"))
    };
    Rig {
        name: RigName::new(name).unwrap(),
        path: format!("/towns/demo/{name}"),
        operational,
        reason: (!operational).then(|| "parked".to_owned()),
        since: (!operational).then(|| ago(2)),
        parked: (!operational).then(|| Aside {
            by: "person".to_owned(),
            reason: Some("too noisy".to_owned()),
            at: ago(2),
        }),
        docked: None,
        removing: false,
        pause: None,
        prefix: "al".to_owned(),
        witness,
        refinery,
        polecats: Vec::new(),
        crew: if operational { vec!["max".to_owned()] } else { Vec::new() },
    }
}

fn outcome(agent: &str) -> Outcome {
    Outcome { agent: agent.parse().unwrap(), ok: true, already: false, error: None }
}

pub fn rig_change(name: &str, aside: bool, accepted: bool) -> RigChange {
    let mut rig = rig(name, !aside);
    rig.refinery.intent = Intent::Stopped;
    rig.refinery.intent_by = "person".to_owned();
    rig.refinery.state = State::Stopped;
    let items = if accepted { Vec::new() } else { vec![outcome(&format!("{name}/witness"))] };
    RigChange { rig, already: false, accepted, items, dry_run: false, plan: Vec::new() }
}

pub fn town(of: &Path) -> TownStatus {
    TownStatus {
        name: "demo".to_owned(),
        root: of.display().to_string(),
        town_id: TownId::new(TOWN_ID).unwrap(),
        daemon: DaemonBrief {
            pid: 4711,
            version: "0.1.0".to_owned(),
            protocol: 1,
            started_at: ago(125),
            degraded: false,
            reasons: Vec::new(),
            hold: false,
        },
        tmux: vec![TmuxServer {
            socket: of.join("daemon/run/tmux-0.sock").display().to_string(),
            pid: Some(4720),
            state: TmuxState::Up,
            sessions: 1,
        }],
        rigs: vec![rig("alpha", true), rig("beta", false)],
        agents: Vec::new(),
        incidents: Vec::new(),
        alerts: vec![Alert {
            key: "agent:alpha/refinery".to_owned(),
            since: ago(3),
            severity: Severity::Warning,
            message: "alpha/refinery keeps failing".to_owned(),
            hint: Some("gtctl explain alpha/refinery".to_owned()),
        }],
        summary: [("running", 1), ("backoff", 1), ("stopped", 2)].map(|(k, v)| (k.to_owned(), v)).into(),
        pause: None,
    }
}

/// A town in which all is well.
pub fn well(of: &Path) -> TownStatus {
    let mut status = town(of);
    status.alerts.clear();
    status.rigs.truncate(1);
    status.rigs[0].refinery = agent("alpha/refinery", State::Running);
    status.summary = [("running".to_owned(), 2)].into();
    status
}

pub fn exit(address: &str) -> Exit {
    Exit {
        agent: address.parse().unwrap(),
        instance: InstanceId::new(INSTANCE).unwrap(),
        pid: Some(4990),
        started_at: ago(215),
        ended_at: ago(200),
        uptime_ms: 15 * 60 * 1000,
        code: None,
        signal: Some(9),
        cause: Cause::Crash,
        requested: false,
        counts: true,
        exec_error: None,
        incident: None,
        evidence: None,
        killed: Vec::new(),
        output: vec!["thinking…".to_owned(), "about to call a tool".to_owned()],
        usage: exit::Usage::default(),
    }
}

pub fn event(seq: u64, kind: &str, agent: &str, data: Value) -> Event {
    Event {
        seq: Seq(seq),
        at: Timestamp::now(),
        kind: kind.to_owned(),
        agent: agent.parse().ok(),
        rig: None,
        instance: None,
        cause: None,
        peer: None,
        data,
    }
}

pub fn events() -> Vec<Event> {
    let at = "alpha/witness";
    vec![
        event(
            40,
            "agent.exited",
            at,
            json!({"signal": 9, "cause": "crash", "uptime_ms": 900_000, "detected_by": "pidfd", "detect_ms": 0.3}),
        ),
        event(41, "agent.restarting", at, json!({"attempt": 1, "delay_ms": 0})),
        event(42, "agent.starting", at, json!({"reason": "restart", "attempt": 1})),
        event(43, "agent.ready", at, json!({"pid": 5001, "startup_ms": 204})),
        event(44, "daemon.degraded", "", json!({"reason": "tmux does not answer"})),
    ]
}

pub fn history(items: Vec<Event>) -> event::History {
    let next_since = items.last().map(|event| event.seq).unwrap_or(Seq(44));
    event::History { items, next_since, stream_id: "a".to_owned(), gap: None }
}

pub fn change(agent: Agent) -> Change {
    Change { agent, already: false, accepted: false, dry_run: false, plan: Vec::new(), survivors: Vec::new() }
}

pub fn step(action: &str, target: &str, why: &str) -> PlanStep {
    PlanStep { action: action.to_owned(), target: target.to_owned(), why: why.to_owned() }
}

pub fn hello(town: &Town) -> daemon::Hello {
    daemon::Hello {
        version: "0.1.0".to_owned(),
        protocol: gtd_proto::PROTOCOL,
        town: town.root().display().to_string(),
        town_id: TownId::new(TOWN_ID).unwrap(),
        pid: 4711,
    }
}

pub fn daemon_status(town: &Town) -> daemon::DaemonStatus {
    daemon::DaemonStatus {
        pid: 4711,
        version: "0.1.0".to_owned(),
        protocol: 1,
        town: town.root().display().to_string(),
        started_at: ago(125),
        uptime_ms: 125 * 60 * 1000,
        degraded: true,
        reasons: vec!["tmux does not answer".to_owned()],
        heartbeat: daemon::HeartbeatState {
            number: 17,
            last: Some(ago(1)),
            next: Some(Timestamp::now() + Duration::from_secs(100)),
            overruns: 0,
        },
        connections: 1,
        subscribers: 0,
        ledger: daemon::LedgerState {
            path: town.root().join("daemon/gtd.db").display().to_string(),
            bytes: 2_097_152,
            seq: Seq(42),
            stream_id: "a".to_owned(),
        },
        forks: 3,
        rss_bytes: 15_000_000,
    }
}

pub fn heartbeat() -> daemon::HeartbeatReport {
    let step = |name: &str, outcome, error: Option<&str>| daemon::HeartbeatStep {
        name: name.to_owned(),
        outcome,
        duration_ms: 2,
        actions: if name == "witnesses" { vec!["started alpha/witness".to_owned()] } else { Vec::new() },
        error: error.map(str::to_owned),
    };
    daemon::HeartbeatReport {
        number: 18,
        started_at: ago(1),
        duration_ms: 12,
        steps: vec![
            step("deacon", daemon::StepOutcome::Skipped, Some("off")),
            step("witnesses", daemon::StepOutcome::Ok, None),
        ],
    }
}

pub fn explanation(agent: Agent) -> explain::Explanation {
    explain::Explanation {
        agent,
        verdict: "runs since 3 hours as the second start".to_owned(),
        because: vec!["its process 5001 is alive".to_owned()],
        observations: vec![explain::Observed {
            what: "agent process".to_owned(),
            value: "alive".to_owned(),
            source: "pidfd".to_owned(),
            at: ago(1),
            age_ms: 20_000,
        }],
        decisions: vec![explain::Decision {
            at: ago(200),
            event: "agent.exited".to_owned(),
            decision: "restart at once".to_owned(),
            reason: "no failure before".to_owned(),
        }],
        next: Some("nothing is due".to_owned()),
    }
}

pub fn shown(root: &Path) -> config::Shown {
    let value = |key: &str, value: Value, origin, unit: &str, not_yet| config::ConfigValue {
        key: key.to_owned(),
        value,
        origin,
        unit: unit.to_owned(),
        doc: format!("What {key} means."),
        not_yet,
    };
    config::Shown {
        file: root.join("settings/gtd.toml").display().to_string(),
        values: vec![
            value("daemon.log_level", json!("debug"), config::Origin::File, "error|warn", false),
            value("metrics.listen", json!(""), config::Origin::Default, "address", true),
            value("restart.burst", json!(5), config::Origin::Default, "count", false),
        ],
        rejected: None,
    }
}

fn reloaded(dry_run: bool) -> config::Reloaded {
    let changed = |key: &str, old: Value, new: Value| config::Changed { key: key.to_owned(), old, new };
    config::Reloaded {
        changed: vec![
            changed("stop.grace", json!("10s"), json!("2s")),
            changed("metrics.listen", json!(""), json!("127.0.0.1:1")),
        ],
        refused: vec![config::Refused {
            key: "tmux.server".to_owned(),
            reason: "sessions cannot move".to_owned(),
        }],
        dry_run,
    }
}

/// An answer that is kept with the protocol.
fn sample(name: &str) -> Answer {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../proto/tests/golden/results/{name}.json"));
    let mut sample: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    if let Some(sessions) = sample["items"].as_array_mut().filter(|_| name == "sessions") {
        sessions[0]["last_activity"] = json!(ago(1));
    }
    Answer::Result(sample)
}

/// Answers every read with something, and every change with success.
pub fn canned(of: &Town) -> impl Fn(&str, &Value) -> Answer + Send + Sync + 'static {
    let (hello, status) = (hello(of), town(&of.root()));
    let daemon = daemon_status(of);
    let root = of.root();
    move |method, params| {
        let named = || params["agent"].as_str().unwrap_or("alpha/witness").to_owned();
        match method {
            "daemon.hello" => answer(&hello),
            "daemon.status" => answer(&daemon),
            "daemon.heartbeat" => answer(heartbeat()),
            "daemon.heartbeats" => answer(Items { items: vec![heartbeat()] }),
            "daemon.config" => answer(shown(&root)),
            "daemon.reload" => answer(reloaded(params["dry_run"] == true)),
            "daemon.log_level" => answer(config::LevelSet {
                old: "info".to_owned(),
                level: params["level"].as_str().unwrap().to_owned(),
                dry_run: params["dry_run"] == true,
            }),
            "town.status" => answer(&status),
            "rig.list" => answer(Items { items: status.rigs.clone() }),
            "rig.status" => answer(rig(params["rig"].as_str().unwrap(), params["rig"] != "beta")),
            "rig.park" | "rig.unpark" | "rig.dock" | "rig.undock" => {
                let aside = matches!(method, "rig.park" | "rig.dock");
                answer(rig_change(params["rig"].as_str().unwrap(), aside, params["wait_ms"] == 0))
            }
            "rig.remove" => answer(RigRemoved {
                name: RigName::new(params["rig"].as_str().unwrap()).unwrap(),
                path: "/towns/demo/alpha".to_owned(),
                left: vec!["/towns/demo/alpha".to_owned()],
                accepted: false,
                items: vec![outcome("alpha/witness")],
                dry_run: false,
                plan: Vec::new(),
            }),
            "agent.list" => answer(Items { items: listed(&status, params["selector"].as_str()) }),
            "agent.capture" => answer(gtd_proto::agent::Capture {
                lines: vec!["$ work".to_owned(), "\u{1b}[31mred\u{1b}[0m\tend".to_owned()],
                truncated: false,
            }),
            "agent.exits" => answer(Items { items: vec![exit(&named())] }),
            "deaths.list" => answer(Items { items: vec![exit("alpha/witness")] }),
            "deaths.incidents" => answer(Items { items: vec![incident(true), incident(false)] }),
            "agent.signals" => answer(Items {
                items: vec![gtd_proto::agent::SignalSent {
                    at: ago(10),
                    agent: named().parse().ok(),
                    instance: None,
                    pid: 4990,
                    start: 12345,
                    signal: 15,
                    evidence: json!({"shim": "4989:12300"}),
                    by: "person".to_owned(),
                    because: Some(
                        "killed by gtd because it was asked to stop, by person; proof: it was recorded when it was started"
                            .to_owned(),
                    ),
                }],
            }),
            "doctor.run" => sample("doctor"),
            "doctor.checks" => sample("checks"),
            "orphans.list" => sample("orphans"),
            "orphans.sweep" => sample("sweep"),
            "session.list" => sample("sessions"),
            "crew.list" => sample("crew"),
            "agent.wait" => answer(gtd_proto::wait::Waited {
                agent: agent(&named(), State::Running),
                reached: params["for"].as_str().unwrap().parse().unwrap(),
            }),
            "agent.explain" => answer(explanation(agent(&named(), State::Running))),
            "agent.reset" => answer(change(agent(&named(), State::Starting))),
            "agent.declare_dead" => {
                let mut declared = change(agent(&named(), State::Unknown));
                declared.accepted = true;
                answer(declared)
            }
            "agent.waiting" => answer(gtd_proto::waiting::WaitingList {
                items: vec![
                    waiting("alpha/witness", "run\u{1b}[2J rm -rf build?"),
                    waiting("beta/witness", "which of the two?"),
                ],
                unseen: vec!["gamma/witness".parse().unwrap()],
            }),
            "town.pause" | "town.resume" => {
                let frozen = method == "town.pause";
                let receipt = |agent: &str, processes, refused: Option<&str>| gtd_proto::pause::Receipt {
                    agent: agent.parse().unwrap(),
                    frozen: frozen && processes > 0,
                    processes,
                    already: agent == "beta/witness",
                    refused: refused.map(str::to_owned),
                };
                let mut items = vec![
                    receipt("alpha/refinery", 0, None),
                    receipt("alpha/witness", 3, None),
                    receipt("beta/witness", 1, None),
                ];
                if !params["agents"].is_null() {
                    items.insert(0, receipt("alpha/crew/max", 0, Some("it belongs to a person\u{1b}[2J")));
                }
                answer(gtd_proto::pause::PauseChange { items, ..Default::default() })
            }
            "agent.drain" => answer(change(drained(&named()))),
            "agent.undrain" => answer(change(agent(&named(), State::Running))),
            "convoy.create" | "convoy.add" => answer(gtd_proto::convoy::ConvoyChange {
                convoy: Some(convoy()),
                already: false,
                accepted: false,
                dry_run: false,
                plan: Vec::new(),
            }),
            "convoy.status" => answer(convoy()),
            "convoy.list" => {
                let over = gtd_proto::convoy::Convoy {
                    id: "hq-cv-2".parse().unwrap(),
                    status: "closed".to_owned(),
                    open: 0,
                    unknown: None,
                    closed_at: Some(ago(60)),
                    ..convoy()
                };
                answer(Items { items: vec![convoy(), over] })
            }
            "mail.inbox" => {
                let whose = params["for"].as_str().unwrap_or("overseer").to_owned();
                let read = gtd_proto::mail::Mail { id: "m-11".to_owned(), read: true, ..mail() };
                answer(gtd_proto::mail::Inbox { whose, unread: 1, items: vec![mail(), read] })
            }
            "lifecycle.request" => answer(gtd_proto::lifecycle::LifecycleChange {
                request: Some(lifecycle()),
                already: false,
                accepted: false,
                dry_run: false,
                plan: Vec::new(),
            }),
            "lifecycle.list" => {
                let refused = gtd_proto::lifecycle::Lifecycle {
                    id: "l-2".to_owned(),
                    agent: None,
                    action: gtd_proto::lifecycle::LifecycleAction::Unknown,
                    mail: Some("m-12".to_owned()),
                    state: gtd_proto::lifecycle::LifecycleState::Refused,
                    reason: Some("\"please\u{1b}[2J\" is no action".to_owned()),
                    ..lifecycle()
                };
                answer(Items { items: vec![lifecycle(), refused] })
            }
            "mail.send" | "mail.read" | "mail.archive" => answer(gtd_proto::mail::MailChange {
                mail: Some(mail()),
                already: false,
                accepted: false,
                dry_run: false,
                plan: Vec::new(),
            }),
            "witness.status" => answer(RoleStatus {
                agent: agent("alpha/witness", State::Running),
                rig_name: RigName::new("alpha").unwrap(),
                monitored_polecats: Some(vec!["nux".to_owned()]),
                queue_length: None,
            }),
            "refinery.status" => answer(RoleStatus {
                agent: backoff("alpha/refinery"),
                rig_name: RigName::new("alpha").unwrap(),
                monitored_polecats: None,
                queue_length: Some(3),
            }),
            "witness.start" | "witness.restart" => answer(change(agent("alpha/witness", State::Running))),
            "witness.stop" => answer(change(agent("alpha/witness", State::Stopped))),
            "deacon.start" | "deacon.restart" => answer(change(agent("deacon", State::Running))),
            "deacon.stop" => answer(change(agent("deacon", State::Stopped))),
            "mayor.start" | "mayor.restart" => answer(change(agent("mayor", State::Running))),
            "mayor.stop" => answer(change(agent("mayor", State::Stopped))),
            "mayor.status" => answer(agent("mayor", State::Running)),
            "deacon.status" => answer(gtd_proto::deacon::DeaconStatus {
                agent: agent("deacon", State::Running),
                verdict: gtd_proto::deacon::Verdict::Stuck,
                why: "its heartbeat is 40m old; somebody looks at its session: it is not restarted"
                    .to_owned(),
                heartbeat: Some(gtd_proto::deacon::DeaconHeartbeat {
                    timestamp: Some(ago(40)),
                    cycle: Some(42),
                    last_action: Some("health-scan".to_owned()),
                    age_ms: Some(2_400_000),
                    unanswered: 2,
                    error: None,
                }),
                paused: None,
            }),
            "boot.triage" => answer(gtd_proto::deacon::Triage {
                verdict: gtd_proto::deacon::Verdict::Stale,
                why: "its heartbeat is 16m old; it is asked whether it is there".to_owned(),
                actions: vec!["ask the deacon whether it is there".to_owned()],
                degraded: false,
                dry_run: params["dry_run"] == true,
            }),
            "boot.status" => answer(gtd_proto::deacon::BootStatus {
                mode: "mechanical".to_owned(),
                running: false,
                session_alive: false,
                degraded: false,
                boot_dir: "/town/deacon/dogs/boot".to_owned(),
                last_status: Some(gtd_proto::deacon::BootRun {
                    running: false,
                    started_at: Some(ago(3)),
                    completed_at: Some(ago(3)),
                    last_action: "nudge".to_owned(),
                    target: "deacon-stale".to_owned(),
                    error: String::new(),
                }),
                error: None,
                agent: agent("boot", State::Stopped),
                cooldown_until: None,
            }),
            "hook.show" => answer(gtd_proto::work::HookShown {
                agent: named().parse().unwrap(),
                work: Some(work()),
                since: Some(ago(3)),
                also: vec!["al-2".parse().unwrap()],
            }),
            "hook.set" => answer(gtd_proto::work::HookChange {
                work: Some(work()),
                replaced: Some("al-2".parse().unwrap()),
                taken_from: Some("alpha/polecats/ace".to_owned()),
                ..hook_change(&named())
            }),
            "hook.clear" => answer(gtd_proto::work::HookChange {
                replaced: Some("al-k3x".parse().unwrap()),
                ..hook_change(&named())
            }),
            "nudge.send" | "nudge.cancel" | "polecat.inject" | "agent.respond" => {
                let (state, reached) = match method {
                    "nudge.send" => (NudgeState::Queued, NudgeReached::Queued),
                    "nudge.cancel" => (NudgeState::Dead, NudgeReached::Queued),
                    "polecat.inject" => (NudgeState::Delivered, NudgeReached::Seen),
                    _ => (NudgeState::Delivered, NudgeReached::Submitted),
                };
                let nudge = gtd_proto::Nudge { state, reached, ..nudge() };
                let nudge = Some(nudge);
                answer(gtd_proto::nudge::NudgeChange {
                    nudge,
                    already: false,
                    dry_run: false,
                    plan: Vec::new(),
                })
            }
            "nudge.list" => answer(Items { items: vec![nudge()] }),
            "work.show" => answer(work()),
            "work.list" => answer(Items { items: vec![work()] }),
            "work.create" | "work.close" => answer(gtd_proto::work::WorkChange {
                work: Some(work()),
                already: false,
                accepted: false,
                dry_run: false,
                plan: Vec::new(),
            }),
            "events.history" => {
                let since = params["since"].as_u64().unwrap_or(0);
                answer(history(events().into_iter().filter(|event| event.seq.0 > since).collect()))
            }
            _ => Answer::Error(gtd_proto::RpcError::new(
                gtd_proto::ErrorKind::MethodNotFound,
                format!("the fake has no {method}"),
            )),
        }
    }
}

pub fn waiting(agent: &str, text: &str) -> gtd_proto::waiting::Waiting {
    gtd_proto::waiting::Waiting {
        agent: agent.parse().unwrap(),
        since: ago(3),
        kind: gtd_proto::waiting::WaitKind::Permission,
        text: Some(text.to_owned()),
        source: gtd_proto::waiting::WaitSource::Pane,
    }
}

pub fn drained(address: &str) -> Agent {
    let mut agent = agent(address, State::Stopped);
    agent.intent = Intent::Running;
    agent.reason = Some("drained".to_owned());
    agent.drain =
        Some(gtd_proto::drain::Drain { by: "person".to_owned(), reason: None, since: ago(3), done: true });
    agent
}

pub fn convoy() -> gtd_proto::convoy::Convoy {
    let work = |id: &str, status: &str, store: &str| gtd_proto::convoy::ConvoyWork {
        id: id.parse().unwrap(),
        status: status.to_owned(),
        title: format!("Fix {id}\u{1b}[2J"),
        store: store.to_owned(),
    };
    gtd_proto::convoy::Convoy {
        id: "hq-cv-3".parse().unwrap(),
        title: "The parser\u{7}".to_owned(),
        status: "open".to_owned(),
        work: vec![work("al-k3x", "closed", "bd"), work("hq-7", "hooked", "builtin")],
        watchers: vec!["mayor".to_owned(), "overseer".to_owned()],
        open: 1,
        created_by: "mayor".to_owned(),
        created_at: Some(ago(3_600)),
        closed_at: None,
        unknown: Some("bd in /town/alpha cannot list changes: not done within 10s".to_owned()),
    }
}

pub fn lifecycle() -> gtd_proto::lifecycle::Lifecycle {
    gtd_proto::lifecycle::Lifecycle {
        id: "l-3".to_owned(),
        agent: Some("alpha/witness".parse().unwrap()),
        action: gtd_proto::lifecycle::LifecycleAction::Cycle,
        from: "alpha/witness".to_owned(),
        mail: None,
        state: gtd_proto::lifecycle::LifecycleState::Done,
        reason: None,
        at: mail().at,
        updated_at: mail().at,
    }
}

pub fn mail() -> gtd_proto::mail::Mail {
    gtd_proto::mail::Mail {
        id: "m-12".to_owned(),
        from: "daemon".to_owned(),
        to: "alpha/witness".to_owned(),
        subject: "CRASHED_POLECAT: alpha/nux restart failed\u{1b}[2J".to_owned(),
        body: "It died.\n\nhook_bead: al-k3x\u{7}\n".to_owned(),
        at: ago(3),
        read: false,
        archived: false,
    }
}

pub fn nudge() -> gtd_proto::Nudge {
    gtd_proto::Nudge {
        id: "n-1f3a5c7e9b0d".parse().unwrap(),
        agent: "alpha/witness".parse().unwrap(),
        instance: None,
        state: NudgeState::Queued,
        reached: NudgeReached::Queued,
        attempts: 0,
        key: Some("mail".to_owned()),
        from: "person".to_owned(),
        text: "You have mail.\u{1b}[2J".to_owned(),
        bytes: 18,
        why: Some("it reported that it is working".to_owned()),
        created_at: ago(5),
        updated_at: ago(4),
        expires_at: ago(0),
    }
}

pub fn work() -> gtd_proto::work::Work {
    gtd_proto::work::Work {
        id: "al-k3x".parse().unwrap(),
        title: "Fix the parser\u{1b}[2J".to_owned(),
        description: Some("It eats\nnewlines.".to_owned()),
        status: "hooked".to_owned(),
        assignee: Some("alpha/witness".to_owned()),
        priority: Some(1),
        store: "bd".to_owned(),
        created_at: Some(ago(120)),
        updated_at: Some(ago(3)),
        closed_at: None,
    }
}

pub fn hook_change(agent: &str) -> gtd_proto::work::HookChange {
    gtd_proto::work::HookChange {
        agent: agent.parse().unwrap(),
        work: None,
        since: None,
        replaced: None,
        taken_from: None,
        already: false,
        accepted: false,
        dry_run: false,
        plan: Vec::new(),
    }
}

fn listed(status: &TownStatus, selector: Option<&str>) -> Vec<Agent> {
    let selector: Option<gtd_proto::Selector> = selector.map(|text| text.parse().unwrap());
    let all = status.rigs.iter().flat_map(|rig| [&rig.witness, &rig.refinery]);
    all.filter(|agent| selector.as_ref().is_none_or(|s| s.matches(&agent.agent))).cloned().collect()
}
