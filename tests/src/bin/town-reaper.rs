//! Outlives a test program that is killed, and ends the towns that it had.
//!
//! Reads `+PATH` and `-PATH` from its input: towns that came and went. When the input ends, whoever fed it is
//! gone; what is left of the towns that it still had is ended by their random names, and their directories
//! are removed.

use std::collections::BTreeSet;
use std::io::BufRead;

fn main() {
    let mut towns = BTreeSet::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_at_checked(1) {
            Some(("+", path)) => drop(towns.insert(path.to_owned())),
            Some(("-", path)) => drop(towns.remove(path)),
            _ => {}
        }
    }
    for town in towns {
        gtd_tests::procs::end_marked(&town);
        let _ = std::fs::remove_dir_all(&town);
    }
}
