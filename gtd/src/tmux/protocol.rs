//! What a control connection says.
//!
//! Owns the pure parser of `%begin … %end` blocks and notifications. It must never guess: a line that does
//! not belong where it stands is an error, after which the connection is of no more use. The text of a block
//! may hold anything (a pane's contents, say); only the very words of its `%begin` end it.

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The output of one command.
    Block {
        /// Whether it answers a line we sent. Blocks of the attach itself and of hooks do not.
        ours: bool,
        /// Whether the command succeeded.
        ok: bool,
        /// The lines, each with its newline.
        body: Vec<u8>,
    },
    /// Something happened: the word after `%`.
    Notification(String),
    /// The connection ends, with a reason where one was given.
    Exit(String),
}

/// Why a connection cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    /// A line outside a block that is no notification.
    #[error("unexpected line {0:?}")]
    Unexpected(String),
    /// A block or a line longer than [`MAX_BLOCK`].
    #[error("a reply of more than {MAX_BLOCK} bytes")]
    TooLong,
}

/// Longest block or line: 1,000 panes take 0.4 MB in a listing, a full history of 2,000 wide lines 2 MB.
const MAX_BLOCK: usize = 16 << 20;

/// Takes bytes as they come and yields items.
#[derive(Debug, Default)]
pub(super) struct Parser {
    partial: Vec<u8>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// Time, number and flags, as `%begin` gave them and `%end` must repeat them.
    guard: Vec<u8>,
    body: Vec<u8>,
}

impl Parser {
    /// Takes the next bytes and appends what they complete.
    ///
    /// # Errors
    /// The stream is not what tmux sends. Nothing later may be trusted.
    pub(super) fn push(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), ProtocolError> {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            if piece.last() != Some(&b'\n') {
                self.partial.extend_from_slice(piece);
            } else if self.partial.is_empty() {
                self.line(piece, items)?;
            } else {
                self.partial.extend_from_slice(piece);
                let line = std::mem::take(&mut self.partial);
                self.line(&line, items)?;
            }
            if self.partial.len() > MAX_BLOCK {
                return Err(ProtocolError::TooLong);
            }
        }
        Ok(())
    }

    /// One line with its newline.
    fn line(&mut self, raw: &[u8], items: &mut Vec<Item>) -> Result<(), ProtocolError> {
        let line = raw.strip_suffix(b"\n").unwrap_or(raw);
        if let Some(mut open) = self.open.take() {
            let ok = ends(line, b"%end ", &open.guard);
            if ok || ends(line, b"%error ", &open.guard) {
                let ours = open.guard.ends_with(b" 1");
                items.push(Item::Block { ours, ok, body: open.body });
                return Ok(());
            }
            open.body.extend_from_slice(raw);
            if open.body.len() > MAX_BLOCK {
                return Err(ProtocolError::TooLong);
            }
            self.open = Some(open);
            return Ok(());
        }
        let unexpected = || ProtocolError::Unexpected(excerpt(line));
        let text = line.strip_prefix(b"%").ok_or_else(unexpected)?;
        let (word, rest) = match text.iter().position(|b| *b == b' ') {
            Some(at) => (text.get(..at).unwrap_or(text), text.get(at + 1..).unwrap_or_default()),
            None => (text, &[][..]),
        };
        match word {
            b"begin" if is_guard(rest) => {
                self.open = Some(Open { guard: rest.to_vec(), body: Vec::new() });
            }
            b"begin" | b"end" | b"error" => return Err(unexpected()),
            b"exit" => items.push(Item::Exit(String::from_utf8_lossy(rest).into_owned())),
            _ if !word.is_empty() && word.iter().all(|b| b.is_ascii_lowercase() || *b == b'-') => {
                items.push(Item::Notification(String::from_utf8_lossy(word).into_owned()));
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }
}

fn ends(line: &[u8], word: &[u8], guard: &[u8]) -> bool {
    line.strip_prefix(word) == Some(guard)
}

/// Three numbers.
fn is_guard(rest: &[u8]) -> bool {
    let mut fields = 0;
    for field in rest.split(|b| *b == b' ') {
        if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
            return false;
        }
        fields += 1;
    }
    fields == 3
}

