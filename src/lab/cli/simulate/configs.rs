//! The configurations to compare, with the names of their columns.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::reload::Origins;

/// A configuration and what the output calls it.
pub(super) struct NamedConfig {
    pub(super) name: String,
    pub(super) config: Config,
}

/// Loads each file; without a file, loads the defaults.
///
/// # Errors
/// Every problem of every file.
pub(super) fn load(
    files: &[PathBuf],
    environment: &[(String, String)],
) -> Result<Vec<NamedConfig>, Vec<String>> {
    let origins = |file| Origins {
        file,
        environment: environment.to_vec(),
    };
    let mut named: Vec<_> = names(files)
        .into_iter()
        .zip(files.iter().cloned().map(|file| origins(Some(file))))
        .collect();
    if named.is_empty() {
        named.push(("defaults".to_owned(), origins(None)));
    }
    let (mut configs, mut problems) = (Vec::new(), Vec::new());
    for (name, origins) in named {
        match origins.load() {
            Ok(config) => configs.push(NamedConfig { name, config }),
            Err(more) => problems.extend(more.iter().map(ToString::to_string)),
        }
    }
    if problems.is_empty() {
        Ok(configs)
    } else {
        Err(problems)
    }
}

/// Returns the names of files, and the whole paths of files with the same name.
fn names(files: &[PathBuf]) -> Vec<String> {
    let name = |file: &Path| file.file_name().unwrap_or_default().to_owned();
    let named = files.iter().map(|file| {
        let same = files.iter().filter(|other| name(other) == name(file));
        match same.count() {
            1 => name(file).display().to_string(),
            _ => file.display().to_string(),
        }
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_by_file_or_by_path_if_names_are_equal() {
        let files = ["a/one.toml", "b/one.toml", "b/two.toml"].map(PathBuf::from);
        assert_eq!(names(&files), ["a/one.toml", "b/one.toml", "two.toml"]);
    }
}
