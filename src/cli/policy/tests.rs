//! What people read of policies, from documents as the API gives them, at two widths.

use serde_json::{Value, json};

use super::*;

fn policy(name: &str, state: &str) -> Value {
    let armed = state != "dry_run";
    json!({
        "name": name, "state": state,
        "armed_at": armed.then_some("2026-09-21T12:13:20Z"), "armed_by": armed.then_some("ann\u{1b}[2J"),
        "match": {"instance_type": ["DEDICATED", "SPOT"], "name": ["dev-*"]},
        "when": ["idle for 2h", "outside Mon-Fri 08:00-20:00"], "grace_secs": 1_800, "require_volume": false,
        "receivers": ["ops"], "open_actions": 1, "ended": 3, "saved": "31.5",
    })
}

fn page() -> Page<Policy> {
    let items = [
        policy("idle-dev-boxes", "armed"),
        policy("runway", "dry_run"),
        policy("over-budget-of-the-week", "changed"),
    ];
    serde_json::from_value(json!({
        "schema": 1, "at": "2026-09-21T14:13:20Z", "source": "daemon", "total": 3, "offset": 0, "limit": 1_000,
        "next_offset": null, "items": items,
    }))
    .unwrap()
}

fn document(state: &str, would_end: &[Value], waiting: &[Value]) -> PolicyPreview {
    serde_json::from_value(json!({
        "schema": 1, "at": "2026-09-21T14:13:20Z", "source": "daemon", "policy": policy("idle-dev-boxes", state),
        "limits": {"max_per_hour": 2, "max_per_day": 5, "max_fleet_share_permille": 505},
        "code": "1a2b3c4d", "would_end": would_end, "waiting": waiting,
    }))
    .unwrap()
}

fn would(name: &str, volumes: Value, lost: &str) -> Value {
    json!({
        "deployment": {"id": "68d0a1b2c3d4e5f6a7b8c9d0", "name": name}, "team": {"id": "t1", "name": "research"},
        "gpu_type": "RTX4090_PCIE", "instance_type": "SPOT", "price_per_hour": "0.73", "cost": "35.04",
        "because": "idle for 3h 2m, since 2026-09-21T11:11:20Z (limit: idle for 2h); outside working time (limit: outside Mon-Fri 08:00-20:00)",
        "volumes": volumes, "lost": lost,
    })
}

fn both() -> PolicyPreview {
    let volume = json!([{"id": "v1", "name": "checkpoints-1"}]);
    let waiting = |name: &str, reason: &str, until: Value| {
        json!({
            "deployment": {"id": "68d0a1b2c3d4e5f6a7b8c9d1", "name": name}, "team": {"id": "t1", "name": "research"},
            "price_per_hour": "1.2", "reason": reason, "until": until,
        })
    };
    document(
        "dry_run",
        &[
            would("dev-ana", json!([]), "its disk; no volume is attached: everything on it is lost"),
            would("dev-bob\n;rm", volume, "its disk; the volume that is attached stays, and goes on billing"),
        ],
        &[
            waiting(
                "dev-cleo",
                "it has not been idle for long enough: not before 2026-09-21T15:00:00Z",
                json!("2026-09-21T15:00:00Z"),
            ),
            waiting("dev-dan", "nobody measures its activity now; unknown is never idle", Value::Null),
        ],
    )
}

fn paper(width: u16) -> Paper {
    Paper { width: Some(width), colors: Colors(false) }
}

