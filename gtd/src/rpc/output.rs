//! What waits to be written to one client, and since when the client has not taken any of it.

use std::time::Duration;

use tokio::time::Instant;

/// Written at once at the most, and what a client has to take within the write timeout: about the size of a
/// Unix socket's buffer, so that a slow but honest reader passes.
const PIECE: usize = 64 * 1024;

/// An emptied buffer keeps at most this much memory.
const KEPT: usize = 16 * 1024;

/// Bytes on their way to a client.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// When the present piece must have been taken; none when nothing waits.
    deadline: Option<Instant>,
    /// Bytes of the present piece that were taken.
    progress: usize,
    timeout: Duration,
}

impl Output {
    /// Nothing waits yet.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { bytes: Vec::new(), written: 0, deadline: None, progress: 0, timeout }
    }

    /// Adds one line, and its newline. Newlines within, which JSON has between tokens only, become blanks.
    pub(super) fn push(&mut self, line: &[u8], now: Instant) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(line);
        for byte in self.bytes.iter_mut().skip(from).filter(|byte| **byte == b'\n') {
            *byte = b' ';
        }
        self.bytes.push(b'\n');
        if self.deadline.is_none() {
            self.restart(now);
        }
    }

    /// What to write next.
    pub(super) fn piece(&self) -> &[u8] {
        let end = self.bytes.len().min(self.written + PIECE);
        self.bytes.get(self.written..end).unwrap_or_default()
    }

    /// The client took so many bytes of the piece.
    pub(super) fn took(&mut self, count: usize, now: Instant) {
        self.written = (self.written + count).min(self.bytes.len());
        self.progress += count;
        if self.is_empty() {
            self.written = 0;
            self.deadline = None;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
            return;
        }
        if self.progress >= PIECE {
            self.restart(now);
        }
        // Moved rarely enough that each byte is moved once on average.
        if self.written > PIECE && self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.written >= self.bytes.len()
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    /// When the client must have taken the present piece.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn restart(&mut self, now: Instant) {
        self.deadline = Some(now + self.timeout);
        self.progress = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn a_client_has_the_timeout_for_each_piece() {
        let start = Instant::now();
        let mut output = Output::new(TIMEOUT);
        assert_eq!(output.deadline(), None);
        output.push(&vec![b'x'; 3 * PIECE], start);
        assert_eq!(output.deadline(), Some(start + TIMEOUT));
        let later = start + Duration::from_secs(9);
        output.took(PIECE - 1, later);
        assert_eq!(output.deadline(), Some(start + TIMEOUT), "less than a piece is no progress");
        output.took(1, later);
        assert_eq!(output.deadline(), Some(later + TIMEOUT));
        output.took(output.len(), later);
        assert_eq!((output.deadline(), output.is_empty(), output.len()), (None, true, 0));
        assert!(output.bytes.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(steps in proptest::collection::vec((0usize..200_000, 0usize..200_000), 1..12)) {
            let now = Instant::now();
            let mut output = Output::new(TIMEOUT);
            let (mut expected, mut seen) = (Vec::new(), Vec::new());
            for (index, (add, take)) in steps.into_iter().enumerate() {
                let line = vec![b'a' + u8::try_from(index).unwrap(); add];
                output.push(&line, now);
                expected.extend_from_slice(&line);
                expected.push(b'\n');
                let mut left = take;
                while left > 0 && !output.is_empty() {
                    let count = output.piece().len().min(left);
                    seen.extend_from_slice(&output.piece()[..count]);
                    output.took(count, now);
                    left -= count;
                }
                prop_assert_eq!(output.len() + seen.len(), expected.len());
            }
            while !output.is_empty() {
                let count = output.piece().len();
                seen.extend_from_slice(output.piece());
                output.took(count, now);
            }
            prop_assert!(seen == expected);
        }
    }
}
