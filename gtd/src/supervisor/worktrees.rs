//! Where workers work, and on which branch: looked at on the disk with each round, whenever the town changes, and
//! when somebody asks about one. Only shown; nothing is decided on it.

use std::path::Path;

use gtd_proto::{Address, Agent, Role};

use super::handle::Handle;
use super::view::Shown;
use crate::town::{Layout, head, rigs};

/// A worker's place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worktree {
    /// Its directory.
    pub path: String,
    /// The branch that is checked out there.
    pub branch: Option<String>,
}

impl Handle {
    /// Looks at the worktrees of these workers. Reads two small files for each.
    pub fn look_at_worktrees(&self, layout: &Layout, agents: &[Address]) {
        let found: Vec<(Address, Worktree)> = agents
            .iter()
            .filter(|agent| agent.role() == Role::Polecat)
            .map(|agent| {
                let path = rigs::workdir(layout, agent);
                let branch = head::branch(&path);
                (agent.clone(), Worktree { path: path.to_string_lossy().into_owned(), branch })
            })
            .collect();
        self.view().change(|shown| {
            for (agent, worktree) in found {
                shown.worktrees.insert(agent.clone(), worktree);
                if let Some(mut rendered) = shown.agents.remove(&agent) {
                    shown.place(&mut rendered);
                    shown.agents.insert(agent, rendered);
                }
            }
        });
    }

    /// Looks at the worktrees of all workers.
    pub async fn look_at_all_worktrees(&self) {
        let (root, agents) = self.view().read(|shown| {
            let workers = shown.agents.keys().filter(|agent| agent.role() == Role::Polecat);
            (shown.facts.root.clone(), workers.cloned().collect::<Vec<_>>())
        });
        let handle = self.clone();
        let looking = tokio::task::spawn_blocking(move || {
            if let (false, Ok(layout)) = (agents.is_empty(), Layout::at(Path::new(&root))) {
                handle.look_at_worktrees(&layout, &agents);
            }
            handle.view().change(|shown| {
                let Shown { worktrees, agents, .. } = shown;
                worktrees.retain(|agent, _| agents.contains_key(agent));
            });
        });
        if let Err(error) = looking.await {
            tracing::warn!(%error, "the worktrees could not be looked at");
        }
    }
}

impl Shown {
    /// Adds to a worker what is known of its place.
    pub(super) fn place(&self, agent: &mut Agent) {
        if let Some(worktree) = self.worktrees.get(&agent.agent) {
            agent.worktree.get_or_insert_with(|| worktree.path.clone());
            agent.branch.clone_from(&worktree.branch);
        }
    }
}
