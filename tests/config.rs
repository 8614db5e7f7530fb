//! The configuration from outside: each bad file gives exactly the errors that it states itself, and the annotated example is
//! whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{collections::BTreeSet, fs, path::Path};

use spheron_watch::config::{self, Env};

fn env() -> Env {
    Env {
        vars: [("RUNTIME_DIRECTORY".to_owned(), "/run/spheron-watch".to_owned())].into(),
        home: Some("/home/me".into()),
        system_config: "/nonexistent/config.toml".into(),
        ..Env::default()
    }
}

/// A fixture ends with what is expected of it, one `#= line:column: key: message` for each error.
fn expected(name: &str, text: &str) -> String {
    let lines = text.lines().filter_map(|line| line.strip_prefix("#= "));
    lines.map(|line| format!("{name}:{line}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_bad_file_gives_exactly_the_errors_that_it_states() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 50, "the fixtures are not there");
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let (expected, found) = (
            expected(name, &text),
            config::parse(Path::new(name), &text, &env())
                .map_or_else(|e| e.to_string(), |_| "accepted".to_owned()),
        );
        assert!(!found.contains("hunter2"), "{name} shows a secret: {found}");
        if expected != found {
            wrong.push(found);
        }
    }
    assert!(wrong.is_empty(), "not as stated:\n{}", wrong.join("\n"));
}

const EXAMPLE: &str = include_str!("../config/spheron-watch.toml");

/// `#key = …` and `#[section]` are settings; `# words` are explanations.
fn uncommented() -> String {
    let setting = |line: &str| {
        line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' ')).map(str::to_owned)
    };
    EXAMPLE.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn the_annotated_example_shows_every_key_that_exists() {
    let (settings, asked, found) = config::parse_recording(Path::new("example"), &uncommented(), &env());
    settings.unwrap_or_else(|e| panic!("{e}"));
    let hidden: BTreeSet<_> = asked.difference(&found).collect();
    assert_eq!(hidden, BTreeSet::new(), "known, but not in the example");
}

#[test]
fn the_annotated_example_shows_the_defaults() {
    let example = config::parse(Path::new("example"), EXAMPLE, &env()).unwrap();
    let none = config::parse(Path::new("none"), "", &env()).unwrap();
    assert_eq!(format!("{example:?}"), format!("{none:?}"), "as it ships it changes nothing");

    let shown = config::parse(Path::new("example"), &uncommented(), &env()).unwrap();
    let (shown_collect, default_collect) = (format!("{:?}", shown.collect), format!("{:?}", none.collect));
    assert_eq!(shown_collect, default_collect);
    let mut serve = shown.serve.clone();
    assert_eq!(serve.external_url.take().as_deref(), Some("https://watch.example.org"), "has no default");
    assert_eq!(serve, none.serve);
    assert_eq!(shown.account.base_url, none.account.base_url);
    let known: BTreeSet<_> = none.rules.iter().map(|rule| rule.name.clone()).collect();
    let beside: Vec<_> = shown
        .rules
        .iter()
        .filter(|rule| !known.contains(&rule.name))
        .map(|rule| rule.kind.as_str())
        .collect();
    assert_eq!(beside, ["burn_rate", "budget", "new_deployment", "overpaying"], "kinds without a default");
    for default in &none.rules {
        let shown = shown.rules.iter().find(|rule| rule.name == default.name).unwrap();
        let shown = (
            &shown.name,
            &shown.kind,
            shown.severity,
            shown.for_,
            shown.keep_firing_for,
            shown.repeat_interval,
        );
        let default = (
            &default.name,
            &default.kind,
            default.severity,
            default.for_,
            default.keep_firing_for,
            default.repeat_interval,
        );
        assert_eq!(shown, default);
    }
}
