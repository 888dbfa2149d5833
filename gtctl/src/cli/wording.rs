//! How the command line is shown, and the other words that it is read by.

use std::ffi::OsString;

use clap::Command;

use super::guess::first_word;

/// The command line as it is shown: roles share their verbs, and each has examples of its own; sentences are folded
/// by the terminal.
#[must_use]
pub fn shown(command: Command) -> Command {
    let renamed = |command: Command, noun: &'static str, of: &'static str, to: &'static str| {
        let renamed = move |command| reworded(command, |help| help.replace(of, to));
        command.mut_subcommand(noun, |role| renamed(role).mut_subcommands(renamed))
    };
    let all = renamed(command, "refinery", "witness", "refinery");
    unfolded(renamed(all, "mayor", "deacon", "mayor"))
}

/// Sentences are written here in lines, and shown in the lines that the terminal has room for.
fn unfolded(command: Command) -> Command {
    reworded(command, unfold).mut_subcommands(unfolded)
}

/// A command with other words behind its flags.
fn reworded(command: Command, words: impl Fn(&str) -> String) -> Command {
    match command.get_after_help().map(ToString::to_string) {
        Some(help) => command.after_help(words(&help)),
        None => command,
    }
}

/// Joins the lines of a paragraph. What is indented, examples and lists, stays as it is.
fn unfold(text: &str) -> String {
    let mut out = String::new();
    let mut open = false;
    for line in text.lines() {
        let prose = !line.is_empty() && !line.starts_with(' ');
        if !out.is_empty() {
            out.push(if open && prose { ' ' } else { '\n' });
        }
        out.push_str(line);
        open = prose;
    }
    out
}

/// `gtctl help witness start` is what `gtctl witness start --help` is.
pub fn with_help(mut words: Vec<OsString>) -> Vec<OsString> {
    let first = first_word(&words);
    if let Some(at) = first.filter(|at| words.get(*at).is_some_and(|word| word == "help")) {
        words.remove(at);
        words.push("--help".into());
    }
    words
}

/// Old hands say `session` for `polecat`. It is a noun of its own as well: what it has itself it keeps, and any
/// other verb of it is a polecat's.
pub fn with_old_names(shown: &Command, mut words: Vec<OsString>) -> Vec<OsString> {
    let (Some(session), Some(_)) = (shown.find_subcommand("session"), shown.find_subcommand("polecat"))
    else {
        return words;
    };
    // Only as the noun.
    let first = first_word(&words);
    let Some(at) = first.filter(|at| words.get(*at).is_some_and(|word| word == "session")) else {
        return words;
    };
    let verb = words
        .iter()
        .skip(at + 1)
        .find(|word| !word.as_encoded_bytes().starts_with(b"-"))
        .and_then(|word| word.to_str());
    if verb.is_some_and(|verb| session.find_subcommand(verb).is_none())
        && let Some(noun) = words.get_mut(at)
    {
        *noun = "polecat".into();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    #[test]
    fn an_old_name_that_is_a_noun_too_means_what_has_the_verb() {
        let shown = Command::new("gtctl")
            .subcommand(Command::new("session").subcommand(Command::new("list")))
            .subcommand(Command::new("polecat"));
        let words = |typed: &str| {
            let words = typed.split(' ').map(Into::into).collect();
            with_old_names(&shown, words)
                .into_iter()
                .map(|w| w.into_string().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        for same in ["gtctl session list", "gtctl session", "gtctl session --help", "gtctl status session x"]
        {
            assert_eq!(words(same), same);
        }
        assert_eq!(words("gtctl --json session start a/nux"), "gtctl --json polecat start a/nux");
        assert_eq!(words("gtctl --town /x session start nux"), "gtctl --town /x polecat start nux");
        assert_eq!(words("gtctl session capture a/nux"), "gtctl polecat capture a/nux");
    }

    #[test]
    fn sentences_are_folded_by_the_terminal_and_lists_are_not() {
        assert_eq!(unfold("a b\nc d.\n\nExamples:\n  x\n  y\nz"), "a b c d.\n\nExamples:\n  x\n  y\nz");
        let (mut wide, mut long) = (Vec::new(), Cli::shown());
        long.build();
        let mut open = vec![&long];
        while let Some(command) = open.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().filter(|line| line.starts_with(' ') && line.chars().count() > 80);
            wide.extend(lines.map(str::to_owned));
            open.extend(command.get_subcommands());
        }
        // A URL, or a pipe, that cannot be any shorter.
        wide.retain(|line| {
            !line.contains("https://") && !line.contains('|') && !line.contains("config.fish")
        });
        assert!(wide.is_empty(), "too wide for a terminal: {wide:#?}");
    }

    #[test]
    fn help_may_come_first() {
        let words = |typed: &str| with_help(typed.split(' ').map(Into::into).collect()).join(" ".as_ref());
        assert_eq!(words("gtctl help"), "gtctl --help");
        assert_eq!(words("gtctl --town /t help witness"), "gtctl --town /t witness --help");
        assert_eq!(words("gtctl help witness start"), "gtctl witness start --help");
        assert_eq!(words("gtctl work create help"), "gtctl work create help");
    }
}
