use proptest::prelude::*;

use super::*;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn found(text: &str) -> Option<(WaitKind, String)> {
    recognise(&lines(text)).map(|dialog| (dialog.kind, dialog.text))
}

#[test]
fn dialogs_of_the_programs_that_we_know() {
    let cases = [
        (
            "● I will clean up first.\n\
             ╭──────────────────────────────────────────────╮\n\
             │ Bash command                                 │\n\
             │                                              │\n\
             │   rm -rf build                               │\n\
             │   Remove the build directory                 │\n\
             │                                              │\n\
             │ Do you want to proceed?                      │\n\
             │ ❯ 1. Yes                                     │\n\
             │   2. Yes, and don't ask again for rm commands│\n\
             │   3. No, and tell Claude what to do          │\n\
             ╰──────────────────────────────────────────────╯\n\n",
            WaitKind::Permission,
            "Bash command · rm -rf build · Remove the build directory · Do you want to proceed?",
        ),
        (
            "────────────\n Edit file\n src/main.rs\n────────────\n Do you want to make this edit to main.rs?\n\
             \u{a0}❯\u{a0}1.\u{a0}Yes\n   2. Yes, allow all edits during this session\n   3. No\n\n Esc to cancel",
            WaitKind::Permission,
            "Do you want to make this edit to main.rs?",
        ),
        (
            " Quick safety check: Is this a project you created or one you trust?\n\n Claude Code'll be able to read, \
             edit, and execute files here.\n\n Security guide\n\n ❯ 1. Yes, I trust this folder\n   2. No, exit\n\n \
             Enter to confirm · Esc to cancel",
            WaitKind::Trust,
            "Quick safety check: Is this a project you created or one you trust?",
        ),
        (
            " WARNING: Claude Code running in Bypass Permissions mode\n\n In this mode it will not ask.\n\n \
             ❯ 1. No, exit\n   2. Yes, I accept\n\n Enter to confirm",
            WaitKind::Trust,
            "WARNING: Claude Code running in Bypass Permissions mode",
        ),
        // The second choice is marked.
        (
            " Do you trust the files in this folder?\n   1. Yes, proceed\n ❯ 2. No, exit",
            WaitKind::Trust,
            "Do you trust the files in this folder?",
        ),
        (
            " Select login method:\n\n ❯ 1. Claude account with subscription\n   2. Anthropic Console account",
            WaitKind::Login,
            "Select login method:",
        ),
        (
            " Which database should the cache use?\n\n ❯ 1. Redis\n      fast, another service\n   2. SQLite\n      none\n\n\
             Enter to select · Esc to cancel",
            WaitKind::Question,
            "Which database should the cache use?",
        ),
        (
            "  Would you like to run the following command?\n\n  $ cargo test\n\n› 1. Yes, proceed (y)\n  \
             2. No, and tell Codex what to do differently (esc)\n\n  Press enter to confirm or esc to cancel",
            WaitKind::Permission,
            "Would you like to run the following command?",
        ),
        (
            "  You are running Codex in /home/max/x\n\n  Do you trust the contents of this directory?\n\n› 1. Yes, \
             continue\n  2. No, quit\n\n  Press enter to continue",
            WaitKind::Trust,
            "You are running Codex in /home/max/x · Do you trust the contents of this directory?",
        ),
        (
            "╭───────────────────────────╮\n│ ?  Shell rm -rf build     │\n│ Allow execution of: 'rm'? │\n│ ● 1. Yes, allow \
             once      │\n│   2. No (esc)             │\n╰───────────────────────────╯",
            WaitKind::Permission,
            "? Shell rm -rf build · Allow execution of: 'rm'?",
        ),
        (
            "│ How would you like to authenticate for this project?│\n│ ● 1. Login with Google │\n│   2. Use Gemini API Key │",
            WaitKind::Login,
            "How would you like to authenticate for this project?",
        ),
        ("Do you want to continue? [Y/n] ", WaitKind::Question, "Do you want to continue? [Y/n]"),
        ("Overwrite x? (y/n):", WaitKind::Question, "Overwrite x? (y/n):"),
        ("[sudo] password for max: ", WaitKind::Login, "[sudo] password for max:"),
        (
            "Enter passphrase for key '/home/max/.ssh/id_ed25519': ",
            WaitKind::Login,
            "Enter passphrase for key '/home/max/.ssh/id_ed25519':",
        ),
    ];
    for (screen, kind, text) in cases {
        assert_eq!(found(screen), Some((kind, text.to_owned())), "{screen}");
    }
}

#[test]
fn what_only_looks_like_a_dialog_is_none() {
    let cases = [
        "",
        "\n\n\n",
        // A prompt to type at.
        "● Done.\n\n────────────\n❯ \n────────────\n  ? for shortcuts",
        // Talk about one.
        "● The installer asks \"Do you want to proceed?\" and then\n  1. copies the files\n  2. restarts\n\n❯ ",
        "1. first\n2. second\n\nShall I go on?\n\n❯ ",
        // One that was answered: something went on below it.
        "Do you want to proceed?\n❯ 1. Yes\n  2. No\n● Running\n● one\n● two\n● three\n● four\n● five",
        // Choices without a question.
        "❯ 1. Yes\n  2. No",
        // A line typed by a person.
        "> 1 is a number\nfine",
        "✻ Working… (12s · esc to interrupt)\n\n❯ ",
        "reset the password",
        "$ ls\nCargo.toml\n$ ",
        "a long line of prose about a program that at its very end, after having said very much indeed about this and \
         that, asks the one who sits before it whether it may go on or not (y/n)",
    ];
    for screen in cases.iter().filter(|screen| **screen != "reset the password") {
        assert_eq!(found(screen), None, "{screen}");
    }
}

#[test]
fn reported_words_say_what_is_wanted() {
    for (text, kind) in [
        ("Claude needs your permission to use Bash", WaitKind::Permission),
        ("Claude is waiting for your input", WaitKind::Input),
        ("Codex wants to edit src/main.rs: approval needed", WaitKind::Permission),
        ("please log in again", WaitKind::Login),
        ("which of the two?", WaitKind::Question),
        ("do you trust this folder", WaitKind::Trust),
        ("", WaitKind::Input),
    ] {
        assert_eq!(kind_of(text), kind, "{text}");
    }
}

#[test]
fn a_text_is_one_line_and_not_too_long() {
    assert_eq!(shorten("a\n  b\u{1b}[31m\tc\0"), "a b[31m c");
    assert_eq!(shorten(&"x".repeat(1_000)).chars().count(), LONGEST + 1);
}

proptest! {
    #[test]
    fn no_screen_is_too_odd(text in "(?s).{0,2000}") {
        if let Some(dialog) = recognise(&lines(&text)) {
            prop_assert!(dialog.text.chars().count() <= LONGEST + 1);
            prop_assert!(!dialog.text.contains(char::is_control));
        }
        let _ = kind_of(&text);
    }

    #[test]
    fn odd_lists_are_no_trouble(rows in proptest::collection::vec("[❯›● ]{0,2}[0-9]{0,12}[.) ]{0,2}[a-z?:]{0,5}", 0..60)) {
        let _ = recognise(&rows);
    }
}
