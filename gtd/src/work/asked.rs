//! What the heart asks about: whether agents still have work that is not done.
//!
//! One look at a rig's store for all its agents. An item that its agent took off the hook to work on it is still
//! its work; only the store's own words end that.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gtd_proto::{Address, RigName};

use super::desk::Desk;
use super::store::WorkStore;
use super::{Item, WorkError, assignee};
use crate::supervisor::asking::Stores;
use crate::supervisor::hooked::{Finding, Question, Task};

/// The desk as the heart asks it.
pub struct Asked(pub Arc<Desk>);

impl Stores for Asked {
    fn find(
        &self,
        rig: Option<RigName>,
        questions: Vec<Question>,
    ) -> BoxFuture<'static, Vec<(Question, Finding)>> {
        let desk = Arc::clone(&self.0);
        async move { desk.find(rig.as_ref(), questions).await }.boxed()
    }
}

impl Desk {
    async fn find(&self, rig: Option<&RigName>, questions: Vec<Question>) -> Vec<(Question, Finding)> {
        let hooks = match self.store(rig) {
            Ok(store) => store.hooks().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut findings = Vec::with_capacity(questions.len());
        let mut news = false;
        for question in questions {
            let finding = match &hooks {
                Ok(items) => match of(items, &question.agent) {
                    Some(item) => Finding::Open(self.task(&item)),
                    None => self.elsewhere(&question).await,
                },
                Err(why) => Finding::Unknown(why.clone()),
            };
            let shown = self.handle.view().read(|shown| shown.hooks.work(&question.agent));
            news |= match &finding {
                Finding::Open(task) => shown.as_ref() != Some(&task.id),
                Finding::Nothing => shown.is_some(),
                Finding::Unknown(_) => false,
            };
            findings.push((question, finding));
        }
        if news {
            // What is shown is older than what was just said.
            self.wanted.notify_one();
        }
        findings
    }

    /// Its rig's store has nothing on its hook: what it had last may be elsewhere, or be worked on off the hook.
    async fn elsewhere(&self, question: &Question) -> Finding {
        let Some(last) = &question.last else { return Finding::Nothing };
        let Ok(id) = last.parse() else { return Finding::Nothing };
        match self.item(&id).await {
            Ok((item, _)) => {
                let holder = item.holder().and_then(assignee);
                match holder.as_ref() == Some(&question.agent) && !item.is_over() {
                    true => Finding::Open(self.task(&item)),
                    false => Finding::Nothing,
                }
            }
            Err(WorkError::NotFound(_)) => Finding::Nothing,
            Err(error) => Finding::Unknown(error.to_string()),
        }
    }

    fn task(&self, item: &Item) -> Task {
        Task {
            id: item.id.to_string(),
            title: item.title.clone(),
            since: item.hooked_at.or(item.updated_at).unwrap_or_else(|| self.handle.wall()),
        }
    }
}

/// What an agent has on its hook, what was hooked last first.
fn of(items: &[Item], agent: &Address) -> Option<Item> {
    let mine = items.iter().filter(|item| item.hook().as_ref() == Some(agent));
    mine.max_by_key(|item| item.hooked_at.or(item.updated_at)).cloned()
}
