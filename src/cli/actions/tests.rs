//! What people read of actions, from documents as the API gives them.

use serde_json::{Value, json};

use super::*;

fn action(id: u32, name: &str, state: &str, more: Value) -> Value {
    let mut action = json!({
        "id": format!("act_{id:016x}"), "policy": "idle-dev-boxes",
        "deployment": {"id": "68d0a1b2c3d4e5f6a7b8c9d0", "name": name}, "team": {"id": "t1", "name": "research"},
        "price_per_hour": "0.73", "state": state, "marked": "2026-09-21T14:00:00Z", "not_before": null, "closed": null,
        "next": null, "stoppable": false, "too_late": null, "saved": null,
    });
    action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    action
}

fn announced() -> Value {
    let next = "policy idle-dev-boxes ends it, if every gate is open then";
    action(
        1,
        "dev-ana",
        "announced",
        json!({
            "not_before": "2026-09-21T14:30:02Z", "stoppable": true, "next": {"at": "2026-09-21T14:30:02Z", "what": next},
        }),
    )
}

fn gone() -> Value {
    let over = "nothing to stop: this action is over";
    action(
        2,
        "=dev-bob\u{1b}[2J",
        "gone",
        json!({"closed": "2026-09-21T14:05:00Z", "too_late": over, "saved": "1.25"}),
    )
}

fn page(items: &[Value]) -> Page<Action> {
    serde_json::from_value(json!({
        "schema": 1, "at": "2026-09-21T14:13:20Z", "source": "daemon", "total": items.len(), "offset": 0, "limit": 1_000,
        "next_offset": null, "items": items,
    }))
    .unwrap()
}

fn history(action: Value) -> ActionHistory {
    let step = |at: &str, from: Value, to: &str, reason: &str| json!({"at": at, "from": from, "to": to, "reason": reason});
    serde_json::from_value(json!({
        "schema": 1, "at": "2026-09-21T14:13:20Z", "source": "daemon", "action": action,
        "steps": [
            step("2026-09-21T14:00:00Z", Value::Null, "marked",
                "idle for 3h 2m, since 2026-09-21T10:58:00Z (limit: idle for 2h); outside working time (limit: outside Mon-Fri 08:00-20:00)"),
            step("2026-09-21T14:00:02Z", json!("marked"), "announced", "ops took the announcement\u{1b}[2J"),
        ],
    }))
    .unwrap()
}

fn paper(width: u16) -> Paper {
    Paper { width: Some(width), colors: Colors(false) }
}

#[test]
fn the_list_shows_what_was_saved_only_where_something_was() {
    let open = text(&page(&[announced()]), Format::Table, Some(80));
    assert!(!open.contains("SAVED") && open.contains("in 16m"), "{open}");
    for (name, width) in [("list_at_80", 80), ("list_at_120", 120)] {
        let text = text(&page(&[announced(), gone()]), Format::Table, Some(width));
        assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn one_is_shown_with_what_is_next_how_to_stop_it_and_every_step() {
    for (name, width) in [("show_at_80", 80), ("show_at_120", 120)] {
        insta::assert_snapshot!(name, told(&history(announced()), paper(width)));
    }
}

#[test]
fn what_cannot_be_stopped_any_more_says_why_and_what_happens_now() {
    let late = "too late: its end was requested; what became of it is read next";
    let requested = told(&history(action(3, "dev-ana", "requested", json!({"too_late": late}))), paper(120));
    assert!(
        requested.contains(&format!("to stop it  {late}")) && !requested.contains("cancel"),
        "{requested}"
    );
    let gone = told(&history(gone()), paper(120));
    assert!(!gone.contains("to stop it") && gone.contains("$1.25"), "{gone}");
}

#[test]
fn csv_has_the_moments_and_no_formula_of_a_name() {
    let csv = text(&page(&[announced(), gone()]), Format::Csv, None);
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(
        lines[1].contains(",2026-09-21T14:30:02Z,true,0.73,") && lines[2].contains(",'=dev-bob,"),
        "{csv}"
    );
    assert!(lines[2].ends_with(",false,0.73,1.25"), "{csv}");
}
