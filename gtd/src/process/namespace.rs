//! Whether another process counts processes as we do.
//!
//! A container or a sandbox has process numbers of its own, and a number of one names somebody else, or nobody, in
//! the other: what is recorded there says nothing here. The boot id is the same in all of them.

use std::io;

use super::id::Pid;

/// Whether a process that we see lives in a pid namespace below ours, where it has another number. `false` where the
/// kernel does not tell (before Linux 4.1).
///
/// # Errors
/// Its status cannot be read.
pub fn counts_otherwise(pid: Pid) -> io::Result<bool> {
    Ok(numbers(&std::fs::read_to_string(format!("/proc/{pid}/status"))?) > 1)
}

/// In how many nested namespaces a process has a number, counted from the one whose `/proc` this is.
fn numbers(status: &str) -> usize {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.map_or(0, |line| line.split_ascii_whitespace().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted() {
        assert_eq!(numbers("Name:\tx\nNSpid:\t12\nNSpgid:\t1 2\n"), 1);
        assert_eq!(numbers("NStgid:\t12\t3\nNSpid:\t12\t3\n"), 2);
        assert_eq!(numbers("Name:\tNSpid\n"), 0);
    }

    #[test]
    fn we_count_as_we_do() {
        assert!(!counts_otherwise(Pid::own().unwrap()).unwrap());
    }
}
