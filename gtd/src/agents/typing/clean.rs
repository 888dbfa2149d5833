//! What a text may be made of before it is typed.
//!
//! Pure. Must never let a byte through that a terminal, or a program that edits lines, takes for a command.

/// Longest line that the kernel hands to a program that reads lines, without its end. Linux keeps 4,096 bytes and
/// macOS 1,024, and throws the rest away.
pub const LINE_MAX: usize = if cfg!(target_os = "macos") { 1_023 } else { 4_094 };

/// The text as it may be typed: without control characters, a tab as a blank (programs complete on it), lines ended
/// by a newline and nothing behind the last one.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => {
                letters.next_if_eq(&'\n');
                out.push('\n');
            }
            '\n' => out.push('\n'),
            '\t' => out.push(' '),
            // Also those of 8 bits, among them the beginning of an escape sequence.
            letter if letter.is_control() => {}
            letter => out.push(letter),
        }
    }
    out.truncate(out.trim_end_matches(['\n', ' ']).len());
    out
}

/// The same for a program that reads lines and so would take each newline for the end of a message.
#[must_use]
pub fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        for (text, typed) in [
            ("plain", "plain"),
            ("-x;'\"$\\ é\u{a0}🦀", "-x;'\"$\\ é\u{a0}🦀"),
            ("two\nlines\r\nthree\rfour\n\n", "two\nlines\nthree\nfour"),
            ("\u{1b}[201~\u{3}rm -rf\u{4}", "[201~rm -rf"),
            ("a\u{9b}2Jb\u{7f}c\u{0}d", "a2Jbcd"),
            ("a\tb ", "a b"),
            ("\n\u{1b}\n", ""),
        ] {
            assert_eq!(clean(text), typed, "{text:?}");
        }
        assert_eq!(one_line("a\n\n  b\nc"), "a b c");
    }

    proptest! {
        #[test]
        fn nothing_else_than_newlines_controls_anything(text in "\\PC*|(?s).{0,200}") {
            let typed = clean(&text);
            prop_assert!(typed.chars().all(|letter| letter == '\n' || !letter.is_control()));
            prop_assert_eq!(clean(&typed), typed.clone());
            prop_assert!(typed.len() <= text.len());
            prop_assert!(!one_line(&typed).contains('\n'));
        }
    }
}
