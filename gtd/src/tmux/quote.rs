//! Command lines for tmux.
//!
//! Owns how words become a line of a control connection or the arguments of a `tmux` process, and what a
//! session may be called. It must never let a byte of a word be read as tmux syntax.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::error::TmuxError;

/// tmux hands the arguments of a process to its server in one message of 16,384 bytes with a small header.
/// A control connection takes more; one bound for both keeps the two ways alike.
const MAX_BYTES: usize = 16_000;
/// Longest name of a session, in bytes: fits every status line and file name.
const MAX_NAME: usize = 200;

/// Several commands that tmux runs one after the other; the rest is skipped after one that fails.
#[derive(Clone, Debug, Default)]
pub(super) struct CommandList {
    commands: Vec<Vec<Vec<u8>>>,
}

impl CommandList {
    /// A list with a first command.
    pub(super) fn new<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::default().then(words)
    }

    /// Appends a command.
    #[must_use]
    pub(super) fn then<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.commands.push(words.into_iter().map(|w| w.as_ref().as_bytes().to_vec()).collect());
        self
    }

    /// How many commands there are, which is how many replies come when none fails.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// What is asked for, in a word or two, for messages. Holds nothing of the arguments.
    pub(super) fn name(&self) -> String {
        let first = self.commands.first().and_then(|words| words.first());
        first.map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
    }

    /// The line that does it on a control connection, without its newline.
    ///
    /// # Errors
    /// Refused when a word holds a NUL byte or the whole is too long.
    pub(super) fn line(&self) -> Result<Vec<u8>, TmuxError> {
        let mut line = String::new();
        for words in &self.commands {
            if !line.is_empty() {
                line.push_str(" ; ");
            }
            for (i, word) in words.iter().enumerate() {
                if i > 0 {
                    line.push(' ');
                }
                push_quoted(&mut line, word)?;
            }
        }
        if line.len() > MAX_BYTES {
            return Err(TmuxError::Refused(format!(
                "the command {} takes {} bytes, and tmux takes {MAX_BYTES}; shorten its arguments",
                self.name(),
                line.len()
            )));
        }
        Ok(line.into_bytes())
    }

    /// The line, as an argument of another command.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub(super) fn text(&self) -> Result<String, TmuxError> {
        // Quoted, it is ASCII.
        self.line().map(|line| String::from_utf8_lossy(&line).into_owned())
    }

    /// The arguments that do it in a `tmux` process.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub(super) fn argv(&self) -> Result<Vec<OsString>, TmuxError> {
        // Also checks the words and the length.
        self.line()?;
        let mut argv = Vec::new();
        for words in &self.commands {
            if !argv.is_empty() {
                argv.push(OsString::from(";"));
            }
            for word in words {
                let mut word = word.clone();
                // A `;` at the end of an argument would end the command; `\;` there means a plain one.
                if word.last() == Some(&b';') {
                    word.insert(word.len() - 1, b'\\');
                }
                argv.push(OsString::from_vec(word));
            }
        }
        Ok(argv)
    }

    /// The arguments that do it in a `tmux` process, if the server that answers is the one meant, else print
    /// `otherwise`. The server itself compares, so nothing can come between question and act.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub(super) fn guarded_argv(
        &self,
        pid: i32,
        start_time: u64,
        otherwise: &str,
    ) -> Result<Vec<OsString>, TmuxError> {
        let inner = OsString::from_vec(self.line()?);
        let condition = format!("#{{==:#{{pid}}/#{{start_time}},{pid}/{start_time}}}");
        let otherwise = OsString::from_vec(Self::new(["display-message", "-p", otherwise]).line()?);
        Ok(vec!["if-shell".into(), "-F".into(), condition.into(), inner, otherwise])
    }
}

