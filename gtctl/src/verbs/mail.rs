//! `gtctl mail`: send, inbox, read, archive.

use std::io::Read as _;

use gtd_proto::mail::{BODY_MAX, Mail as Item, MailChange};
use gtd_proto::params;
use gtd_proto::rpc::MailClient;

use super::progress;
use crate::cli::{Mail, MailArchive, MailInbox, MailRead, MailSend};
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;
use crate::output::paint::{Paint, Tone};
use crate::output::table::{Cell, Table};
use crate::output::{note, time};

/// What scripts are told of an id that no mail has.
const NO_MAIL: &str = "mail_not_found";

/// Runs the verb.
///
/// # Errors
/// The daemon's; a body that cannot be read, or is too long.
pub async fn run(cx: &mut Context, verb: Mail) -> Result<Code, Failure> {
    match verb {
        Mail::Send(args) => send(cx, args).await,
        Mail::Inbox(args) => inbox(cx, args).await,
        Mail::Read(args) => read(cx, args).await,
        Mail::Archive(args) => archive(cx, args).await,
    }
}

async fn send(cx: &mut Context, args: MailSend) -> Result<Code, Failure> {
    let body = match args.body.as_deref() {
        Some("-") => stdin()?,
        _ => args.body.unwrap_or_default(),
    };
    // A request has an end as well: said here, where it is known what was too long.
    if body.len() > BODY_MAX {
        let why = format!("a body has at most {BODY_MAX} bytes, and this one {}", body.len());
        return Err(Failure::usage(why).hint("put it into a file, and its path into the mail"));
    }
    let session = cx.connect().await?;
    let wait_ms = args.change.wait_ms();
    let request = params::MailSend {
        to: args.to,
        subject: args.subject,
        body,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.own_key(),
        reason: args.change.reason(),
    };
    let doing =
        client::once(request.idempotency_key.clone(), wait_ms, MailClient::send(&session.client, request));
    let answer = progress::with_clock("sending", doing).await?;
    if cx.screen.json {
        cx.screen.envelope("mail.send", &answer)?;
        return Ok(Code::Done);
    }
    changed(cx, &answer.body, |mail| format!("sent {} to {}: {}", mail.id, mail.to, plain(&mail.subject)))
}

/// The whole of stdin, as far as it may be a body and a little more.
fn stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let most = u64::try_from(BODY_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let done = std::io::stdin().lock().take(most).read_to_end(&mut bytes);
    done.map_err(|error| Failure::usage(format!("stdin cannot be read: {error}")))?;
    if bytes.len() > BODY_MAX {
        let why = format!("a body has at most {BODY_MAX} bytes, and stdin has more");
        return Err(Failure::usage(why).hint("put it into a file, and its path into the mail"));
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage("a body is text, and stdin is none in UTF-8"))
}

async fn inbox(cx: &mut Context, args: MailInbox) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let request = params::MailInbox { whose: args.whose, unread: args.unread };
    let answer = client::read(MailClient::inbox(&session.client, request)).await?;
    let (inbox, screen) = (&answer.body, &mut cx.screen);
    if screen.json {
        screen.envelope("mail.inbox", &answer)?;
        return Ok(Code::Done);
    }
    if inbox.items.is_empty() {
        let what = if args.unread { "nothing new" } else { "no mail" };
        note(format!("{what} for {}", inbox.whose));
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["ID", "NEW", "AGO", "FROM", "SUBJECT"]);
    for mail in &inbox.items {
        let new = if mail.read { Cell::from("") } else { Cell::new("new", Tone::Warn) };
        let subject = plain(&mail.subject);
        table.row(vec![
            mail.id.clone().into(),
            new,
            time::ago(mail.at).into(),
            plain(&mail.from).into(),
            subject.into(),
        ]);
    }
    let lines = table.render(screen.paint, screen.width);
    screen.lines(lines)?;
    note(format!("{}: {} unread of {}", inbox.whose, inbox.unread, inbox.items.len()));
    Ok(Code::Done)
}

async fn read(cx: &mut Context, args: MailRead) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let wait_ms = args.waiting.wait_ms();
    let request = params::MailRead {
        id: args.id,
        dry_run: args.plan.dry_run,
        wait_ms,
        idempotency_key: None,
        reason: None,
    };
    let answer = client::change(wait_ms, MailClient::read(&session.client, request)).await;
    let answer = answer.map_err(|failure| failure.not_there(NO_MAIL))?;
    if cx.screen.json {
        cx.screen.envelope("mail.read", &answer)?;
        return Ok(Code::Done);
    }
    let screen = &mut cx.screen;
    match &answer.body {
        MailChange { dry_run: true, plan: steps, .. } => {
            screen.plan(steps)?;
        }
        MailChange { mail: Some(mail), .. } => {
            let lines = card(mail, screen.paint);
            screen.lines(lines)?;
        }
        MailChange { mail: None, .. } => screen.line("accepted")?,
    }
    Ok(Code::Done)
}

async fn archive(cx: &mut Context, args: MailArchive) -> Result<Code, Failure> {
    let session = cx.connect().await?;
    let wait_ms = args.change.wait_ms();
    let request = params::MailArchive {
        id: args.id,
        dry_run: args.change.dry_run(),
        wait_ms,
        idempotency_key: args.change.key(),
        reason: args.change.reason(),
    };
    let answer = client::change(wait_ms, MailClient::archive(&session.client, request)).await;
    let answer = answer.map_err(|failure| failure.not_there(NO_MAIL))?;
    if cx.screen.json {
        cx.screen.envelope("mail.archive", &answer)?;
        return Ok(Code::Done);
    }
    let already = answer.body.already;
    changed(cx, &answer.body, |mail| match already {
        true => format!("{} is archived already", mail.id),
        false => format!("archived {}: {}", mail.id, plain(&mail.subject)),
    })
}

fn changed(
    cx: &mut Context,
    change: &MailChange,
    words: impl FnOnce(&Item) -> String,
) -> Result<Code, Failure> {
    let screen = &mut cx.screen;
    if change.dry_run {
        screen.plan(&change.plan)?;
        return Ok(Code::Done);
    }
    screen.line(match &change.mail {
        Some(mail) if !change.accepted => words(mail),
        _ => "accepted; follow it with `gtctl events -f --kind 'mail.*'`".to_owned(),
    })?;
    Ok(Code::Done)
}

/// A mail as a person reads it.
fn card(mail: &Item, paint: Paint) -> Vec<String> {
    let mut out = vec![format!("{} - {}", paint.strong(&mail.id), plain(&mail.subject))];
    let when = time::full(mail.at);
    for (title, text) in [("From", plain(&mail.from)), ("To", plain(&mail.to)), ("Sent", when)] {
        out.push(format!("  {} {text}", paint.dim(&format!("{title:>4}:"))));
    }
    if !mail.body.is_empty() {
        out.push(String::new());
        out.extend(mail.body.lines().map(|line| format!("  {}", plain(line)).trim_end().to_owned()));
    }
    out
}
