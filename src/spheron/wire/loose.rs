//! A JSON value whose type is not to be relied upon: what fits is taken, anything else is nothing.
//!
//! It must never be used for money, identity or status: those are strict.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

#[derive(Debug, Default)]
pub enum Loose<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Bool(bool),
    /// Missing, null, a list or an object; their contents are dropped unread.
    #[default]
    Nothing,
}

impl Loose<'_> {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Bool(_) | Self::Nothing => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Bool(_) | Self::Nothing => None,
        }
    }

    /// A whole number, be it written as 8, 8.0 or "8".
    pub fn whole(&self) -> Option<u64> {
        match self {
            Self::Number(number) => whole(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Bool(_) | Self::Nothing => None,
        }
    }

    pub fn is_true(&self) -> bool {
        match self {
            Self::Bool(is) => *is,
            Self::Text(_) | Self::Number(_) | Self::Nothing => false,
        }
    }
}

/// Rounded to the nearest; `None` below zero and beyond 2⁵³, where an f64 no longer counts by ones.
pub fn whole(number: f64) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded to 0..=2⁵³")]
    (0.0..=9_007_199_254_740_992.0).contains(&number).then(|| number.round() as u64)
}

/// Minutes that may be fractional, rounded up; `None` beyond ten years.
pub fn minutes(minutes: f64) -> Option<u32> {
    let minutes = (0.0..=5_256_000.0).contains(&minutes).then(|| minutes.ceil())?;
    whole(minutes).and_then(|minutes| u32::try_from(minutes).ok())
}

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Loose::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Loose::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E: de::Error>(self, is: bool) -> Result<Self::Value, E> {
        Ok(Loose::Bool(is))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Loose::Number(number))
    }

    #[allow(clippy::cast_precision_loss, reason = "beyond 2⁵³ it is not taken anyway")]
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Loose::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss, reason = "beyond 2⁵³ it is not taken anyway")]
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Loose::Number(number as f64))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Loose::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose::Nothing)
    }
}
