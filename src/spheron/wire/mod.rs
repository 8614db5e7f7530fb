//! JSON into model: lists record by record, so that one bad record is unknown and not a failed list.
//!
//! It must never default money, identity or status, keep a secret, or let a value from the answer into an error text.

mod loose;
mod records;

use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

pub use loose::Loose;
pub use records::OfferGroup;

use super::headers::plain_text;
use crate::model::{CanTerminate, Listing, TeamId, Unreadable};

/// More records than this are not taken in from one list, however many pages it has.
pub const RECORDS_MAX: usize = 100_000;
/// The first ones tell what is wrong; the rest is counted.
const UNREADABLE_MAX: usize = 1_000;
/// A documented deployment has 900 bytes, a kubeconfig some 10 kB.
const RECORD_BYTES_MAX: usize = 256 * 1024;

/// Something that comes in lists.
pub trait Record: Sized {
    /// For error texts.
    const WHAT: &'static str;
    /// Under which keys an object may hold the list; a bare array always may.
    const LISTS: &'static [&'static str];
    type Key: Ord + Clone + fmt::Display;

    fn read(json: &str) -> Result<Self, Unreadable>;
    /// `None` where several records of one id are in order.
    fn key(&self) -> Option<&Self::Key>;
    fn team(&self) -> Option<&TeamId>;
}

/// What could be read of one list.
#[derive(Debug)]
pub struct Records<T> {
    pub items: Vec<T>,
    pub unreadable: Vec<Unreadable>,
    /// How many the answer held, read or not.
    pub seen: usize,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self { items: Vec::new(), unreadable: Vec::new(), seen: 0 }
    }
}

impl<T> Records<T> {
    pub fn append(&mut self, mut other: Self) {
        self.items.append(&mut other.items);
        self.items.truncate(RECORDS_MAX);
        self.unreadable.append(&mut other.unreadable);
        self.unreadable.truncate(UNREADABLE_MAX);
        self.seen = self.seen.saturating_add(other.seen);
    }

    fn add(&mut self, record: Result<T, Unreadable>) {
        self.seen = self.seen.saturating_add(1);
        match record {
            Ok(item) if self.items.len() < RECORDS_MAX => self.items.push(item),
            Err(unreadable) if self.unreadable.len() < UNREADABLE_MAX => self.unreadable.push(unreadable),
            Ok(_) | Err(_) => {}
        }
    }
}

impl<T: Record> Records<T> {
    fn take<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut records = Self::default();
        while let Some(raw) = list.next_element::<&RawValue>()? {
            records.add(T::read(raw.get()));
        }
        Ok(records)
    }
}

impl<'de, T: Record> Deserialize<'de> for Records<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Record> Visitor<'de> for ListVisitor<T> {
            type Value = Records<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Records::take(list)
            }
        }

        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// One answer: a bare array, or an object with the list and what it says of pages.
#[derive(Debug)]
pub struct Page<T> {
    /// `None`: an object without any of the keys under which a list may stand.
    pub records: Option<Records<T>>,
    pub total: Option<u64>,
    pub total_pages: Option<u64>,
    pub currency: Option<Arc<str>>,
}

impl<'de, T: Record> Deserialize<'de> for Page<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PageVisitor(PhantomData))
    }
}

struct PageVisitor<T>(PhantomData<T>);

impl<'de, T: Record> Visitor<'de> for PageVisitor<T> {
    type Value = Page<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or an object that holds one")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Ok(Page { records: Some(Records::take(list)?), total: None, total_pages: None, currency: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut page = Page { records: None, total: None, total_pages: None, currency: None };
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                key if T::LISTS.contains(&key) => {
                    if page.records.replace(map.next_value()?).is_some() {
                        return Err(de::Error::custom("two lists in one answer"));
                    }
                }
                "total" => page.total = map.next_value::<Loose<'de>>()?.whole(),
                "totalPages" => page.total_pages = map.next_value::<Loose<'de>>()?.whole(),
                "currency" => page.currency = map.next_value::<Loose<'de>>()?.text().map(cap),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(page)
    }
}

/// A page of a list, or in words what is wrong with the whole answer.
pub fn page<T: Record>(body: &[u8]) -> Result<Page<T>, String> {
    let page: Page<T> = serde_json::from_slice(body).map_err(|error| shape(&error))?;
    if page.records.is_none() {
        return Err(format!("the answer lacks its list of {}s", T::WHAT));
    }
    Ok(page)
}

/// `GET /api/balance`: the documented list of teams, or one team's row as a flat object (`facts.md` §2).
pub fn balances<T: Record>(body: &[u8]) -> Result<Page<T>, String> {
    let mut page: Page<T> = serde_json::from_slice(body).map_err(|error| shape(&error))?;
    if page.records.is_none() {
        let json = std::str::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
        let Ok(row) = T::read(json) else {
            return Err("the answer holds neither teams nor a balance".to_owned());
        };
        page.records = Some(Records { items: vec![row], unreadable: Vec::new(), seen: 1 });
    }
    Ok(page)
}

