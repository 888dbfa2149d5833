//! Reading a file of lines that others append to, move away, cut short and replace.
//!
//! Owns where in which file the reading is. A place is a device, an inode, an offset, and the last line before it:
//! a file that no longer has that line there is not the file that was read. Memory is bounded whatever the file is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Longest line that is read. The longest that the incumbent writes have some kilobytes.
pub const LINE_MAX: usize = 256 << 10;
/// How much is read at once: twice the longest line, so that one without an end is known as such.
pub const READ: usize = 2 * LINE_MAX;
/// More than this is not read of one file: the feed keeps no more than about as much.
pub const BACKLOG: u64 = 30 << 20;
/// Numbered files that are looked at beside the present one.
const NUMBERED: u32 = 9;

/// A line that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes, without the newline.
    pub len: u64,
    /// Of its bytes.
    pub hash: u64,
}

/// How far a file was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file's device.
    pub dev: u64,
    /// The file's inode; 0 while there was no file.
    pub ino: u64,
    /// The first byte that was not read.
    pub next: u64,
    /// The last line before that, where there is one.
    pub last: Option<Mark>,
    /// Within a line that is too long, of which the rest is passed over.
    #[serde(default)]
    pub within: bool,
}

/// FNV-1a: tells lines apart, and is no protection against anybody.
#[must_use]
pub fn hash(line: &[u8]) -> u64 {
    line.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A line and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub mark: Mark,
    /// Its bytes, without the newline.
    pub bytes: Vec<u8>,
}

/// A piece of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its whole lines that are not too long.
    pub lines: Vec<Line>,
    /// Lines that were too long.
    pub long: u64,
    /// Where the reading goes on.
    pub next: u64,
    /// That is within a line that is too long.
    pub within: bool,
}

/// Opens a file for reading. None where there is none.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    // Not to wait for the other end of a pipe that somebody put there.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    match OpenOptions::new().read(true).custom_flags(nonblock).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file of a name and those that were moved away under numbers, the oldest first. What cannot be opened is left
/// out, but for the present one.
///
/// # Errors
/// The present one cannot be opened.
pub fn chain(path: &Path) -> io::Result<Vec<File>> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let mut files: Vec<File> =
        (1..=NUMBERED).rev().filter_map(|number| open(&numbered(number)).ok().flatten()).collect();
    files.extend(open(path)?);
    Ok(files)
}

/// The device and the inode of an open file.
///
/// # Errors
/// The system does not tell.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    let found = file.metadata()?;
    Ok((found.dev(), found.ino()))
}

/// As many bytes as there are, up to the length of the buffer.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads on, one piece. Nothing is taken of a line that has no end yet.
///
/// # Errors
/// The file cannot be read.
pub fn read(file: &File, from: u64, within: bool) -> io::Result<Piece> {
    let mut buffer = vec![0; READ];
    let filled = read_at(file, &mut buffer, from)?;
    buffer.truncate(filled);
    let mut piece = Piece { next: from, within, ..Piece::default() };
    let mut rest = buffer.as_slice();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default());
        let offset = piece.next;
        piece.next += line.len() as u64 + 1;
        rest = after;
        if std::mem::take(&mut piece.within) || line.len() > LINE_MAX {
            piece.long += 1;
        } else {
            let mark = Mark { offset, len: line.len() as u64, hash: hash(line) };
            piece.lines.push(Line { mark, bytes: line.to_vec() });
        }
    }
    // What is left is longer than any line, or is within one that is.
    if piece.within || rest.len() > LINE_MAX {
        piece.next += rest.len() as u64;
        piece.within = true;
    }
    Ok(piece)
}

/// The file has this line at that place.
///
/// # Errors
/// The file cannot be read.
pub fn has(file: &File, mark: &Mark) -> io::Result<bool> {
    let Ok(len) = usize::try_from(mark.len) else { return Ok(false) };
    if len > LINE_MAX {
        return Ok(false);
    }
    let mut buffer = vec![0; len + 1];
    let filled = read_at(file, &mut buffer, mark.offset)?;
    let line = buffer.get(..len).unwrap_or_default();
    Ok(filled == len + 1 && buffer.last() == Some(&b'\n') && hash(line) == mark.hash)
}

/// The mark of the line that begins at an offset, where it is one with this hash.
///
/// # Errors
/// The file cannot be read.
pub fn mark_at(file: &File, offset: u64, wanted: u64) -> io::Result<Option<Mark>> {
    let mut buffer = vec![0; LINE_MAX + 1];
    let filled = read_at(file, &mut buffer, offset)?;
    let end = buffer.iter().take(filled).position(|byte| *byte == b'\n');
    let line = end.and_then(|end| buffer.get(..end));
    Ok(line.filter(|line| hash(line) == wanted).map(|line| Mark {
        offset,
        len: line.len() as u64,
        hash: wanted,
    }))
}

/// The beginning of the first line at or after an offset; the offset itself within a line that is too long.
///
/// # Errors
/// The file cannot be read.
pub fn aligned(file: &File, offset: u64) -> io::Result<u64> {
    let Some(before) = offset.checked_sub(1) else { return Ok(0) };
    let mut buffer = vec![0; LINE_MAX];
    let filled = read_at(file, &mut buffer, before)?;
    let end = buffer.iter().take(filled).position(|byte| *byte == b'\n');
    Ok(end.map_or(offset, |end| before + end as u64 + 1))
}

/// Where in a file the reading begins at the earliest.
///
/// # Errors
/// The file cannot be read.
pub fn earliest(file: &File) -> io::Result<u64> {
    aligned(file, file.metadata()?.len().saturating_sub(BACKLOG))
}

/// Looks for a line in a file that was written anew: the place after it, where it comes last.
///
/// # Errors
/// The file cannot be read.
pub fn after(file: &File, wanted: &Mark) -> io::Result<Option<Mark>> {
    let mut found = None;
    let (mut next, mut within) = (earliest(file)?, false);
    loop {
        let piece = read(file, next, within)?;
        for line in &piece.lines {
            if line.mark.hash == wanted.hash && line.mark.len == wanted.len {
                found = Some(line.mark);
            }
        }
        if piece.next == next {
            return Ok(found);
        }
        (next, within) = (piece.next, piece.within);
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
