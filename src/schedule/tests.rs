//! The oracles are brute force over minutes and croner; neither shares a line with the code under test.

use croner::Cron as Oracle;
use jiff::{Span, civil::DateTime};
use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Time {
    Time::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Every instant of a schedule in a window, by asking again from each answer.
fn fires(text: &str, zone: &TimeZone, from: Time, length: Duration) -> Vec<Time> {
    let schedule = schedule(text);
    let until = from.plus(length);
    let mut found = Vec::new();
    let mut now = from;
    while let Some(next) = schedule.next_after(now, zone, Time::EPOCH).filter(|next| *next <= until) {
        assert!(next > now, "{text}: {next} is not after {now}");
        found.push(next);
        now = next;
    }
    found
}

fn local(at: Time, zone: &TimeZone) -> DateTime {
    zone.to_datetime(at.to_jiff().unwrap())
}

/// The same by looking at every minute: no next-slot arithmetic, and the matching is croner's.
fn brute_force(text: &str, zone: &TimeZone, from: Time, length: Duration) -> Vec<Time> {
    let oracle: Oracle = text.parse().unwrap();
    let matches = |local: &DateTime| oracle.is_time_matching(local).unwrap();
    let mut fields = text.split(' ');
    let wildcard = [fields.next().unwrap(), fields.next().unwrap()].iter().any(|f| f.starts_with('*'));
    // Starts early, so that passes and gaps before the window are seen.
    let (mut now, until) = (from.minus(MINUTE * 300), from.plus(length));
    let mut latest = local(now, zone);
    let mut found = Vec::new();
    loop {
        now = now.plus(MINUTE);
        if now > until {
            break;
        }
        let here = local(now, zone);
        if matches(&here) && (wildcard || here > latest) {
            found.push(now);
        }
        // The wall clock jumped: the minutes it left out come as much later as the jump is long.
        let mut skipped = latest.checked_add(Span::new().minutes(1)).unwrap();
        let mut shifted = now;
        while !wildcard && skipped < here {
            if matches(&skipped) {
                found.push(shifted);
            }
            skipped = skipped.checked_add(Span::new().minutes(1)).unwrap();
            shifted = shifted.plus(MINUTE);
        }
        latest = latest.max(here);
    }
    found.sort();
    found.dedup();
    found.retain(|at| *at > from && *at <= until);
    found
}

/// Zone and the UTC instant of a clock change: an hour either way, half an hour, two hours, at midnight, east and west.
const CHANGES: [(&str, &str); 16] = [
    ("America/New_York", "2027-03-14T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Europe/Berlin", "2027-03-28T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("Europe/Dublin", "2026-10-25T01:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Australia/Lord_Howe", "2027-04-03T15:00:00Z"),
    ("Antarctica/Troll", "2027-03-28T01:00:00Z"),
    ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
    ("Asia/Beirut", "2027-03-27T22:00:00Z"),
    ("Asia/Beirut", "2026-10-24T21:00:00Z"),
    ("America/Havana", "2027-03-14T05:00:00Z"),
    ("America/Havana", "2026-11-01T05:00:00Z"),
    ("Pacific/Auckland", "2026-09-26T14:00:00Z"),
    ("Asia/Kathmandu", "2026-10-25T01:00:00Z"),
    ("UTC", "2026-10-25T01:00:00Z"),
];

#[test]
fn around_clock_changes_every_minute_agrees_with_brute_force() {
    for (name, change) in CHANGES {
        let zone = zone(name);
        for text in [
            "*/10 * * * *",
            "*/30 * * * *",
            "0 * * * *",
            "*/7 */2 * * *",
            "30 2 * * *",
            "0 0 * * *",
            "15,45 0-3 * * *",
            "0 3 * * *",
            "59 1 1-31 * SUN",
            "30 * * * SAT,SUN",
            "10 23 * * 6",
        ] {
            for (hours_before, hours) in [(3, 20), (0, 5)] {
                let from = at(change).minus(Duration::from_secs(hours_before * 3_600 + 17 * 60));
                let length = Duration::from_secs(hours * 3_600);
                assert_eq!(
                    fires(text, &zone, from, length),
                    brute_force(text, &zone, from, length),
                    "{text} in {name} from {from}"
                );
            }
        }
    }
}

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let item = prop_oneof![
        (min..=max).prop_map(|a| a.to_string()),
        (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        (min..=max, min..=max, 1..=5_u32).prop_map(|(a, b, s)| format!("{}-{}/{s}", a.min(b), a.max(b))),
    ];
    prop_oneof![
        2 => Just("*".to_owned()),
        1 => (2..=7_u32).prop_map(|s| format!("*/{s}")),
        3 => prop::collection::vec(item, 1..3).prop_map(|items| items.join(",")),
    ]
}

/// Without `*/n`, which croner counts as a restriction and Vixie as a star.
fn day_field(min: u32, max: u32) -> impl Strategy<Value = String> {
    field(min, max).prop_map(|text| if text.starts_with('*') { "*".to_owned() } else { text })
}

fn weekday_field() -> impl Strategy<Value = String> {
    let day = || prop::sample::select(vec!["SUN", "mon", "Tue", "WED", "thu", "FRI", "sat"]);
    prop_oneof![
        day_field(0, 6),
        (0..=6_u32).prop_map(|a| format!("{a}-7")),
        Just("7".to_owned()),
        prop::collection::vec(day(), 1..4).prop_map(|days| days.join(",")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_schedule_agrees_with_brute_force_around_any_clock_change(
        (minute, hour, day, month, weekday) in
            (field(0, 59), field(0, 23), day_field(1, 28), day_field(1, 12), weekday_field()),
        (name, change) in prop::sample::select(CHANGES.to_vec()),
        offset_secs in 0..20_000_u64,
    ) {
        let text = format!("{minute} {hour} {day} {month} {weekday}");
        let zone = zone(name);
        let from = at(change).minus(Duration::from_secs(offset_secs / 60 * 60));
        let length = Duration::from_secs(12 * 3_600);
        prop_assert_eq!(
            fires(&text, &zone, from, length),
            brute_force(&text, &zone, from, length),
            "{} in {} from {}", text, name, from
        );
    }

    #[test]
    fn any_weekdays_expand_as_croner_expands_them(weekday in weekday_field(), day in day_field(1, 31)) {
        let text = format!("0 12 {day} * {weekday}");
        let oracle: Oracle = text.parse().unwrap();
        let schedule = schedule(&text);
        let mut now = at("2026-11-24T10:30:00Z");
        for _ in 0..12 {
            let start = now.to_jiff().unwrap().to_zoned(TimeZone::UTC);
            let expected = oracle.find_next_occurrence(&start, false).unwrap();
            now = schedule.next_after(now, &TimeZone::UTC, Time::EPOCH).unwrap();
            prop_assert_eq!(now.millis(), expected.timestamp().as_millisecond(), "{}", text);
        }
    }

    #[test]
    fn any_text_is_a_schedule_or_an_error_and_never_a_panic(text in "[@*/,0-9a-z -]{0,24}") {
        if let Ok(schedule) = Schedule::parse(&text) {
            for now in [i64::MIN, -1, 0, 1_800_000_000_000, 5_000_000_000_000, i64::MAX] {
                let now = Time::from_millis(now);
                if let Some(next) = schedule.next_after(now, &TimeZone::UTC, Time::from_secs(7)) {
                    prop_assert!(next > now);
                }
            }
            prop_assert!(schedule.min_interval() <= schedule.max_interval());
        }
    }

    #[test]
    fn every_comes_within_one_interval_wherever_the_clock_is(
        secs in 10..86_400_u64, anchor in any::<i32>(), now in any::<i32>()
    ) {
        let schedule = Schedule::every(Duration::from_secs(secs)).unwrap();
        let (anchor, now) = (Time::from_secs(anchor.into()), Time::from_secs(now.into()));
        let next = schedule.next_after(now, &TimeZone::UTC, anchor).unwrap();
        prop_assert!(next > now && next.since(now) <= Duration::from_secs(secs));
        prop_assert_eq!((next.secs() - anchor.secs()).rem_euclid(i64::try_from(secs).unwrap()), 0);
    }
}

#[test]
fn weekday_forms_mean_what_vixie_means() {
    // 2026-11-22 is a Sunday.
    for (weekday, days) in [
        ("0", vec![22, 29]),
        ("7", vec![22, 29]),
        ("sun", vec![22, 29]),
        ("7-7", vec![22, 29]),
        ("FRI-MON", vec![22, 23, 27, 28, 29]),
        ("5-1", vec![22, 23, 27, 28, 29]),
        ("fri-mon/2", vec![22, 27, 29]),
        ("6-7", vec![22, 28, 29]),
        ("7-1", vec![22, 23, 29]),
        ("1-5", vec![23, 24, 25, 26, 27]),
        ("0-7", vec![22, 23, 24, 25, 26, 27, 28, 29]),
    ] {
        let from = at("2026-11-21T23:00:00Z");
        let found =
            fires(&format!("0 12 * * {weekday}"), &TimeZone::UTC, from, Duration::from_secs(8 * 86_400));
        let found: Vec<i8> = found.into_iter().map(|at| local(at, &TimeZone::UTC).day()).collect();
        assert_eq!(found, days, "{weekday}");
    }
}

#[test]
fn two_restricted_day_fields_mean_either_and_a_star_means_both() {
    let days = |text: &str| {
        let found = fires(text, &TimeZone::UTC, at("2026-11-01T00:00:00Z"), Duration::from_secs(15 * 86_400));
        found.into_iter().map(|at| local(at, &TimeZone::UTC).day()).collect::<Vec<_>>()
    };
    assert_eq!(days("0 12 13 * MON"), [2, 9, 13], "either");
    assert_eq!(days("0 12 */2 * MON"), [9], "a star with a step is still a star: odd days that are Mondays");
    assert_eq!(days("0 12 31 2 MON"), Vec::<i8>::new(), "February only");
}

#[test]
fn nicknames_are_what_croner_takes_them_for() {
    for name in ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"] {
        let oracle: Option<Oracle> = name.replace("@midnight", "@daily").parse().ok();
        let mut now = at("2026-11-24T10:30:00Z");
        for _ in 0..3 {
            let start = now.to_jiff().unwrap().to_zoned(TimeZone::UTC);
            let expected = oracle.as_ref().unwrap().find_next_occurrence(&start, false).unwrap();
            now = schedule(name).next_after(now, &TimeZone::UTC, Time::EPOCH).unwrap();
            assert_eq!(now.millis(), expected.timestamp().as_millisecond(), "{name}");
        }
    }
}

#[test]
fn fault_46_missed_ticks_are_skipped_and_not_made_up_for() {
    let anchor = at("2026-11-24T10:00:07Z");
    let every = schedule("every 60s");
    let late = anchor.plus(Duration::from_secs(3_601));
    assert_eq!(every.next_after(late, &TimeZone::UTC, anchor), Some(at("2026-11-24T11:01:07Z")));
    let cron = schedule("*/5 * * * *");
    assert_eq!(cron.next_after(late, &TimeZone::UTC, anchor), Some(at("2026-11-24T11:05:00Z")));
}

#[test]
fn fault_44_a_clock_that_steps_back_delays_every_by_one_interval_at_most() {
    let anchor = at("2026-11-24T10:00:07Z");
    let every = schedule("every 60s");
    assert_eq!(
        every.next_after(at("2026-11-24T08:30:00Z"), &TimeZone::UTC, anchor),
        Some(at("2026-11-24T08:30:07Z"))
    );
    assert_eq!(
        every.next_after(at("1970-01-01T00:00:00Z"), &TimeZone::UTC, anchor),
        Some(at("1970-01-01T00:00:07Z"))
    );
    assert_eq!(every.next_after(anchor, &TimeZone::UTC, anchor), Some(anchor.plus(MINUTE)), "strictly after");
}

#[test]
fn fault_47_a_slot_in_a_gap_runs_that_day_as_much_later_as_the_gap_is_long() {
    let found =
        |text: &str| fires(text, &zone("America/New_York"), at("2027-03-14T05:00:00Z"), MINUTE * 60 * 26);
    assert_eq!(found("30 2 * * *"), [at("2027-03-14T07:30:00Z"), at("2027-03-15T06:30:00Z")], "03:30 EDT");
    assert_eq!(found("0 3 * * *"), [at("2027-03-14T07:00:00Z"), at("2027-03-15T07:00:00Z")]);
    assert_eq!(
        found("0,30 2-3 14 3 *"),
        [at("2027-03-14T07:00:00Z"), at("2027-03-14T07:30:00Z")],
        "not twice"
    );
    assert_eq!(
        fires("@daily", &zone("Asia/Beirut"), at("2027-03-27T21:00:00Z"), MINUTE * 60 * 20),
        [at("2027-03-27T22:00:00Z")],
        "a midnight that does not exist"
    );
}

#[test]
fn fault_47_a_fixed_slot_in_an_overlap_runs_once_and_a_wildcard_goes_on_with_the_clock() {
    let berlin = zone("Europe/Berlin");
    let found = |text: &str| fires(text, &berlin, at("2026-10-24T23:30:00Z"), MINUTE * 180);
    assert_eq!(found("30 2 * * *"), [at("2026-10-25T00:30:00Z")], "the first 02:30, CEST");
    assert_eq!(
        found("30 * * * *"),
        [at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"), at("2026-10-25T02:30:00Z")]
    );
    let inside_second_pass = at("2026-10-25T01:15:00Z");
    assert_eq!(
        schedule("*/30 * * * *").next_after(inside_second_pass, &berlin, Time::EPOCH),
        Some(at("2026-10-25T01:30:00Z")),
        "never 45 minutes in the past"
    );
}

#[test]
fn what_is_no_schedule_says_what_would_be() {
    const SHAPE: &str = "must be \"every D\", a nickname such as \"@hourly\", or cron with 5 fields: minute hour day-of-month month day-of-week";
    for (text, message) in [
        ("", SHAPE),
        ("60s", SHAPE),
        ("* * * *", SHAPE),
        ("0 * * * * *", SHAPE),
        ("off", SHAPE),
        ("every", "`every` takes one duration, as in \"every 60s\""),
        ("every 1m 30s", "`every` takes one duration, as in \"every 60s\""),
        ("every 60", "`every`: a duration needs a unit: s, m, h, d or w, as in \"30m\""),
        ("every 9s", "`every` takes 10s to 1d; for longer use cron, as in \"@weekly\""),
        ("every 2d", "`every` takes 10s to 1d; for longer use cron, as in \"@weekly\""),
        (
            "@reboot",
            "no such nickname; there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually",
        ),
        ("60 * * * *", "minute: must be 0 to 59"),
        ("*/90 * * * *", "minute: a step must be 1 to 59"),
        ("*/0 * * * *", "minute: a step must be 1 to 59"),
        ("5/15 * * * *", "minute: a step needs a range or `*` before it, as in `0-59/5` or `*/5`"),
        ("* 22-2 * * *", "hour: a range must go upwards"),
        ("* * 0 * *", "day-of-month: must be 1 to 31"),
        ("* * L * *", "day-of-month: must be 1 to 31"),
        ("* * ? * *", "day-of-month: must be 1 to 31"),
        ("* * * 13 *", "month: must be 1 to 12 or jan to dec"),
        ("* * * * 8", "day-of-week: must be 0 to 7 or sun to sat"),
        ("* * * * MON#1", "day-of-week: must be 0 to 7 or sun to sat"),
        ("1,,2 * * * *", "minute: must be 0 to 59"),
        ("0 0 31 2 *", "no such date ever comes: check day-of-month and month"),
        ("0 0 30 feb *", "no such date ever comes: check day-of-month and month"),
        ("0 0 31 4,6,9,11 *", "no such date ever comes: check day-of-month and month"),
    ] {
        assert_eq!(Schedule::parse(text).map_err(|e| e.to_string()), Err(message.to_owned()), "{text:?}");
    }
}

#[test]
fn a_leap_day_comes_and_the_text_stays() {
    let leap = schedule("  0 0 29 2 * ");
    assert_eq!(leap.to_string(), "0 0 29 2 *");
    let next = leap.next_after(at("2026-11-24T10:30:00Z"), &TimeZone::UTC, Time::EPOCH);
    assert_eq!(next, Some(at("2028-02-29T00:00:00Z")));
    assert_eq!(leap.next_after(at("2100-03-01T00:00:00Z"), &TimeZone::UTC, Time::EPOCH), None);
}

#[test]
fn intervals_and_calls_are_those_of_the_busiest_time() {
    for (text, shortest, longest, calls) in [
        ("every 60s", 60, 60, 15.0),
        ("every 1h", 3_600, 3_600, 0.25),
        ("@hourly", 3_600, 3_600, 0.25),
        ("*/7 * * * *", 240, 420, 2.25),
        ("*/5 9-17 * * MON-FRI", 300, 16 * 3_600 + 300 - 3_600 + 48 * 3_600, 3.0),
        ("@weekly", 7 * 86_400, 7 * 86_400, 0.25),
        ("@monthly", 28 * 86_400, 31 * 86_400, 0.25),
        ("* * * * *", 60, 60, 15.0),
        ("0 23,1 * * *", 2 * 3_600, 22 * 3_600, 0.25),
    ] {
        let schedule = schedule(text);
        assert_eq!(schedule.min_interval().as_secs(), shortest, "shortest of {text}");
        assert_eq!(schedule.max_interval().as_secs(), longest, "longest of {text}");
        assert!((schedule.calls_per_15m(1.0) - calls).abs() < 1e-9, "calls of {text}");
    }
}
