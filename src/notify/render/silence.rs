//! The command that silences what a notice tells of, to be copied into a shell.
//!
//! It must never hold a name that a shell or the matcher would read as anything but a name.

use crate::model::{Notice, Subject, Transition};

const VALUE_MAX: usize = 80;

/// `spheron-watch silence add --match rule=low-balance id=tm_7Qx --for 4h`. Nothing for what is over by itself, nor for names
/// that would have to be quoted.
pub(super) fn command(notice: &Notice) -> Option<String> {
    match notice.transition {
        Transition::Firing | Transition::Reminder => {}
        Transition::Resolved | Transition::Event | Transition::Test => return None,
    }
    let together = !notice.together.members.is_empty();
    let about = match &notice.key.subject {
        Subject::Account => None,
        Subject::Occasion { team, .. } => Some(("team", team.as_str())),
        Subject::Team { id } if together => Some(("team", id.as_str())),
        Subject::Team { id } => Some(("id", id.as_str())),
        Subject::Deployment { id, .. } => Some(("id", id.as_str())),
        Subject::Volume { id } => Some(("id", id.as_str())),
    };
    // A group of several rules has no rule of its own, and to silence a whole team is not for us to suggest.
    if notice.together.members.iter().any(|member| member.key.rule != notice.key.rule) {
        return None;
    }
    let matchers: Vec<_> = [("rule", &*notice.key.rule)].into_iter().chain(about).collect();
    if !matchers.iter().all(|(_, value)| is_plain(value)) {
        return None;
    }
    let matchers: Vec<String> = matchers.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(format!("spheron-watch silence add --match {} --for 4h", matchers.join(" ")))
}

fn is_plain(value: &str) -> bool {
    (1..=VALUE_MAX).contains(&value.len())
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@' | b'/'))
}
