//! ntfy: one message, published as JSON to the server whose topic the address names.
//!
//! It must never send more than a message holds: ntfy would make an attachment of it, or refuse it.

use reqwest::Url;
use serde::Serialize;

use super::{
    super::render::{Mood, Sheet},
    pen::{Pen, Unit, plain},
};
use crate::model::Notice;

/// ntfy: 4,096 bytes of message, and 8,192 of JSON.
const MESSAGE_MAX: usize = 4_000;
const TITLE_MAX: usize = 250;
const TOPIC_MAX: usize = 64;

const PEN: Pen = Pen { unit: Unit::JsonBytes, escape: plain };

/// The address to publish to and the topic, from `https://ntfy.example.org/TOPIC`.
pub(super) fn split(url: &Url) -> Result<(Url, String), &'static str> {
    const WRONG: &str = "must be that of a topic, as in https://ntfy.sh/TOPIC";
    let segments: Vec<&str> = url.path_segments().ok_or(WRONG)?.collect();
    let (topic, before) = segments.split_last().ok_or(WRONG)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if topic.is_empty() || topic.len() > TOPIC_MAX || !topic.chars().all(allowed) {
        return Err(WRONG);
    }
    let mut base = url.clone();
    let path: String = before.iter().map(|segment| format!("/{segment}")).collect();
    base.set_path(&format!("{path}/"));
    Ok((base, (*topic).to_owned()))
}

pub fn body(notice: &Notice, topic: &str) -> Result<Vec<u8>, serde_json::Error> {
    let sheet = Sheet::of(notice);
    let (priority, tag) = match sheet.mood {
        Mood::Critical => (5, "rotating_light"),
        Mood::Warning => (4, "warning"),
        Mood::Info => (3, "information_source"),
        Mood::Good => (3, "white_check_mark"),
    };
    serde_json::to_vec(&Message {
        topic,
        title: PEN.headline(&sheet, TITLE_MAX),
        message: PEN.page(&sheet, "", MESSAGE_MAX),
        priority,
        tags: [tag],
        click: sheet.link.clone(),
    })
}

#[derive(Serialize)]
struct Message<'a> {
    topic: &'a str,
    title: String,
    message: String,
    priority: u8,
    tags: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    click: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_the_last_part_of_an_address_and_the_rest_is_where_to_publish() {
        for (url, expected) in [
            ("https://ntfy.sh/gpu-alerts", Some(("https://ntfy.sh/", "gpu-alerts"))),
            ("https://example.org/ntfy/gpu?auth=abc", Some(("https://example.org/ntfy/?auth=abc", "gpu"))),
            ("https://ntfy.sh/", None),
            ("https://ntfy.sh", None),
            ("https://ntfy.sh/a%20b", None),
            ("https://ntfy.sh/gpu/", None),
        ] {
            let split = split(&Url::parse(url).unwrap()).ok();
            let split = split.as_ref().map(|(base, topic)| (base.as_str(), topic.as_str()));
            assert_eq!(split, expected, "{url}");
        }
    }
}
