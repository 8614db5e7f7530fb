//! What the daemon refuses to start with, by exit code and message: 78 for what a restart cannot mend, 1 for what it may.

use std::fs;

use rusqlite::Connection;

use crate::lab::{Hook, Lab, own_address};

/// Exit code and everything that was said.
fn refused(lab: &Lab) -> (Option<i32>, String) {
    let mut daemon = lab.start();
    let status = daemon.ended();
    (status.code(), daemon.log())
}

#[test]
fn fault_43_a_second_daemon_on_the_same_state_says_so_and_exits_78() {
    let lab = Lab::quiet();
    let mut first = lab.start();
    first.wait_until_ready();
    let (code, log) = refused(&lab);
    assert_eq!(code, Some(78), "with the same configuration, address and all: {log}");
    assert!(log.contains("is in use by another spheron-watch; stop that one"), "{log}");
    let mut command = lab.configured(&["run"]);
    command.env("SPHERON_WATCH_SERVE__LISTEN", own_address().to_string());
    let mut second = lab.launch(command);
    assert_eq!(second.ended().code(), Some(78), "{}", second.log());
    assert!(first.is_alive() && first.is_ready(), "the first one goes on");
    first.kill();
    let mut third = lab.start();
    third.wait_until_ready();
}

#[test]
fn fault_36_a_foreign_database_ends_the_start_with_78_and_stays_as_it_is() {
    let lab = Lab::quiet();
    let conn = Connection::open(lab.database()).unwrap();
    conn.execute_batch("PRAGMA application_id = 7; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
        .unwrap();
    drop(conn);
    let before = fs::read(lab.database()).unwrap();
    let (code, log) = refused(&lab);
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("belongs to another program (application id 7)"), "{log}");
    assert_eq!(fs::read(lab.database()).unwrap(), before);
}

#[test]
fn fault_88_a_newer_database_ends_the_start_with_78_and_stays_as_it_is() {
    let lab = Lab::quiet();
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    assert_eq!(daemon.terminate().code(), Some(0));
    let conn = Connection::open(lab.database()).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let before = fs::read(lab.database()).unwrap();
    let (code, log) = refused(&lab);
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("written by a newer spheron-watch (schema 99"), "{log}");
    assert_eq!(fs::read(lab.database()).unwrap(), before);
}

#[test]
fn a_bad_configuration_ends_the_start_with_78_and_every_error_by_line_and_column() {
    let lab = Lab::quiet();
    let path = lab.file("config.toml", "[collect]\nbalance = \"every 1s\"\nblance = 3\n[serve]\nhosts = 4\n");
    let (code, log) = refused(&lab);
    assert_eq!(code, Some(78), "{log}");
    for place in ["2:11", "3:1", "5:9"] {
        assert!(log.contains(&format!("{}:{place}: ", path.display())), "{place}: {log}");
    }
    assert!(log.contains("collect.balance") && log.contains("serve.hosts"), "{log}");
    assert!(!lab.database().exists(), "nothing was begun");
}

#[test]
fn without_a_key_it_names_the_four_places_and_exits_78() {
    let lab = Lab::quiet();
    let mut command = lab.configured(&["run"]);
    command.env_remove("SPHERON_API_KEY");
    let mut daemon = lab.launch(command);
    assert_eq!(daemon.ended().code(), Some(78));
    let log = daemon.log();
    for place in ["api_key_file", "systemd credential api-key", "SPHERON_API_KEY", "~/.spheron/credentials"] {
        assert!(log.contains(place), "{place}: {log}");
    }
    assert_eq!(lab.world().calls().len(), 0, "nobody was asked");
}

#[test]
fn an_address_in_use_is_named_and_a_restart_may_mend_it() {
    let lab = Lab::quiet();
    let _taken = std::net::TcpListener::bind(lab.listen).unwrap();
    let (code, log) = refused(&lab);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("cannot listen on {}", lab.listen)), "{log}");
}

#[test]
fn a_database_that_cannot_be_made_now_may_be_made_later() {
    let lab = Lab::quiet();
    // In the way of the lock: something that a person or a restore left there and may take away.
    fs::create_dir(lab.path("state/watch.db.lock")).unwrap();
    let (code, log) = refused(&lab);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("cannot open ") && log.contains("watch.db"), "{log}");
}

#[test]
fn a_webhook_that_cannot_be_used_ends_the_start_with_78_and_does_not_show_its_url() {
    let lab = Lab::quiet();
    lab.config(&[("hook", &Hook::new())], "");
    lab.file("hook.url", "http://hooks.example.org/services/T0SECRET");
    let (code, log) = refused(&lab);
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("must be https") && !log.contains("T0SECRET"), "{log}");
}
