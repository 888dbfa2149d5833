//! One start of one agent as one value: what is run, with what, where, and when it counts as ready.
//!
//! Every start, restart and display uses this value. Must never start anything itself.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gtd_proto::exit::ExecError;
use gtd_proto::{Address, ErrorKind, InstanceId, TownId};
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use super::accounts::Account;
use super::environment::{self, Env, EnvError, Identity};
use super::preset::{PromptArg, Resume};
use super::prompt::{self, Occasion, Work};
use super::resolve::Choice;

/// When an agent counts as ready. A report of its own always makes it ready, whatever is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// At its first report.
    Report,
    /// When it has lived that long.
    AliveFor(Duration),
    /// When it has lived that long and a line of its screen begins like this.
    Prompt {
        /// How the line begins.
        prefix: String,
        /// How long it must have lived.
        alive_for: Duration,
    },
}

/// Life after which a script is ready, unless its entry says otherwise: an executable that cannot do its
/// work has ended by then.
const SCRIPT_READY: Duration = Duration::from_millis(200);
/// The same for a program that shows its prompt, or shows nothing we know.
const SCREEN_READY: Duration = Duration::from_secs(2);

/// The conversation of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conversation {
    /// A new one, with this id where the program takes one.
    New(String),
    /// The one of this id goes on.
    Resume(String),
}

/// What a launch is made from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The agent.
    pub agent: &'a Address,
    /// This start of it.
    pub instance: &'a InstanceId,
    /// The program.
    pub choice: &'a Choice,
    /// The town's root.
    pub root: &'a Path,
    /// The town's id.
    pub town: &'a TownId,
    /// The daemon's socket.
    pub socket: &'a Path,
    /// Where its reports are left while the daemon does not answer.
    pub spool: &'a Path,
    /// Where it works: [`crate::town::rigs::workdir`].
    pub cwd: &'a Path,
    /// What it gets of the daemon's environment: [`environment::allowed`].
    pub base_env: &'a Env,
    /// Its account.
    pub account: Option<&'a Account>,
    /// Environment that the request names; goes over everything but the identity.
    pub overrides: &'a Env,
    /// Its conversation; none where there is nothing to remember.
    pub conversation: Option<&'a Conversation>,
    /// Settings that are generated for it, for a program that takes such a file.
    pub settings_file: Option<&'a Path>,
    /// Whether the program's hooks are set up to report to us.
    pub report_hooks: bool,
    /// The work on its hook.
    pub work: Option<&'a Work>,
}

/// One start, whole. Its environment holds keys and tokens: the debug form shows names only, and whoever
/// writes the whole writes it for the owner alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The entry or preset, as shown.
    pub preset: String,
    /// Absolute path of the program, then its arguments.
    pub argv: Vec<String>,
    /// Its whole environment, except for what its terminal adds.
    pub env: BTreeMap<String, String>,
    /// Its directory.
    pub cwd: PathBuf,
    /// When it is ready.
    pub ready: Ready,
    /// Its start-up text, if it gets one.
    pub prompt: Option<String>,
    /// The text is in `argv`; otherwise it is typed once the agent is ready.
    pub prompt_in_argv: bool,
    /// Its account.
    pub account: Option<String>,
    /// Its conversation, if the program can take one up.
    pub conversation: Option<Conversation>,
    /// Names that its processes show, for people.
    pub process_names: Vec<String>,
    /// The part of `argv` that does not change from start to start.
    pub program: Vec<String>,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("preset", &self.preset)
            .field("argv", &self.argv)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("ready", &self.ready)
            .field("account", &self.account)
            .field("conversation", &self.conversation)
            .finish_non_exhaustive()
    }
}

/// A launch that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The program cannot be executed.
    #[error("cannot execute {}: {}", error.path.as_deref().unwrap_or_default(), in_words(&error.errno))]
    Exec {
        /// The agent.
        agent: Address,
        /// What the system would say.
        error: Box<ExecError>,
        /// What helps.
        hint: String,
    },
    /// Its environment cannot be made.
    #[error("{error}")]
    Env {
        /// The agent.
        agent: Address,
        /// Why.
        error: EnvError,
    },
}

/// What an error number means for a program or a directory.
#[must_use]
pub fn in_words(errno: &str) -> String {
    let words = match errno {
        "ENOENT" => "there is no such file or directory",
        "EACCES" | "EPERM" => "it may not be executed",
        "ENOTDIR" => "a part of its path is no directory",
        "EISDIR" => "it is a directory",
        "ENOEXEC" => "it is no program for this system",
        "ELOOP" => "its symbolic links go round in a circle",
        other => return other.to_owned(),
    };
    format!("{words} ({errno})")
}

impl LaunchError {
    /// The kind of error that it is on the wire.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exec { .. } => ErrorKind::DiedDuringStartup,
            Self::Env { .. } => ErrorKind::InvalidParams,
        }
    }
}

