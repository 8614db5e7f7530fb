//! Policies as a person meets them: what a dry run tells, what arming asks for, each way to stop an end, and an end; and a stop
//! of the daemon amid a DELETE.
//!
//! Real minutes pass here: no window, and no grace, is shorter than one.

use std::{fs, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use spheron_watch::{
    model::{StageName, Status},
    sim::{Endpoint, Fault},
};

use crate::{
    bench::{Bench, GRACE, LONG, Manner},
    lab::{Daemon, stopwatch, until, within},
    secrets,
};

fn policy(name: &str, grace: &str) -> String {
    format!(
        "[[policy]]\nname = {name:?}\nmatch = {{ name = [\"{name}-*\"] }}\nwhen = {{ running_for = \"1m\" }}\ngrace = {grace:?}\n"
    )
}

#[test]
fn fault_56_a_person_arms_keeps_disarms_and_lets_end_and_only_what_was_let_ends() {
    let policies =
        |tmp: &str| format!("{}{}{}", policy("dev", "1m"), policy("lab", "1m"), policy("tmp", tmp));
    let bench = Bench::new(&["dev-a", "lab-a", "tmp-a", "prod-db", "train"], &policies("1m"));
    bench.set_manner(Manner::Refuses);
    let mut daemon = bench.start_with(&[("SPHERON_WATCH_LOG", "trace")]);
    assert_eq!(bench.get("policies/dev")["policy"]["state"], "dry_run");

    // A dry run says what it would end. Nobody has taken that yet, so nobody could hear of an end.
    bench.wait_to_hear("dev", "dry run: dev would end 1");
    let looked = bench.get("policies/dev");
    assert_eq!(looked["would_end"][0]["deployment"]["name"], "dev-a", "{looked}");
    let (status, said) = bench.try_to_arm("dev", None);
    assert_eq!(status, 409, "{said}");
    let deaf = said["detail"].clone();
    assert!(deaf.as_str().unwrap().contains("receiver"), "{said}");
    bench.set_manner(Manner::Takes);
    within(LONG, "a delivery is confirmed", || {
        let (status, said) = bench.try_to_arm("dev", Some("00000000"));
        assert_eq!(status, 409, "{said}");
        (said["detail"] != deaf).then(|| assert!(said["detail"].as_str().unwrap().contains("code"), "{said}"))
    });
    assert!(bench.actions("dev").is_empty() && bench.get("policies/dev")["policy"]["state"] == "dry_run");

    for name in ["dev", "lab", "tmp"] {
        bench.arm(name);
    }
    for name in ["dev", "lab", "tmp"] {
        bench.wait_to_hear(name, "will be ended");
        bench.wait_for_stage(name, StageName::Announced);
    }

    // Three ways to stop it.
    let body =
        json!({ "deployment": "dev-a", "for_secs": 3_600, "by": "ann", "reason": "a demo" }).to_string();
    let (status, keep) = bench.lab.ask("POST /api/v1/keeps", &body);
    assert_eq!((status, &keep["state"]), (201, &json!("active")), "{keep}");
    let (status, said) = bench.lab.ask("POST /api/v1/policies/lab/disarm", r#"{"by": "ben"}"#);
    assert_eq!((status, &said["was_armed"]), (200, &json!(true)), "{said}");
    bench.configure(&policies("2m"));
    daemon.reload();
    for name in ["dev", "lab", "tmp"] {
        bench.wait_for_stage(name, StageName::Cancelled);
        bench.wait_to_hear(name, "not ended: ");
    }
    let state = |name: &str| bench.get(&format!("policies/{name}"))["policy"]["state"].clone();
    assert_eq!(
        (state("dev"), state("lab"), state("tmp")),
        (json!("armed"), json!("dry_run"), json!("changed"))
    );

    // It is not kept any more, so it is announced anew.
    let id = keep["id"].as_str().unwrap();
    assert_eq!(bench.lab.ask(&format!("DELETE /api/v1/keeps/{id}"), "").0, 204);
    within(LONG, "a second announcement", || (bench.actions("dev").len() == 2).then_some(()));
    bench.wait_for_stage("dev", StageName::Gone);
    bench.wait_to_hear("dev", "ended:");
    let row = bench.last("dev").unwrap();
    let told = bench.hook.sent().into_iter().filter(|sent| sent.id == row.announcement).map(|sent| sent.at);
    let deleted: Vec<_> = bench.wire.calls().into_iter().filter(|call| call.method != "GET").collect();
    assert_eq!(deleted.len(), 1, "{deleted:#?}");
    assert!(told.max().unwrap().plus(GRACE) <= deleted[0].at, "{deleted:#?}");
    let found = bench.get(&format!("actions/{}", row.id));
    assert_eq!(found["action"]["state"], "gone", "{found}");
    assert_eq!(found["steps"].as_array().unwrap().last().unwrap()["to"], "gone", "{found}");
    until("what it saves is shown", || {
        let policy = bench.get("policies/dev")["policy"].clone();
        let saved: f64 = policy["saved"].as_str().unwrap().parse().unwrap();
        (policy["ended"] == 1 && saved > 0.0).then_some(())
    });
    // That it is as it was armed again was nobody's decision.
    bench.configure(&policies("1m"));
    daemon.reload();
    until("the old configuration is in force", || {
        (bench.get("policies/tmp")["policy"]["grace_secs"] == 60).then_some(())
    });
    assert_eq!(state("tmp"), json!("changed"));
    for name in ["dev", "lab", "tmp"] {
        bench.assert_legal(name, name);
    }
    let statuses = ["dev-a", "lab-a", "tmp-a", "prod-db", "train"].map(|name| bench.status(name));
    let running = || Status::Running;
    assert_eq!(statuses, [Status::Terminated, running(), running(), running(), running()]);

    // No secret on any of these ways.
    let pages =
        ["policies", "policies/dev", "actions", "keeps", "deliveries", &format!("actions/{}", row.id)];
    let pages = pages.map(|page| (page.to_owned(), bench.get(page).to_string().into_bytes()));
    let mut heard = secrets::state(&bench.lab);
    assert!(
        heard.iter().any(|(_, bytes)| secrets::holds(bytes, row.id.as_bytes())),
        "the search finds an action"
    );
    heard.extend(pages);
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
    heard.extend(secrets::state(&bench.lab));
    heard.push(("the log".into(), fs::read(bench.lab.path("log-0")).unwrap()));
    secrets::assert_silent(&heard, &[]);
}

/// A daemon that has just sent its DELETE; the account answers so.
fn amid_a_delete(answers: Fault, timeout: &str) -> (Bench, Daemon) {
    let bench = Bench::new(&["dev-a", "prod-db"], &format!("{}{}", Bench::alarm(), policy("dev", "1m")));
    let daemon = bench.start_with(&[("SPHERON_WATCH_COLLECT__TIMEOUT", timeout)]);
    bench.wait_for_alarm();
    bench.arm("dev");
    bench.fault(Endpoint::Delete, answers);
    bench.wait_for_stage("dev", StageName::Requested);
    within(LONG, "the DELETE", || (bench.wire.count("DELETE", bench.id("dev-a")) == 1).then_some(()));
    (bench, daemon)
}

/// The next start reads what became of it, and asks for nothing again.
fn ends_after_a_restart(bench: &Bench) {
    bench.no_faults();
    let _daemon = bench.start();
    bench.wait_for_stage("dev", StageName::Gone);
    bench.assert_legal("dev", "stopped amid a DELETE");
    assert_eq!(bench.wire.count("DELETE", bench.id("dev-a")), 1);
    assert_eq!((bench.status("dev-a"), bench.status("prod-db")), (Status::Terminated, Status::Running));
}

#[test]
fn fault_84_a_stop_amid_a_delete_waits_for_its_answer_and_not_for_ever() {
    let answered = std::thread::spawn(|| {
        let (bench, mut daemon) = amid_a_delete(Fault::Delay(Duration::from_secs(6)), "20s");
        let stopping = stopwatch();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
        assert!(stopping() > Duration::from_secs(4), "it did not wait: {:?}", stopping());
        let last = bench.last("dev").unwrap();
        assert_eq!(last.stage, "verifying", "the answer is recorded: {last:?}\n{}", daemon.log());
        ends_after_a_restart(&bench);
    });
    let unanswered = std::thread::spawn(|| {
        let (bench, mut daemon) = amid_a_delete(Fault::Delay(Duration::from_secs(3_600)), "60s");
        let stopping = stopwatch();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
        let took = stopping();
        assert!(
            took > Duration::from_secs(25) && took < Duration::from_secs(40),
            "{took:?}\n{}",
            daemon.log()
        );
        let last = bench.last("dev").unwrap();
        assert_eq!(last.stage, "requested", "nobody knows what became of it: {last:?}");
        bench.time_passes(Duration::from_secs(60));
        let before = bench.wire.count("GET", bench.id("dev-a"));
        ends_after_a_restart(&bench);
        assert!(bench.wire.count("GET", bench.id("dev-a")) >= before + 2, "two reads show the end");
    });
    let ends =
        [("answered", answered), ("not answered", unanswered)].map(|(name, end)| (name, end.join().is_ok()));
    assert!(ends.iter().all(|(_, well)| *well), "{ends:?}: see above");
}
