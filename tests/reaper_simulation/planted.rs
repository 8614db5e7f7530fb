//! Bugs planted on purpose: each must trip the oracle that is there for it, and that one alone.
//!
//! It must never plant what the real code does.

use spheron_watch::{
    drive::simulate::{Mishap, Simulation},
    model::{
        Act, Came, CanTerminate, Condition, Deed, DeploymentId, Facts, Feed, Hours, Keep, Listing, Notice,
        Observation, Policies, Scope, Status, StepRecord, Target, Time, Usd, Wish,
    },
    sim::{Ask, Endpoint, Fault, KEY, Window},
};

use crate::{
    life::{Evidence, Plant, Unheard, live},
    oracles::{self, judge},
    world::{Account, Case, DAY, HOUR, IDLE_FOR, MINUTE, RUNNING_FOR, START},
};

/// Short, and yet everything that people do comes up.
const CASE: Case = Case { seed: 3, days: 18, poll: 10, foul: false, dies: 0, quiet: false };

fn tripped(plant: Plant) -> Vec<&'static str> {
    let findings = judge(&live(CASE, plant));
    for (what, found) in &findings {
        println!("{what}: {} {:?}", found.len(), found.first());
    }
    findings.into_keys().collect()
}

/// A time in which the lab has shed all that it had.
const STRUCK: std::ops::Range<Time> =
    Time::from_secs(1_800_000_000 + 108 * 3_600)..Time::from_secs(1_800_000_000 + 150 * 3_600);

fn strike(account: &mut Account, on: Endpoint, what: Fault) {
    account.world.faults.add(Window { from: STRUCK.start, until: STRUCK.end, on: Some(on), what });
}

fn is_announcement(notice: &Notice) -> bool {
    notice.title.starts_with("will be ended:")
}

#[test]
fn what_people_want_and_the_watcher_never_hears_is_found() {
    assert_eq!(tripped(Plant::default()), [""; 0]);
    for (unheard, oracle) in [
        (Unheard::Keeps, oracles::KEPT),
        (Unheard::Cancels, oracles::CANCELLED),
        (Unheard::Disarming, oracles::ARMED),
    ] {
        assert_eq!(tripped(Plant { unheard: Some(unheard), ..Plant::default() }), [oracle]);
    }
}

fn condition(policies: &mut Policies, name: &str, condition: Condition) {
    for policy in policies.policies.iter_mut().filter(|policy| *policy.name == *name) {
        policy.when[0] = condition.clone();
    }
}

