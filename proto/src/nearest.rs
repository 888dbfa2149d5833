//! The names that somebody probably meant.

/// No name is longer; what is longer is no typing error, and not worth the work.
pub const LONGEST: usize = 64;

/// The candidates with the fewest changed letters, best first, when these are at most a third of them.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    if name.len() > LONGEST {
        return Vec::new();
    }
    let name = name.to_lowercase();
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .map(|candidate| (distance(&name, candidate), candidate))
        .filter(|(changes, candidate)| *changes * 3 <= candidate.len())
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(most);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// How many letters have to be changed, added or removed to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut before = i + 1;
        next.push(before);
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let &[diagonal, above] = pair else { break };
            before = (diagonal + usize::from(*y != x)).min(above + 1).min(before + 1);
            next.push(before);
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
    fn the_best_come_first_and_the_far_not_at_all() {
        let all = ["alpha/witness", "alpha/refinery", "beta/witness"];
        assert_eq!(nearest("alpha/witnes", all, 2), ["alpha/witness"]);
        assert_eq!(nearest("apha/witness", all, 3), ["alpha/witness", "beta/witness"]);
        assert!(nearest("somebody", all, 3).is_empty());
        assert!(nearest(&"x".repeat(100_000), all, 3).is_empty());
    }
}
