//! Subscriptions of one connection: their ids, and carrying their frames to it.

use std::sync::atomic::{AtomicU64, Ordering};

use jsonrpsee::core::traits::IdProvider;
use jsonrpsee::types::SubscriptionId;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::connection::Message;
use super::server::Counted;

/// Frames between a publisher and its connection. Few: what a slow reader has missed is counted by the
/// publisher, which needs to feel it.
pub(super) const FRAMES: usize = 16;

/// Gives out subscription ids: strings, each used once in the daemon's life.
#[derive(Debug, Default)]
pub(super) struct SubscriptionIds(AtomicU64);

impl IdProvider for SubscriptionIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        SubscriptionId::from(format!("s{}", self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }
}

/// The frames of an accepted subscription.
#[derive(Debug)]
pub(super) struct Stream {
    /// What the publisher sends. Dropping it is how the publisher learns that nobody listens.
    pub(super) frames: mpsc::Receiver<Box<RawValue>>,
    /// Counts the subscription while it lives.
    pub(super) counted: Counted,
}

impl Stream {
    /// Carries frames until the publisher ends, the client unsubscribes, or the connection ends.
    pub(super) async fn carry(mut self, connection: mpsc::Sender<Message>) {
        loop {
            let frame = tokio::select! {
                frame = self.frames.recv() => frame,
                () = connection.closed() => return,
            };
            let Some(frame) = frame else { break };
            if connection.send(Message::Frame(frame)).await.is_err() {
                return;
            }
        }
        drop(self.counted);
        let _ = connection.send(Message::StreamEnded).await;
    }
}
