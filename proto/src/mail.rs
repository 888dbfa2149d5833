//! Mail between agents, people and the daemon, as the built-in mailbox keeps it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answers::answers;
use crate::{PlanStep, Timestamp};

/// Longest subject, in bytes: it is shown in a line.
pub const SUBJECT_MAX: usize = 500;
/// Longest body, in bytes: a page for a reader, not a file.
pub const BODY_MAX: usize = 64 << 10;

/// How a person is called in mail. `human` and `person` mean the same.
pub const PERSON: &str = "overseer";
/// How the daemon is called where it writes itself. It reads no mail.
pub const DAEMON: &str = "daemon";

/// One mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mail {
    /// Its id: `m-12`.
    pub id: String,
    /// Who wrote it: an agent's address, `overseer` for a person, or `daemon`.
    pub from: String,
    /// For whom it is: an agent's address, or `overseer`.
    pub to: String,
    /// What it is about, in a line.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// When it was sent.
    pub at: Timestamp,
    /// Whoever it is for has read it.
    pub read: bool,
    /// It was put aside, and is in no inbox any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
}

/// What is in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inbox {
    /// Whose it is: an agent's address, or `overseer`.
    #[serde(rename = "for")]
    pub whose: String,
    /// How many of its mails were not read yet.
    pub unread: u64,
    /// The mails, newest first.
    pub items: Vec<Mail>,
}

answers! {
/// The answer to sending, reading or archiving a mail.
MailChange {
    /// The mail afterwards; absent from a plan to send one, and when the sending was not waited for.
    #[serde(flatten)]
    mail: Option<Mail>,
}
}

/// Parameters of `mail.*`.
pub(crate) mod params {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use crate::params::{Params, changes};

    changes! {
    /// `mail.send`
    MailSend {
        /// For whom: an agent's address in any form (`alpha/witness`, `alpha/nux`, `mayor/`), or `overseer`.
        to: String,
        /// What it is about, in a line.
        subject: String,
        /// What it says.
        #[serde(default)]
        body: String,
    }

    /// `mail.read`
    MailRead {
        /// The mail's id.
        id: String,
    }

    /// `mail.archive`
    MailArchive {
        /// The mail's id.
        id: String,
    }
    }

    /// `mail.inbox`
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct MailInbox {
        /// Whose: the caller's own unless given.
        #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
        pub whose: Option<String>,
        /// Only what was not read yet.
        #[serde(default)]
        pub unread: bool,
    }

    impl Params for MailInbox {
        const FIELDS: &'static [&'static str] = &["for", "unread"];
    }
}