fn fits(text: &str, width: usize) {
    // A command is copied whole.
    let prose = text.lines().filter(|line| !line.contains("spheron-watch "));
    for line in prose {
        assert!(line.chars().count() <= width && !line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn the_list_at_80_and_120_columns() {
    for (name, width) in [("list_at_80", 80), ("list_at_120", 120)] {
        let text = text(&page(), Format::Table, Some(width));
        fits(&text, width.into());
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn arming_shows_what_it_would_end_and_what_is_lost_before_it_gives_the_code() {
    for (name, width) in [("arm_at_80", 80), ("arm_at_120", 120)] {
        let text = words::before_arming(&both(), paper(width));
        fits(&text, width.into());
        assert!(text.ends_with("\n  spheron-watch policy arm idle-dev-boxes --confirm=1a2b3c4d"), "{text}");
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn what_is_armed_already_says_since_when_and_by_whom_and_how_to_stop_it() {
    let preview = document("armed", &[], &[]);
    insta::assert_snapshot!("arm_what_is_armed", words::before_arming(&preview, paper(100)));
    let preview = document("armed", &[would("dev-ana", json!([]), "its disk")], &[]);
    let text = words::before_arming(&preview, paper(100));
    assert!(text.contains("too many") && text.contains("--confirm=1a2b3c4d"), "{text}");
}

#[test]
fn a_policy_that_only_the_log_hears_says_that_it_cannot_be_armed() {
    let mut preview = both();
    preview.policy.receivers = vec!["log".to_owned()];
    for text in [words::before_arming(&preview, paper(200)), words::shown(&preview, paper(200))] {
        assert!(text.contains("nobody but the log, so it cannot be armed: give it `receivers`"), "{text}");
    }
}

#[test]
fn one_policy_is_shown_with_its_state_and_limits() {
    insta::assert_snapshot!("show_at_80", words::shown(&both(), paper(80)));
    let changed = words::shown(&document("changed", &[], &[]), paper(200));
    assert!(
        changed.contains("a dry run: it was armed since 2026-09-21T12:13:20Z (2h ago) by ann"),
        "{changed}"
    );
    assert!(changed.contains("It matches nothing that runs now."), "{changed}");
}

#[test]
fn arming_and_disarming_say_what_it_means_now_and_how_to_stop_it() {
    let armed: Policy = serde_json::from_value(policy("idle-dev-boxes", "armed")).unwrap();
    insta::assert_snapshot!("armed", words::armed(&armed, &both(), paper(80)));
    let action = |state: &str, closed: Value, late: Value| -> Action {
        serde_json::from_value(json!({
            "id": "act_0123456789abcdef", "policy": "idle-dev-boxes",
            "deployment": {"id": "68d0", "name": "dev-ana"}, "team": {"id": "t1", "name": "research"},
            "price_per_hour": "0.73", "state": state, "marked": "2026-09-21T14:00:00Z", "not_before": null,
            "closed": closed, "next": null, "stoppable": false, "too_late": late, "saved": null,
        }))
        .unwrap()
    };
    let off =
        action("cancelled", json!("2026-09-21T14:13:20Z"), json!("nothing to stop: this action is over"));
    let late = action(
        "requested",
        Value::Null,
        json!("too late: its end was requested; what became of it is read next"),
    );
    let disarmed = Disarmed { policy: "idle-dev-boxes".to_owned(), was_armed: true };
    insta::assert_snapshot!("disarmed", words::disarmed(&disarmed, &[&off, &late], paper(80)));
    let already = words::disarmed(&Disarmed { was_armed: false, ..disarmed }, &[], paper(80));
    assert!(already.contains("was a dry run already"), "{already}");
}

#[test]
fn csv_has_both_lists_and_no_formula_or_line_of_a_name() {
    let mut preview = both();
    preview.would_end[0].deployment.name = "=cmd()".to_owned();
    let csv = document_csv(&preview);
    assert_eq!(csv.split("\r\n").count(), 5, "{csv}");
    assert!(csv.contains(",'=cmd(),research,true,") && csv.contains(",dev-dan,research,false,"), "{csv}");
    let list = text(&page(), Format::Csv, None);
    assert!(list.starts_with("name,state,when,match,grace_secs,open_actions,ended,saved_usd\r\n"), "{list}");
    assert!(list.contains(",instance_type=DEDICATED|SPOT name=dev-*,1800,1,3,31.5"), "{list}");
}

fn document_csv(preview: &PolicyPreview) -> String {
    super::document(preview, Format::Csv, String::new)
}
