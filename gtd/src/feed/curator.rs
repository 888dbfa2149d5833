//! The turns of the feed: what of `.events.jsonl` was not read yet, judged and appended to `.feed.jsonl`.
//!
//! Owns both places: how far was read, and what is known to be written. Each line of the feed names the line that it
//! was made of, so that after a kill between writing and noting none is written twice. All of it waits for the disk;
//! must never read a file all at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gtd_proto::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::curate::{Dropped, Memory, curate};
use super::curated::FACT;
use super::lines::{Bounds, append, tail};
use super::source::{self, BACKLOG, Mark, Place};
use crate::ledger::Write;

/// Of events that were there before there was a feed so many bytes are looked at.
const FIRST: u64 = 1 << 20;

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// `.events.jsonl`
    pub events: PathBuf,
    /// `.feed.jsonl`
    pub feed: PathBuf,
    /// How large the feed becomes.
    pub bounds: Bounds,
}

/// What the ledger keeps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// There was a turn before; without a file in the place there was no file then.
    begun: bool,
    place: Place,
    #[serde(default)]
    memory: Memory,
    /// Lines that were no events, or too long, since the feed began.
    #[serde(default)]
    skipped: u64,
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to do.
    More,
    /// The file was moved away; somebody may still write to it for a moment.
    Late,
    /// Everything was read.
    Done,
}

/// Reads, judges and writes. All of it waits for the disk.
#[derive(Debug)]
pub(super) struct Curator {
    files: Files,
    /// How far it is.
    pub(super) known: Known,
    /// The file that is read.
    source: Option<File>,
    /// What was written before may be there in part.
    doubt: bool,
    /// The last line that is known to be in the feed, in a file that was not reached yet, or not read so far.
    written: Option<(u64, u64)>,
    /// The file was moved away, and its last writers have had their time.
    late: bool,
}

impl Curator {
    pub(super) fn new(files: Files, fact: Option<Value>) -> Self {
        let known: Option<Known> = fact.and_then(|fact| serde_json::from_value(fact).ok());
        Self {
            files,
            known: known.unwrap_or_default(),
            source: None,
            doubt: true,
            written: None,
            late: false,
        }
    }

    /// The row that says how far this is.
    pub(super) fn fact(&self) -> Vec<Write> {
        let value = serde_json::to_value(&self.known).ok();
        vec![Write::Fact { key: FACT.to_owned(), value }]
    }

