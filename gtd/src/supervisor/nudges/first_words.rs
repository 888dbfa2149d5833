//! Start-up texts of programs that take none on their command line: queued once such a program is ready.
//!
//! Must never give one to an instance that had its text already: each says only once that it is ready.

use gtd_proto::event::kind;
use gtd_proto::{Event, Frame};
use tokio_util::sync::CancellationToken;

use super::{Nudges, Sending};

/// Who such a text is from.
const SENDER: &str = "daemon";
/// Its key: a later one of the same agent takes its place.
const KEY: &str = "start-up";

impl Nudges {
    /// Waits for programs that become ready, until the daemon goes down.
    pub async fn greet(self, stop: CancellationToken) {
        let mut ready = self.0.bus.subscribe(None, Some(vec![kind::AGENT_READY.to_owned()]), None);
        loop {
            let frame = tokio::select! {
                () = stop.cancelled() => return,
                frame = ready.next() => frame,
            };
            match frame {
                Some(Frame::Event(event)) => self.greets(&event).await,
                // Who was missed begins without: it is asked to look at its hook by whoever gives it work.
                Some(_) => {}
                None => return,
            }
        }
    }

    async fn greets(&self, event: &Event) {
        let (Some(agent), Some(instance)) = (&event.agent, &event.instance) else { return };
        let text = self.0.handle.view().read(|shown| {
            let present = shown.agents.get(agent).is_some_and(|a| a.instance.as_ref() == Some(instance));
            shown.heard.get(agent).filter(|_| present).and_then(|heard| heard.to_type.clone())
        });
        let Some(message) = text else { return };
        let sending = Sending {
            agent: agent.clone(),
            message,
            key: Some(KEY.to_owned()),
            expires: None,
            instance: Some(instance.clone()),
            sender: SENDER.to_owned(),
            peer: None,
        };
        if let Err(error) = self.send(sending).await {
            tracing::warn!(%agent, error = %error.message, "its start-up text could not be queued");
        }
    }
}
