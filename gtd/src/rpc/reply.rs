//! Writing replies: our own errors, and jsonrpsee's responses with the client's id in place of ours.
//!
//! Every error that leaves here has `data.kind`, whoever made it.

use gtd_proto::{ErrorKind, RpcError};
use jsonrpsee::core::server::MethodResponse;
use jsonrpsee::types::error::OVERSIZED_RESPONSE_CODE;
use jsonrpsee::types::{ErrorObjectOwned, Id};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::line::RawId;

/// The id that jsonrpsee is given: replies are matched to requests by us, so it is always the same.
pub(super) const OUR_ID: Id<'static> = Id::Number(0);

/// How jsonrpsee begins the response to [`OUR_ID`]. A version that begins it otherwise is read properly,
/// only slower.
const BEGINNING: &str = r#"{"jsonrpc":"2.0","id":0,"#;

/// A reply with an error.
pub(super) fn error(id: &RawId, error: RpcError) -> Vec<u8> {
    let error = ErrorObjectOwned::from(error);
    let body = serde_json::to_string(&error)
        .unwrap_or_else(|_| r#"{"code":-32603,"message":"the error could not be written"}"#.to_owned());
    member(id, "error", &body)
}

/// The reply that a method made, or an error in its place when it is too long.
pub(super) fn of_response(id: &RawId, response: MethodResponse, most: usize) -> Vec<u8> {
    let success = response.is_success();
    let (json, notify, _) = response.into_parts();
    if let Some(notify) = notify {
        notify.notify(success);
    }
    let reply = if success { of_success(id, json.get()) } else { of_failure(id, json.get(), most) };
    // The method's result was bounded before; the client's own id may still tip it over.
    if reply.len() > most { error(id, too_long(most)) } else { reply }
}

fn of_success(id: &RawId, text: &str) -> Vec<u8> {
    #[derive(Deserialize)]
    struct Success<'a> {
        #[serde(borrow)]
        result: &'a RawValue,
    }
    if let Some(rest) = text.strip_prefix(BEGINNING) {
        let mut out = beginning(id, rest.len());
        out.extend_from_slice(rest.as_bytes());
        return out;
    }
    match serde_json::from_str::<Success<'_>>(text) {
        Ok(success) => member(id, "result", success.result.get()),
        Err(cause) => error(id, RpcError::internal(format!("the method's response cannot be read: {cause}"))),
    }
}

fn of_failure(id: &RawId, text: &str, most: usize) -> Vec<u8> {
    #[derive(Deserialize)]
    struct Failure {
        error: ErrorObjectOwned,
    }
    let failure = match serde_json::from_str::<Failure>(text) {
        Ok(failure) => failure.error,
        Err(cause) => {
            return error(id, RpcError::internal(format!("the method's error cannot be read: {cause}")));
        }
    };
    if failure.code() == OVERSIZED_RESPONSE_CODE {
        return error(id, too_long(most));
    }
    let mut ours = RpcError::from(&failure);
    // Facts that are no object have no place beside `kind`, and are kept under a name.
    if let Some(data) = failure.data().filter(|data| !data.get().starts_with('{')) {
        ours = ours.with("detail", data);
    }
    error(id, ours)
}

/// The answer in place of one that is too long.
pub(super) fn too_long(most: usize) -> RpcError {
    RpcError::internal(format!("the reply is longer than {most} bytes"))
        .hint("ask for less: a smaller limit, fewer lines, one rig or one agent")
        .with("reason", "reply_too_large")
        .with("limit", most)
}

/// Joins the replies of a batch.
pub(super) fn batch(replies: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(replies.iter().map(|reply| reply.len() + 1).sum::<usize>() + 1);
    for reply in replies {
        out.push(if out.is_empty() { b'[' } else { b',' });
        out.extend_from_slice(reply);
    }
    out.push(b']');
    out
}

fn beginning(id: &RawId, further: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(further + id.as_str().len() + 32);
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.as_str().as_bytes());
    out.push(b',');
    out
}

fn member(id: &RawId, name: &str, body: &str) -> Vec<u8> {
    let mut out = beginning(id, name.len() + body.len() + 4);
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(body.as_bytes());
    out.push(b'}');
    out
}

/// What is said when a request is longer than the bound.
pub(super) fn request_too_large(most: usize) -> RpcError {
    RpcError::new(ErrorKind::RequestTooLarge, format!("the request is longer than {most} bytes"))
        .with("limit", most)
}

/// What is said to requests that come, or are not done, while the daemon goes down.
pub(super) fn shutting_down() -> RpcError {
    RpcError::new(ErrorKind::ShuttingDown, "the daemon is going down").hint("gtctl daemon start")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::core::server::ResponsePayload;
    use jsonrpsee::types::ErrorObject;
    use serde_json::{Value, json};

    fn rewritten(response: MethodResponse) -> Value {
        let reply = of_response(&RawId::null(), response, 1000);
        serde_json::from_slice(&reply).unwrap()
    }

    #[test]
    fn results_keep_their_text_and_get_the_clients_id() {
        let response =
            MethodResponse::response(OUR_ID, ResponsePayload::success(json!({"a": [1, "x"]})), 100);
        assert!(response.as_ref().starts_with(BEGINNING), "jsonrpsee writes otherwise: {response}");
        let reply = of_response(&RawId::null(), response, 1000);
        assert_eq!(
            String::from_utf8(reply).unwrap(),
            r#"{"jsonrpc":"2.0","id":null,"result":{"a":[1,"x"]}}"#
        );
        let slow = of_success(&RawId::null(), r#"{ "id":0, "jsonrpc":"2.0", "result" : [1] }"#);
        assert_eq!(String::from_utf8(slow).unwrap(), r#"{"jsonrpc":"2.0","id":null,"result":[1]}"#);
    }

    #[test]
    fn every_error_has_a_kind() {
        let error =
            |object: ErrorObject<'static>| rewritten(MethodResponse::error(OUR_ID, object))["error"].clone();
        let bare = error(ErrorObject::owned(-32601, "Method not found", None::<()>));
        assert_eq!(bare["data"], json!({"kind": "method_not_found"}));
        let text = error(ErrorObject::owned(-32602, "x", Some("why")));
        assert_eq!(text["data"], json!({"kind": "invalid_params", "detail": "why"}));
        let ours = RpcError::new(ErrorKind::RigNotFound, "no rig").with("known", ["a"]);
        assert_eq!(error(ours.into())["data"], json!({"kind": "rig_not_found", "known": ["a"]}));
        assert_eq!(error(ErrorObject::owned(77, "x", None::<()>))["data"], json!({"kind": "unknown"}));
    }

    #[test]
    fn a_result_beyond_the_bound_becomes_an_error() {
        let big = MethodResponse::response(OUR_ID, ResponsePayload::success("x".repeat(2000)), 1000);
        let reply = rewritten(big);
        assert_eq!(reply["error"]["data"]["reason"], "reply_too_large");
        let tipped = MethodResponse::response(OUR_ID, ResponsePayload::success("x".repeat(970)), 1000);
        assert!(of_response(&RawId::null(), tipped, 1000).len() < 400);
    }

    #[test]
    fn batches_are_arrays() {
        assert_eq!(batch(&[b"1".to_vec(), b"2".to_vec()]), b"[1,2]");
        assert_eq!(batch(&[b"1".to_vec()]), b"[1]");
    }
}
