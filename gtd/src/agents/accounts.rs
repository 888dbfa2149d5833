//! Accounts with providers, `mayor/accounts.json`.
//!
//! An agent that should run under one account must never run under another: a file or a name that is not
//! right is an error, not "no account".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::town::file;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name in the file.
    pub handle: String,
    /// The directory of the program's configuration that belongs to it.
    pub config_dir: PathBuf,
}

/// The accounts of a town.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accounts {
    accounts: BTreeMap<String, PathBuf>,
    default: Option<String>,
}

/// Accounts that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The file is not right.
    #[error("mayor/accounts.json {0}")]
    File(String),
    /// There is no such account.
    #[error("no account {handle:?}; {}", if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) })]
    Unknown {
        /// The name.
        handle: String,
        /// The names there are.
        known: Vec<String>,
    },
}

/// Reads the accounts. A missing file has none. `home` is what `~` stands for.
///
/// # Errors
/// When the file cannot be read, or one of its accounts has no usable directory.
pub fn read(path: &Path, home: Option<&Path>) -> Result<Accounts, AccountError> {
    match file::read_object(path).map_err(AccountError::File)? {
        None => Ok(Accounts::default()),
        Some(map) => parse(&Value::Object(map), home).map_err(AccountError::File),
    }
}

fn parse(value: &Value, home: Option<&Path>) -> Result<Accounts, String> {
    let entries = match value.get("accounts") {
        None | Some(Value::Null) => serde_json::Map::new(),
        Some(Value::Object(entries)) => entries.clone(),
        Some(_) => return Err("has something other than an object under \"accounts\"".to_owned()),
    };
    let mut accounts = BTreeMap::new();
    for (handle, entry) in entries {
        let given = entry.get("config_dir").and_then(Value::as_str).unwrap_or_default();
        let dir = match (given.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            (Some(_), None) => return Err(format!("account {handle:?}: ~ is not known without HOME")),
            (None, _) => PathBuf::from(given),
        };
        if !dir.is_absolute() {
            return Err(format!("account {handle:?}: config_dir {given:?} is no absolute path"));
        }
        accounts.insert(handle, dir);
    }
    let default = match value.get("default") {
        None | Some(Value::Null) => None,
        Some(Value::String(handle)) => Some(handle.clone()).filter(|handle| !handle.is_empty()),
        Some(_) => return Err("has a default that is no text".to_owned()),
    };
    if let Some(handle) = default.as_ref().filter(|handle| !accounts.contains_key(*handle)) {
        return Err(format!("has the default {handle:?}, which is no account of it"));
    }
    Ok(Accounts { accounts, default })
}

impl Accounts {
    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = Account> {
        self.accounts.iter().map(|(handle, dir)| Account { handle: handle.clone(), config_dir: dir.clone() })
    }

    /// The account for a start: the one that is named, else the one of the caller's environment
    /// (`GT_ACCOUNT`), else the default; none when nothing is named and there is no default.
    ///
    /// # Errors
    /// When the name that applies is no account.
    pub fn choose(
        &self,
        named: Option<&str>,
        environment: Option<&str>,
    ) -> Result<Option<Account>, AccountError> {
        let Some(handle) = named.or(environment.filter(|name| !name.is_empty())).or(self.default.as_deref())
        else {
            return Ok(None);
        };
        match self.accounts.get(handle) {
            Some(dir) => Ok(Some(Account { handle: handle.to_owned(), config_dir: dir.clone() })),
            None => Err(AccountError::Unknown {
                handle: handle.to_owned(),
                known: self.accounts.keys().cloned().collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(text: &str) -> Result<Accounts, AccountError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.json");
        std::fs::write(&path, text).unwrap();
        read(&path, Some(Path::new("/home/x")))
    }

    const TWO: &str = r#"{"version":1,"accounts":{"a":{"email":"e","config_dir":"~/.a"},"b":{"config_dir":"/b"}},"default":"a"}"#;

    #[test]
    fn an_account_is_chosen_by_name_environment_or_default() {
        let two = accounts(TWO).unwrap();
        let chosen = |named, environment| two.choose(named, environment).unwrap().unwrap().config_dir;
        assert_eq!(chosen(None, None), Path::new("/home/x/.a"));
        assert_eq!(chosen(None, Some("b")), Path::new("/b"));
        assert_eq!(chosen(Some("a"), Some("b")), Path::new("/home/x/.a"));
        assert_eq!(chosen(None, Some("")), Path::new("/home/x/.a"));
        let error = two.choose(Some("c"), None).unwrap_err().to_string();
        assert_eq!(error, "no account \"c\"; there are a, b");
        let none = read(Path::new("/no/such/file"), None).unwrap();
        assert_eq!(none.choose(None, None), Ok(None));
        assert!(none.choose(Some("a"), None).is_err());
    }

    #[test]
    fn a_file_that_is_not_right_is_an_error() {
        for bad in [
            "",
            "{",
            "[]",
            r#"{"accounts":[]}"#,
            r#"{"accounts":{"a":{}}}"#,
            r#"{"accounts":{"a":{"config_dir":"rel"}}}"#,
            r#"{"accounts":{"a":3}}"#,
            r#"{"default":"x"}"#,
            r#"{"default":3}"#,
        ] {
            assert!(matches!(accounts(bad), Err(AccountError::File(_))), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.json");
        std::fs::write(&path, TWO).unwrap();
        assert!(read(&path, None).is_err(), "~ without HOME");
    }
}
