//! From the text of the file to a configuration, or to the first error with its place.
//!
//! Owns strictness: what is not a key is refused. Must never touch the disk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gtd_proto::{ErrorKind, RpcError};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::keys::{NOTIFY_KEYS, Notify, Section};
use super::value::{ANY, Problem, Setting, type_of};

/// A configuration file that cannot be used, with the first place that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {}{message}", file.display(), key.as_deref().map(|key| format!("{key}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The key it is about, dotted; none when the file as a whole cannot be read.
    pub key: Option<String>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    /// The line, as far as it is of a length to be shown.
    pub excerpt: Option<String>,
}

impl ConfigError {
    /// The error as it crosses the socket: `config_invalid` with `data{file, key?, line, column, excerpt?}`.
    #[must_use]
    pub fn to_rpc(&self) -> RpcError {
        let mut error = RpcError::new(ErrorKind::ConfigInvalid, self.to_string())
            .with("file", self.file.to_string_lossy())
            .with("line", self.line)
            .with("column", self.column);
        if let Some(key) = &self.key {
            error = error.with("key", key);
        }
        if let Some(excerpt) = &self.excerpt {
            error = error.with("excerpt", excerpt);
        }
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }

    /// A file of which it is not known what is in it.
    #[must_use]
    pub fn unread(file: &Path, why: &str) -> Self {
        Self::whole(file, format!("cannot be read: {why}"))
    }

    /// A file that is no text, with the place of the first byte that is none.
    pub(super) fn not_utf8(file: &Path, error: &std::string::FromUtf8Error) -> Self {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let text = String::from_utf8_lossy(good);
        let (line, column) = position(&text, text.len());
        let message = "there is a byte that is no UTF-8".to_owned();
        Self { line, column, excerpt: excerpt(&text, line), ..Self::whole(file, message) }
    }

    /// An error about the file as a whole.
    pub(super) fn whole(file: &Path, message: String) -> Self {
        Self { file: file.to_owned(), key: None, line: 1, column: 1, message, hint: None, excerpt: None }
    }
}

/// The word that was probably meant: the nearest one within a third of its length, at least one and at most
/// three changes away.
pub(super) fn nearest<'a>(given: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (given.chars().count() / 3).clamp(1, 3);
    words
        .into_iter()
        .map(|word| (distance(given, word), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Changes (a letter put in, left out or replaced) between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for ((j, y), above) in b.iter().enumerate().zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(i + 1) + 1;
            let diagonal = row.get(j).copied().unwrap_or(j) + usize::from(x != *y);
            next.push(left.min(above + 1).min(diagonal));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Line and column, from 1, of a byte of the text.
fn position(text: &str, byte: usize) -> (u32, u32) {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// The text of a line, from 1; none when there is nothing in it, or too much.
fn excerpt(text: &str, line: u32) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    let found = text.lines().nth(index)?.trim_end();
    (!found.is_empty() && found.len() <= EXCERPT_MAX).then(|| found.to_owned())
}

/// Longest line that is shown with an error, in bytes.
const EXCERPT_MAX: usize = 400;

/// Collects what is wrong, so that the first in the file can be told.
struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    errors: Vec<(usize, ConfigError)>,
    spans: BTreeMap<String, Range<usize>>,
}

impl Reader<'_> {
    fn fail(&mut self, key: &str, span: Range<usize>, problem: Problem) {
        let span = problem.span.unwrap_or(span);
        let (line, column) = position(self.text, span.start);
        let key = match problem.below {
            Some(below) => format!("{key}.{below}"),
            None => key.to_owned(),
        };
        let error = ConfigError {
            file: self.file.to_owned(),
            key: Some(key),
            line,
            column,
            message: problem.message,
            hint: problem.hint,
            excerpt: excerpt(self.text, line),
        };
        self.errors.push((span.start, error));
    }

    fn section(&mut self, config: &mut Config, name: &str, span: Range<usize>, value: &DeValue<'_>) {
        let Some(table) = value.as_table() else {
            let kind = type_of(value);
            return self.fail(name, span, Problem::new(format!("expected a table, found {kind}")));
        };
        for (key, item) in table.iter() {
            let dotted = format!("{name}.{}", key.get_ref());
            let read = config
                .sections_mut()
                .into_iter()
                .find(|section| section.name() == name)
                .and_then(|section| section.set(key.get_ref(), item.get_ref()));
            match read {
                Some(Ok(())) => {
                    self.spans.insert(dotted, item.span());
                }
                Some(Err(problem)) => self.fail(&dotted, item.span(), problem),
                None => {
                    let problem = unknown_key(&config.sections(), name, key.get_ref());
                    self.fail(&dotted, key.span(), problem);
                }
            }
        }
    }

    fn notify(&mut self, config: &mut Config, span: Range<usize>, value: &DeValue<'_>) {
        let Some(list) = value.as_array() else {
            let problem = Problem::new(format!("expected [[notify]] tables, found {}", type_of(value)));
            return self.fail("notify", span, problem);
        };
        self.spans.insert("notify".to_owned(), span);
        for item in list.iter() {
            match read_notify(item) {
                Ok(notify) => config.notify.push(notify),
                Err(problem) => self.fail("notify", item.span(), problem),
            }
        }
    }

    /// Keys that are right each by itself, and wrong together.
    fn together(&mut self, config: &Config) {
        for (small, large, holds) in config.pairs() {
            if !holds {
                let given = |key: &str| self.spans.get(key).cloned().map(|span| (key.to_owned(), span));
                // At least one of the two is in the file: the defaults agree with each other.
                if let Some((key, span)) = given(large).or_else(|| given(small)) {
                    self.fail(&key, span, Problem::new(format!("{large} is less than {small}")));
                }
            }
        }
    }
}

