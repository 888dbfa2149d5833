//! `gtctl convoy`: create, add, status, list.

use gtd_proto::convoy::{Convoy as Item, ConvoyChange};
use gtd_proto::params;
use gtd_proto::rpc::ConvoyClient;

use super::progress;
use crate::cli::{Convoy, ConvoyAdd, ConvoyCreate};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::paint::{Paint, Tone};
use crate::output::table::{Cell, Table};
use crate::output::{note, time};

/// Runs the verb.
///
/// # Errors
/// The daemon's.
pub async fn run(cx: &mut Context, verb: Convoy) -> Result<Code, Failure> {
    match verb {
        Convoy::Create(args) => create(cx, args).await,
        Convoy::Add(args) => add(cx, args).await,
        Convoy::Status(args) => match args.convoy {
            None => list(cx, Some("open".to_owned())).await,
            Some(convoy) => {
                let session = cx.connect().await?;
                let request = params::ConvoyRef { convoy };
                let answer = client::read(ConvoyClient::status(&session.client, request)).await?;
                if cx.screen.json {
                    cx.screen.envelope("convoy.status", &answer)?;
                } else {
                    let lines = card(&answer.body, cx.screen.paint, cx.screen.width);
                    cx.screen.lines(lines)?;
                }
                Ok(Code::Done)
            }
        },
        Convoy::List(args) => list(cx, args.status).await,
    }
}

async fn create(cx: &mut Context, args: ConvoyCreate) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let wait_ms = args.change.wait_ms();
    let request = params::ConvoyCreate {
        title: args.title,
        work: args.work,
        watchers: args.notify,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.own_key(),
        reason: args.change.reason(),
    };
    let doing = client::once(
        request.idempotency_key.clone(),
        wait_ms,
        ConvoyClient::create(&session.client, request),
    );
    let answer = progress::with_clock("creating", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("convoy.create", &answer)?;
        return Ok(Code::Done);
    }
    changed(cx, "created", &answer.body)
}

async fn add(cx: &mut Context, args: ConvoyAdd) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let wait_ms = args.change.wait_ms();
    let request = params::ConvoyAdd {
        convoy: args.convoy,
        work: args.work,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let doing = client::change(wait_ms, ConvoyClient::add(&session.client, request));
    let answer = progress::with_clock("adding", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("convoy.add", &answer)?;
        return Ok(Code::Done);
    }
    changed(cx, "added to", &answer.body)
}

async fn list(cx: &mut Context, status: Option<String>) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let only_open = status.as_deref() == Some("open");
    let request = params::ConvoyList { status };
    let answer = client::read(ConvoyClient::list(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("convoy.list", &answer)?;
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["ID", "STATUS", "DONE", "MADE", "TITLE"]);
    for item in &answer.body.items {
        table.row(vec![
            item.id.to_string().into(),
            Cell::new(item.status.clone(), mood(&item.status)),
            done(item).into(),
            item.created_at.map(time::ago).unwrap_or_default().into(),
            plain(&item.title).into(),
        ]);
    }
    if table.is_empty() {
        note(if only_open {
            "no open convoys; `gtctl convoy list` has the closed ones too"
        } else {
            "no convoys; make one with `gtctl convoy create TITLE WORK`"
        });
        return Ok(Code::Done);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

fn changed(cx: &mut Context, what: &str, change: &ConvoyChange) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if change.dry_run && !change.already {
        screen.plan(&change.plan)?;
        return Ok(Code::Done);
    }
    screen.line(match &change.convoy {
        _ if change.accepted => "accepted; follow it with `gtctl convoy list`".to_owned(),
        Some(item) if change.already => format!("{} tracks that already", item.id),
        Some(item) => format!("{what} {}: {} ({} of it done)", item.id, plain(&item.title), done(item)),
        None => what.to_owned(),
    })?;
    Ok(Code::Done)
}

/// `2/5`
fn done(item: &Item) -> String {
    let all = item.work.len() as u64;
    format!("{}/{all}", all.saturating_sub(item.open))
}

fn mood(status: &str) -> Tone {
    match status {
        "closed" => Tone::Plain,
        _ => Tone::Good,
    }
}

/// A convoy on a card.
fn card(item: &Item, paint: Paint, width: Option<usize>) -> Vec<String> {
    let mut fields = vec![("Status", paint.text(mood(&item.status), &plain(&item.status)))];
    let mut add = |title: &'static str, text: Option<String>| {
        fields.extend(text.filter(|text| !text.is_empty()).map(|text| (title, text)));
    };
    add("Done", Some(done(item)));
    add("Tells", Some(plain(&item.watchers.join(", "))));
    add("Made", item.created_at.map(time::full));
    add("By", Some(plain(&item.created_by)));
    add("Closed", item.closed_at.map(time::full));
    add("Unknown", item.unknown.as_deref().map(plain));
    let mut out = vec![format!("{} - {}", paint.strong(item.id.as_str()), plain(&item.title))];
    out.extend(fields.iter().map(|(title, text)| format!("  {} {text}", paint.dim(&format!("{title:>8}:")))));
    let mut table = Table::new(&["ID", "STATUS", "STORE", "TITLE"]);
    for work in &item.work {
        table.row(vec![
            work.id.to_string().into(),
            plain(&work.status).into(),
            plain(&work.store).into(),
            plain(&work.title).into(),
        ]);
    }
    if !table.is_empty() {
        out.push(String::new());
        out.extend(table.render(paint, width));
    }
    out
}
