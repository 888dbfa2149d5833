//! The environment of an agent, made from nothing.
//!
//! What the daemon itself was started with goes in by name only: an agent must never take the identity of
//! whoever started the daemon. Who an agent is cannot be changed by settings or requests.

use std::collections::BTreeMap;
use std::path::Path;

use gtd_proto::{Address, InstanceId, TownId};

/// Variables.
pub type Env = BTreeMap<String, String>;

/// What is taken from the daemon's own environment: the person, the machine, the language, where things
/// are, and how a network is reached.
const KEPT: [&str; 40] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "SSH_AUTH_SOCK",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CLOUD_ML_REGION",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CODEX_HOME",
    "COPILOT_HOME",
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "CURSOR_API_KEY",
    "AMP_API_KEY",
    "AUGMENT_API_TOKEN",
    "AUGMENT_SESSION_AUTH",
    "COLORFGBG",
];

/// The same by how the name begins: language, directories, and what the providers of models read.
const KEPT_PREFIXES: [&str; 12] = [
    "LC_",
    "XDG_",
    "ANTHROPIC_",
    "CLAUDE_CODE_USE_",
    "CLAUDE_CODE_SKIP_",
    "CLAUDE_CODE_CLIENT_",
    "AWS_",
    "AZURE_",
    "GOOGLE_",
    "GEMINI_",
    "OPENAI_",
    "VERTEX_",
];

/// Who an agent is, and what its terminal tells it: never taken from settings or requests.
const IDENTITY: [&str; 17] = [
    "GT_ROLE",
    "GT_RIG",
    "GT_POLECAT",
    "GT_CREW",
    "GT_ROOT",
    "GT_TOWN_ROOT",
    "GT_TOWN_ID",
    "GT_INSTANCE",
    "GT_SOCKET",
    "GT_SPOOL",
    "GT_AGENT",
    "GT_SESSION",
    "GT_REFINERY",
    "BD_ACTOR",
    "BEADS_AGENT_NAME",
    "TMUX",
    "TMUX_PANE",
];

/// Whether a variable says who an agent is, and so cannot be set from outside.
#[must_use]
pub fn is_identity(key: &str) -> bool {
    IDENTITY.contains(&key)
}

/// Whether a variable can be set at all: a name of letters, digits and `_` that begins with no digit, and a
/// value without NUL.
#[must_use]
pub fn is_settable(key: &str, value: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !key.is_empty()
        && !key.starts_with(|c: char| c.is_ascii_digit())
        && key.chars().all(word)
        && !value.contains('\0')
}

/// What agents get of the daemon's environment.
#[must_use]
pub fn allowed(ours: impl IntoIterator<Item = (String, String)>) -> Env {
    ours.into_iter()
        .filter(|(key, value)| {
            let named = KEPT.contains(&key.as_str());
            let begins = KEPT_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
            (named || begins) && is_settable(key, value)
        })
        .collect()
}

/// Who an agent is.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Its address.
    pub agent: &'a Address,
    /// The town's root.
    pub root: &'a Path,
    /// The town's id.
    pub town: &'a TownId,
    /// This start of it.
    pub instance: &'a InstanceId,
    /// The daemon's socket.
    pub socket: &'a Path,
    /// Where its reports are left while the daemon does not answer.
    pub spool: &'a Path,
    /// The entry or preset it is launched with.
    pub preset: &'a str,
}

