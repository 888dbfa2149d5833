//! Colours, where there are any. What a colour says is always said in words too.

use gtd_proto::State;

/// A brush, or none.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// On its way, or waiting.
    Warn,
    /// Not as it should be.
    Bad,
    /// Of less interest.
    Dim,
    /// A heading.
    Strong,
    /// Nothing particular.
    Plain,
}

impl Paint {
    /// A brush that paints, or one that does not.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { on }
    }

    /// The text in its tone.
    #[must_use]
    pub fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
            Tone::Strong => "1",
            Tone::Plain => "",
        };
        if !self.on || code.is_empty() || text.trim().is_empty() {
            return text.to_owned();
        }
        // Only the word is coloured, not the blanks that make it a column.
        let word = text.trim_end();
        let rest = text.get(word.len()..).unwrap_or_default();
        format!("\x1b[{code}m{word}\x1b[0m{rest}")
    }

    /// A heading.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.text(Tone::Strong, text)
    }

    /// Something of less interest.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.text(Tone::Dim, text)
    }
}

/// The tone of a state.
#[must_use]
pub fn tone(state: State) -> Tone {
    match state {
        State::Running => Tone::Good,
        State::Starting
        | State::Stopping
        | State::Backoff
        | State::Throttled
        | State::Held
        | State::Paused => Tone::Warn,
        State::Quarantined | State::Unknown | State::Lingering => Tone::Bad,
        State::Stopped => Tone::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_nothing_is_added() {
        assert_eq!(Paint::new(false).text(Tone::Bad, "unknown  "), "unknown  ");
        assert_eq!(Paint::new(true).text(Tone::Bad, "unknown  "), "\x1b[1;31munknown\x1b[0m  ");
        assert_eq!(Paint::new(true).text(Tone::Good, "  "), "  ");
    }
}
