//! Asking the stores of work what the heart needs to know, without ever waiting for them.
//!
//! The stores are behind a trait of our own. A rig's store that hangs delays the questions about that rig only;
//! the heart goes on without an answer when it has waited for long enough.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use futures_util::future::BoxFuture;
use gtd_proto::{Address, RigName};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::core::Input;
use super::handle::{Handle, Shared};
use super::hooked::{Finding, Question};
use super::hooks::Hooks;
use super::unjudged::ANSWER;

/// Who can say what agents have to do.
pub trait Stores: Send + Sync {
    /// Answers questions about agents of one rig, or of the town: one look at a store for all of them. Each is
    /// answered, in any order.
    fn find(
        &self,
        rig: Option<RigName>,
        questions: Vec<Question>,
    ) -> BoxFuture<'static, Vec<(Question, Finding)>>;
}

impl Shared {
    /// Takes questions in, and wakes whoever answers them. Of several about one agent only the last is of use.
    pub(super) fn ask(&self, questions: Vec<Question>) {
        if questions.is_empty() {
            return;
        }
        let mut open = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend(questions.into_iter().map(|question| (question.agent.clone(), question)));
        drop(open);
        self.asked.notify_one();
    }
}

impl Handle {
    /// What the stores of work last said of all hooks: shown at once, and told to the heart.
    pub async fn hooks_are(&self, hooks: Hooks) {
        self.view().hooks_are(hooks.clone());
        self.input(Input::Hooks(Arc::new(hooks))).await;
    }
}

/// Passes questions on to the stores and answers back, until the daemon goes down.
pub async fn run(handle: Handle, stores: Arc<dyn Stores>, stop: CancellationToken) {
    let mut under_way: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = handle.shared().asked.notified() => {}
            Some(_) = under_way.join_next() => continue,
        }
        let open = {
            let mut open = handle.shared().questions.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *open)
        };
        for (rig, questions) in by_rig(open) {
            let (handle, stores) = (handle.clone(), Arc::clone(&stores));
            under_way.spawn(async move {
                let asked = questions.clone();
                // Its own deadlines are shorter; this one is for a store that keeps none.
                let found = tokio::time::timeout(ANSWER, stores.find(rig, questions)).await;
                let late = |question| (question, Finding::Unknown("its store did not answer".to_owned()));
                let found = found.unwrap_or_else(|_| asked.into_iter().map(late).collect());
                for (question, finding) in found {
                    handle.input(Input::Answered { question, finding }).await;
                }
            });
        }
    }
}

fn by_rig(questions: BTreeMap<Address, Question>) -> BTreeMap<Option<RigName>, Vec<Question>> {
    let mut by_rig: BTreeMap<Option<RigName>, Vec<Question>> = BTreeMap::new();
    for (agent, question) in questions {
        by_rig.entry(agent.rig().cloned()).or_default().push(question);
    }
    by_rig
}
