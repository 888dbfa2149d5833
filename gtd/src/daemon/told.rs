//! What the service manager is told while the daemon runs: that it lives, and in a line how it goes.
//!
//! Each word follows a turn of the supervisor's loop: a loop that is stuck feeds no watchdog.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::host::notify::ServiceManager;
use crate::supervisor::Handle;

/// How often the line is looked at where no watchdog waits.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Tells the manager until the daemon goes down. `turn` ends when the loop has come round once.
pub(super) async fn keep_told<T: Future<Output = ()>>(
    manager: ServiceManager,
    turn: impl Fn() -> T,
    status: impl Fn() -> String,
    stop: CancellationToken,
) {
    if !manager.is_there() {
        return;
    }
    let every = manager.alive_every().unwrap_or(STATUS_EVERY).min(STATUS_EVERY);
    let mut said = String::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = turn() => {}
        }
        manager.alive();
        let line = status();
        if line != said {
            manager.status(&line);
            said = line;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// How it goes, in a line.
pub(super) fn line(handle: &Handle) -> String {
    let summary = handle.view().read(|shown| shown.summary());
    let states: Vec<String> = summary.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let agents = if states.is_empty() { "no agents".to_owned() } else { states.join(", ") };
    match handle.shared().reasons().first() {
        Some(reason) => format!("{agents}; degraded: {reason}"),
        None => agents,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;

    fn told(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 1_024];
        let count = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_loop_that_is_stuck_feeds_no_watchdog_and_one_that_turns_again_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.to_str().unwrap(), Some(Duration::from_millis(40))).unwrap();
        let stuck = Arc::new(AtomicBool::new(false));
        let turn = {
            let stuck = Arc::clone(&stuck);
            move || {
                let stuck = Arc::clone(&stuck);
                async move {
                    while stuck.load(Ordering::Acquire) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep_told(manager, turn, || "1 running".to_owned(), stop.clone()));
        let fed = |limit: Duration| {
            socket.set_read_timeout(Some(limit)).unwrap();
            let until = Instant::now() + limit;
            while Instant::now() < until {
                if told(&socket).is_some_and(|word| word == "WATCHDOG=1\n") {
                    return true;
                }
            }
            false
        };
        assert!(fed(Duration::from_secs(10)) && fed(Duration::from_secs(10)));
        stuck.store(true, Ordering::Release);
        // One may be on its way.
        fed(Duration::from_millis(100));
        assert!(!fed(Duration::from_millis(300)), "a stuck loop is not said to live");
        stuck.store(false, Ordering::Release);
        assert!(fed(Duration::from_secs(10)));
        stop.cancel();
        task.await.unwrap();
    }
}
