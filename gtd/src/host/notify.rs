//! What the service manager is told: ready, reloading, stopping, how it goes, still alive.
//!
//! Without a service manager everything here does nothing. Never blocks, and never fails the caller: a
//! manager that does not listen is its own problem.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sd_notify::NotifyState;

/// Variables by which a service manager speaks to the daemon itself. No program that we start may inherit
/// them: it would speak for us, or think that it is the service.
pub const NOT_FOR_CHILDREN: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
];

/// Takes the service manager's variables out of a child's environment.
pub fn hide_from(command: &mut Command) {
    for name in NOT_FOR_CHILDREN {
        command.env_remove(name);
    }
}

/// The service manager that started us, or none.
#[derive(Debug)]
pub struct ServiceManager {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// From the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let (socket, usec, pid) =
            (variable("NOTIFY_SOCKET"), variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        Self {
            to: socket.and_then(|socket| match connect(&socket) {
                Ok(to) => Some(to),
                Err(why) => {
                    tracing::warn!(%socket, %why, "the service manager cannot be told anything");
                    None
                }
            }),
            watchdog: watchdog(usec.as_deref(), pid.as_deref(), std::process::id()),
        }
    }

    /// The one that listens at an address, which wants to be told so often that the daemon lives.
    ///
    /// # Errors
    /// The address is none.
    pub fn at(address: &str, alive_every: Option<Duration>) -> io::Result<Self> {
        Ok(Self { to: Some(connect(address)?), watchdog: alive_every })
    }

    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self { to: None, watchdog: None }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.to.is_some()
    }

    /// The daemon serves; also after a reload.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The configuration is being read again; to be followed by [`Self::ready`].
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            // Without the time a newer systemd would take the service for broken.
            Err(why) => tracing::debug!(%why, "the service manager was not told of the reload"),
        }
    }

    /// The daemon goes down.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        // A line break would begin another message.
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.tell(&[NotifyState::Status(&line)]);
    }

    /// The daemon is alive. To be told by the supervisor's own loop, after it has got somewhere.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// How often [`Self::alive`] is to be told: half of what the service manager allows. `None`: never.
    #[must_use]
    pub fn alive_every(&self) -> Option<Duration> {
        self.to.as_ref().and(self.watchdog)
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some((socket, address)) = &self.to else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(why) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::debug!(%why, "the service manager was not told");
        }
    }
}

fn connect(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)?
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
        None if Path::new(name).is_absolute() => SocketAddr::from_pathname(name)?,
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// `WATCHDOG_PID` says for which process it is meant; absent, for any (sd_watchdog_enabled(3)).
fn watchdog(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok().filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(address: &str) -> ServiceManager {
        ServiceManager { to: Some(connect(address).unwrap()), watchdog: Some(Duration::from_secs(1)) }
    }

    fn told(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1_024];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn what_is_told_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let manager = manager(path.to_str().unwrap());
        manager.ready();
        manager.status("3 agents\nREADY=1");
        manager.alive();
        manager.reloading();
        manager.stopping();
        assert_eq!(told(&socket), "READY=1\n");
        assert_eq!(told(&socket), "STATUS=3 agents READY=1\n");
        assert_eq!(told(&socket), "WATCHDOG=1\n");
        let reload = told(&socket);
        assert!(reload.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reload}");
        assert_eq!(told(&socket), "STOPPING=1\n");
        drop(socket);
        manager.ready();
    }

    #[test]
    fn one_that_does_not_read_does_not_hold_us_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let manager = manager(path.to_str().unwrap());
        for _ in 0..10_000 {
            manager.status("on and on");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn abstract_names_are_understood() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("gtd-test-{}", uuid::Uuid::new_v4());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager(&format!("@{name}")).ready();
        assert_eq!(told(&socket), "READY=1\n");
        assert!(connect("relative").is_err());
    }

    #[test]
    fn without_one_nothing_happens() {
        let nobody = ServiceManager::none();
        nobody.ready();
        nobody.alive();
        assert_eq!((nobody.is_there(), nobody.alive_every()), (false, None));
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let second = Some(Duration::from_secs(1));
        let cases = [
            (None, None, None),
            (Some("2000000"), None, second),
            (Some("2000000"), Some("7"), second),
            (Some("2000000"), Some("8"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
        ];
        for (usec, pid, expected) in cases {
            assert_eq!(watchdog(usec, pid, 7), expected, "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn children_do_not_see_it() {
        let mut command = Command::new("env");
        command.env_clear().env("NOTIFY_SOCKET", "/x").env("KEPT", "1");
        hide_from(&mut command);
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(output.trim(), "KEPT=1");
    }
}
