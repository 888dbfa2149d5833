//! One report over the socket, with a deadline: no handshake, no runtime, one line there and one back.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use gtd_proto::RpcError;
use gtd_proto::params::AgentReport;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};

use crate::client;

/// Longest answer that is read: it shows one agent.
const ANSWER_MAX: u64 = 256 * 1024;

/// Why the daemon has not taken it.
pub enum Trouble {
    /// It cannot be reached, or does not answer in time.
    Silent(String),
    /// It answered with an error.
    Refused(RpcError),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(why) => f.write_str(why),
            Self::Refused(error) => f.write_str(&error.message),
        }
    }
}

/// Sends it and waits for the answer, which comes when it is in the ledger.
///
/// # Errors
/// When that is not known in time.
pub fn send(socket: &Path, report: &AgentReport, until: Instant) -> Result<Value, Trouble> {
    let silent = |why: &dyn fmt::Display| Trouble::Silent(format!("the daemon did not answer: {why}"));
    let mut stream = client::dial(socket).map_err(|failure| Trouble::Silent(failure.to_string()))?;
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_nonblocking(false).map_err(|error| silent(&error))?;
    stream.set_write_timeout(Some(left)).map_err(|error| silent(&error))?;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "agent.report", "params": report });
    stream.write_all(format!("{request}\n").as_bytes()).map_err(|error| silent(&error))?;
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).map_err(|error| silent(&error))?;
    let mut line = String::new();
    // Each read has the whole of the time that was left: the answer is one line and comes at once.
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut line).map_err(|error| silent(&error))?;
    let mut answer: Value = serde_json::from_str(&line).map_err(|_| silent(&"it closed the connection"))?;
    match answer.get_mut("error").map(Value::take) {
        None | Some(Value::Null) => Ok(answer.get_mut("result").map(Value::take).unwrap_or_default()),
        Some(error) => {
            let wire: ErrorObjectOwned = serde_json::from_value(error).map_err(|error| silent(&error))?;
            Err(Trouble::Refused(RpcError::from(&wire)))
        }
    }
}
