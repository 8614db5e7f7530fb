//! Text for people: facts with their names, wrapped to the terminal's width, moments, and commands to copy.
//!
//! It must never let a text from outside begin a line, nor stand unquoted in a command.

use super::output::{Colors, Size};
use crate::{
    model::humanize,
    notify::sanitize,
    serve::api::{At, Named},
};

/// The longest text of one fact, in characters.
const TEXT_MAX: usize = 2_000;
/// With less room than this a text is not broken.
const ROOM_MIN: usize = 20;

/// What is written on: as wide as the terminal, where there is one.
#[derive(Debug, Clone, Copy)]
pub struct Paper {
    pub width: Option<u16>,
    pub colors: Colors,
}

impl Paper {
    pub fn detect(colors: Colors) -> Self {
        Self { width: Size::detect().map(|size| size.columns), colors }
    }

    pub fn prose(&self, text: &str) -> String {
        self.hanging("", text)
    }

    /// Each on a line of its own, or on several below each other.
    pub fn facts<'a>(&self, facts: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
        self.indented(2, facts)
    }

    /// The same of a row of a table.
    pub fn below<'a>(&self, facts: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
        self.indented(4, facts)
    }

    fn indented<'a>(
        &self,
        indent: usize,
        facts: impl IntoIterator<Item = (&'a str, Option<String>)>,
    ) -> String {
        let facts: Vec<(&str, String)> =
            facts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
        let wide = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let line = |(name, text): &(&str, String)| {
            self.hanging(&format!("{}{name:<wide$}  ", " ".repeat(indent)), text)
        };
        facts.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The text beside what leads to it, broken at spaces.
    pub fn hanging(&self, lead: &str, text: &str) -> String {
        let indent = lead.chars().count();
        let room = self.width.map(|width| usize::from(width).saturating_sub(indent));
        let text = sanitize::line(text, TEXT_MAX);
        let lines =
            room.filter(|room| *room >= ROOM_MIN).map_or(vec![text.clone()], |room| broken(&text, room));
        let lead = if lead.is_empty() { String::new() } else { self.colors.dim(lead) };
        format!("{lead}{}", lines.join(&format!("\n{}", " ".repeat(indent))))
    }
}

fn broken(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `in 17m` or `12m ago`.
pub fn distance(now: At, at: At) -> String {
    if at > now {
        format!("in {}", humanize(at.0.since(now.0)))
    } else {
        format!("{} ago", humanize(now.0.since(at.0)))
    }
}

/// How far off, in a table: what is past has no `ago`, as in the other tables.
pub fn apart(now: At, at: At) -> String {
    if at > now { distance(now, at) } else { humanize(now.0.since(at.0)) }
}

/// `2026-11-24T10:30:00Z (in 17m)`.
pub fn moment(now: At, at: At) -> String {
    format!("{at} ({})", distance(now, at))
}

/// A name, or the id of what has none.
pub fn label(named: &Named) -> &str {
    if named.name.is_empty() { &named.id } else { &named.name }
}

/// `1 action`, `2 actions`.
pub fn count(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The command that keeps one for a day, to copy.
pub fn keep_command(id: &str) -> String {
    // `list` and `end` are commands of `keep`, and a dash begins an option.
    let dashes = if matches!(id, "list" | "end") || id.starts_with('-') { "-- " } else { "" };
    format!("spheron-watch keep --for 1d {dashes}{}", quoted(id))
}

/// As one word for a shell.
pub fn quoted(text: &str) -> String {
    let text = sanitize::line(text, TEXT_MAX);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: Paper = Paper { width: Some(30), colors: Colors(false) };

    #[test]
    fn facts_hang_below_each_other_and_words_stay_whole() {
        let facts = [
            ("when", Some("idle for 2h; outside Mon-Fri 08:00-20:00".to_owned())),
            ("nothing", None),
            ("match", Some("a-word-that-is-longer-than-there-is-room x".to_owned())),
        ];
        assert_eq!(
            NARROW.facts(facts),
            "  when   idle for 2h; outside\n         Mon-Fri 08:00-20:00\n\
             \x20 match  a-word-that-is-longer-than-there-is-room\n         x"
        );
        let wide = Paper { width: None, ..NARROW };
        assert_eq!(wide.prose("a b c ".repeat(40).trim()).lines().count(), 1);
    }

    #[test]
    fn fault_77_what_comes_from_outside_is_one_word_of_a_command_and_one_line_of_text() {
        assert_eq!(keep_command("68d0a1"), "spheron-watch keep --for 1d 68d0a1");
        assert_eq!(keep_command("list"), "spheron-watch keep --for 1d -- list");
        assert_eq!(keep_command("--forever"), "spheron-watch keep --for 1d -- --forever");
        assert_eq!(quoted("x; rm -rf ~"), "'x; rm -rf ~'");
        assert_eq!(quoted("it's $(id)\n`id`"), r"'it'\''s $(id) `id`'");
        let text = Paper { width: None, ..NARROW }.facts([("reason", Some("a\nb\u{1b}[2J".to_owned()))]);
        assert!(text.lines().count() == 1 && !text.contains('\u{1b}'), "{text:?}");
    }
}
