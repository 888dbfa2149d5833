//! Taking requests out of the deacon's mail: each is written down once, or refused with the reason.

use gtd_proto::lifecycle::LifecycleAction;
use gtd_proto::mail::{DAEMON, Mail};
use gtd_proto::{Address, Timestamp};

use super::words::{self, Sender};
use super::{Clerk, May};
use crate::host::drill;
use crate::ledger::{Claim, Source};
use crate::supervisor::view::Shown;

/// What the key of a request that came by mail begins with; the mail's id follows.
pub(super) const KEY: &str = "mail:";
/// A mail that is older is not done any more: nobody expects it.
const OLDEST: jiff::SignedDuration = jiff::SignedDuration::from_hours(6);

impl Clerk {
    /// Takes what the deacon's mail asks for, and goes on with what is not done with. What was done, in words.
    ///
    /// # Errors
    /// Why mail or requests cannot be read.
    pub async fn look(&self) -> Result<Vec<String>, String> {
        self.look_at(false).await
    }

    /// The same; `shared` is content with what another step has just read.
    pub(super) async fn look_at(&self, shared: bool) -> Result<Vec<String>, String> {
        let _one = self.0.looking.lock().await;
        let mut actions = Vec::new();
        let office = &self.0.office;
        let mail = if shared { office.deacons_mail_for_two().await } else { office.deacons_mail().await };
        let trouble = mail.trouble;
        // The oldest first.
        for mail in mail.items.into_iter().rev() {
            let Some(rest) = words::rest(&mail.subject) else { continue };
            if mail.from == DAEMON {
                continue;
            }
            let claim = self.judge(&mail, rest);
            let words = match (&claim.refused, &claim.agent) {
                (Some(why), _) => format!("{} of {} was refused: {why}", mail.id, claim.sender),
                (None, Some(agent)) => {
                    format!("{} of {agent}, by {} ({})", claim.action, claim.sender, mail.id)
                }
                (None, None) => mail.id.clone(),
            };
            drill::at("lifecycle.intake");
            // One that is there already is gone on with below.
            if self.claim(claim).await.map_err(|error| error.to_string())?.is_some() {
                tracing::info!("lifecycle mail: {words}");
                actions.push(words);
            }
        }
        let open = self.0.handle.ledger().open_lifecycles().await.map_err(|error| error.to_string())?;
        for row in open {
            self.begin(row, std::future::ready(()));
        }
        match trouble {
            None => Ok(actions),
            Some(why) if actions.is_empty() => Err(why),
            Some(why) => {
                tracing::warn!(%why, "not all of the deacon's mail could be read");
                Ok(actions)
            }
        }
    }

    fn judge(&self, mail: &Mail, rest: &str) -> Claim {
        let now = self.0.handle.wall();
        self.0.handle.view().read(|shown| judge(mail, rest, shown, self.0.may.as_ref(), now))
    }
}

/// What a mail comes to. Pure.
fn judge(mail: &Mail, rest: &str, shown: &Shown, may: &dyn May, now: Timestamp) -> Claim {
    let sender = Sender::of(&mail.from, shown);
    let action = words::action(&mail.body);
    let named = words::target(rest, shown);
    let of_sender = match &sender {
        Some(Sender::Agent(agent)) => Some(agent.clone()),
        _ => None,
    };
    let agent = named.as_ref().ok().cloned().flatten().or(of_sender);
    let refused = why_not(mail, sender.as_ref(), &action, &named, agent.as_ref(), may, now);
    Claim {
        instance: agent.as_ref().and_then(|agent| shown.agents.get(agent)?.instance.clone()),
        action: action.unwrap_or(LifecycleAction::Unknown),
        agent,
        sender: sender.as_ref().map_or_else(|| words::quoted(&mail.from), Sender::by),
        peer: None,
        key: Some(format!("{KEY}{}", mail.id)),
        mail: Some(Source {
            id: mail.id.clone(),
            // To nobody there is no answer.
            reply_to: sender.as_ref().map(Sender::mailbox).unwrap_or_default(),
            subject: words::quoted(&mail.subject),
        }),
        why: None,
        refused,
        at: mail.at,
        now,
    }
}

