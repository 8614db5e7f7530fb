//! Keeps: a person's "do not end this one before then".
//!
//! It must never take an end that is past or a slip of the keyboard for one that is meant.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Target, Time, policy::digest};

/// Who that was, where nobody says more.
pub const SOMEBODY: &str = "somebody with access to the socket";
/// Longest text of a name; a reason may be eight times as long. In bytes.
const TEXT_MAX: usize = 256;
/// Whoever wants longer means forever.
const LENGTH_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    pub id: Arc<str>,
    pub target: Target,
    /// `None`: forever.
    pub until: Option<Time>,
    pub by: Arc<str>,
    pub reason: Arc<str>,
    pub at: Time,
}

/// Why a wish is refused, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    #[error("it would end at {0}, which is past; give a later end")]
    Past(Time),
    #[error("it would last longer than a hundred years; give an earlier end, or keep it forever")]
    TooLong,
    #[error("its `{0}` is longer than {1} bytes; shorten it")]
    TextTooLong(&'static str, usize),
    #[error("its `{0}` holds a control character; write it on one line")]
    ControlCharacter(&'static str),
}

impl Keep {
    /// The id derives from the rest but when it was said: who says the same again makes no second one.
    pub fn new(
        target: Target,
        until: Option<Time>,
        by: &str,
        reason: &str,
        at: Time,
    ) -> Result<Self, WishError> {
        let by = said_by(by)?;
        check_text("reason", reason, TEXT_MAX * 8)?;
        match until {
            Some(until) if until <= at => return Err(WishError::Past(until)),
            Some(until) if until.since(at) > LENGTH_MAX => return Err(WishError::TooLong),
            Some(_) | None => {}
        }
        let hash =
            digest(&format!("{}\0{:?}\0{by:?}\0{reason:?}", target.subject(), until.map(Time::millis)));
        let id = format!("kp_{}", hash.get(..16).unwrap_or(&hash)).into();
        Ok(Self { id, target, until, by, reason: reason.into(), at })
    }

    /// A keep from a clock that was ahead holds too: any doubt keeps.
    pub fn holds(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Who wants it, as they say; whoever says nothing had access to the socket.
pub fn said_by(text: &str) -> Result<Arc<str>, WishError> {
    check_text("by", text, TEXT_MAX)?;
    let text = text.trim();
    Ok(if text.is_empty() { SOMEBODY } else { text }.into())
}

fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), WishError> {
    if text.len() > max {
        return Err(WishError::TextTooLong(what, max));
    }
    if text.chars().any(char::is_control) {
        return Err(WishError::ControlCharacter(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeploymentId;

    #[test]
    fn the_same_wish_is_the_same_keep_and_an_end_that_cannot_be_meant_is_refused() {
        let at = Time::from_secs(1_800_000_000);
        let target = |created| Target { id: DeploymentId::new("a"), created_at: Time::from_secs(created) };
        let keep = |created, until, by: &str, reason: &str| Keep::new(target(created), until, by, reason, at);
        let later = Some(at.plus(Duration::from_secs(60)));
        let one = keep(1, later, " ann ", "a demo").unwrap();
        assert_eq!((&*one.by, one.until), ("ann", later));
        assert_eq!(Keep { at: Time::EPOCH, ..one.clone() }.id, one.id);
        let again = Keep::new(target(1), later, "ann", "a demo", at.minus(Duration::from_secs(9))).unwrap();
        assert_eq!(again.id, one.id);
        for other in [
            keep(2, later, "ann", "a demo"),
            keep(1, None, "ann", "a demo"),
            keep(1, later, "", "a demo"),
            keep(1, later, "ann", ""),
        ] {
            assert_ne!(other.unwrap().id, one.id);
        }
        assert_eq!(&*keep(1, None, " ", "").unwrap().by, SOMEBODY);
        for (until, by, reason, error) in [
            (Some(at), "", "".to_owned(), WishError::Past(at)),
            (
                Some(Time::from_millis(i64::MIN)),
                "",
                "".to_owned(),
                WishError::Past(Time::from_millis(i64::MIN)),
            ),
            (Some(Time::from_millis(i64::MAX)), "", "".to_owned(), WishError::TooLong),
            (None, "a\nb", "".to_owned(), WishError::ControlCharacter("by")),
            (None, "", "\u{1b}[2J".to_owned(), WishError::ControlCharacter("reason")),
            (None, "", "x".repeat(2_049), WishError::TextTooLong("reason", 2_048)),
        ] {
            assert_eq!(keep(1, until, by, &reason).unwrap_err(), error);
        }
    }
}
