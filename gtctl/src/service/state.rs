//! How the manager says that the service is, and what that means. Pure.

/// What `systemctl show` says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// `active`, `activating`, `failed`, …
    pub active: String,
    /// `auto-restart` and others.
    pub sub: String,
    /// How it ended last: `success`, `watchdog`, `exit-code`, …
    pub result: String,
    /// Exit code or signal of the last end.
    pub status: i32,
    /// Restarts without anybody's asking, since somebody last did.
    pub restarts: u32,
    /// The daemon's process.
    pub pid: Option<i32>,
}

/// Exit codes after which the unit is not started again (`RestartPreventExitStatus=`).
const POINTLESS: [i32; 3] = [1, 2, 78];

impl State {
    /// Properties that are asked for.
    pub const ASKED: &'static str = "ActiveState,SubState,Result,ExecMainStatus,NRestarts,MainPID";

    /// Reads lines of `Name=value`; what is missing stays empty.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut state = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "ActiveState" => value.clone_into(&mut state.active),
                "SubState" => value.clone_into(&mut state.sub),
                "Result" => value.clone_into(&mut state.result),
                "ExecMainStatus" => state.status = value.parse().unwrap_or_default(),
                "NRestarts" => state.restarts = value.parse().unwrap_or_default(),
                "MainPID" => state.pid = value.parse().ok().filter(|pid| *pid > 0),
                _ => {}
            }
        }
        state
    }

    /// Whether it was started so often in vain that the manager does not try any more.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        // The unit is started again after every failure but these.
        let pointless = self.result == "exit-code" && POINTLESS.contains(&self.status);
        self.active == "failed" && !pointless
    }

    /// What is wrong with it, as the end of a sentence about the service; none when nothing is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let how = self.how();
        match self.active.as_str() {
            "failed" if self.gave_up() => Some(format!(
                "has reached its start limit after {} and is not started again: the last time {how}",
                times(self.restarts)
            )),
            "failed" => Some(format!("is not started again, because that would not help: {how}")),
            "activating" if self.sub == "auto-restart" => {
                Some(format!("is about to be started again: the last time {how}"))
            }
            _ => None,
        }
    }

    fn how(&self) -> String {
        match self.result.as_str() {
            "watchdog" => "it had stopped turning, and the watchdog ended it".to_owned(),
            "exit-code" => format!("it ended with exit code {}", self.status),
            "signal" | "core-dump" => format!("it was ended by signal {}", self.status),
            "timeout" => "it did not come up or end in time".to_owned(),
            "oom-kill" => "it was killed because memory ran out".to_owned(),
            other => format!("its result was {other}"),
        }
    }
}

fn times(restarts: u32) -> String {
    match restarts {
        1 => "1 restart".to_owned(),
        n => format!("{n} restarts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_words() {
        let state = |active: &str, sub: &str, result: &str, status: i32| {
            State::parse(&format!(
                "ActiveState={active}\nSubState={sub}\nResult={result}\nExecMainStatus={status}\nNRestarts=4\nMainPID=0\n"
            ))
        };
        let cases = [
            (state("active", "running", "success", 0), false, None),
            (state("inactive", "dead", "success", 0), false, None),
            (state("failed", "failed", "watchdog", 6), true, Some("start limit after 4 restarts")),
            (state("failed", "failed", "exit-code", 70), true, Some("exit code 70")),
            (
                state("failed", "failed", "exit-code", 78),
                false,
                Some("would not help: it ended with exit code 78"),
            ),
            // The daemon's own 1, and the kernel's signal 1.
            (state("failed", "failed", "signal", 1), true, Some("ended by signal 1")),
            (state("failed", "failed", "start-limit-hit", 0), true, Some("start limit")),
            (state("activating", "auto-restart", "signal", 9), false, Some("about to be started again")),
            (State::parse("rubbish"), false, None),
        ];
        for (state, gave_up, words) in cases {
            assert_eq!(state.gave_up(), gave_up, "{state:?}");
            assert_eq!(state.pid, None);
            let said = state.trouble();
            assert_eq!(said.is_some(), words.is_some(), "{state:?}");
            assert!(
                words.is_none_or(|words| said.as_deref().is_some_and(|said| said.contains(words))),
                "{said:?}"
            );
        }
    }
}
