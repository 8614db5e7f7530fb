//! Tables at two widths, CSV and JSON, from documents as the API gives them.

use serde_json::{Value, json};

use super::*;

fn deployment(n: u32, name: &str, status: &str, live: bool, next: Value) -> Value {
    json!({
        "id": format!("68d0{n:04}"), "name": name, "team": {"id": "t1", "name": "research"},
        "gpu_type": "RTX4090_PCIE", "gpu_count": n, "instance_type": "SPOT", "provider": "spheron-ai", "region": "us-east-1",
        "status": status, "live": live, "presence": "listed", "created_at": "2026-09-21T13:13:20Z",
        "started_at": "2026-09-21T13:13:20Z", "stopped_at": null, "up_secs": 3_600 * n + 61, "price_per_hour": "0.73",
        "cost": "1.46", "activity": if name == "train-1" { "idle" } else { "unknown" }, "kubernetes": false, "next": next,
    })
}

fn team(name: &str, balance: Value, end: Value) -> Value {
    json!({
        "id": "t1", "name": name, "role": "owner", "balance": balance, "balance_at": "2026-09-21T14:13:20Z",
        "unknown_since": null, "denied": null, "burn_per_hour": "0.7574", "burn_observed_per_hour": null, "runs_out_at": end,
    })
}

fn document(teams: Vec<Value>, deployments: Vec<Value>) -> Document {
    let status = json!({
        "schema": 1, "at": "2026-09-21T14:13:20Z", "source": "daemon", "version": "0.1.0",
        "data_at": "2026-09-21T14:13:08Z", "fresh": false, "late": ["volumes: no complete answer\u{1b}[2J yet"],
        "stretched": ["deployments every 1m 26s instead of 10s: too few calls"],
        "balance": "8.2", "burn_per_hour": "1.5148", "runs_out_at": "2026-09-22T01:02:56Z",
        "runs_out_team": {"id": "t1", "name": "research"},
        "counts": {"teams": teams.len(), "deployments": 3, "deployments_live": 2, "volumes": 2},
        "alerts": {"info": 0, "warning": 2, "critical": 1}, "unknown": [], "config_reload_ok": true,
        "feeds": [{"feed": "balance", "interval_secs": 60, "last_attempt": null, "last_complete": null, "outcome": "partial",
            "failure": "rate_limited", "failures_in_row": 1, "trouble": null}],
        "teams": teams, "deployments": deployments,
    });
    serde_json::from_value(status).unwrap()
}

fn small() -> Document {
    let end = json!("2026-09-22T01:02:56Z");
    let next = json!({"at": "2026-09-22T13:13:20Z", "what": "running-long fires"});
    document(
        vec![team("research", json!("8.2"), end), team("class \"B\"", Value::Null, Value::Null)],
        vec![
            deployment(1, "train-1", "running", true, next),
            deployment(2, "=cmd()\u{202e}\u{1b}[31m", "terminated-provider", false, Value::Null),
            deployment(
                0,
                "a-very-long-name-for-a-node-without-any-gpu-at-all",
                "deploying",
                true,
                Value::Null,
            ),
        ],
    )
}

#[test]
fn what_nobody_has_read_is_unknown_and_what_the_api_forgot_is_gone() {
    let mut unread = document(vec![team("research", json!("8.2"), Value::Null)], Vec::new());
    unread.status.burn_per_hour = None;
    let text = text(&unread, Format::Table, Some(80), Colors(false));
    assert!(text.contains("burn unknown") && text.contains("what runs is not read yet"), "{text}");
    let mut gone = deployment(1, "old", "running", false, Value::Null);
    gone["presence"] = json!("gone");
    let gone: Deployment = serde_json::from_value(gone).unwrap();
    assert_eq!(state(&gone), "gone");
}

#[test]
fn the_table_at_80_columns() {
    let text = table(&small(), Some(80), Colors(false));
    insta::assert_snapshot!(text);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_table_at_200_columns() {
    insta::assert_snapshot!(table(&small(), Some(200), Colors(false)));
}

#[test]
fn csv_is_for_programs_and_has_no_total() {
    insta::assert_snapshot!(text(&small(), Format::Csv, None, Colors(false)));
}

#[test]
fn json_is_the_apis_own() {
    let text = text(&small(), Format::Json, Some(80), Colors(true));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["schema"], &value["balance"]), (&json!(1), &json!("8.2")));
    assert_eq!(value["deployments"][1]["name"], "=cmd()\u{202e}\u{1b}[31m");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn one_team_needs_no_table_and_colours_are_for_terminals() {
    let one = document(vec![team("research", json!("8.2"), Value::Null)], Vec::new());
    let text = table(&one, None, Colors(true));
    assert!(text.starts_with("\u{1b}[1mbalance $8.20   burn $1.51/h"), "{text:?}");
    assert!(!text.contains("TEAM") && text.ends_with("\n\nnothing runs"), "{text}");
    assert!(!table(&one, None, Colors(false)).contains('\u{1b}'));
}

#[test]
fn fault_81_ten_thousand_lines_leave_the_first_in_sight() {
    let frame: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    let shown = fitting(&frame.join("\n"), Size { columns: 80, rows: 24 });
    assert_eq!(shown.lines().count(), 22);
    assert!(shown.starts_with("0\n1\n") && shown.ends_with("\n… 9979 lines more"), "{shown}");
    assert_eq!(fitting("a\nb", Size { columns: 80, rows: 24 }), "a\nb");
}
