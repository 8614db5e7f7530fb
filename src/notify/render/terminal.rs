//! A notice on a terminal, as `demo` and `test-notify` print it.
//!
//! It must never print an escape sequence that is not its own.

use super::{KEEP_IT, Mood, Sheet, WIDTH, wrap};
use crate::model::Notice;

/// A frame that is open to the right, so that wide characters cannot break it.
pub fn terminal(notice: &Notice, color: bool) -> String {
    let sheet = Sheet::of(notice);
    let ink = Ink { color, accent: accent(sheet.mood) };
    let badge = format!(" {} ", sheet.badge);
    let rule = "━".repeat(WIDTH.saturating_sub(badge.chars().count() + 1));
    let mut out = format!("{}{}{}\n", ink.accent("┏━"), ink.badge(&badge), ink.accent(&rule));
    let mut push = |line: &str| {
        out.push_str(&ink.accent("┃"));
        if !line.is_empty() {
            out.push(' ');
            out.push_str(line);
        }
        out.push('\n');
    };
    for line in wrap(&sheet.title, WIDTH, "").lines() {
        push(&ink.bold(line));
    }
    if !sheet.reason.is_empty() {
        push("");
        wrap(&sheet.reason, WIDTH, "").lines().for_each(&mut push);
    }
    for (index, (name, value)) in sheet.figures('█', '░').enumerate() {
        if index == 0 {
            push("");
        }
        push(&format!("  {}  {value}", ink.dim(&name)));
    }
    for member in &sheet.members {
        push("");
        let ink = Ink { color, accent: accent(member.mood) };
        let title = format!("{}: {}", member.badge, member.title);
        for (index, line) in wrap(&title, WIDTH - 2, "").lines().enumerate() {
            let dot = if index == 0 { ink.accent("•") } else { " ".to_owned() };
            push(&format!("{dot} {}", ink.bold(line)));
        }
        wrap(&member.reason, WIDTH - 2, "  ").lines().for_each(&mut push);
        wrap(&format!("{} {}", member.when, member.id), WIDTH - 2, "  ")
            .lines()
            .for_each(|line| push(&ink.dim(line)));
    }
    if let Some(more) = &sheet.more {
        push("");
        push(more);
    }
    if !sheet.advice.is_empty() {
        push("");
        for (index, line) in wrap(&sheet.advice, WIDTH - 2, "").lines().enumerate() {
            let arrow = if index == 0 { ink.accent("→") } else { " ".to_owned() };
            push(&format!("{arrow} {line}"));
        }
    }
    if let Some(link) = &sheet.link {
        push("");
        push(&format!("{} {KEEP_IT}:", ink.accent("→")));
        push(&format!("  {link}"));
    }
    push("");
    push(&ink.dim(&sheet.when));
    wrap(&sheet.origin, WIDTH, "").lines().for_each(|line| push(&ink.dim(line)));
    push(&ink.dim(&sheet.id));
    out.push_str(&ink.accent(&format!("┗{}", "━".repeat(WIDTH))));
    out.push('\n');
    out
}

struct Ink {
    color: bool,
    accent: &'static str,
}

impl Ink {
    fn accent(&self, text: &str) -> String {
        self.paint(self.accent, text)
    }

    /// Reversed in the accent's colour.
    fn badge(&self, text: &str) -> String {
        self.paint(&format!("1;7;{}", self.accent), text)
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn accent(mood: Mood) -> &'static str {
    match mood {
        Mood::Critical => "31",
        Mood::Warning => "33",
        Mood::Info => "36",
        Mood::Good => "32",
    }
}