/// The variables that say who an agent is, in the way of the native mode: `GT_ROLE` is the bare role.
#[must_use]
pub fn identity(identity: &Identity<'_>) -> Env {
    let agent = identity.agent;
    let root = identity.root.to_string_lossy().into_owned();
    let (actor, author) = match agent {
        Address::Boot => ("deacon-boot".to_owned(), "boot".to_owned()),
        Address::Polecat(_, name) | Address::Crew(_, name) => (agent.to_string(), name.to_string()),
        other => (other.to_string(), other.to_string()),
    };
    let mut env: Env = [
        ("GT_ROLE", agent.role().as_str().to_owned()),
        ("GT_ROOT", root.clone()),
        ("GT_TOWN_ID", identity.town.to_string()),
        ("GT_INSTANCE", identity.instance.to_string()),
        ("GT_SOCKET", identity.socket.to_string_lossy().into_owned()),
        ("GT_SPOOL", identity.spool.to_string_lossy().into_owned()),
        ("GT_AGENT", identity.preset.to_owned()),
        ("BD_ACTOR", actor),
        ("GIT_AUTHOR_NAME", author),
        // So that git, started outside a checkout, does not take the town's own repository for one.
        ("GIT_CEILING_DIRECTORIES", root),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let mut set = |key: &str, value: String| env.insert(key.to_owned(), value);
    if let Some(rig) = agent.rig() {
        set("GT_RIG", rig.to_string());
    }
    match agent {
        Address::Polecat(rig, name) => {
            set("GT_POLECAT", name.to_string());
            set("BEADS_AGENT_NAME", format!("{rig}/{name}"));
            set("BEADS_NO_DAEMON", "1".to_owned());
        }
        Address::Crew(rig, name) => {
            set("GT_CREW", name.to_string());
            set("BEADS_AGENT_NAME", format!("{rig}/{name}"));
            set("BEADS_NO_DAEMON", "1".to_owned());
        }
        Address::Refinery(_) => {
            set("GT_REFINERY", "1".to_owned());
            set("BEADS_NO_DAEMON", "1".to_owned());
        }
        _ => {}
    }
    env
}

/// A variable that cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// It says who the agent is.
    #[error("the variable {0} says who an agent is, and cannot be set")]
    Identity(String),
    /// Its name or value cannot be one.
    #[error("{0:?} is no name of a variable, or its value has a NUL")]
    Invalid(String),
}

