//! The daemon's log: `daemon/gtd.log`, rotated by size, and standard error where somebody reads it.
//!
//! Owns the global `tracing` subscriber. Never blocks who logs: lines go through a bounded queue and are
//! dropped, and counted, when the disk or the terminal does not keep up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// The file's name in the daemon's directory; older ones are `gtd.log.1`, `gtd.log.2`, …
pub const FILE: &str = "gtd.log";

/// Lines that may wait to be written: some megabytes at the most.
const QUEUE: usize = 8_192;
/// Most files that the configuration allows.
const FILES_MAX: u32 = 100;
/// Longest line that is kept whole: a line may quote an agent's output.
const LINE_MAX: usize = 64 * 1024;

/// What to log, and where.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The town's `daemon` directory.
    pub dir: PathBuf,
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// A file that would grow beyond this is rotated: `[daemon] log_max_bytes`.
    pub max_bytes: u64,
    /// Files kept, the current one included: `[daemon] log_files`.
    pub files: u32,
    /// Log to standard error too: see [`stderr_is_read`].
    pub stderr: bool,
}

/// The log cannot be set up or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No such level.
    #[error("log level {0:?} is none of off, error, warn, info, debug, trace")]
    Level(String),
    /// This process already logs elsewhere.
    #[error("the log was already set up in this process")]
    Already,
}

/// A running log. Dropping it writes what waits, for at most a second.
#[derive(Debug)]
pub struct Logs {
    handle: reload::Handle<Targets, Registry>,
    level: Mutex<LevelFilter>,
    shared: Arc<Shared>,
    dropped: Vec<ErrorCounter>,
    _guards: Vec<WorkerGuard>,
}

#[derive(Debug, Default)]
struct Shared {
    reopen: AtomicBool,
    max_bytes: AtomicU64,
    files: AtomicU32,
    problem: Mutex<Option<String>>,
}

impl Shared {
    fn bound(&self, max_bytes: u64, files: u32) {
        self.max_bytes.store(max_bytes.max(1), Ordering::Release);
        self.files.store(files.max(1), Ordering::Release);
    }
}

/// Sets the log up for this process. A file that cannot be written is no error: it is tried again with each
/// line, and [`Logs::problem`] says what is wrong.
///
/// # Errors
/// The level is none, or the process already has a log.
pub fn init(options: &LogOptions) -> Result<Logs, LogError> {
    let (subscriber, logs) = build(options)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Already)?;
    Ok(logs)
}

fn build(options: &LogOptions) -> Result<(impl tracing::Subscriber + Send + Sync, Logs), LogError> {
    let level = parse(&options.level)?;
    let (filter, handle) = reload::Layer::new(targets(level));
    let shared = Arc::new(Shared::default());
    let file = RotatingFile::new(options, Arc::clone(&shared));
    let (file, file_guard) = queue(file, "gtd-log");
    let mut dropped = vec![file.error_counter()];
    let mut guards = vec![file_guard];
    let to_file = fmt::layer().with_ansi(false).with_writer(file);
    let to_stderr = options.stderr.then(|| {
        let (stderr, guard) = queue(io::stderr(), "gtd-log-stderr");
        dropped.push(stderr.error_counter());
        guards.push(guard);
        let terminal = io::stderr().is_terminal();
        let layer = fmt::layer().with_ansi(terminal).with_writer(stderr);
        // The journal dates its lines itself.
        if terminal { layer.boxed() } else { layer.without_time().boxed() }
    });
    let subscriber = tracing_subscriber::registry().with(filter).with(to_file).with(to_stderr);
    Ok((subscriber, Logs { handle, level: Mutex::new(level), shared, dropped, _guards: guards }))
}

fn queue(writer: impl Write + Send + 'static, name: &str) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(QUEUE).lossy(true).thread_name(name).finish(writer)
}

/// The word of a level, as it is shown.
///
/// # Errors
/// It is none.
pub fn level(word: &str) -> Result<String, LogError> {
    parse(word).map(|level| level.to_string())
}

fn parse(level: &str) -> Result<LevelFilter, LogError> {
    let known = ["off", "error", "warn", "info", "debug", "trace"];
    let word = level.to_ascii_lowercase();
    // LevelFilter would also take numbers.
    if !known.contains(&word.as_str()) {
        return Err(LogError::Level(level.to_owned()));
    }
    word.parse().map_err(|_| LogError::Level(level.to_owned()))
}

