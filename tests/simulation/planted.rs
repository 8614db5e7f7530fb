//! Bugs planted on purpose: each must trip the oracle that is there for it.
//!
//! It must never plant what the real code does.

use std::{cell::Cell, rc::Rc, sync::Arc};

use spheron_watch::{
    drive::simulate::{Simulation, Tamper},
    model::{
        AlertKey, DeploymentId, EventId, Mark, Notice, Rule, Severity, StepRecord, Subject, Time, Transition,
    },
    sim::{Ask, KEY},
};

use crate::{
    oracles,
    run::{Case, DAY, Evidence, HOUR, Plant, START, run, run_with},
};

/// Short, and yet all kinds of alerts come up.
const CASE: Case = Case { seed: 17, days: 6, weather: 20, incidents: true, deaths: 6, receivers_fail: 15 };

/// The names of the oracles that find something.
fn tripped(evidence: &Evidence) -> Vec<&'static str> {
    oracles::ALL.iter().filter(|(_, oracle)| !oracle(evidence).is_empty()).map(|(name, _)| *name).collect()
}

fn with(tamper: impl FnMut(&mut StepRecord) + 'static) -> Plant {
    Plant { tamper: Some(Box::new(tamper) as Tamper), ..Plant::default() }
}

/// Which oracle misses which kind of alert.
const MISSED: [(&str, &str); 19] = [
    ("balance", oracles::LOW_BALANCE),
    ("balance_unknown", oracles::UNKNOWN_BALANCE),
    ("running_long", oracles::LONG_RUN),
    ("spot_interrupted", oracles::PROVIDER_END),
    ("provider_stopped", oracles::PROVIDER_END),
    ("provider_stopped", oracles::ODD_STATUS),
    ("fleet_shrunk", oracles::SHRUNK_FLEET),
    ("blind", oracles::BLINDNESS),
    ("key_rejected", oracles::REJECTED_KEY),
    ("failed", oracles::FAILURE),
    ("stuck", oracles::STUCK),
    ("new_deployment", oracles::ARRIVALS),
    ("rate_changed", oracles::RATE),
    ("unattached_volume", oracles::UNATTACHED),
    ("volume_full", oracles::FULL),
    ("runway", oracles::RUNWAY),
    ("burn_rate", oracles::BURN),
    ("budget", oracles::BUDGET),
    ("balance_jump", oracles::TOP_UP),
];

#[test]
fn an_alert_of_any_kind_that_is_not_told_is_missed_by_its_oracle() {
    let mut evidence = run(CASE);
    let all = evidence.sent.clone();
    assert_eq!(tripped(&evidence), Vec::<&str>::new());
    for (kind, oracle) in MISSED {
        evidence.sent = all.iter().filter(|sent| &*sent.notice.kind != kind).cloned().collect();
        let tripped = tripped(&evidence);
        let others = MISSED.iter().filter(|(of, _)| *of == kind).map(|(_, oracle)| *oracle);
        assert!(tripped.contains(&oracle), "{kind} was not missed: {tripped:?}");
        assert!(tripped.iter().all(|name| others.clone().any(|other| other == *name)), "{kind}: {tripped:?}");
    }
}

#[test]
fn an_engine_that_tells_nothing_is_missed_by_every_oracle_of_lost_alerts() {
    let evidence = run_with(CASE, with(|record| record.notices.clear()));
    let tripped = tripped(&evidence);
    for (_, oracle) in MISSED {
        assert!(tripped.contains(&oracle), "{oracle}: {tripped:?}");
    }
}

fn forged(rules: &[Rule], kind: &str, subject: Subject, transition: Transition, at: Time) -> Notice {
    let rule = rules.iter().find(|rule| rule.kind.as_str() == kind);
    let rule = rule.map_or_else(|| Arc::from(kind), |rule| rule.name.clone());
    Notice {
        id: EventId::from_text(format!("forged {kind} of {subject}")),
        key: AlertKey { rule, subject },
        kind: kind.into(),
        transition,
        severity: Severity::Critical,
        title: format!("forged {kind} {}", transition.as_str()),
        reason: String::new(),
        advice: String::new(),
        details: Vec::new(),
        since: at,
        at,
        receivers: vec![Arc::from("ops"), Arc::from("hook")],
        bars: Vec::new(),
        together: Default::default(),
        grant: None,
        link: None,
    }
}

