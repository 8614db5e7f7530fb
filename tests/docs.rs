//! What the README and `docs/` say, held to the program and the tree: examples parse, files and commands exist, figures are
//! right, bodies are those of the snapshots. `UPDATE_DOCS=1 cargo test --test docs` writes the bodies anew.
//!
//! It must never be satisfied by a README that says less: each check names what it must find.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use spheron_watch::{
    config::{self, Env, ReceiverKind, Settings},
    model::RuleKind,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    text.split(fence.as_str()).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

fn parse(text: &str) -> Settings {
    let env = Env { root: true, ..Env::default() };
    config::parse(Path::new("README.md"), text, &env).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

/// The cells of the table that begins with this header, without its first two lines.
fn table(text: &str, header: &str) -> Vec<Vec<String>> {
    let rest = text.split_once(header).unwrap_or_else(|| panic!("no table {header}")).1;
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The first notice that a script of a kind tells, as the subject of a mail has it.
fn first_subject(golden: &str) -> String {
    let (_, first) = golden.split_once("\n┏━ ").unwrap();
    let mut lines = first.lines();
    let severity = lines.next().unwrap().split(' ').next().unwrap();
    format!("[{severity}] {}", lines.next().unwrap().trim_start_matches("┃ "))
}

#[test]
fn the_readme_shows_an_alert_of_every_kind_as_it_is_told() {
    let mut scripts: Vec<_> =
        fs::read_dir(root().join("tests/scenarios")).unwrap().map(|e| e.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "golden"));
    scripts.sort();
    let subjects: Vec<String> =
        scripts.iter().map(|path| first_subject(&fs::read_to_string(path).unwrap())).collect();
    let text = readme();
    let shown = blocks(&text, "text").into_iter().find(|block| block.starts_with("[CRITICAL]")).unwrap();
    assert_eq!(shown.lines().collect::<Vec<_>>(), subjects);
    assert_eq!(subjects.len(), 25, "one of each kind");
}

#[test]
fn every_example_of_a_configuration_parses_and_they_hold_together() {
    let text = readme();
    let examples = blocks(&text, "toml");
    assert!(examples.len() >= 2, "receivers and rules are shown");
    for example in &examples {
        parse(example);
    }
    let all = parse(&examples.join("\n"));
    assert!(all.smtp.is_some() && all.receivers.len() == 2, "mail and webhook are shown");
    let low = all.rules.iter().find(|rule| &*rule.name == "low-balance").unwrap();
    assert!(
        matches!(&low.kind, RuleKind::Balance { below, .. } if below.to_string().contains("50")),
        "a rule of a default's name replaces it: {low:?}"
    );
}

#[test]
fn the_two_commands_to_try_it_are_there_first() {
    let text = readme();
    let shells = blocks(&text, "sh");
    assert_eq!(shells[..2], ["cargo run --release -- demo", "cargo test"]);
}

#[test]
fn every_command_and_option_that_is_named_exists() {
    let text = readme();
    let named: BTreeSet<&str> = blocks(&text, "sh")
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| line.strip_prefix("spheron-watch "))
        .map(|rest| rest.split(' ').next().unwrap())
        .collect();
    assert!(named.contains("run") && named.contains("check-config"), "{named:?}");
    for command in named.into_iter().chain(["demo"]) {
        let help =
            Command::new(env!("CARGO_BIN_EXE_spheron-watch")).args([command, "--help"]).output().unwrap();
        assert!(help.status.success(), "{command}");
    }
}

#[test]
fn every_file_that_is_named_exists() {
    let text = readme();
    let separators = |c: char| !(c.is_ascii_alphanumeric() || "./_-".contains(c));
    let folders = ["systemd/", "config/", "tests/", "src/", ".ci/"];
    let mut named: BTreeSet<&str> = text
        .split(separators)
        .filter(|word| folders.iter().any(|folder| word.starts_with(folder)))
        .map(|word| word.trim_end_matches('.'))
        .collect();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    named.extend(links.filter(|link| !link.starts_with("http") && !link.starts_with('#')));
    for wanted in ["systemd/spheron-watch.service", "ARCHITECTURE.md", "tests/faults.md", "LICENSE-MIT"] {
        assert!(named.contains(wanted), "{wanted} is not named: {named:?}");
    }
    for name in named {
        assert!(root().join(name).exists(), "{name} is named and does not exist");
    }
}

