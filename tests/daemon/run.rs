//! A daemon that is started with next to nothing, and what it tells while it runs.

use std::time::Duration;

use spheron_watch::{
    model::Usd,
    sim::{Event, Spec},
};

use crate::lab::{Hook, Lab, fleet, stopwatch, until};

#[test]
fn with_a_key_and_an_address_alone_it_watches_serves_metrics_and_logs_alerts() {
    let lab = Lab::new(|world, now| {
        let team = world.add_team("research", "owner", Usd::from_cents(2_120));
        world.deploy(now.minus(Duration::from_secs(26 * 3_600)), Spec::new(&team, "forgotten"));
        world.add_team("tools", "admin", Usd::from_cents(50_000));
    });
    let began = stopwatch();
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    let took = began();
    assert!(took < Duration::from_secs(5), "the first complete observation took {took:?}");

    let balances = daemon.metric("spheron_balance_usd");
    assert_eq!(balances.len(), 2, "{balances:?}");
    assert_eq!(daemon.metric("spheron_up").values().copied().collect::<Vec<_>>(), [1.0]);
    let (status, page) = daemon.get("/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(page.contains("name=\"forgotten\"") && page.contains("spheron_watch_build_info"), "{page}");
    until("the alerts in the log", || {
        let log = daemon.log();
        (log.contains("low-balance") && log.contains("running-long")).then_some(())
    });
    let log = daemon.log();
    assert!(log.contains("low balance: research has $"), "{log}");
    assert!(log.contains("forgotten") && log.contains("config=\"none: defaults\""), "{log}");
    assert!(!log.contains('\u{1b}'), "no colours into a file: {log}");
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(lab.world().mutations().is_empty() && lab.world().teams_created() == 0, "it only looks");
    let readme = include_str!("../../README.md");
    let table = readme.split_once("| It asks | Why |").unwrap().1.split("\n\n").next().unwrap();
    for target in lab.world().calls().keys() {
        let call = target.split('?').next().unwrap();
        assert!(table.contains(&format!("`{call}`")), "the README does not say that it asks {call}");
    }
}

#[test]
fn what_was_told_is_not_told_again_by_the_next_process() {
    let mut team = None;
    let lab = Lab::new(|world, _| team = Some(world.add_team("research", "owner", Usd::from_cents(820))));
    let hook = Hook::new();
    lab.config(&[("hook", &hook)], "");
    let mut daemon = lab.start();
    hook.wait_for("low-balance", "alert.firing");
    assert_eq!(daemon.terminate().code(), Some(0));
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    lab.happens(Event::TopUp(team.unwrap(), Usd::from_cents(9_000)));
    daemon.reload();
    hook.wait_for("low-balance", "alert.resolved");
    let told: Vec<String> = hook.sent().iter().map(|sent| sent.what().to_owned()).collect();
    assert_eq!(told, ["alert.firing", "alert.resolved"]);
}

#[test]
fn fault_09_a_key_that_is_revoked_is_told() {
    let lab = Lab::quiet();
    let hook = Hook::new();
    lab.config(&[("hook", &hook)], "");
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    lab.happens(Event::RevokeKey);
    daemon.reload();
    let sent = hook.wait_for("key-rejected", "alert.firing");
    assert_eq!(sent.body["data"]["severity"], "critical");
    assert!(daemon.metric("spheron_balance_usd").len() == 1, "the last balance is still shown");
}

#[test]
fn spot_reclaims_and_a_shrunken_fleet_are_told_once_each() {
    let mut spots = Vec::new();
    let lab = Lab::new(|world, now| spots = fleet(world, now, 2).1);
    let hook = Hook::new();
    lab.config(&[("hook", &hook)], "");
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    for spot in &spots {
        lab.happens(Event::Reclaim(spot.clone()));
    }
    daemon.reload();
    until("two reclaims", || {
        let told = hook.sent().iter().filter(|sent| sent.rule() == "spot-interrupted").count();
        (told == 2).then_some(())
    });
    let mut told: Vec<String> = hook.sent().iter().map(|sent| sent.subject().to_owned()).collect();
    told.retain(|subject| !subject.is_empty());
    told.sort();
    told.dedup();
    assert!(spots.iter().all(|spot| told.iter().any(|told| told == spot.as_str())), "{told:?}");
}