/// The level holds for our own crates; of the libraries only what is wrong is of interest.
fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("gtd", level)
}

impl Logs {
    /// Changes the level from the next line on.
    ///
    /// # Errors
    /// The level is none; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let level = parse(level)?;
        self.handle.reload(targets(level)).map_err(|_| LogError::Already)?;
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        Ok(())
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).to_string()
    }

    /// Changes how large the file may become, and how many are kept, from the next line on.
    pub fn set_bounds(&self, max_bytes: u64, files: u32) {
        self.shared.bound(max_bytes, files);
    }

    /// Opens the file anew with the next line: somebody may have moved it.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// Why the file could not be written at the last try; `None` when it could.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lines that were dropped because their reader was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().map(|counter| counter.dropped_lines() as u64).sum()
    }
}

/// Whether somebody reads standard error: it is a terminal, or a service manager takes it.
#[must_use]
pub fn stderr_is_read() -> bool {
    let stderr =
        rustix::fs::fstat(io::stderr()).ok().map(|found| format!("{}:{}", found.st_dev, found.st_ino));
    is_read(
        io::stderr().is_terminal(),
        std::env::var("JOURNAL_STREAM").ok().as_deref(),
        std::env::var_os("INVOCATION_ID").is_some(),
        stderr.as_deref(),
    )
}

/// `JOURNAL_STREAM` names the device and inode of the journal's pipe: inherited by everything below a
/// service, it only counts while standard error still is that pipe (systemd.exec(5)).
fn is_read(terminal: bool, journal: Option<&str>, service: bool, stderr: Option<&str>) -> bool {
    terminal
        || match journal {
            Some(journal) => stderr == Some(journal),
            None => service,
        }
}

/// A file that never grows beyond a size: before it would, it becomes `.1`, `.1` becomes `.2`, and so on.
#[derive(Debug)]
struct RotatingFile {
    path: PathBuf,
    open: Option<(File, u64)>,
    shared: Arc<Shared>,
}

impl RotatingFile {
    fn new(options: &LogOptions, shared: Arc<Shared>) -> Self {
        shared.bound(options.max_bytes, options.files);
        Self { path: options.dir.join(FILE), open: None, shared }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let files = self.shared.files.load(Ordering::Acquire);
        // What was kept while more were to be kept.
        for number in files..=FILES_MAX {
            let _ = fs::remove_file(self.numbered(number));
        }
        if files == 1 {
            return File::options().write(true).truncate(true).open(&self.path).map(drop);
        }
        for number in (0..files - 1).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<(File, u64)> {
        // A pipe or a device in place of the log would block this thread, or never fill.
        if fs::metadata(&self.path).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let size = file.metadata()?.size();
        Ok((file, size))
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            self.open = None;
        }
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if size > 0 && size.saturating_add(line.len() as u64) > self.shared.max_bytes.load(Ordering::Acquire)
        {
            drop(file);
            self.rotate()?;
            (file, size) = self.open()?;
        }
        file.write_all(line)?;
        self.open = Some((file, size.saturating_add(line.len() as u64)));
        Ok(())
    }
}

