//! What the configuration needs of the environment, handed in by the edge, and the overrides it may hold.
//!
//! It must never read the environment itself, and never show a variable's value.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use toml::de::DeValue;

use super::{
    error::Origin,
    node::{Node, Table, Value, did_you_mean},
    reader::Sink,
};

/// `notify.severity.critical` is as deep as keys lie.
const DEPTH_MAX: usize = 3;

/// Sections that stand there once for each: no variable can name one of them.
const IN_FILE_ALONE: [&str; 4] = ["receiver", "rule", "activity", "policy"];

const PREFIX: &str = "SPHERON_WATCH_";

/// Variables with our prefix that are no overrides: others read them.
pub const OTHER_VARIABLES: [&str; 2] = ["SPHERON_WATCH_LOG", "SPHERON_WATCH_SMTP_PASSWORD"];

#[derive(Clone, Default)]
pub struct Env {
    pub vars: BTreeMap<String, String>,
    pub home: Option<PathBuf>,
    /// Whether the process runs as root: its state then lies in `/var/lib`.
    pub root: bool,
    /// Where the system's configuration lies; `/etc/spheron-watch/config.toml` but in tests.
    pub system_config: PathBuf,
}

/// The names alone: a value may be a secret.
impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("vars", &self.vars.keys())
            .field("home", &self.home)
            .field("root", &self.root)
            .field("system_config", &self.system_config)
            .finish()
    }
}

impl Env {
    /// A variable that is set to something.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `$name`, else `$HOME/fallback`: the XDG rule, which ignores relative paths.
    pub fn xdg(&self, name: &str, fallback: &str) -> Option<PathBuf> {
        let given = self.var(name).map(PathBuf::from).filter(|path| path.is_absolute());
        given.or_else(|| self.home.as_ref().map(|home| home.join(fallback)))
    }
}

/// `collect.timeout` → `SPHERON_WATCH_COLLECT__TIMEOUT`.
fn variable_name(dotted: &str) -> String {
    format!("{PREFIX}{}", dotted.replace('.', "__").to_uppercase())
}

/// Puts every `SPHERON_WATCH_SECTION__KEY` into the tree, over what the file says. Returns the variables that are none.
pub(super) fn override_with(env: &Env, root: &mut Table, sink: &mut Sink) -> Vec<Arc<str>> {
    let mut strangers = Vec::new();
    for (name, value) in &env.vars {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let name: Arc<str> = name.as_str().into();
        let segments: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let (false, [section, parents @ .., key]) = (segments.len() > DEPTH_MAX, segments.as_slice()) else {
            strangers.push(name);
            continue;
        };
        let origin = Origin::Variable(name);
        if IN_FILE_ALONE.contains(&section.as_str()) {
            sink.push(&origin, section, format!("[[{section}]] is set in the file alone"));
            continue;
        }
        match read_value(value, &origin) {
            Ok(node) => insert(root, std::iter::once(section).chain(parents), key, node),
            Err(message) => sink.push(&origin, &segments.join("."), message),
        }
    }
    strangers
}

/// Refuses variables that look like ours and are not; `asked` holds every key there is.
pub(super) fn refuse_strangers(strangers: &[Arc<str>], sink: &mut Sink) {
    let known = sink.asked.iter().filter(|key| key.contains('.'));
    let known =
        known.filter(|key| !IN_FILE_ALONE.iter().any(|section| key.split('.').next() == Some(section)));
    let names: Vec<String> = known.map(|key| variable_name(key)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(OTHER_VARIABLES).collect();
    for name in strangers {
        let guess = did_you_mean(name, &names);
        let message = format!("unknown variable; overrides are named {PREFIX}SECTION__KEY{guess}");
        sink.push(&Origin::Variable(name.clone()), "", message);
    }
}

/// A list or table in TOML's own notation; anything else as it stands.
fn read_value(value: &str, origin: &Origin) -> Result<Node, String> {
    if !value.trim_start().starts_with(['[', '{']) {
        return Ok(Node { origin: origin.clone(), value: Value::Raw(value.to_owned()) });
    }
    match DeValue::parse(value.trim()) {
        Ok(parsed) => Ok(Node::from_toml(parsed, Some(origin))),
        Err(_) => Err("must be a TOML list or table, or items separated by commas".to_owned()),
    }
}

fn insert<'k>(root: &mut Table, parents: impl Iterator<Item = &'k String>, key: &str, node: Node) {
    let mut table = root;
    for (depth, parent) in parents.enumerate() {
        let origin = node.origin.clone();
        let fresh = || Node { origin: origin.clone(), value: Value::Table(Table::new()) };
        let (_, inner) = table.entry(parent.clone()).or_insert_with(|| (origin.clone(), fresh()));
        // A value that the file gives for the whole, one duration for all severities say, makes way; a section never is one.
        if depth > 0 && !matches!(inner.value, Value::Table(_)) {
            *inner = fresh();
        }
        let Value::Table(inner) = &mut inner.value else { return };
        table = inner;
    }
    table.insert(key.to_owned(), (node.origin.clone(), node));
}
