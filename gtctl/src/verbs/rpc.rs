//! `gtctl rpc`: any method of the socket, parameters as given, the bare result.

use std::io::Read;

use gtd_proto::method::{self, Effect};
use jsonrpsee::core::client::ClientT;
use jsonrpsee::core::traits::ToRpcParams;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::Rpc;
use crate::client;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// Most that is read from stdin; the daemon takes no longer request.
const STDIN_MAX: u64 = 1024 * 1024;

/// Runs the verb.
///
/// # Errors
/// The daemon's, or that the parameters are no JSON.
pub async fn run(cx: &mut Context, args: &Rpc) -> Result<Code, Failure> {
    if method::find(&args.method).is_some_and(|method| method.subscription) {
        return Err(Failure::usage(format!("{} answers with a stream", args.method)).hint("gtctl events -f"));
    }
    let mut given = params(args)?;
    if args.plan.dry_run {
        given = Some(planned(&args.method, given)?);
    }
    let given = given
        .map(|value| serde_json::value::to_raw_value(&value))
        .transpose()
        .map_err(|e| Failure::usage(format!("the parameters cannot be written as JSON: {e}")))?;
    let session = cx.connect().await?;
    let request = session.client.request::<Box<RawValue>, _>(&args.method, Given(given));
    // A method may wait as long as its parameters say; only the person knows.
    let reads = method::find(&args.method).is_some_and(|method| method.effect == Effect::Read);
    let result =
        if reads { client::look(None, request).await? } else { client::change(None, request).await? };
    cx.screen.value(&result)?;
    Ok(Code::Done)
}

fn params(args: &Rpc) -> Result<Option<Value>, Failure> {
    let text = match args.params.as_deref() {
        None => return Ok(None),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .take(STDIN_MAX)
                .read_to_string(&mut text)
                .map_err(|e| Failure::usage(format!("cannot read the parameters from stdin: {e}")))?;
            text
        }
        Some(text) => text.to_owned(),
    };
    let value: Value = serde_json::from_str(&text).map_err(|e| {
        Failure::usage(format!("the parameters are no JSON: {e}"))
            .hint("gtctl rpc METHOD '{\"rig\":\"alpha\"}'")
    })?;
    if value.is_object() || value.is_array() {
        Ok(Some(value))
    } else {
        Err(Failure::usage("the parameters are neither an object nor an array"))
    }
}

fn planned(name: &str, given: Option<Value>) -> Result<Value, Failure> {
    if !method::find(name).is_none_or(|method| method.fields.contains(&"dry_run")) {
        return Err(Failure::usage(format!("{name} cannot be planned: it takes no dry_run")));
    }
    match given.unwrap_or_else(|| Value::Object(serde_json::Map::new())) {
        Value::Object(mut map) => {
            map.insert("dry_run".to_owned(), Value::Bool(true));
            Ok(Value::Object(map))
        }
        _ => Err(Failure::usage("--dry-run needs named parameters, an object")),
    }
}

struct Given(Option<Box<RawValue>>);

impl ToRpcParams for Given {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        Ok(self.0)
    }
}
