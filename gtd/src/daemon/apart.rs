//! The tmux server and our own unit: it is started outside of it, and where that failed the status says so.
//!
//! A service manager that ends a unit may end everything in its control group. Our agents are to outlive us.

use gtd_proto::TownId;

use crate::host::unit::{self, Launcher};
use crate::supervisor::Handle;
use crate::supervisor::run::Message;
use crate::tmux::{Driver, ServerId, ServerState, TmuxEvent};

/// How a tmux server is started: elsewhere, where we are a service.
pub(super) fn launchers(town_id: &TownId) -> Vec<Launcher> {
    match unit::of(None) {
        Ok(Some(own)) if unit::is_service(&own) => Launcher::out_of_service(town_id.as_str()),
        Ok(_) => Vec::new(),
        Err(error) => {
            // As on a system without control groups.
            tracing::debug!(%error, "which unit this is cannot be told");
            Vec::new()
        }
    }
}

/// Says for as long as it is so that the tmux server shares our unit.
pub(super) struct Apart {
    handle: Handle,
    driver: Driver,
    said: Option<String>,
}

impl Apart {
    pub(super) fn new(handle: Handle, driver: Driver) -> Self {
        Self { handle, driver, said: None }
    }

    /// Looks at the server that an earlier daemon has left, if there is one.
    pub(super) async fn first(&mut self) {
        if let ServerState::Up(server) = self.driver.state() {
            self.look(Some(&server)).await;
        }
    }

    /// Looks again when another server is there.
    pub(super) async fn hear(&mut self, event: &TmuxEvent) {
        match event {
            TmuxEvent::ServerStarted(server) => self.look(Some(server)).await,
            TmuxEvent::ServerDied { .. } => self.look(None).await,
            _ => {}
        }
    }

    async fn look(&mut self, server: Option<&ServerId>) {
        let of = |pid: Option<i32>| unit::of(pid).ok().flatten();
        let (own, its) = (of(None), server.and_then(|server| of(Some(server.process.pid.get()))));
        let now = shared(own.as_deref(), its.as_deref(), self.driver.not_launched().as_deref());
        if now == self.said {
            return;
        }
        if let Some(before) = &self.said {
            self.handle.shared().restore(before);
        }
        if let Some(now) = &now {
            tracing::warn!("{now}");
            self.handle.shared().degrade(now.clone());
        }
        self.said = now;
        self.handle.tell(Message::Refresh).await;
    }
}

/// What is to be said of the units of the daemon and of its tmux server.
fn shared(own: Option<&str>, its: Option<&str>, why: Option<&str>) -> Option<String> {
    let own = own.filter(|own| unit::is_service(own) && its == Some(own))?;
    let why = why.map(|why| format!("; it was to be in a scope of its own, but: {why}")).unwrap_or_default();
    Some(format!(
        "the tmux server is in the unit {own}, and ends with its agents when all of that unit is ended{why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_that_both_share_is_worth_a_word() {
        let silent = [
            (None, None),
            (None, Some("a.service")),
            (Some("a.service"), None),
            (Some("a.service"), Some("gtd-tmux-1.scope")),
            (Some("a.service"), Some("b.service")),
            // A terminal: nobody ends it as a unit but with the person's session.
            (Some("session-3.scope"), Some("session-3.scope")),
        ];
        for (own, its) in silent {
            assert_eq!(shared(own, its, Some("why")), None, "{own:?} {its:?}");
        }
        let said = shared(Some("a.service"), Some("a.service"), Some("no bus")).unwrap();
        assert!(said.contains("a.service") && said.ends_with("but: no bus"), "{said}");
        assert!(!shared(Some("a.service"), Some("a.service"), None).unwrap().contains("but"));
    }
}
