//! What flags and arguments may say: times, numbers, assignments.

use std::time::Duration;

use gtd_proto::{Address, RigName, WorkId};

/// Longest key of a request: several times a UUID.
const KEY_MAX: usize = 200;

/// A duration as milliseconds on the wire.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where a list of events begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// After this event.
    Seq(u64),
    /// At or after this instant.
    Time(gtd_proto::Timestamp),
}

/// A length of time as people write it.
///
/// # Errors
/// How to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write it as 500ms, 10s, 5m, 2h"))
}

/// A whole number between two others.
pub fn whole(least: u32, most: u32) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ if most == u32::MAX => Err(format!("write a whole number, {least} or more")),
        _ => Err(format!("write a whole number from {least} to {most}")),
    }
}

/// `NAME=VALUE`
///
/// # Errors
/// How to write it.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// A key that several requests may share.
///
/// # Errors
/// How to write it.
pub fn key(text: &str) -> Result<String, String> {
    let fits = (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("write 1 to {KEY_MAX} letters, digits or signs, no spaces"))
    }
}

/// A rig, where somebody may write the address of what is not there yet.
///
/// # Errors
/// Where the rest of it belongs; what no rig can be called.
pub fn rig_alone(text: &str) -> Result<RigName, String> {
    match text.split_once('/') {
        Some((rig, rest)) => {
            let name = rest.trim_start_matches("polecats/");
            Err(format!("that is more than a rig; a name has a flag of its own: {rig} --name {name}"))
        }
        None => RigName::new(text).map_err(|why| why.to_string()),
    }
}

/// The id of a mail, of ours or of another store's.
///
/// # Errors
/// What no store gives out as an id.
pub fn mail_id(text: &str) -> Result<String, String> {
    // Where boxes are kept by a store of work, mails are items of it.
    match WorkId::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("a mail's id looks like m-12; gtctl mail inbox has them".to_owned()),
    }
}

/// An instant, or so long ago.
///
/// # Errors
/// How to write it.
pub fn instant(text: &str) -> Result<gtd_proto::Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = duration(text).map_err(|_| "write an instant as 2026-01-31T12:00:00Z, or so long ago as 5m")?;
    gtd_proto::Timestamp::now().checked_sub(ago).map_err(|_| "that is too long ago".to_owned())
}

/// An instant to come, or so long from now.
///
/// # Errors
/// How to write it.
pub fn ahead(text: &str) -> Result<gtd_proto::Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let wait =
        duration(text).map_err(|_| "write an instant as 2026-01-31T12:00:00Z, or so long from now as 30m")?;
    gtd_proto::Timestamp::now().checked_add(wait).map_err(|_| "that is too far away".to_owned())
}

/// An event's number, or an instant.
///
/// # Errors
/// How to write it.
pub fn since(text: &str) -> Result<Since, String> {
    match text.parse() {
        Ok(seq) => Ok(Since::Seq(seq)),
        Err(_) => instant(text).map(Since::Time),
    }
}

/// An agent's address, if the text is one as it stands.
#[must_use]
pub fn address(text: &str) -> Option<Address> {
    text.parse().ok()
}
