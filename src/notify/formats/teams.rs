//! Microsoft Teams, by a workflow that posts what its webhook gets: a message with one adaptive card.
//!
//! It must never use an element that reads Markdown: Teams' own apps disagree on how to escape it, so texts are runs.

use serde::Serialize;

use super::{
    super::render::{Mood, Sheet},
    pen::{Pen, RowLimits, Unit, plain},
};
use crate::model::Notice;

/// Teams refuses a message above 28 KB; these and the JSON around them stay well below.
const TITLE_MAX: usize = 500;
const REASON_MAX: usize = 3_000;
const ADVICE_MAX: usize = 1_500;
const ROWS_ROOM: usize = 4_000;
const ROWS_MAX: usize = 20;
const MEMBERS_ROOM: usize = 7_000;
const FOOTER_MAX: usize = 700;

const PEN: Pen = Pen { unit: Unit::JsonBytes, escape: plain };

pub fn body(notice: &Notice) -> Result<Vec<u8>, serde_json::Error> {
    let sheet = Sheet::of(notice);
    serde_json::to_vec(&Message {
        r#type: "message",
        attachments: [Attachment {
            content_type: "application/vnd.microsoft.card.adaptive",
            content_url: None,
            content: Card {
                schema: "http://adaptivecards.io/schemas/adaptive-card.json",
                r#type: "AdaptiveCard",
                version: "1.2",
                fallback_text: PEN.headline(&sheet, TITLE_MAX),
                body: blocks(&sheet),
                actions: sheet.link.iter().map(|url| OpenUrl::new(url)).collect(),
            },
        }],
    })
}

fn blocks(sheet: &Sheet) -> Vec<Block> {
    let title = Run {
        size: Some("Large"),
        color: Some(color(sheet.mood)),
        ..Run::bold(PEN.headline(sheet, TITLE_MAX))
    };
    let mut blocks = vec![Block::new(None, vec![title])];
    for text in [PEN.write(&sheet.reason, REASON_MAX), PEN.write(&sheet.advice, ADVICE_MAX)] {
        if !text.is_empty() {
            blocks.push(Block::new(None, vec![Run::new(text)]));
        }
    }
    let limits = RowLimits { count: ROWS_MAX, name: 120, value: 600, between: 2, room: ROWS_ROOM };
    for (number, (name, value)) in PEN.rows(sheet, limits).into_iter().enumerate() {
        let spacing = (number > 0).then_some("None");
        blocks.push(Block::new(spacing, vec![Run::bold(format!("{name}: ")), Run::new(value)]));
    }
    for ((title, rest), member) in PEN.members(sheet, MEMBERS_ROOM).into_iter().zip(&sheet.members) {
        blocks.push(Block::new(None, vec![Run { color: Some(color(member.mood)), ..Run::bold(title) }]));
        if !rest.is_empty() {
            blocks.push(Block::new(Some("None"), vec![Run::new(rest)]));
        }
    }
    if let Some(more) = &sheet.more {
        blocks.push(Block::new(None, vec![Run::new(more.clone())]));
    }
    blocks.push(Block::new(None, vec![Run { is_subtle: true, ..Run::new(PEN.footer(sheet, FOOTER_MAX)) }]));
    blocks
}

fn color(mood: Mood) -> &'static str {
    match mood {
        Mood::Critical => "Attention",
        Mood::Warning => "Warning",
        Mood::Info => "Accent",
        Mood::Good => "Good",
    }
}

#[derive(Serialize)]
struct Message {
    r#type: &'static str,
    attachments: [Attachment; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    content_type: &'static str,
    content_url: Option<&'static str>,
    content: Card,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Card {
    #[serde(rename = "$schema")]
    schema: &'static str,
    r#type: &'static str,
    version: &'static str,
    fallback_text: String,
    body: Vec<Block>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actions: Vec<OpenUrl>,
}

#[derive(Serialize)]
struct OpenUrl {
    r#type: &'static str,
    title: &'static str,
    url: String,
}

impl OpenUrl {
    fn new(url: &str) -> Self {
        Self { r#type: "Action.OpenUrl", title: "Keep it", url: url.to_owned() }
    }
}

#[derive(Serialize)]
struct Block {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    spacing: Option<&'static str>,
    inlines: Vec<Run>,
}

impl Block {
    fn new(spacing: Option<&'static str>, inlines: Vec<Run>) -> Self {
        Self { r#type: "RichTextBlock", spacing, inlines }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    r#type: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    color: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_subtle: bool,
}

impl Run {
    fn new(text: String) -> Self {
        Self { r#type: "TextRun", text, weight: None, size: None, color: None, is_subtle: false }
    }

    fn bold(text: String) -> Self {
        Self { weight: Some("Bolder"), ..Self::new(text) }
    }
}
