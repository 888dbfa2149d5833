//! The units of systemd's user manager: their names, their files, and the calls of `systemctl`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::escape::{instance, quoted};
use super::files::{File, is_ours};
use super::run::{CHANGE, QUESTION, done, run};
use super::state::State;
use crate::failure::Failure;

/// The unit, as it lies in the repository. Packages may install it as it is.
const SERVICE: &str = include_str!("../../../systemd/gtd@.service");
/// Its socket.
const SOCKET: &str = include_str!("../../../systemd/gtd@.socket");
/// What stands for gtd's path in the unit.
const GTD: &str = "ExecStart=:/usr/bin/gtd ";

/// Longest name of a file, which `gtd@INSTANCE.service.d` has to be (`NAME_MAX`); a unit's own limit is as high.
const NAME: usize = 255;
/// Longest path of a socket.
const SUN_PATH: usize = 107;

/// How long the manager is given to bring the daemon up: a little more than the unit does.
const START: Duration = Duration::from_secs(130);

/// The units of one town.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    root: PathBuf,
    /// Directory of the user's units.
    dir: PathBuf,
    /// `gtd@INSTANCE.service`
    pub service: String,
    /// `gtd@INSTANCE.socket`
    pub socket: String,
}

fn systemctl(words: &[&str]) -> Vec<String> {
    ["systemctl", "--user"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

impl Units {
    /// Those of a town, for a user whose configuration is in a directory (`$XDG_CONFIG_HOME`).
    ///
    /// # Errors
    /// When the town's path is too long for a name.
    pub fn of(root: &Path, config: &Path) -> Result<Self, Failure> {
        let instance = instance(root);
        let units = Self {
            root: root.to_owned(),
            dir: config.join("systemd/user"),
            service: format!("gtd@{instance}.service"),
            socket: format!("gtd@{instance}.socket"),
        };
        if units.service.len() + ".d".len() > NAME {
            return Err(Failure::failed(format!(
                "the path {} is too long for the name of a unit: {} bytes of {NAME}",
                root.display(),
                units.service.len()
            ))
            .hint("give the town a shorter path, or start its daemon with: gtctl up"));
        }
        Ok(units)
    }

    fn template(&self, end: &str) -> PathBuf {
        self.dir.join(format!("gtd@.{end}"))
    }

    /// What belongs to this town alone; where it is, the service is installed.
    fn drop_in(&self) -> PathBuf {
        self.dir.join(format!("{}.d", self.service)).join("gtd.conf")
    }

    fn wanted(&self, by: &str, unit: &str) -> PathBuf {
        self.dir.join(format!("{by}.target.wants")).join(unit)
    }

    /// Whether it is installed, as far as files tell.
    #[must_use]
    pub fn installed(&self) -> bool {
        is_ours(&self.drop_in()) && self.template("service").exists()
    }

    /// Whether the socket is held by the manager.
    #[must_use]
    pub fn has_socket(&self) -> bool {
        self.wanted("sockets", &self.socket).symlink_metadata().is_ok()
    }

    /// Units that are not yet started with the manager.
    #[must_use]
    pub fn to_enable(&self, socket: bool) -> Vec<&str> {
        let service = self.wanted("default", &self.service).symlink_metadata().is_err();
        let socket = socket && !self.has_socket();
        let all = [(service, &self.service), (socket, &self.socket)];
        all.into_iter().filter(|(missing, _)| *missing).map(|(_, unit)| unit.as_str()).collect()
    }

    /// The units that are in use.
    #[must_use]
    pub fn units(&self) -> Vec<&str> {
        // The socket first: it would start a daemon for the next client.
        let socket = self.has_socket().then_some(self.socket.as_str());
        socket.into_iter().chain([self.service.as_str()]).collect()
    }

    /// The files as they should be.
    ///
    /// # Errors
    /// When a path cannot be written into a unit.
    pub fn files(&self, gtd: &Path, path: &str, socket: bool) -> Result<Vec<File>, Failure> {
        let text = |path: &Path| {
            path.to_str().filter(|text| !text.contains(char::is_control)).map(str::to_owned).ok_or_else(
                || Failure::failed(format!("{path:?} cannot be written into a unit: it is no plain text")),
            )
        };
        let root = text(&self.root)?;
        let command = format!("ExecStart={} ", quoted(&format!(":{}", text(gtd)?)));
        let mut files = vec![
            File {
                path: self.template("service"),
                text: SERVICE.replacen(GTD, &command, 1),
                why: "the unit of every town",
            },
            File {
                path: self.drop_in(),
                text: format!(
                    "# Written by `gtctl daemon install` for the town {root}, with the PATH of that moment.\n\
                     [Service]\nEnvironment={}\n",
                    quoted(&format!("PATH={path}"))
                ),
                why: "the PATH in which this town's agents are found",
            },
        ];
        if socket {
            let length = self.root.join("daemon/gtd.sock").as_os_str().len();
            if length > SUN_PATH {
                return Err(Failure::failed(format!(
                    "the path of the town's socket has {length} bytes, and the manager can make one of at most {SUN_PATH}"
                ))
                .hint("install without --listen: the daemon finds a shorter one"));
            }
            files.push(File {
                path: self.template("socket"),
                text: SOCKET.to_owned(),
                why: "the socket of every town",
            });
        }
        Ok(files)
    }

    /// The files that are to go: this town's own, and with the last town those of all. Never one that is not ours.
    #[must_use]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut files = vec![self.drop_in()];
        if !self.others() {
            files.extend([self.template("service"), self.template("socket")]);
        }
        files.into_iter().filter(|file| is_ours(file)).collect()
    }

    /// Whether another town uses the same files.
    fn others(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return false };
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let unit = name.to_str().and_then(|name| name.strip_suffix(".d"));
            unit.is_some_and(|unit| unit.starts_with("gtd@") && unit.ends_with(".service"))
                && unit != Some(self.service.as_str())
                && is_ours(&entry.path().join("gtd.conf"))
        })
    }

    /// Asks whether there is a manager to talk to.
    ///
    /// # Errors
    /// When it does not answer: with its words.
    pub async fn reachable(&self) -> Result<(), Failure> {
        let said = run(&systemctl(&["show", "-p", "Version", "--value"]), QUESTION).await?;
        if said.ok {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "the user's service manager does not answer: {}",
            said.err.lines().next().unwrap_or("systemctl failed and said nothing")
        ))
        .hint("log in as this user in a session of its own (not by su or sudo), or: loginctl enable-linger"))
    }

    /// Tells the manager of changed files, and what to start by itself.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn enable(&self, units: &[&str]) -> Result<(), Failure> {
        done(&systemctl(&["daemon-reload"]), CHANGE).await?;
        if !units.is_empty() {
            done(&systemctl(&[&["enable"], units].concat()), CHANGE).await?;
        }
        Ok(())
    }

    /// Ends the units and takes back what [`Self::enable`] did.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn disable(&self) -> Result<(), Failure> {
        done(&systemctl(&[&["disable"], self.units().as_slice()].concat()), CHANGE).await.map(drop)
    }

    /// Tells the manager that files are gone, and to forget how the units ended.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn forget(&self) -> Result<(), Failure> {
        done(&systemctl(&["daemon-reload"]), CHANGE).await?;
        self.reset().await
    }

    /// Clears a start limit that was reached. A unit that is not loaded has none, which is no error.
    async fn reset(&self) -> Result<(), Failure> {
        run(&systemctl(&["reset-failed", &self.service, &self.socket]), QUESTION).await.map(drop)
    }

    /// Starts the units and waits until the daemon is ready. A start limit that was reached is cleared first.
    ///
    /// # Errors
    /// When it does not come up: with what systemctl says.
    pub async fn start(&self) -> Result<(), Failure> {
        self.reset().await?;
        done(&systemctl(&[&["start"], self.units().as_slice()].concat()), START).await.map(drop)
    }

    /// Tells the manager to end the daemon, and does not wait.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn stop(&self) -> Result<(), Failure> {
        done(&systemctl(&[&["stop", "--no-block"], self.units().as_slice()].concat()), QUESTION)
            .await
            .map(drop)
    }

    /// Tells the manager to replace the daemon, and does not wait. From then on it is the manager's business,
    /// whatever becomes of us.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn restart(&self) -> Result<(), Failure> {
        self.reset().await?;
        done(&systemctl(&["restart", "--no-block", &self.service]), QUESTION).await.map(drop)
    }

    /// How the service is.
    ///
    /// # Errors
    /// When the manager does not say.
    pub async fn state(&self) -> Result<State, Failure> {
        let said = done(&systemctl(&["show", "-p", State::ASKED, &self.service]), QUESTION).await?;
        Ok(State::parse(&said.out))
    }
}

