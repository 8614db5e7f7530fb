//! Telegram's `sendMessage`: plain text with a bold first line, no parse mode that a name could break.
//!
//! It must never name a user or show a link preview.

use reqwest::Url;
use serde::Serialize;

use super::{
    super::render::Sheet,
    pen::{Pen, Unit},
};
use crate::model::Notice;

/// Telegram: 4,096 characters; it counts UTF-16 units.
const TEXT_MAX: usize = 4_000;
const HEADLINE_MAX: usize = 400;

const PEN: Pen = Pen { unit: Unit::Utf16, escape };

/// Where a bot is to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Chat {
    /// A person, or with a minus sign a group or channel.
    Id(i64),
    /// `@name` of a public channel or group.
    Name(String),
}

pub(super) fn check(url: &Url) -> Result<(), &'static str> {
    if url.path().ends_with("/sendMessage") {
        Ok(())
    } else {
        Err("must end in /sendMessage, as in https://api.telegram.org/bot<token>/sendMessage")
    }
}

pub fn body(notice: &Notice, chat: &Chat) -> Result<Vec<u8>, serde_json::Error> {
    let sheet = Sheet::of(notice);
    let headline = PEN.headline(&sheet, HEADLINE_MAX);
    serde_json::to_vec(&Message {
        chat_id: chat,
        text: PEN.page(&sheet, &headline, TEXT_MAX),
        entities: [Entity { r#type: "bold", offset: 0, length: PEN.unit.size(&headline) }],
        link_preview_options: Preview { is_disabled: true },
    })
}

/// Telegram looks for `@name` in any text; a word joiner, which is not seen, keeps it from finding one.
fn escape(c: char, _next: Option<char>, out: &mut String) {
    out.push(c);
    if c == '@' {
        out.push('\u{2060}');
    }
}

#[derive(Serialize)]
struct Message<'a> {
    chat_id: &'a Chat,
    text: String,
    entities: [Entity; 1],
    link_preview_options: Preview,
}

#[derive(Serialize)]
struct Entity {
    r#type: &'static str,
    offset: usize,
    length: usize,
}

#[derive(Serialize)]
struct Preview {
    is_disabled: bool,
}