#[test]
fn the_table_of_rules_is_the_table_of_default_rules() {
    let text = readme();
    let rows = table(&text, "| Rule | Tells when | By default |");
    let shown: Vec<(String, String)> = rows
        .iter()
        .map(|row| {
            let severity = row[2].rsplit(", ").next().unwrap().to_owned();
            (row[0].trim_matches('`').to_owned(), severity)
        })
        .collect();
    let rules = parse("").rules;
    let there: Vec<(String, String)> =
        rules.iter().map(|rule| (rule.kind.as_str().to_owned(), rule.severity.to_string())).collect();
    assert_eq!(shown, there);
}

#[test]
fn the_address_and_the_version_of_rust_are_those_of_the_program() {
    let text = readme();
    let listen = parse("").serve.listen.unwrap().to_string();
    assert!(text.contains(&format!("targets: [\"{listen}\"]")), "{listen}");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap();
    assert!(text.contains(&format!("Rust {} ", rust.trim_end_matches('"'))), "{rust}");
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let rows = table(&readme(), "| Exit code | Means |");
    let codes: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(codes, ["0", "1", "2", "78"], "tests/daemon/refuse.rs and commands.rs show what each means");
    let unit = fs::read_to_string(root().join("systemd/spheron-watch.service")).unwrap();
    assert!(unit.contains("RestartPreventExitStatus=78"));
}

