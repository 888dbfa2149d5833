//! `gtctl work`: create, show, list, close.

use gtd_proto::params;
use gtd_proto::rpc::WorkClient;
use gtd_proto::work::{Work as Item, WorkChange};

use super::progress;
use crate::cli::{Work, WorkClose, WorkCreate, WorkList};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::paint::{Paint, Tone};
use crate::output::table::{Cell, Table};
use crate::output::{note, time};

/// A store may take its time, and is asked twice: longer than the daemon waits for it.
const ASKING: Option<u64> = Some(60_000);

/// Runs the verb.
///
/// # Errors
/// The daemon's.
pub async fn run(cx: &mut Context, verb: Work) -> Result<Code, Failure> {
    match verb {
        Work::Create(args) => create(cx, args).await,
        Work::Show(args) => {
            let session = cx.connect().await?;
            let request = params::WorkRef { id: args.id };
            let answer = client::look(ASKING, WorkClient::show(&session.client, request)).await?;
            if cx.screen.json {
                cx.screen.envelope("work.show", &answer)?;
            } else {
                let lines = card(&answer.body, cx.screen.paint);
                cx.screen.lines(lines)?;
            }
            Ok(Code::Done)
        }
        Work::List(args) => list(cx, args).await,
        Work::Close(args) => close(cx, args).await,
    }
}

async fn create(cx: &mut Context, args: WorkCreate) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let wait_ms = args.change.wait_ms();
    let request = params::WorkCreate {
        title: args.title,
        rig: args.rig,
        description: args.description,
        priority: args.priority,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.own_key(),
        reason: args.change.reason(),
    };
    let doing =
        client::once(request.idempotency_key.clone(), wait_ms, WorkClient::create(&session.client, request));
    let answer = progress::with_clock("creating", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("work.create", &answer)?;
        return Ok(Code::Done);
    }
    changed(cx, "created", &answer.body)
}

async fn close(cx: &mut Context, args: WorkClose) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let wait_ms = args.change.wait_ms();
    let request = params::WorkClose {
        id: args.id,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let doing = client::change(wait_ms, WorkClient::close(&session.client, request));
    let answer = progress::with_clock("closing", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("work.close", &answer)?;
        return Ok(Code::Done);
    }
    changed(cx, "closed", &answer.body)
}

async fn list(cx: &mut Context, args: WorkList) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let request = params::WorkList { status: args.status, assignee: args.assignee, rig: args.rig };
    let answer = client::look(ASKING, WorkClient::list(&session.client, request)).await?;
    let screen = &mut cx.screen;
    if screen.json {
        screen.envelope("work.list", &answer)?;
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["ID", "STATUS", "P", "ASSIGNEE", "UPDATED", "STORE", "TITLE"]);
    for item in &answer.body.items {
        table.row(vec![
            item.id.to_string().into(),
            Cell::new(item.status.clone(), mood(&item.status)),
            item.priority.map(|priority| priority.to_string()).unwrap_or_default().into(),
            item.assignee.clone().unwrap_or_default().into(),
            item.updated_at.map(time::ago).unwrap_or_default().into(),
            item.store.clone().into(),
            item.title.clone().into(),
        ]);
    }
    if table.is_empty() {
        note("no work; make some with `gtctl work create TITLE`");
        return Ok(Code::Done);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    Ok(Code::Done)
}

fn changed(cx: &mut Context, done: &str, change: &WorkChange) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if change.dry_run && !change.already {
        screen.plan(&change.plan)?;
        return Ok(Code::Done);
    }
    screen.line(match &change.work {
        _ if change.accepted => "accepted; follow it with `gtctl events -f --kind 'work.*'`".to_owned(),
        Some(item) if change.already => format!("{} is {} already", item.id, item.status),
        Some(item) => format!("{done} {}: {}", item.id, plain(&item.title)),
        None => done.to_owned(),
    })?;
    Ok(Code::Done)
}

fn mood(status: &str) -> Tone {
    match status {
        "hooked" | "in_progress" => Tone::Good,
        "blocked" => Tone::Warn,
        _ => Tone::Plain,
    }
}

/// An item on a card.
#[must_use]
pub fn card(item: &Item, paint: Paint) -> Vec<String> {
    let mut fields = vec![("Status", paint.text(mood(&item.status), &plain(&item.status)))];
    let mut add = |title: &'static str, text: Option<String>| {
        fields.extend(text.filter(|text| !text.is_empty()).map(|text| (title, text)));
    };
    add("Assignee", item.assignee.as_deref().map(plain));
    add("Priority", item.priority.map(|priority| priority.to_string()));
    add("Store", Some(item.store.clone()));
    add("Created", item.created_at.map(time::full));
    add("Updated", item.updated_at.map(time::full));
    add("Closed", item.closed_at.map(time::full));
    let mut out = vec![format!("{} - {}", paint.strong(item.id.as_str()), plain(&item.title))];
    out.extend(fields.iter().map(|(title, text)| format!("  {} {text}", paint.dim(&format!("{title:>8}:")))));
    if let Some(description) = &item.description {
        out.push(String::new());
        out.extend(description.lines().map(|line| format!("  {}", plain(line)).trim_end().to_owned()));
    }
    out
}
