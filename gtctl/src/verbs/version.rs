//! `gtctl version`: ours, and the daemon's if one answers at once.

use std::time::Duration;

use gtd_proto::PROTOCOL;
use serde_json::json;

use crate::client::Session;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;

/// How long the daemon may take: the version of this program is known without it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Runs the verb.
///
/// # Errors
/// When stdout cannot be written.
pub async fn run(cx: &mut Context) -> Result<Code, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let daemon = match cx.target() {
        Ok(target) => Session::open_within(&target, PATIENCE).await.ok().map(|open| open.hello.body.clone()),
        Err(_) => None,
    };
    if cx.screen.json {
        let daemon = daemon
            .map(|hello| json!({ "version": hello.version, "protocol": hello.protocol, "pid": hello.pid }));
        cx.screen
            .envelope("version", &json!({ "version": version, "protocol": PROTOCOL, "daemon": daemon }))?;
        return Ok(Code::Done);
    }
    cx.screen.line(format!("gtctl {version}, protocol {PROTOCOL}"))?;
    if let Some(hello) = daemon {
        cx.screen.line(format!("gtd {}, protocol {}, pid {}", hello.version, hello.protocol, hello.pid))?;
    }
    Ok(Code::Done)
}