fn read_notify(item: &Spanned<DeValue<'_>>) -> Result<Notify, Problem> {
    let table = item
        .get_ref()
        .as_table()
        .ok_or_else(|| Problem::new(format!("expected a table, found {}", type_of(item.get_ref()))))?;
    let mut notify = Notify { on: Vec::new(), exec: Vec::new() };
    for (key, value) in table.iter() {
        let name = key.get_ref().as_ref();
        let slot = match name {
            "on" => &mut notify.on,
            "exec" => &mut notify.exec,
            _ => {
                let problem = Problem::new("is no key of [[notify]]").below(name).at(key.span());
                return Err(match nearest(name, NOTIFY_KEYS.map(|key| key.name)) {
                    Some(known) => problem.hint(format!("did you mean \"{known}\"?")),
                    None => problem.hint("its keys are on and exec"),
                });
            }
        };
        *slot = Vec::<String>::read(value.get_ref(), &ANY)
            .map_err(|problem| problem.below(name).at(value.span()))?;
        if slot.is_empty() {
            return Err(Problem::new("is an empty list").below(name).at(value.span()));
        }
    }
    for (name, missing) in [("on", notify.on.is_empty()), ("exec", notify.exec.is_empty())] {
        if missing {
            return Err(Problem::new("is missing").below(name));
        }
    }
    Ok(notify)
}

fn unknown_key(sections: &[&dyn Section], name: &str, key: &str) -> Problem {
    let problem = Problem::new(format!("is no key of [{name}]"));
    let keys = |section: &&dyn Section| section.keys().iter().map(|key| key.name).collect::<Vec<_>>();
    let here = sections.iter().find(|section| section.name() == name).map(keys).unwrap_or_default();
    if let Some(known) = nearest(key, here.iter().copied()) {
        return problem.hint(format!("did you mean \"{known}\"?"));
    }
    match sections.iter().find(|section| keys(section).contains(&key)) {
        Some(other) => problem.hint(format!("\"{key}\" is a key of [{}]", other.name())),
        None => problem.hint(format!("its keys are {}", here.join(", "))),
    }
}

fn unknown_section(sections: &[&dyn Section], key: &str) -> Problem {
    let names = sections.iter().map(|section| section.name()).chain(["notify"]);
    let problem = Problem::new("is no table of this file");
    if let Some(known) = nearest(key, names) {
        return problem.hint(format!("did you mean [{known}]?"));
    }
    match sections.iter().find(|section| section.keys().iter().any(|known| known.name == key)) {
        Some(section) => problem.hint(format!("\"{key}\" is a key of [{}]", section.name())),
        None => problem.hint("gtctl config show lists all keys"),
    }
}

/// Reads the text of a file.
pub(super) fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        // The parser's own sentences may have several lines; one is enough beside a place.
        let message = error.message().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        ConfigError { line, column, excerpt: excerpt(text, line), ..ConfigError::whole(file, message) }
    })?;
    let mut config = Config::default();
    let mut reader = Reader { file, text, errors: Vec::new(), spans: BTreeMap::new() };
    for (key, value) in table.get_ref().iter() {
        let name = key.get_ref().as_ref();
        if name == "notify" {
            reader.notify(&mut config, value.span(), value.get_ref());
        } else if config.sections().iter().any(|section| section.name() == name) {
            reader.section(&mut config, name, key.span(), value.get_ref());
        } else {
            let problem = unknown_section(&config.sections(), name);
            reader.fail(name, key.span(), problem);
        }
    }
    if reader.errors.is_empty() {
        reader.together(&config);
    }
    // In the order of the file, whatever the order of the parser's table.
    match reader.errors.into_iter().min_by_key(|(start, _)| *start) {
        Some((_, error)) => Err(error),
        None => {
            config.set = reader.spans.into_keys().collect();
            Ok(config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(
            nearest("heartbeat_intervall", ["heartbeat_interval", "log_level"]),
            Some("heartbeat_interval")
        );
        assert_eq!(nearest("bas", ["base", "max"]), Some("base"));
        assert_eq!(nearest("something", ["base", "max"]), None);
    }

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("a\nüb", 0), (1, 1));
        assert_eq!(position("a\nüb", 4), (2, 2));
        assert_eq!(position("a", 99), (1, 2));
    }
}
