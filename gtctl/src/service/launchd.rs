//! The agent of launchd on macOS: its label, its file, and the calls of `launchctl`.

use std::path::{Path, PathBuf};

use super::escape::{mark, xml};
use super::files::{File, is_ours};
use super::run::{CHANGE, QUESTION, done, run};
use super::state::State;
use crate::failure::Failure;

/// The property list, as it lies in the repository.
const PLIST: &str = include_str!("../../../launchd/gtd.plist");

/// The agent of one town.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    root: PathBuf,
    /// Its name for launchd.
    pub label: String,
    file: PathBuf,
    /// `gui/UID`: the user's session.
    domain: String,
}

impl Agent {
    /// That of a town.
    #[must_use]
    pub fn of(root: &Path, home: &Path, uid: u32) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let name: String =
            root.file_name().unwrap_or_default().to_string_lossy().chars().map(plain).take(32).collect();
        let label = format!("gtd.{name}.{}", mark(root.as_os_str().as_bytes()));
        let file = home.join("Library/LaunchAgents").join(format!("{label}.plist"));
        Self { root: root.to_owned(), label, file, domain: format!("gui/{uid}") }
    }

    /// Whether it is installed.
    #[must_use]
    pub fn installed(&self) -> bool {
        is_ours(&self.file)
    }

    /// The file as it should be.
    ///
    /// # Errors
    /// When a path is no text.
    pub fn files(&self, gtd: &Path, path: &str) -> Result<Vec<File>, Failure> {
        let text = |path: &Path| {
            path.to_str().filter(|text| !text.contains(char::is_control)).map(xml).ok_or_else(|| {
                Failure::failed(format!(
                    "{path:?} cannot be written into a property list: it is no plain text"
                ))
            })
        };
        let values = [
            ("@LABEL@", xml(&self.label)),
            ("@GTD@", text(gtd)?),
            ("@TOWN@", text(&self.root)?),
            ("@PATH@", xml(path)),
        ];
        Ok(vec![File { path: self.file.clone(), text: fill(PLIST, &values), why: "the agent of this town" }])
    }

    /// The file that is to go.
    #[must_use]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        if self.installed() { vec![self.file.clone()] } else { Vec::new() }
    }

    fn service(&self) -> String {
        format!("{}/{}", self.domain, self.label)
    }

    fn words(&self, what: &[&str]) -> Vec<String> {
        std::iter::once("launchctl").chain(what.iter().copied()).map(str::to_owned).collect()
    }

    /// Lets it be started with the session.
    ///
    /// # Errors
    /// When launchd refuses.
    pub async fn enable(&self) -> Result<(), Failure> {
        done(&self.words(&["enable", &self.service()]), CHANGE).await.map(drop)
    }

    /// Starts it; where it is loaded already, it is only told to run.
    ///
    /// # Errors
    /// When launchd refuses.
    pub async fn start(&self) -> Result<(), Failure> {
        let words = if self.state().await.is_ok() {
            self.words(&["kickstart", &self.service()])
        } else {
            self.words(&["bootstrap", &self.domain, &self.file.to_string_lossy()])
        };
        done(&words, CHANGE).await.map(drop)
    }

    /// Ends it; that it is not loaded is fine.
    ///
    /// # Errors
    /// When launchctl cannot be run.
    pub async fn stop(&self) -> Result<(), Failure> {
        run(&self.words(&["bootout", &self.service()]), CHANGE).await.map(drop)
    }

    /// How it is.
    ///
    /// # Errors
    /// When it is not loaded.
    pub async fn state(&self) -> Result<State, Failure> {
        let said = done(&self.words(&["print", &self.service()]), QUESTION).await?;
        Ok(parse(&said.out))
    }
}

/// Puts values in the place of their names, each once and all at once: a value is never searched for names.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, name, value)) = values
        .iter()
        .filter_map(|(name, value)| Some((rest.find(name)?, name, value)))
        .min_by_key(|found| found.0)
    {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        out.push_str(value);
        rest = after.strip_prefix(name).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Reads what `launchctl print` says of a service, which is made for people: lines of `name = value`.
fn parse(text: &str) -> State {
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.trim().split_once(" = "))
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v)
    };
    let running = value("state") == Some("running");
    State {
        active: if running { "active" } else { "inactive" }.to_owned(),
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        status: value("last exit code").and_then(|code| code.parse().ok()).unwrap_or_default(),
        ..State::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use serde::Deserialize;

    /// Every key that launchd is given; an unknown or missing one fails.
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    struct Plist {
        label: String,
        program_arguments: Vec<String>,
        environment_variables: BTreeMap<String, String>,
        run_at_load: bool,
        keep_alive: KeepAlive,
        throttle_interval: u32,
        exit_time_out: u32,
        abandon_process_group: bool,
        process_type: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    struct KeepAlive {
        successful_exit: bool,
    }

    #[test]
    fn the_property_list_says_what_it_should_whatever_the_paths_are() {
        let root = "/Users/me/R&D <town> @PATH@";
        let agent = Agent::of(Path::new(root), Path::new("/Users/me"), 501);
        let files = agent.files(Path::new("/opt/g & t/gtd"), "/opt/homebrew/bin:/a & b").unwrap();
        let [file] = &files[..] else { panic!("{files:?}") };
        let read: Plist = plist::from_bytes(file.text.as_bytes()).unwrap();
        assert_eq!(read.label, agent.label);
        assert_eq!(read.program_arguments, ["/opt/g & t/gtd", "--town", root]);
        assert_eq!(
            read.environment_variables,
            [("PATH".to_owned(), "/opt/homebrew/bin:/a & b".to_owned())].into()
        );
        assert!(read.run_at_load && !read.keep_alive.successful_exit && read.abandon_process_group);
        assert!(read.throttle_interval >= 10 && read.exit_time_out >= 20);
        assert_eq!(read.process_type, "Interactive");
        assert!(
            file.path.starts_with("/Users/me/Library/LaunchAgents")
                && file.path.extension().unwrap() == "plist"
        );
    }

    #[test]
    fn towns_of_one_name_have_labels_of_their_own() {
        let label = |root: &str| Agent::of(Path::new(root), Path::new("/h"), 1).label;
        assert_ne!(label("/a/my town"), label("/b/my town"));
        assert_ne!(label("/a/my town"), label("/a/my_town"));
        assert!(label("/a/my town").starts_with("gtd.my_town."));
        assert_eq!(label("/a"), label("/a"));
    }

    #[test]
    fn what_launchctl_prints_is_read() {
        let text = "gui/501/gtd.t = {\n\tactive count = 1\n\tpath = /x.plist\n\tstate = running\n\n\tpid = 4711\n\tlast exit code = 78\n}";
        let state = parse(text);
        assert_eq!((state.active.as_str(), state.pid, state.status), ("active", Some(4711), 78));
        assert_eq!(parse("nothing").pid, None);
    }
}
