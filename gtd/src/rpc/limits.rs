//! The bounds of the socket, in one place, and the process' own bound on open files.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bounds of the server. Numbers with a name in the specification are the specification's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; one more is told `too_busy` and closed.
    pub connections: usize,
    /// Bytes of one request line, without its newline.
    pub request_bytes: usize,
    /// Bytes of one reply line, without its newline.
    pub reply_bytes: usize,
    /// Requests in one batch.
    pub batch: usize,
    /// Requests of one batch that run at the same time.
    pub batch_in_flight: usize,
    /// Lines of one connection that run at the same time; further ones are left unread.
    pub in_flight: usize,
    /// Requests of all clients together that run at the same time, those of clients that have left
    /// included; further ones are told `too_busy`.
    pub total_in_flight: usize,
    /// Subscriptions of one connection.
    pub subscriptions: u32,
    /// Bytes that may wait to be written to one client before its requests are left unread.
    pub buffered_bytes: usize,
    /// A client that does not take the next piece of its replies for this long is cut.
    pub write_timeout: Duration,
    /// How long requests under way may take to end once the server shuts down.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            request_bytes: 1024 * 1024,
            reply_bytes: 16 * 1024 * 1024,
            batch: 1000,
            batch_in_flight: 8,
            in_flight: 64,
            total_in_flight: 4096,
            subscriptions: 64,
            // The replies to ten thousand small requests: a client that writes all of them before it reads
            // is served as well.
            buffered_bytes: 4 * 1024 * 1024,
            write_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(2),
        }
    }
}

/// The process' bound on open files, after it was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// The bound before; children that call `select` may want it back. None: no bound.
    pub before: Option<u64>,
    /// The bound now. None: no bound.
    pub now: Option<u64>,
}

impl OpenFiles {
    /// Whether so many files can be open at once.
    #[must_use]
    pub fn allows(&self, files: u64) -> bool {
        self.now.is_none_or(|now| now >= files)
    }
}

/// Raises the soft bound on open files to the hard one: 1,024 connections need more than the usual 1,024
/// files.
///
/// # Errors
/// When the kernel refuses; the old bound stays.
pub fn raise_open_files() -> std::io::Result<OpenFiles> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(OpenFiles { before: limit.current, now: limit.maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_on_open_files_is_raised_as_far_as_it_goes() {
        let first = raise_open_files().unwrap();
        let second = raise_open_files().unwrap();
        assert_eq!(second.before, first.now);
        assert_eq!(second.now, first.now);
        assert!(second.allows(16));
    }
}
