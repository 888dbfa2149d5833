//! Short answers: fields of fixed kinds on one line.
//!
//! Owns their strict reading. It must never make up a field that is not there.

use std::str::FromStr;

use super::error::TmuxError;

/// Fields of fixed kinds, with a blank between them.
pub(super) struct Facts<'a> {
    whole: &'a str,
    /// What has not been read; `None` after the last field.
    left: Option<&'a str>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, TmuxError> {
        let whole = std::str::from_utf8(bytes).map_err(|_| junk("no text", bytes))?;
        Ok(Self { whole, left: Some(whole) })
    }

    /// The next one, whose meaning is `what`.
    pub(super) fn next<T: FromStr>(&mut self, what: &str) -> Result<T, TmuxError> {
        let left = self.left.take().unwrap_or_default();
        let field = match left.split_once(' ') {
            Some((field, rest)) => {
                self.left = Some(rest);
                field
            }
            None => left,
        };
        field.parse().map_err(|_| junk(&format!("{what} is `{field}`"), self.whole.as_bytes()))
    }

    /// A number other than 0.
    pub(super) fn flag(&mut self, what: &str) -> Result<bool, TmuxError> {
        Ok(self.next::<u8>(what)? != 0)
    }

    /// All that is left, as one text.
    pub(super) fn rest(self) -> &'a str {
        self.left.unwrap_or_default()
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), TmuxError> {
        match self.left {
            None => Ok(()),
            Some(more) => Err(junk(&format!("`{more}` is too much"), self.whole.as_bytes())),
        }
    }
}

/// The error for an answer that cannot be read, with its beginning.
pub(super) fn junk(why: &str, answer: &[u8]) -> TmuxError {
    let excerpt = String::from_utf8_lossy(answer.get(..120).unwrap_or(answer));
    TmuxError::Junk(format!("{why}, in {excerpt:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_to_the_last() {
        let mut facts = Facts::new(b"7 0 a b").unwrap();
        assert_eq!(facts.next::<i32>("number").unwrap(), 7);
        assert!(!facts.flag("flag").unwrap());
        assert_eq!(facts.rest(), "a b");
        let mut facts = Facts::new(b"7 8").unwrap();
        facts.next::<i32>("number").unwrap();
        assert!(facts.end().is_err());
        let mut facts = Facts::new(b"7").unwrap();
        facts.next::<i32>("number").unwrap();
        assert!(facts.next::<i32>("more").is_err());
        assert!(Facts::new(b"\xff").is_err());
        assert!(Facts::new(b"").unwrap().next::<i32>("number").is_err());
    }
}
