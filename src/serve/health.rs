//! Whether what we show is fresh: the answer of `/readyz`.
//!
//! It must never count a failed or partial poll as knowledge, nor print what the API wrote without making it harmless.

use std::{fmt::Write as _, time::Duration};

use super::text::visible;
use crate::model::{Feed, FeedHealth, Time, View, humanize};

/// Without these two nothing that matters is known.
const NEEDED: [Feed; 2] = [Feed::Balance, Feed::Deployments];

/// A feed may miss two polls, and five minutes in any case, as the `blind` rule has it (PRODUCT §6).
const LATE_AFTER_INTERVALS: u32 = 3;
const LATE_AFTER_AT_LEAST: Duration = Duration::from_secs(5 * 60);

const TROUBLE_CHARS_MAX: usize = 300;

/// `Ok` if every needed feed is fresh; else one line for each that is not: what, since when, why.
pub fn readiness(view: &View, now: Time) -> Result<(), String> {
    let mut late = String::new();
    for feed in NEEDED {
        let health = view.snapshot.feeds.get(&feed);
        if !health.is_some_and(|health| is_fresh(health, now)) {
            line(&mut late, feed, health, now);
        }
    }
    if late.is_empty() { Ok(()) } else { Err(late) }
}

fn is_fresh(health: &FeedHealth, now: Time) -> bool {
    let limit = health.interval.saturating_mul(LATE_AFTER_INTERVALS).max(LATE_AFTER_AT_LEAST);
    // A poll from far ahead is no fresher than one from far back: the clock was wrong at one of them.
    health.last_complete.is_some_and(|at| now.since(at).max(at.since(now)) < limit)
}

fn line(out: &mut String, feed: Feed, health: Option<&FeedHealth>, now: Time) {
    let text = match health.map(|health| (health.last_complete, health)) {
        Some((Some(at), _)) => {
            format!("{feed}: no complete answer since {at} ({} ago)", humanize(now.since(at)))
        }
        Some((None, health)) => {
            let since = health.watched_since;
            format!(
                "{feed}: no complete answer yet, asked since {since} ({} ago)",
                humanize(now.since(since))
            )
        }
        None => format!("{feed}: not asked yet"),
    };
    out.push_str(&text);
    if let Some(trouble) = health.and_then(|health| health.trouble.as_deref()) {
        // Writing to a String cannot fail.
        let _ = write!(out, ": {}", visible(trouble, TROUBLE_CHARS_MAX));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Snapshot;

    const START: Time = Time::from_secs(1_790_000_000);

    fn view(interval_secs: u64, last_complete: [Option<Time>; 2], trouble: Option<&str>) -> View {
        let mut snapshot = Snapshot::default();
        for (feed, last_complete) in NEEDED.into_iter().zip(last_complete) {
            let mut health = FeedHealth::new(Duration::from_secs(interval_secs), START);
            health.last_complete = last_complete;
            health.trouble = trouble.map(Arc::from);
            snapshot.feeds.insert(feed, health);
        }
        View { snapshot: Arc::new(snapshot), ..View::default() }
    }

    fn after(secs: u64) -> Time {
        START.plus(Duration::from_secs(secs))
    }

    #[test]
    fn a_feed_is_late_after_three_intervals_and_five_minutes() {
        for (interval_secs, age_secs, ready) in
            [(60, 299, true), (60, 300, false), (600, 1_799, true), (600, 1_800, false)]
        {
            let view = view(interval_secs, [Some(START), Some(START)], None);
            assert_eq!(readiness(&view, after(age_secs)).is_ok(), ready, "{age_secs}s of {interval_secs}s");
        }
    }

    #[test]
    fn a_late_feed_says_since_when_and_why_on_one_line() {
        let late = readiness(
            &view(60, [Some(START), Some(after(700))], Some("the API answered 500:\n\u{1b}[2J")),
            after(720),
        );
        assert_eq!(
            late.unwrap_err(),
            "balance: no complete answer since 2026-09-21T14:13:20Z (12m ago): the API answered 500:\\u{a}\\u{1b}[2J\n"
        );
    }

    #[test]
    fn nothing_known_is_not_ready() {
        let unknown = readiness(&View::default(), START).unwrap_err();
        assert_eq!(unknown, "balance: not asked yet\ndeployments: not asked yet\n");
        let waiting = readiness(&view(60, [None, None], None), after(30)).unwrap_err();
        assert_eq!(waiting.lines().count(), 2);
        assert!(
            waiting
                .starts_with("balance: no complete answer yet, asked since 2026-09-21T14:13:20Z (30s ago)\n")
        );
    }

    #[test]
    fn an_answer_from_the_far_future_is_not_fresh() {
        let ahead = Some(after(86_400));
        assert!(readiness(&view(60, [ahead, ahead], None), START).is_err());
    }
}
