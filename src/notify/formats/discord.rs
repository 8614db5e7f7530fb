//! Discord's webhooks: one message with one embed.
//!
//! It must never mention anybody, nor let a name become markup: every sign that Discord could read is escaped.

use serde::Serialize;

use super::{
    super::render::{Mood, Sheet},
    pen::{Pen, RowLimits, Unit, plain},
    rfc3339,
};
use crate::model::Notice;

/// Discord: title 256, description 4,096, 25 fields of 256 and 1,024, footer 2,048, all of it 6,000.
const TITLE_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 3_600;
const FOOTER_MAX: usize = 400;
const FIELDS_ROOM: usize = 1_600;
const FIELDS_MAX: usize = 25;
const FIELD_NAME_MAX: usize = 128;
const FIELD_VALUE_MAX: usize = 512;

const PEN: Pen = Pen { unit: Unit::Utf16, escape };
/// A footer knows no markup.
const FOOTER_PEN: Pen = Pen { unit: Unit::Utf16, escape: plain };

pub fn body(notice: &Notice) -> Result<Vec<u8>, serde_json::Error> {
    let sheet = Sheet::of(notice);
    let limits = RowLimits {
        count: FIELDS_MAX,
        name: FIELD_NAME_MAX,
        value: FIELD_VALUE_MAX,
        between: 0,
        room: FIELDS_ROOM,
    };
    let fields =
        PEN.rows(&sheet, limits).into_iter().map(|(name, value)| Field { name, value, inline: true });
    let embed = Embed {
        title: PEN.headline(&sheet, TITLE_MAX),
        description: description(&sheet),
        color: color(sheet.mood),
        fields: fields.collect(),
        footer: Footer { text: FOOTER_PEN.footer(&sheet, FOOTER_MAX) },
        timestamp: rfc3339(notice.at),
    };
    serde_json::to_vec(&Message { allowed_mentions: Mentions { parse: [] }, embeds: [embed] })
}

fn description(sheet: &Sheet) -> String {
    let (reason, advice) =
        (PEN.write(&sheet.reason, DESCRIPTION_MAX / 3), PEN.write(&sheet.advice, DESCRIPTION_MAX / 6));
    let mut parts: Vec<String> = [reason, advice].into_iter().filter(|part| !part.is_empty()).collect();
    parts.extend(sheet.link.as_ref().map(|link| format!("**[Keep it]({link})**")));
    let members = PEN.members(sheet, DESCRIPTION_MAX / 2 - 7 * sheet.members.len());
    parts.extend(members.into_iter().map(|(title, rest)| format!("**{title}**\n{rest}")));
    parts.extend(sheet.more.clone());
    parts.join("\n\n")
}

fn color(mood: Mood) -> u32 {
    match mood {
        Mood::Critical => 0x00c0_392b,
        Mood::Warning => 0x00e6_7e22,
        Mood::Info => 0x0034_98db,
        Mood::Good => 0x0027_ae60,
    }
}

/// Of punctuation Discord shows the sign alone when a backslash stands before it. Signs that mean something only before
/// certain others stay as they are elsewhere: notifications show the backslashes.
fn escape(c: char, next: Option<char>, out: &mut String) {
    let means_something = match c {
        '\\' | '*' | '_' | '~' | '`' | '|' | '<' | '@' => true,
        // A masked link, an address that would become one.
        ']' => next == Some('('),
        ':' => next == Some('/'),
        // Headings, quotes, lists and small print, at the beginning of a line.
        '#' | '>' | '-' => matches!(next, Some(' ' | '#' | '>')),
        _ => false,
    };
    if means_something {
        out.push('\\');
    }
    out.push(c);
}

#[derive(Serialize)]
struct Message {
    allowed_mentions: Mentions,
    embeds: [Embed; 1],
}

#[derive(Serialize)]
struct Mentions {
    parse: [&'static str; 0],
}

#[derive(Serialize)]
struct Embed {
    title: String,
    description: String,
    color: u32,
    fields: Vec<Field>,
    footer: Footer,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
}

#[derive(Serialize)]
struct Field {
    name: String,
    value: String,
    inline: bool,
}

#[derive(Serialize)]
struct Footer {
    text: String,
}