impl Write for RotatingFile {
    /// Takes a whole line, or drops it: there is nobody to tell but [`Logs::problem`].
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = match line.get(..LINE_MAX) {
            Some(start) if line.len() > LINE_MAX => self.line(&[start, b" (cut)\n"].concat()),
            _ => self.line(line),
        };
        let problem = written.err().map(|why| format!("cannot write {}: {why}", self.path.display()));
        *self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a town's log is.
#[must_use]
pub fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &Path) -> LogOptions {
        LogOptions { dir: dir.to_owned(), level: "info".into(), max_bytes: 1_000, files: 3, stderr: false }
    }

    fn rotating(options: &LogOptions) -> (RotatingFile, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        (RotatingFile::new(options, Arc::clone(&shared)), shared)
    }

    fn sizes(dir: &Path) -> Vec<(String, u64)> {
        let mut sizes: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        sizes.sort();
        sizes
    }

    #[test]
    fn the_log_is_bounded_by_bytes_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, shared) = rotating(&options(dir.path()));
        for n in 0..100 {
            file.write_all(format!("{n:099}\n").as_bytes()).unwrap();
        }
        let expected = [("gtd.log", 1_000), ("gtd.log.1", 1_000), ("gtd.log.2", 1_000)];
        assert_eq!(sizes(dir.path()), expected.map(|(name, size)| (name.to_owned(), size)));
        let newest = fs::read_to_string(path(dir.path())).unwrap();
        assert!(newest.ends_with("099\n") && newest.lines().count() == 10);
        assert!(fs::read_to_string(dir.path().join("gtd.log.2")).unwrap().ends_with("079\n"));
        assert_eq!(*shared.problem.lock().unwrap(), None);

        // Fewer and smaller ones: what is over goes with the next rotation.
        shared.bound(200, 2);
        file.write_all(format!("{:099}\n", 100).as_bytes()).unwrap();
        assert_eq!(sizes(dir.path()), [("gtd.log".to_owned(), 100), ("gtd.log.1".to_owned(), 1_000)]);
        shared.bound(1_000, 3);

        // One that was found is gone on with.
        let (mut file, _) = rotating(&options(dir.path()));
        file.write_all(b"x\n").unwrap();
        assert!(fs::read_to_string(path(dir.path())).unwrap().ends_with("100\nx\n"));
    }

    #[test]
    fn a_single_file_begins_anew_and_a_long_line_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = rotating(&LogOptions { files: 1, max_bytes: 5, ..options(dir.path()) });
        file.write_all(b"abc\n").unwrap();
        file.write_all(b"def\n").unwrap();
        assert_eq!(sizes(dir.path()), [("gtd.log".to_owned(), 4)]);
        file.write_all(&vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(sizes(dir.path()), [("gtd.log".to_owned(), LINE_MAX as u64 + 7)]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, shared) = rotating(&options(dir.path()));
        fs::create_dir(path(dir.path())).unwrap();
        file.write_all(b"lost\n").unwrap();
        assert!(shared.problem.lock().unwrap().as_ref().is_some_and(|why| why.contains("gtd.log")));
        fs::remove_dir(path(dir.path())).unwrap();
        file.write_all(b"kept\n").unwrap();
        assert_eq!(*shared.problem.lock().unwrap(), None);
        fs::rename(path(dir.path()), dir.path().join("moved")).unwrap();
        shared.reopen.store(true, Ordering::Release);
        file.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(path(dir.path())).unwrap(), "new\n");
    }

    #[test]
    fn the_level_holds_for_us_can_be_changed_and_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let (subscriber, logs) = build(&LogOptions { max_bytes: 100_000, ..options(dir.path()) }).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("one");
            tracing::info!(answer = 42, "two");
            tracing::info!(target: "library", "three");
            tracing::warn!(target: "library", "four");
            logs.set_level("DEBUG").unwrap();
            tracing::debug!("five");
            logs.set_level("off").unwrap();
            tracing::error!("six");
            assert_eq!(logs.set_level("loud"), Err(LogError::Level("loud".into())));
            assert!(logs.set_level("3").is_err() && logs.set_level("gtd=info").is_err());
            assert_eq!(logs.level(), "off");
        });
        assert_eq!(logs.dropped(), 0);
        drop(logs);
        let text = fs::read_to_string(path(dir.path())).unwrap();
        let told: Vec<bool> = ["one", "two answer=42", "three", "four", "five", "six"]
            .iter()
            .map(|word| text.contains(word))
            .collect();
        assert_eq!(told, [false, true, false, true, true, false], "{text}");
        assert!(
            text.lines().all(|line| line.split(' ').next().unwrap().parse::<jiff::Timestamp>().is_ok()),
            "{text}"
        );
    }

    #[test]
    fn standard_error_is_read_by_terminals_and_service_managers() {
        let cases = [
            (true, None, false, None, true),
            (false, None, false, Some("1:2"), false),
            (false, None, true, Some("1:2"), true),
            (false, Some("1:2"), true, Some("1:2"), true),
            (false, Some("1:2"), true, Some("1:3"), false),
            (false, Some("1:2"), false, None, false),
        ];
        for (terminal, journal, service, stderr, expected) in cases {
            assert_eq!(is_read(terminal, journal, service, stderr), expected, "{journal:?} {stderr:?}");
        }
    }
}
