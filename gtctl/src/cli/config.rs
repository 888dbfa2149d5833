//! Verbs about the configuration, the log and the shell.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::values::whole;

/// `config …`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  gtctl config show restart       the keys of one table, with their meanings
  gtctl config show restart.max   one key, in full
  gtctl config check              whether the file can be used; needs no daemon")]
pub enum Config {
    /// Every key, its value, where it comes from, and what it means
    Show(ConfigShow),
    /// Whether a file can be used, and where it is wrong; needs no daemon
    Check(ConfigCheck),
}

/// `config show`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl config show
  gtctl config show restart                      one table
  gtctl config show --json | jq -r '.result.values[] | select(.origin == \"file\").key'")]
pub struct ConfigShow {
    /// Only keys that contain this text
    pub key: Option<String>,
}

/// `config check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl config check && gtctl daemon reload
  gtctl config check new.toml")]
pub struct ConfigCheck {
    /// The file: the town's settings/gtd.toml unless given
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
}

/// `logs`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gtctl logs -n 20
  gtctl logs -f | grep alpha/witness
The file is read, so it works without a daemon too. More in it: gtctl daemon log-level debug")]
pub struct Logs {
    /// Go on as it grows
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, default_value_t = 100, value_parser = whole(0, 100_000), allow_negative_numbers = true)]
    pub lines: u32,
}

/// `completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(gtctl completions bash)   in ~/.bashrc
  source <(gtctl completions zsh)    in ~/.zshrc, after compinit
  gtctl completions fish > ~/.config/fish/completions/gtctl.fish
Names of agents and rigs are asked of the running daemon; without one there are none.")]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// A shell that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

impl Shell {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}
