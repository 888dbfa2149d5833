//! Saying one thing to a client and closing, so that it hears it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a client may take to read why it was refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a refused client may still send before it is cut.
const PATIENT_READS: usize = 256;

/// Writes the words, closes our side, and reads on for a moment: a Unix socket that is closed with unread
/// input resets the other end, which then may not see what was written.
pub(super) async fn refuse(mut stream: UnixStream, words: Vec<u8>) {
    let farewell = async {
        stream.write_all(&words).await?;
        stream.shutdown().await?;
        let mut thrown_away = Vec::with_capacity(4096);
        for _ in 0..PATIENT_READS {
            stream.readable().await?;
            thrown_away.clear();
            match stream.try_read_buf(&mut thrown_away) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // A client that is gone already, or does not listen, has nothing more to be told.
    let _ = timeout(PATIENCE, farewell).await;
}
