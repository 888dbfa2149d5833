//! What is done about a deacon: asked whether it is there, or ended and started again.

use gtd_proto::Address;

use super::judge::{Action, HEALTH_CHECK};
use super::watchman::{Seen, Watchman};
use crate::supervisor::nudges::Sending;
use crate::supervisor::requests::{Ask, Request, Wait};

/// Who does it.
const BY: &str = "supervisor";
/// A text that waits is replaced by the next, not joined by it.
const KEY: &str = "deacon:heartbeat";

impl Watchman {
    /// Does what follows from a look, unless somebody has done so since. What was done, in words.
    ///
    /// # Errors
    /// Why it could not be done.
    pub async fn act(&self, seen: &Seen) -> Result<Vec<String>, String> {
        let mut kept = self.0.kept.lock().await;
        if seen.judgement.action == Action::Nothing || kept.memory != seen.memory {
            return Ok(Vec::new());
        }
        let Some(instance) = seen.agent.instance.clone() else { return Ok(Vec::new()) };
        match seen.judgement.action {
            Action::Nothing => Ok(Vec::new()),
            Action::Ask => {
                let sending = Sending {
                    agent: Address::Deacon,
                    message: HEALTH_CHECK.to_owned(),
                    key: Some(KEY.to_owned()),
                    expires: None,
                    instance: Some(instance),
                    sender: BY.to_owned(),
                    peer: None,
                };
                let row = self.0.nudges.send(sending).await.map_err(|error| error.message)?;
                kept.memory.asked = Some(row.id.clone());
                self.keep(&kept).await;
                Ok(vec![format!("asked the deacon whether it is there: {}", row.id)])
            }
            Action::Restart => {
                let ask = Ask { by: BY.to_owned(), reason: Some(seen.judgement.why.clone()), wait: Wait::No };
                let request = Request::Renew { agent: Address::Deacon, instance, ask };
                self.0.handle.change(&Address::Deacon, request).await.map_err(|error| error.message)?;
                Ok(vec!["restarted the deacon".to_owned()])
            }
        }
    }
}
