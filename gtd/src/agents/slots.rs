//! A number of places for work of one kind, which may change while the work goes on.
//!
//! Owns the counting. Must never take a place away from who has it: fewer places means that the next ones wait.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// Places for work.
#[derive(Debug)]
pub struct Slots {
    semaphore: Arc<Semaphore>,
    size: Mutex<usize>,
}

impl Slots {
    /// So many places, at least one.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        Self { semaphore: Arc::new(Semaphore::new(size)), size: Mutex::new(size) }
    }

    /// Waits for a place, in turn.
    ///
    /// # Errors
    /// Never so far: the places are not closed.
    pub async fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.semaphore.acquire().await
    }

    /// Makes it so many places. Called inside a runtime: places that are in use go when they are given back.
    pub fn resize(&self, size: usize) {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        let mut before = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if size > *before {
            self.semaphore.add_permits(size - *before);
        }
        for _ in size..*before {
            let semaphore = Arc::clone(&self.semaphore);
            // In line with who waits for a place: one that comes free goes to whoever came first.
            tokio::spawn(async move {
                if let Ok(place) = semaphore.acquire_owned().await {
                    place.forget();
                }
            });
        }
        *before = size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn taken(slots: &Slots) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(Duration::from_millis(50), slots.acquire()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn places_come_and_go_while_others_are_in_use() {
        let slots = Slots::new(0);
        let first = taken(&slots).await.unwrap();
        assert!(taken(&slots).await.is_none(), "at least one, and no more");
        slots.resize(3);
        let (second, third) = (taken(&slots).await.unwrap(), taken(&slots).await.unwrap());
        slots.resize(1);
        tokio::task::yield_now().await;
        drop((first, second));
        assert!(taken(&slots).await.is_none(), "two of three are gone");
        drop(third);
        let last = taken(&slots).await.unwrap();
        assert!(taken(&slots).await.is_none());
        drop(last);
        slots.resize(2);
        assert!(taken(&slots).await.is_some());
    }
}
