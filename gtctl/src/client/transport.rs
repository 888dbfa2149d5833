//! JSON-RPC over a Unix stream socket, one text per line: the two halves that jsonrpsee's client is built on.
//!
//! Nothing here knows a method.

use std::io;

use gtd_proto::RpcError;
use jsonrpsee::core::client::{ReceivedMessage, TransportReceiverT, TransportSenderT};
use jsonrpsee::types::ErrorObjectOwned;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Longest reply that is read: a reply has at most 16 MiB by the protocol, and the frame around it a little.
const LINE_MAX: u64 = 17 * 1024 * 1024;

/// Longest line that is looked at for an error addressed to nobody.
const REFUSAL_MAX: usize = 64 * 1024;

/// The connection failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The daemon ended the connection.
    #[error("it closed the connection")]
    Closed,
    /// The daemon said why before it closed the connection.
    #[error("{0}")]
    Refused(RpcError),
    /// A line without an end.
    #[error("a reply is longer than {LINE_MAX} bytes")]
    TooLong,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Cuts a stream into the two halves.
#[must_use]
pub fn halves(stream: UnixStream) -> (LineSender, LineReceiver) {
    let (read, write) = stream.into_split();
    (LineSender { write }, LineReceiver { read: BufReader::with_capacity(64 * 1024, read) })
}

/// Writes one line per message.
#[derive(Debug)]
pub struct LineSender {
    write: OwnedWriteHalf,
}

impl TransportSenderT for LineSender {
    type Error = TransportError;

    async fn send(&mut self, mut message: String) -> Result<(), TransportError> {
        message.push('\n');
        self.write.write_all(message.as_bytes()).await?;
        Ok(())
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        // The daemon may be gone already; there is nobody to tell.
        let _ = self.write.shutdown().await;
        Ok(())
    }
}

/// Reads one message per line.
#[derive(Debug)]
pub struct LineReceiver {
    read: BufReader<OwnedReadHalf>,
}

impl TransportReceiverT for LineReceiver {
    type Error = TransportError;

    async fn receive(&mut self) -> Result<ReceivedMessage, TransportError> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.read).take(LINE_MAX).read_until(b'\n', &mut line).await?;
            if read == 0 {
                return Err(TransportError::Closed);
            }
            if line.last() != Some(&b'\n') && u64::try_from(read).is_ok_and(|read| read >= LINE_MAX) {
                return Err(TransportError::TooLong);
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if let Some(refused) = addressed_to_nobody(&line) {
                return Err(TransportError::Refused(refused));
            }
            return Ok(ReceivedMessage::Bytes(line));
        }
    }
}

/// An error with `id: null`: the daemon refuses the connection as a whole, or could not read what we sent.
/// jsonrpsee would only say that it knows no such id.
fn addressed_to_nobody(line: &[u8]) -> Option<RpcError> {
    #[derive(Deserialize)]
    struct Orphan {
        #[serde(default)]
        id: Value,
        error: ErrorObjectOwned,
    }
    if line.len() > REFUSAL_MAX || !line.windows(4).any(|four| four == b"null") {
        return None;
    }
    let orphan: Orphan = serde_json::from_slice(line).ok()?;
    orphan.id.is_null().then(|| RpcError::from(&orphan.error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gtd_proto::ErrorKind;

    #[test]
    fn only_an_error_without_an_id_is_addressed_to_nobody() {
        let refused =
            br#"{"jsonrpc":"2.0","id":null,"error":{"code":1018,"message":"too many","data":{"kind":"too_busy"}}}"#;
        assert_eq!(addressed_to_nobody(refused).unwrap().kind, ErrorKind::TooBusy);
        for other in [
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1018,"message":"null"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":null}"#,
            r#"{"jsonrpc":"2.0","method":"events.event","params":{"x":null}}"#,
            "null",
        ] {
            assert!(addressed_to_nobody(other.as_bytes()).is_none(), "{other}");
        }
    }
}
