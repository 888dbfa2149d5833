//! Tasks that may die: what is not the heart is begun again after a pause, and people are told.
//!
//! Must never let such a task take anything else down with it, nor start it over and over without a rest.

use std::future::Future;
use std::time::Duration;

use gtd_proto::town::{Alert, Severity};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::supervisor::Handle;

/// When a task that died is begun again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// The first pause; each is twice the one before.
    first: Duration,
    /// The longest.
    most: Duration,
    /// A task that ran so long is well again.
    well: Duration,
}

impl Default for Rest {
    /// A mistake that comes back at once is made some twenty times in an hour.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(300), well: Duration::from_secs(60) }
    }
}

/// Runs a task until it ends by itself or is cancelled, and again whenever it died. `died` is told of each death,
/// and when the task is well again.
pub(super) async fn supervised<F, D>(
    make: impl Fn(CancellationToken) -> F + Send,
    died: impl Fn(Option<String>) -> D + Send,
    rest: Rest,
    stop: CancellationToken,
) where
    F: Future<Output = ()> + Send + 'static,
    D: Future<Output = ()> + Send,
{
    let mut pause = rest.first;
    let mut well = true;
    loop {
        let began = Instant::now();
        let mut task = tokio::spawn(make(stop.clone()));
        let ended = loop {
            tokio::select! {
                ended = &mut task => break ended,
                () = tokio::time::sleep_until(began + rest.well), if !well => {
                    well = true;
                    pause = rest.first;
                    died(None).await;
                }
            }
        };
        let why = match ended {
            Ok(()) => return,
            Err(error) if error.is_cancelled() => return,
            Err(error) => why(error.into_panic().as_ref()),
        };
        if began.elapsed() >= rest.well {
            pause = rest.first;
        }
        well = false;
        died(Some(why)).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(rest.most),
        }
    }
}

fn why(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default()
}

/// Shows that a task died, or is well again.
pub(super) async fn show_death(handle: Handle, what: &'static str, why: Option<String>) {
    let key = format!("task:{what}");
    let Some(why) = why else { return handle.settle(&key).await };
    tracing::error!(what, why, "a task died, and is begun again");
    let message = format!("{what} stopped by a mistake of ours, and was begun again: {why}");
    let hint = Some("agents are not concerned; gtctl logs".to_owned());
    let since = handle.wall();
    handle.raise(Alert { key, since, severity: Severity::Warning, message, hint }).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// When something was told, and what.
    type Told = Vec<(Duration, Option<String>)>;

    #[tokio::test]
    async fn a_task_that_dies_is_begun_again_with_growing_pauses_until_it_is_well() {
        let runs = Arc::new(AtomicUsize::new(0));
        let told: Arc<Mutex<Told>> = Arc::default();
        let zero = Instant::now();
        let make = {
            let runs = Arc::clone(&runs);
            move |stop: CancellationToken| {
                let run = runs.fetch_add(1, Ordering::Relaxed);
                async move {
                    assert!(run >= 3, "run {run}");
                    stop.cancelled().await;
                }
            }
        };
        let died = {
            let told = Arc::clone(&told);
            move |why| {
                told.lock().unwrap().push((zero.elapsed(), why));
                std::future::ready(())
            }
        };
        let stop = CancellationToken::new();
        let ms = Duration::from_millis;
        let rest = Rest { first: ms(40), most: ms(60), well: ms(50) };
        let task = tokio::spawn(supervised(make, died, rest, stop.clone()));
        let told_count = || told.lock().unwrap().len();
        for _ in 0..1_000 {
            if told_count() == 4 {
                break;
            }
            tokio::time::sleep(ms(10)).await;
        }
        stop.cancel();
        task.await.unwrap();
        let told = told.lock().unwrap().clone();
        let said: Vec<Option<&str>> = told.iter().map(|(_, why)| why.as_deref()).collect();
        assert_eq!(said, [Some("run 0"), Some("run 1"), Some("run 2"), None]);
        for (pair, least) in told.windows(2).zip([40, 60, 110]) {
            assert!(pair[1].0 - pair[0].0 >= ms(least), "{told:?}");
        }
        assert_eq!(runs.load(Ordering::Relaxed), 4);
    }
}
