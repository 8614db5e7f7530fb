//! A typed reader over one table: each key is asked for once, errors gather, and what nobody asked for is refused.
//!
//! It must never stop at the first error, nor let an unknown key pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    error::{ConfigError, ConfigErrors, Origin, position},
    node::{Node, Read, Table, Value, did_you_mean},
    refused::refusal,
};

/// Where errors gather, and which keys exist.
#[derive(Debug)]
pub(super) struct Sink {
    file: PathBuf,
    text: String,
    errors: Vec<(Origin, ConfigError)>,
    /// Every key that was asked for, dotted: what this version knows.
    pub(super) asked: BTreeSet<String>,
    pub(super) found: BTreeSet<String>,
}

impl Sink {
    pub(super) fn new(file: PathBuf, text: String) -> Self {
        Self { file, text, errors: Vec::new(), asked: BTreeSet::new(), found: BTreeSet::new() }
    }

    pub(super) fn push(&mut self, origin: &Origin, key: &str, message: impl Into<String>) {
        let place = match origin {
            Origin::Text(offset) => {
                let (line, column) = position(&self.text, *offset);
                format!("{}:{line}:{column}", self.file.display())
            }
            Origin::Variable(name) => clip(name),
            Origin::Default => "default".to_owned(),
        };
        self.errors.push((origin.clone(), ConfigError { place, key: clip(key), message: message.into() }));
    }

    pub(super) fn into_errors(mut self) -> Option<ConfigErrors> {
        self.errors.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.errors.dedup();
        let errors: Vec<ConfigError> = self.errors.into_iter().map(|(_, error)| error).collect();
        (!errors.is_empty()).then_some(ConfigErrors(errors))
    }
}

/// A key or name from outside, fit for one line of a terminal.
fn clip(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A value with the place to complain about it.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) origin: Origin,
    pub(super) value: T,
}

pub(super) struct Reader<'a> {
    sink: &'a mut Sink,
    path: String,
    origin: Origin,
    table: Table,
    asked: Vec<&'static str>,
    places: BTreeMap<&'static str, Origin>,
}

/// What a reading of an empty table gives: the defaults.
pub(super) fn of_nothing<T>(read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
    let mut sink = Sink::new(PathBuf::new(), String::new());
    read(&mut Reader::new(&mut sink, String::new(), Origin::Default, Table::new()))
}

impl<'a> Reader<'a> {
    pub(super) fn new(sink: &'a mut Sink, path: String, origin: Origin, table: Table) -> Self {
        Self { sink, path, origin, table, asked: Vec::new(), places: BTreeMap::new() }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether a key was there when it was asked for.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Node> {
        self.asked.push(key);
        let dotted = self.dotted(key);
        let node = self.table.remove(key).map(|(_, node)| node);
        if let Some(node) = &node {
            self.places.insert(key, node.origin.clone());
            self.sink.found.insert(dotted.clone());
        }
        self.sink.asked.insert(dotted);
        node
    }

    pub(super) fn read<T>(&mut self, key: &'static str, read: impl FnOnce(&Node) -> Read<T>) -> Option<T> {
        let node = self.take(key)?;
        let result = read(&node);
        result.map_err(|message| self.complain(key, message)).ok()
    }

    /// Complains about a key that is not there.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node) -> Read<T>,
        what: &str,
    ) -> Option<T> {
        if !self.has(key) {
            self.complain(key, format!("is missing; give {what}"));
        }
        self.read(key, read)
    }

    /// A list; each bad item is an error of its own.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Node) -> Read<T>,
    ) -> Option<Vec<Located<T>>> {
        let items = self.take(key)?.items();
        let items = items.map_err(|message| self.complain(key, message)).ok()?;
        let mut values = Vec::new();
        for node in items {
            match read(&node) {
                Ok(value) => values.push(Located { origin: node.origin, value }),
                Err(message) => self.complain_at(&node.origin, key, message),
            }
        }
        Some(values)
    }

    /// A list that means nothing when empty.
    pub(super) fn full_list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Node) -> Read<T>,
    ) -> Option<Vec<Located<T>>> {
        let empty = |node: &Node| matches!(&node.value, Value::List(items) if items.is_empty());
        if self.table.get(key).is_some_and(|(_, node)| empty(node)) {
            let origin = self.take(key).map_or(Origin::Default, |node| node.origin);
            self.complain_at(&origin, key, "must not be empty; name one at least or remove the key");
            return None;
        }
        self.list(key, read)
    }

    /// A table that may be missing.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> Option<T> {
        let node = self.take(key)?;
        self.within(key, node, read)
    }

    /// A section: read even where it is missing, so that its keys are known.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> Option<T> {
        let empty = Node { origin: Origin::Default, value: Value::Table(Table::new()) };
        let node = self.take(key).unwrap_or(empty);
        self.within(key, node, read)
    }

    /// `[[key]]`: one reading per table.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Reader<'_>) -> T,
    ) -> Vec<T> {
        let wrong = format!("must be written as [[{key}]], once for each");
        let Some(node) = self.take(key) else { return Vec::new() };
        let Value::List(nodes) = node.value else {
            self.complain(key, wrong);
            return Vec::new();
        };
        let mut values = Vec::new();
        for node in nodes {
            let origin = node.origin.clone();
            if let Value::Table(_) = node.value {
                values.extend(self.within(key, node, &mut read));
            } else {
                self.complain_at(&origin, key, wrong.clone());
            }
        }
        values
    }

    /// Reads a table that was taken as `key`.
    pub(super) fn within<T>(
        &mut self,
        key: &'static str,
        node: Node,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> Option<T> {
        let Value::Table(table) = node.value else {
            let message = if self.path.is_empty() {
                format!("must be a section, [{key}]")
            } else {
                "must be a table, as in { key = \"…\" }".to_owned()
            };
            self.complain_at(&node.origin, key, message);
            return None;
        };
        let path = self.dotted(key);
        let mut inner = Reader::new(&mut *self.sink, path, node.origin, table);
        let value = read(&mut inner);
        inner.finish();
        Some(value)
    }

    /// Complains about a key's value, or about the table where the key is not there.
    pub(super) fn complain(&mut self, key: &str, message: impl Into<String>) {
        let origin = self.places.get(key).unwrap_or(&self.origin).clone();
        self.complain_at(&origin, key, message);
    }

    pub(super) fn complain_at(&mut self, origin: &Origin, key: &str, message: impl Into<String>) {
        let dotted = if key.is_empty() { self.path.clone() } else { self.dotted(key) };
        self.sink.push(origin, &dotted, message);
    }

    /// Lets the rest be, where an error already says why nothing here can be understood.
    pub(super) fn forgive(&mut self) {
        self.table.clear();
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(mut self) {
        for (key, (origin, _)) in std::mem::take(&mut self.table) {
            let dotted = self.dotted(&key);
            let message = refusal(&dotted, &self.asked).unwrap_or_else(|| self.unknown(&key));
            self.sink.push(&origin, &dotted, message);
        }
    }

    fn unknown(&self, key: &str) -> String {
        let guess = did_you_mean(key, &self.asked);
        if guess.is_empty() {
            let mut allowed = self.asked.clone();
            allowed.sort_unstable();
            format!("unknown key; allowed: {}", allowed.join(", "))
        } else {
            format!("unknown key{guess}")
        }
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
