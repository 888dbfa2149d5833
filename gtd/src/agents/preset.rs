//! The programs that we know how to run as agents.
//!
//! Owns what is particular to each: arguments, how it takes a first text, how a conversation is taken up
//! again, what its screen shows when it waits. Must never decide which of them is used.

/// How a program takes the start-up text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptArg {
    /// As the last argument.
    Last,
    /// As the value of an option.
    Flag(&'static str),
    /// Not in its arguments: it is typed once the agent is ready.
    Typed,
    /// Not at all: the program is no model.
    Never,
}

/// How a program takes up a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// It cannot.
    None,
    /// An option with the conversation's id.
    Flag(&'static str),
    /// Words before the id, in front of all other arguments.
    Subcommand(&'static [&'static str]),
}

/// A program that we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// Its name in settings.
    pub name: &'static str,
    /// The program: none for `script`, which has none of its own.
    pub command: Option<&'static str>,
    /// Its arguments, unless the settings name others.
    pub args: &'static [&'static str],
    /// Environment that it needs to work unattended.
    pub env: &'static [(&'static str, &'static str)],
    /// How it takes the start-up text.
    pub prompt: PromptArg,
    /// How its input line begins when it waits for input, where that is known.
    pub prompt_prefix: Option<&'static str>,
    /// How it takes up a conversation.
    pub resume: Resume,
    /// The option that gives a new conversation its id, where there is one.
    pub conversation_flag: Option<&'static str>,
    /// The option that names a file with settings, where there is one.
    pub settings_flag: Option<&'static str>,
    /// The variable that names the directory of its own configuration, and so its account.
    pub config_dir_env: Option<&'static str>,
    /// Names that its processes show. For people: nothing is ever found or signalled by them.
    pub process_names: &'static [&'static str],
    /// Whether it can run programs of ours on its events, and so report by itself.
    pub report_hooks: bool,
}

const PLAIN: Preset = Preset {
    name: "",
    command: None,
    args: &[],
    env: &[],
    prompt: PromptArg::Typed,
    prompt_prefix: None,
    resume: Resume::None,
    conversation_flag: None,
    settings_flag: None,
    config_dir_env: None,
    process_names: &[],
    report_hooks: false,
};

/// The preset of whoever names none.
pub const DEFAULT: &str = "claude";

/// All presets. Arguments are those with which each program works without asking a person first.
pub static PRESETS: [Preset; 9] = [
    Preset {
        name: "claude",
        command: Some("claude"),
        args: &["--dangerously-skip-permissions"],
        prompt: PromptArg::Last,
        // Its input line: a heavy angle bracket (U+276F) and a space.
        prompt_prefix: Some("\u{276f} "),
        resume: Resume::Flag("--resume"),
        conversation_flag: Some("--session-id"),
        settings_flag: Some("--settings"),
        config_dir_env: Some("CLAUDE_CONFIG_DIR"),
        process_names: &["node", "claude"],
        report_hooks: true,
        ..PLAIN
    },
    Preset {
        name: "gemini",
        command: Some("gemini"),
        args: &["--approval-mode", "yolo"],
        // Without this option the text may be answered once, and the program end.
        prompt: PromptArg::Flag("--prompt-interactive"),
        resume: Resume::Flag("--resume"),
        process_names: &["node", "gemini"],
        report_hooks: true,
        ..PLAIN
    },
    Preset {
        name: "codex",
        command: Some("codex"),
        args: &["--yolo"],
        // A single angle quotation mark (U+203A) and a space.
        prompt_prefix: Some("\u{203a} "),
        resume: Resume::Subcommand(&["resume"]),
        config_dir_env: Some("CODEX_HOME"),
        process_names: &["codex"],
        ..PLAIN
    },
    Preset {
        name: "cursor",
        command: Some("cursor-agent"),
        args: &["-f"],
        prompt: PromptArg::Last,
        resume: Resume::Flag("--resume"),
        process_names: &["cursor-agent"],
        ..PLAIN
    },
    Preset {
        name: "auggie",
        command: Some("auggie"),
        args: &["--allow-indexing"],
        prompt: PromptArg::Last,
        resume: Resume::Flag("--resume"),
        process_names: &["auggie"],
        ..PLAIN
    },
    Preset {
        name: "amp",
        command: Some("amp"),
        args: &["--dangerously-allow-all", "--no-ide"],
        resume: Resume::Subcommand(&["threads", "continue"]),
        process_names: &["amp"],
        ..PLAIN
    },
    Preset {
        name: "opencode",
        command: Some("opencode"),
        env: &[("OPENCODE_PERMISSION", r#"{"*":"allow"}"#)],
        resume: Resume::Flag("--session"),
        process_names: &["opencode"],
        ..PLAIN
    },
    Preset {
        name: "copilot",
        command: Some("copilot"),
        args: &["--yolo"],
        resume: Resume::Flag("--resume"),
        config_dir_env: Some("COPILOT_HOME"),
        process_names: &["copilot"],
        ..PLAIN
    },
    Preset { name: "script", prompt: PromptArg::Never, ..PLAIN },
];

/// The preset of a name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The preset whose program a command is: by the last part of its path.
#[must_use]
pub fn by_command(command: &str) -> Option<&'static Preset> {
    let program = command.rsplit('/').next().unwrap_or(command);
    PRESETS.iter().find(|preset| preset.command == Some(program))
}

/// The preset for any executable.
#[must_use]
pub fn script() -> &'static Preset {
    // The table ends with it; a test holds that.
    let [.., script] = &PRESETS;
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_found_by_name_and_by_program() {
        for preset in &PRESETS {
            assert_eq!(by_name(preset.name), Some(preset));
            if let Some(command) = preset.command {
                assert_eq!(by_command(command), Some(preset));
                assert_eq!(by_command(&format!("/opt/x/{command}")), Some(preset));
            }
        }
        assert_eq!(script().name, "script");
        assert_eq!(by_name(DEFAULT).unwrap().name, DEFAULT);
        assert_eq!(by_command("/abs/x"), None);
        assert_eq!(by_command("claude-wrapper"), None);
    }
}
