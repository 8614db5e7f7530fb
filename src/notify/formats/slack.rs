//! Slack's incoming webhooks: a message of blocks, and a text for where blocks are not shown.
//!
//! It must never hand Slack a text as markup: `plain_text` everywhere, `& < >` escaped, no mention, no link preview.

use serde::Serialize;

use super::{
    super::render::Sheet,
    pen::{Pen, RowLimits, Unit},
};
use crate::model::Notice;

/// Slack: 150 in a header, 3,000 in a section, 2,000 in a context element.
const HEADER_MAX: usize = 150;
const REASON_MAX: usize = 2_500;
const ADVICE_MAX: usize = 1_200;
const ROWS_ROOM: usize = 2_400;
const CONTEXT_MAX: usize = 700;
/// For all alerts of a group: blocks together are refused somewhere above 13,000 characters.
const MEMBERS_ROOM: usize = 5_000;
/// Notifications, and services that mimic Slack, show this.
const TEXT_MAX: usize = 2_000;

const PEN: Pen = Pen { unit: Unit::Utf16, escape };

pub fn body(notice: &Notice) -> Result<Vec<u8>, serde_json::Error> {
    let sheet = Sheet::of(notice);
    let mut blocks = vec![Block::Header { text: Text::new(PEN.headline(&sheet, HEADER_MAX)) }];
    let mut section = |text: String| {
        if !text.is_empty() {
            blocks.push(Block::Section { text: Text::new(text) });
        }
    };
    section(PEN.write(&sheet.reason, REASON_MAX));
    section(PEN.write(&sheet.advice, ADVICE_MAX));
    if let Some(url) = &sheet.link {
        let text = Text::new("Keep it".to_owned());
        blocks.push(Block::Actions { elements: [Button { r#type: "button", text, url: url.clone() }] });
    }
    let mut section = |text: String| {
        if !text.is_empty() {
            blocks.push(Block::Section { text: Text::new(text) });
        }
    };
    let limits = RowLimits { count: 40, name: 100, value: 400, between: 3, room: ROWS_ROOM };
    let rows = PEN.rows(&sheet, limits).into_iter().map(|(name, value)| format!("{name}: {value}"));
    section(rows.collect::<Vec<_>>().join("\n"));
    for (title, rest) in PEN.members(&sheet, MEMBERS_ROOM) {
        section(if rest.is_empty() { title } else { format!("{title}\n{rest}") });
    }
    section(sheet.more.clone().unwrap_or_default());
    blocks.push(Block::Context { elements: [Text::new(PEN.footer(&sheet, CONTEXT_MAX))] });
    let headline = PEN.headline(&sheet, TEXT_MAX / 4);
    serde_json::to_vec(&Message {
        text: PEN.page(&sheet, &headline, TEXT_MAX),
        mrkdwn: false,
        unfurl_links: false,
        unfurl_media: false,
        blocks,
    })
}

/// What Slack asks to escape; and `@` gets a word joiner behind it, for services that mimic Slack and look for names.
fn escape(c: char, _next: Option<char>, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '@' => out.push_str("@\u{2060}"),
        c => out.push(c),
    }
}

#[derive(Serialize)]
struct Message {
    text: String,
    mrkdwn: bool,
    unfurl_links: bool,
    unfurl_media: bool,
    blocks: Vec<Block>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Block {
    Header { text: Text },
    Section { text: Text },
    Actions { elements: [Button; 1] },
    Context { elements: [Text; 1] },
}

/// It opens an address, and asks nothing of an app.
#[derive(Serialize)]
struct Button {
    r#type: &'static str,
    text: Text,
    url: String,
}

#[derive(Serialize)]
struct Text {
    r#type: &'static str,
    text: String,
    /// Whether `:name:` becomes a picture.
    emoji: bool,
}

impl Text {
    fn new(text: String) -> Self {
        Self { r#type: "plain_text", text, emoji: false }
    }
}
