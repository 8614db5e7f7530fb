//! A notice as people read it: subject, plain text, HTML, terminal, one line. Pure.
//!
//! It must never show a text that did not go through `sanitize`: names in it are chosen by others.

mod html;
mod silence;
mod terminal;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use html::Templates;
pub use terminal::terminal;

use serde::Serialize;

use super::sanitize::line;
use crate::model::{Bar, Notice, Severity, Subject, Time, Together, Transition, humanize};

const TITLE_MAX: usize = 200;
const PARAGRAPH_MAX: usize = 2_000;
/// Of a group or digest so many alerts are named, everywhere.
pub(super) const MEMBERS_MAX: usize = 20;
const MEMBER_PARAGRAPH_MAX: usize = 600;
const NAME_MAX: usize = 40;
const VALUE_MAX: usize = 300;
const ROWS_MAX: usize = 40;
const BARS_MAX: usize = 8;
const PREVIEW_MAX: usize = 140;
const LINK_MAX: usize = 1_000;
/// What the signed link is for.
pub(super) const KEEP_IT: &str = "To keep it, open this; a page asks for how long";
/// Width of a bar that is drawn in characters.
const BAR_WIDTH: usize = 20;
/// Width of text mails and terminal output, in characters.
const WIDTH: usize = 76;

/// `[CRITICAL] low balance: research has $8.20 left`
pub fn subject(notice: &Notice) -> String {
    let sheet = Sheet::of(notice);
    format!("[{}] {}", sheet.badge, sheet.title)
}

/// Complete in itself: what, why, what to do, figures.
pub fn text(notice: &Notice) -> String {
    let sheet = Sheet::of(notice);
    let mut out = wrap(&format!("{}: {}", sheet.badge, sheet.title), WIDTH, "");
    for (heading, paragraph) in sheet.paragraphs() {
        out.push_str(&format!("\n{heading}\n{}", wrap(paragraph, WIDTH, "  ")));
    }
    if let Some(link) = &sheet.link {
        out.push_str(&format!("\n{KEEP_IT}\n  {link}\n"));
    }
    let figures: Vec<_> = sheet.figures('#', '-').collect();
    if !figures.is_empty() {
        out.push_str("\nFigures\n");
        for (name, value) in figures {
            out.push_str(&format!("  {name}  {value}\n"));
        }
    }
    for (number, member) in (1_u32..).zip(&sheet.members) {
        out.push_str(&format!(
            "\n{number}. {}",
            wrap(&format!("{}: {}", member.badge, member.title), WIDTH, "")
        ));
        for (_, paragraph) in member.paragraphs() {
            out.push_str(&wrap(paragraph, WIDTH, "   "));
        }
        for bar in &member.bars {
            out.push_str(&format!("   {}  {}\n", bar.label, bar.drawn('#', '-')));
        }
        out.push_str(&wrap(&format!("{} {} {}", member.when, member.origin, member.id), WIDTH, "   "));
    }
    if let Some(more) = &sheet.more {
        out.push_str(&format!("\n{more}\n"));
    }
    if let Some(command) = &sheet.silence {
        out.push_str(&format!("\nTo hear no more of it for a while\n  {command}\n"));
    }
    out.push_str(&format!("\n{}\n{}\n{}\n\nSent by spheron-watch.\n", sheet.when, sheet.origin, sheet.id));
    out
}

/// For the log: all of it on one line.
pub fn one_line(notice: &Notice) -> String {
    let sheet = Sheet::of(notice);
    let mut out = format!("{}: {}", sheet.badge, sheet.title);
    for (_, paragraph) in sheet.paragraphs() {
        out.push_str(" | ");
        out.push_str(paragraph);
    }
    for member in &sheet.members {
        out.push_str(&format!(" | {}: {}", member.badge, member.title));
    }
    if let Some(more) = &sheet.more {
        out.push_str(&format!(" | {more}"));
    }
    out
}