fn why_not(
    mail: &Mail,
    sender: Option<&Sender>,
    action: &Result<LifecycleAction, String>,
    named: &Result<Option<Address>, String>,
    agent: Option<&Address>,
    may: &dyn May,
    now: Timestamp,
) -> Option<String> {
    let Some(sender) = sender else {
        return Some(format!("nobody is called {:?}", words::quoted(&mail.from)));
    };
    if now.duration_since(mail.at) > OLDEST {
        return Some("it is older than 6 hours".to_owned());
    }
    if let Err(why) = action {
        return Some(why.clone());
    }
    if let Err(why) = named {
        return Some(why.clone());
    }
    let Some(agent) = agent else {
        let why = "it does not say about whom: a person writes LIFECYCLE: ADDRESS";
        return Some(why.to_owned());
    };
    if matches!(agent, Address::Crew(..)) {
        return Some(format!("{agent} belongs to a person"));
    }
    may.may(sender, agent).err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::planner::{Facts, Mode, RigFacts};
    use crate::supervisor::rigs::{FileState, Standing};
    use gtd_proto::{AgentName, RigName};

    struct OnlyItself;

    impl May for OnlyItself {
        fn may(&self, sender: &Sender, agent: &Address) -> Result<(), String> {
            match sender {
                Sender::Agent(own) if own != agent => Err("not for others".to_owned()),
                _ => Ok(()),
            }
        }
    }

    fn town() -> Shown {
        let rig = RigFacts {
            file: FileState::default(),
            standing: Standing::default(),
            witness: Mode::Always,
            refinery: Mode::Always,
            path: String::new(),
            prefix: String::new(),
            polecats: vec![AgentName::new("nux").unwrap()],
            crew: vec!["max".to_owned()],
        };
        let rigs = [(RigName::new("alpha").unwrap(), rig)].into();
        Shown { facts: Facts { known: true, rigs, ..Facts::default() }, ..Shown::default() }
    }

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn comes_to(from: &str, subject: &str, body: &str, age: i64) -> Claim {
        let mail = Mail {
            id: "m-1".into(),
            from: from.into(),
            to: "deacon".into(),
            subject: subject.into(),
            body: body.into(),
            at: now().checked_sub(jiff::SignedDuration::from_secs(age)).unwrap(),
            read: false,
            archived: false,
        };
        let rest = words::rest(&mail.subject).unwrap();
        judge(&mail, rest, &town(), &OnlyItself, now())
    }

    #[test]
    fn whose_it_is() {
        let agent = |from, subject| {
            let claim = comes_to(from, subject, "cycle", 0);
            assert_eq!(claim.refused, None, "{from} {subject}");
            claim.agent.unwrap().to_string()
        };
        assert_eq!(agent("alpha/witness", "LIFECYCLE: requesting cycle"), "alpha/witness");
        assert_eq!(agent("alpha/nux", "LIFECYCLE:"), "alpha/polecats/nux");
        assert_eq!(agent("alpha/nux", "lifecycle: alpha-polecat-nux requesting cycle"), "alpha/polecats/nux");
        assert_eq!(agent("overseer", "LIFECYCLE: alpha/witness"), "alpha/witness");
        assert_eq!(agent("deacon/", "LIFECYCLE: deacon requesting restart"), "deacon");
    }

    #[test]
    fn what_is_refused_and_why() {
        for (from, subject, body, age, word) in [
            ("overseer", "LIFECYCLE: requesting cycle", "cycle", 0, "about whom"),
            ("overseer", "LIFECYCLE: alpha/none", "cycle", 0, "alpha/none"),
            ("overseer", "LIFECYCLE: alpha/crew/max", "cycle", 0, "person"),
            ("alpha/crew/max", "LIFECYCLE:", "cycle", 0, "person"),
            ("alpha/witness", "LIFECYCLE:", "please", 0, "please"),
            ("alpha/witness", "LIFECYCLE:", "cycle", 6 * 3_600 + 1, "6 hours"),
            ("alpha/witness", "LIFECYCLE: alpha/nux", "cycle", 0, "not for others"),
            ("gamma/witness", "LIFECYCLE:", "cycle", 0, "gamma/witness"),
        ] {
            let claim = comes_to(from, subject, body, age);
            assert!(claim.refused.unwrap().contains(word), "{from} {subject} {body}");
        }
        // On the edge, and of the future.
        assert_eq!(comes_to("alpha/witness", "LIFECYCLE:", "cycle", 6 * 3_600).refused, None);
        assert_eq!(comes_to("alpha/witness", "LIFECYCLE:", "cycle", -90_000).refused, None);
        // To nobody there is no answer.
        let nobody = comes_to("gamma/witness", "LIFECYCLE:", "cycle", 0);
        assert_eq!(nobody.mail.unwrap().reply_to, "");
    }
}
