//! Which language a client speaks, told by its first bytes.
//!
//! Lines are served. HTTP is recognised and declined for now, in words that its clients show; this is the
//! place where it will be handed on.

use gtd_proto::{ErrorKind, RpcError};

use super::line::RawId;
use super::reply;

/// A client's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// One JSON text per line.
    Lines,
    /// HTTP/1.1, or the opening of HTTP/2.
    Http,
}

/// What an HTTP client begins with. Anything else is a line, so that a mistyped line gets a JSON answer.
const HTTP: [&[u8]; 8] = [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"PRI "];

/// The language of a client that began with these bytes; none while they could still become either.
#[must_use]
pub fn sniff(first: &[u8]) -> Option<Dialect> {
    if HTTP.iter().any(|verb| first.starts_with(verb)) {
        Some(Dialect::Http)
    } else if HTTP.iter().any(|verb| verb.starts_with(first)) {
        None
    } else {
        Some(Dialect::Lines)
    }
}

/// The answer to an HTTP client: a response that its tools print, with our error as its body.
#[must_use]
pub(super) fn decline_http() -> Vec<u8> {
    let error = RpcError::new(ErrorKind::InvalidRequest, "this daemon does not speak HTTP yet")
        .hint("write one JSON-RPC request per line, for example with socat");
    let mut body = reply::error(&RawId::null(), error);
    body.push(b'\n');
    let mut out = format!(
        "HTTP/1.1 501 Not Implemented\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    out.append(&mut body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_method_and_a_space_make_http() {
        let cases: [(&[u8], Option<Dialect>); 12] = [
            (b"", None),
            (b"G", None),
            (b"OPTIONS", None),
            (b"GET ", Some(Dialect::Http)),
            (b"PRI * HTTP/2.0\r\n", Some(Dialect::Http)),
            (b"POST / HTTP/1.1\r\n", Some(Dialect::Http)),
            (b"GETTING", Some(Dialect::Lines)),
            (b"GET\n", Some(Dialect::Lines)),
            (b"get /", Some(Dialect::Lines)),
            (b"not json", Some(Dialect::Lines)),
            (b"{\"jsonrpc\"", Some(Dialect::Lines)),
            (b" GET ", Some(Dialect::Lines)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(sniff(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
