//! The push, and what becomes of it, in Debian's real Alertmanager.
//!
//! It must never be skipped silently: without the program it fails and says how to get it.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "daemon/lab.rs"]
mod lab;

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use lab::{Lab, until};
use serde_json::Value;
use spheron_watch::{
    model::{Time, Usd},
    sim::{Event, Spec},
};

/// The server on a loopback port, alone, in a folder of its own; it is ended by its id when this goes.
struct Alertmanager {
    server: Child,
    url: String,
    _folder: tempfile::TempDir,
}

/// Free a moment ago, and no browser's or daemon's usual port.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Alertmanager {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("alertmanager.yml");
        fs::write(&config, "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n").unwrap();
        let address = free_address();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let server = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("no Alertmanager: install prometheus-alertmanager");
        let server = Self { server, url: format!("http://{address}"), _folder: folder };
        until("Alertmanager answers", || server.query().map(drop));
        server
    }

    /// What it takes to fire now. `None` while it does not answer.
    fn query(&self) -> Option<Vec<Value>> {
        let output = Command::new("amtool")
            .args(["alert", "query", "--output=json", "--alertmanager.url", &self.url])
            .output()
            .expect("no amtool: install prometheus-alertmanager");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn alerts(&self, rule: &str) -> Vec<Value> {
        let all = self.query().unwrap();
        all.into_iter().filter(|alert| alert["labels"]["alertname"] == rule).collect()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn time(alert: &Value, key: &str) -> Time {
    Time::parse_rfc3339(alert[key].as_str().unwrap()).unwrap()
}

const HOSTILE: &str = "tr\"ain\\\u{202e}<!channel>{{ 1 }}😀";

#[test]
fn alertmanager_takes_the_push_shows_it_once_and_sees_it_end_though_another_member_is_down() {
    let server = Alertmanager::start();
    let dead = free_address();
    let (mut team, mut spot) = (None, None);
    let lab = Lab::new(|world, now| {
        let poor = world.add_team("research", "owner", Usd::from_cents(500));
        let begin = now.minus(Duration::from_secs(3_600));
        spot = Some(world.deploy(begin, Spec::new(&poor, HOSTILE).kind("SPOT")));
        team = Some(poor);
    });
    let config = format!(
        "[notify]\nalertmanager = [\"http://{dead}\", \"{}/\"]\n[collect]\nbalance = \"every 10s\"\n",
        server.url
    );
    lab.file("config.toml", &config);
    let mut daemon = lab.start();
    daemon.wait_until_ready();

    let low = until("low balance", || server.alerts("low-balance").pop());
    assert_eq!(
        (&low["labels"]["severity"], &low["labels"]["team"]),
        (&"critical".into(), &"research".into())
    );
    assert!(low["annotations"]["summary"].as_str().unwrap().contains("low balance: research"), "{low}");
    for text in ["description", "advice"] {
        assert!(low["annotations"][text].as_str().is_some_and(|text| !text.is_empty()), "{low}");
    }
    assert_eq!(low["status"]["state"], "active");

    // A change: everything is said again, under labels that make it the same alert.
    lab.happens(Event::Reclaim(spot.unwrap()));
    daemon.reload();
    let event = until("the event", || server.alerts("spot-interrupted").pop());
    assert_eq!(event["labels"]["name"], "tr\"ain\\<!channel>{{ 1 }}😀");
    assert_eq!(time(&event, "endsAt"), time(&event, "startsAt").plus(Duration::from_secs(600)));
    let again = until("said again", || {
        server.alerts("low-balance").pop().filter(|again| time(again, "endsAt") > time(&low, "endsAt"))
    });
    assert_eq!(server.alerts("low-balance").len(), 1, "one alert, however often it is said");
    assert_eq!((&again["fingerprint"], &again["startsAt"]), (&low["fingerprint"], &low["startsAt"]));

    lab.happens(Event::TopUp(team.unwrap(), Usd::from_cents(100_000)));
    daemon.reload();
    until("the end", || server.alerts("low-balance").is_empty().then_some(()));
    assert_eq!(server.alerts("spot-interrupted").len(), 1);

    let failed = daemon.metric("spheron_watch_notifications_failed_total");
    let of = |address: &str| failed[&format!("{{receiver=\"alertmanager/{address}\"}}")];
    assert!(of(&dead) > 0.0 && of(server.url.trim_start_matches("http://")) < 0.5, "{failed:?}");
    let log = daemon.log();
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("does not take alerts")).collect();
    // Each reload begins anew with it.
    assert!((1..=3).contains(&complaints.len()), "{complaints:#?}");
    assert!(complaints.iter().all(|line| line.contains(&dead)), "{complaints:#?}");
    assert_eq!(daemon.terminate().code(), Some(0));

    let checked = lab.output(&["check-config", "--online"]);
    let (said, complained) =
        (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert_eq!(checked.status.code(), Some(1), "one of the two is down: {said}{complained}");
    assert!(said.contains(&format!("every alert to each of http://{dead}, {}", server.url)), "{said}");
    assert!(said.contains(&format!("Alertmanager {}: takes alerts", server.url)), "{said}");
    assert!(
        complained.contains(&format!("Alertmanager http://{dead}: does not take alerts")),
        "{complained}"
    );
}
