//! The version of tmux.
//!
//! Owns reading `tmux -V`. It must never guess: a version that cannot be told is not accepted.

use std::fmt;

/// The oldest version that has what we use: `-N`, flags of `attach-session`, options of panes.
pub const OLDEST: &str = "3.2";
const OLDEST_PARTS: (u32, u32) = (3, 2);
/// The first version whose server survives that sessions change in the moment when a control client connects:
/// before (seen with 3.2, 3.3a and 3.5a) it writes the notice to a client that is not set up yet and crashes, with
/// all its sessions. tmux fixed it in 3.7 (its issue 4980).
const STEADY_PARTS: (u32, u32) = (3, 7);
/// The first OpenBSD release whose tmux (which carries the system's number) is later than 3.2.
const OLDEST_OPENBSD: (u32, u32) = (7, 0);

/// What `tmux -V` printed, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `3.3a`, `3.4-rc1`, `next-3.5`.
    Release(u32, u32),
    /// `openbsd-7.4`.
    OpenBsd(u32, u32),
    /// `master`: built from a working copy.
    Master,
}

impl Version {
    /// Reads the one line of `tmux -V`, such as `tmux 3.3a`, `tmux next-3.5`, `tmux openbsd-7.4` or
    /// `tmux master`; the first word is the program's own file name, so it may go on after `tmux`. `None` when
    /// the line is anything else.
    pub fn parse(line: &str) -> Option<Self> {
        let (program, text) = line.trim().split_once(' ')?;
        if !program.starts_with("tmux") {
            return None;
        }
        let kind = if text == "master" {
            Kind::Master
        } else if let Some(numbers) = text.strip_prefix("openbsd-") {
            let (major, minor) = numbers_of(numbers)?;
            Kind::OpenBsd(major, minor)
        } else {
            let (major, minor) = numbers_of(text.strip_prefix("next-").unwrap_or(text))?;
            Kind::Release(major, minor)
        };
        Some(Self { text: text.to_owned(), kind })
    }

    /// Whether it has all that we use.
    pub fn is_supported(&self) -> bool {
        match self.kind {
            Kind::Release(major, minor) => (major, minor) >= OLDEST_PARTS,
            Kind::OpenBsd(major, minor) => (major, minor) >= OLDEST_OPENBSD,
            Kind::Master => true,
        }
    }

    /// Whether a control client may connect at any moment. To others only when nothing changes on the server.
    pub fn is_steady(&self) -> bool {
        // Of an OpenBSD or a working copy it cannot be told.
        matches!(self.kind, Kind::Release(major, minor) if (major, minor) >= STEADY_PARTS)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `3.3a` → (3, 3); what follows the second number (a letter, `-rc2`) does not matter to us.
fn numbers_of(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (minor, suffix) = rest.split_at_checked(digits)?;
    let known = suffix.is_empty() || suffix.starts_with('-') || (suffix.len() == 1 && suffix.is_ascii());
    if !known {
        return None;
    }
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_in_the_wild() {
        let table = [
            ("tmux 3.3a\n", Some(true)),
            ("tmux 3.2", Some(true)),
            ("tmux 3.2-rc3", Some(true)),
            ("tmux 3.10", Some(true)),
            ("tmux 4.0", Some(true)),
            ("tmux next-3.5", Some(true)),
            ("tmux openbsd-7.4", Some(true)),
            ("tmux master", Some(true)),
            ("tmux-3.4 3.4", Some(true)),
            ("tmux 3.1c", Some(false)),
            ("tmux 3.0", Some(false)),
            ("tmux 2.9a", Some(false)),
            ("tmux next-3.1", Some(false)),
            ("tmux openbsd-6.6", Some(false)),
            ("tmux", None),
            ("tmux 3", None),
            ("tmux three.two", None),
            ("tmux 3.x", None),
            ("tmux 3.2 or so", None),
            ("screen 4.09", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(Version::parse(line).map(|v| v.is_supported()), expected, "{line:?}");
        }
        assert_eq!(Version::parse("tmux 3.3a\n").unwrap().to_string(), "3.3a");
        for (line, steady) in [
            ("tmux 3.6b", false),
            ("tmux 3.7", true),
            ("tmux 3.10", true),
            ("tmux master", false),
            ("tmux 4.0", true),
        ] {
            assert_eq!(Version::parse(line).unwrap().is_steady(), steady, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in ".*") {
            let _ = Version::parse(&text);
            let _ = Version::parse(&format!("tmux {text}"));
        }
    }
}
