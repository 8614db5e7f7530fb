//! What policies make of a deployment, as people and programs read it.

use serde_json::{Value, json};

use super::*;

fn policy(name: &str, armed: bool, verdict: &str, reasons: &[&str], more: Value) -> WhyPolicy {
    let mut policy = json!({
        "policy": name, "armed": armed, "verdict": verdict, "action": null,
        "inputs": [
            {"condition": "idle for 2h", "value": "idle for 3h 2m, since 2026-09-21T11:11:20Z"},
            {"condition": "outside Mon-Fri 08:00-20:00", "value": "outside working time"},
        ],
        "reasons": reasons, "until": null, "next": null, "stops": [],
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(policy).unwrap()
}

fn why(policies: Vec<WhyPolicy>) -> Why {
    let team = json!({"id": "t1", "name": "research"});
    let mut why: Why = serde_json::from_value(json!({
        "schema": 1, "at": "2026-09-21T14:13:20Z", "source": "daemon", "rules": [],
        "deployment": {
            "id": "68d0", "name": "dev-ana", "team": team, "gpu_type": "RTX4090_PCIE", "gpu_count": 1, "instance_type": "SPOT",
            "provider": "spheron-ai", "region": "us-east-1", "status": "running", "live": true, "presence": "listed",
            "created_at": "2026-09-21T10:13:20Z", "started_at": "2026-09-21T10:13:20Z", "stopped_at": null, "up_secs": 14_400,
            "price_per_hour": "0.73", "cost": "2.92", "activity": "idle", "kubernetes": false, "next": null,
        },
    }))
    .unwrap();
    why.policies = policies;
    why
}

fn announced() -> Why {
    let stops =
        ["`spheron-watch keep` for it", "renaming it to a protected name", "`spheron-watch policy disarm`"];
    why(vec![
        policy(
            "idle-dev-boxes",
            true,
            "announced",
            &[
                "it was announced for 2026-09-21T14:30:02Z",
                "another action is under way; they go one at a time\u{1b}[2J",
            ],
            json!({
                "action": "act_0123456789abcdef", "stops": stops,
                "next": {"at": "2026-09-21T14:30:02Z", "what": "the final read, if every gate is open then"},
            }),
        ),
        policy("night", false, "not_matched", &["the policy's `match` leaves it out"], json!({})),
    ])
}

#[test]
fn every_closed_gate_is_shown_with_what_is_next_and_what_would_stop_it() {
    for (name, width) in [("policies_at_80", 80), ("policies_at_120", 120)] {
        let text = text(&announced(), Format::Table, Paper { width: Some(width), colors: Colors(false) });
        assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
        insta::assert_snapshot!(name, text);
    }
    let due = why(vec![policy("idle", true, "due", &[], json!({}))]);
    let due = text(&due, Format::Table, Paper { width: None, colors: Colors(false) });
    assert!(due.contains("every gate is open"), "{due}");
}

#[test]
fn csv_has_a_row_for_each_policy() {
    let csv = text(&announced(), Format::Csv, Paper { width: None, colors: Colors(false) });
    assert_eq!(csv.split("\r\n").count(), 3, "{csv}");
    assert!(
        csv.contains("idle-dev-boxes,policy,,deployment,announced,idle for 2h; outside Mon-Fri"),
        "{csv}"
    );
}
