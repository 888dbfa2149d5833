//! Steps of the heartbeat that others carry out: the heart knows their names, and nothing of what they do.
//!
//! Each has a deadline of its own and is cut off at its end; what it began goes on where it keeps it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use gtd_proto::daemon::StepOutcome;

use super::handle::Handle;
use super::heartbeat::Step;

/// How long one may take: a call of a work store is given ten seconds, and a step makes a few.
const DEADLINE: Duration = Duration::from_secs(30);

/// Something that is done in each round, and when somebody asks for it.
pub trait Errand: Send + Sync {
    /// Does it. What was done, in words; why not, where it failed.
    fn run(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;
}

/// The errands that there are, by the name of their step.
#[derive(Default)]
pub struct Errands(Mutex<BTreeMap<&'static str, Arc<dyn Errand>>>);

impl std::fmt::Debug for Errands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        f.debug_tuple("Errands").field(&names).finish()
    }
}

/// What became of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// Nobody does it in this daemon.
    Nobody,
    /// It was done.
    Done(Vec<String>),
    /// It failed.
    Failed(String),
    /// It was not done in time.
    Late(Duration),
}

impl From<Ran> for Step {
    fn from(ran: Ran) -> Self {
        match ran {
            Ran::Nobody => Self::skipped("nobody does it"),
            Ran::Done(actions) => Self { actions, ..Self::ok() },
            Ran::Failed(why) => Self { outcome: StepOutcome::Failed, error: Some(why), ..Self::ok() },
            Ran::Late(deadline) => {
                let error = Some(format!("it was not done within {deadline:?}"));
                Self { outcome: StepOutcome::Timeout, error, ..Self::ok() }
            }
        }
    }
}

impl Handle {
    /// From now on this is done for the step of that name.
    pub fn take_on(&self, step: &'static str, errand: Arc<dyn Errand>) {
        self.shared().errands.0.lock().unwrap_or_else(PoisonError::into_inner).insert(step, errand);
    }

    /// Does what there is to do for a step, now.
    pub async fn errand(&self, step: &str) -> Ran {
        let errand =
            self.shared().errands.0.lock().unwrap_or_else(PoisonError::into_inner).get(step).cloned();
        let Some(errand) = errand else { return Ran::Nobody };
        match tokio::time::timeout(DEADLINE, errand.run()).await {
            Ok(Ok(actions)) => Ran::Done(actions),
            Ok(Err(why)) => Ran::Failed(why),
            Err(_) => Ran::Late(DEADLINE),
        }
    }
}
