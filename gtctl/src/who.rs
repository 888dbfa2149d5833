//! Which agent this process is of, by its environment: set at the launch, and inherited by everything below.
//!
//! Only the daemon knows whether that is so; here it is taken for what it says.

use std::path::PathBuf;

use gtd_proto::{Address, InstanceId};

use crate::town::Surroundings;

/// An agent's own account of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Its address, where the variables make one.
    pub agent: Option<Address>,
    /// This start of it.
    pub instance: InstanceId,
    /// Its daemon's socket.
    pub socket: PathBuf,
    /// Where it may leave reports.
    pub spool: Option<PathBuf>,
}

impl Who {
    /// What the variables say; none outside of an agent.
    #[must_use]
    pub fn here(around: &Surroundings) -> Option<Self> {
        let text = |name: &str| around.var(name).and_then(|value| value.to_str());
        Some(Self {
            instance: text("GT_INSTANCE")?.parse().ok()?,
            socket: around.var("GT_SOCKET").map(PathBuf::from)?,
            spool: around.var("GT_SPOOL").map(PathBuf::from).filter(|path| path.is_absolute()),
            agent: address(text("GT_ROLE"), text("GT_RIG"), text("GT_POLECAT"), text("GT_CREW")),
        })
    }
}

fn address(
    role: Option<&str>,
    rig: Option<&str>,
    polecat: Option<&str>,
    crew: Option<&str>,
) -> Option<Address> {
    let text = match (role?, rig, polecat, crew) {
        (role @ ("mayor" | "deacon" | "boot"), ..) => role.to_owned(),
        (role @ ("witness" | "refinery"), Some(rig), ..) => format!("{rig}/{role}"),
        ("polecat", Some(rig), Some(name), _) => format!("{rig}/polecats/{name}"),
        ("crew", Some(rig), _, Some(name)) => format!("{rig}/crew/{name}"),
        _ => return None,
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_each_role_make_its_address() {
        let of = |vars: &[(&str, &str)]| {
            let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            Who::here(&Surroundings { vars, ..Surroundings::default() })
        };
        let id = "01958b3e-7a3c-7b1e-8b1a-0123456789ab";
        let named = |more: &[(&str, &str)]| {
            let mut vars = vec![("GT_INSTANCE", id), ("GT_SOCKET", "/s")];
            vars.extend(more);
            of(&vars).unwrap().agent.map(|agent| agent.to_string())
        };
        assert_eq!(named(&[("GT_ROLE", "boot")]).as_deref(), Some("boot"));
        assert_eq!(named(&[("GT_ROLE", "witness"), ("GT_RIG", "a")]).as_deref(), Some("a/witness"));
        let nux = [("GT_ROLE", "polecat"), ("GT_RIG", "a"), ("GT_POLECAT", "nux")];
        assert_eq!(named(&nux).as_deref(), Some("a/polecats/nux"));
        let max = [("GT_ROLE", "crew"), ("GT_RIG", "a"), ("GT_CREW", "max")];
        assert_eq!(named(&max).as_deref(), Some("a/crew/max"));
        assert_eq!(named(&[("GT_ROLE", "polecat"), ("GT_RIG", "a")]), None);
        assert_eq!(named(&[]), None);
        assert_eq!(of(&[("GT_SOCKET", "/s")]), None);
        assert_eq!(of(&[("GT_INSTANCE", "x"), ("GT_SOCKET", "/s")]), None);
        assert_eq!(of(&[("GT_INSTANCE", id)]), None);
    }
}