#[test]
fn an_alert_of_any_kind_that_is_not_true_is_found() {
    let fair = Case::fair(9, 2);
    let honest = run(fair);
    assert_eq!(tripped(&honest), Vec::<&str>::new());
    let team = Subject::Team { id: honest.truth.balances.keys().next().unwrap().clone() };
    let (alive, _) = honest.truth.lives.iter().find(|(_, life)| life.statuses[0].0 > START).unwrap();
    let nobody = Subject::Deployment { id: DeploymentId::new("nobody"), created_at: START };
    let mut forgeries = Vec::new();
    for kind in ["balance", "balance_unknown", "fleet_shrunk", "runway", "burn_rate", "unexplained_spend"] {
        forgeries.push((kind, team.clone(), Transition::Firing));
    }
    for subject in [alive.clone(), nobody] {
        for kind in ["running_long", "provider_stopped", "stuck", "idle", "overpaying"] {
            forgeries.push((kind, subject.clone(), Transition::Firing));
        }
        for kind in ["spot_interrupted", "failed", "rate_changed"] {
            forgeries.push((kind, subject.clone(), Transition::Event));
        }
    }
    let unborn = Subject::Deployment { id: DeploymentId::new("unborn"), created_at: START };
    forgeries.push(("new_deployment", unborn, Transition::Event));
    for volume in honest.truth.volumes.keys() {
        for kind in ["unattached_volume", "volume_full"] {
            forgeries.push((kind, Subject::Volume { id: volume.clone() }, Transition::Firing));
        }
    }
    let Subject::Team { id: of } = &team else { panic!("not a team") };
    for (kind, mark) in
        [("budget", Mark::Spent(100)), ("budget", Mark::Forecast(1_000)), ("balance_jump", Mark::Balance)]
    {
        forgeries.push((kind, Subject::Occasion { team: of.clone(), at: START, mark }, Transition::Event));
    }
    for kind in ["blind", "key_rejected"] {
        forgeries.push((kind, Subject::Account, Transition::Firing));
    }
    let (mut left, rules) = (forgeries.clone(), honest.rules.clone());
    let evidence = run_with(
        fair,
        with(move |record| {
            if record.at > START.plus(HOUR * 5) {
                let forge =
                    |(kind, subject, transition)| forged(&rules, kind, subject, transition, record.at);
                record.notices.extend(left.drain(..).map(forge));
            }
        }),
    );
    let found = oracles::nothing_untrue_is_told(&evidence);
    for (kind, subject, transition) in &forgeries {
        let named = |text: &&String| {
            text.contains(&subject.to_string())
                && text.ends_with(&format!(": forged {kind} {}", transition.as_str()))
        };
        assert_eq!(found.iter().filter(named).count(), 1, "{kind} of {subject}: {found:?}");
    }
    assert_eq!(found.len(), forgeries.len());
}

#[test]
fn an_end_told_too_early_is_found() {
    let evidence = run_with(
        CASE,
        with(|record| {
            let ended: Vec<Notice> = record
                .notices
                .iter()
                .filter(|notice| &*notice.kind == "blind" && notice.transition == Transition::Firing)
                .map(|notice| Notice {
                    transition: Transition::Resolved,
                    id: EventId::from_text(format!("{} too early", notice.id)),
                    ..notice.clone()
                })
                .collect();
            record.notices.extend(ended);
        }),
    );
    assert!(tripped(&evidence).contains(&oracles::UNTRUE));
}

#[test]
fn an_order_turned_round_is_found() {
    let evidence = run_with(
        Case::fair(9, 2),
        with(|record| {
            for notice in &mut record.notices {
                notice.transition = match notice.transition {
                    Transition::Firing => Transition::Resolved,
                    Transition::Resolved => Transition::Firing,
                    other @ (Transition::Reminder | Transition::Event | Transition::Test) => other,
                };
            }
        }),
    );
    assert!(tripped(&evidence).contains(&oracles::ORDER));
}

