//! Looking at the screens of agents that do not say that they work, for a dialog that waits for a person.
//!
//! Only when somebody asks, and with the heartbeat for screens on which something has changed. What cannot be
//! looked at is not known to wait, and not known not to.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use gtd_proto::waiting::{WaitSource, Waiting};
use gtd_proto::{Activity, Address, InstanceId, Timestamp};

use super::core::Input;
use super::handle::Handle;
use super::policy::since;
use super::view::Shown;
use crate::agents::dialogs::{self, Dialog};
use crate::agents::runtime::LookError;

/// Lines of a screen that are looked at.
const LINES: u32 = 40;
/// Screens that are asked for at the same time: over one connection, each in some tens of microseconds.
const AT_ONCE: usize = 16;
/// How long all of them may take.
const IN_TIME: Duration = Duration::from_secs(3);
/// tmux tells of activity in whole seconds.
const BLUR: Duration = Duration::from_secs(2);

/// When the screen of a start was looked at last.
pub(super) type Seen = BTreeMap<Address, (InstanceId, Timestamp)>;

/// Those whose screen may show something that they have not said themselves.
fn candidates(shown: &Shown) -> Vec<(Address, InstanceId)> {
    let silent = shown.agents.values().filter(|agent| {
        let said = shown.waiting.get(&agent.agent).is_some_and(|waits| waits.source == WaitSource::Reported);
        // What stands still asks nothing new.
        agent.running && agent.pause.is_none() && agent.activity != Activity::Working && !said
    });
    silent.filter_map(|agent| Some((agent.agent.clone(), agent.instance.clone()?))).collect()
}

/// Whether something may have changed on the screen of a start since it was looked at.
fn has_changed(agent: &Address, instance: &InstanceId, shown: &Shown, seen: &Seen) -> bool {
    let Some((_, at)) = seen.get(agent).filter(|(of, _)| of == instance) else { return true };
    let last = shown.sessions.get(agent).and_then(|session| session.last_activity);
    // Not to be told: looked at again.
    last.is_none_or(|last| since(last, *at) < BLUR)
}

impl Handle {
    /// Who waits for a person, the longest first; and the running agents of which it could not be told. The
    /// screens of those that do not say what they do are looked at now.
    pub async fn who_waits(&self) -> (Vec<Waiting>, Vec<Address>) {
        let silent = self.view().read(candidates);
        let unseen = self.look_at(silent).await;
        let mut items: Vec<Waiting> = self.view().read(|shown| shown.waiting.values().cloned().collect());
        items.sort_by(|a, b| (a.since, &a.agent).cmp(&(b.since, &b.agent)));
        (items, unseen)
    }

    /// The look of a heartbeat: only over the open connection, and only at what has changed.
    pub(super) async fn glance(&self) {
        if !self.runtime().driver().is_connected() {
            return;
        }
        let seen = self.shared().glanced.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let changed = self.view().read(|shown| {
            let mut all = candidates(shown);
            all.retain(|(agent, instance)| has_changed(agent, instance, shown, &seen));
            all
        });
        let unseen = self.look_at(changed).await;
        if !unseen.is_empty() {
            tracing::debug!(count = unseen.len(), "screens could not be looked at");
        }
    }

    async fn look_at(&self, agents: Vec<(Address, InstanceId)>) -> Vec<Address> {
        let mut unseen: Vec<Address> = agents.iter().map(|(agent, _)| agent.clone()).collect();
        let mut found: Vec<(Address, InstanceId, Option<Dialog>)> = Vec::new();
        let looks = async {
            for some in agents.chunks(AT_ONCE) {
                let asked = some.iter().map(|(agent, instance)| async move {
                    (agent, instance, self.runtime().capture(agent, LINES).await)
                });
                for (agent, instance, lines) in futures_util::future::join_all(asked).await {
                    match lines {
                        Ok(lines) => {
                            found.push((agent.clone(), instance.clone(), dialogs::recognise(&lines)));
                        }
                        // Without a session there is no screen on which anything could wait.
                        Err(LookError::NoSession(_)) => {}
                        Err(LookError::Tmux(_)) => continue,
                    }
                    unseen.retain(|other| other != agent);
                }
            }
        };
        let _ = tokio::time::timeout(IN_TIME, looks).await;
        if !found.is_empty() {
            let at = self.wall();
            {
                let mut seen = self.shared().glanced.lock().unwrap_or_else(PoisonError::into_inner);
                seen.extend(found.iter().map(|(agent, of, _)| (agent.clone(), (of.clone(), at))));
                self.view().read(|shown| seen.retain(|agent, _| shown.agents.contains_key(agent)));
            }
            self.input(Input::Looked(found)).await;
            self.settled().await;
        }
        unseen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::view::{SessionFacts, at_rest};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_screen_is_looked_at_again_only_when_something_has_changed_on_it() {
        let agent: Address = "a/witness".parse().unwrap();
        let (one, two) = (InstanceId::generate(), InstanceId::generate());
        let seen: Seen = [(agent.clone(), (one.clone(), at(100)))].into();
        let shown = |last: Option<i64>| {
            let facts = SessionFacts {
                created_at: None,
                windows: 1,
                last_activity: last.map(at),
                attached: false,
                seen_at: at(200),
            };
            Shown { sessions: [(agent.clone(), facts)].into(), ..Shown::default() }
        };
        for (last, instance, again) in [
            (Some(90), &one, false),
            (Some(97), &one, false),
            (Some(99), &one, true),
            (Some(100), &one, true),
            (Some(150), &one, true),
            (None, &one, true),
            (Some(90), &two, true),
        ] {
            assert_eq!(has_changed(&agent, instance, &shown(last), &seen), again, "{last:?}");
        }
    }

    #[test]
    fn who_works_or_has_said_that_it_waits_is_let_be() {
        let mut shown = Shown::default();
        for (name, running, activity, source) in [
            ("a/witness", true, Activity::Unknown, None),
            ("b/witness", true, Activity::Working, None),
            ("c/witness", false, Activity::Unknown, None),
            ("d/witness", true, Activity::Waiting, Some(WaitSource::Reported)),
            ("e/witness", true, Activity::Waiting, Some(WaitSource::Pane)),
            ("f/witness", true, Activity::Idle, None),
        ] {
            let address: Address = name.parse().unwrap();
            let instance = Some(InstanceId::generate());
            let one = gtd_proto::Agent { running, activity, instance, ..at_rest(&address, at(0)) };
            shown.agents.insert(address.clone(), one);
            if let Some(source) = source {
                let kind = gtd_proto::waiting::WaitKind::Question;
                let waits = Waiting { agent: address.clone(), since: at(0), kind, text: None, source };
                shown.waiting.insert(address, waits);
            }
        }
        let found: Vec<String> = candidates(&shown).iter().map(|(agent, _)| agent.to_string()).collect();
        assert_eq!(found, ["a/witness", "e/witness", "f/witness"]);
    }
}
