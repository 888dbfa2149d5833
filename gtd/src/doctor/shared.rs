//! Looks at the town that several requests share, so that checks can be asked for one by one.
//!
//! Must never hand out a look to who did not ask for that very one: somebody may have changed things meanwhile.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gtd_proto::RigName;
use tokio::sync::OnceCell;

use super::World;

/// How long a look is kept.
const KEEP: Duration = Duration::from_secs(10);
/// Looks that are kept; a further one is nobody's but the request's.
const LOOKS: usize = 8;

type Key = (String, Option<RigName>);
/// One look, taken by whoever comes first.
type Cell = Arc<OnceCell<Arc<World>>>;

/// The looks of a daemon. Cheap to clone.
#[derive(Clone, Default)]
pub struct Looks(Arc<Mutex<BTreeMap<Key, Cell>>>);

impl Looks {
    /// The look of this word, taken by the first who asks; the others wait for it.
    ///
    /// # Errors
    /// What the look failed with; the next who asks tries again.
    pub async fn shared(
        &self,
        word: &str,
        rig: Option<RigName>,
        look: impl Future<Output = io::Result<World>>,
    ) -> io::Result<Arc<World>> {
        let Some(cell) = self.cell((word.to_owned(), rig)) else { return Ok(Arc::new(look.await?)) };
        let look = async { look.await.map(Arc::new) };
        cell.get_or_try_init(|| look).await.cloned()
    }

    fn cell(&self, key: Key) -> Option<Cell> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = looks.get(&key) {
            return Some(Arc::clone(cell));
        }
        if looks.len() >= LOOKS {
            return None;
        }
        let cell = Arc::new(OnceCell::new());
        looks.insert(key.clone(), Arc::clone(&cell));
        let kept = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(KEEP).await;
            kept.forget(&key);
        });
        Some(cell)
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn who_asks_by_the_same_word_shares_and_nobody_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let (looks, taken) = (Looks::default(), AtomicUsize::new(0));
        let look = || async {
            taken.fetch_add(1, Ordering::Relaxed);
            World::without_daemon(dir.path(), None).await
        };
        let failing = async { Err(io::Error::other("no")) };
        assert!(looks.shared("a", None, failing).await.is_err());
        let (one, two) = tokio::join!(looks.shared("a", None, look()), looks.shared("a", None, look()));
        assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
        assert_eq!(taken.load(Ordering::Relaxed), 1);
        let rig = RigName::new("r").unwrap();
        looks.shared("a", Some(rig.clone()), look()).await.unwrap();
        looks.shared("b", None, look()).await.unwrap();
        assert_eq!(taken.load(Ordering::Relaxed), 3);
        // Later it is another one.
        for key in [("a".to_owned(), None), ("a".to_owned(), Some(rig)), ("b".to_owned(), None)] {
            looks.forget(&key);
        }
        looks.shared("a", None, look()).await.unwrap();
        assert_eq!(taken.load(Ordering::Relaxed), 4);
        // Beyond what is kept, everybody looks for themselves.
        for word in ["c", "d", "e", "f", "g", "h", "i", "j", "j"] {
            looks.shared(word, None, look()).await.unwrap();
        }
        assert_eq!(taken.load(Ordering::Relaxed), 13);
    }
}
