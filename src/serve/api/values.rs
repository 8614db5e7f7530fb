//! How values are written: money as decimal strings, times as RFC 3339, lists as pages.
//!
//! It must never write money as a JSON number, which readers take for a float.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Look, Source, query::Slice};
use crate::model::{Time, Usd};

/// The version of everything that is written here.
pub const SCHEMA: u32 = 1;

/// US dollars as an exact decimal: `"12.5"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Money(pub Usd);

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_decimal())
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        nanos(&text)
            .map(|nanos| Self(Usd::from_nanos(nanos)))
            .ok_or_else(|| de::Error::custom("no amount of money"))
    }
}

fn nanos(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty()
        || fraction.len() > 9
        || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    let nanos = format!("{whole}{fraction:0<9}").parse::<i128>().ok()?;
    i64::try_from(nanos * sign).ok()
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An instant: `"2026-11-24T10:30:00Z"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(pub Time);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse_rfc3339(&text).map(Self).ok_or_else(|| {
            de::Error::custom("no time as RFC 3339 has it, with an offset, as in 2026-11-24T10:30:00Z")
        })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of a list, in the order of the ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    pub schema: u32,
    pub at: At,
    pub source: Source,
    /// How many there are in all.
    pub total: usize,
    /// How many come before these.
    pub offset: usize,
    pub limit: usize,
    /// The `offset` of the next part; `null` after the last.
    pub next_offset: Option<usize>,
    pub items: Vec<T>,
}

impl<T> Page<T> {
    /// Only what is on the page is written.
    pub fn new<I>(look: Look<'_>, slice: Slice, all: Vec<I>, write: impl FnMut(I) -> T) -> Self {
        let total = all.len();
        let items: Vec<T> = all.into_iter().skip(slice.offset).take(slice.limit).map(write).collect();
        let end = slice.offset.saturating_add(items.len());
        Self {
            schema: SCHEMA,
            at: At(look.now),
            source: look.source,
            total,
            offset: slice.offset,
            limit: slice.limit,
            next_offset: (end < total && !items.is_empty()).then_some(end),
            items,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn money_that_is_none_is_refused() {
        for text in
            ["", "-", ".", "1.2.3", "1e3", "+1", " 1", "0.0000000001", "9999999999999999999999", "--1"]
        {
            assert!(serde_json::from_value::<Money>(text.into()).is_err(), "{text:?}");
        }
        assert!(serde_json::from_str::<Money>("1.5").is_err(), "a number");
    }

    proptest! {
        #[test]
        fn every_amount_comes_back_exactly(nanos in any::<i64>()) {
            let money = Money(Usd::from_nanos(nanos));
            let text = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap(), money);
        }
    }
}
