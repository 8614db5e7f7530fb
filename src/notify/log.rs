//! The log as a receiver: one event per notice, on one line.
//!
//! It must never print a text that was not made safe.

use super::{render, sanitize};
use crate::model::{Delivery, Notice, Severity, Transition};

pub(super) fn deliver(notice: &Notice) -> Delivery {
    let text = render::one_line(notice);
    let (event, rule) = (sanitize::line(notice.id.as_str(), 80), sanitize::line(&notice.key.rule, 80));
    if is_loud(notice) {
        tracing::warn!(%event, %rule, "{text}");
    } else {
        tracing::info!(%event, %rule, "{text}");
    }
    Delivery::Delivered { detail: "written to the log".to_owned() }
}

fn is_loud(notice: &Notice) -> bool {
    match notice.transition {
        Transition::Firing | Transition::Reminder | Transition::Event => match notice.severity {
            Severity::Critical | Severity::Warning => true,
            Severity::Info => false,
        },
        Transition::Resolved | Transition::Test => false,
    }
}
