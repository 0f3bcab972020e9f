//! The layers of configuration: the file overrides the defaults, and the environment
//! overrides both.
//!
//! [`Layers`] merges them into one table and remembers where each value was set, so
//! that a problem can name the line or the variable.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// The documented defaults, compiled in.
const DEFAULT: &str = include_str!("../../config/default.toml");

/// The prefix of environment variables that set a key.
const PREFIX: &str = "ALEXA_GATEWAY__";

/// The file and the environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// The file's name, for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// The process's environment. Only names with the prefix are read.
    pub environment: &'a [(String, String)],
}

/// Where a value was set, in the order in which problems are reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In this file, at this line; 0 means the whole file.
    Line(String, usize),
    /// In this environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(file, 0) => f.write_str(file),
            Self::Line(file, line) => write!(f, "{file}:{line}"),
            Self::Variable(name) => write!(f, "environment {name}"),
        }
    }
}

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the value was set, if known.
    pub origin: Option<Origin>,
    /// The key, such as `cache.ttl`; empty for a syntax error.
    pub path: String,
    /// What is wrong, and what is accepted.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// The merged layers, and where each value was set.
#[derive(Debug)]
pub struct Layers {
    table: Table,
    default: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// Merges the layers. A file with syntax errors is left out, and they are reported.
    #[must_use]
    pub fn merge(sources: &Sources<'_>) -> (Self, Vec<Problem>) {
        let default: Table = DEFAULT.parse().unwrap_or_default();
        let mut layers = Self {
            table: default.clone(),
            default,
            origins: BTreeMap::new(),
        };
        let mut problems = Vec::new();
        if let Some((name, text)) = sources.file {
            match read_file(name, text) {
                Ok((table, origins)) => {
                    overlay(&mut layers.table, table);
                    layers.origins = origins;
                }
                Err(errors) => problems = errors,
            }
        }
        let mut variables: Vec<_> = sources.environment.iter().collect();
        variables.sort();
        for (name, value) in variables {
            if let Some(key) = name.strip_prefix(PREFIX) {
                problems.extend(layers.set_variable(name, key, value));
            }
        }
        (layers, problems)
    }

    /// The merged table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Where the value at `path` was set, or else the innermost table around it.
    #[must_use]
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        self.around(path).map(|(_, origin)| origin)
    }

    /// Resets the value at or around `path` that a file or variable has set to its
    /// default, so that the rest can be read. Returns false if nothing was set there.
    pub fn repair(&mut self, path: &str) -> bool {
        let Some((set, _)) = self.around(path) else {
            return false;
        };
        let set = set.split('[').next().unwrap_or_default().to_owned();
        let keys = keys_of(&self.table, &set);
        let below = |other: &str| {
            other
                .strip_prefix(&set)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.origins.retain(|other, _| !below(other));
        let default = keys.iter().try_fold(None, |at: Option<&Value>, key| {
            at.map_or(self.default.get(key), |at| at.get(key)).map(Some)
        });
        let Some((last, parents)) = keys.split_last() else {
            return false;
        };
        let parent = parents.iter().try_fold(&mut self.table, |table, key| {
            table.get_mut(key).and_then(Value::as_table_mut)
        });
        match (parent, default.flatten()) {
            (Some(parent), Some(value)) => drop(parent.insert(last.clone(), value.clone())),
            (Some(parent), None) => drop(parent.remove(last)),
            (None, _) => return false,
        }
        true
    }

    fn around(&self, path: &str) -> Option<(&str, &Origin)> {
        let mut path = path;
        loop {
            if let Some((set, origin)) = self.origins.get_key_value(path) {
                return Some((set, origin));
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    fn set_variable(&mut self, name: &str, key: &str, raw: &str) -> Option<Problem> {
        let path = key.to_ascii_lowercase().replace("__", ".");
        let origin = Origin::Variable(name.to_owned());
        let keys: Vec<&str> = path.split('.').collect();
        if keys.iter().any(|key| key.is_empty()) {
            let message = "not a key; write it like ALEXA_GATEWAY__SECTION__KEY".to_owned();
            return Some(Problem {
                origin: Some(origin),
                path: String::new(),
                message,
            });
        }
        let (last, parents) = keys.split_last()?;
        let mut table = &mut self.table;
        for key in parents {
            let child = table
                .entry(*key)
                .or_insert_with(|| Value::Table(Table::new()));
            if !child.is_table() {
                *child = Value::Table(Table::new());
            }
            table = child.as_table_mut()?;
        }
        let value = match table.get(*last) {
            Some(Value::String(_)) => Value::String(raw.to_owned()),
            _ => value_of(raw),
        };
        table.insert((*last).to_owned(), value);
        self.origins.insert(path, origin);
        None
    }
}

/// A variable's text as a TOML value if it is one, otherwise as a string.
fn value_of(raw: &str) -> Value {
    let document: Result<Table, _> = format!("value = {raw}").parse();
    let value = document.ok().filter(|table| table.len() == 1);
    let value = value.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(raw.to_owned()))
}

/// Splits `path` into keys. A key that the table contains may have dots, as skill ids
/// do; other keys have none.
fn keys_of(table: &Table, path: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let (mut table, mut rest) = (Some(table), path);
    while !rest.is_empty() {
        let begins = |key: &&String| {
            let after = rest.strip_prefix(key.as_str());
            after.is_some_and(|after| after.is_empty() || after.starts_with('.'))
        };
        let known = table.and_then(|table| table.keys().filter(begins).max_by_key(|key| key.len()));
        let key = known.map_or_else(|| rest.split('.').next().unwrap_or(rest), String::as_str);
        table = table.and_then(|table| table.get(key)?.as_table());
        rest = rest[key.len()..].trim_start_matches('.');
        keys.push(key.to_owned());
    }
    keys
}

/// Merges tables key by key; any other value replaces the one before.
fn overlay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

type Origins = BTreeMap<String, Origin>;

fn read_file(name: &str, text: &str) -> Result<(Table, Origins), Vec<Problem>> {
    let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|&b| b == b'\n').count();
    let problem = |error: &toml::de::Error| Problem {
        origin: error
            .span()
            .map(|span| Origin::Line(name.to_owned(), line_at(span.start))),
        path: String::new(),
        message: error.message().to_owned(),
    };
    let (spanned, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(problem).collect());
    }
    let table = text.parse().map_err(|error| vec![problem(&error)])?;
    let mut origins = Origins::new();
    let mut record = |path: String, offset| {
        origins.insert(path, Origin::Line(name.to_owned(), line_at(offset)));
    };
    visit_table("", spanned.get_ref(), &mut record);
    Ok((table, origins))
}

