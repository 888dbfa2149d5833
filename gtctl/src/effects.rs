//! What each verb does to a town, in one table: whether it may ask before it acts, and whether it can plan.
//!
//! A test walks the command line and fails when a verb is missing here, or its flags do not fit its class.

use gtd_proto::method::Effect;

/// One verb.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its words, without `gtctl`.
    pub verb: &'static str,
    /// Its class.
    pub effect: Effect,
    /// Its class with `--force`, which may cost work.
    pub forced: Effect,
    /// It is made for scripts, which know what they do: it never asks.
    pub raw: bool,
}

const fn row(verb: &'static str, effect: Effect) -> Row {
    Row { verb, effect, forced: effect, raw: false }
}

const fn forceable(verb: &'static str) -> Row {
    Row { verb, effect: Effect::Disruptive, forced: Effect::Destructive, raw: false }
}

/// All verbs.
pub const TABLE: &[Row] = &[
    row("status", Effect::Read),
    row("up", Effect::Disruptive),
    row("down", Effect::Destructive),
    row("init", Effect::Write),
    row("rig add", Effect::Write),
    row("rig list", Effect::Read),
    row("rig status", Effect::Read),
    row("rig park", Effect::Disruptive),
    row("rig unpark", Effect::Disruptive),
    row("rig dock", Effect::Disruptive),
    row("rig undock", Effect::Disruptive),
    row("rig remove", Effect::Destructive),
    row("witness start", Effect::Disruptive),
    forceable("witness stop"),
    forceable("witness restart"),
    row("witness status", Effect::Read),
    row("witness attach", Effect::Disruptive),
    row("refinery start", Effect::Disruptive),
    forceable("refinery stop"),
    forceable("refinery restart"),
    row("refinery status", Effect::Read),
    row("refinery attach", Effect::Disruptive),
    row("deacon start", Effect::Disruptive),
    forceable("deacon stop"),
    forceable("deacon restart"),
    row("deacon status", Effect::Read),
    row("deacon attach", Effect::Disruptive),
    row("mayor start", Effect::Disruptive),
    forceable("mayor stop"),
    forceable("mayor restart"),
    row("mayor status", Effect::Read),
    row("mayor attach", Effect::Disruptive),
    row("boot triage", Effect::Disruptive),
    row("boot status", Effect::Read),
    // What is taken from another may be half done there.
    forceable("sling"),
    row("polecat list", Effect::Read),
    row("polecat status", Effect::Read),
    // What is taken from another may be half done there.
    Row { verb: "polecat spawn", effect: Effect::Write, forced: Effect::Destructive, raw: false },
    forceable("polecat start"),
    forceable("polecat stop"),
    forceable("polecat stop-all"),
    forceable("polecat restart"),
    row("polecat remove", Effect::Destructive),
    row("polecat peek", Effect::Read),
    row("polecat attach", Effect::Read),
    row("work create", Effect::Write),
    row("work show", Effect::Read),
    row("work list", Effect::Read),
    row("work close", Effect::Write),
    row("hook show", Effect::Read),
    // What is taken from another may be half done there.
    Row { verb: "hook set", effect: Effect::Write, forced: Effect::Destructive, raw: false },
    row("hook clear", Effect::Write),
    row("convoy create", Effect::Write),
    row("convoy add", Effect::Write),
    row("convoy status", Effect::Read),
    row("convoy list", Effect::Read),
    row("mail send", Effect::Write),
    row("mail inbox", Effect::Read),
    row("mail read", Effect::Write),
    row("mail archive", Effect::Write),
    row("lifecycle request", Effect::Disruptive),
    row("lifecycle list", Effect::Read),
    row("polecat nudge", Effect::Write),
    row("nudge", Effect::Write),
    row("nudge list", Effect::Read),
    row("nudge cancel", Effect::Write),
    row("respond", Effect::Write),
    row("peek", Effect::Read),
    row("attach", Effect::Read),
    row("explain", Effect::Read),
    row("events", Effect::Read),
    row("exits", Effect::Read),
    row("deaths", Effect::Read),
    row("signals", Effect::Read),
    // It asks by itself, item by item, for what is not safe.
    row("doctor", Effect::Disruptive),
    row("orphans list", Effect::Read),
    row("orphans sweep", Effect::Disruptive),
    row("session list", Effect::Read),
    row("crew list", Effect::Read),
    row("towns", Effect::Read),
    row("waiting", Effect::Read),
    row("drain", Effect::Disruptive),
    row("undrain", Effect::Disruptive),
    row("pause", Effect::Disruptive),
    row("resume", Effect::Disruptive),
    row("reset", Effect::Write),
    row("declare-dead", Effect::Disruptive),
    row("wait", Effect::Read),
    row("prime", Effect::Read),
    row("agent report", Effect::Write),
    row("daemon run", Effect::Disruptive),
    row("daemon start", Effect::Disruptive),
    forceable("daemon stop"),
    forceable("daemon restart"),
    row("daemon status", Effect::Read),
    row("daemon reload", Effect::Write),
    row("daemon log-level", Effect::Write),
    row("daemon heartbeat", Effect::Write),
    row("daemon heartbeats", Effect::Read),
    row("daemon install", Effect::Disruptive),
    row("daemon uninstall", Effect::Destructive),
    row("logs", Effect::Read),
    row("config show", Effect::Read),
    row("config check", Effect::Read),
    // As destructive as the method that is called.
    Row { verb: "rpc", effect: Effect::Destructive, forced: Effect::Destructive, raw: true },
    row("socket", Effect::Read),
    row("version", Effect::Read),
    row("completions", Effect::Read),
    // Touches only what it makes itself.
    row("demo", Effect::Write),
];

