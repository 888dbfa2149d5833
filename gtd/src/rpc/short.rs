//! Short names of workers: `alpha/nux` for `alpha/polecats/nux`, wherever a method takes an agent.
//!
//! Only a worker that there is, and only where no person's workspace has the same name. Looked at when an address
//! cannot be read as it stands, so that addresses cost nothing.

use gtd_proto::{Address, AgentName, RigName, RpcError, method::Method};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::supervisor::view::Shown;

/// The worker that a short name means, if it means one.
#[must_use]
pub fn worker(shown: &Shown, text: &str) -> Option<Address> {
    let (rig, name) = text.split_once('/')?;
    let (rig, name) = (RigName::new(rig).ok()?, AgentName::new(name).ok()?);
    let namesake = shown.facts.rigs.get(&rig)?.crew.iter().any(|crew| crew == name.as_str());
    let address = Address::Polecat(rig, name);
    (shown.agents.contains_key(&address) && !namesake).then_some(address)
}

/// Checks parameters; where their agent cannot be read, it may be a short name.
pub(super) fn check(
    method: &Method,
    given: Option<&RawValue>,
    worker: impl Fn(&str) -> Option<Address>,
) -> Result<Box<RawValue>, RpcError> {
    let error = match method.check(given) {
        Err(error) if error.data.get("path").and_then(Value::as_str) == Some("/agent") => error,
        other => return other,
    };
    let Some(mut params) = given.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok()) else {
        return Err(error);
    };
    let at = method.fields.iter().position(|field| *field == "agent").unwrap_or_default();
    let place = match &mut params {
        Value::Object(map) => map.get_mut("agent"),
        Value::Array(list) if matches!(list.as_slice(), [Value::Object(_)]) => {
            list.first_mut().and_then(|first| first.get_mut("agent"))
        }
        Value::Array(list) => list.get_mut(at),
        _ => None,
    };
    let Some(place) = place else { return Err(error) };
    let Some(address) = place.as_str().and_then(worker) else { return Err(error) };
    *place = Value::from(address.to_string());
    let raw = serde_json::value::to_raw_value(&params).map_err(|_| error)?;
    method.check(Some(&raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::view::at_rest;
    use gtd_proto::{Timestamp, method};

    #[test]
    fn a_short_name_is_a_worker_that_there_is() {
        let nux = || "a/polecats/nux".parse::<Address>().unwrap();
        let known = |text: &str| (text == "a/nux").then(nux);
        let checked = |params: &str| {
            let raw = RawValue::from_string(params.to_owned()).unwrap();
            let method = method::find("polecat.capture").unwrap();
            check(method, Some(&raw), known).map(|raw| raw.get().to_owned())
        };
        let full = checked(r#"{"agent":"a/polecats/nux","lines":3}"#).unwrap();
        for short in [r#"{"agent":"a/nux","lines":3}"#, r#"["a/nux",3]"#, r#"[{"agent":"a/nux","lines":3}]"#]
        {
            assert_eq!(checked(short).unwrap(), full, "{short}");
        }
        for wrong in [r#"{"agent":"a/nix"}"#, r#"{"agent":5}"#, r"{}", r#"["a/nix"]"#] {
            assert_eq!(checked(wrong).unwrap_err().data["path"], "/agent", "{wrong}");
        }
    }

    #[test]
    fn a_namesake_makes_it_unclear() {
        let mut shown = Shown::default();
        let address: Address = "a/polecats/nux".parse().unwrap();
        shown.agents.insert(address.clone(), at_rest(&address, Timestamp::UNIX_EPOCH));
        assert_eq!(worker(&shown, "a/nux"), None, "its rig is not known");
        let rig = RigName::new("a").unwrap();
        shown.facts.rigs.insert(
            rig.clone(),
            crate::supervisor::RigFacts {
                file: crate::supervisor::rigs::FileState::default(),
                standing: crate::supervisor::rigs::Standing::default(),
                witness: crate::supervisor::Mode::Always,
                refinery: crate::supervisor::Mode::Always,
                path: String::new(),
                prefix: String::new(),
                polecats: Vec::new(),
                crew: Vec::new(),
            },
        );
        assert_eq!(worker(&shown, "a/nux"), Some(address));
        for other in ["a/witness", "a/ace", "b/nux", "nux", "a/polecats/nux", ""] {
            assert_eq!(worker(&shown, other), None, "{other}");
        }
        shown.facts.rigs.get_mut(&rig).unwrap().crew.push("nux".to_owned());
        assert_eq!(worker(&shown, "a/nux"), None);
    }
}
