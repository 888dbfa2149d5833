//! Looks at all processes, one at a time: the kernel may keep whoever reads of a process waiting for as long as it
//! likes, and a thread that hangs there cannot be ended. Never more than one does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Who may look.
#[derive(Debug, Clone)]
pub struct Looks(Arc<Semaphore>);

/// Why nothing was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// It did not come to its end in time, and goes on.
    #[error("the processes could not be read within {0:?}")]
    Late(Duration),
    /// An earlier one has not come to its end.
    #[error("an earlier look at the processes has not come to its end, and no other is begun")]
    Busy,
    /// It broke off.
    #[error("reading the processes broke off: {0}")]
    Broken(String),
}

impl Default for Looks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Looks {
    /// Looks in a thread of its own, once whoever looks already has ended; all within a time.
    ///
    /// # Errors
    /// Why nothing is known: then nothing follows.
    pub async fn look<T: Send + 'static>(
        &self,
        within: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unseen> {
        let until = tokio::time::Instant::now() + within;
        let turn = tokio::time::timeout_at(until, Arc::clone(&self.0).acquire_owned()).await;
        let turn = turn.map_err(|_| Unseen::Busy)?.map_err(|error| Unseen::Broken(error.to_string()))?;
        let looking = tokio::task::spawn_blocking(move || {
            // Given back when it has ended, however long that takes and whoever waits for it.
            let _turn = turn;
            look()
        });
        match tokio::time::timeout_at(until, looking).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(error)) => Err(Unseen::Broken(error.to_string())),
            Err(_) => Err(Unseen::Late(within)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn while_one_hangs_no_other_is_begun_and_after_it_all_is_as_before() {
        let (looks, begun) = (Looks::default(), Arc::new(AtomicU32::new(0)));
        let (go, gate) = mpsc::channel::<()>();
        let count = Arc::clone(&begun);
        let hung = looks
            .look(SHORT, move || {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = gate.recv();
            })
            .await;
        // Its thread may not have run yet: it has its turn all the same.
        assert_eq!(hung, Err(Unseen::Late(SHORT)));
        for _ in 0..20 {
            let count = Arc::clone(&begun);
            let other = looks.look(SHORT / 10, move || count.fetch_add(1, Ordering::SeqCst)).await;
            assert_eq!(other, Err(Unseen::Busy));
        }
        drop(go);
        assert_eq!(looks.look(LONG, || 7).await, Ok(7));
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn several_at_once_have_their_turns_and_one_that_breaks_off_leaves_it() {
        let looks = Looks::default();
        let broken = looks.look(LONG, || panic!("made up")).await;
        assert!(matches!(broken, Err::<(), _>(Unseen::Broken(_))));
        let all = (0..8).map(|n| {
            let looks = looks.clone();
            tokio::spawn(async move { looks.look(LONG, move || n).await })
        });
        for (n, one) in all.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(one.await.unwrap(), Ok(n));
        }
    }
}
