//! Verbs about mail.

use clap::{Args, Subcommand};

use super::shared::{Change, Plan, Waiting};
use super::values::mail_id;

/// `mail …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl mail inbox                         your own
  gtctl mail read m-12
  gtctl mail send alpha/witness 'Look after nux' 'It is silent.'
  gtctl mail archive m-12")]
pub enum Mail {
    /// Write to an agent, or to the person
    Send(MailSend),
    /// A mailbox, newest first
    Inbox(MailInbox),
    /// One mail; it counts as read when it is yours
    Read(MailRead),
    /// Put a mail aside
    Archive(MailArchive),
}

/// `mail send`
#[derive(Debug, Args)]
#[command(after_help = "\
TO is an agent in any form (alpha/witness, alpha/polecats/nux, alpha/nux, mayor/, deacon/), or
overseer (human, person) for the person. Who writes is not said: it is whoever runs this.

Examples:
  gtctl mail send alpha/witness 'Look after nux' 'It is silent.'
  gtctl mail send mayor/ Done
  git log -3 | gtctl mail send overseer 'What was merged' -")]
pub struct MailSend {
    /// For whom
    pub to: String,
    /// What it is about, in a line
    #[arg(allow_hyphen_values = true)]
    pub subject: String,
    /// What it says: `-` reads it from stdin; nothing unless given
    #[arg(allow_hyphen_values = true)]
    pub body: Option<String>,
    #[command(flatten)]
    pub change: Change,
}

/// `mail inbox`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl mail inbox                your own: an agent's, or the person's
  gtctl mail inbox alpha/witness --unread")]
pub struct MailInbox {
    /// Whose: your own unless given
    #[arg(value_name = "FOR")]
    pub whose: Option<String>,
    /// Only what was not read yet
    #[arg(long)]
    pub unread: bool,
}

/// `mail read`
#[derive(Debug, Args)]
#[command(after_help = "\
A look at somebody else's mail leaves it new for them.

Example:
  gtctl mail read m-12")]
pub struct MailRead {
    /// The mail's id
    #[arg(value_parser = mail_id)]
    pub id: String,
    #[command(flatten)]
    pub waiting: Waiting,
    #[command(flatten)]
    pub plan: Plan,
}

/// `mail archive`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  gtctl mail archive m-12")]
pub struct MailArchive {
    /// The mail's id
    #[arg(value_parser = mail_id)]
    pub id: String,
    #[command(flatten)]
    pub change: Change,
}