#[test]
fn an_event_told_twice_under_two_ids_is_found() {
    let evidence = run_with(
        Case::fair(9, 2),
        with(|record| {
            let again = record.notices.iter().filter(|notice| notice.transition == Transition::Event);
            let again =
                again.map(|n| Notice { id: EventId::from_text(format!("{} again", n.id)), ..n.clone() });
            let again: Vec<Notice> = again.collect();
            record.notices.extend(again);
        }),
    );
    assert_eq!(tripped(&evidence), [oracles::PROVIDER_END, oracles::FAILURE, oracles::ARRIVALS]);
}

#[test]
fn a_receipt_forgotten_a_row_lost_and_a_delivery_too_late_are_found() {
    let mut evidence = run(Case::fair(9, 2));
    let all = evidence.sent.clone();
    evidence.sent.push(all[0].clone());
    assert!(tripped(&evidence).contains(&oracles::TWICE));
    evidence.sent = all.clone();
    evidence.sent.remove(0);
    assert!(tripped(&evidence).contains(&oracles::ARRIVAL));
    evidence.sent = all.clone();
    evidence.sent[0].at = evidence.sent[0].at.plus(DAY);
    assert_eq!(tripped(&evidence), [oracles::ARRIVAL]);
    evidence.sent = all;
    evidence.waiting = 1;
    assert_eq!(tripped(&evidence), [oracles::ARRIVAL]);
}

#[test]
fn a_receiver_that_is_left_out_is_found() {
    let evidence = run_with(
        Case::fair(9, 2),
        with(|record| record.notices.iter_mut().for_each(|notice| notice.receivers.truncate(1))),
    );
    assert!(tripped(&evidence).contains(&oracles::ARRIVAL));
}

#[test]
fn a_delete_and_the_get_that_creates_a_team_are_found() {
    let delete = |simulation: &Simulation| {
        let id = DeploymentId::new("any");
        let not_after = simulation.now().plus(HOUR);
        drop(simulation.ask(|client| client.delete(&id, not_after)).unwrap());
    };
    let evidence = run_with(Case::fair(9, 1), Plant { daily: Some(delete), ..Plant::default() });
    assert_eq!(tripped(&evidence), [oracles::CHANGES]);
    let teams = |simulation: &Simulation| {
        let bearer = format!("Bearer {KEY}");
        let ask = Ask { method: "GET", path: "/api/teams", query: "", authorization: Some(&bearer) };
        drop(simulation.world().answer(&ask, simulation.now()));
    };
    let evidence = run_with(Case::fair(9, 1), Plant { daily: Some(teams), ..Plant::default() });
    assert_eq!(tripped(&evidence), [oracles::CHANGES]);
}

#[test]
fn an_overspent_budget_and_a_question_asked_twice_at_once_are_found() {
    let cadence = "[collect]\nbalance = \"every 10s\"\ndeployments = \"every 10s\"\n";
    let plant = Plant { cadence: Some(cadence), calls_per_15m: Some(250), ..Plant::default() };
    assert_eq!(tripped(&run_with(Case::fair(9, 1), plant)), [oracles::CALLS]);
    let twice = |simulation: &Simulation| {
        for _ in 0..2 {
            drop(simulation.ask(|client| client.balances()).unwrap());
        }
    };
    let evidence = run_with(Case::fair(9, 1), Plant { daily: Some(twice), ..Plant::default() });
    assert_eq!(tripped(&evidence), [oracles::CALLS]);
}

#[test]
fn a_change_or_an_alert_state_that_is_not_stored_is_found() {
    let plants = [
        with(|record| record.changes.clear()),
        with(|record| record.alerts.clear()),
        with(|record| drop(record.changes.pop())),
    ];
    for plant in plants {
        let evidence = run_with(Case::fair(9, 2), plant);
        assert!(tripped(&evidence).contains(&oracles::STORE), "{:?}", tripped(&evidence));
    }
}

#[test]
fn a_watcher_that_depends_on_something_else_than_its_seed_is_found() {
    let elsewhere = Rc::new(Cell::new(0_u32));
    let traces = [0, 1].map(|_| {
        let elsewhere = elsewhere.clone();
        let chance = move |record: &mut StepRecord| {
            elsewhere.set(elsewhere.get() + 1);
            record.notices.iter_mut().for_each(|notice| notice.reason.push_str(&elsewhere.get().to_string()));
        };
        run_with(Case::fair(9, 2), with(chance)).trace
    });
    assert_ne!(traces[0], traces[1]);
}
