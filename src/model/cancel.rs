//! A person's wish to stop one action, and why it may come to nothing.
//!
//! It must never be heard once the DELETE may have been sent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{StageName, Time};

/// A person's wish to stop one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    pub at: Time,
    pub by: Arc<str>,
}

/// Why an action is not stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    #[error("no action of this id is open; `spheron-watch actions` shows those that are")]
    NoSuchAction,
    #[error(
        "nothing is announced by this action, so there is nothing to stop: it says what would be ended; `spheron-watch keep` keeps the deployment"
    )]
    NothingAnnounced,
    #[error("{0}")]
    TooLate(&'static str),
}

impl StageName {
    /// Whether a person's cancel of an action that stands here is heard.
    pub fn cancellable(self) -> Result<(), CancelError> {
        match self.too_late() {
            Some(why) => Err(CancelError::TooLate(why)),
            None if self == Self::Withheld => Err(CancelError::NothingAnnounced),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_can_be_cancelled_until_its_end_is_requested() {
        for stage in StageName::ALL {
            let heard = stage.cancellable();
            match stage {
                StageName::Marked
                | StageName::Announced
                | StageName::Reading
                | StageName::Checking
                | StageName::Committing => assert_eq!(heard, Ok(()), "{stage:?}"),
                StageName::Withheld => assert_eq!(heard, Err(CancelError::NothingAnnounced)),
                StageName::Requested
                | StageName::Verifying
                | StageName::InDoubt
                | StageName::Gone
                | StageName::Refused
                | StageName::Expired
                | StageName::Cancelled => {
                    assert!(matches!(heard, Err(CancelError::TooLate(_))), "{stage:?}");
                }
            }
        }
    }
}
