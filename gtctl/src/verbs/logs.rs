//! `gtctl logs`: the end of the daemon's log, and with `-f` what is added. The file is read: when the daemon does
//! not come up or does not answer, its log is what one wants to see.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::cli::Logs;
use crate::context::Context;
use crate::exit::Code;
use crate::failure::Failure;
use crate::output::error::plain;

/// Where a town's log is; older ones have a number behind it.
const FILE: &str = "daemon/gtd.log";
/// Rotated files that are looked at, the most that can be configured.
const OLDER: u32 = 100;
/// Read at once from the end of a file.
const CHUNK: u64 = 64 << 10;
/// Longest line that is shown.
const LINE_MAX: usize = 64 << 10;
/// Pause between two looks at a log that does not grow.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the verb.
///
/// # Errors
/// When no town is meant, or its log cannot be read.
pub async fn run(cx: &mut Context, args: &Logs) -> Result<Code, Failure> {
    let path = cx.root().await?.join(FILE);
    let mut open = match File::open(&path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unreadable(&path, &error)),
    };
    // What comes after this end is left to those who follow.
    let end = match &open {
        Some(file) => file.metadata().map_err(|error| unreadable(&path, &error))?.len(),
        None => 0,
    };
    let wanted = usize::try_from(args.lines).unwrap_or(usize::MAX);
    let lines = last(&path, open.as_mut(), end, wanted).map_err(|error| unreadable(&path, &error))?;
    if open.is_none() && lines.is_empty() && !args.follow {
        return Err(
            Failure::failed(format!("there is no log yet: no {}", path.display())).hint("gtctl daemon start")
        );
    }
    for line in lines {
        print(cx, &line)?;
    }
    cx.screen.flush()?;
    if args.follow { follow(cx, &path, open, end).await } else { Ok(Code::Done) }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {}: {error}", path.display()))
}