/// Appends a word so that tmux's parser yields its very bytes: letters and the like bare, everything else as
/// octal escapes between double quotes. These mean the same since 3.2; newlines, `~`, `$` and bytes above
/// 127 need no rules of their own.
fn push_quoted(line: &mut String, word: &[u8]) -> Result<(), TmuxError> {
    if word.contains(&0) {
        return Err(TmuxError::Refused("an argument holds a NUL byte".to_owned()));
    }
    let bare = |b: &u8| b.is_ascii_alphanumeric() || b"-_/.,:=@+".contains(b);
    // `=` and `:` first in a word could be an assignment to the parser's eyes, so quote whenever in doubt.
    if !word.is_empty() && word.iter().all(|b| bare(b) && *b != b'=') {
        line.extend(word.iter().map(|b| char::from(*b)));
        return Ok(());
    }
    line.push('"');
    for byte in word {
        if bare(byte) || *byte == b' ' || b"%{}()[]<>|&;'*?!^".contains(byte) {
            line.push(char::from(*byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(line, "\\{byte:03o}");
        }
    }
    line.push('"');
    Ok(())
}

/// A directory as an argument of `-c`, which tmux expands as a format.
pub(super) fn directory(path: &Path) -> OsString {
    OsString::from_vec(unformatted(path.as_os_str().as_bytes()))
}

/// A text as an argument that tmux expands as a format.
pub(super) fn literal(text: &str) -> String {
    // Only ASCII is put in, so this stays UTF-8.
    String::from_utf8_lossy(&unformatted(text.as_bytes())).into_owned()
}

/// The format that expands to these bytes: each `#` doubled, but those right before a `[` left, since tmux takes
/// them for the beginning of a style there and keeps them all.
fn unformatted(bytes: &[u8]) -> Vec<u8> {
    let mut format = Vec::with_capacity(bytes.len());
    let mut hashes = 0;
    for byte in bytes.iter().map(Some).chain([None]) {
        if byte == Some(&b'#') {
            hashes += 1;
            continue;
        }
        let written = if byte == Some(&b'[') { hashes } else { 2 * hashes };
        format.extend(std::iter::repeat_n(b'#', written));
        hashes = 0;
        format.extend(byte);
    }
    format
}

/// A name that tmux keeps as it is: `.`, `:`, `\`, `$` and what is not a letter, number or printable ASCII become
/// `_` (tmux would rewrite or escape them), so does a `=` in front (an exact match, in a target). Never empty, at
/// most 200 bytes.
pub fn sanitise_name(name: &str) -> String {
    let mut clean: String = name
        .chars()
        .map(|c| {
            let plain = c == ' ' || c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric());
            if plain && !".:\\$".contains(c) { c } else { '_' }
        })
        .collect();
    let end = (0..=MAX_NAME.min(clean.len())).rev().find(|i| clean.is_char_boundary(*i)).unwrap_or(0);
    clean.truncate(end);
    // Spaces at the ends are easily lost on the way through scripts.
    let trimmed = clean.trim();
    match trimmed.strip_prefix('=') {
        Some(rest) => format!("_{rest}"),
        None if trimmed.is_empty() => "_".to_owned(),
        None => trimmed.to_owned(),
    }
}

/// The target that means exactly this session, in the list of commands that creates it. Elsewhere use ids.
pub(super) fn exact(name: &str) -> String {
    format!("={name}:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(words: &[&str]) -> String {
        String::from_utf8(CommandList::new(words).line().unwrap()).unwrap()
    }

    #[test]
    fn quoting() {
        assert_eq!(line(&["kill-pane", "-t", "%7"]), r#"kill-pane -t "%7""#);
        assert_eq!(line(&["x", "", "a b", "~", "$HOME"]), r#"x "" "a b" "\176" "\044HOME""#);
        assert_eq!(line(&["x", "a\"b\\", "é\n", "#{pid}"]), r#"x "a\042b\134" "\303\251\012" "\043{pid}""#);
        assert_eq!(line(&["x", ";", "a;"]), r#"x ";" "a;""#);
        let two = CommandList::new(["a"]).then(["b", "c"]);
        assert_eq!(two.line().unwrap(), b"a ; b c");
        assert_eq!(two.len(), 2);
        assert_eq!(two.argv().unwrap(), ["a", ";", "b", "c"]);
        let semicolons = CommandList::new(["a", "b;", ";", r"c\;", "d;e"]);
        assert_eq!(semicolons.argv().unwrap(), ["a", r"b\;", r"\;", r"c\\;", "d;e"]);
    }

    #[test]
    fn what_tmux_could_not_take_is_refused() {
        assert!(CommandList::new(["x", "a\0b"]).line().is_err());
        let long = "y".repeat(MAX_BYTES);
        assert!(CommandList::new(["x", &long]).line().is_err());
        assert!(CommandList::new(["x", &long]).argv().is_err());
        assert!(CommandList::new(["x", &long[..MAX_BYTES - 2]]).line().is_ok());
    }

    #[test]
    fn formats() {
        for (given, expected) in [
            ("a#b", "a##b"),
            ("##", "####"),
            ("#[x]#", "#[x]##"),
            ("a##[", "a##["),
            ("#{pid}", "##{pid}"),
            ("", ""),
        ] {
            assert_eq!(literal(given), expected);
            assert_eq!(directory(Path::new(given)), expected);
        }
    }

    #[test]
    fn names() {
        let table = [
            ("gt-alpha-witness", "gt-alpha-witness"),
            ("n.4:x", "n_4_x"),
            ("a\tb\u{7f}\n", "a_b__"),
            ("", "_"),
            ("  ", "_"),
            ("$3", "_3"),
            ("=x", "_x"),
            ("a$b", "a_b"),
            (r"a\b", "a_b"),
            ("with space", "with space"),
            ("a#b'c\"d", "a#b'c\"d"),
            ("größe 漢字", "größe 漢字"),
            ("\u{202e}x", "_x"),
        ];
        for (given, expected) in table {
            assert_eq!(sanitise_name(given), expected, "{given:?}");
        }
        assert_eq!(sanitise_name(&"é".repeat(150)).len(), 200);
    }

    proptest! {
        #[test]
        fn a_line_is_one_line_of_plain_ascii(words in prop::collection::vec(prop::collection::vec(1u8.., 0..40), 1..6)) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
            let line = CommandList::new(&words).line().unwrap();
            prop_assert!(line.iter().all(|b| (b' '..=b'~').contains(b)));
        }

        #[test]
        fn a_clean_name_stays(name in ".*") {
            let clean = sanitise_name(&name);
            prop_assert!(!clean.is_empty() && clean.len() <= MAX_NAME + 1);
            prop_assert!(!clean.contains(['.', ':', '\\', '$']));
            prop_assert_eq!(sanitise_name(&clean), clean);
        }
    }
}
