//! Files of lines, whole and not.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::ledger::scratch;

fn file(bytes: &[u8]) -> (scratch::Scratch, PathBuf, File) {
    let dir = scratch::dir();
    let path = dir.path().join(".events.jsonl");
    fs::write(&path, bytes).unwrap();
    let file = open(&path).unwrap().unwrap();
    (dir, path, file)
}

fn all(file: &File) -> (Vec<String>, Piece) {
    let (mut lines, mut piece) = (Vec::new(), Piece::default());
    loop {
        let (from, long) = (piece.next, piece.long);
        piece = read(file, from, piece.within).unwrap();
        lines.extend(piece.lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()));
        let done = piece.next == from;
        piece.long += long;
        if done {
            return (lines, piece);
        }
    }
}

#[test]
fn a_line_without_its_end_is_waited_for() {
    let (_dir, path, file) = file(b"one\n\ntw");
    let (lines, piece) = all(&file);
    assert_eq!((lines.as_slice(), piece.next), (["one".to_owned(), String::new()].as_slice(), 5));
    fs::write(&path, b"one\n\ntwo\n").unwrap();
    let next = read(&file, piece.next, false).unwrap();
    assert_eq!(next.lines[0].bytes, b"two");
    assert_eq!(next.next, 9);
}

#[test]
fn a_line_that_is_too_long_is_passed_over_whatever_its_length() {
    for length in [LINE_MAX, LINE_MAX + 1, READ - 1, READ, READ + 1, 3 * READ + 7] {
        let text = [b"one\n".as_slice(), &vec![b'x'; length], b"\ntwo\n"].concat();
        let (_dir, _, file) = file(&text);
        let (lines, piece) = all(&file);
        assert_eq!(piece.next, text.len() as u64, "{length}");
        assert_eq!(piece.long, u64::from(length > LINE_MAX), "{length}");
        assert_eq!(lines.len(), if length > LINE_MAX { 2 } else { 3 }, "{length}");
        assert!(!piece.within);
    }
    let (_dir, _, file) = file(&vec![b'x'; 2 * READ]);
    let (lines, piece) = all(&file);
    assert!(lines.is_empty() && piece.within && piece.next == 2 * READ as u64);
}

#[test]
fn a_line_is_known_again_by_its_place_and_its_content() {
    let (_dir, path, file) = file(b"one\ntwo\nthree\n");
    let lines = read(&file, 0, false).unwrap().lines;
    let two = lines[1].mark;
    assert!(has(&file, &two).unwrap());
    assert_eq!(mark_at(&file, 4, hash(b"two")).unwrap(), Some(two));
    assert_eq!(mark_at(&file, 3, hash(b"two")).unwrap(), None);
    for other in ["one\ntwx\nthree\n", "one\ntwo", "one\ntwo three\n", ""] {
        fs::write(&path, other).unwrap();
        assert!(!has(&file, &two).unwrap(), "{other:?}");
    }
    fs::write(&path, "zero\ntwo\ntwo\nfour\n").unwrap();
    assert_eq!(after(&file, &two).unwrap().unwrap().offset, 9, "where it comes last");
    assert_eq!(after(&file, &lines[0].mark).unwrap(), None);
}

#[test]
fn a_chain_goes_from_the_oldest_to_the_present_and_what_is_no_file_is_refused() {
    let dir = scratch::dir();
    let path = dir.path().join(".events.jsonl");
    assert!(chain(&path).unwrap().is_empty());
    for (name, text) in
        [(".events.jsonl.2", "old\n"), (".events.jsonl.1", "older\n"), (".events.jsonl", "now\n")]
    {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let found: Vec<String> = chain(&path).unwrap().iter().map(|file| all(file).0.concat()).collect();
    assert_eq!(found, ["old", "older", "now"]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(chain(&path).is_err());
}

proptest! {
    /// However a file is read, each of its lines comes once, in order.
    #[test]
    fn every_line_comes_once(lines in prop::collection::vec("[a-z]{0,40}", 0..60), from in 0usize..3_000) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (_dir, _, file) = file(text.as_bytes());
        prop_assert_eq!(&all(&file).0, &lines);
        let at = aligned(&file, (from.min(text.len())) as u64).unwrap();
        prop_assert!(at == 0 || text.as_bytes()[at as usize - 1] == b'\n');
        prop_assert!(at as usize >= from.min(text.len()));
    }
}
