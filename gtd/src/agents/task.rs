//! An agent's task: it has one instance at a time, from launch or adoption until nothing of it is left.
//!
//! It owns the effects on that instance. It decides nothing about whether the agent should run.

use std::sync::Arc;

use gtd_proto::{Address, InstanceId};
use tokio::sync::mpsc;

use super::order::{Failure, FailureKind, Order, What};
use super::runtime::Shared;
use super::waves::{Permit, Place};
use super::{adopt, begin, tend};

/// An order, with the place that a launch has among the starts.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) order: Order,
    pub(super) place: Option<Place>,
}

/// Runs until there is nobody to give orders.
pub(super) async fn run(shared: Arc<Shared>, agent: Address, mut orders: mpsc::Receiver<Given>) {
    while let Some(Given { order, place }) = orders.recv().await {
        match order {
            Order::Launch { instance, overrides, before, talk, .. } => {
                let mut work = Work::new(&shared, &agent, &instance, &mut orders);
                if let Some(life) = begin::begin(&mut work, &overrides, &talk, before, place).await {
                    tend::tend(&mut work, life).await;
                }
            }
            Order::Adopt { instance, life, .. } => {
                shared.remember_life(&agent, &instance, life.clone());
                let mut work = Work::new(&shared, &agent, &instance, &mut orders);
                if let Some(life) = adopt::adopt(&mut work, life, None).await {
                    tend::tend(&mut work, life).await;
                }
            }
            Order::Forget { instance } => shared.forget_files(&instance),
            Order::Close { place } => tend::close_pane(&shared, &agent, &place).await,
            // Of an instance that is gone: its end has been reported already.
            Order::End { .. } | Order::Abandon { .. } | Order::Freeze { .. } => {}
        }
    }
}

/// What everything done about one instance needs.
pub(super) struct Work<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) agent: &'a Address,
    pub(super) instance: &'a InstanceId,
    pub(super) orders: &'a mut mpsc::Receiver<Given>,
    /// While it is one of the few starts that may be under way at once.
    pub(super) starting: Option<Permit>,
    /// The last order to freeze it, or to let it go on, that nobody has looked after yet.
    pub(super) frost: Option<FrostOrder>,
}

/// An order to freeze the present instance, or to let it go on.
#[derive(Debug, Clone)]
pub(super) struct FrostOrder {
    pub(super) frozen: bool,
    pub(super) number: u64,
    pub(super) by: String,
}

/// What an instance that is tended can be told.
#[derive(Debug)]
pub(super) enum Told {
    /// To end.
    End(EndOrder),
    /// To stand still, or to go on.
    Frost(FrostOrder),
}

/// An order to end the present instance.
#[derive(Debug, Clone)]
pub(super) struct EndOrder {
    pub(super) force: bool,
    pub(super) keep_pane: bool,
    pub(super) by: String,
}

/// What can be asked about an instance that is looked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// To end it.
    End(EndOrder),
    /// To let go of it, for this reason.
    Abandon(String),
}

impl<'a> Work<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        agent: &'a Address,
        instance: &'a InstanceId,
        orders: &'a mut mpsc::Receiver<Given>,
    ) -> Self {
        Self { shared, agent, instance, orders, starting: None, frost: None }
    }

    pub(super) async fn report(&self, what: What) {
        self.shared.report(self.agent, self.instance, what).await;
    }

    pub(super) async fn not_launched(
        &self,
        kind: FailureKind,
        message: impl Into<String>,
        hint: Option<&str>,
    ) {
        let failure = Failure { message: message.into(), hint: hint.map(str::to_owned), kind };
        self.report(What::NotLaunched(failure)).await;
    }

    /// Waits for an order about this instance, also to let go of it.
    pub(super) async fn asked(&mut self) -> Asked {
        loop {
            match self.orders.recv().await.map(|given| given.order) {
                Some(Order::Abandon { instance, evidence }) if instance == *self.instance => {
                    return Asked::Abandon(evidence);
                }
                Some(order) => {
                    if let Some(end) = self.sort(order) {
                        return Asked::End(end);
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for an order to end this instance. Orders about others are dropped: they are gone.
    pub(super) async fn end_ordered(&mut self) -> EndOrder {
        loop {
            match self.orders.recv().await {
                Some(given) => {
                    if let Some(end) = self.sort(given.order) {
                        return end;
                    }
                }
                // The daemon goes down: agents stay. There is nothing more to wait for.
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for an order to end this instance, to freeze it, or to let it go on.
    pub(super) async fn told(&mut self) -> Told {
        loop {
            if let Some(frost) = self.frost.take() {
                return Told::Frost(frost);
            }
            match self.orders.recv().await {
                Some(given) => {
                    if let Some(end) = self.sort(given.order) {
                        return Told::End(end);
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// An order to end this instance that has come already.
    pub(super) fn end_was_ordered(&mut self) -> Option<EndOrder> {
        while let Ok(given) = self.orders.try_recv() {
            if let Some(end) = self.sort(given.order) {
                return Some(end);
            }
        }
        None
    }

    /// An order to end this instance; one to freeze it is kept until somebody can look after it.
    fn sort(&mut self, order: Order) -> Option<EndOrder> {
        match order {
            Order::End { instance, force, keep_pane, by } if instance == *self.instance => {
                Some(EndOrder { force, keep_pane, by })
            }
            Order::Freeze { instance, frozen, number, by } if instance == *self.instance => {
                self.frost = Some(FrostOrder { frozen, number, by });
                None
            }
            _ => None,
        }
    }
}
