//! Mail that the `bd` program keeps: items of the type `message`, in the form in which the incumbent's tools write and
//! read them. Their labels say who wrote one and whether it was read; one that is closed was put aside.
//!
//! As with work, success is an object with the id that was asked for.

use gtd_proto::mail::{Mail, PERSON};
use gtd_proto::{Address, Timestamp};
use serde_json::Value;

use super::answer::{self, Said};
use super::run::Output;
use super::{Bd, owned};
use crate::work::{CLOSED, OPEN, Unknown, Why};

/// What the label of its sender begins with.
const FROM: &str = "from:";
/// The label of one that was read.
const READ: &str = "read";
/// What the label begins with by which we know a message again that we made.
const OURS: &str = "gtd:";

/// A message to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Who writes.
    pub from: String,
    /// Whose box, as mail names it.
    pub to: String,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// What it is known by: of each there is one.
    pub key: Option<String>,
}

impl Bd {
    /// All messages that were not put aside, of everybody, the newest first, in one query.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn messages(&self) -> Result<Vec<Mail>, Unknown> {
        let args = owned(&["list", "--json", "--limit", "0", "--type", "message", "--status", OPEN]);
        let mut all = self.ask("list messages", &args, read).await?;
        all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.id.cmp(&a.id)));
        Ok(all)
    }

    /// One message; none where the store says that there is no such item, or where it is none.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn message(&self, id: &str) -> Result<Option<Mail>, Unknown> {
        let args = owned(&["show", id, "--json"]);
        self.ask(&format!("show {id}"), &args, |output| match answer::objects(output) {
            Ok(all) => Ok(all.iter().filter_map(message).find(|mail| mail.id == id)),
            Err(_) if answer::denies(output, id) => Ok(None),
            Err(said) => Err(answer::unexpected(said)),
        })
        .await
    }

    /// Makes a message, unless there is one that is known by the same key; `again` says that there may be.
    ///
    /// # Errors
    /// When the store refuses, or does not say.
    pub async fn send_message(&self, new: &NewMessage, again: bool) -> Result<Mail, Unknown> {
        let ours = new.key.as_deref().map(label);
        if let Some(ours) = ours.as_ref().filter(|_| again) {
            let args =
                owned(&["list", "--json", "--limit", "0", "--all", "--type", "message", "--label", ours]);
            if let Some(there) = self.ask("look for a message", &args, read).await?.pop() {
                return Ok(there);
            }
        }
        let labels = [Some(format!("{FROM}{}", name(&new.from))), ours];
        let labels: Vec<String> = labels.into_iter().flatten().collect();
        let mut args = owned(&["create", "--json", "--type", "message", "--priority", "2"]);
        args.push(format!("--title={}", new.subject));
        args.push(format!("--description={}", new.body));
        args.push(format!("--assignee={}", name(&new.to)));
        args.push(format!("--labels={}", labels.join(",")));
        let output = self.call("create a message", &args).await?;
        let what = |why| self.unknown("create a message", why, output.stderr.clone());
        let made = answer::objects(&output).map_err(|said| what(answer::unexpected(said)))?;
        let id = made.iter().find_map(|made| made.get("id")?.as_str());
        // What a creation prints lacks its labels.
        let id = id.ok_or_else(|| what(Why::Unreadable))?.to_owned();
        Ok(Mail {
            id,
            from: new.from.clone(),
            to: new.to.clone(),
            subject: new.subject.clone(),
            body: new.body.clone(),
            at: made.iter().find_map(created).unwrap_or_else(Timestamp::now),
            read: false,
            archived: false,
        })
    }

    /// Its recipient has read it.
    ///
    /// # Errors
    /// When the store refuses, or does not say.
    pub async fn message_read(&self, id: &str) -> Result<Mail, Unknown> {
        let args = owned(&["update", id, "--add-label", READ, "--json"]);
        self.changed(&format!("mark {id} as read"), id, &args, |mail| mail.read).await
    }

    /// Puts it aside.
    ///
    /// # Errors
    /// When the store refuses, or does not say.
    pub async fn message_aside(&self, id: &str) -> Result<Mail, Unknown> {
        let args = owned(&["close", id, "--json"]);
        self.changed(&format!("close {id}"), id, &args, |mail| mail.archived).await
    }

    /// Changes a message, and looks whether it is as wanted afterwards: a change that was cut off may have happened.
    async fn changed(
        &self,
        what: &str,
        id: &str,
        args: &[String],
        wanted: impl Fn(&Mail) -> bool,
    ) -> Result<Mail, Unknown> {
        let failed = match self.call(what, args).await {
            Ok(output) => match answer::objects(&output) {
                Ok(all) => match all.iter().filter_map(message).find(|mail| mail.id == id) {
                    Some(mail) if wanted(&mail) => return Ok(mail),
                    _ => self.unknown(what, Why::Unreadable, output.stderr),
                },
                Err(said) => self.unknown(what, answer::unexpected(said), output.stderr),
            },
            Err(unknown) => unknown,
        };
        match self.message(id).await {
            Ok(Some(mail)) if wanted(&mail) => Ok(mail),
            _ => Err(failed),
        }
    }
}

