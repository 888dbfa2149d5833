//! A socket that whoever started us made and passed in (sd_listen_fds(3)).
//!
//! It is theirs: this module never unlinks, binds or closes it for others.

use std::io;
use std::os::unix::net::UnixListener;

/// The first listening Unix socket with a path that was passed to this very process. None when nothing was.
///
/// # Errors
/// When something was passed in and none of it can be served, or it cannot be taken over.
#[cfg(target_os = "linux")]
pub fn listener() -> io::Result<Option<UnixListener>> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    // Also keeps them from every program that we start.
    let passed: Vec<_> = sd_notify::listen_fds()?.collect();
    if passed.is_empty() {
        return Ok(None);
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    for number in &passed {
        // A copy through our own pidfd: the only way to a typed handle that trusts no number.
        let fd = pidfd_getfd(&own, *number, PidfdGetfdFlags::empty())?;
        if let Some(listener) = listens(fd)? {
            return Ok(Some(listener));
        }
        tracing::warn!(number, "a descriptor that was passed in is no listening Unix socket with a path");
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("none of the {} descriptors passed in is a listening Unix socket with a path", passed.len()),
    ))
}

/// Nothing is passed in this way elsewhere.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn listener() -> io::Result<Option<UnixListener>> {
    Ok(None)
}

/// Connections that may wait to be accepted; the kernel caps it at its own limit.
#[cfg(target_os = "linux")]
const BACKLOG: i32 = 4_096;

#[cfg(target_os = "linux")]
fn listens(fd: std::os::fd::OwnedFd) -> io::Result<Option<UnixListener>> {
    use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
    use rustix::net::{AddressFamily, SocketType};
    let is_socket = rustix::fs::fstat(&fd)
        .is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode).is_socket());
    let fits = is_socket
        && socket_domain(&fd)? == AddressFamily::UNIX
        && socket_type(&fd)? == SocketType::STREAM
        && socket_acceptconn(&fd)?;
    if !fits {
        return Ok(None);
    }
    let listener = UnixListener::from(fd);
    if listener.local_addr()?.as_pathname().is_none() {
        return Ok(None);
    }
    // Clients see the process that listened last as their peer. That must be us, not who made the socket: they
    // compare it with what we say of ourselves (`unix_listen` in the kernel's net/unix/af_unix.c).
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(Some(listener))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn only_a_listening_stream_socket_with_a_path_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listening = UnixListener::bind(&path).unwrap();
        let taken = listens(OwnedFd::from(listening.try_clone().unwrap())).unwrap().unwrap();
        assert_eq!(taken.local_addr().unwrap().as_pathname(), Some(path.as_path()));
        let client = UnixStream::connect(&path).unwrap();
        let nothing: [OwnedFd; 4] = [
            client.into(),
            UnixDatagram::bind(dir.path().join("d")).unwrap().into(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
            std::fs::File::open("/dev/null").unwrap().into(),
        ];
        for fd in nothing {
            assert!(listens(fd).unwrap().is_none());
        }
        drop((taken, listening));
        assert!(path.exists());
    }

    #[test]
    fn without_a_word_of_a_manager_there_is_none() {
        assert!(listener().unwrap().is_none());
    }
}