/// Makes the launch. Looks at the disk only to find the program over the `PATH` that the agent will have.
///
/// # Errors
/// When the program is not there or cannot be executed, or a variable cannot be set.
pub fn launch(request: &Request<'_>) -> Result<Launch, LaunchError> {
    let Choice { preset, entry, name, .. } = request.choice;
    let agent = request.agent;
    let preset_env: Env = preset.env.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let config_dir = entry.config_dir_env.as_deref().or(preset.config_dir_env);
    let account_env: Env = match (request.account, config_dir) {
        (Some(account), Some(variable)) => {
            [(variable.to_owned(), account.config_dir.to_string_lossy().into_owned())].into()
        }
        _ => Env::new(),
    };
    let who = Identity {
        agent,
        root: request.root,
        town: request.town,
        instance: request.instance,
        socket: request.socket,
        spool: request.spool,
        preset: name,
    };
    let layers = [&preset_env, &entry.env, &account_env, request.overrides];
    let env = environment::compose(request.base_env, &who, &layers)
        .map_err(|error| LaunchError::Env { agent: agent.clone(), error })?;

    let command = entry.command.as_deref().or(preset.command).unwrap_or_default();
    let path =
        find(command, env.get("PATH").map_or(PATH, String::as_str), env.get("HOME").map(Path::new)).map_err(
            |error| LaunchError::Exec { agent: agent.clone(), hint: hint(command), error: Box::new(error) },
        )?;

    let mut arguments: Vec<String> = match &entry.args {
        Some(args) => args.clone(),
        None => preset.args.iter().map(|&arg| arg.to_owned()).collect(),
    };
    if let (Some(flag), Some(file)) = (preset.settings_flag, request.settings_file) {
        arguments.extend([flag.to_owned(), file.to_string_lossy().into_owned()]);
    }
    let program: Vec<String> =
        std::iter::once(path.to_string_lossy().into_owned()).chain(arguments.iter().cloned()).collect();
    let conversation = converse(request, &mut arguments);
    let resumed = matches!(conversation, Some(Conversation::Resume(_)));
    let how = match entry.prompt_mode.as_deref() {
        // Asked for by the entry; a program with an option of its own keeps it.
        Some("arg") if !matches!(preset.prompt, PromptArg::Flag(_)) => PromptArg::Last,
        Some("none") if preset.prompt != PromptArg::Never => PromptArg::Typed,
        _ => preset.prompt,
    };
    let prompt = match how {
        PromptArg::Never => None,
        _ => entry
            .initial_prompt
            .clone()
            .or_else(|| prompt::text(agent, Occasion { work: request.work, resumed })),
    };
    let mut prompt_in_argv = false;
    if let Some(text) = &prompt {
        match how {
            PromptArg::Last => arguments.push(text.clone()),
            PromptArg::Flag(flag) => arguments.extend([flag.to_owned(), text.clone()]),
            PromptArg::Typed | PromptArg::Never => {}
        }
        prompt_in_argv = matches!(how, PromptArg::Last | PromptArg::Flag(_));
    }
    let argv = std::iter::once(path.to_string_lossy().into_owned()).chain(arguments).collect();
    Ok(Launch {
        preset: name.clone(),
        argv,
        env,
        cwd: request.cwd.to_owned(),
        ready: ready(request),
        prompt,
        prompt_in_argv,
        account: request.account.map(|account| account.handle.clone()),
        conversation,
        process_names: match &entry.process_names {
            Some(names) => names.clone(),
            None if preset.process_names.is_empty() => {
                path.file_name().map(|name| name.to_string_lossy().into_owned()).into_iter().collect()
            }
            None => preset.process_names.iter().map(|&name| name.to_owned()).collect(),
        },
        program,
    })
}

/// Puts the conversation into the arguments; gives it back when the program can take it up later.
fn converse(request: &Request<'_>, arguments: &mut Vec<String>) -> Option<Conversation> {
    let preset = request.choice.preset;
    match (request.conversation?, preset.resume) {
        (_, Resume::None) => None,
        (Conversation::Resume(id), Resume::Flag(flag)) => {
            arguments.extend([flag.to_owned(), id.clone()]);
            Some(Conversation::Resume(id.clone()))
        }
        (Conversation::Resume(id), Resume::Subcommand(words)) => {
            let front = words.iter().map(|&word| word.to_owned()).chain([id.clone()]);
            arguments.splice(0..0, front);
            Some(Conversation::Resume(id.clone()))
        }
        // A program that gives its conversations ids of its own must report them.
        (Conversation::New(id), _) => preset.conversation_flag.map(|flag| {
            arguments.extend([flag.to_owned(), id.clone()]);
            Conversation::New(id.clone())
        }),
    }
}