    /// One piece of work.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let events = self.files.events.clone();
        let read = |error: io::Error| {
            io::Error::new(error.kind(), format!("{} cannot be read: {error}", events.display()))
        };
        if self.source.is_none() || self.doubt {
            let feed = self.files.feed.display();
            let fed = self
                .last_fed()
                .map_err(|error| io::Error::new(error.kind(), format!("{feed} cannot be read: {error}")))?;
            match &self.source {
                None => self.begin(fed),
                Some(_) => self.look_at_feed(fed),
            }
            .map_err(read)?;
        }
        let Some(source) = self.source.take() else { return Ok(Step::Done) };
        let done = self.go_on(&source, read);
        if !matches!(done, Ok((_, Some(_)))) {
            self.source = Some(source);
        }
        let (step, other) = done?;
        if let Some(other) = other {
            self.source = Some(other);
        }
        Ok(step)
    }

    /// Finds the file that was read and the place in it.
    fn begin(&mut self, fed: Option<(u64, u64, u64)>) -> io::Result<()> {
        let mut files = source::chain(&self.files.events)?;
        let identities: Vec<(u64, u64)> = files.iter().map(source::identity).collect::<io::Result<_>>()?;
        let of = |ino: u64| identities.iter().position(|(_, other)| *other == ino);
        // What the feed itself says is as good, and may be newer.
        let fed = match fed {
            Some((ino, offset, hash)) => match of(ino).and_then(|at| Some((at, files.get(at)?))) {
                Some((at, file)) => source::mark_at(file, offset, hash)?.map(|mark| (at, mark)),
                None => None,
            },
            None => None,
        };
        let place = self.known.place.clone();
        let at = identities.iter().position(|(dev, ino)| (*dev, *ino) == (place.dev, place.ino));
        let held = match at.and_then(|at| files.get(at)) {
            Some(file) => source_has(file, &place)?,
            None => false,
        };
        let start = match (at.filter(|_| held), &fed) {
            (Some(at), _) => {
                self.written = fed
                    .filter(|(of, mark)| (*of, mark.offset + 1) > (at, place.next))
                    .map(|(of, mark)| (identities.get(of).map_or(0, |(_, ino)| *ino), mark.offset));
                Some((at, place.clone()))
            }
            (None, Some((at, mark))) => Some((*at, read_up_to(mark))),
            (None, None) => None,
        };
        let last = files.len().checked_sub(1);
        let (at, mut place) = match (start, last) {
            (_, None) => {
                // Whatever comes is new.
                self.known.begun = true;
                self.known.place = Place::default();
                return Ok(());
            }
            (Some(start), Some(_)) => start,
            // There was none of them then.
            (None, Some(_)) if self.known.begun && place.ino == 0 => (0, Place::default()),
            (None, Some(last)) => {
                let file = files.get(last).ok_or(io::ErrorKind::NotFound)?;
                if self.known.begun {
                    self.found_in(&files)?.unwrap_or((last, self.found_again(file)?))
                } else {
                    (last, self.first(file)?)
                }
            }
        };
        (place.dev, place.ino) = identities.get(at).copied().unwrap_or_default();
        self.known.place = place;
        self.source = Some(files.swap_remove(at));
        self.known.begun = true;
        self.doubt = false;
        Ok(())
    }

    /// Where to begin in a town that had no feed of ours: after what the incumbent has put into its own.
    fn first(&self, file: &File) -> io::Result<Place> {
        let told = last_time(&self.files.feed);
        let mut next = source::aligned(file, file.metadata()?.len().saturating_sub(FIRST))?;
        let mut within = false;
        let Some(told) = told else { return Ok(Place { next, ..Place::default() }) };
        loop {
            let piece = source::read(file, next, within)?;
            let new = piece.lines.iter().find(|line| time_of(&line.bytes).is_some_and(|at| at > told));
            if let Some(line) = new {
                return Ok(Place { next: line.mark.offset, ..Place::default() });
            }
            if piece.next == next {
                return Ok(Place { next, within, ..Place::default() });
            }
            (next, within) = (piece.next, piece.within);
        }
    }

    /// The last of the files that has the line that was read last, and the place after it.
    fn found_in(&self, files: &[File]) -> io::Result<Option<(usize, Place)>> {
        let Some(mark) = &self.known.place.last else { return Ok(None) };
        for (at, file) in files.iter().enumerate().rev() {
            if let Some(mark) = source::after(file, mark)? {
                return Ok(Some((at, read_up_to(&mark))));
            }
        }
        Ok(None)
    }

    /// The place in a file that was written anew: after the line that was read last, or at its beginning.
    fn found_again(&self, file: &File) -> io::Result<Place> {
        let known = self.known.place.last.as_ref();
        let found = match known {
            Some(mark) => source::after(file, mark)?,
            None => None,
        };
        Ok(match found {
            Some(mark) => read_up_to(&mark),
            None => Place { next: source::earliest(file)?, ..Place::default() },
        })
    }

    /// Reads on in a file. With it comes the next one when this is read to its end and not written to any more.
    fn go_on(
        &mut self,
        source: &File,
        read: impl Fn(io::Error) -> io::Error + Copy,
    ) -> io::Result<(Step, Option<File>)> {
        let found = source.metadata().map_err(read)?;
        if found.len() < self.known.place.next || !source_has(source, &self.known.place).map_err(read)? {
            tracing::info!(path = %self.files.events.display(), "the file of events was cut short or written anew");
            let place = self.found_again(source).map_err(read)?;
            self.known.place = Place { dev: found.dev(), ino: found.ino(), ..place };
            self.written = None;
        }
        if found.len().saturating_sub(self.known.place.next) > BACKLOG {
            let next = source::earliest(source).map_err(read)?;
            let bytes = next.saturating_sub(self.known.place.next);
            tracing::warn!(bytes, "more events than the feed would keep: the oldest are passed over");
            self.known.place = Place { next, last: None, within: false, ..self.known.place.clone() };
        }
        let piece = source::read(source, self.known.place.next, self.known.place.within).map_err(read)?;
        if piece.next > self.known.place.next {
            self.late = false;
            self.take(piece)?;
            return Ok((Step::More, None));
        }
        match self.follower(source).map_err(read)? {
            None => Ok((Step::Done, None)),
            Some(_) if !std::mem::replace(&mut self.late, true) => Ok((Step::Late, None)),
            Some(next) => {
                self.late = false;
                // One that is still there was moved away: what is new is all new. One that is not was replaced.
                let gone = found.nlink() == 0;
                let place =
                    if gone { self.found_again(&next) } else { Ok(Place::default()) }.map_err(read)?;
                let (dev, ino) = source::identity(&next).map_err(read)?;
                self.known.place = Place { dev, ino, ..place };
                // What was to be reached lies behind, or, with the last file there is, is gone.
                let present = std::fs::metadata(&self.files.events).is_ok_and(|found| found.ino() == ino);
                let ahead = |of: u64| of != found.ino() && (of == ino || !present);
                self.written = self.written.filter(|(of, _)| ahead(*of));
                Ok((Step::More, Some(next)))
            }
        }
    }

    /// The file that came after this one, when that is no longer the one of the name.
    fn follower(&self, source: &File) -> io::Result<Option<File>> {
        let here = source::identity(source)?;
        let named = match std::fs::metadata(&self.files.events) {
            Ok(found) if (found.dev(), found.ino()) == here => return Ok(None),
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let mut files = source::chain(&self.files.events)?;
        let at = files.iter().position(|file| source::identity(file).is_ok_and(|other| other == here));
        Ok(match at {
            Some(at) if at + 1 < files.len() => Some(files.swap_remove(at + 1)),
            // What has a number was read, or cannot be told from what was.
            _ if named => files.pop(),
            _ => None,
        })
    }

    /// Judges a piece and writes what comes of it. The place moves on when that is written.
    fn take(&mut self, piece: source::Piece) -> io::Result<()> {
        let mut known = self.known.clone();
        let mut written = self.written;
        let mut text = String::new();
        known.skipped += piece.long;
        for line in piece.lines {
            let place = &mut known.place;
            if !line.bytes.trim_ascii().is_empty() {
                place.last = Some(line.mark);
            }
            let id = name(place.ino, &line.mark);
            let there = match written {
                Some((ino, offset)) if ino == place.ino && line.mark.offset > offset => {
                    written = None;
                    false
                }
                Some(_) => true,
                None => false,
            };
            match curate(&mut known.memory, &line.bytes, &id) {
                Ok(_) if there => {}
                Ok(line) => {
                    text.push_str(&line);
                    text.push('\n');
                }
                Err(Dropped::Unreadable) => known.skipped += 1,
                Err(_) => {}
            }
        }
        known.place.next = piece.next;
        known.place.within = piece.within;
        if known.skipped > self.known.skipped {
            tracing::warn!(
                all = known.skipped,
                "lines of .events.jsonl were no events, and were passed over"
            );
        }
        if !text.is_empty()
            && let Err(error) = append(&self.files.feed, text.as_bytes(), self.files.bounds)
        {
            // Some of it may be there: that is looked at before it is tried again.
            self.doubt = true;
            let why = format!("{} cannot be written: {error}", self.files.feed.display());
            return Err(io::Error::new(error.kind(), why));
        }
        (self.known, self.written) = (known, written);
        Ok(())
    }

    /// Finds out what of that which is not known to be written is in the feed.
    fn look_at_feed(&mut self, fed: Option<(u64, u64, u64)>) -> io::Result<()> {
        let (Some((ino, offset, wanted)), Some(source)) = (fed, &self.source) else {
            self.doubt = false;
            return Ok(());
        };
        let there = if ino == self.known.place.ino {
            offset >= self.known.place.next && source::mark_at(source, offset, wanted)?.is_some()
        } else {
            let files = source::chain(&self.files.events)?;
            let of =
                |ino: u64| files.iter().position(|file| source::identity(file).is_ok_and(|id| id.1 == ino));
            match (of(ino).and_then(|at| Some((at, files.get(at)?))), of(self.known.place.ino)) {
                (Some((at, _)), Some(here)) if at < here => false,
                (Some((_, file)), _) => source::mark_at(file, offset, wanted)?.is_some(),
                (None, _) => false,
            }
        };
        if there {
            self.written = Some((ino, offset));
        }
        self.doubt = false;
        Ok(())
    }

    /// Which line of which file the last line of the feed was made of.
    fn last_fed(&self) -> io::Result<Option<(u64, u64, u64)>> {
        for path in [self.files.feed.clone(), older(&self.files.feed)] {
            let bytes = match std::fs::metadata(&path) {
                Ok(found) if found.is_file() => tail(&path)?,
                Ok(_) => return Err(io::Error::other("it is not a regular file")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            };
            let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            // What has no newline was torn, and is written again.
            lines.pop();
            if let Some(found) = lines.into_iter().rev().find_map(named) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The file has what was read of it.
fn source_has(file: &File, place: &Place) -> io::Result<bool> {
    match &place.last {
        Some(mark) => source::has(file, mark),
        None => Ok(file.metadata()?.len() >= place.next),
    }
}

fn read_up_to(mark: &Mark) -> Place {
    Place { next: mark.offset + mark.len + 1, last: Some(*mark), ..Place::default() }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// What a line of the feed is called: by the file, the place and the content of what it was made of.
fn name(ino: u64, mark: &Mark) -> String {
    format!("{ino:x}-{:x}-{:016x}", mark.offset, mark.hash)
}

/// What a line of the feed was made of.
fn named(line: &[u8]) -> Option<(u64, u64, u64)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let mut parts = value.get("id")?.as_str()?.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

fn time_of(line: &[u8]) -> Option<Timestamp> {
    let value: Value = serde_json::from_slice(line).ok()?;
    value.get("ts")?.as_str()?.parse().ok()
}

/// When the last line of a feed happened.
fn last_time(feed: &Path) -> Option<Timestamp> {
    tail(feed).ok()?.split(|byte| *byte == b'\n').rev().find_map(time_of)
}

#[cfg(test)]
#[path = "curator_tests.rs"]
mod tests;