/// Calls `record` with the path and offset of every value below `table`.
fn visit_table(prefix: &str, table: &DeTable<'_>, record: &mut impl FnMut(String, usize)) {
    for (key, value) in table {
        let dot = if prefix.is_empty() { "" } else { "." };
        let path = format!("{prefix}{dot}{}", key.get_ref());
        visit_value(path, key.span().start, value, record);
    }
}

fn visit_value(
    path: String,
    offset: usize,
    value: &Spanned<DeValue<'_>>,
    record: &mut impl FnMut(String, usize),
) {
    match value.get_ref() {
        DeValue::Table(table) => visit_table(&path, table, record),
        DeValue::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                visit_value(format!("{path}[{n}]"), item.span().start, item, record);
            }
        }
        _ => {}
    }
    record(path, offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(text: &str, environment: &[(&str, &str)]) -> (Layers, Vec<Problem>) {
        let environment: Vec<_> = environment
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        Layers::merge(&Sources {
            file: Some(("f.toml", text)),
            environment: &environment,
        })
    }

    #[test]
    fn the_default_file_is_valid() {
        assert!(DEFAULT.parse::<Table>().unwrap().contains_key("server"));
    }

    #[test]
    fn the_environment_overrides_the_file_and_the_file_the_defaults() {
        let (layers, problems) = merge(
            "[cache]\nttl = '7s'\nmax_entries = 5\n",
            &[("ALEXA_GATEWAY__CACHE__TTL", "5s"), ("UNRELATED", "x")],
        );
        assert_eq!(problems, []);
        let cache = &layers.table()["cache"];
        assert_eq!(cache["ttl"].as_str(), Some("5s"));
        assert_eq!(cache["max_entries"].as_integer(), Some(5));
        assert_eq!(cache["no_content_ttl"].as_str(), Some("1s"));
        assert_eq!(
            layers.origin("cache.max_entries").unwrap().to_string(),
            "f.toml:3"
        );
        let variable = layers.origin("cache.ttl").unwrap().to_string();
        assert_eq!(variable, "environment ALEXA_GATEWAY__CACHE__TTL");
    }

    #[test]
    fn variables_can_set_keys_without_a_default() {
        let (layers, _) = merge(
            "",
            &[
                ("ALEXA_GATEWAY__LIMITS__PROFILE__SKILL__REQUESTS", "50"),
                ("ALEXA_GATEWAY__LIMITS__PROFILE__SKILL__PER", "1s"),
                (
                    "ALEXA_GATEWAY__LIMITS__PROFILE__REGION",
                    "{ requests = 9, per = '1s' }",
                ),
            ],
        );
        let profile = &layers.table()["limits"]["profile"];
        assert_eq!(profile["skill"]["requests"].as_integer(), Some(50));
        assert_eq!(profile["skill"]["per"].as_str(), Some("1s"));
        assert_eq!(profile["region"]["requests"].as_integer(), Some(9));
    }

    #[test]
    fn every_syntax_error_has_a_line() {
        let (_, problems) = merge("[cache]\nttl = \n\n[server\n", &[]);
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        for start in ["f.toml:2: ", "f.toml:4: "] {
            assert!(
                lines.iter().any(|line| line.starts_with(start)),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_repair_finds_keys_with_dots() {
        let (mut layers, _) = merge("[limits.profile.skills.'a.b']\nweight = 0\n", &[]);
        assert!(layers.repair("limits.profile.skills.a.b.weight"));
        let left = &layers.table()["limits"]["profile"]["skills"]["a.b"];
        assert_eq!(left.as_table().map(Table::len), Some(0));
        assert!(layers.repair("limits.profile.skills.a.b"));
    }

    #[test]
    fn a_repair_restores_the_default_or_removes_the_key() {
        let (mut layers, _) = merge("[cache]\nttl = 1\nx = 2\n[y]\nz = 3\n", &[]);
        assert!(layers.repair("cache.ttl"));
        assert!(layers.repair("cache.x"));
        assert!(layers.repair("y"));
        assert_eq!(layers.table(), &layers.default);
        assert!(layers.repair("cache.ttl"), "the section's header remains");
        assert!(!layers.repair("cache.ttl"), "nothing remains");
    }
}
