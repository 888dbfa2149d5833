//! Reading one line as JSON-RPC 2.0: a request, a notification, or a batch of them.
//!
//! Strict where the specification is, lenient where it is silent: further members of a request are
//! ignored. Ids are kept as the text that the client wrote, so that any number comes back as it went.

use std::sync::Arc;

use gtd_proto::{ErrorKind, RpcError};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An id as the client wrote it: a JSON string, number or null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawId(Arc<str>);

impl RawId {
    /// The id of a reply whose request's id could not be read.
    pub(super) fn null() -> Self {
        Self(Arc::from("null"))
    }

    /// The JSON text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn read(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        let allowed = text == "null"
            || text.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
        allowed.then(|| Self(Arc::from(text)))
    }
}

/// A call that can be checked and made.
#[derive(Debug)]
pub(super) struct Request {
    /// The method's name.
    pub(super) method: String,
    /// Parameters as they were written, not looked at yet.
    pub(super) params: Option<Box<RawValue>>,
    /// None: a notification, which gets no reply.
    pub(super) id: Option<RawId>,
}

/// One element of a batch, or a line's only one.
#[derive(Debug)]
pub(super) enum Entry {
    /// A request.
    Call(Request),
    /// None, and what to answer.
    Bad(RawId, RpcError),
}

impl Entry {
    /// The id that its reply will carry; none when there is no reply.
    pub(super) fn id(&self) -> Option<RawId> {
        match self {
            Self::Call(request) => request.id.clone(),
            Self::Bad(id, _) => Some(id.clone()),
        }
    }
}

/// One line.
#[derive(Debug)]
pub(super) enum Line {
    /// A single entry.
    One(Entry),
    /// Several, answered together; never empty.
    Batch(Vec<Entry>),
}

impl Line {
    /// Reads a line. Whatever is wrong with it becomes an entry that says so.
    pub(super) fn read(bytes: &[u8], most: usize) -> Self {
        let refuse = |error| Self::One(Entry::Bad(RawId::null(), error));
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return refuse(parse_error(format!("not UTF-8 at byte {}", error.valid_up_to()))),
        };
        // The whole text first: what is no JSON is a parse error, however it begins.
        let whole: &RawValue = match serde_json::from_str(text) {
            Ok(whole) => whole,
            Err(error) => return refuse(parse_error(error.to_string())),
        };
        if !whole.get().starts_with('[') {
            return Self::One(entry(whole));
        }
        let list: Vec<&RawValue> = match serde_json::from_str(whole.get()) {
            Ok(list) => list,
            Err(error) => return refuse(parse_error(error.to_string())),
        };
        if list.is_empty() {
            return refuse(invalid("a batch has at least one request"));
        }
        if list.len() > most {
            let why = format!("a batch has at most {most} requests, this one {}", list.len());
            return refuse(invalid(&why).hint("send several batches"));
        }
        Self::Batch(list.into_iter().map(entry).collect())
    }

    /// The ids of the replies that this line is owed.
    pub(super) fn ids(&self) -> Vec<RawId> {
        match self {
            Self::One(entry) => entry.id().into_iter().collect(),
            Self::Batch(list) => list.iter().filter_map(Entry::id).collect(),
        }
    }
}

/// The members of a request. Each as raw text, so that a wrong type in one hides none of the others.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
}

/// A member that is there, be it null.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

fn entry(raw: &RawValue) -> Entry {
    let bad = |id: Option<RawId>, why: &str| Entry::Bad(id.unwrap_or_else(RawId::null), invalid(why));
    // Serde would read an array as the members in their order.
    if !raw.get().starts_with('{') {
        return bad(None, "a request is an object");
    }
    let envelope: Envelope<'_> = match serde_json::from_str(raw.get()) {
        Ok(envelope) => envelope,
        Err(error) => return bad(None, &error.to_string()),
    };
    let id = match envelope.id.map(RawId::read) {
        Some(None) => return bad(None, "id is a string, a number or null"),
        Some(Some(id)) => Some(id),
        None => None,
    };
    let text = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    if text(envelope.jsonrpc).as_deref() != Some("2.0") {
        return bad(id, "jsonrpc is \"2.0\"");
    }
    let Some(method) = text(envelope.method) else {
        return bad(id, "method is a string");
    };
    Entry::Call(Request { method, params: envelope.params.map(RawValue::to_owned), id })
}

fn parse_error(why: String) -> RpcError {
    RpcError::new(ErrorKind::ParseError, format!("the line is not JSON: {why}"))
        .hint("one JSON text per line, in UTF-8")
}

