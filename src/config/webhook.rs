//! `webhook` of a receiver: its format, and what each format needs or cannot use.
//!
//! It must never take a key that its format would ignore: what a person sets is meant to do something.

use super::{
    node::{Node, Read},
    reader::Reader,
    settings::{Chat, ReceiverKind, WebhookFormat},
};

/// Telegram: 5 to 32, and older ones of 4.
const CHAT_NAME_MAX: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Standard,
    Alertmanager,
    Slack,
    Discord,
    Teams,
    Pagerduty,
    Ntfy,
    Telegram,
}

pub(super) fn webhook(r: &mut Reader<'_>) -> Option<ReceiverKind> {
    // Where `url` stands, its refusal says what to do; that `url_file` is missing says nothing new.
    let url_file = if r.has("url") {
        r.read("url_file", Node::path)
    } else {
        r.require("url_file", Node::path, "the file that holds the URL")
    };
    let given = r.has("format");
    let word = r.read("format", word);
    if given && word.is_none() {
        // What the other keys mean depends on it.
        r.read("secret_file", Node::path);
        r.read("chat_id", chat);
        return None;
    }
    let format = format(r, word.unwrap_or(Word::Standard));
    Some(ReceiverKind::Webhook { url_file: url_file?, format: format? })
}

fn format(r: &mut Reader<'_>, word: Word) -> Option<WebhookFormat> {
    let secret_file = match word {
        Word::Pagerduty => {
            r.require("secret_file", Node::path, "the file that holds the integration key (routing key)")
        }
        Word::Standard | Word::Alertmanager | Word::Ntfy => r.read("secret_file", Node::path),
        Word::Slack | Word::Discord | Word::Teams | Word::Telegram => {
            if r.read("secret_file", Node::path).is_some() {
                r.complain("secret_file", "this format has no other secret than its URL; remove it");
            }
            None
        }
    };
    let chat = if word == Word::Telegram {
        r.require("chat_id", chat, "the number of the chat, or the @name of a public channel")
    } else {
        if r.read("chat_id", chat).is_some() {
            r.complain("chat_id", "belongs to format \"telegram\" alone; remove it");
        }
        None
    };
    Some(match word {
        Word::Standard => WebhookFormat::Standard { secret_file },
        Word::Alertmanager => WebhookFormat::Alertmanager { token_file: secret_file },
        Word::Slack => WebhookFormat::Slack,
        Word::Discord => WebhookFormat::Discord,
        Word::Teams => WebhookFormat::Teams,
        Word::Pagerduty => WebhookFormat::Pagerduty { routing_key_file: secret_file? },
        Word::Ntfy => WebhookFormat::Ntfy { token_file: secret_file },
        Word::Telegram => WebhookFormat::Telegram { chat: chat? },
    })
}

fn word(node: &Node) -> Read<Word> {
    node.word(&[
        ("standard", Word::Standard),
        ("alertmanager", Word::Alertmanager),
        ("slack", Word::Slack),
        ("discord", Word::Discord),
        ("teams", Word::Teams),
        ("pagerduty", Word::Pagerduty),
        ("ntfy", Word::Ntfy),
        ("telegram", Word::Telegram),
    ])
}

/// A number, with or without quotes, or `@name`.
fn chat(node: &Node) -> Read<Chat> {
    const ALLOWED: &str =
        "must be the number of a chat, as in -1001234567890, or the @name of a public channel";
    if let Some(id) = node.integer() {
        return if id == 0 { Err(ALLOWED.to_owned()) } else { Ok(Chat::Id(id)) };
    }
    let text = node.text().map_err(|_| ALLOWED.to_owned())?;
    if let Ok(id @ (i64::MIN..=-1 | 1..)) = text.parse() {
        return Ok(Chat::Id(id));
    }
    let name = text.strip_prefix('@').unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.len() <= CHAT_NAME_MAX && name.chars().all(allowed) {
        Ok(Chat::Name(text.to_owned()))
    } else {
        Err(ALLOWED.to_owned())
    }
}
