//! The source of the library as text: its modules, and what each imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// One source file without its tests.
pub(crate) struct Source {
    /// The module's path, such as `["cache", "policy"]`.
    path: Vec<String>,
    /// The whole text.
    pub(crate) text: String,
}

impl Source {
    /// Every file of the library that is not a test.
    pub(crate) fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let module = path.strip_prefix(&root).unwrap().with_extension("");
                    let parts = module.iter().map(|part| part.to_str().unwrap().to_owned());
                    let text = fs::read_to_string(&path).unwrap();
                    let path = parts.collect();
                    found.push(Self { path, text });
                }
            }
        }
        found.retain(|file| !file.path.iter().any(|part| part == "tests"));
        assert!(found.len() > 50, "the source is not where it should be");
        found
    }

    /// The first part of the path.
    pub(crate) fn room(&self) -> &str {
        &self.path[0]
    }

    /// The whole path, such as `cache::policy`.
    pub(crate) fn module(&self) -> String {
        self.path.join("::")
    }

    /// The text before the tests, without comments.
    pub(crate) fn code(&self) -> String {
        let end = self.text.find("#[cfg(test)]\nmod tests {");
        let lines = self.text[..end.unwrap_or(self.text.len())].lines();
        let code = lines.filter(|line| !line.trim_start().starts_with("//"));
        code.collect::<Vec<_>>().join("\n")
    }

    /// The paths within the library that the code names in `use` lines and in full,
    /// each from the root: `["cache", "policy", "judge"]`.
    pub(crate) fn imports(&self) -> BTreeSet<Vec<String>> {
        let code = self.code();
        let mut found = BTreeSet::new();
        let mut test_only = false;
        for (n, line) in code.lines().enumerate() {
            let statement = line.trim_start();
            let statement = statement.strip_prefix("pub").map_or(statement, |rest| {
                rest.trim_start_matches(|c| c != ' ').trim_start()
            });
            if let Some(start) = statement.strip_prefix("use ") {
                let rest = code.lines().skip(n + 1);
                let whole: String = std::iter::once(start).chain(rest).collect();
                let tree = whole.split(';').next().unwrap_or_default();
                if !test_only {
                    self.expand(&[], tree, &mut found);
                }
            } else {
                // A path in a visibility, `pub(in crate::cache)`, is no import.
                let visible = |at: usize| line[..at].ends_with("(in ");
                let paths = line.match_indices("crate::");
                for (at, _) in paths.filter(|&(at, _)| !visible(at)) {
                    let path =
                        line[at..].split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
                    self.expand(&[], path.into_iter().next().unwrap_or_default(), &mut found);
                }
            }
            test_only = line.contains("#[cfg(test)]") || line.contains("#[cfg(all(test");
        }
        found
    }

    /// Takes a use tree such as `a::{b, c::d}` apart.
    fn expand(&self, before: &[&str], tree: &str, found: &mut BTreeSet<Vec<String>>) {
        let tree = tree.trim();
        if let Some(open) = tree.find('{') {
            let mut path = before.to_vec();
            path.extend(
                tree[..open]
                    .split("::")
                    .map(str::trim)
                    .filter(|p| !p.is_empty()),
            );
            let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
            let (mut depth, mut start) = (0, 0);
            for (at, c) in inner.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        self.expand(&path, &inner[start..at], found);
                        start = at + 1;
                    }
                    _ => {}
                }
            }
            self.expand(&path, &inner[start..], found);
        } else if !tree.is_empty() {
            let name = tree.split(" as ").next().unwrap_or_default();
            let parts = before
                .iter()
                .copied()
                .chain(name.split("::").map(str::trim));
            found.extend(self.resolve(parts.filter(|part| !part.is_empty()).collect()));
        }
    }

    /// A path from the root of the library; `None` for another crate's.
    fn resolve(&self, mut path: Vec<&str>) -> Option<Vec<String>> {
        let mut from = match *path.first()? {
            "crate" | "alexa_gateway" => Vec::new(),
            "self" | "super" => self.path.clone(),
            // A child module is named without a prefix; so are other crates.
            child if self.has_child(child) => {
                path.insert(0, "self");
                self.path.clone()
            }
            _ => return None,
        };
        let ups = path.iter().filter(|part| **part == "super").count();
        from.truncate(from.len().saturating_sub(ups));
        let rest = path
            .iter()
            .filter(|p| !matches!(**p, "crate" | "alexa_gateway" | "self" | "super"));
        from.extend(rest.map(|part| (*part).to_owned()));
        Some(from)
    }

    fn has_child(&self, name: &str) -> bool {
        let declares = |line: &str| {
            let line = line
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ");
            let line = line.trim_start_matches("pub ");
            line.strip_prefix("mod ")
                .is_some_and(|rest| rest.trim_end_matches(';') == name)
        };
        self.text.lines().any(declares)
    }
}

/// The table of imports in the documentation of the library: rooms, each with the
/// rooms that it may import.
pub(crate) fn import_rule() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../../../src/lib.rs");
    let table = text
        .split_once("//! | room | imports |")
        .expect("the table of imports")
        .1;
    let rows = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("//! |"));
    let names = |cell: &str| -> Vec<String> {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    };
    let mut rule = BTreeMap::new();
    for row in rows {
        let (room, imports) = row.split_once('|').expect("two cells");
        for room in names(room) {
            rule.insert(room, names(imports).into_iter().collect());
        }
    }
    rule
}

/// A circle in a graph, if there is one: the nodes along it.
pub(crate) fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|start| visit(graph, start, &mut Vec::new(), &mut done))
}

fn visit(
    graph: &BTreeMap<String, BTreeSet<String>>,
    node: &str,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(at) = path.iter().position(|seen| seen == node) {
        return Some(path.split_off(at));
    }
    if !done.contains(node) {
        path.push(node.to_owned());
        let next = graph.get(node).into_iter().flatten();
        if let Some(found) = next
            .into_iter()
            .find_map(|next| visit(graph, next, path, done))
        {
            return Some(found);
        }
        path.pop();
        done.insert(node.to_owned());
    }
    None
}