#[test]
fn the_metrics_that_are_named_are_served() {
    let text = readme();
    let read = |file: &str| fs::read_to_string(root().join("src/serve").join(file)).unwrap();
    let source = read("metrics.rs") + &read("metrics/money.rs") + &read("self_metrics.rs");
    let named: BTreeSet<&str> = text
        .split('`')
        .filter(|word| {
            word.starts_with("spheron_") && !word.contains(|c: char| !c.is_ascii_lowercase() && c != '_')
        })
        .collect();
    assert!(named.len() >= 4, "{named:?}");
    for name in named {
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}

// ---- docs/receivers.md --------------------------------------------------------------------------------------------

const RECEIVERS: &str = "docs/receivers.md";

fn receivers() -> String {
    fs::read_to_string(root().join(RECEIVERS)).unwrap()
}

/// What a snapshot test wrote: of a room of `notify`, of a command, or of a test program.
fn snapshot(room: &str, name: &str) -> String {
    let file = match room.strip_prefix("cli/") {
        Some(command) => {
            format!("src/cli/{command}/snapshots/spheron_watch__cli__{command}__tests__{name}.snap")
        }
        None if root().join(format!("tests/{room}.rs")).exists() => {
            format!("tests/snapshots/{room}__{name}.snap")
        }
        None => format!("src/notify/{room}/snapshots/spheron_watch__notify__{room}__tests__{name}.snap"),
    };
    let text = fs::read_to_string(root().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.splitn(3, "---\n").nth(2).unwrap().trim_end().to_owned()
}

/// The page with every `<!-- body ROOM NAME -->` filled from its snapshot, and the names.
fn filled(page: &str) -> (String, BTreeSet<String>) {
    let mut parts = page.split("<!-- body ");
    let (mut out, mut names) = (parts.next().unwrap().to_owned(), BTreeSet::new());
    for part in parts {
        let (head, rest) = part.split_once(" -->\n").unwrap();
        let after = rest.split_once("<!-- /body -->").unwrap_or_else(|| panic!("{head} is not closed")).1;
        let (room, name) = head.split_once(' ').unwrap();
        let body = snapshot(room, name);
        let language = if room == "formats" { "json" } else { "text" };
        assert!(!body.contains("```"), "{name} would break out of its fence");
        out.push_str(&format!("<!-- body {head} -->\n```{language}\n{body}\n```\n<!-- /body -->{after}"));
        names.insert(name.to_owned());
    }
    (out, names)
}

/// The page, and what it shows of what the program writes.
fn current(file: &str) -> (String, BTreeSet<String>) {
    let page = fs::read_to_string(root().join(file)).unwrap();
    let (filled, names) = filled(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(file), &filled).unwrap();
    } else {
        assert!(page == filled, "{file} is not current: run UPDATE_DOCS=1 cargo test --test docs");
    }
    (page, names)
}

#[test]
fn the_policies_page_shows_what_the_program_says_and_its_configuration_and_commands_are_right() {
    let (page, names) = current("docs/policies.md");
    for shown in ["dry_run", "arm_at_80", "will_be_ended", "ended", "show_at_80"] {
        assert!(names.contains(shown), "{shown} is not shown: {names:?}");
    }
    let settings = parse(blocks(&page, "toml")[0]);
    assert_eq!(settings.policies.len(), 1);
    assert_eq!(settings.safety, spheron_watch::model::Safety::default(), "they are the defaults");
    let commands = ["keep", "keep list", "actions cancel", "actions show", "policy arm", "policy disarm"];
    for command in commands {
        assert!(page.contains(&format!("spheron-watch {command}")) || page.contains(&format!("`{command}")));
        let mut words: Vec<&str> = command.split(' ').collect();
        words.push("--help");
        let help = Command::new(env!("CARGO_BIN_EXE_spheron-watch")).args(&words).output().unwrap();
        assert!(help.status.success(), "{command}");
    }
    for stage in spheron_watch::model::StageName::ALL {
        let said = stage == spheron_watch::model::StageName::Withheld || page.contains(stage.as_str());
        assert!(said, "{stage:?} is not explained");
    }
}

#[test]
fn each_body_of_the_receivers_page_is_what_the_program_makes() {
    let (page, names) = current(RECEIVERS);
    for format in FORMATS {
        assert!(names.contains(&format!("{format}_firing")), "the body of {format} is not shown");
        assert!(page.contains(&format!("\n## `{format}`\n")), "{format} has no section");
    }
}

const FORMATS: [&str; 8] =
    ["standard", "alertmanager", "slack", "discord", "teams", "pagerduty", "ntfy", "telegram"];

#[test]
fn every_configuration_of_the_receivers_page_parses_and_no_format_is_missing() {
    let page = receivers();
    let examples = blocks(&page, "toml");
    let together = parse(&examples.join("\n"));
    assert_eq!(together.receivers.len(), FORMATS.len() + 1, "mail and each format");
    let shown: Vec<&str> = together
        .receivers
        .iter()
        .filter_map(|receiver| match &receiver.kind {
            ReceiverKind::Webhook { format, .. } => Some(format.as_str()),
            ReceiverKind::Email { .. } => None,
        })
        .collect();
    assert_eq!(shown, FORMATS);
    // What the program offers is what is shown.
    let wrong = page_with_format("nonsense");
    let errors = config::parse(Path::new("x"), &wrong, &Env::default()).unwrap_err().to_string();
    assert!(errors.contains(&format!("must be one of {}", FORMATS.join(", "))), "{errors}");
}

fn page_with_format(format: &str) -> String {
    format!("[[receiver]]\nname = \"x\"\nwebhook = {{ url_file = \"/x\", format = \"{format}\" }}\n")
}

#[test]
fn the_receivers_page_says_what_each_format_needs_as_the_configuration_does() {
    let page = receivers();
    for row in table(&page, "| `format` | `secret_file` holds | also needs |") {
        for format in row[0].split(", ").map(|name| name.trim_matches('`')) {
            let with = |more: &str| {
                let text = page_with_format(format).replace(" }", &format!("{more} }}"));
                config::parse(Path::new("x"), &text, &Env { root: true, ..Env::default() }).is_ok()
            };
            let chat = if row[2].contains("chat_id") { ", chat_id = 1" } else { "" };
            let secret = ", secret_file = \"/y\"";
            assert_eq!(with(&format!("{chat}{secret}")), !row[1].contains("not allowed"), "{format}");
            assert_eq!(with(chat), !row[1].contains("needed"), "{format}");
            assert!(!with(", secret_file = \"/y\", chat_id = 1"), "{format}: nothing takes both");
        }
    }
}

// ---- docs/operations.md and what config/ ships ---------------------------------------------------------------------

fn operations() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

/// Every metric of ours that a text names, and the sources that serve them.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '-'));
    let ours = words.filter(|word| word.starts_with("spheron_") && !word.contains(':'));
    let suffixes = ["_bucket", "_sum", "_count"];
    let bare = ours.map(|word| {
        let histogram = suffixes.iter().find_map(|suffix| word.strip_suffix(suffix));
        histogram.filter(|bare| bare.ends_with("_seconds")).unwrap_or(word).to_owned()
    });
    bare.collect()
}

