//! The method that somebody probably meant.

use gtd_proto::method::METHODS;
use gtd_proto::nearest::{LONGEST, nearest};
use gtd_proto::{ErrorKind, RpcError};

/// The error for a method that does not exist, with the nearest that does.
pub(super) fn not_found(name: &str) -> RpcError {
    let shown: String = name.chars().take(LONGEST).collect();
    let error = RpcError::new(ErrorKind::MethodNotFound, format!("no method {shown:?}"));
    let written = shown.replace(['_', '/', ' '], ".");
    let near = if name.len() > LONGEST {
        Vec::new()
    } else {
        nearest(&written, METHODS.iter().map(|method| method.name), 1)
    };
    match near.first() {
        Some(near) => error.hint(format!("did you mean {near}? rpc.discover lists all methods")),
        None => error.hint("rpc.discover lists all methods"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_nonsense_is_not() {
        let hint = |name| not_found(name).hint.unwrap();
        assert!(hint("town.statsu").contains("town.status"));
        assert!(hint("witness_start").contains("witness.start"));
        assert!(hint("Rig.List").contains("rig.list"));
        assert!(!hint("eth_getBalanceOfSomebody").contains("mean"));
        assert!(!hint(&"x".repeat(100_000)).contains("mean"));
        assert!(not_found(&"x".repeat(100_000)).message.len() < 100);
    }
}