/// The beginning of a line, for messages.
fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(line.get(..80).unwrap_or(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8], chunk: usize) -> Result<Vec<Item>, ProtocolError> {
        let (mut parser, mut items) = (Parser::default(), Vec::new());
        for piece in bytes.chunks(chunk.max(1)) {
            parser.push(piece, &mut items)?;
        }
        Ok(items)
    }

    fn block(ours: bool, ok: bool, body: &str) -> Item {
        Item::Block { ours, ok, body: body.into() }
    }

    #[test]
    fn a_conversation() {
        let text = "%begin 1795270588 266 0\n%end 1795270588 266 0\n%session-changed $0 _gtd\n\
            %begin 1795270588 273 1\n$1\n%end 1795270588 273 0\n%end 1795270588 273 1\n\
            %begin 1 2 1\nparse error: unknown command: foo\n%error 1 2 1\n%sessions-changed\n%exit too far\n";
        let expected = vec![
            block(false, true, ""),
            Item::Notification("session-changed".into()),
            block(true, true, "$1\n%end 1795270588 273 0\n"),
            block(true, false, "parse error: unknown command: foo\n"),
            Item::Notification("sessions-changed".into()),
            Item::Exit("too far".into()),
        ];
        for chunk in 1..text.len() {
            assert_eq!(parse(text.as_bytes(), chunk).unwrap(), expected);
        }
    }

    #[test]
    fn what_stands_in_the_wrong_place_is_an_error() {
        for text in [
            "junk\n",
            "\n",
            "%\n",
            "%begin 1 2\n",
            "%begin 1 2 x\n",
            "%end 1 2 1\n",
            "%error 1 2 1\n",
            "%A\n",
        ] {
            assert!(matches!(parse(text.as_bytes(), 3), Err(ProtocolError::Unexpected(_))), "{text:?}");
        }
    }

    #[test]
    fn length_is_bounded() {
        let mut parser = Parser::default();
        let mut items = Vec::new();
        let lump = vec![b'x'; 1 << 20];
        let fed = (0..64).find(|_| parser.push(&lump, &mut items).is_err());
        assert!(fed.is_some_and(|n| n <= 16));
        let mut parser = Parser::default();
        parser.push(b"%begin 1 2 1\n", &mut items).unwrap();
        let lines = b"0123456\n".repeat(1 << 17);
        assert!((0..64).any(|_| parser.push(&lines, &mut items).is_err()));
    }

    fn item() -> impl Strategy<Value = (Item, Vec<u8>)> {
        let body = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5);
        let shown =
            (any::<bool>(), any::<bool>(), any::<u32>(), body).prop_map(|(ours, ok, number, lines)| {
                let mut body = Vec::new();
                for line in lines {
                    body.extend(line.into_iter().filter(|b| *b != b'\n'));
                    body.push(b'\n');
                }
                let guard = format!("17 {number} {}", u8::from(ours));
                let mut bytes = format!("%begin {guard}\n").into_bytes();
                bytes.extend(&body);
                bytes.extend(format!("%{} {guard}\n", if ok { "end" } else { "error" }).bytes());
                (Item::Block { ours, ok, body }, bytes)
            });
        let told = "[a-z-]{1,12}"
            .prop_filter("words of blocks", |w| !["begin", "end", "error", "exit"].contains(&w.as_str()));
        let told = (told, "[ -~]{0,20}").prop_map(|(word, rest)| {
            (Item::Notification(word.clone()), format!("%{word} {rest}\n").into_bytes())
        });
        prop_oneof![shown, told]
    }

    proptest! {
        #[test]
        fn any_stream_in_any_pieces(items in prop::collection::vec(item(), 0..12), chunk in 1usize..64) {
            let bytes: Vec<u8> = items.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            let expected: Vec<Item> = items.into_iter().map(|(item, _)| item).collect();
            prop_assert_eq!(parse(&bytes, chunk).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1usize..64) {
            let _ = parse(&bytes, chunk);
        }

        #[test]
        fn words_of_blocks_anywhere(
            lines in prop::collection::vec("(%(begin|end|error|exit)( [0-2]){0,3}|x)?", 0..20),
            chunk in 1usize..64,
        ) {
            let text = lines.join("\n");
            prop_assert_eq!(parse(text.as_bytes(), chunk), parse(text.as_bytes(), text.len()));
        }
    }
}
