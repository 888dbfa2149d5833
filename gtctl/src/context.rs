//! What every verb is given: the flags, the surroundings, the screen, and the ways to a daemon and an agent.

use std::path::PathBuf;

use gtd_proto::nearest::nearest;
use gtd_proto::rpc::{AgentClient, RigClient};
use gtd_proto::{Address, AgentName, RigName, params};

use crate::cli::Global;
use crate::client::endpoint::{self, Target};
use crate::client::{self, Session};
use crate::failure::Failure;
use crate::output::Screen;
use crate::town::{self, Surroundings};

/// Names that are proposed for one that fits nothing.
const NEAREST: usize = 3;

/// Names that are given of those that fit where one is wanted.
const NAMED: usize = 6;

/// The run of one verb.
pub struct Context {
    /// Flags that every verb takes.
    pub global: Global,
    /// Flags, variables and directory that say which town is meant.
    pub around: Surroundings,
    /// Where to print.
    pub screen: Screen,
}

impl Context {
    /// That of this process.
    #[must_use]
    pub fn new(global: Global) -> Self {
        let around = Surroundings::here(global.town.clone());
        let screen = Screen::new(&global);
        Self { global, around, screen }
    }

    /// The `--town` that a command has to repeat to mean the same town: none where it would be found anyway.
    #[must_use]
    pub fn town_to_name(&self) -> Option<String> {
        let named = self.global.town.as_ref()?;
        let without = town::find(&Surroundings { flag: None, ..self.around.clone() }).ok();
        let same = without.is_some() && without == town::find(&self.around).ok();
        (!same).then(|| named.display().to_string())
    }

    /// Where the daemon listens, or would.
    ///
    /// # Errors
    /// When no town is meant.
    pub fn target(&self) -> Result<Target, Failure> {
        endpoint::look_up(self.global.socket.as_deref(), &self.around)
    }

    /// An open connection.
    ///
    /// # Errors
    /// See [`Session::open`].
    pub async fn connect(&self) -> Result<Session, Failure> {
        Session::open(&self.target()?).await
    }

    /// The town whose daemon is to be started or stopped: the named one, or that of the daemon behind
    /// the socket that was named instead.
    ///
    /// # Errors
    /// When no town is meant, or nobody answers who could say which.
    pub async fn root(&self) -> Result<PathBuf, Failure> {
        let by_socket = self.global.socket.is_some() || self.around.var("GT_SOCKET").is_some();
        if self.global.town.is_none() && by_socket {
            // Only who listens there could say which town it is; another one nearby is not meant.
            return match self.connect().await {
                Ok(session) => Ok(session.root().to_owned()),
                Err(failure) => Err(failure.hint("name the town: gtctl --town DIR")),
            };
        }
        town::find(&self.around)
    }

    /// The one agent that a text means: an address, or a selector that fits one.
    ///
    /// # Errors
    /// When it fits none, or several.
    pub async fn agent(&self, session: &Session, text: &str) -> Result<Address, Failure> {
        if let Some(address) = crate::cli::address(text) {
            return Ok(address);
        }
        let request = params::AgentList { selector: Some(text.to_owned()) };
        let found = client::read(AgentClient::list(&session.client, request)).await?.body.items;
        if found.is_empty()
            && let Some(agent) = by_short_name(session, text).await
        {
            return Ok(agent);
        }
        match found.as_slice() {
            [one] => Ok(one.agent.clone()),
            [] => Err(no_agent(session, text).await),
            several => {
                let names: Vec<String> = several.iter().map(|agent| agent.agent.to_string()).collect();
                let mut some = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
                if names.len() > NAMED {
                    some.push_str(&format!(" and {} more", names.len() - NAMED));
                }
                // Workers come last, and are the ones of whom there are many.
                let such = names.last().map_or("", String::as_str);
                Err(Failure::usage(format!("{text:?} fits {} agents: {some}", names.len()))
                    .hint(format!("name one by its address, such as {such}")))
            }
        }
    }
}

/// The worker, or the person's workspace, that a short name such as `alpha/nux` means, where it means one of them.
async fn by_short_name(session: &Session, text: &str) -> Option<Address> {
    let (rig, name) = text.split_once('/')?;
    let (rig, name) = (RigName::new(rig).ok()?, AgentName::new(name).ok()?);
    let shown =
        client::read(RigClient::status(&session.client, params::RigRef { rig: rig.clone() })).await.ok()?;
    let namesake = shown.body.crew.iter().any(|crew| crew == name.as_str());
    let known = shown.body.polecats.iter().any(|polecat| polecat.name.as_ref() == Some(&name));
    match (known, namesake) {
        (true, false) => Some(Address::Polecat(rig, name)),
        (false, true) => Some(Address::Crew(rig, name)),
        _ => None,
    }
}

/// Nothing fits a selector. What was probably meant is asked for, and left out where it cannot be had.
pub async fn no_agent(session: &Session, text: &str) -> Failure {
    if let Some(crew @ Address::Crew(..)) = by_short_name(session, text).await.or_else(|| text.parse().ok()) {
        // The hint is that of everything that names a person's workspace.
        return Failure::no_such(format!("{crew} is a person's workspace, and no agent of the daemon's"));
    }
    let all = client::read(AgentClient::list(&session.client, params::AgentList::default())).await;
    let agents = all.map(|answer| answer.body.items).unwrap_or_default();
    let mut names: Vec<String> = agents.iter().map(|agent| agent.agent.to_string()).collect();
    names.extend(agents.iter().filter_map(|agent| agent.rig.as_ref()).map(ToString::to_string));
    names.extend(agents.iter().map(|agent| agent.role.to_string()));
    names.sort_unstable();
    names.dedup();
    let near = nearest(text, names.iter().map(String::as_str), NEAREST);
    let failure = Failure::no_such(format!("no agent fits {text:?}"));
    match near.as_slice() {
        [] => failure.hint("gtctl status"),
        _ => failure
            .hint(format!("did you mean {}? gtctl status lists all", near.join(" or ")))
            .with("nearest", near),
    }
}
