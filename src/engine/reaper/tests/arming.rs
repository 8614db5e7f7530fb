use super::*;
use crate::model::{Hold, Restored, Severity};

fn wish(code: &str) -> (&str, &str, Arc<str>) {
    ("idle", code, "ann".into())
}

#[test]
fn fault_56_arming_needs_a_receiver_that_took_something_and_is_not_the_log() {
    let rig = Rig::ready();
    let arm = |rig: &Rig| rig.reaper.arm(wish(&rig.code("idle")), &rig.snapshot, &rig.forecasts, rig.now);
    assert!(arm(&rig).is_ok());
    let mut nobody = rig.clone();
    nobody.snapshot.confirmed.clear();
    assert_eq!(arm(&nobody), Err(ArmError::NoReceiver));
    nobody.snapshot.confirmed.insert("chat".into(), rig.now);
    assert_eq!(arm(&nobody), Err(ArmError::NoReceiver), "one that this policy does not tell");
    let mut ahead = rig.clone();
    ahead.snapshot.confirmed.insert("ops".into(), rig.now);
    assert!(arm(&ahead).is_ok());
    ahead.snapshot.confirmed.insert("ops".into(), rig.now.plus(SECOND));
    assert_eq!(arm(&ahead), Err(ArmError::NoReceiver), "by a clock that was ahead");
    let mut failing = rig.clone();
    let trouble = Trouble { since: rig.now, dead: true, why: "410".into() };
    failing.snapshot.deliveries.insert("ops".into(), trouble);
    assert_eq!(arm(&failing), Err(ArmError::NoReceiver));
    let two = Policy { receivers: vec!["chat".into(), "ops".into()], ..idle_policy() };
    let two = Rig { reaper: Reaper::new(policies(vec![two]), Vec::new()), ..rig.clone() };
    assert!(arm(&two).is_ok(), "one of them is enough");
    let log = Policy { receivers: vec!["log".into()], ..idle_policy() };
    let mut log = Rig { reaper: Reaper::new(policies(vec![log]), Vec::new()), ..rig };
    log.snapshot.confirmed.insert("log".into(), log.now);
    assert_eq!(arm(&log), Err(ArmError::NoReceiver));
}