/// Whether a verb has to ask before it acts: it does when it is destructive. A verb that is not in the table
/// asks; a test makes sure that there is none.
#[must_use]
pub fn asks(verb: &str, force: bool) -> bool {
    TABLE
        .iter()
        .find(|row| row.verb == verb)
        .is_none_or(|row| !row.raw && (if force { row.forced } else { row.effect }) == Effect::Destructive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn leaves(command: &clap::Command, path: &str, out: &mut Vec<(String, bool, bool)>) {
        let mut subs = command.get_subcommands().peekable();
        // Some do something by themselves as well.
        if subs.peek().is_none() || command.get_positionals().next().is_some() {
            let has = |id: &str| command.get_arguments().any(|arg| arg.get_id() == id);
            out.push((path.to_owned(), has("dry_run"), has("force")));
        }
        for sub in subs {
            leaves(sub, format!("{path} {}", sub.get_name()).trim(), out);
        }
    }

    #[test]
    fn every_verb_has_one_row_and_the_flags_of_its_class() {
        let mut verbs = Vec::new();
        leaves(&crate::cli::Cli::command(), "", &mut verbs);
        let mut listed: Vec<&str> = TABLE.iter().map(|row| row.verb).collect();
        let mut built: Vec<&str> = verbs.iter().map(|(verb, ..)| verb.as_str()).collect();
        listed.sort_unstable();
        built.sort_unstable();
        assert_eq!(listed, built);
        for (verb, dry_run, force) in &verbs {
            let row = TABLE.iter().find(|row| row.verb == verb).unwrap();
            assert_eq!(*dry_run, row.effect != Effect::Read, "--dry-run of {verb}");
            if *force {
                assert_eq!(row.forced, Effect::Destructive, "--force of {verb}");
            }
        }
    }

    #[test]
    fn a_verb_never_claims_less_than_its_method() {
        for row in TABLE {
            let method = row.verb.replace(' ', ".");
            if let Some(method) = gtd_proto::method::find(&method) {
                assert!(row.effect >= method.effect, "{}", row.verb);
            }
        }
    }
}
