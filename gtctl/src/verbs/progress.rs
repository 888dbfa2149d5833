//! Showing on stderr that long work goes on: the events of the agents concerned, and now and then the time.

use std::future::Future;
use std::time::Duration;

use gtd_proto::event::kind;
use gtd_proto::rpc::EventsClient;
use gtd_proto::{Event, Frame, params};
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::Session;
use crate::failure::Failure;
use crate::output::{event, note, time};

/// Silence after which the time is told.
const STILL: Duration = Duration::from_secs(5);

/// What is worth a line while somebody waits.
const KINDS: [&str; 6] = [
    kind::AGENT_READY,
    kind::AGENT_EXITED,
    kind::AGENT_BACKOFF,
    kind::AGENT_QUARANTINED,
    kind::AGENT_STOPPED,
    kind::AGENT_LINGERING,
];

/// Runs a request and shows the events that it leads to.
///
/// # Errors
/// The request's own. That events cannot be had is no error.
pub async fn with_events<T>(
    session: &Session,
    what: &str,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let line = |event: &Event| {
        let who = event.agent.as_ref().map(ToString::to_string).unwrap_or_default();
        let did = event.kind.trim_start_matches("agent.");
        Some(format!("  {who}: {did} {}", event::facts(event)).trim_end().to_owned())
    };
    with_steps(session, what, &KINDS, line, request).await
}

/// Runs a request and shows events of some kinds, those that `line` has words for.
///
/// # Errors
/// The request's own. That events cannot be had is no error.
pub async fn with_steps<T>(
    session: &Session,
    what: &str,
    kinds: &[&str],
    line: impl Fn(&Event) -> Option<String>,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let kinds = Some(kinds.iter().map(|kind| (*kind).to_owned()).collect());
    let wish = params::EventsSubscribe { kinds, ..params::EventsSubscribe::default() };
    let mut events = EventsClient::follow(&session.client, wish).await.ok();
    tokio::pin!(request);
    let (began, mut clock) = (Instant::now(), clock());
    loop {
        let next = async {
            match events.as_mut() {
                Some(open) => open.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = &mut request => return done,
            frame = next => match frame {
                Some(Ok(Frame::Event(event))) => {
                    if let Some(line) = line(&event) {
                        clock.reset();
                        note(line);
                    }
                }
                Some(_) => {}
                None => events = None,
            },
            _ = clock.tick() => tell(what, began),
        }
    }
}

/// Runs a request, and tells the time when it takes long.
///
/// # Errors
/// The request's own.
pub async fn with_clock<T>(
    what: &str,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::pin!(request);
    let (began, mut clock) = (Instant::now(), clock());
    loop {
        tokio::select! {
            biased;
            done = &mut request => return done,
            _ = clock.tick() => tell(what, began),
        }
    }
}

fn clock() -> tokio::time::Interval {
    let mut clock = tokio::time::interval_at(Instant::now() + STILL, STILL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}

fn tell(what: &str, began: Instant) {
    note(format!("  still {what}, {} so far", time::whole(began.elapsed())));
}
