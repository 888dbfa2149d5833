//! The exit codes of `gtctl`: one documented list, and the one mapping from failures to it.
//!
//! Scripts rely on these numbers. Nothing else in the program may invent one.

use gtd_proto::{ErrorKind, RpcError};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// It was done, or it was so already.
    Done,
    /// The request was understood and failed.
    Failed,
    /// The command line, a name or a configuration file cannot be used.
    Usage,
    /// The agent is not running.
    NotRunning,
    /// There is no such agent or rig, or its state is unknown.
    NoSuch,
    /// It works in part: `status --check`.
    Degraded,
    /// The effect was not confirmed in time.
    Timeout,
    /// Some of many targets failed, or something is left after a stop.
    Partial,
    /// No daemon answers.
    Unreachable,
    /// The daemon speaks another protocol, or belongs to another town.
    Mismatch,
    /// The caller may not do this, or the target is protected.
    Refused,
    /// Ctrl-C.
    Interrupted,
    /// The reader of our output went away.
    BrokenPipe,
}

impl Code {
    /// All codes, for documentation and tests.
    #[cfg(test)]
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotRunning,
        Self::NoSuch,
        Self::Degraded,
        Self::Timeout,
        Self::Partial,
        Self::Unreachable,
        Self::Mismatch,
        Self::Refused,
        Self::Interrupted,
        Self::BrokenPipe,
    ];

    /// The number. 69, 76 and 77 are those of `sysexits.h`; 3 and 4 those of an init script's `status`;
    /// 130 and 141 are 128 and the signal's number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::NoSuch => 4,
            Self::Degraded => 5,
            Self::Timeout => 6,
            Self::Partial => 7,
            Self::Unreachable => 69,
            Self::Mismatch => 76,
            Self::Refused => 77,
            Self::Interrupted => 130,
            Self::BrokenPipe => 141,
        }
    }

    /// The code of an error that the daemon answered with.
    #[must_use]
    pub fn of_rpc(error: &RpcError) -> Self {
        match (error.code, error.kind) {
            (_, ErrorKind::ShuttingDown) => Self::Unreachable,
            (1001 | 1002, _) => Self::NoSuch,
            (1004, _) => Self::NotRunning,
            (1010 | 1012 | 1020, _) => Self::Refused,
            (1013, _) => Self::Timeout,
            (-32602 | 1014 | 1015, _) => Self::Usage,
            _ => Self::Failed,
        }
    }
}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

/// The list as `gtctl --help` prints it.
pub const HELP: &str = "\
Exit codes:
  0 done · 1 failed · 2 usage · 3 not running
  4 no such agent or rig, or unknown · 5 degraded · 6 timeout · 7 partial
  69 no daemon · 76 other protocol or town · 77 refused
  130 interrupted · 141 broken pipe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_kind_has_the_exit_code_of_the_specification() {
        use ErrorKind as K;
        for kind in ErrorKind::ALL {
            let expected = match kind {
                K::RigNotFound | K::AgentNotFound => 4,
                K::NotRunning => 3,
                K::Protected | K::Unauthorized | K::Forbidden => 77,
                K::Timeout => 6,
                K::InvalidParams | K::ConfigInvalid | K::NameInvalid | K::NameTaken => 2,
                K::ShuttingDown => 69,
                _ => 1,
            };
            let error = RpcError::new(*kind, "x");
            assert_eq!(Code::of_rpc(&error).number(), expected, "{kind:?}");
        }
    }

    #[test]
    fn numbers_are_distinct_and_listed_in_the_help() {
        let mut numbers: Vec<u8> = Code::ALL.iter().map(|code| code.number()).collect();
        let words: Vec<&str> = HELP.split_whitespace().collect();
        for number in &numbers {
            assert!(words.contains(&number.to_string().as_str()), "{number} is not in the help");
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Code::ALL.len());
    }
}