fn is_served(metric: &str) -> bool {
    let read = |file: &str| fs::read_to_string(root().join("src/serve").join(file)).unwrap();
    let source = read("metrics.rs") + &read("metrics/money.rs") + &read("self_metrics.rs");
    source.contains(&format!("\"{metric}\""))
}

#[test]
fn the_operations_page_names_what_there_is() {
    let page = operations();
    assert!(readme().contains("](docs/operations.md)"), "the README leads to it");
    for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let there = match link.strip_prefix('#') {
            Some(anchor) => page
                .lines()
                .filter_map(|line| line.strip_prefix("## "))
                .any(|heading| heading.to_lowercase().replace(' ', "-") == anchor),
            None => link.starts_with("https://") || root().join("docs").join(link).exists(),
        };
        assert!(there, "{link} leads nowhere");
    }
    let metrics = metrics_in(&page);
    assert!(metrics.len() >= 6, "{metrics:?}");
    assert!(metrics.iter().all(|metric| is_served(metric)), "{metrics:?}");
    let schemas = fs::read_dir(root().join("src/store/schema")).unwrap().count();
    assert!(page.contains(&format!("\"$DB.before-{schemas}\"")), "the schema of this version is {schemas}");
    let commands: BTreeSet<&str> =
        page.split("spheron-watch ").skip(1).filter_map(|rest| rest.split(['`', '\n', ' ']).next()).collect();
    let known = ["health", "keep", "policy", "status"];
    assert!(known.iter().all(|command| commands.contains(command)), "{commands:?}");
    for command in known {
        let help =
            Command::new(env!("CARGO_BIN_EXE_spheron-watch")).args([command, "--help"]).output().unwrap();
        assert!(help.status.success(), "{command}");
    }
    for block in blocks(&page, "sh") {
        let checked = Command::new("sh").args(["-n", "-c", block]).output().unwrap();
        assert!(checked.status.success(), "{block}: {checked:?}");
    }
}

#[test]
fn what_is_shipped_for_prometheus_and_grafana_asks_only_for_what_is_served() {
    for (file, least) in [("config/prometheus-rules.yml", 20), ("config/grafana-dashboard.json", 30)] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let metrics: BTreeSet<String> =
            metrics_in(&text).into_iter().filter(|metric| *metric != "spheron_").collect();
        assert!(metrics.len() >= least, "{file}: {metrics:?}");
        for metric in metrics {
            assert!(is_served(&metric), "{file} asks for {metric}");
        }
    }
}

/// What Grafana would not complain of, and nobody could use.
#[test]
fn the_dashboard_has_one_source_of_data_and_each_panel_says_what_it_shows_in_which_unit() {
    let text = fs::read_to_string(root().join("config/grafana-dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&dashboard["uid"], &dashboard["id"]), (&"spheron-watch".into(), &serde_json::Value::Null));
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables.len(), 1);
    for (key, value) in [("name", "datasource"), ("type", "datasource"), ("query", "prometheus")] {
        assert_eq!(variables[0][key], value);
    }
    let source = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
    let (mut ids, mut places, mut panels) = (BTreeSet::new(), BTreeSet::new(), 0);
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the id of another panel");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title} is out of the page");
        for (x, y) in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(places.insert((x, y)), "{title} covers another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        panels += 1;
        assert!(
            panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
            "{title} is not described"
        );
        let units = panel["fieldConfig"]["overrides"].as_array().unwrap();
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string() || !units.is_empty(),
            "{title} has no unit"
        );
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} asks for nothing");
        for target in targets {
            assert_eq!((&panel["datasource"], &target["datasource"]), (&source, &source), "{title}");
        }
    }
    assert!(panels >= 8, "{panels}");
}
