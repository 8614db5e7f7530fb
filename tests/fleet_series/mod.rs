//! The fleet's part of the page, line by line: what is shown, for how long, and what hostile names can do to it.

use std::{sync::Arc, time::Duration};

use spheron_watch::{
    model::{
        Feed, FeedHealth, Outcome, Presence, Snapshot, Status, TeamId, Time, Tracked, Usd, VolumeStatus,
    },
    serve::metrics::render,
};

use super::{START, fleet};

fn page(deployments: impl IntoIterator<Item = Tracked>, now: Time) -> String {
    let team = fleet::tracked_team(1, "research", Some(Usd::from_cents(820)), START);
    render(&fleet::view(fleet::snapshot([team], deployments, [], START), START), now)
}

fn after(minutes: u64) -> Time {
    START.plus(Duration::from_secs(60 * minutes))
}

#[test]
fn fault_77_a_hostile_name_stays_inside_its_label() {
    let mut hostile = fleet::tracked(1, 1, Status::Running, START);
    hostile.deployment.name =
        "\"} 1\r\nspheron_balance_usd{team_id=\"x\"} 0\n\\\u{0}\u{1b}[2J\u{202e}<script>".into();
    hostile.deployment.status = Status::from(Arc::from("\n# EOF"));
    let page = page([hostile], START);
    assert!(page.contains(
        r##"name="\"} 1\\u{d}\\u{a}spheron_balance_usd{team_id=\"x\"} 0\\u{a}\\\\u{0}\\u{1b}[2J\\u{202e}<script>","##
    ), "{page}");
    assert!(page.contains(r##"status="\\u{a}# EOF"} 1"##), "{page}");
    assert_eq!(page.lines().filter(|line| line.starts_with("spheron_balance_usd")).count(), 1, "{page}");
}

#[test]
fn fault_81_ten_thousand_hostile_deployments_render_in_bounded_memory() {
    let long = Arc::<str>::from("\u{202e}\"\\x".repeat(2_500));
    let deployments = (0..10_000).map(|n| {
        let mut tracked = fleet::tracked(n, 1, Status::from(Arc::from(format!("{n}{long}"))), START);
        let d = &mut tracked.deployment;
        (d.name, d.gpu_type, d.provider, d.region) =
            (Arc::clone(&long), Arc::clone(&long), Arc::clone(&long), Arc::clone(&long));
        tracked
    });
    let page = page(deployments, START);
    assert!(page.lines().all(|line| line.len() < 2_200), "no line is longer than its capped labels");
    assert!(page.capacity() < 64 << 20, "{} bytes", page.capacity());
}

#[test]
fn an_ended_deployment_keeps_its_final_status_for_fifteen_minutes_and_no_price() {
    let ended = fleet::tracked(1, 1, Status::TerminatedProvider, START);
    let series = |now| {
        let page = page([ended.clone()], now);
        let series = page.lines().filter(|line| line.contains("deployment_id="));
        series.map(|line| line.split('{').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let kept = [
        "spheron_deployment_cost_usd",
        "spheron_deployment_info",
        "spheron_deployment_start_time_seconds",
        "spheron_deployment_status",
    ];
    assert_eq!(series(after(14)), kept);
    assert_eq!(series(after(15)), [""; 0]);
    assert!(page([ended.clone()], after(14)).contains(r#"status="terminated-provider"} 1"#));
    assert!(
        page([ended.clone()], after(15)).contains(r#"status="terminated-provider"} 0"#),
        "its count is zero again"
    );
}

#[test]
fn an_old_account_does_not_bring_back_its_past_at_first_sight() {
    let mut past = fleet::tracked(1, 1, Status::Terminated, START);
    past.status_before = None;
    past.deployment.stopped_at = Some(START.minus(Duration::from_secs(86_400)));
    assert!(!page([past.clone()], START).contains("deployment_id="));
    past.status_before = Some(Status::Running);
    assert!(
        page([past], START).contains("deployment_id="),
        "its end was observed now, whatever the API says"
    );
}

#[test]
fn what_is_gone_without_a_known_end_goes_at_once_and_a_missing_one_stays() {
    let mut running = fleet::tracked(1, 1, Status::Running, START);
    running.presence = Presence::Missing { since: START, not_found: 1 };
    assert!(page([running.clone()], START).contains("deployment_id="), "a list that lacks it is no proof");
    running.presence = Presence::Gone(START);
    assert!(!page([running], START).contains("deployment_id="));
}

#[test]
fn an_unknown_balance_has_no_sample() {
    let mut missing = fleet::tracked_team(2, "b", Some(Usd::from_cents(100)), START);
    missing.unknown_since = Some(START);
    let teams = [
        fleet::tracked_team(1, "a", None, START),
        missing,
        fleet::tracked_team(3, "c", Some(Usd::ZERO), START),
    ];
    let page = render(&fleet::view(fleet::snapshot(teams, [], [], START), START), START);
    let balances: Vec<_> = page.lines().filter(|line| line.starts_with("spheron_balance_usd")).collect();
    assert_eq!(balances, [format!("spheron_balance_usd{{team_id=\"{}\"}} 0", fleet::team(3))]);
    assert_eq!(page.matches("spheron_team_info{").count(), 3);
}

#[test]
fn before_any_list_was_read_there_is_no_burn_rate() {
    let mut snapshot = fleet::snapshot([fleet::tracked_team(1, "a", None, START)], [], [], START);
    snapshot.feeds.clear();
    let burns = |snapshot: Snapshot| {
        let page = render(&fleet::view(snapshot, START), START);
        page.matches("spheron_burn_rate_usd_per_hour{").count()
    };
    assert_eq!(burns(snapshot.clone()), 0);
    let read = FeedHealth { last_usable: Some(START), ..FeedHealth::new(Duration::from_secs(60), START) };
    snapshot.feeds.insert(Feed::Deployments, read);
    assert_eq!(burns(snapshot), 1, "an empty list that came is knowledge");
}

#[test]
fn the_burn_rate_is_what_the_snapshot_says_and_ended_or_gone_things_do_not_burn() {
    let mut gone_volume = fleet::tracked_volume(2, 1, None, START);
    gone_volume.gone_at = Some(START);
    let mut stuck = fleet::tracked(3, 2, Status::Failed, START);
    (stuck.presence, stuck.deployment.stopped_at) = (Presence::Listed, None);
    let snapshot = fleet::snapshot(
        [1, 2, 3].map(|n| fleet::tracked_team(n, "t", None, START)),
        [
            fleet::tracked(1, 1, Status::Running, START),
            fleet::tracked(2, 1, Status::Terminated, START),
            stuck,
        ],
        [fleet::tracked_volume(1, 1, None, START), gone_volume],
        START,
    );
    let of = |team: &TeamId| snapshot.burn_per_hour(team).to_decimal();
    let page = render(&fleet::view(snapshot.clone(), START), after(60));
    for (n, rate) in [(1, "0.7574"), (2, "0.73"), (3, "0")] {
        let team = fleet::team(n);
        assert_eq!(of(&team), rate);
        let line =
            format!("\nspheron_burn_rate_usd_per_hour{{team_id=\"{team}\",kind=\"committed\"}} {rate}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
    assert_eq!(
        page.matches("spheron_deployment_price_usd_per_hour{").count(),
        2,
        "what burns has a price: {page}"
    );
}

#[test]
fn a_volume_is_attached_if_it_says_so_or_names_a_deployment() {
    let mut odd = fleet::tracked_volume(1, 1, Some(1), START);
    odd.volume.status = VolumeStatus::from(Arc::from("moving"));
    let volumes =
        [odd, fleet::tracked_volume(2, 1, None, START), fleet::tracked_volume(3, 1, Some(1), START)];
    let page = render(&fleet::view(fleet::snapshot([], [], volumes, START), START), START);
    let attached: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("spheron_volume_attached{"))
        .map(|line| line.ends_with('1'))
        .collect();
    assert_eq!(attached, [true, false, true]);
}

#[test]
fn up_needs_an_answer_to_both_polls() {
    for (balance, deployments, up) in [
        (Some(Outcome::Complete), Some(Outcome::Partial), 1),
        (Some(Outcome::Failed), Some(Outcome::Complete), 0),
        (Some(Outcome::Complete), None, 0),
    ] {
        let mut snapshot = fleet::snapshot([], [], [], START);
        for (feed, outcome) in [(Feed::Balance, balance), (Feed::Deployments, deployments)] {
            snapshot.feeds.get_mut(&feed).unwrap().last_outcome = outcome;
        }
        let page = render(&fleet::view(snapshot, START), START);
        assert!(page.contains(&format!("\nspheron_up {up}\n")), "{balance:?} {deployments:?}");
    }
}
