//! What can go wrong when tmux is asked for something.
//!
//! Owns the error type and the reading of tmux's own messages. An error here never means that a session or a
//! process is dead: only [`TmuxError::NotFound`] says that an object is absent, and only on a server that
//! answered.

use std::path::PathBuf;
use std::time::Duration;

use super::server::ServerId;

/// Why an action on tmux did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TmuxError {
    /// There is no usable tmux program.
    #[error("tmux cannot be used: {why}; {hint}")]
    Unavailable {
        /// What was found instead, with the version where one was told.
        why: String,
        /// What a person can do about it.
        hint: String,
    },
    /// No server answers on the socket. Whether the one we knew is dead is said by the driver's state.
    #[error("no tmux server answers on {}: {why}", socket.display())]
    NoServer {
        /// The socket that was tried.
        socket: PathBuf,
        /// What that was seen from.
        why: String,
    },
    /// tmux did not answer in time. What was asked for may still happen.
    #[error("tmux did not answer within {after:?}: {what}")]
    Unresponsive {
        /// How long was waited.
        after: Duration,
        /// What was waited for.
        what: String,
    },
    /// The server answered that there is no such object.
    #[error("not found in tmux: {what}")]
    NotFound {
        /// tmux's own message.
        what: String,
    },
    /// A session of that name exists.
    #[error("a tmux session named `{name}` exists already")]
    NameTaken {
        /// The name as tmux knows it.
        name: String,
    },
    /// tmux, or we, refused the command for another reason.
    #[error("tmux refused: {0}")]
    Refused(String),
    /// The answer could not be understood. Nothing may be concluded from it.
    #[error("tmux answered something unexpected: {0}")]
    Junk(String),
    /// The ids given belong to another server than the one that is connected.
    #[error("the connected tmux server is {connected}, not {wanted}")]
    WrongServer {
        /// The server the caller meant.
        wanted: Box<ServerId>,
        /// The one that is there, for people.
        connected: String,
    },
}

impl TmuxError {
    /// Reads what tmux said on its standard error or in an `%error` block.
    pub(super) fn from_message(message: &[u8], socket: &std::path::Path) -> Self {
        let text = String::from_utf8_lossy(message).trim().to_owned();
        // The messages of 3.2 to 3.7, all untranslated. `server exited` comes from a server that was ending
        // while it was asked.
        const NO_SERVER: [&str; 3] = ["no server running on", "server exited", "lost server"];
        const NOT_FOUND: [&str; 7] = [
            "can't find session",
            "can't find window",
            "can't find pane",
            "no such session",
            "no such window",
            "no such pane",
            "no current target",
        ];
        // A refused permission, say, is told with the same words and proves nothing.
        let nobody = text.starts_with("error connecting to")
            && ["(No such file or directory)", "(Connection refused)"].iter().any(|end| text.ends_with(end));
        if nobody || NO_SERVER.iter().any(|start| text.starts_with(start)) {
            Self::NoServer { socket: socket.to_path_buf(), why: text }
        } else if NOT_FOUND.iter().any(|start| text.starts_with(start)) {
            Self::NotFound { what: text }
        } else if let Some(name) = text.strip_prefix("duplicate session: ") {
            Self::NameTaken { name: name.to_owned() }
        } else if text.is_empty() {
            Self::Refused("no reason given".to_owned())
        } else {
            Self::Refused(text)
        }
    }

    /// [`TmuxError::Unavailable`] with the usual hint.
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable {
            why: why.into(),
            hint: format!("install tmux {} or newer, or put it on the PATH of gtd", super::version::OLDEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn messages_are_sorted_by_how_they_begin() {
        let read = |text: &str| TmuxError::from_message(text.as_bytes(), Path::new("/s"));
        for nobody in
            ["no server running on /s", "error connecting to /s (No such file or directory)", "server exited"]
        {
            assert_eq!(read(nobody), TmuxError::NoServer { socket: "/s".into(), why: nobody.into() });
        }
        assert!(matches!(read("can't find pane: %9"), TmuxError::NotFound { what } if what.ends_with("%9")));
        assert!(matches!(read("no such session: $4"), TmuxError::NotFound { .. }));
        assert_eq!(read("duplicate session: a b"), TmuxError::NameTaken { name: "a b".into() });
        assert!(matches!(read("error connecting to /s (Permission denied)"), TmuxError::Refused(_)));
        assert_eq!(read(""), TmuxError::Refused("no reason given".into()));
        // A name inside another message decides nothing.
        assert!(matches!(read("bad thing about: can't find pane"), TmuxError::Refused(_)));
    }
}
