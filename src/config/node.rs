//! One value of the configuration with its origin, from TOML or the environment, and what it may be read as.
//!
//! It must never put a value into an error text.

use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::error::Origin;
use crate::{
    model::Usd,
    schedule::{length_text, parse_length},
};

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    /// The text of an environment variable: whatever its reader makes of it.
    Raw(String),
    Integer(Option<i64>),
    Float(f64),
    Flag(bool),
    Date,
    List(Vec<Node>),
    Table(Table),
}

/// Key → (origin of the key, value).
pub(super) type Table = BTreeMap<String, (Origin, Node)>;

/// What a reader of a value says: the value, or what is allowed.
pub(super) type Read<T> = Result<T, String>;

impl Node {
    /// `variable` replaces the offsets where the text was that of an environment variable.
    pub(super) fn from_toml(value: Spanned<DeValue<'_>>, variable: Option<&Origin>) -> Self {
        let origin = variable.cloned().unwrap_or(Origin::Text(value.span().start));
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => {
                Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Value::Flag(flag),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => {
                Value::List(items.into_iter().map(|item| Self::from_toml(item, variable)).collect())
            }
            DeValue::Table(table) => Value::Table(table_from_toml(table, variable)),
        };
        Self { origin, value }
    }

    /// Never blank, never with control characters (FAULTS 52).
    pub(super) fn text(&self) -> Read<&str> {
        let (Value::Text(text) | Value::Raw(text)) = &self.value else {
            return Err("must be a string in quotes".to_owned());
        };
        match text.trim() {
            "" => Err("must not be blank; give a value or remove the key".to_owned()),
            text if text.chars().any(char::is_control) => Err("must not hold control characters".to_owned()),
            text => Ok(text),
        }
    }

    pub(super) fn flag(&self) -> Read<bool> {
        match &self.value {
            Value::Flag(flag) => Ok(*flag),
            Value::Raw(text) if text.trim() == "true" => Ok(true),
            Value::Raw(text) if text.trim() == "false" => Ok(false),
            Value::Text(_)
            | Value::Raw(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Date
            | Value::List(_)
            | Value::Table(_) => Err("must be true or false, without quotes".to_owned()),
        }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        match &self.value {
            Value::Integer(number) => *number,
            Value::Raw(text) => text.trim().parse().ok(),
            Value::Text(_)
            | Value::Float(_)
            | Value::Flag(_)
            | Value::Date
            | Value::List(_)
            | Value::Table(_) => None,
        }
    }

    pub(super) fn dollars(&self) -> Read<Usd> {
        #[allow(clippy::cast_precision_loss, reason = "amounts above 10⁹ are refused")]
        let dollars = match &self.value {
            Value::Integer(number) => number.map(|n| n as f64),
            Value::Float(number) => Some(*number),
            Value::Raw(text) => text.trim().parse().ok(),
            Value::Text(_) | Value::Flag(_) | Value::Date | Value::List(_) | Value::Table(_) => None,
        };
        dollars.filter(|dollars| *dollars >= 0.0).and_then(Usd::from_dollars).ok_or_else(|| {
            "must be an amount in USD from 0 to 1000000000, without quotes, as in 25.0".to_owned()
        })
    }

    /// A whole number; `what` it is, for people.
    pub(super) fn whole(&self, what: &str, range: RangeInclusive<u16>) -> Read<u16> {
        let number = self.integer().and_then(|number| u16::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            format!(
                "must be {what}, a whole number from {} to {}, without quotes",
                range.start(),
                range.end()
            )
        })
    }

    /// A share, in thousandths.
    pub(super) fn permille(&self) -> Read<u16> {
        let share = match &self.value {
            Value::Float(number) => Some(*number),
            Value::Raw(text) => text.trim().parse().ok(),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Flag(_)
            | Value::Date
            | Value::List(_)
            | Value::Table(_) => None,
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 999 here")]
        let permille = share
            .map(|share| (share * 1_000.0).round())
            .filter(|p| (1.0..=999.0).contains(p))
            .map(|p| p as u16);
        permille.ok_or_else(|| "must be a share between 0.0 and 1.0, without quotes, as in 0.9".to_owned())
    }

    pub(super) fn length(&self, range: RangeInclusive<Duration>) -> Read<Duration> {
        if let Value::Integer(_) | Value::Float(_) = self.value {
            return Err("a duration needs a unit and quotes, as in \"30s\"".to_owned());
        }
        let text = self.text()?;
        if let "off" | "forever" = text {
            return Err(format!("`{text}` is not allowed here, a duration is, as in \"30m\""));
        }
        let length = parse_length(text).map_err(|e| e.to_string())?;
        if range.contains(&length) {
            return Ok(length);
        }
        Err(format!("must be {} to {}", length_text(*range.start()), length_text(*range.end())))
    }

    /// `None` for the word `off`.
    pub(super) fn length_or_off(&self, range: RangeInclusive<Duration>) -> Read<Option<Duration>> {
        match self.text() {
            Ok("off") => Ok(None),
            Ok("forever") => Err("`forever` is not allowed here, a duration or \"off\" is".to_owned()),
            Ok(_) | Err(_) => self.length(range).map(Some),
        }
    }

    /// `None` for the word `forever`.
    pub(super) fn length_or_forever(&self, range: RangeInclusive<Duration>) -> Read<Option<Duration>> {
        match self.text() {
            Ok("forever") => Ok(None),
            Ok("off") => Err("`off` is not allowed here, a duration or \"forever\" is".to_owned()),
            Ok(_) | Err(_) => self.length(range).map(Some),
        }
    }

    /// Absolute: a daemon has no directory of its own to start from.
    pub(super) fn path(&self) -> Read<PathBuf> {
        let path = PathBuf::from(self.text()?);
        if path.is_absolute() { Ok(path) } else { Err("must be an absolute path".to_owned()) }
    }

    /// One of a few words.
    pub(super) fn word<T: Clone>(&self, words: &[(&'static str, T)]) -> Read<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let text = self.text()?;
        match words.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(format!("must be one of {}{}", names.join(", "), did_you_mean(text, &names))),
        }
    }

    /// The items of a list; an environment variable separates them by commas.
    pub(super) fn items(self) -> Read<Vec<Self>> {
        match self.value {
            Value::List(items) => Ok(items),
            Value::Raw(text) => {
                let item = |text: &str| Self {
                    origin: self.origin.clone(),
                    value: Value::Raw(text.trim().to_owned()),
                };
                Ok(text.split(',').map(item).collect())
            }
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Flag(_)
            | Value::Date
            | Value::Table(_) => Err("must be a list, as in [\"…\"]".to_owned()),
        }
    }
}

pub(super) fn table_from_toml(table: DeTable<'_>, variable: Option<&Origin>) -> Table {
    let entry = |(key, value): (Spanned<_>, _)| {
        let origin = variable.cloned().unwrap_or(Origin::Text(key.span().start));
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (key.into_owned(), (origin, Node::from_toml(value, variable)))
    };
    table.into_iter().map(entry).collect()
}

/// `; did you mean …?` where something is near: at most two slips, or a third of a long word.
pub(super) fn did_you_mean(text: &str, candidates: &[&str]) -> String {
    let text: String = text.chars().take(100).collect();
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(&text, candidate);
    let nearest = candidates.iter().min_by_key(distance).copied();
    let near_enough = (text.chars().count() / 3).max(2);
    match nearest {
        Some(name) if strsim::damerau_levenshtein(&text, name) <= near_enough => {
            format!("; did you mean `{name}`?")
        }
        Some(_) | None => String::new(),
    }
}
