//! The method that somebody probably meant.

use gtd_proto::method::METHODS;
use gtd_proto::{ErrorKind, RpcError};

/// No name of a method is longer; what is longer is no typing error, and not worth the work.
const LONGEST: usize = 64;

/// The error for a method that does not exist, with the nearest that does.
pub(super) fn not_found(name: &str) -> RpcError {
    let shown: String = name.chars().take(LONGEST).collect();
    let error = RpcError::new(ErrorKind::MethodNotFound, format!("no method {shown:?}"));
    match nearest(name, METHODS.iter().map(|method| method.name)) {
        Some(near) => error.hint(format!("did you mean {near}? rpc.discover lists all methods")),
        None => error.hint("rpc.discover lists all methods"),
    }
}

/// The candidate with the fewest changed letters, when these are at most a third of it.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_lowercase().replace(['_', '/', ' '], ".");
    candidates
        .map(|candidate| (distance(&name, candidate), candidate))
        .min_by_key(|(changes, _)| *changes)
        .filter(|(changes, candidate)| *changes * 3 <= candidate.len())
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be changed, added or removed to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for ((y, pair), left) in b.iter().zip(row.windows(2)).zip(0..) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => break,
            };
            let before = next.get::<usize>(left).copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(*y != x)).min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_letters() {
        let cases =
            [("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn slips_are_understood_and_nonsense_is_not() {
        let hint = |name| not_found(name).hint.unwrap();
        assert!(hint("town.statsu").contains("town.status"));
        assert!(hint("witness_start").contains("witness.start"));
        assert!(hint("Rig.List").contains("rig.list"));
        assert!(!hint("eth_getBalanceOfSomebody").contains("mean"));
        assert!(!hint(&"x".repeat(100_000)).contains("mean"));
        assert!(not_found(&"x".repeat(100_000)).message.len() < 100);
    }
}