fn read(output: &Output) -> Result<Vec<Mail>, Why> {
    match answer::objects(output) {
        Ok(all) => Ok(all.iter().filter_map(message).collect()),
        Err(said) => Err(answer::unexpected(said)),
    }
}

/// An item as a mail; none where it is something else.
fn message(item: &Value) -> Option<Mail> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let labels =
        || item.get("labels").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let kind = text("issue_type");
    if kind != "message" && !labels().any(|label| label == "gt:message") {
        return None;
    }
    let from = labels().find_map(|label| label.strip_prefix(FROM));
    let archived = text("status") == CLOSED;
    Some(Mail {
        id: Some(text("id")).filter(|id| !id.is_empty())?,
        from: from.map(meant).or_else(|| Some(text("created_by"))).unwrap_or_default(),
        to: meant(&text("assignee")),
        subject: text("title"),
        body: text("description"),
        at: created(item)?,
        read: archived || labels().any(|label| label == READ),
        archived,
    })
}

fn created(item: &Value) -> Option<Timestamp> {
    item.get("created_at")?.as_str()?.parse().ok()
}

/// A mailbox as the incumbent's tools write it: `mayor/`, `alpha/nux`.
fn name(whose: &str) -> String {
    match whose.parse::<Address>() {
        Ok(agent @ (Address::Mayor | Address::Deacon)) => format!("{agent}/"),
        Ok(Address::Polecat(rig, name) | Address::Crew(rig, name)) => format!("{rig}/{name}"),
        _ => whose.to_owned(),
    }
}

/// The other way round, as far as the name alone says it: whose `alpha/nux` is only the town knows.
fn meant(name: &str) -> String {
    let name = name.trim().trim_end_matches('/');
    match name {
        "human" | "person" | PERSON => PERSON.to_owned(),
        _ => name.to_owned(),
    }
}

/// The label of a key, whatever characters that has.
fn label(key: &str) -> String {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{OURS}{hash:016x}")
}

/// What an error of the kind "other said" is about, for callers outside.
pub(super) fn first_value(said: Value) -> Result<Vec<Value>, Said> {
    match said {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => Ok(list),
        Value::Object(mut map) => {
            if map.contains_key("schema_version")
                && let Some(data) = map.remove("data")
            {
                return first_value(data);
            }
            match map.get("error").and_then(Value::as_str) {
                Some(error) => Err(Said::Failed(error.chars().take(400).collect())),
                None if map.contains_key("id") => Ok(vec![Value::Object(map)]),
                None => Err(Said::Object(Value::Object(map))),
            }
        }
        _ => Err(Said::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_is_read_as_the_incumbent_writes_it() {
        let item = json!({
            "id": "hq-nrz", "title": "hello", "description": "world", "status": "open", "priority": 2,
            "issue_type": "message", "assignee": "deacon/", "created_at": "2026-11-21T12:24:04.293698751Z",
            "labels": ["from:alpha/nux", "thread:thread-da002e04abaa"],
        });
        let mail = message(&item).unwrap();
        assert_eq!((mail.from.as_str(), mail.to.as_str()), ("alpha/nux", "deacon"));
        assert_eq!((mail.subject.as_str(), mail.body.as_str(), mail.read), ("hello", "world", false));
        let mut read = item.clone();
        read["labels"] = json!(["from:mayor/", "read"]);
        assert!(message(&read).is_some_and(|mail| mail.read && mail.from == "mayor" && !mail.archived));
        read["status"] = json!("closed");
        assert!(message(&read).is_some_and(|mail| mail.archived));
        for (key, value) in [("issue_type", json!("task")), ("created_at", json!("soon")), ("id", json!(""))]
        {
            let mut other = item.clone();
            other[key] = value;
            assert_eq!(message(&other), None, "{key}");
        }
    }

    #[test]
    fn names_are_theirs() {
        for (ours, theirs) in [
            ("mayor", "mayor/"),
            ("deacon", "deacon/"),
            ("alpha/witness", "alpha/witness"),
            ("alpha/polecats/nux", "alpha/nux"),
            ("alpha/crew/max", "alpha/max"),
            ("overseer", "overseer"),
            ("daemon", "daemon"),
        ] {
            assert_eq!(name(ours), theirs);
        }
        assert_eq!(meant("mayor/"), "mayor");
        assert_eq!(meant("human"), "overseer");
        assert_eq!(label("a,b").len(), OURS.len() + 16);
        assert_ne!(label("a"), label("b"));
    }
}
