//! Which conversation a start leads: the agent's last one, or a new one; and whether an end shows that the
//! last one is not there any more.
//!
//! Pure. Must never take an end for the loss of a conversation that the agent had begun to speak in.

use std::time::Duration;

use gtd_proto::{InstanceId, Role};
use serde::{Deserialize, Serialize};

use super::launch::Conversation;
use super::order::{EndedBy, Ending};

/// Longest id of a conversation, in bytes. UUIDs have 36.
const ID_MAX: usize = 128;

/// The conversation that an agent led last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// The settings entry or preset that led it; empty when a daemon died before that was known.
    pub preset: String,
    /// The account that it was led under.
    pub account: Option<String>,
}

/// What a start may lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    /// The id of a new one.
    pub fresh: String,
    /// The one it may go on with.
    pub kept: Option<Kept>,
}

/// Whether agents of a role go on with their conversation: workers do, and who talks with people. Patrols begin
/// each round with nothing: what they must know is in the town.
#[must_use]
pub fn resumes(role: Role) -> bool {
    match role {
        Role::Polecat | Role::Crew | Role::Mayor => true,
        Role::Witness | Role::Refinery | Role::Deacon | Role::Boot | Role::Unknown => false,
    }
}

/// The id of the conversation that an instance begins: made from the instance's, which is in the ledger before
/// the launch, and of the version that programs expect of a random one.
#[must_use]
pub fn fresh(instance: &InstanceId) -> String {
    let made = uuid::Uuid::parse_str(instance.as_str())
        .map(|id| uuid::Builder::from_random_bytes(*id.as_bytes()).into_uuid().to_string());
    made.unwrap_or_else(|_| instance.to_string())
}

/// The conversation of a start with this preset and account: another program does not know it, and another
/// account does not have it.
#[must_use]
pub fn choose(talk: &Talk, preset: &str, account: Option<&str>) -> Conversation {
    let kept = talk.kept.as_ref().filter(|kept| {
        // Tried where it is not known who led it: a wrong try falls back to a new one.
        kept.preset.is_empty() || (kept.preset == preset && kept.account.as_deref() == account)
    });
    match kept {
        Some(kept) => Conversation::Resume(kept.id.clone()),
        None => Conversation::New(talk.fresh.clone()),
    }
}

/// Whether a text can be the id of a conversation: it becomes an argument, and must never be taken for an option.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() <= ID_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/'))
}

/// What programs say when they do not have a conversation, in lower case.
const UNKNOWN_TO_THEM: [&str; 8] = [
    "no conversation found",
    "no such conversation",
    "conversation not found",
    "no such session",
    "session not found",
    "no session found",
    "no saved session",
    "thread not found",
];

