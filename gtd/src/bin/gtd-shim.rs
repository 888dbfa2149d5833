//! `gtd-shim LAUNCH_FILE`: the parent of one agent inside its pane. See `gtd::process::shim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gtd::process::shim::run(std::env::args_os())
}