#[test]
fn a_configuration_that_is_misread_is_found() {
    type Misread = fn(&mut Policies);
    let misread: [(&'static str, Misread); 9] = [
        (oracles::PROTECTED, |all| all.safety.protect.clear()),
        (oracles::CAPS, |all| (all.safety.max_per_hour, all.safety.max_per_day) = (100, 100)),
        (oracles::SHARE, |all| all.safety.max_fleet_share_permille = 1_001),
        (oracles::TOLD, |all| all.policies.iter_mut().for_each(|policy| policy.grace = MINUTE)),
        (oracles::CONDITION, |all| condition(all, "long", Condition::RunningFor(RUNNING_FOR / 2))),
        (oracles::CONDITION, |all| condition(all, "idle", Condition::IdleFor(IDLE_FOR / 4))),
        (oracles::CONDITION, |all| condition(all, "spend", Condition::SpendAbove(Usd::from_cents(500)))),
        (oracles::CONDITION, |all| {
            condition(all, "desk", Condition::Outside(Hours::parse("Mon-Fri 08:00-12:00").unwrap()));
        }),
        (oracles::CONDITION, |all| condition(all, "shed", Condition::RunwayBelow(HOUR * 11))),
    ];
    for (nth, (oracle, misread)) in misread.into_iter().enumerate() {
        let plant = Plant { misread: Some(misread), ..Plant::default() };
        assert_eq!(tripped(plant), [oracle], "{nth}");
    }
}

#[test]
fn what_people_are_not_told_or_told_otherwise_is_found() {
    let lost = Plant { loses: Some(is_announcement), ..Plant::default() };
    assert_eq!(tripped(lost), [oracles::TOLD]);

    let later = |record: &mut StepRecord| {
        for notice in record.notices.iter_mut().filter(|notice| is_announcement(notice)) {
            let at = notice.reason.split("not before ").nth(1).and_then(|rest| rest.split([',', ' ']).next());
            let at = at.unwrap().trim_end_matches('.').to_owned();
            let later = Time::parse_rfc3339(&at).unwrap().plus(HOUR * 2);
            notice.reason = notice.reason.replace(&at, &later.to_string());
        }
    };
    assert_eq!(tripped(Plant { tamper: Some(Box::new(later)), ..Plant::default() }), [oracles::EARLY]);

    let to_the_log = |record: &mut StepRecord| {
        let announced = record.notices.iter_mut().filter(|notice| is_announcement(notice));
        announced.for_each(|notice| notice.receivers = vec!["log".into()]);
    };
    assert_eq!(tripped(Plant { tamper: Some(Box::new(to_the_log)), ..Plant::default() }), [oracles::LEFT]);

    let unconfirmed = Plant {
        loses: Some(|notice| notice.title.starts_with("not confirmed:")),
        account: Some(|account| strike(account, Endpoint::Delete, Fault::Ignored)),
        ..Plant::default()
    };
    assert_eq!(tripped(unconfirmed), [oracles::CONFIRMED]);
}

#[test]
fn a_delete_sent_twice_or_long_after_its_reads_is_found() {
    let mut seen = 0;
    let twice = move |acts: &mut Vec<Act>| {
        let again = acts.iter().find(|act| matches!(act.deed, Deed::Delete { .. })).cloned();
        acts.extend(again.inspect(|_| seen += 1).filter(|_| seen == 9));
    };
    assert_eq!(tripped(Plant { meddle: Some(Box::new(twice)), ..Plant::default() }), [oracles::TWICE]);

    let (mut held, mut steps) = (None::<Act>, 0);
    let late = move |acts: &mut Vec<Act>| {
        steps += 1;
        if let Some((Act { deed: Deed::Delete { not_after }, .. }, at)) = held.as_mut().zip(Some(steps))
            && at > 2
        {
            *not_after = not_after.plus(DAY);
            acts.extend(held.take());
            steps = i32::MIN;
        }
        let delete = acts.iter().position(|act| matches!(act.deed, Deed::Delete { .. }));
        if let Some(nth) = delete
            && steps > 400
        {
            (held, steps) = (Some(acts.remove(nth)), 0);
        }
    };
    assert_eq!(tripped(Plant { meddle: Some(Box::new(late)), ..Plant::default() }), [oracles::READ]);
}

#[test]
fn a_clock_a_list_a_doubt_and_an_intent_that_are_taken_for_good_are_found() {
    // The API is wrong by just as much as we are.
    let clock = |account: &mut Account| {
        account.world.faults.add(Window {
            from: START.plus(DAY * 7),
            until: START.plus(DAY * 9),
            on: None,
            what: Fault::SkewedDate(90),
        });
        account.mishaps.push((START.plus(DAY * 7), Mishap::Clock(90_000)));
        account.mishaps.push((START.plus(DAY * 9), Mishap::Clock(0)));
    };
    assert_eq!(tripped(Plant { account: Some(clock), ..Plant::default() }), [oracles::CLOCK]);

    let list = Plant {
        account: Some(|account| strike(account, Endpoint::Deployments, Fault::Html)),
        looks: Some(take_the_last_list_for_a_new_one),
        ..Plant::default()
    };
    assert_eq!(tripped(list), [oracles::WHOLE]);

    let doubt = Plant {
        account: Some(|account| {
            let no = Fault::Says { nth: 0, field: "canTerminate", value: false.into() };
            strike(account, Endpoint::CanTerminate, no);
        }),
        mishear: Some(Box::new(|receipt| {
            if matches!(receipt.came, Came::CanTerminate(_)) {
                let yes = CanTerminate { can_terminate: true, minutes_remaining: 0, minutes_minimum: 20 };
                receipt.came = Came::CanTerminate(Ok(Some(yes)));
            }
        })),
        ..Plant::default()
    };
    assert_eq!(tripped(doubt), [oracles::DOUBT]);

    let intent = Plant {
        tamper: Some(Box::new(|record: &mut StepRecord| {
            record.wishes.retain(|wish| !matches!(wish, Wish::Arming(_, Some(_))));
        })),
        mishear: Some(Box::new(|receipt| {
            if matches!(receipt.came, Came::Commit(_)) {
                receipt.came = Came::Commit(Ok(()));
            }
        })),
        ..Plant::default()
    };
    assert_eq!(tripped(intent), [oracles::INTENT]);
}

fn take_the_last_list_for_a_new_one(simulation: &mut Simulation, now: Time) {
    if !STRUCK.contains(&now) {
        return;
    }
    let known = simulation.core().snapshot().deployments.values();
    let items = known.filter(|tracked| tracked.is_live()).map(|tracked| tracked.deployment.clone()).collect();
    let list = Facts::Deployments(Listing { items, unreadable: Vec::new(), suspect: None });
    let scopes = vec![(Scope::Unscoped, Ok(list))];
    let forged = Observation { feed: Feed::Deployments, at: now, scopes, skew_ms: Some(0) };
    simulation.order(|core, now| core.absorb(&Observation { at: now, ..forged })).unwrap();
}

#[test]
fn a_keep_that_nobody_asked_for_turns_the_order_of_shedding_round_and_is_found() {
    fn keep_the_dearest(simulation: &mut Simulation, _: Time) {
        let lab =
            |name: Option<&str>| name.is_some_and(|name| name.starts_with("lab-") && name.ends_with("-2"));
        let found = {
            let world = simulation.world();
            let mut running = world.deployments().filter(|(_, status)| **status == Status::Running);
            running
                .find(|(id, _)| lab(world.name(id)))
                .map(|(id, _)| Target { id: id.clone(), created_at: world.created_at(id).unwrap() })
        };
        if let Some(target) = found {
            let at = simulation.now();
            let (by, reason, until) = ("nobody".into(), "".into(), Some(at.plus(DAY)));
            let keep = Keep { id: "kp_ghost".into(), target, until, by, reason, at };
            simulation.order(|core, now| core.keep(keep, now)).unwrap();
        }
    }
    let plant = Plant { looks: Some(keep_the_dearest), ..Plant::default() };
    assert_eq!(tripped(plant), [oracles::ORDER]);
}

#[test]
fn a_call_that_nobody_may_make_is_found() {
    fn delete(simulation: &mut Simulation, now: Time) {
        if now == START.plus(HOUR * 30) {
            let id = simulation.world().deployments().next().map(|(id, _)| id.clone()).unwrap();
            drop(simulation.ask(|client| client.delete(&id, now.plus(HOUR))).unwrap());
        }
    }
    fn call(simulation: &mut Simulation, path: &str) {
        let bearer = format!("Bearer {KEY}");
        let ask = Ask { method: "GET", path, query: "", authorization: Some(&bearer) };
        drop(simulation.world().answer(&ask, simulation.truly()));
    }
    type Looks = fn(&mut Simulation, Time);
    let calls: [(&'static str, Looks); 3] = [
        (oracles::CHANGES, delete),
        (oracles::CHANGES, |simulation, _| call(simulation, "/api/teams")),
        (oracles::ORIGIN, |simulation, _| call(simulation, "//login.example.net/portal")),
    ];
    for (oracle, looks) in calls {
        assert_eq!(tripped(Plant { looks: Some(looks), ..Plant::default() }), [oracle]);
    }
}

/// What became of each deployment in the end.
pub fn ends(evidence: &Evidence) -> Vec<(DeploymentId, bool)> {
    let running = |id: &DeploymentId| evidence.world.status(id) == Some(&Status::Running);
    evidence.machines.iter().map(|machine| (machine.id.clone(), running(&machine.id))).collect()
}

/// FAULTS C16.
#[test]
fn a_watcher_that_dies_over_every_fourth_act_comes_to_the_same_end() {
    for foul in [false, true] {
        let case = Case { foul, quiet: true, ..CASE };
        let (living, dying) =
            (live(case, Plant::default()), live(Case { dies: 25, ..case }, Plant::default()));
        for evidence in [&living, &dying] {
            assert_eq!(judge(evidence), oracles::Findings::new(), "foul: {foul}");
        }
        assert_eq!(ends(&dying), ends(&living), "foul: {foul}");
        assert!(living.called.len() > 100 && ends(&living).iter().any(|(_, runs)| *runs));
    }
    let forgets = || -> Plant {
        let forget = |record: &mut StepRecord| record.wishes.retain(|wish| !matches!(wish, Wish::Keep(..)));
        Plant { tamper: Some(Box::new(forget)), ..Plant::default() }
    };
    let case = Case { quiet: true, ..CASE };
    assert_ne!(ends(&live(Case { dies: 25, ..case }, forgets())), ends(&live(case, forgets())));
}
