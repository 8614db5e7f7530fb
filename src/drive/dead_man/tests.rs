use std::collections::BTreeMap;

use super::*;
use crate::model::{FeedHealth, Snapshot, Trouble};

const T0: Time = Time::from_secs(1_800_000_000);

fn at(secs: u64) -> Time {
    T0.plus(Duration::from_secs(secs))
}

/// Just committed and polled, with two receivers and the log.
fn well(now: Time) -> View {
    let health = |feed| {
        let health = FeedHealth::new(Duration::from_secs(60), T0);
        (feed, FeedHealth { last_usable: Some(now), ..health })
    };
    let feeds = [Feed::Balance, Feed::Deployments].map(health).into_iter().collect();
    View {
        at: now,
        outbox_at: now,
        snapshot: Arc::new(Snapshot { feeds, ..Snapshot::default() }),
        receivers: Arc::new(vec!["ops".into(), "chat".into(), LOG.into()]),
        ..View::default()
    }
}

/// Tried and not taken since then.
fn waiting(names: &[&str], since: Time) -> BTreeMap<Arc<str>, OutboxDepth> {
    let trouble = Some(Trouble { since, dead: false, why: "T0KEN".into() });
    let depth = OutboxDepth { waiting: 3, oldest: Some(since), trouble };
    names.iter().map(|name| ((*name).into(), depth.clone())).collect()
}

fn judged(view: &View, now: Time) -> Verdict {
    verdict(view, &[], now)
}

#[test]
fn fault_66_a_sign_of_life_needs_fresh_data_a_commit_and_an_outbox() {
    let now = at(10_000);
    assert_eq!(judged(&well(now), now), Verdict::Ping);
    for (why, view) in [
        ("committed", View::default()),
        ("committed", View { at: at(9_800), ..well(now) }),
        ("counted in the outbox", View { outbox_at: at(9_800), ..well(now) }),
        ("no usable poll of balance yet", View { snapshot: Arc::default(), ..well(now) }),
    ] {
        let silence = judged(&view, now);
        assert!(matches!(&silence, Verdict::Silence(said) if said.contains(why)), "{why}: {silence:?}");
    }
}

#[test]
fn fault_66_silence_begins_when_the_last_usable_poll_is_old_by_the_feed_s_own_schedule() {
    let polled = |feed: Feed, ago: u64, interval: u64| {
        let now = at(100_000);
        let mut view = well(now);
        let snapshot = Arc::make_mut(&mut view.snapshot);
        let health = snapshot.feeds.get_mut(&feed).unwrap();
        health.last_usable = Some(now.minus(Duration::from_secs(ago)));
        health.interval = Duration::from_secs(interval);
        judged(&view, now)
    };
    for feed in [Feed::Balance, Feed::Deployments] {
        assert_eq!(polled(feed, 300, 60), Verdict::Ping);
        assert_eq!(
            polled(feed, 360, 60),
            Verdict::Silence(format!("the last usable poll of {feed} was 6m ago"))
        );
        assert_eq!(polled(feed, 3 * 3_600, 3_600), Verdict::Ping, "three intervals of an hourly schedule");
        assert!(matches!(polled(feed, 3 * 3_600 + 1, 3_600), Verdict::Silence(_)));
    }
}

#[test]
fn fault_65_when_every_receiver_is_dead_the_switch_is_told_and_the_log_is_no_receiver() {
    let now = at(10_000);
    let judge =
        |names: &[&str], since: Time| judged(&View { outbox: waiting(names, since), ..well(now) }, now);
    assert_eq!(judge(&["ops"], at(0)), Verdict::Ping, "one of two still works");
    assert_eq!(judge(&["ops", "chat"], at(9_500)), Verdict::Ping, "a retry may still help");
    let Verdict::Fail(why) = judge(&["ops", "chat"], at(9_340)) else { panic!("nobody can be told") };
    assert_eq!(
        why,
        "no alert gets through: ops (has taken no alerts for 11m), chat (has taken no alerts for 11m)"
    );
    assert_eq!(judge(&[LOG], at(0)), Verdict::Ping);
    let alone = View { receivers: Arc::new(vec![LOG.into()]), outbox: waiting(&[LOG], at(0)), ..well(now) };
    assert_eq!(judged(&alone, now), Verdict::Ping, "where the log is all there is nobody expects more");
}

#[test]
fn fault_65_where_alertmanager_is_the_only_way_its_members_count() {
    let now = at(10_000);
    let members = |first, second| [("alertmanager/a".into(), first), ("alertmanager/b".into(), second)];
    let alone = View { receivers: Arc::new(vec![LOG.into()]), ..well(now) };
    let judge = |view: &View, first, second| verdict(view, &members(first, second), now);
    assert_eq!(judge(&alone, Some(at(0)), None), Verdict::Ping);
    assert_eq!(judge(&alone, Some(at(0)), Some(at(9_500))), Verdict::Ping);
    let Verdict::Fail(why) = judge(&alone, Some(at(0)), Some(at(9_340))) else { panic!("all are deaf") };
    assert!(why.contains("alertmanager/b (has taken no alerts for 11m)"), "{why}");
    assert_eq!(judge(&well(now), Some(at(0)), Some(at(0))), Verdict::Ping, "receivers work");
}

#[test]
fn fault_66_blind_and_dead_at_once_is_silence() {
    let now = at(10_000);
    let view = View { at: at(0), outbox: waiting(&["ops", "chat"], at(0)), ..well(now) };
    assert!(matches!(judged(&view, now), Verdict::Silence(_)));
}

#[test]
fn fault_44_a_clock_that_was_set_back_silences_nothing() {
    assert_eq!(judged(&well(at(10_000)), at(0)), Verdict::Ping);
}

#[test]
fn fault_65_a_dead_letter_counts_at_once_and_what_was_never_tried_counts_too() {
    let now = at(10_000);
    let judge = |depth: OutboxDepth| {
        let outbox = ["ops", "chat"].map(|name| (name.into(), depth.clone()));
        judged(&View { outbox: outbox.into(), ..well(now) }, now)
    };
    let dead = Some(Trouble { since: at(9_970), dead: true, why: "T0KEN".into() });
    let Verdict::Fail(why) = judge(OutboxDepth { waiting: 0, oldest: None, trouble: dead }) else {
        panic!("both have given up")
    };
    assert!(why.contains("ops (gave up on the last alert 30s ago)") && !why.contains("T0KEN"), "{why}");
    let untried = |oldest| judge(OutboxDepth { waiting: 1, oldest: Some(oldest), trouble: None });
    assert_eq!(untried(at(9_500)), Verdict::Ping);
    assert!(matches!(untried(at(9_000)), Verdict::Fail(_)));
}