/// Why an end shows that the conversation an instance was to go on with is not there any more: it ended within
/// `min_uptime` of its own accord and without a word, and with an error or with a sentence that says so.
#[must_use]
pub fn lost(ending: &Ending, reported: bool, uptime: Duration, min_uptime: Duration) -> Option<String> {
    let of_itself = ending.by == EndedBy::Agent && ending.limit.is_none() && ending.oom.is_none();
    if reported || uptime >= min_uptime || !of_itself {
        return None;
    }
    // Of a signal it died of something else.
    let code = ending.code.filter(|_| ending.signal.is_none())?;
    let says = ending.output.iter().find(|line| {
        let line = line.to_lowercase();
        UNKNOWN_TO_THEM.iter().any(|words| line.contains(words))
    });
    match says {
        Some(line) => Some(format!("it said: {}", line.trim().chars().take(200).collect::<String>())),
        None if code != 0 => {
            Some(format!("it ended with code {code} a moment after it was to go on with it"))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use gtd_proto::Timestamp;

    use super::*;
    use crate::agents::order::{Oom, ProviderLimit};

    #[test]
    fn a_conversation_goes_on_with_the_same_program_and_account_only() {
        let talk = |preset: &str, account: Option<&str>| Talk {
            fresh: "new".into(),
            kept: Some(Kept { id: "old".into(), preset: preset.into(), account: account.map(str::to_owned) }),
        };
        let (new, old) = (Conversation::New("new".into()), Conversation::Resume("old".into()));
        for (talk, preset, account, expected) in [
            (talk("claude", None), "claude", None, &old),
            (talk("claude", Some("work")), "claude", Some("work"), &old),
            (talk("claude", Some("work")), "claude", Some("home"), &new),
            (talk("claude", Some("work")), "claude", None, &new),
            (talk("claude", None), "claude", Some("work"), &new),
            (talk("claude", None), "haiku", None, &new),
            (talk("", None), "claude", Some("work"), &old),
            (Talk { fresh: "new".into(), kept: None }, "claude", None, &new),
        ] {
            assert_eq!(&choose(&talk, preset, account), expected, "{talk:?} {preset} {account:?}");
        }
    }

    #[test]
    fn workers_go_on_and_patrols_begin_anew() {
        for role in [Role::Polecat, Role::Crew, Role::Mayor] {
            assert!(resumes(role), "{role}");
        }
        for role in [Role::Witness, Role::Refinery, Role::Deacon, Role::Boot, Role::Unknown] {
            assert!(!resumes(role), "{role}");
        }
    }

    #[test]
    fn a_new_id_is_a_random_uuid_by_its_looks_and_the_same_for_an_instance() {
        let instance = InstanceId::generate();
        let id = fresh(&instance);
        assert_eq!(id, fresh(&instance));
        assert_ne!(id, fresh(&InstanceId::generate()));
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4);
        assert!(is_id(&id));
    }

    #[test]
    fn no_id_can_be_taken_for_an_option_or_a_text() {
        for good in ["a", "0198-ab", "T-5b", "threads/1", "ses_1.2:3"] {
            assert!(is_id(good), "{good}");
        }
        let long = "x".repeat(ID_MAX + 1);
        for bad in ["", "-x", "--help", "a b", "a\n", "\u{e9}", "$(x)", long.as_str()] {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn only_an_early_end_of_its_own_without_a_word_loses_a_conversation() {
        let plain = || Ending {
            pid: None,
            started_at: None,
            ended_at: Timestamp::UNIX_EPOCH,
            code: Some(1),
            signal: None,
            by: EndedBy::Agent,
            exec_error: None,
            output: Vec::new(),
            usage: gtd_proto::exit::Usage::default(),
            client_activity: None,
            limit: None,
            oom: None,
            said: None,
            detected_by: "pidfd",
            detect_ms: None,
        };
        let (soon, min) = (Duration::from_secs(1), Duration::from_secs(10));
        let clean = |said: &str| Ending { code: Some(0), output: vec![said.into()], ..plain() };
        let limit = Some(ProviderLimit { line: "limit".into(), wait: None });
        let cases: [(&str, Ending, bool, Duration, bool); 11] = [
            ("an error at once", plain(), false, soon, true),
            ("it had reported", plain(), true, soon, false),
            ("it lived", plain(), false, min, false),
            ("a clean end", clean("bye"), false, soon, false),
            (
                "a clean end with the words",
                clean("No conversation found with session ID: x"),
                false,
                soon,
                true,
            ),
            ("the words after a report", clean("No conversation found"), true, soon, false),
            ("a signal", Ending { code: None, signal: Some(9), ..plain() }, false, soon, false),
            ("its pane was closed", Ending { by: EndedBy::PaneClosed, ..plain() }, false, soon, false),
            ("somebody ended it", Ending { by: EndedBy::Term, ..plain() }, false, soon, false),
            ("a limit of its provider", Ending { limit, ..plain() }, false, soon, false),
            ("want of memory", Ending { oom: Some(Oom::Likely), ..plain() }, false, soon, false),
        ];
        for (what, ending, reported, uptime, expected) in cases {
            assert_eq!(lost(&ending, reported, uptime, min).is_some(), expected, "{what}");
        }
    }
}