fn ready(request: &Request<'_>) -> Ready {
    let Choice { preset, entry, .. } = request.choice;
    let given = entry.ready_after_ms.map(Duration::from_millis);
    if preset.command.is_none() {
        return Ready::AliveFor(given.unwrap_or(SCRIPT_READY));
    }
    if preset.report_hooks && request.report_hooks {
        return Ready::Report;
    }
    let alive_for = given.unwrap_or(SCREEN_READY);
    match entry.ready_prompt_prefix.as_deref().or(preset.prompt_prefix) {
        Some(prefix) => Ready::Prompt { prefix: prefix.to_owned(), alive_for },
        None => Ready::AliveFor(alive_for),
    }
}

/// Where programs are looked for when the environment has no `PATH`.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

fn hint(command: &str) -> String {
    if command.contains(char::is_whitespace) {
        "put the program alone into \"command\", and the rest into \"args\"".to_owned()
    } else if command.starts_with(['/', '~']) {
        format!(
            "put an executable file there (chmod +x {command}), or correct \"command\" in settings/config.json"
        )
    } else if command.contains('/') {
        "name the absolute path of an executable file".to_owned()
    } else {
        format!(
            "install {command}, name its absolute path as \"command\" in the settings, or give the daemon a PATH with it"
        )
    }
}

/// The absolute path of a program: as it is when absolute, below `home` after `~/`, else the first
/// executable file of that name in a directory of `path`. Relative directories of `path` are passed over:
/// what they hold depends on where one stands.
///
/// # Errors
/// As the system would answer to `execve`: `ENOENT` when there is none, `EACCES` when there are only ones
/// that may not be executed.
pub fn find(command: &str, path: &str, home: Option<&Path>) -> Result<PathBuf, ExecError> {
    let fail = |errno: &str| ExecError {
        op: "execve".to_owned(),
        errno: errno.to_owned(),
        path: Some(command.to_owned()),
    };
    if let Some(rest) = command.strip_prefix("~/") {
        let program = home.filter(|home| home.is_absolute()).ok_or_else(|| fail("ENOENT"))?.join(rest);
        return executable(&program).map(|()| program).map_err(fail);
    }
    if command.contains('/') {
        let program = PathBuf::from(command);
        // A relative path would be one in the agent's directory, where anybody's repository lies.
        let fine = if program.is_absolute() { executable(&program) } else { Err("ENOENT") };
        return fine.map(|()| program).map_err(fail);
    }
    let mut worst = "ENOENT";
    if !command.is_empty() {
        for dir in path.split(':').filter(|dir| dir.starts_with('/')) {
            let program = Path::new(dir).join(command);
            match executable(&program) {
                Ok(()) => return Ok(program),
                Err("EACCES") => worst = "EACCES",
                Err(_) => {}
            }
        }
    }
    Err(fail(worst))
}

/// Whether a file can be executed, or why not.
fn executable(path: &Path) -> Result<(), &'static str> {
    let meta = std::fs::metadata(path).map_err(|error| errno(&error))?;
    if !meta.is_file() {
        return Err("EACCES");
    }
    access(path, Access::EXEC_OK).map_err(|error| errno(&error.into()))
}

fn errno(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "ENOENT",
        io::ErrorKind::NotADirectory => "ENOTDIR",
        io::ErrorKind::PermissionDenied => "EACCES",
        io::ErrorKind::InvalidFilename => "ENAMETOOLONG",
        _ => "EIO",
    }
}

impl Launch {
    /// Looks whether the program and the directory are there now, without a start.
    ///
    /// # Errors
    /// What a start would fail with.
    pub fn look(&self) -> Result<(), ExecError> {
        let fail = |op: &str, errno: &str, path: &Path| ExecError {
            op: op.to_owned(),
            errno: errno.to_owned(),
            path: Some(path.display().to_string()),
        };
        match std::fs::metadata(&self.cwd) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(fail("chdir", "ENOTDIR", &self.cwd)),
            Err(error) => return Err(fail("chdir", errno(&error), &self.cwd)),
        }
        self.look_at_program()
    }

    /// Looks whether its program can be executed.
    ///
    /// # Errors
    /// What the launch would fail with.
    pub fn look_at_program(&self) -> Result<(), ExecError> {
        let program = Path::new(self.argv.first().map_or("", String::as_str));
        executable(program).map_err(|errno| ExecError {
            op: "execve".to_owned(),
            errno: errno.to_owned(),
            path: Some(program.display().to_string()),
        })
    }

    /// What a launch made today would have otherwise: `argv`, `env`, `cwd`. What differs from start to
    /// start, such as the instance, the conversation and the first text, does not count.
    #[must_use]
    pub fn stale(&self, today: &Self) -> Vec<&'static str> {
        let lasting = |env: &Env| -> Env {
            env.iter()
                .filter(|(key, _)| key.as_str() != "GT_INSTANCE")
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        [
            ("argv", self.program != today.program),
            ("env", lasting(&self.env) != lasting(&today.env)),
            ("cwd", self.cwd != today.cwd),
        ]
        .into_iter()
        .filter_map(|(part, differs)| differs.then_some(part))
        .collect()
    }
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
