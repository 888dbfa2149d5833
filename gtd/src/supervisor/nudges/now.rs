//! Typing that is not put off: a person's answer to an agent that waits for one, and text that is confirmed or not
//! typed at all.

use std::time::Duration;

use gtd_proto::{Activity, Address, Agent, ErrorKind, NudgeId, NudgeState, RpcError};

use super::super::policy::after;
use super::{Nudges, Sending};
use crate::agents::typing::rules::{Occasion, Verdict};
use crate::ledger::NudgeRow;

/// What is typed at once has no time to expire; the row has to say something.
const AT_ONCE: Duration = Duration::from_secs(60);
/// How long a text waits that has to be confirmed, unless said otherwise, and at most.
const CONFIRMED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3_600));

impl Nudges {
    /// Types at once, or refuses. The text's id when it was typed and sent off.
    ///
    /// # Errors
    /// `not_running`; `busy` with the reason why it may not be typed now; `timeout` when it was begun and not
    /// confirmed.
    pub async fn at_once(
        &self,
        sending: Sending,
        occasion: Occasion,
        path: &str,
    ) -> Result<NudgeId, RpcError> {
        let message = Self::checked(&sending.message, path)?;
        self.writable()?;
        let agent = sending.agent.clone();
        let shown = self.runs(&agent)?;
        let begun = |row: &NudgeRow| row.agent == agent && row.state == NudgeState::Delivering;
        if self.with_book(|book| book.open.values().any(|entry| begun(&entry.row))) {
            return Err(busy(&agent, "another text is being typed for it", occasion));
        }
        let now = self.now();
        let row = self.row(&sending, message, now, after(now, AT_ONCE));
        let row = NudgeRow { now_or_never: true, instance: shown.instance.clone(), ..row };
        let id = row.id.clone();
        let looked = self.look(&shown, &row, occasion).await.map_err(|why| blind(&agent, &why))?;
        match looked {
            Ok((hand, screen, Verdict::Type)) => {
                // To its end, also when whoever asked goes away.
                let nudges = self.clone();
                let doing = tokio::spawn(async move { nudges.deliver(hand, row, screen, occasion).await });
                if let Ok(Some(again)) = doing.await {
                    self.with_book(|book| book.track(&agent).due = Some(tokio::time::Instant::now() + again));
                    self.tell();
                }
            }
            Ok((_, _, Verdict::Never(why))) => {
                return Err(RpcError::new(ErrorKind::InvalidParams, why).with("path", path));
            }
            Ok((_, _, Verdict::Wait { why, .. })) | Err(Verdict::Wait { why, .. }) => {
                return Err(busy(&agent, &why, occasion));
            }
            Err(Verdict::Type | Verdict::Never(_)) => {
                return Err(RpcError::internal("a verdict without a look"));
            }
        }
        let became = self.show(&id).await.map_err(|_| busy(&agent, "it cannot be written down", occasion))?;
        match became.state {
            NudgeState::Delivered => Ok(id),
            NudgeState::Dead => {
                let why = became.why.unwrap_or_default();
                Err(RpcError::new(ErrorKind::Busy, format!("nothing was sent off to {agent}: {why}"))
                    .hint(format!("gtctl peek {agent}"))
                    .with("reached", became.reached))
            }
            _ => Err(RpcError::new(
                ErrorKind::Timeout,
                format!("tmux has not confirmed what was typed for {agent}"),
            )
            .hint(format!("gtctl peek {agent}"))
            .with("reached", became.reached)),
        }
    }

    /// Queues a text for the running instance and waits for it; what is not typed in time is taken back.
    ///
    /// # Errors
    /// `not_running`, also when the instance ends meanwhile; `timeout` with `data.reached`; as [`Nudges::send`].
    pub async fn confirmed(&self, sending: Sending, wait: Option<Duration>) -> Result<NudgeId, RpcError> {
        let agent = sending.agent.clone();
        let shown = self.runs(&agent)?;
        let wait = wait.unwrap_or(CONFIRMED.0).min(CONFIRMED.1);
        let by = sending.sender.clone();
        // A little longer than is waited: who gives up first is this one.
        let expires = Some(wait + Duration::from_secs(60));
        let row = self.send(Sending { instance: shown.instance, expires, ..sending }).await?;
        self.wait(&row.id, Some(wait)).await;
        // What is being typed comes to an end by itself.
        let _ = self.cancel(&row.id, &by).await;
        self.wait(&row.id, Some(Duration::from_secs(5))).await;
        let became = self.show(&row.id).await?;
        if became.state == NudgeState::Delivered {
            return Ok(row.id);
        }
        if became.state == NudgeState::Dead && self.runs(&agent).is_err() {
            return Err(not_running(&agent));
        }
        let why = became.why.map(|why| format!(": {why}")).unwrap_or_default();
        Err(RpcError::new(
            ErrorKind::Timeout,
            format!("the text for {agent} was not typed and sent off in time{why}"),
        )
        .hint(format!("gtctl nudge {agent} MESSAGE"))
        .with("reached", became.reached))
    }

    fn runs(&self, agent: &Address) -> Result<Agent, RpcError> {
        let shown = self.0.handle.view().agent(agent).ok_or_else(|| {
            RpcError::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}")).hint("gtctl status")
        })?;
        if let Some(pause) = shown.pause.as_ref().filter(|_| shown.running) {
            let why = format!("nothing is typed for {agent}: it is paused, by {}", pause.by);
            return Err(RpcError::new(ErrorKind::Busy, why).hint(pause.clear.clone()));
        }
        if shown.running { Ok(shown) } else { Err(not_running(agent)) }
    }

    /// An agent that waits for a person.
    ///
    /// # Errors
    /// `not_running`; `busy` when it does not wait.
    pub fn awaits(&self, agent: &Address) -> Result<(), RpcError> {
        let shown = self.runs(agent)?;
        if shown.activity == Activity::Waiting {
            return Ok(());
        }
        let why = match shown.activity {
            Activity::Unknown => "it does not say that it waits for a person".to_owned(),
            activity => format!("it does not wait for a person, it is {}", activity.as_str()),
        };
        Err(busy(agent, &why, Occasion::Answer))
    }
}

fn not_running(agent: &Address) -> RpcError {
    RpcError::new(ErrorKind::NotRunning, format!("{agent} is not running"))
        .hint(format!("gtctl status {agent}"))
}

fn busy(agent: &Address, why: &str, occasion: Occasion) -> RpcError {
    let hint = match occasion {
        Occasion::Answer => {
            format!("gtctl nudge {agent} MESSAGE, which waits its turn; or gtctl attach {agent}")
        }
        Occasion::Turn => format!("wait for it, or queue the text: gtctl nudge {agent} MESSAGE"),
    };
    RpcError::new(ErrorKind::Busy, format!("nothing was typed for {agent}: {why}")).hint(hint)
}

fn blind(agent: &Address, why: &str) -> RpcError {
    RpcError::new(ErrorKind::TmuxUnavailable, format!("nothing was typed for {agent}: {why}"))
        .hint("gtctl daemon status")
}