#[test]
fn fault_57_the_code_stands_for_the_policy_and_for_everything_that_it_matches() {
    let everything = Policy { matching: matcher(&[(MatchKey::Name, &["*"])]), ..idle_policy() };
    let mut rig = Rig::ready_with(policies(vec![everything.clone()]), &["a", "b"]);
    rig.add(Deployment { name: "prod-1".into(), ..deployment("p") });
    rig.idle("b", Reading::Busy, None);
    let preview = rig.reaper.preview("idle", &rig.snapshot, &rig.forecasts, rig.now).unwrap();
    let ids = |list: Vec<&crate::model::Candidate>| {
        list.iter().map(|candidate| candidate.target.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(preview.would_end.iter().map(|(candidate, _)| candidate).collect()), ["a"]);
    assert_eq!(preview.would_end[0].1, "idle for 4h, since 2027-01-15T08:00:00Z (limit: idle for 2h)");
    assert_eq!(ids(preview.waiting.iter().map(|(candidate, _)| candidate).collect()), ["b", "p"]);
    assert_eq!(preview.waiting[1].1, Hold::Protected { key: "name".into() });
    let arm = |rig: &Rig, code: &str| rig.reaper.arm(wish(code), &rig.snapshot, &rig.forecasts, rig.now);
    for wrong in ["", "00000000"] {
        assert_eq!(arm(&rig, wrong), Err(ArmError::WrongCode));
    }
    let mut more = rig.clone();
    more.add(deployment("c"));
    assert_eq!(arm(&more, &preview.code), Err(ArmError::WrongCode), "it matches one more now");
    let mut busy = rig.clone();
    busy.idle("b", Reading::Idle, Some(T0.minus(HOUR * 3)));
    assert_eq!(arm(&busy, &preview.code), Err(ArmError::WrongCode), "it would end one more now");
    let mut changed = rig.clone();
    changed.reaper.replace(policies(vec![Policy { grace: MINUTE, ..everything }]));
    assert_eq!(arm(&changed, &preview.code), Err(ArmError::WrongCode), "it is another policy now");
    let arming = arm(&rig, &preview.code).unwrap();
    assert_eq!(arming.acknowledged, BTreeSet::from([Target::of(&deployment("a"))]));
    let nothing = Rig { reaper: Reaper::new(policies(vec![]), Vec::new()), ..rig };
    assert_eq!(arm(&nothing, &preview.code), Err(ArmError::NoSuchPolicy));
    assert!(nothing.reaper.preview("idle", &nothing.snapshot, &nothing.forecasts, nothing.now).is_none());
}

#[test]
fn fault_57_a_policy_without_a_selector_cannot_be_armed() {
    let empty = Policy { matching: Matcher::default(), ..idle_policy() };
    let rig = Rig::ready();
    let rig = Rig { reaper: Reaper::new(policies(vec![empty]), Vec::new()), ..rig };
    let code = rig.code("idle");
    let refused = rig.reaper.arm(wish(&code), &rig.snapshot, &rig.forecasts, rig.now);
    assert_eq!(refused, Err(ArmError::NoSelector));
}

#[test]
fn any_change_disarms_and_what_was_announced_is_called_off() {
    let base = policies(vec![idle_policy()]);
    let changed = |change: fn(&mut Policies)| {
        let mut changed = base.clone();
        change(&mut changed);
        changed
    };
    for (what, changed) in [
        ("the policy", changed(|p| p.policies[0].when.push(Condition::RunningFor(HOUR)))),
        ("[safety]", changed(|p| p.safety.max_per_day = 6)),
        ("the zone", changed(|p| p.zone = TimeZone::get("Europe/Berlin").unwrap())),
        ("an activity", changed(|p| p.sources[0].settings = "other".into())),
    ] {
        let mut rig = Rig::ready();
        rig.until_read();
        rig.reaper.replace(changed);
        let read = rig.read("a");
        let disarmed = rig.answer(read);
        assert!(disarmed.acts.is_empty(), "{what}");
        assert!(names(&disarmed)[0].contains("changed since it was armed"), "{what}");
    }
}

#[test]
fn an_armed_policy_that_is_a_dry_run_by_a_change_is_told_once_for_each_change() {
    let mut rig = Rig::ready();
    rig.idle("a", Reading::Busy, None);
    let other = |grace: Duration| policies(vec![Policy { grace, ..idle_policy() }]);
    let told = |rig: &mut Rig| rig.pass(MINUTE * 3).notices;
    assert_eq!(told(&mut rig), [], "it is armed as it stands");
    rig.reaper.replace(other(HOUR));
    let first = told(&mut rig);
    let titles: Vec<&str> = first.iter().map(|notice| notice.title.as_str()).collect();
    assert_eq!(titles, ["policy idle is a dry run now"]);
    assert_eq!((first[0].severity, &first[0].receivers), (Severity::Warning, &idle_policy().receivers));
    assert!(
        first[0].reason.starts_with("ann armed policy idle at 2027-01-15T12:00:00Z."),
        "{}",
        first[0].reason
    );
    rig.reaper.replace(other(HOUR * 2));
    let second = told(&mut rig);
    assert_eq!(second.len(), 1, "another change");
    assert_ne!(first[0].id, second[0].id);
    let mut restarted = rig.clone();
    restarted.reaper = Reaper::new(other(HOUR * 2), Vec::new());
    restarted.now = restarted.now.plus(MINUTE);
    assert_eq!(restarted.step().notices[0].id, second[0].id, "told again under its id");
    rig.reaper.replace(policies(vec![idle_policy()]));
    assert_eq!(told(&mut rig), [], "as it was armed");
    rig.reaper.replace(other(HOUR));
    rig.arm("idle");
    assert_eq!(told(&mut rig), [], "armed anew");
    rig.reaper.replace(policies(vec![]));
    assert_eq!(told(&mut rig), [], "who took it out of the file knows");
}

#[test]
fn fault_38_what_an_old_copy_of_the_database_announced_is_called_off() {
    for (stage, goes_on) in [
        (StageName::Announced, false),
        (StageName::Reading, false),
        (StageName::Checking, false),
        (StageName::Committing, false),
        (StageName::Requested, true),
    ] {
        let mut rig = Rig::ready();
        match stage {
            StageName::Reading => rig.until_read(),
            StageName::Checking => rig.until_check(),
            StageName::Committing => rig.until_commit(),
            StageName::Requested => drop(rig.until_request()),
            StageName::Announced
            | StageName::Withheld
            | StageName::Marked
            | StageName::Verifying
            | StageName::InDoubt
            | StageName::Gone
            | StageName::Refused
            | StageName::Expired
            | StageName::Cancelled => {
                let notices = rig.step().notices;
                rig.deliver(&notices, "ops");
                rig.step();
            }
        }
        assert_eq!(rig.stage(), stage);
        rig.snapshot.restored = Some(Restored { lacks: None, armed: vec!["idle".into()] }.into());
        rig.snapshot.armings.clear();
        let reaped = rig.step();
        assert!(reaped.acts.is_empty(), "{stage:?}");
        assert_eq!(reaped.notices[0].title, "policies disarmed: the database is an old copy");
        let called_off = reaped.notices.iter().filter(|notice| notice.title == "not ended: dev-a");
        assert_eq!(called_off.count(), usize::from(!goes_on), "{stage:?}");
        assert_eq!(rig.reaper.open.is_empty(), !goes_on, "{stage:?}: only reads decide what was requested");
        rig.snapshot.restored = None;
        assert!(!rig.pass(HOUR).acts.iter().any(is_delete), "{stage:?}");
    }
}

#[test]
fn fault_38_an_old_copy_is_told_of_though_no_policy_is_configured() {
    let mut rig = Rig::new(Policies::default());
    assert_eq!(rig.step(), Reaped::default());
    rig.snapshot.restored = Some(Restored { lacks: Some(1), armed: vec!["idle".into()] }.into());
    let told = rig.step().notices;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].title, "policies disarmed: the database is an old copy");
    assert_eq!(told[0].receivers, ["log".into()]);
}

