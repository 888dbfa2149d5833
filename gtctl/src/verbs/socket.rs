//! `gtctl socket`: the path of the daemon's socket, whether or not anybody listens.

use serde_json::json;

use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// Runs the verb.
///
/// # Errors
/// When no town is meant.
pub fn run(cx: &mut Context) -> Result<Code, Failure> {
    let target = cx.target()?;
    let path = target.socket.display().to_string();
    if cx.screen.json {
        cx.screen.envelope("socket", &json!({ "socket": path, "town": target.town }))?;
    } else {
        cx.screen.line(path)?;
    }
    Ok(Code::Done)
}