/// Whether the user's manager goes on after the last logout, as far as files tell.
#[must_use]
pub fn lingers() -> bool {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    !user.is_empty() && Path::new("/var/lib/systemd/linger").join(user).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(root: &str, config: &Path) -> Units {
        Units::of(Path::new(root), config).unwrap()
    }

    #[test]
    fn the_unit_is_the_repositorys_with_the_path_of_gtd() {
        let files = units("/home/me/my town", Path::new("/c"))
            .files(Path::new("/opt/50% \"off\"/gtd"), "/a b:/c", true)
            .unwrap();
        let [service, own, socket] = &files[..] else { panic!("{files:?}") };
        assert_eq!(service.path, Path::new("/c/systemd/user/gtd@.service"));
        assert!(
            service.text.contains("\nExecStart=\":/opt/50%% \\\"off\\\"/gtd\" --town %f\n"),
            "{}",
            service.text
        );
        assert!(!service.text.contains("/usr/bin/gtd"));
        assert_eq!(own.path, Path::new("/c/systemd/user/gtd@home-me-my\\x20town.service.d/gtd.conf"));
        assert!(own.text.ends_with("[Service]\nEnvironment=\"PATH=/a b:/c\"\n"), "{}", own.text);
        assert_eq!(socket.path, Path::new("/c/systemd/user/gtd@.socket"));
        // By this they are told from somebody else's.
        assert!(files.iter().all(|file| file.text.contains("gtctl daemon install")));
    }

    #[test]
    fn what_no_unit_can_hold_is_refused() {
        let config = Path::new("/c");
        assert!(Units::of(Path::new(&format!("/{}", "long/".repeat(60))), config).is_err());
        // Every byte of these takes four in a unit's name.
        assert!(Units::of(Path::new(&format!("/{}", "ü".repeat(40))), config).is_err());
        let deep = format!("/{}", "d".repeat(110));
        let files = |socket: bool| units(&deep, config).files(Path::new("/gtd"), "", socket);
        assert!(files(false).is_ok() && files(true).is_err());
        assert!(units("/a\nb", config).files(Path::new("/gtd"), "", false).is_err());
    }

    #[test]
    fn the_last_town_takes_the_common_files_along_and_nothing_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (units("/a", dir.path()), units("/b", dir.path()));
        assert!(!a.installed() && a.leftovers().is_empty());
        for town in [&a, &b] {
            town.files(Path::new("/gtd"), "/bin", false)
                .unwrap()
                .iter()
                .for_each(|file| file.write().unwrap());
        }
        let own = dir.path().join("systemd/user/gtd@.socket");
        std::fs::write(&own, "mine").unwrap();
        assert!(a.installed() && b.installed() && !a.has_socket());
        assert_eq!(a.leftovers().len(), 1);
        a.leftovers().iter().for_each(|file| super::super::files::remove(file).unwrap());
        assert!(!a.installed() && b.installed());
        assert_eq!(b.leftovers().len(), 2);
        b.leftovers().iter().for_each(|file| super::super::files::remove(file).unwrap());
        let left: Vec<_> = std::fs::read_dir(own.parent().unwrap()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