/// Puts layers on top of each other, the last one on top, and the identity above all.
///
/// # Errors
/// When a layer sets what cannot be set. What the settings set of the identity is an error too: silently
/// passed over, it would look as if it worked.
pub fn compose(base: &Env, who: &Identity<'_>, layers: &[&Env]) -> Result<Env, EnvError> {
    let who = identity(who);
    let mut env = base.clone();
    // The identity's ordinary variables, such as the author's name, may be overridden.
    env.extend(who.clone());
    for (key, value) in layers.iter().copied().flatten() {
        if is_identity(key) {
            return Err(EnvError::Identity(key.clone()));
        }
        if !is_settable(key, value) {
            return Err(EnvError::Invalid(key.clone()));
        }
        env.insert(key.clone(), value.clone());
    }
    for (key, value) in who {
        if is_identity(&key) {
            env.insert(key, value);
        }
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn of(agent: &str) -> Env {
        let agent: Address = agent.parse().unwrap();
        let (town, instance) = (TownId::generate(), InstanceId::generate());
        let who = Identity {
            agent: &agent,
            root: Path::new("/t"),
            town: &town,
            instance: &instance,
            socket: Path::new("/t/daemon/gtd.sock"),
            spool: Path::new("/t/daemon/run/reports"),
            preset: "claude",
        };
        let mut env = identity(&who);
        assert_eq!(env.remove("GT_TOWN_ID").as_deref(), Some(town.as_str()));
        assert_eq!(env.remove("GT_INSTANCE").as_deref(), Some(instance.as_str()));
        for (key, value) in [
            ("GT_ROOT", "/t"),
            ("GT_SOCKET", "/t/daemon/gtd.sock"),
            ("GT_SPOOL", "/t/daemon/run/reports"),
            ("GT_AGENT", "claude"),
            ("GIT_CEILING_DIRECTORIES", "/t"),
        ] {
            assert_eq!(env.remove(key).as_deref(), Some(value), "{key}");
        }
        env
    }

    #[test]
    fn each_role_has_its_variables() {
        let cases: [(&str, &[(&str, &str)]); 7] = [
            ("mayor", &[("GT_ROLE", "mayor"), ("BD_ACTOR", "mayor"), ("GIT_AUTHOR_NAME", "mayor")]),
            ("deacon", &[("GT_ROLE", "deacon"), ("BD_ACTOR", "deacon"), ("GIT_AUTHOR_NAME", "deacon")]),
            ("boot", &[("GT_ROLE", "boot"), ("BD_ACTOR", "deacon-boot"), ("GIT_AUTHOR_NAME", "boot")]),
            (
                "a-b/witness",
                &[
                    ("GT_ROLE", "witness"),
                    ("GT_RIG", "a-b"),
                    ("BD_ACTOR", "a-b/witness"),
                    ("GIT_AUTHOR_NAME", "a-b/witness"),
                ],
            ),
            (
                "a/refinery",
                &[
                    ("GT_ROLE", "refinery"),
                    ("GT_RIG", "a"),
                    ("BD_ACTOR", "a/refinery"),
                    ("GIT_AUTHOR_NAME", "a/refinery"),
                    ("GT_REFINERY", "1"),
                    ("BEADS_NO_DAEMON", "1"),
                ],
            ),
            (
                "a/polecats/nux",
                &[
                    ("GT_ROLE", "polecat"),
                    ("GT_RIG", "a"),
                    ("GT_POLECAT", "nux"),
                    ("BD_ACTOR", "a/polecats/nux"),
                    ("GIT_AUTHOR_NAME", "nux"),
                    ("BEADS_AGENT_NAME", "a/nux"),
                    ("BEADS_NO_DAEMON", "1"),
                ],
            ),
            (
                "a/crew/max",
                &[
                    ("GT_ROLE", "crew"),
                    ("GT_RIG", "a"),
                    ("GT_CREW", "max"),
                    ("BD_ACTOR", "a/crew/max"),
                    ("GIT_AUTHOR_NAME", "max"),
                    ("BEADS_AGENT_NAME", "a/max"),
                    ("BEADS_NO_DAEMON", "1"),
                ],
            ),
        ];
        for (agent, expected) in cases {
            assert_eq!(of(agent), env(expected), "{agent}");
        }
    }

    #[test]
    fn nothing_of_the_daemons_identity_goes_through() {
        let ours = env(&[
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("XDG_RUNTIME_DIR", "/run"),
            ("ANTHROPIC_API_KEY", "k"),
            ("https_proxy", "p"),
            ("GT_ROLE", "mayor"),
            ("GT_INSTANCE", "x"),
            ("GT_ANYTHING", "x"),
            ("TMUX", "/s,1,0"),
            ("TMUX_PANE", "%1"),
            ("CLAUDECODE", "1"),
            ("CLAUDE_CODE_ENTRYPOINT", "cli"),
            ("CLAUDE_CODE_SSE_PORT", "1"),
            ("NODE_OPTIONS", "--x"),
            ("BD_ACTOR", "me"),
            ("GIT_DIR", "/x"),
            ("LD_PRELOAD", "/x"),
            ("NOTIFY_SOCKET", "/x"),
            ("LISTEN_FDS", "1"),
        ]);
        let kept = allowed(ours);
        let keys: Vec<&str> = kept.keys().map(String::as_str).collect();
        assert_eq!(keys, ["ANTHROPIC_API_KEY", "LC_ALL", "PATH", "XDG_RUNTIME_DIR", "https_proxy"]);
        assert!(IDENTITY.iter().all(|key| allowed([((*key).to_owned(), "x".to_owned())]).is_empty()));
    }

    #[test]
    fn layers_override_each_other_and_never_the_identity() {
        let agent: Address = "a/witness".parse().unwrap();
        let (town, instance) = (TownId::generate(), InstanceId::generate());
        let who = Identity {
            agent: &agent,
            root: Path::new("/t"),
            town: &town,
            instance: &instance,
            socket: Path::new("/s"),
            spool: Path::new("/r"),
            preset: "x",
        };
        let base = env(&[("A", "0"), ("B", "0"), ("PATH", "/bin"), ("GIT_AUTHOR_NAME", "daemon")]);
        let made = compose(
            &base,
            &who,
            &[&env(&[("A", "1"), ("C", "1")]), &env(&[("A", "2"), ("GIT_AUTHOR_NAME", "someone")])],
        )
        .unwrap();
        let value = |key: &str| made.get(key).map(String::as_str);
        assert_eq!((value("A"), value("B"), value("C")), (Some("2"), Some("0"), Some("1")));
        assert_eq!(value("GIT_AUTHOR_NAME"), Some("someone"));
        for key in IDENTITY {
            let error = compose(&base, &who, &[&env(&[(key, "x")])]).unwrap_err();
            assert_eq!(error, EnvError::Identity(key.to_owned()));
        }
        for key in ["", "A=B", "A B", "1A", "\u{e9}"] {
            assert!(
                matches!(compose(&base, &who, &[&env(&[(key, "x")])]), Err(EnvError::Invalid(_))),
                "{key}"
            );
        }
        assert!(compose(&base, &who, &[&env(&[("A", "x\0y")])]).is_err());
    }

    proptest! {
        #[test]
        fn who_an_agent_is_stays(key in "[A-Z_]{1,16}", value in ".{0,8}") {
            let agent: Address = "a/polecats/nux".parse().unwrap();
            let (town, instance) = (TownId::generate(), InstanceId::generate());
            let who = Identity { agent: &agent, root: Path::new("/t"), town: &town, instance: &instance,
                socket: Path::new("/s"),
            spool: Path::new("/r"), preset: "x" };
            let made = compose(&env(&[(&key, &value)]), &who, &[]).unwrap();
            for (key, value) in identity(&who) {
                prop_assert_eq!(made.get(&key), Some(&value));
            }
        }
    }
}
