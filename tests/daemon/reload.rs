//! SIGHUP: the new configuration in force at once, or the old one and an alert that says so.

use std::{net::TcpListener, time::Duration};

use rustix::process::Signal;
use spheron_watch::{
    clock::Clock,
    model::Usd,
    sim::{Endpoint, Event, Fault, Window},
};

use crate::lab::{Daemon, Hook, Lab, SOON, fleet, until};

const RELOADED: &str = "spheron_watch_config_last_reload_successful";

fn reload_ok(daemon: &Daemon) -> Option<f64> {
    daemon.metric(RELOADED).into_values().next()
}

#[test]
fn fault_53_after_a_bad_reload_the_old_configuration_stays_and_an_alert_says_so() {
    let lab = Lab::new(|world, _| {
        world.add_team("research", "owner", Usd::from_cents(20_000));
    });
    let hook = Hook::new();
    let config = lab.config(&[("hook", &hook)], "");
    let good = std::fs::read_to_string(&config).unwrap();
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    assert_eq!(reload_ok(&daemon), Some(1.0));

    lab.file("config.toml", &format!("{good}\n[colect]\n"));
    daemon.reload();
    let sent = hook.wait_for("config-invalid", "alert.firing");
    assert!(sent.body["data"]["reason"].as_str().unwrap().contains("config.toml:"), "{}", sent.body);
    until("the metric says no", || (reload_ok(&daemon) == Some(0.0)).then_some(()));
    assert!(daemon.log().contains("the old one stays in force"), "{}", daemon.log());
    assert!(daemon.is_alive() && daemon.is_ready());

    let rule = "[[rule]]\nname = \"rich\"\nkind = \"balance\"\nbelow = 5000.0\nseverity = \"warning\"\n";
    lab.file("config.toml", &format!("{good}\n{rule}"));
    daemon.reload();
    hook.wait_for("config-invalid", "alert.resolved");
    hook.wait_for("rich", "alert.firing");
    until("the metric says yes", || (reload_ok(&daemon) == Some(1.0)).then_some(()));
}

#[test]
fn a_storm_of_reloads_is_survived_and_what_was_due_is_told_once() {
    let lab = Lab::quiet();
    let hook = Hook::new();
    lab.config(&[("hook", &hook)], "");
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    lab.happens(Event::RevokeKey);
    for _ in 0..20 {
        daemon.signal(Signal::HUP);
    }
    hook.wait_for("key-rejected", "alert.firing");
    assert!(daemon.is_alive(), "{}", daemon.log());
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
    let told: Vec<String> =
        hook.sent().iter().map(|sent| format!("{} {} {}", sent.rule(), sent.what(), sent.id)).collect();
    assert_eq!(told.len(), 1, "{told:#?}\n{}", daemon.log());
}

#[test]
fn reloads_amid_a_send_that_hangs_begin_no_other_to_the_same_receiver() {
    let lab = Lab::new(|world, now| drop(fleet(world, now, 4)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = lab.file("hanging.url", &format!("http://{}/", listener.local_addr().unwrap()));
    lab.file(
        "config.toml",
        &format!(
            "[[receiver]]\nname = \"hanging\"\nwebhook = {{ url_file = {url:?} }}\n[notify]\nreceivers = [\"hanging\"]\n"
        ),
    );
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    let spots: Vec<_> = lab.world().deployments().map(|(id, _)| id.clone()).collect();
    spots.into_iter().for_each(|id| lab.happens(Event::Reclaim(id)));
    daemon.reload();
    let _held = listener.accept().unwrap();
    let waiting =
        || lab.reader().query_row("SELECT count(*) FROM outbox WHERE state = 0", [], |r| r.get::<_, i64>(0));
    until("more waits", || (waiting().unwrap() >= 2).then_some(()));
    for reloads in 2..5 {
        daemon.reload();
        until("it is reloaded", || {
            (daemon.log().matches("configuration reloaded").count() >= reloads).then_some(())
        });
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a second send while the first hangs:\n{}", daemon.log());
}

#[test]
fn a_reload_amid_a_poll_polls_again_when_that_is_over() {
    let lab = Lab::quiet();
    let now = Clock::system().now();
    lab.world().faults.add(Window {
        from: now,
        until: now.plus(SOON),
        on: Some(Endpoint::Balance),
        what: Fault::Delay(Duration::from_secs(1)),
    });
    let daemon = lab.start();
    let calls = || lab.world().call_count("GET", "/api/balance");
    until("the first poll", || (calls() == 1).then_some(()));
    daemon.reload();
    // The schedule's next is in a minute.
    until("the second poll", || (calls() == 2).then_some(()));
}

#[test]
fn a_receiver_that_a_reload_adds_hears_what_comes_after() {
    let lab = Lab::quiet();
    let (old, new) = (Hook::new(), Hook::new());
    lab.config(&[("old", &old)], "");
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    lab.config(&[("old", &old), ("new", &new)], "");
    lab.happens(Event::RevokeKey);
    daemon.reload();
    let sent = new.wait_for("key-rejected", "alert.firing");
    assert_eq!(old.wait_for("key-rejected", "alert.firing").id, sent.id, "one event, one id");
}

#[test]
fn a_summary_is_logged_on_usr1() {
    let lab = Lab::quiet();
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    daemon.signal(Signal::USR1);
    until("the summary", || daemon.log().contains("summary").then_some(()));
    assert!(daemon.log().contains("teams=1"), "{}", daemon.log());
}