/// The parts of a notice, each made safe, bounded, and on one line. Any of the texts may be empty.
#[derive(Serialize)]
pub(super) struct Sheet {
    pub(super) badge: &'static str,
    pub(super) mood: Mood,
    color: &'static str,
    /// What a list of mails shows beside the subject.
    preview: String,
    pub(super) title: String,
    pub(super) reason: String,
    pub(super) advice: String,
    /// The address under which the reader can keep what this tells of.
    pub(super) link: Option<String>,
    bars: Vec<Drawn>,
    pub(super) rows: Vec<(String, String)>,
    /// The command that silences it, where that makes sense.
    silence: Option<String>,
    pub(super) when: String,
    pub(super) origin: String,
    pub(super) id: String,
    /// The alerts that a group or digest tells of.
    pub(super) members: Vec<Sheet>,
    pub(super) more: Option<String>,
}

#[derive(Serialize)]
struct Drawn {
    label: String,
    percent: u32,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mood {
    Critical,
    Warning,
    Info,
    Good,
}

impl Sheet {
    pub(super) fn of(notice: &Notice) -> Self {
        let title = line(&notice.title, TITLE_MAX);
        let (badge, mood) = badge(notice);
        let title = match notice.transition {
            Transition::Reminder => format!("still: {title}"),
            Transition::Firing | Transition::Resolved | Transition::Event | Transition::Test => title,
        };
        Self {
            badge,
            mood,
            color: mood.color(),
            preview: line(&notice.reason, PREVIEW_MAX),
            title,
            reason: line(&notice.reason, PARAGRAPH_MAX),
            advice: line(&notice.advice, PARAGRAPH_MAX),
            link: link(notice),
            bars: notice.bars.iter().take(BARS_MAX).map(Drawn::of).collect(),
            rows: rows(&notice.details),
            silence: silence::command(notice),
            when: when(notice),
            origin: format!(
                "Rule {} ({}), about {}.",
                line(&notice.key.rule, NAME_MAX),
                line(&notice.kind, NAME_MAX),
                about(&notice.key.subject),
            ),
            id: format!("Notice {}.", line(notice.id.as_str(), 80)),
            members: notice.together.members.iter().take(MEMBERS_MAX).map(Self::of_member).collect(),
            more: match unnamed(&notice.together) {
                0 => None,
                more => Some(format!("And {more} more, which are counted but not named.")),
            },
        }
    }

    /// Shorter than alone, and without members of its own.
    fn of_member(notice: &Notice) -> Self {
        let alone = Notice { together: Together::default(), ..notice.clone() };
        let sheet = Self::of(&alone);
        Self {
            reason: line(&notice.reason, MEMBER_PARAGRAPH_MAX),
            advice: line(&notice.advice, MEMBER_PARAGRAPH_MAX),
            ..sheet
        }
    }

    fn paragraphs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("Why", self.reason.as_str()), ("What to do", self.advice.as_str())]
            .into_iter()
            .filter(|(_, paragraph)| !paragraph.is_empty())
    }

    /// Bars, then rows; names filled up to the longest.
    fn figures(&self, full: char, empty: char) -> impl Iterator<Item = (String, String)> {
        let bars = self.bars.iter().map(move |bar| (&bar.label, bar.drawn(full, empty)));
        let all: Vec<_> = bars.chain(self.rows.iter().map(|(name, value)| (name, value.clone()))).collect();
        let width = all.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        all.into_iter().map(move |(name, value)| (format!("{name:width$}"), value))
    }
}

impl Drawn {
    fn of(bar: &Bar) -> Self {
        // What is more than nothing shows, and only what is whole is full.
        let percent = bar.permille.div_ceil(10).min(if bar.permille < 1_000 { 99 } else { 100 });
        Self { label: line(&bar.label, NAME_MAX), percent, text: line(&bar.text, VALUE_MAX) }
    }

