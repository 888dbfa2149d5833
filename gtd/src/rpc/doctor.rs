//! `doctor.*`: look, plan, do what is allowed, and look again.

use std::sync::Arc;

use gtd_proto::doctor::{CheckInfo, FixClass, Report};
use gtd_proto::event::kind;
use gtd_proto::rpc::DoctorServer;
use gtd_proto::{ErrorKind, Items, Reply, RpcError, params};
use jsonrpsee::Extensions;
use jsonrpsee::core::{RpcResult, async_trait};
use serde_json::json;

use super::context::{Context, refuse, who};
use crate::doctor::{self, Check, Looked, World};
use crate::ledger::{NewEvent, Write};
use crate::polecats::points::Points;

/// Longest word of a shared look, in bytes.
const WORD: usize = 64;
/// Here a test may change what a plan found before it is carried out.
const BEFORE_APPLYING: &str = "doctor.apply";

#[async_trait]
impl DoctorServer for Context {
    async fn checks(&self, _: params::None) -> RpcResult<Reply<Items<CheckInfo>>> {
        Ok(Reply::at(self.seq(), Items { items: doctor::infos() }))
    }

    async fn run(&self, peer: &Extensions, params: params::DoctorRun) -> RpcResult<Reply<Report>> {
        let checks = doctor::named(params.checks.as_deref()).map_err(|error| {
            let invalid = RpcError::new(ErrorKind::InvalidParams, error.to_string()).with("path", "/checks");
            refuse(invalid.hint("gtctl doctor --list"))
        })?;
        if let Some(rig) = &params.rig {
            self.handle.rig(rig).map_err(refuse)?;
        }
        if let Some(word) = &params.look
            && (word.is_empty() || word.len() > WORD)
        {
            let invalid = RpcError::new(ErrorKind::InvalidParams, format!("look has 1 to {WORD} bytes"));
            return Err(refuse(invalid.with("path", "/look")));
        }
        let by = who(peer);
        let looking = async {
            // What is put right is looked at anew.
            let word = params.look.as_deref().filter(|_| !params.fix);
            let looked = self.examine(&checks, &params, word).await?;
            if !params.fix || params.plan_only || params.dry_run {
                return Ok(looked.report);
            }
            self.mend(looked, &checks, &params, &by).await
        };
        // Looking twice is as looking once; what is done twice is not.
        let key = params.idempotency_key.as_deref().filter(|_| params.fix);
        let report = self.handle.once(key, "doctor.run", looking).await.map_err(refuse)?;
        Ok(Reply::at(self.seq(), report))
    }
}

impl Context {
    async fn examine(
        &self,
        checks: &[&'static Check],
        params: &params::DoctorRun,
        word: Option<&str>,
    ) -> Result<Looked, RpcError> {
        let look = World::with_daemon(
            &self.handle,
            &self.prepare,
            self.layout.root(),
            params.rig.clone(),
            self.reasons(),
            self.started_at,
        );
        let world = match word {
            Some(word) => self.looks.shared(word, params.rig.clone(), look).await,
            None => look.await.map(Arc::new),
        };
        let world =
            world.map_err(|error| RpcError::internal(format!("the town cannot be looked at: {error}")))?;
        Ok(doctor::run(world, checks).await)
    }

    async fn mend(
        &self,
        looked: Looked,
        checks: &[&'static Check],
        params: &params::DoctorRun,
        by: &str,
    ) -> Result<Report, RpcError> {
        let Looked { report: mut first, steps } = looked;
        let mut plan = std::mem::take(&mut first.plan);
        let mut applied = Vec::new();
        let allowed = |class: FixClass| {
            class == FixClass::Safe || params.allow.iter().any(|allowed| FixClass::from(*allowed) == class)
        };
        Points::from_env().reach(BEFORE_APPLYING).await?;
        for (item, (check, class, step)) in plan.iter_mut().zip(&steps) {
            if params.targets.as_ref().is_some_and(|targets| !targets.contains(&item.target)) {
                item.outcome = Some("left: it was not among the targets".to_owned());
                continue;
            }
            if !allowed(*class) {
                item.outcome = Some(format!("left: it is {}, and that was not allowed", class.as_str()));
                continue;
            }
            tracing::info!(check = check.name, target = %step.target, %by, "the doctor acts");
            let (outcome, ok) = doctor::apply(&self.handle, step, by).await;
            item.outcome = Some(outcome);
            item.ok = Some(ok);
            let data = json!({
                "check": item.check, "class": item.class, "action": item.action, "target": item.target,
                "outcome": item.outcome, "ok": ok, "by": by,
            });
            let event = NewEvent {
                peer: Some(by.to_owned()),
                ..NewEvent::new(self.handle.now(), kind::DOCTOR_FIXED, data)
            };
            self.handle.write(vec![Write::Event(event)]).await;
            applied.push(item.clone());
        }
        if applied.is_empty() {
            return Ok(Report { plan, ..first });
        }
        // The second look is the result.
        let again = self.examine(checks, params, None).await?;
        Ok(Report { plan, applied, ..again.report })
    }
}
