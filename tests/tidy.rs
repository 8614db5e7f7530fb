//! The rules of the house as tests: who may import whom, what the engine may never touch, how large a thing may grow.
//!
//! Every rule is a pure function from sources to findings, and beside it stands a planted violation that it must find.
//! It must never judge what comments and string literals say, nor what stands under `#[cfg(test)]`, except where a rule says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "tidy/bans.rs"]
mod bans;
#[path = "tidy/faults.rs"]
mod faults;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use source::Source;

/// One violation: where, of which rule, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub rule: &'static str,
    pub what: String,
}

impl Finding {
    pub fn new(path: &str, line: usize, rule: &'static str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.what)
    }
}

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests").into()
}

/// Every text file of the project as (path, text), sorted; what is built or belongs to git aside.
pub fn project_files() -> Vec<(String, String)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && name != ".git" {
                    walk(root, &path, found);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text));
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort();
    found
}

/// The Rust files of `src/` (and with `tests` those of `tests/`).
fn sources(tests: bool) -> Vec<Source> {
    let wanted = |path: &str| {
        path.ends_with(".rs") && (path.starts_with("src/") || tests && path.starts_with("tests/"))
    };
    let found = source::read(project_files().into_iter().filter(|(path, _)| wanted(path)).collect());
    assert!(found.len() > 20, "only {} files found: the rules would hold for nothing", found.len());
    found
}

#[track_caller]
fn assert_none(findings: &[Finding]) {
    let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(list.is_empty(), "{} violations:\n{}", list.len(), list.join("\n"));
}

/// For the planted violations: what a rule says of these files.
fn found(rule: impl Fn(&[Source]) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    rule(&source::read(files)).iter().map(Finding::to_string).collect()
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    assert_none(&rooms::directions(&sources(false)));
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    assert_none(&bans::purity(&sources(false)));
}

#[test]
fn only_the_clock_says_now() {
    assert_none(&bans::clock(&sources(false)));
}

#[test]
fn there_are_no_globals() {
    assert_none(&bans::globals(&sources(false)));
}

#[test]
fn files_and_functions_stay_small() {
    assert_none(&shape::sizes(&sources(false)));
}

#[test]
fn every_file_is_a_module_of_the_crate() {
    assert_none(&shape::dead_files(&sources(false)));
}

#[test]
fn every_module_says_what_it_must_never_do() {
    assert_none(&shape::headers(&sources(false)));
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_for_later() {
    assert_none(&shape::leftovers(&sources(true)));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    assert_none(&shape::machine_paths(&project_files()));
}

/// `UPDATE_FAULTS=1 cargo test --test tidy faults` writes the list anew.
#[test]
fn the_list_of_faults_is_true() {
    let sources = sources(true);
    let path = root().join(faults::LIST);
    let list = fs::read_to_string(&path).unwrap();
    if std::env::var_os("UPDATE_FAULTS").is_some() {
        fs::write(&path, faults::rewritten(&list, &sources)).unwrap();
    } else {
        assert_none(&faults::check(&list, &sources));
    }
}