fn print(cx: &mut Context, line: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(line.get(..LINE_MAX).unwrap_or(line));
    // A line may quote what an agent said; a terminal must not obey it.
    let text = plain(text.trim_end_matches(['\n', '\r']));
    if cx.screen.json { cx.screen.frame(&json!({ "line": text })) } else { cx.screen.line(text) }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The last lines up to a place of the file, going on into older files while there are too few.
fn last(path: &Path, open: Option<&mut File>, end: u64, wanted: usize) -> io::Result<VecDeque<Vec<u8>>> {
    let mut lines = VecDeque::new();
    if let Some(file) = open {
        prepend(file, end, wanted, &mut lines)?;
    }
    for number in 1..=OLDER {
        if lines.len() >= wanted {
            break;
        }
        match File::open(numbered(path, number)) {
            Ok(mut older) => {
                let end = older.metadata()?.len();
                prepend(&mut older, end, wanted, &mut lines)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(lines)
}

/// Puts the last lines of a file in front, until there are enough. Reads from its end, and no more than needed.
fn prepend(file: &mut File, end: u64, wanted: usize, lines: &mut VecDeque<Vec<u8>>) -> io::Result<()> {
    let missing = wanted.saturating_sub(lines.len());
    let mut begin = end;
    let mut text: Vec<u8> = Vec::new();
    // One more line break than lines: the first may be cut by where we began to read.
    while begin > 0 && text.iter().filter(|byte| **byte == b'\n').count() <= missing && missing > 0 {
        let size = CHUNK.min(begin);
        begin -= size;
        file.seek(SeekFrom::Start(begin))?;
        let mut chunk = Vec::new();
        (&mut *file).take(size).read_to_end(&mut chunk)?;
        chunk.append(&mut text);
        text = chunk;
    }
    let all: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    for line in all.into_iter().rev().take(missing) {
        lines.push_front(line.to_vec());
    }
    Ok(())
}

/// Prints what is added, over rotations, until the reader goes away.
async fn follow(cx: &mut Context, path: &Path, open: Option<File>, from: u64) -> Result<Code, Failure> {
    let failed = |error: io::Error| unreadable(path, &error);
    let mut tail = open.map(|file| Tail::at(file, from)).transpose().map_err(failed)?;
    loop {
        let mut grown = false;
        if let Some(tail) = &mut tail {
            // First to the end of the one at hand, which may have been moved away meanwhile.
            while let Some(line) = tail.next().map_err(failed)? {
                grown = true;
                print(cx, &line)?;
            }
        }
        if grown {
            cx.screen.flush()?;
            continue;
        }
        match File::open(path) {
            Ok(file) => {
                let begun = match &tail {
                    Some(tail) => tail.is_other(&file).map_err(failed)?,
                    None => true,
                };
                if begun {
                    tail = Some(Tail::at(file, 0).map_err(failed)?);
                    continue;
                }
            }
            // Between two files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A file that grows.
struct Tail {
    reader: BufReader<File>,
    /// A line of which the end has not come.
    begun: Vec<u8>,
    read: u64,
}

impl Tail {
    fn at(mut file: File, from: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(from))?;
        Ok(Self { reader: BufReader::new(file), begun: Vec::new(), read: from })
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let n = self.reader.read_until(b'\n', &mut self.begun)?;
        self.read += u64::try_from(n).unwrap_or(0);
        Ok(self.begun.ends_with(b"\n").then(|| std::mem::take(&mut self.begun)))
    }

    /// Another file has taken this one's place, or it began anew.
    fn is_other(&self, there: &File) -> io::Result<bool> {
        let (ours, theirs) = (self.reader.get_ref().metadata()?, there.metadata()?);
        Ok((ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) || theirs.len() < self.read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn text(lines: impl IntoIterator<Item = Vec<u8>>) -> String {
        lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn the_last_lines_are_taken_over_several_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gtd.log");
        std::fs::write(numbered(&path, 2), "1\n2\n").unwrap();
        std::fs::write(numbered(&path, 1), "3\n4\n").unwrap();
        std::fs::write(&path, "5\n6\ntorn").unwrap();
        let look = |n: usize| {
            let mut file = File::open(&path).unwrap();
            let end = file.metadata().unwrap().len();
            text(last(&path, Some(&mut file), end, n).unwrap())
        };
        assert_eq!(look(0), "");
        assert_eq!(look(1), "torn");
        assert_eq!(look(2), "6\ntorn");
        assert_eq!(look(4), "4\n5\n6\ntorn");
        assert_eq!(look(99), "1\n2\n3\n4\n5\n6\ntorn");
        assert_eq!(text(last(&path, None, 0, 3).unwrap()), "2\n3\n4\n");
    }

    #[test]
    fn long_logs_are_read_from_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gtd.log");
        let lines: Vec<String> = (0..20_000).map(|n| format!("{n:020}\n")).collect();
        std::fs::write(&path, lines.concat()).unwrap();
        for n in [1, 7, 3_000, 19_999] {
            let mut file = File::open(&path).unwrap();
            let found = last(&path, Some(&mut file), 20_000 * 21, n).unwrap();
            assert_eq!(text(found), lines[20_000 - n..].concat());
        }
    }

    #[test]
    fn a_line_is_told_when_it_is_whole_and_another_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gtd.log");
        let mut out = File::create(&path).unwrap();
        out.write_all(b"old\nbe").unwrap();
        let mut tail = Tail::at(File::open(&path).unwrap(), 4).unwrap();
        assert_eq!(tail.next().unwrap(), None);
        out.write_all(b"gun\nnext\n").unwrap();
        assert_eq!(tail.next().unwrap().unwrap(), b"begun\n");
        assert_eq!(tail.next().unwrap().unwrap(), b"next\n");
        assert!(!tail.is_other(&File::open(&path).unwrap()).unwrap());
        std::fs::rename(&path, dir.path().join("gtd.log.1")).unwrap();
        std::fs::write(&path, "new\n").unwrap();
        assert!(tail.is_other(&File::open(&path).unwrap()).unwrap());
        out.write_all(b"last\n").unwrap();
        assert_eq!(tail.next().unwrap().unwrap(), b"last\n", "the moved one is read to its end");
        let mut tail = Tail::at(File::open(&path).unwrap(), 4).unwrap();
        assert_eq!(tail.next().unwrap(), None);
        std::fs::write(&path, "").unwrap();
        assert!(tail.is_other(&File::open(&path).unwrap()).unwrap(), "begun anew");
    }
}