/// An answer that is one record.
pub fn one<T: Record>(body: &[u8]) -> Result<T, String> {
    let json: &RawValue = serde_json::from_slice(body).map_err(|error| shape(&error))?;
    T::read(json.get()).map_err(|unreadable| unreadable.why.to_string())
}

/// Every field must be there (FAULTS 16); minutes are rounded up.
pub fn can_terminate(body: &[u8]) -> Result<CanTerminate, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        can_terminate: bool,
        #[serde(rename = "runtime")]
        _runtime: f64,
        time_remaining: f64,
        minimum_runtime: f64,
    }
    let wire: Wire = serde_json::from_slice(body).map_err(|error| shape(&error))?;
    match (loose::minutes(wire.time_remaining), loose::minutes(wire.minimum_runtime)) {
        (Some(minutes_remaining), Some(minutes_minimum)) => {
            Ok(CanTerminate { can_terminate: wire.can_terminate, minutes_remaining, minutes_minimum })
        }
        _ => Err("timeRemaining or minimumRuntime is no believable number of minutes".to_owned()),
    }
}

/// The error envelope, in either documented form; texts are plain and short.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// Whether it was a JSON object at all: the host also serves a web app, whose 404 says nothing about a deployment.
    pub is_object: bool,
    pub code: Option<String>,
    pub error: Option<String>,
    pub message: Option<String>,
    pub retry_after: Option<String>,
    /// Minutes of the minimum runtime that remain, rounded up; of a DELETE that came too early.
    pub minutes_remaining: Option<u32>,
    /// Of a DELETE that found nothing to end.
    pub current_status: Option<String>,
}

const QUOTE_CHARS_MAX: usize = 200;

impl ErrorBody {
    pub fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            #[serde(borrow, default)]
            code: Loose<'a>,
            #[serde(borrow, default)]
            error: Loose<'a>,
            #[serde(borrow, default)]
            message: Loose<'a>,
            #[serde(borrow, default)]
            retry_after: Loose<'a>,
            #[serde(borrow, default)]
            time_remaining: Loose<'a>,
            #[serde(borrow, default)]
            current_status: Loose<'a>,
        }
        // A struct may also be read from an array: only an object is an envelope.
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Self::default();
        }
        let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else { return Self::default() };
        let quote = |field: &Loose<'_>| field.text().map(|text| plain_text(text, QUOTE_CHARS_MAX));
        Self {
            is_object: true,
            code: quote(&wire.code),
            error: quote(&wire.error),
            message: quote(&wire.message),
            retry_after: quote(&wire.retry_after)
                .or_else(|| wire.retry_after.whole().map(|secs| secs.to_string())),
            minutes_remaining: wire.time_remaining.number().and_then(loose::minutes),
            current_status: quote(&wire.current_status),
        }
    }
}

/// The list as the model has it, with what makes it suspect: `reasons` first, then duplicates, of which the first is kept.
pub fn listing<T: Record>(records: Records<T>, mut reasons: Vec<String>) -> Listing<T> {
    let Records { mut items, unreadable, seen } = records;
    if seen > items.len() + unreadable.len() {
        reasons.push(format!("only {} of {seen} {}s were taken in", items.len() + unreadable.len(), T::WHAT));
    }
    let mut keys: Vec<&T::Key> = items.iter().filter_map(T::key).collect();
    keys.sort_unstable();
    let twice: Option<String> = keys.windows(2).find_map(|pair| match pair {
        [a, b] if a == b => Some(plain_text(&a.to_string(), 200)),
        _ => None,
    });
    if let Some(id) = twice {
        reasons.push(format!("{} {id} is listed twice", T::WHAT));
        let mut kept = std::collections::BTreeSet::new();
        items.retain(|item| item.key().is_none_or(|key| kept.insert(key.clone())));
    }
    Listing { items, unreadable, suspect: (!reasons.is_empty()).then(|| reasons.join("; ").into()) }
}

/// What is wrong with a body as a whole, without a byte of it.
fn shape(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    match error.classify() {
        Category::Eof => "the answer is empty or ends too early".to_owned(),
        Category::Syntax | Category::Io => {
            format!("the answer is not JSON (line {}, column {})", error.line(), error.column())
        }
        Category::Data => {
            format!(
                "the answer is not what the API documents (line {}, column {})",
                error.line(),
                error.column()
            )
        }
    }
}

/// Names are kept to this many characters.
const TEXT_CHARS_MAX: usize = 256;

fn cap(text: &str) -> Arc<str> {
    if text.len() <= TEXT_CHARS_MAX {
        return text.into();
    }
    let end = text.char_indices().nth(TEXT_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
