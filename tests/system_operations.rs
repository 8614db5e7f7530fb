//! The commands of `docs/operations.md`, pasted by a reader who has the daemon under systemd and its own user.
//!
//! It must never be skipped silently: without `sqlite3` it fails and says how to get it.
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
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use lab::{Daemon, Hook, Lab, until};
use serde_json::Value;
use spheron_watch::{model::Usd, sim::Spec};

const PAGE: &str = include_str!("../docs/operations.md");

/// The first commands under a heading.
fn commands(heading: &str) -> &'static str {
    let section = PAGE.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}")).1;
    section.split_once("\n```sh\n").unwrap().1.split_once("\n```").unwrap().0
}

/// Here there is no systemd and no user of its own: those are played, everything else is done as it stands.
fn follow(lab: &Lab, daemon: &mut Daemon, heading: &str) {
    for line in commands(heading).lines() {
        match line {
            "systemctl stop spheron-watch" => {
                assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log())
            }
            "systemctl start spheron-watch" | "systemctl restart spheron-watch" => {
                daemon.kill();
                *daemon = lab.start();
                daemon.wait_until_ready();
            }
            _ if line.starts_with("spheron-watch ") => {
                let arguments: Vec<&str> = line.split(' ').skip(1).collect();
                assert!(lab.output(&arguments).status.success(), "{line}");
            }
            _ => shell(lab, line),
        }
    }
}

fn shell(lab: &Lab, line: &str) {
    let line = line
        .replace("runuser -u spheron-watch -- ", "")
        .replace(" -o spheron-watch -g spheron-watch", "")
        .replace("/var/backups/spheron-watch", lab.path("backups").to_str().unwrap())
        .replace("/var/lib/spheron-watch", lab.path("state").to_str().unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-euc", &line]).env("DB", lab.database()).stdin(Stdio::null());
    let output = shell.output().unwrap();
    let complains = !output.status.success() || !output.stderr.is_empty();
    assert!(!complains, "{line} (sqlite3 is needed: apt-get install sqlite3): {output:?}");
    if line.contains("integrity_check") {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n");
    }
}

fn json(lab: &Lab, arguments: &[&str]) -> Value {
    let output = lab.output(&[&["-o", "json"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn state(lab: &Lab) -> String {
    json(lab, &["policy", "list"])["items"][0]["state"].as_str().unwrap().to_owned()
}

const MORE: &str = "[serve]\nexternal_url = \"https://watch.example.org\"\n\
                    [[rule]]\nname = \"rich\"\nkind = \"balance\"\nbelow = 5000.0\n\
                    [[policy]]\nname = \"old\"\nmatch = { name = [\"dev-*\"] }\nwhen = { running_for = \"9h\" }\n";

/// A daemon with a policy that is armed.
fn armed(hook: &Hook) -> (Lab, Daemon) {
    let lab = Lab::new(|world, now| {
        let team = world.add_team("research", "owner", Usd::from_cents(100_000));
        world.deploy(now.minus(Duration::from_secs(3_600)), Spec::new(&team, "dev-ana"));
    });
    lab.config(&[("hook", hook)], MORE);
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    hook.wait_for("rich", "alert.firing");
    let code = json(&lab, &["policy", "arm", "old"])["code"].as_str().unwrap().to_owned();
    until("armed", || {
        lab.output(&["policy", "arm", "old", &format!("--confirm={code}")]).status.success().then_some(())
    });
    assert_eq!(state(&lab), "armed");
    (lab, daemon)
}

#[test]
fn a_reader_who_follows_the_page_has_a_backup_and_puts_it_back_disarmed_or_as_it_was() {
    let hook = Hook::new();
    let (lab, mut daemon) = armed(&hook);
    assert!(lab.output(&["silence", "add", "--match", "rule=stuck", "--for", "1h"]).status.success());
    follow(&lab, &mut daemon, "Back up");
    follow(&lab, &mut daemon, "Restore");
    assert_eq!(state(&lab), "armed", "nothing was ordered since");

    assert!(lab.output(&["keep", "dev-ana", "--for", "1d"]).status.success());
    follow(&lab, &mut daemon, "Restore");
    let told = until("the news", || {
        hook.sent()
            .into_iter()
            .find(|sent| sent.body["data"]["title"] == "policies disarmed: the database is an old copy")
    });
    assert_eq!(told.body["data"]["severity"], "critical");
    assert_eq!(state(&lab), "dry_run");
    assert_eq!(json(&lab, &["keep", "list"])["total"], 0, "as the page says");
    assert_eq!(json(&lab, &["silence", "list"])["total"], 1);

    let (before, key) = (fs::read(lab.path("state/keep.key")).unwrap(), lab.path("state/keep.key"));
    follow(&lab, &mut daemon, "Rotate keep.key");
    assert_ne!(fs::read(key).unwrap(), before);
}

#[test]
fn what_lies_beside_the_database_is_what_the_page_names() {
    let hook = Hook::new();
    let (lab, mut daemon) = armed(&hook);
    let listed = |lab: &Lab| -> BTreeSet<String> {
        let names = fs::read_dir(lab.path("state")).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.to_str().unwrap().replace("watch.db", "DB")).collect()
    };
    let table = PAGE.split_once("\n|---|---|---|\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = table.lines().flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2));
    let named: BTreeSet<String> = names.map(str::to_owned).collect();
    let found = listed(&lab);
    assert!(found.is_subset(&named), "{found:?} {named:?}");
    // The one is of an upgrade, the other of an activity over ssh.
    let missing: Vec<&String> = named.difference(&found).collect();
    assert_eq!(missing, ["DB.before-N", "known_hosts"]);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(
        listed(&lab),
        BTreeSet::from(["DB", "DB.lock", "DB.orders", "keep.key"].map(str::to_owned)),
        "it is whole without its WAL"
    );
}

#[test]
fn a_reader_who_goes_back_has_the_database_of_before_and_what_was_armed_in_it_only_if_nothing_is_lacking() {
    let hook = Hook::new();
    let (lab, mut daemon) = armed(&hook);
    shell(&lab, "sqlite3 \"$DB\" \"VACUUM INTO '$DB.before-7'\"");
    assert!(lab.output(&["keep", "dev-ana", "--for", "1d"]).status.success());
    assert_eq!(daemon.terminate().code(), Some(0));
    lab.tamper("PRAGMA user_version = 99");
    let mut refused = lab.start();
    assert_eq!(refused.ended().code(), Some(78), "{}", refused.log());
    daemon = lab.start();
    daemon.ended();
    // It is down already, so the first line has nothing to do.
    let rest = commands("Go back").lines().filter(|line| *line != "systemctl stop spheron-watch");
    for line in rest {
        if line.starts_with("systemctl") {
            daemon = lab.start();
            daemon.wait_until_ready();
        } else {
            shell(&lab, line);
        }
    }
    until("disarmed", || (state(&lab) == "dry_run").then_some(()));
    assert_eq!(daemon.terminate().code(), Some(0));
}
