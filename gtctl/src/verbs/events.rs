//! `gtctl events`: what happened, and with `-f` what happens.

use std::collections::VecDeque;

use gtd_proto::rpc::EventsClient;
use gtd_proto::{Event, Frame, Seq, params};

use crate::cli::{Events, Since};
use crate::client::{self, Session};
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::{event, note};

/// Events asked for at once, the most that there are in one answer.
const PAGE: u32 = 1000;

/// Runs the verb.
///
/// # Errors
/// When the connection is lost.
pub async fn run(cx: &mut Context, args: &Events) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    if args.follow {
        return follow(cx, &session, args).await;
    }
    match args.since {
        None => last(cx, &session, args).await?,
        Some(since) => {
            past(cx, &session, args, since).await?;
        }
    }
    Ok(Code::Done)
}

fn page(args: &Events, since: Option<Seq>) -> params::EventsHistory {
    let (seq, since_time) = match (since, args.since) {
        (None, Some(Since::Seq(seq))) => (Some(Seq(seq)), None),
        (None, Some(Since::Time(at))) => (None, Some(at)),
        (later, _) => (later, None),
    };
    params::EventsHistory {
        since: seq,
        since_time,
        kinds: kinds(args),
        agent: args.agent.clone(),
        limit: Some(PAGE),
    }
}

fn kinds(args: &Events) -> Option<Vec<String>> {
    (!args.kind.is_empty()).then(|| args.kind.clone())
}

/// The last of those that fit.
async fn last(cx: &mut Context, session: &Session, args: &Events) -> Result<(), Failure> {
    let keep = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut kept: VecDeque<Event> = VecDeque::new();
    // Without a filter the numbers tell where they begin; with one, all have to be gone through.
    let plain = args.kind.is_empty() && args.agent.is_none();
    let mut from = plain.then(|| Seq(session.hello.seq.0.saturating_sub(u64::from(args.limit))));
    loop {
        let answer = client::read(EventsClient::history(&session.client, page(args, from))).await?.body;
        let done = is_end(session, from, answer.next_since);
        kept.extend(answer.items);
        while kept.len() > keep {
            kept.pop_front();
        }
        if done {
            break;
        }
        from = Some(answer.next_since);
    }
    if kept.is_empty() && !cx.screen.json {
        note("there are no such events");
    }
    for event in &kept {
        print(cx, event)?;
    }
    Ok(())
}

/// All since a point. Returns where they end.
async fn past(cx: &mut Context, session: &Session, args: &Events, since: Since) -> Result<Seq, Failure> {
    // With a time and nothing after it, what follows is what is new from now on.
    let mut from = match since {
        Since::Seq(seq) => Some(Seq(seq)),
        Since::Time(_) => None,
    };
    loop {
        let answer = client::read(EventsClient::history(&session.client, page(args, from))).await?.body;
        if let Some(gap) = answer.gap {
            note(missing(session, from, gap.oldest));
        }
        for event in &answer.items {
            print(cx, event)?;
        }
        if is_end(session, from, answer.next_since) {
            // Up to the event of the handshake everything was in the history that was just read.
            return Ok(answer.next_since.max(session.hello.seq));
        }
        from = Some(answer.next_since);
    }
}

/// Whether there is no further page: what happened after we connected is left to those who follow, and a page
/// that does not lead on leads nowhere.
fn is_end(session: &Session, from: Option<Seq>, next: Seq) -> bool {
    next >= session.hello.seq || from.is_some_and(|from| next <= from)
}

async fn follow(cx: &mut Context, session: &Session, args: &Events) -> Result<Code, Failure> {
    let since = match args.since {
        // The subscription itself goes back to a number; a time has to be found in the history first.
        Some(Since::Seq(seq)) => Some(Seq(seq)),
        Some(since @ Since::Time(_)) => Some(past(cx, session, args, since).await?),
        None => None,
    };
    let wish = params::EventsSubscribe { since, kinds: kinds(args), agent: args.agent.clone() };
    let mut frames = client::read(EventsClient::follow(&session.client, wish)).await?;
    cx.screen.flush()?;
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(Frame::Event(event)) => print(cx, &event)?,
            // Both are part of the stream: a script that counts on every event has to see them.
            Ok(other) if cx.screen.json => cx.screen.frame(&other)?,
            Ok(Frame::Lagged { lagged }) => note(format!("{lagged} events were left out: too slow")),
            Ok(Frame::Gap { gap }) => note(missing(session, since, gap.oldest)),
            Err(error) => note(format!("an event that this version cannot read: {error}")),
        }
        cx.screen.flush()?;
    }
    Err(Failure::unreachable("the daemon ended the stream of events"))
}

/// Why a list does not begin where it was asked to.
fn missing(session: &Session, since: Option<Seq>, oldest: Seq) -> String {
    match since.filter(|since| *since > session.hello.seq) {
        Some(since) => {
            format!("there is no event {since} yet, the last is {}: here are all", session.hello.seq)
        }
        None => format!("events before {oldest} are no longer kept"),
    }
}

fn print(cx: &mut Context, event: &Event) -> Result<(), Failure> {
    if cx.screen.json {
        return cx.screen.frame(event);
    }
    let line = event::line(event, cx.screen.paint);
    cx.screen.line(line)
}
