//! Silences: what a person does not want to hear of for a while, and why.
//!
//! It must never make an alert untrue: a silenced alert fires, it is just not told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Label, Time};

/// Longest text of a matcher, an author or an id; a comment may be eight times as long. In bytes.
const TEXT_MAX: usize = 256;
const LENGTH_MAX: Duration = Duration::from_secs(366 * 86_400);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    pub id: Arc<str>,
    /// Keys AND; each a glob over a `Label` of the alert. Never empty.
    pub matchers: BTreeMap<Arc<str>, Arc<str>>,
    pub starts: Time,
    pub ends: Time,
    pub author: Arc<str>,
    pub comment: Arc<str>,
}

/// Why a silence is refused, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    #[error(
        "a silence needs a matcher: without one it would silence everything; give one, as in rule=low-balance"
    )]
    Empty,
    #[error(
        "`{0}` is no label of an alert; use one of rule, kind, severity, team, name, id, gpu_type, provider, region, instance_type"
    )]
    UnknownLabel(String),
    #[error("the matcher of `{0}` is empty; give a text, with * and ? for what varies")]
    EmptyMatcher(&'static str),
    #[error("it ends at {ends}, not after {starts}, when it starts; give a later end")]
    Backwards { starts: Time, ends: Time },
    #[error("it lasts longer than a year; give an earlier end, or change the rule")]
    TooLong,
    #[error("its {0} is longer than {1} bytes; shorten it")]
    TextTooLong(&'static str, usize),
    #[error("its {0} holds a control character; write it on one line")]
    ControlCharacter(&'static str),
    #[error("there are {0} silences already; end those that are not needed")]
    TooMany(usize),
}

impl Silence {
    /// The id derives from all the rest: asking twice for the same makes one silence.
    pub fn new(
        matchers: BTreeMap<Arc<str>, Arc<str>>,
        starts: Time,
        ends: Time,
        author: Arc<str>,
        comment: Arc<str>,
    ) -> Result<Self, SilenceError> {
        let text = format!("{matchers:?}\0{}\0{}\0{author:?}\0{comment:?}", starts.millis(), ends.millis());
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let silence = Self { id: format!("sil_{hex}").into(), matchers, starts, ends, author, comment };
        silence.check()?;
        Ok(silence)
    }

    /// Everything in it may come from outside.
    pub fn check(&self) -> Result<(), SilenceError> {
        if self.matchers.is_empty() {
            return Err(SilenceError::Empty);
        }
        for (key, glob) in &self.matchers {
            let Some(label) = Label::parse(key) else {
                return Err(SilenceError::UnknownLabel(
                    key.chars().take(40).flat_map(char::escape_debug).collect(),
                ));
            };
            if glob.is_empty() {
                return Err(SilenceError::EmptyMatcher(label.as_str()));
            }
            check_text(label.as_str(), glob, TEXT_MAX)?;
        }
        check_text("id", &self.id, TEXT_MAX)?;
        check_text("author", &self.author, TEXT_MAX)?;
        check_text("comment", &self.comment, TEXT_MAX * 8)?;
        if self.ends <= self.starts {
            return Err(SilenceError::Backwards { starts: self.starts, ends: self.ends });
        }
        if self.ends.since(self.starts) > LENGTH_MAX {
            return Err(SilenceError::TooLong);
        }
        Ok(())
    }

    pub fn is_active(&self, now: Time) -> bool {
        self.starts <= now && now < self.ends
    }
}

fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), SilenceError> {
    if text.len() > max {
        return Err(SilenceError::TextTooLong(what, max));
    }
    if text.chars().any(char::is_control) {
        return Err(SilenceError::ControlCharacter(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(
        matchers: &[(&str, &str)],
        starts: i64,
        ends: i64,
        comment: &str,
    ) -> Result<Silence, SilenceError> {
        let matchers = matchers.iter().map(|(key, glob)| (Arc::from(*key), Arc::from(*glob))).collect();
        Silence::new(matchers, Time::from_secs(starts), Time::from_secs(ends), "ann".into(), comment.into())
    }

    #[test]
    fn a_silence_that_would_hide_more_than_meant_is_refused() {
        let year = 366 * 86_400;
        for (matchers, starts, ends, comment, expected) in [
            (&[][..], 0, 1, "", SilenceError::Empty),
            (&[("rul", "x")], 0, 1, "", SilenceError::UnknownLabel("rul".into())),
            (&[("name", "")], 0, 1, "", SilenceError::EmptyMatcher("name")),
            (&[("name", "a\nb")], 0, 1, "", SilenceError::ControlCharacter("name")),
            (
                &[("rule", "x")],
                1,
                1,
                "",
                SilenceError::Backwards { starts: Time::from_secs(1), ends: Time::from_secs(1) },
            ),
            (&[("rule", "x")], 0, year + 1, "", SilenceError::TooLong),
            (&[("rule", "x")], 0, 1, "\u{1b}[2J", SilenceError::ControlCharacter("comment")),
        ] {
            assert_eq!(silence(matchers, starts, ends, comment), Err(expected));
        }
        let long = "x".repeat(257);
        assert_eq!(silence(&[("id", &long)], 0, 1, ""), Err(SilenceError::TextTooLong("id", 256)));
        assert!(silence(&[("rule", "*"), ("team", "r?")], 0, year, &"c".repeat(2_048)).is_ok());
    }

    #[test]
    fn the_same_silence_has_one_id_and_another_another() {
        let id = |glob: &str| silence(&[("rule", glob)], 0, 9, "maintenance").unwrap().id;
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("b"));
    }

    #[test]
    fn a_silence_holds_from_its_start_to_just_before_its_end() {
        let silence = silence(&[("rule", "a")], 10, 20, "").unwrap();
        let active = [9, 10, 19, 20].map(|secs| silence.is_active(Time::from_secs(secs)));
        assert_eq!(active, [false, true, true, false]);
    }
}