    /// `[########------------] $8.20; the threshold is $20.00`
    fn drawn(&self, full: char, empty: char) -> String {
        let percent = usize::try_from(self.percent).unwrap_or(100);
        let length = (percent * BAR_WIDTH / 100).max(usize::from(percent > 0));
        let rest = BAR_WIDTH.saturating_sub(length);
        let repeat = |c: char, times| c.to_string().repeat(times);
        format!("[{}{}] {}", repeat(full, length), repeat(empty, rest), self.text)
    }
}

impl Mood {
    /// Dark enough for white text on it (contrast 4.5 or more).
    fn color(self) -> &'static str {
        match self {
            Self::Critical => "#b3261e",
            Self::Warning => "#8a5a00",
            Self::Info => "#1f5fa8",
            Self::Good => "#1e7a3c",
        }
    }
}

/// A group has none: it would be one of several.
fn link(notice: &Notice) -> Option<String> {
    let link = notice.link.as_deref().filter(|link| is_plain_link(link))?;
    notice.together.members.is_empty().then(|| link.to_owned())
}

/// Nothing but what stands in an address unescaped: no format has to escape it, and none can make more of it.
fn is_plain_link(link: &str) -> bool {
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '.' | '-' | '_' | '~' | '%' | '[' | ']')
    };
    link.len() <= LINK_MAX
        && (link.starts_with("https://") || link.starts_with("http://"))
        && link.chars().all(plain)
}

/// How many alerts are told of without being named.
pub(super) fn unnamed(together: &Together) -> u64 {
    let left_out = together.members.len().saturating_sub(MEMBERS_MAX);
    u64::from(together.more).saturating_add(u64::try_from(left_out).unwrap_or(u64::MAX))
}

fn badge(notice: &Notice) -> (&'static str, Mood) {
    match (notice.transition, notice.severity) {
        (Transition::Resolved, _) => ("RESOLVED", Mood::Good),
        (Transition::Test, _) => ("TEST", Mood::Info),
        (Transition::Firing | Transition::Reminder | Transition::Event, severity) => match severity {
            Severity::Critical => ("CRITICAL", Mood::Critical),
            Severity::Warning => ("WARNING", Mood::Warning),
            Severity::Info => ("INFO", Mood::Info),
        },
    }
}

fn rows(details: &[(Arc<str>, String)]) -> Vec<(String, String)> {
    let mut rows: Vec<_> = details
        .iter()
        .take(ROWS_MAX)
        .map(|(name, value)| (line(name, NAME_MAX), line(value, VALUE_MAX)))
        .collect();
    if let Some(left @ 1..) = details.len().checked_sub(ROWS_MAX) {
        rows.push(("…".to_owned(), format!("and {left} more")));
    }
    rows
}

fn when(notice: &Notice) -> String {
    let (since, at) = (utc(notice.since), utc(notice.at));
    let length = humanize(notice.at.since(notice.since));
    match notice.transition {
        Transition::Firing | Transition::Reminder if notice.at <= notice.since => format!("Since {since}."),
        Transition::Firing | Transition::Reminder => format!("Since {since}, {length} before this was sent."),
        Transition::Resolved => format!("Resolved {at}, after {length}."),
        Transition::Event | Transition::Test => format!("Seen {at}."),
    }
}

pub(super) fn about(subject: &Subject) -> String {
    let id = match subject {
        Subject::Account => return "the account".to_owned(),
        Subject::Team { id } | Subject::Occasion { team: id, .. } => id.as_str(),
        Subject::Deployment { id, .. } => id.as_str(),
        Subject::Volume { id } => id.as_str(),
    };
    format!("{} {}", subject.kind(), line(id, VALUE_MAX))
}

fn utc(time: Time) -> String {
    match time.to_jiff() {
        Some(t) => t.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        None => time.to_string(),
    }
}

/// Lines of at most `width` characters, each with the indent and a line break; a word that is longer stands alone.
fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        }
        let before = if column == 0 { indent } else { " " };
        out.push_str(before);
        out.push_str(word);
        column += before.chars().count() + length;
    }
    out.push('\n');
    out
}
