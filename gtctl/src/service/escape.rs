//! Texts in the forms that service managers' files and names want them. Pure.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path as the instance of a unit: `/home/me/my town` is `home-me-my\x20town`. What `systemd-escape --path` makes
/// of it, and `%f` makes a path again (systemd.unit(5)). The path has to be absolute, without `.` and `..`.
#[must_use]
pub fn instance(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let parts: Vec<&[u8]> =
        bytes.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    let mut out = String::with_capacity(bytes.len());
    for byte in parts.join(&b'/') {
        match byte {
            b'/' => out.push('-'),
            b'.' if out.is_empty() => out.push_str("\\x2e"),
            b'.' | b':' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out
}

/// A text as one quoted word of a unit file: nothing in it is taken for a quote, an escape or a specifier.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '%' => out.push_str("%%"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A text between two tags of XML. Control characters cannot be written there at all and are left out.
#[must_use]
pub fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A short mark that differs for different texts: 64 bits of FNV-1a, which stays the same for ever.
#[must_use]
pub fn mark(text: &[u8]) -> String {
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each was made by `systemd-escape --path`.
    #[test]
    fn paths_become_instances_as_the_manager_makes_them() {
        let cases = [
            ("/home/me/town", "home-me-town"),
            ("/home/me/my town", r"home-me-my\x20town"),
            ("/home/me/a-b_c.d:e", r"home-me-a\x2db_c.d:e"),
            ("/.hidden/.x", r"\x2ehidden-.x"),
            ("//a///b/", "a-b"),
            ("/tmp/\"to%wn\\", r"tmp-\x22to\x25wn\x5c"),
            ("/tmp/Grüße", r"tmp-Gr\xc3\xbc\xc3\x9fe"),
            ("/", "-"),
        ];
        for (path, expected) in cases {
            assert_eq!(instance(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn nothing_in_a_quoted_word_means_anything() {
        assert_eq!(quoted(r#"/a b/50%/"q"\n"#), r#""/a b/50%%/\"q\"\\n""#);
        assert_eq!(quoted("a\nb"), r#""a\x0ab""#);
    }

    #[test]
    fn xml_and_marks() {
        assert_eq!(xml("a<b>&\"c\"\u{1}"), "a&lt;b&gt;&amp;\"c\"");
        assert_eq!(mark(b""), "cbf29ce484222325");
        assert_eq!(mark(b"a"), "af63dc4c8601ec8c");
    }
}
