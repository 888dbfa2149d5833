//! The unit of systemd's user manager that is installed for a town: found by its name, read from its files, and what
//! the manager says of it.
//!
//! Must never write one, and never take "cannot be read" for "not installed".

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use super::leash::Leashed;

/// How long the manager may take to answer; a person waits for it.
const ASK: Duration = Duration::from_secs(3);
/// What it is asked for.
const ASKED: &str = "ActiveState,SubState,Result,ExecMainStatus,NRestarts,MainPID";
/// An answer is a few lines.
const ANSWER: u64 = 64 << 10;

/// A town's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// `gtd@INSTANCE.service`
    pub unit: String,
    /// The `PATH` that its files set; none where they set none.
    pub path: Option<String>,
    /// It is started with the user's manager.
    pub enabled: bool,
}

/// What the manager says of a unit (`systemctl show`); what it leaves out is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// `active`, `activating`, `inactive`, `failed`, …
    pub active: String,
    /// `auto-restart` and others.
    pub sub: String,
    /// How it ended last: `success`, `exit-code`, `signal`, `watchdog`, …
    pub result: String,
    /// Exit code or signal of the last end.
    pub status: i32,
    /// Starts that nobody had asked for.
    pub restarts: u32,
    /// The daemon that it runs.
    pub pid: Option<i32>,
}

/// The user's units, by `$XDG_CONFIG_HOME` or the home directory.
#[must_use]
pub fn units_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("systemd/user"))
}

/// The unit that is installed for a town. None when there is none.
///
/// # Errors
/// When that cannot be told.
pub fn find(root: &Path, units: &Path) -> io::Result<Option<Installed>> {
    let entries = match std::fs::read_dir(units) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(unit) = name.to_str().and_then(|name| name.strip_suffix(".d")) else { continue };
        let of_town = instance_path(unit).is_some_and(|path| path == root);
        if !of_town || !units.join(unit_template(unit)).exists() {
            continue;
        }
        let dir = units.join(&name);
        let wanted = units.join("default.target.wants").join(unit);
        return Ok(Some(Installed {
            unit: unit.to_owned(),
            path: set_path(&dir)?,
            enabled: wanted.symlink_metadata().is_ok(),
        }));
    }
    Ok(None)
}

fn unit_template(unit: &str) -> String {
    unit.split_once('@').map_or_else(|| unit.to_owned(), |(name, _)| format!("{name}@.service"))
}

/// The directory that `gtd@INSTANCE.service` is for, which `%f` is in the unit (systemd.unit(5)).
fn instance_path(unit: &str) -> Option<PathBuf> {
    let instance = unit.strip_prefix("gtd@")?.strip_suffix(".service")?;
    let mut bytes = vec![b'/'];
    let mut rest = instance.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.strip_prefix(b"x").and_then(|tail| Some((tail.get(..2)?, tail.get(2..)?)));
        match (first, code) {
            (b'\\', Some((hex, after))) => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
                rest = after;
            }
            (b'-', _) => {
                bytes.push(b'/');
                rest = tail;
            }
            (other, _) => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// The `PATH` that the files of a unit's directory set, in the order in which the manager reads them.
fn set_path(dir: &Path) -> io::Result<Option<String>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "conf"));
    files.sort();
    let mut path = None;
    for file in files {
        for line in std::fs::read_to_string(file)?.lines() {
            let Some(words) = line.trim().strip_prefix("Environment=") else { continue };
            let words = words_of(words);
            let set = words.iter().rev().find_map(|word| word.strip_prefix("PATH="));
            path = set.map(str::to_owned).or(path);
        }
    }
    Ok(path)
}

/// The words of a setting, as the manager divides them: by blanks outside of quotes, with `\` and `%%` undone.
fn words_of(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut open) = (Vec::new(), String::new(), None, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.extend(chars.next()),
            ('%', _) if chars.peek() == Some(&'%') => word.extend(chars.next()),
            ('"' | '\'', None) => (quote, open) = (Some(c), true),
            (c, Some(end)) if c == end => quote = None,
            (c, None) if c.is_whitespace() => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            (c, _) => word.push(c),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

impl Told {
    fn parse(text: &str) -> Self {
        let mut told = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "ActiveState" => value.clone_into(&mut told.active),
                "SubState" => value.clone_into(&mut told.sub),
                "Result" => value.clone_into(&mut told.result),
                "ExecMainStatus" => told.status = value.parse().unwrap_or_default(),
                "NRestarts" => told.restarts = value.parse().unwrap_or_default(),
                "MainPID" => told.pid = value.parse().ok().filter(|pid| *pid > 0),
                _ => {}
            }
        }
        told
    }
}

