//! `gtctl daemon status`: the daemon's own state.

use std::time::Duration;

use gtd_proto::daemon::DaemonStatus;
use gtd_proto::params;
use gtd_proto::rpc::DaemonClient;

use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::agents::count;
use crate::output::paint::{Paint, Tone};
use crate::output::time;
use crate::service::Service;

/// Runs the verb.
///
/// # Errors
/// When no daemon answers.
pub async fn run(cx: &mut Context) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let answer = client::read(DaemonClient::status(&session.client, params::None {})).await?;
    if cx.screen.json {
        cx.screen.envelope("daemon.status", &answer)?;
    } else {
        let lines = lines(&answer.body, &session.socket.display().to_string(), cx.screen.paint);
        cx.screen.lines(lines)?;
        if let Some(service) = Service::installed(session.root()) {
            let line = line_of(&service, answer.body.pid).await;
            cx.screen.line(format!("  {} {line}", cx.screen.paint.dim("  Service:")))?;
        }
    }
    Ok(Code::Done)
}

/// The service of the town, and whether it is what runs.
async fn line_of(service: &Service, pid: i32) -> String {
    let name = service.name();
    match service.state().await {
        Ok(state) if state.pid == Some(pid) => name.to_owned(),
        Ok(_) => format!(
            "{name} is installed, but this daemon was started without it; gtctl daemon restart hands it over"
        ),
        Err(failure) => format!("{name}, of which nothing can be told: {failure}"),
    }
}

fn lines(status: &DaemonStatus, socket: &str, paint: Paint) -> Vec<String> {
    let (word, mood) = if status.degraded { ("degraded", Tone::Bad) } else { ("running", Tone::Good) };
    let heartbeat = &status.heartbeat;
    let when = |title: &str, at: Option<String>| at.map(|at| format!(", {title} {at}")).unwrap_or_default();
    let fields = [
        ("State", format!("{}, since {}", paint.text(mood, word), time::full(status.started_at))),
        ("Uptime", time::whole(Duration::from_millis(status.uptime_ms))),
        ("Process", format!("{}, {} resident", status.pid, bytes(status.rss_bytes))),
        ("Version", format!("gtd {}, protocol {}", status.version, status.protocol)),
        ("Socket", socket.to_owned()),
        (
            "Heartbeat",
            format!(
                "number {}{}{}, {}",
                heartbeat.number,
                when("last", heartbeat.last.map(time::relative)),
                when("next", heartbeat.next.map(time::until)),
                count(heartbeat.overruns, "overrun")
            ),
        ),
        (
            "Clients",
            format!(
                "{}, {}",
                count(status.connections, "connection"),
                count(status.subscribers, "subscription")
            ),
        ),
        (
            "Ledger",
            format!("{}, {}, event {}", status.ledger.path, bytes(status.ledger.bytes), status.ledger.seq),
        ),
        ("Forks", status.forks.to_string()),
    ];
    let mut out = vec![paint.strong(&format!("gtd of {}", status.town))];
    out.extend(fields.iter().map(|(title, text)| format!("  {} {text}", paint.dim(&format!("{title:>9}:")))));
    out.extend(
        status.reasons.iter().map(|reason| format!("  {} {reason}", paint.text(Tone::Bad, "degraded:"))),
    );
    out
}

/// A size in the unit that keeps it short.
fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{} KiB", n / 1024),
        _ => format!("{}.{} MiB", n / 1_048_576, n % 1_048_576 * 10 / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        for (n, text) in [(0, "0 B"), (2048, "2 KiB"), (1_048_576, "1.0 MiB"), (15_938_355, "15.1 MiB")] {
            assert_eq!(super::bytes(n), text);
        }
    }
}
