//! R1, R2, R4, R5: which room may import which.

use crate::{
    Finding,
    source::{Source, closing, paths, tokens},
};

enum May {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

/// A room may always import itself.
const TABLE: [(&str, May); 17] = [
    ("model", May::Only(&[])),
    ("schedule", May::Only(&["model"])),
    ("clock", May::Only(&["model"])),
    ("config", May::Only(&["model", "schedule"])),
    ("engine", May::Only(&["model", "schedule"])),
    ("store", May::Only(&["model", "clock"])),
    ("spheron", May::Only(&["model", "clock"])),
    ("notify", May::Only(&["model", "clock"])),
    ("serve", May::Only(&["model", "clock"])),
    ("activity", May::Only(&["model", "clock"])),
    ("sim", May::Only(&["model", "clock"])),
    ("signals", May::Only(&[])),
    ("drive", May::AllBut(&["app", "cli", "config"])),
    ("app", May::AllBut(&["cli"])),
    ("cli", May::AllBut(&[])),
    ("main", May::AllBut(&[])),
    ("lib", May::Only(&[])),
];

/// Each import from another room that the table does not allow, and each file that belongs to no room.
pub fn directions(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let room = source.room();
        let Some((_, may)) = TABLE.iter().find(|(name, _)| *name == room) else {
            let what = format!("`{room}` is no room of the table: give it a row, and say what it may import");
            findings.push(Finding::new(&source.path, 1, "directions", what));
            continue;
        };
        for (line, other) in imports(source) {
            if other != room && !allows(may, &other) {
                let what = format!("`{room}` must not import `{other}`");
                findings.push(Finding::new(&source.path, line, "directions", what));
            }
        }
    }
    findings
}

fn allows(may: &May, other: &str) -> bool {
    match may {
        May::Only(rooms) => rooms.contains(&other),
        May::AllBut(rooms) if other == "*" => rooms.is_empty(),
        May::AllBut(rooms) => !rooms.contains(&other),
    }
}

/// (line, room) of every path that leads through the crate's root; `*` where the root itself is imported.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let tokens = tokens(&source.live);
    let inline: Vec<(usize, usize)> = tokens
        .array_windows()
        .enumerate()
        .filter(|(_, [word, _, open])| (word.text, open.text) == ("mod", "{"))
        .map(|(at, [word, _, _])| (word.line, tokens[closing(&tokens, at + 2)].line))
        .collect();
    let root_of = |line: usize, path: &str| -> Option<String> {
        let parts: Vec<&str> = path.split("::").collect();
        let ups = parts.iter().take_while(|part| **part == "super").count();
        let enclosing = inline.iter().filter(|(from, to)| (*from..=*to).contains(&line)).count();
        let next = match parts[0] {
            "crate" | "spheron_watch" => parts.get(1),
            "super" if ups == source.depth() + enclosing => parts.get(ups),
            _ => return None,
        };
        Some(next.filter(|name| **name != "self").map_or("*", |name| *name).to_owned())
    };
    let renamed = tokens.array_windows().filter(|[root, word]| (root.text, word.text) == ("crate", "as"));
    let renamed = renamed.map(|[root, _]| (root.line, "*".to_owned()));
    paths(&tokens)
        .into_iter()
        .filter(|(_, path)| path != "crate") // `pub(crate)` is no import
        .filter_map(|(line, path)| Some((line, root_of(line, &path)?)))
        .chain(renamed)
        .collect()
}

mod tests {
    use super::*;
    use crate::found;

    #[test]
    fn an_import_against_the_table_is_found_however_it_is_written() {
        for (path, text, finding) in [
            ("src/model/a.rs", "use crate::clock::Clock;", "1: directions: `model` must not import `clock`"),
            (
                "src/engine/a.rs",
                "\nuse crate::{model::Time, store};",
                "2: directions: `engine` must not import `store`",
            ),
            (
                "src/config/a.rs",
                "fn a() {\n crate::engine::step() }",
                "2: directions: `config` must not import `engine`",
            ),
            (
                "src/store/mod.rs",
                "use super::notify::Receiver;",
                "1: directions: `store` must not import `notify`",
            ),
            (
                "src/spheron/a/b.rs",
                "use super::super::super::serve;",
                "1: directions: `spheron` must not import `serve`",
            ),
            (
                "src/sim/mod.rs",
                "mod a { use super::super::spheron; }",
                "1: directions: `sim` must not import `spheron`",
            ),
            ("src/notify/a.rs", "use crate::*;", "1: directions: `notify` must not import `*`"),
            ("src/serve/a.rs", "use crate::{self as root};", "1: directions: `serve` must not import `*`"),
            ("src/serve/b.rs", "use crate as root;", "1: directions: `serve` must not import `*`"),
            (
                "src/drive/a.rs",
                "use crate::config::Settings;",
                "1: directions: `drive` must not import `config`",
            ),
            ("src/app.rs", "use crate::cli;", "1: directions: `app` must not import `cli`"),
            ("src/signals.rs", "use crate::model::Time;", "1: directions: `signals` must not import `model`"),
        ] {
            assert_eq!(found(directions, &[(path, text)]), [format!("{path}:{finding}")], "{text}");
        }
        assert_eq!(
            found(directions, &[("src/util.rs", "")]),
            [
                "src/util.rs:1: directions: `util` is no room of the table: give it a row, and say what it may import"
            ]
        );
    }

    #[test]
    fn what_the_table_allows_is_not_found() {
        for (path, text) in [
            (
                "src/engine/a.rs",
                "use crate::{engine::b, model::{self, Time}, schedule::Schedule}; pub(crate) fn a() {}",
            ),
            (
                "src/store/a/b.rs",
                "use super::{super::db, c}; // crate::engine\nconst A: &str = \"crate::engine\";",
            ),
            ("src/sim/mod.rs", "mod a { use super::b; }"),
            ("src/notify/a.rs", "#[cfg(test)]\nmod tests { use crate::sim::World; }"),
            ("src/drive/a.rs", "use crate::{engine, spheron, store, sim, serve, notify, signals};"),
            ("src/main.rs", "use spheron_watch::{app, cli};"),
        ] {
            assert_eq!(found(directions, &[(path, text)]), Vec::<String>::new(), "{text}");
        }
    }
}