/// What the user's manager says of a unit.
///
/// # Errors
/// Why it does not say, in words.
pub async fn ask(unit: &str) -> Result<Told, String> {
    let mut command = Command::new("systemctl");
    command.args(["--user", "show", "-p", ASKED, unit]).env("SYSTEMD_PAGER", "").env("LC_ALL", "C");
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| dir.is_empty()) {
        let usual = PathBuf::from(format!("/run/user/{}", rustix::process::getuid().as_raw()));
        if usual.is_dir() {
            command.env("XDG_RUNTIME_DIR", usual);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        Leashed::spawn(&mut command).map_err(|error| format!("systemctl cannot be run: {error}"))?;
    // A few lines fit into the pipes, so it ends without being read.
    let ended = child.ended_by(Instant::now() + ASK).await;
    let (out, err) = (child.0.stdout.take(), child.0.stderr.take());
    let status = child.end().await.map_err(|error| error.to_string())?;
    if !ended {
        return Err(format!("systemctl did not answer within {ASK:?}"));
    }
    if status.success() {
        return Ok(Told::parse(&read(out).await));
    }
    let err = read(err).await;
    Err(err.lines().next().unwrap_or("systemctl failed and said nothing").to_owned())
}

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    use tokio::io::AsyncReadExt as _;
    let Some(pipe) = pipe else { return String::new() };
    let (mut bytes, mut pipe) = (Vec::new(), pipe.take(ANSWER));
    let reading = pipe.read_to_end(&mut bytes);
    // Its writers were killed with the group; one that had left it may hold the pipe.
    let _ = tokio::time::timeout(Duration::from_secs(1), reading).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_the_path_that_it_was_made_of() {
        let path = |unit: &str| instance_path(unit).map(|path| path.display().to_string());
        assert_eq!(path("gtd@home-me-town.service").as_deref(), Some("/home/me/town"));
        assert_eq!(path(r"gtd@a\x20b-c\x2dd.service").as_deref(), Some("/a b/c-d"));
        assert_eq!(path(r"gtd@Gr\xc3\xbc\xc3\x9fe.service").as_deref(), Some("/Grüße"));
        assert_eq!(path("gtx@a.service"), None);
        assert_eq!(path(r"gtd@a\xzz.service"), None);
        assert_eq!(path(r"gtd@a\x2.service").as_deref(), Some(r"/a\x2"));
    }

    #[test]
    fn the_path_is_read_as_the_manager_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let unit = r"gtd@t\x20n.service";
        let below = dir.path().join(format!("{unit}.d"));
        let found = || find(Path::new("/t n"), dir.path()).unwrap();
        assert_eq!(find(Path::new("/t n"), &dir.path().join("none")).unwrap(), None);
        std::fs::create_dir(&below).unwrap();
        assert_eq!(found(), None, "without the template it cannot be started");
        std::fs::write(dir.path().join("gtd@.service"), "").unwrap();
        assert_eq!(found().unwrap().path, None);
        std::fs::write(
            below.join("gtd.conf"),
            "# PATH=no\n[Service]\nEnvironment=\"PATH=/a b:/50%%:/\\\"\"\n",
        )
        .unwrap();
        assert_eq!(found().unwrap().path.as_deref(), Some("/a b:/50%:/\""));
        std::fs::write(below.join("override.conf"), "Environment=X=1 PATH=/c 'Y=2 3'\n").unwrap();
        assert_eq!(found().unwrap().path.as_deref(), Some("/c"));
        assert!(!found().unwrap().enabled);
        std::fs::create_dir(dir.path().join("default.target.wants")).unwrap();
        std::os::unix::fs::symlink("../x", dir.path().join("default.target.wants").join(unit)).unwrap();
        assert!(found().unwrap().enabled);
        assert_eq!(find(Path::new("/t"), dir.path()).unwrap(), None, "another town's");
    }

    #[test]
    fn what_systemctl_says_is_read() {
        let told =
            Told::parse("ActiveState=failed\nResult=signal\nExecMainStatus=9\nNRestarts=4\nMainPID=0\nX\n");
        assert_eq!((told.active.as_str(), told.status, told.restarts, told.pid), ("failed", 9, 4, None));
    }
}