#[test]
fn fault_68_half_of_the_fleet_at_once_is_held_until_it_is_armed_again_on_that_list() {
    let mut rig = Rig::ready_with(policies(vec![idle_policy()]), &["a", "b", "c", "d", "e", "f"]);
    for id in ["a", "b", "c", "d"] {
        rig.idle(id, Reading::Busy, None);
    }
    rig.arm("idle");
    assert_eq!(rig.step().notices.len(), 2, "e and f: two of six are no fault of a sensor");
    rig.idle("a", Reading::Idle, Some(T0.minus(HOUR * 3)));
    let held = rig.pass(HOUR * 2);
    assert!(held.acts.is_empty(), "three of six are, and none of them is ended");
    let told: Vec<&str> = held.notices.iter().map(|notice| notice.title.as_str()).collect();
    assert_eq!(told[0], "held: 3 of 6 would be ended at once");
    assert!(!told.iter().any(|title| title.starts_with("will be ended")), "{told:?}");
    let verdict = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now).remove(0);
    assert_eq!(verdict.holds, [Hold::FleetShare { qualifying: 3, fleet: 6 }]);
    rig.arm("idle");
    assert_eq!(rig.step().notices.len(), 2, "acknowledged, and as many as an hour may end");
}

#[test]
fn fault_68_the_fleet_is_what_is_listed_and_running() {
    let mut rig = Rig::ready_with(policies(vec![idle_policy()]), &["a", "b", "c", "d", "e", "f"]);
    for id in ["d", "e", "f"] {
        rig.idle(id, Reading::Busy, None);
    }
    for id in ["s1", "s2", "s3"] {
        rig.add(Deployment { status: Status::Stopped, ..deployment(id) });
    }
    rig.add(deployment("m"));
    rig.tracked("m").presence = Presence::Missing { since: T0, not_found: 0 };
    let arming = rig.snapshot.armings.get_mut("idle").unwrap();
    Arc::make_mut(arming).acknowledged.remove(&Target::of(&deployment("c")));
    let verdict = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now).remove(0);
    assert_eq!(verdict.holds, [Hold::FleetShare { qualifying: 3, fleet: 6 }]);
    rig.add(deployment("g"));
    rig.idle("g", Reading::Busy, None);
    let verdict = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now).remove(0);
    assert_eq!(verdict.holds, [], "three of seven are less than half");
}

