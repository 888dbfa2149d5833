//! Cutting a stream of bytes into lines, with a bound on the length of one.
//!
//! No I/O and no JSON here. A line that is too long is reported once, as soon as it is known to be, and the
//! rest of it is thrown away as it comes.

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A line that is not blank, without its end.
    Line(&'a [u8]),
    /// A line beyond the bound.
    TooLong,
}

/// An emptied buffer keeps at most this much memory: a thousand idle connections should cost little.
const KEPT: usize = 16 * 1024;

/// Collects bytes and gives out lines.
#[derive(Debug)]
pub(super) struct Framer {
    buffer: Vec<u8>,
    /// Where the first line that was not given out begins.
    start: usize,
    /// Up to here there is no newline after `start`.
    scanned: usize,
    /// The rest of the present line is thrown away.
    discarding: bool,
    limit: usize,
}

impl Framer {
    /// A framer whose lines have at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, discarding: false, limit }
    }

    /// The buffer to append to what was read.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        &mut self.buffer
    }

    /// What was read and not given out yet.
    pub(super) fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The next line that is whole, or found to be too long.
    pub(super) fn next(&mut self) -> Option<Frame<'_>> {
        loop {
            let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.buffer.len();
                let too_long = self.scanned - self.start > self.limit;
                if too_long || self.discarding {
                    self.buffer.clear();
                    (self.start, self.scanned) = (0, 0);
                }
                let first = too_long && !self.discarding;
                self.discarding |= too_long;
                return first.then_some(Frame::TooLong);
            };
            let (begin, end) = (self.start, self.scanned + at);
            (self.start, self.scanned) = (end + 1, end + 1);
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            if end - begin > self.limit {
                return Some(Frame::TooLong);
            }
            if !is_blank(self.buffer.get(begin..end).unwrap_or_default()) {
                return self.buffer.get(begin..end).map(|line| Frame::Line(trim(line)));
            }
        }
    }

    /// The last line of a stream that ended without a newline. Call it when [`Framer::next`] has no more.
    pub(super) fn finish(&mut self) -> Option<Frame<'_>> {
        let begin = self.start;
        self.start = self.buffer.len();
        self.scanned = self.start;
        let rest = self.buffer.get(begin..).unwrap_or_default();
        (!self.discarding && !is_blank(rest)).then(|| Frame::Line(trim(rest)))
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

fn trim(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(limit: usize, chunks: &[&[u8]]) -> Vec<String> {
        let mut framer = Framer::new(limit);
        let mut out = Vec::new();
        let show = |frame: Frame<'_>| match frame {
            Frame::Line(line) => String::from_utf8_lossy(line).into_owned(),
            Frame::TooLong => "TOO LONG".to_owned(),
        };
        for chunk in chunks {
            framer.buffer().extend_from_slice(chunk);
            while let Some(frame) = framer.next() {
                out.push(show(frame));
            }
        }
        if let Some(frame) = framer.finish() {
            out.push(show(frame));
        }
        assert!(framer.finish().is_none());
        out
    }

    #[test]
    fn lines_are_cut_and_blank_ones_dropped() {
        assert_eq!(all(9, &[b"one\ntwo\r\n\n \t\r\nthree"]), ["one", "two", "three"]);
        assert_eq!(all(9, &[b"o", b"ne", b"\n", b"\n"]), ["one"]);
        assert_eq!(all(9, &[b""]), [""; 0]);
    }

    #[test]
    fn a_line_may_be_as_long_as_the_bound_and_no_longer() {
        assert_eq!(all(4, &[b"1234\n12345\n12\n"]), ["1234", "TOO LONG", "12"]);
        assert_eq!(all(4, &[b"12345", b"678\n12\n"]), ["TOO LONG", "12"]);
        assert_eq!(all(4, &[b"12345", b"678", b"9", b"\n", b"12"]), ["TOO LONG", "12"]);
        assert_eq!(all(4, &[b"12345", b"678"]), ["TOO LONG"]);
    }

    #[test]
    fn a_line_thrown_away_takes_no_memory() {
        let mut framer = Framer::new(10);
        for _ in 0..1000 {
            framer.buffer().extend_from_slice(&[b'x'; 1000]);
            let _ = framer.next();
            assert!(framer.pending().is_empty());
        }
        assert!(framer.buffer.capacity() < 10_000);
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), any::<u8>(), Just(b'a')], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..20),
            limit in 1usize..40,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let mut from = 0;
            let mut chunks: Vec<&[u8]> = Vec::new();
            for cut in cuts {
                chunks.push(&text[from..cut]);
                from = cut;
            }
            let whole = all(limit, &[&text]);
            prop_assert_eq!(all(limit, &chunks), whole.clone());
            // And both are what cutting by hand gives.
            let by_hand: Vec<String> = text
                .split(|byte| *byte == b'\n')
                .filter_map(|line| {
                    if line.len() > limit {
                        return Some("TOO LONG".to_owned());
                    }
                    (!is_blank(line)).then(|| String::from_utf8_lossy(trim(line)).into_owned())
                })
                .collect();
            prop_assert_eq!(whole, by_hand);
        }
    }
}