fn invalid(why: &str) -> RpcError {
    RpcError::new(ErrorKind::InvalidRequest, format!("not a JSON-RPC 2.0 request: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(line: &str) -> String {
        let entry = |entry: &Entry| match entry {
            Entry::Call(request) => format!(
                "{} {} {}",
                request.method,
                request.params.as_ref().map_or("-", |raw| raw.get()),
                request.id.as_ref().map_or("-", RawId::as_str)
            ),
            Entry::Bad(id, error) => format!("{} {}", error.code, id.as_str()),
        };
        match Line::read(line.as_bytes(), 3) {
            Line::One(one) => entry(&one),
            Line::Batch(list) => format!("[{}]", list.iter().map(entry).collect::<Vec<_>>().join(", ")),
        }
    }

    #[test]
    fn requests_are_read_as_they_are_written() {
        let cases = [
            (r#"{"jsonrpc":"2.0","method":"m","params":[1],"id":1}"#, "m [1] 1"),
            (r#"{"jsonrpc":"2.0","method":"m"}"#, "m - -"),
            (r#"{"jsonrpc":"2.0","method":"m","id":null}"#, "m - null"),
            (r#"{"jsonrpc":"2.0","method":"m","params":null,"id":-1}"#, "m null -1"),
            (r#"{"jsonrpc":"2.0","method":"m","id":1.50}"#, "m - 1.50"),
            (r#"{"jsonrpc":"2.0","method":"m","id":"\u0041 \"b"}"#, r#"m - "\u0041 \"b""#),
            (
                r#"{"jsonrpc":"2.0","method":"m","id":123456789012345678901234567890e99}"#,
                "m - 123456789012345678901234567890e99",
            ),
            (r#"{"x":{"id":5},"id":4,"method":"m","jsonrpc":"2.0"}"#, "m - 4"),
            (r#"{"jsonrpc":"2\u002e0","\u006dethod":"m","id":1}"#, "m - 1"),
        ];
        for (line, expected) in cases {
            assert_eq!(show(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_request_is_answered_with_its_id_where_that_can_be_read() {
        let cases = [
            ("{", "-32700 null"),
            (r#"{"jsonrpc":"2.0","method":"m","id":1"#, "-32700 null"),
            (r#"{"jsonrpc":"2.0","method":"m","id":1} x"#, "-32700 null"),
            ("5 x", "-32700 null"),
            ("[1,", "-32700 null"),
            ("not json", "-32700 null"),
            ("\u{feff}{}", "-32700 null"),
            ("5", "-32600 null"),
            ("null", "-32600 null"),
            (r#""text""#, "-32600 null"),
            ("{}", "-32600 null"),
            (r#"{"id":7}"#, "-32600 7"),
            (r#"{"jsonrpc":"1.0","method":"m","id":7}"#, "-32600 7"),
            (r#"{"jsonrpc":2.0,"method":"m","id":7}"#, "-32600 7"),
            (r#"{"method":"m","id":"x"}"#, r#"-32600 "x""#),
            (r#"{"jsonrpc":"2.0","method":5,"id":7}"#, "-32600 7"),
            (r#"{"jsonrpc":"2.0","method":null}"#, "-32600 null"),
            (r#"{"jsonrpc":"2.0","method":"m","id":true}"#, "-32600 null"),
            (r#"{"jsonrpc":"2.0","method":"m","id":[1]}"#, "-32600 null"),
            (r#"{"jsonrpc":"2.0","method":"m","id":{}}"#, "-32600 null"),
            (r#"{"jsonrpc":"2.0","method":"m","method":"n","id":1}"#, "-32600 null"),
        ];
        for (line, expected) in cases {
            assert_eq!(show(line), expected, "{line}");
        }
        let Line::One(Entry::Bad(_, error)) = Line::read(b"{\"a\":\"\xff\"}", 3) else { panic!() };
        assert_eq!(error.kind, ErrorKind::ParseError);
    }

    #[test]
    fn batches_are_read_entry_by_entry() {
        assert_eq!(show("[]"), "-32600 null");
        assert_eq!(show("[1]"), "[-32600 null]");
        assert_eq!(
            show(r#"[{"jsonrpc":"2.0","method":"m","id":1}, [], {"jsonrpc":"2.0","method":"n"}]"#),
            "[m - 1, -32600 null, n - -]"
        );
        assert_eq!(show("[1,2,3,4]"), "-32600 null");
        assert_eq!(show(&"[".repeat(100_000)), "-32700 null");
        assert_eq!(show(&format!("{}{}", "[".repeat(50_000), "]".repeat(50_000))), "[-32600 null]");
    }

    proptest! {
        #[test]
        fn no_bytes_can_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Line::read(&bytes, 10);
        }

        #[test]
        fn no_text_made_of_json_pieces_can_break_it(
            pieces in proptest::collection::vec(prop_oneof![
                Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("\"jsonrpc\""), Just("\"2.0\""),
                Just("\"method\""), Just("\"id\""), Just("\"params\""), Just("null"), Just("1"), Just("-1.5e3"), Just("\"\\u0000\""), Just(" "),
            ], 0..40),
        ) {
            let _ = show(&pieces.concat());
        }

        #[test]
        fn any_string_comes_back_as_an_id(id in ".*") {
            let raw = serde_json::to_string(&id).unwrap();
            let line = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{raw}}}"#);
            let Line::One(Entry::Call(request)) = Line::read(line.as_bytes(), 1) else { panic!() };
            let read = request.id.unwrap();
            prop_assert_eq!(read.as_str(), raw);
        }
    }
}