#[test]
fn a_third_of_a_small_fleet_and_two_of_two_are_no_fault_of_a_sensor() {
    let mut rig = Rig::ready_with(policies(vec![idle_policy()]), &["a", "b"]);
    let arming = rig.snapshot.armings.get_mut("idle").unwrap();
    Arc::make_mut(arming).acknowledged.clear();
    assert_eq!(rig.step().notices.len(), 2);
}

#[test]
fn why_says_the_inputs_the_gates_the_next_time_and_what_would_stop_it() {
    let mut rig = Rig::ready();
    let verdict = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now).remove(0);
    assert_eq!(
        verdict.inputs,
        [("idle for 2h".to_owned(), "idle for 4h, since 2027-01-15T08:00:00Z".to_owned())]
    );
    assert_eq!(verdict.holds, [], "it is about to be announced");
    let notices = rig.step().notices;
    rig.deliver(&notices, "ops");
    rig.step();
    let verdict = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now).remove(0);
    assert_eq!(verdict.holds, [Hold::Grace { until: T0.plus(MINUTE * 30) }]);
    assert_eq!(verdict.next, Some((T0.plus(MINUTE * 30), "the final read, if every gate is open then")));
    assert_eq!(verdict.action.unwrap().1, StageName::Announced);
    assert_eq!(verdict.stops.len(), 4);
}

#[test]
fn why_says_what_comes_next_and_what_would_stop_it_at_every_stage() {
    type Until = fn(&mut Rig);
    let grace = Some((T0.plus(MINUTE * 30), "the final read, if every gate is open then"));
    let taken = Some((T0.plus(HOUR), "the announcement expires if nobody takes it"));
    let read = Some((T0.plus(MINUTE * 30 + SECOND * 15), "the next read of what became of it"));
    type Next = Option<(Time, &'static str)>;
    let stages: [(Until, Next, usize, bool); 8] = [
        (|rig| drop(rig.step()), taken, 4, true),
        (
            |rig| {
                let notices = rig.step().notices;
                rig.deliver(&notices, "ops");
                rig.step();
            },
            grace,
            4,
            true,
        ),
        (Rig::until_read, None, 4, false),
        (Rig::until_check, None, 4, false),
        (Rig::until_commit, None, 4, false),
        // From here on only reads decide, so no gate holds anything and nothing stops it.
        (|rig| drop(rig.until_request()), None, 0, false),
        (
            |rig| {
                rig.until_request();
                rig.answer(Came::Delete(DeleteAnswer::Accepted));
                rig.snapshot.skew_ms = None;
            },
            read,
            0,
            false,
        ),
        (
            |rig| {
                rig.until_request();
                rig.answer(Came::Delete(DeleteAnswer::Lost { why: "timeout".into() }));
                rig.snapshot.skew_ms = None;
            },
            read,
            0,
            false,
        ),
    ];
    for (number, (until, next, stops, holds)) in stages.into_iter().enumerate() {
        let mut rig = Rig::ready();
        until(&mut rig);
        let verdict = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now).remove(0);
        assert_eq!((verdict.next, verdict.stops.len()), (next, stops), "{number}");
        assert_eq!(!verdict.holds.is_empty(), holds, "{number}: {:?}", verdict.holds);
    }
}

#[test]
fn why_says_when_the_last_gate_opens_and_nothing_of_stopping_what_a_policy_leaves_out() {
    let mut rig = Rig::ready();
    rig.tracked("a").status_since = rig.now.minus(MINUTE);
    rig.idle("a", Reading::Idle, Some(rig.now.minus(HOUR)));
    rig.add(Deployment { name: "other".into(), ..deployment("b") });
    rig.idle("b", Reading::Idle, Some(T0.minus(HOUR * 3)));
    let [a, b] = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now).try_into().unwrap();
    assert_eq!(
        a.holds,
        [Hold::TooYoung { until: T0.plus(MINUTE * 14) }, Hold::NotIdleLong { until: T0.plus(HOUR) }]
    );
    assert_eq!(a.next, Some((T0.plus(HOUR), "the last of the gates that open in time")));
    assert_eq!((a.armed, a.stops.len(), b.stops.len()), (true, 4, 0));
    assert_eq!(b.holds, [Hold::NotMatched]);
    assert_eq!(b.next, None);
}
