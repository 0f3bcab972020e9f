//! The house itself: who imports whom, and how large a file is.
//!
//! The rule stands in the documentation of `src/lib.rs`, as a table; these tests read
//! it there and hold the `use` lines of the source against it.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::source::{Source, circle, import_rule};

/// Rooms, each with the rooms that it imports.
fn rooms(files: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.room() != "lib") {
        let imports = rooms.entry(file.room().to_owned()).or_default();
        let paths = file.imports().into_iter();
        let others = paths.filter_map(|path| path.into_iter().next());
        imports.extend(others.filter(|other| other != file.room()));
    }
    rooms
}

#[test]
fn rooms_import_what_the_map_allows_and_nothing_else() {
    let (rule, rooms) = (import_rule(), rooms(&Source::all()));
    for (room, imports) in &rooms {
        let allowed = rule.get(room).unwrap_or_else(|| {
            panic!("src/lib.rs: the table of imports has no row for `{room}`");
        });
        let forbidden: Vec<_> = imports.difference(allowed).collect();
        assert!(forbidden.is_empty(), "`{room}` imports {forbidden:?}");
        let unused: Vec<_> = allowed.difference(imports).collect();
        assert!(
            unused.is_empty(),
            "`{room}` does not import {unused:?}: the table is out of date"
        );
    }
    let gone: Vec<_> = rule
        .keys()
        .filter(|room| !rooms.contains_key(*room))
        .collect();
    assert!(gone.is_empty(), "the table has rows for no room: {gone:?}");
}

#[test]
fn rooms_do_not_import_each_other_in_a_circle() {
    let graph = rooms(&Source::all());
    assert_eq!(circle(&graph), None);
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let files = Source::all();
    let modules: BTreeSet<String> = files.iter().map(Source::module).collect();
    let file_of = |path: &[String]| {
        let prefixes = (1..=path.len()).rev().map(|n| path[..n].join("::"));
        prefixes.into_iter().find(|prefix| modules.contains(prefix))
    };
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.room() != "lib") {
        let imports = file.imports();
        let others = imports.iter().filter_map(|path| file_of(path));
        let others = others.filter(|other| *other != file.module());
        graph.entry(file.module()).or_default().extend(others);
    }
    assert_eq!(circle(&graph), None);
}

#[test]
fn files_are_small_enough_to_read_at_once() {
    let files = Source::all();
    for file in &files {
        let lines = file.text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines", file.module());
    }
    let mut sizes: Vec<_> = files
        .iter()
        .map(|file| file.code().lines().count())
        .collect();
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    assert!(median <= 150, "the median file has {median} lines");
}
