use super::*;
use crate::model::{Hold, Shrunk};

/// Just before the DELETE: the intent is committed, and every gate is open.
fn at_the_last_gate(require_volume: bool) -> Rig {
    let policy = Policy { require_volume, ..idle_policy() };
    let mut rig = Rig::new(policies(vec![policy]));
    let tracked = TrackedVolume { volume: volume("v"), first_seen: T0, gone_at: None };
    let ready = Rig::ready_with(rig.reaper.policies().clone(), &["a"]);
    rig = ready;
    rig.snapshot.volumes.insert(VolumeId::new("v"), tracked.into());
    // Armed while the volume was not there yet; what would end does not matter to the gates.
    rig.until_commit();
    rig
}

fn closed(rig: &Rig) -> Vec<Hold> {
    let (ground, _) = rig.reaper.looked(&rig.snapshot, &rig.forecasts, rig.now);
    let action = rig.action();
    let Stage::Committing { read, check, .. } = &action.stage else { panic!("{:?}", action.stage) };
    let (policy, tracked) = review::parties(&ground, action).unwrap();
    let case = Case {
        action: Some(action),
        read: Some(read),
        check: Some(check),
        ..Case::new(&ground, policy, tracked)
    };
    gates::closed(&case, Phase::Delete).collect()
}

/// Whether the DELETE is handed out once the intent is committed.
fn ends(mut rig: Rig) -> bool {
    rig.last = vec![Act {
        action: rig.action().id.clone(),
        seq: rig.action().seq,
        target: rig.action().target.clone(),
        deed: Deed::FinalRead,
    }];
    rig.answer(Came::Commit(Ok(()))).acts.iter().any(is_delete)
}

fn reads(rig: &mut Rig) -> (&mut crate::model::FinalRead, &mut crate::model::Check) {
    let Some(Action { stage: Stage::Committing { read, check, .. }, .. }) =
        rig.reaper.open.values_mut().next()
    else {
        panic!("not committing")
    };
    (read, check)
}

fn past(rig: &mut Rig, n: u32, ago: Duration, rest: Option<Time>) {
    let mut action = rig.action().clone();
    let at = rig.now.minus(ago);
    action.id = crate::model::ActionId::from_text(format!("act_{n}"));
    action.requests = vec![at];
    action.stage = match rest {
        Some(rest) => Stage::Refused { at, rest },
        None => Stage::Gone { at, saved_until: at },
    };
    if rest.is_none() {
        action.target.id = DeploymentId::new(format!("past-{n}"));
    }
    rig.reaper.past.insert(action.id.clone(), action);
}

type Mutation = fn(&mut Rig);

/// Each gate, what closes it and it alone, and what it says then.
fn table() -> Vec<(Gate, Mutation, Vec<Hold>)> {
    let now = T0.plus(MINUTE * 30);
    let later = |length: Duration| now.plus(length);
    let team = || Feed::Deployments;
    vec![
        (Gate::Selector, |rig| rig.team("t1").name = "other".into(), vec![Hold::NotMatched]),
        (
            Gate::Protection,
            |rig| rig.team("t1").name = "vault".into(),
            vec![Hold::Protected { key: "team".into() }],
        ),
        (
            Gate::Keeps,
            |rig| {
                let keep = Keep {
                    id: "k".into(),
                    target: Target::of(&deployment("a")),
                    until: None,
                    by: "ann".into(),
                    reason: "mine".into(),
                    at: rig.now,
                };
                rig.snapshot.keeps.insert("k".into(), keep.into());
            },
            vec![Hold::Kept { id: "k".into(), by: "ann".into(), until: None }],
        ),
        (
            Gate::Rest,
            |rig| past(rig, 1, HOUR * 2, Some(rig.now.plus(HOUR))),
            vec![Hold::Resting { until: later(HOUR) }],
        ),
        (
            Gate::Listed,
            |rig| rig.tracked("a").presence = Presence::Missing { since: T0, not_found: 1 },
            vec![Hold::Missing],
        ),
        (
            Gate::Deploying,
            |rig| rig.deployment("a").status = Status::Deploying,
            vec![Hold::Deploying, Hold::NotRunning { status: "deploying".into() }],
        ),
        (
            Gate::Running,
            |rig| rig.deployment("a").status = Status::Unknown("paused".into()),
            vec![Hold::NotRunning { status: "paused".into() }],
        ),
        (
            Gate::Age,
            |rig| rig.tracked("a").status_since = rig.now.minus(MINUTE * 14),
            vec![Hold::TooYoung { until: later(MINUTE) }],
        ),
        (
            Gate::Whole,
            |rig| {
                let health = rig.snapshot.feeds.get_mut(&Feed::Deployments).unwrap();
                health.last_attempt = Some(rig.now.plus(SECOND));
            },
            vec![Hold::Incomplete { feed: team() }],
        ),
        (
            Gate::Fresh,
            |rig| {
                let health = rig.snapshot.feeds.get_mut(&Feed::Deployments).unwrap();
                let old = Some(rig.now.minus(SECOND * 151));
                (health.last_whole, health.last_attempt) = (old, old);
            },
            vec![Hold::Stale { feed: team() }],
        ),
        (Gate::Clock, |rig| rig.snapshot.skew_ms = Some(-60_001), vec![Hold::ClockOff { skew_ms: -60_001 }]),
        (
            Gate::Window,
            |rig| {
                rig.reaper.sight = Sight::default();
                rig.reaper.sight.look(&rig.snapshot, &rig.forecasts, rig.now);
            },
            vec![Hold::WindowBroken { until: Some(later(HOUR * 2)) }],
        ),
        (
            Gate::Volume,
            |rig| {
                let volume = rig.snapshot.volumes.get_mut(&VolumeId::new("v")).unwrap();
                Arc::make_mut(volume).volume.status = VolumeStatus::Available;
            },
            vec![Hold::NoVolume],
        ),
        (Gate::Conditions, |rig| rig.idle("a", Reading::Busy, None), vec![Hold::Busy]),
        (Gate::Armed, |rig| rig.snapshot.armings.clear(), vec![Hold::NotArmed]),
        (
            Gate::FleetShare,
            |rig| {
                let since = rig.now.minus(HOUR * 3);
                for id in ["b", "c"] {
                    rig.add(deployment(id));
                    rig.idle(id, Reading::Idle, Some(since));
                    let mut volume = rig.snapshot.volumes[&VolumeId::new("v")].clone();
                    Arc::make_mut(&mut volume).volume.attached_to = vec![DeploymentId::new(id)];
                    rig.snapshot.volumes.insert(VolumeId::new(id), volume);
                }
            },
            vec![Hold::FleetShare { qualifying: 3, fleet: 3 }],
        ),
        (
            Gate::CapHour,
            |rig| (0..2).for_each(|n| past(rig, n, MINUTE * 10, None)),
            vec![Hold::CapHour { max: 2, until: later(MINUTE * 50) }],
        ),
        (
            Gate::CapDay,
            |rig| (1..=5).for_each(|n| past(rig, n, HOUR * 4 * n, None)),
            vec![Hold::CapDay { max: 5, until: later(HOUR * 4) }],
        ),
        (Gate::Notice, |rig| rig.snapshot.told.clear(), vec![Hold::NotTold]),
        (
            Gate::Grace,
            |rig| {
                let action = rig.reaper.open.values_mut().next().unwrap();
                let Stage::Committing { slot, .. } = &mut action.stage else { panic!() };
                slot.told = slot.told.plus(MINUTE);
            },
            vec![Hold::Grace { until: later(MINUTE) }],
        ),
        (
            Gate::Identity,
            |rig| reads(rig).0.deployment.name = "dev-b".into(),
            vec![Hold::ReadDiffers { what: "name".into() }],
        ),
        (Gate::ReadClock, |rig| reads(rig).0.skew_ms = None, vec![Hold::ClockUnknown]),
        (
            Gate::CanTerminate,
            |rig| reads(rig).1.answer.minutes_remaining = 1,
            vec![Hold::Contradictory { minutes: 1 }],
        ),
        (Gate::ReadsYoung, |rig| reads(rig).0.sent = rig.now.minus(SECOND * 31), vec![Hold::ReadsOld]),
    ]
}

#[test]
fn each_gate_alone_stops_the_delete_with_its_own_reason_and_nothing_else_would_have() {
    let rig = at_the_last_gate(true);
    assert_eq!(closed(&rig), []);
    assert!(ends(rig.clone()), "with every gate open it is ended");
    let table = table();
    let gates: Vec<Gate> = table.iter().map(|(gate, ..)| *gate).collect();
    assert_eq!(gates, gates::GATES.map(|(gate, ..)| gate), "every gate has its line");
    for (gate, mutate, expected) in table {
        let mut rig = rig.clone();
        mutate(&mut rig);
        let found = closed(&rig);
        // A list that is too old is none that the window could rest on.
        let beside = |hold: &Hold| gate == Gate::Fresh && *hold == Hold::WindowBroken { until: None };
        let found: Vec<Hold> = found.into_iter().filter(|hold| !beside(hold)).collect();
        assert_eq!(found, expected, "{gate:?}");
        assert!(!ends(rig.clone()), "{gate:?} is closed, and it was ended all the same");
        // `running` and `window` stand behind these two as well.
        if !matches!(gate, Gate::Deploying | Gate::Fresh) {
            rig.reaper.skip = Some(gate);
            assert!(ends(rig), "{gate:?} was not what stopped it");
        }
    }
}

/// A dry run and a preview name nothing that does not qualify, and nothing is announced or read that a gate would stop anyway.
#[test]
fn each_gate_is_in_force_from_its_phase_on() {
    let rig = at_the_last_gate(true);
    for (gate, mutate, _) in table() {
        let mut rig = rig.clone();
        mutate(&mut rig);
        let preview = rig.reaper.preview("idle", &rig.snapshot, &rig.forecasts, rig.now).unwrap();
        let found = preview.would_end.iter().any(|(candidate, _)| candidate.target.id.as_str() == "a");
        assert_eq!(found, gate >= Gate::Armed, "{gate:?} for a candidate");
        let (ground, _) = rig.reaper.looked(&rig.snapshot, &rig.forecasts, rig.now);
        let action = Some(rig.action());
        let Stage::Committing { read, .. } = &rig.action().stage else { panic!() };
        let tracked = &rig.snapshot.deployments[&DeploymentId::new("a")];
        let case =
            |action, read| Case { action, read, ..Case::new(&ground, &ground.policies.policies[0], tracked) };
        let open = |case: Case<'_>, phase| gates::is_open(&case, phase);
        assert_eq!(open(case(None, None), Phase::Mark), gate >= Gate::Notice, "{gate:?} for a mark");
        // That the read differs shows only once it is in.
        assert_eq!(open(case(action, None), Phase::Start), gate >= Gate::Identity, "{gate:?} for a start");
        assert_eq!(
            open(case(action, Some(read)), Phase::Read),
            gate >= Gate::CanTerminate,
            "{gate:?} for a read"
        );
    }
    let mut renamed = rig;
    renamed.deployment("a").name = "dev-z".into();
    let (ground, _) = renamed.reaper.looked(&renamed.snapshot, &renamed.forecasts, renamed.now);
    let (policy, tracked) = review::parties(&ground, renamed.action()).unwrap();
    let case = Case { action: Some(renamed.action()), ..Case::new(&ground, policy, tracked) };
    assert_eq!(pass(&case, Phase::Start), Err(Hold::ReadDiffers { what: "name".into() }));
}

#[test]
fn every_doubt_behind_a_gate_stops_the_delete() {
    let doubts: [(&str, Mutation, Hold); 24] = [
        ("its record could not be read", |rig| rig.tracked("a").unreadable_since = Some(T0), Hold::Missing),
        (
            "we met it lately",
            |rig| rig.tracked("a").first_seen = rig.now.minus(MINUTE),
            Hold::TooYoung { until: T0.plus(MINUTE * 44) },
        ),
        (
            "stopped holds the disk",
            |rig| rig.deployment("a").status = Status::Stopped,
            Hold::NotRunning { status: "stopped".into() },
        ),
        (
            "the read shows another status",
            |rig| reads(rig).0.deployment.status = Status::Stopped,
            Hold::NotRunning { status: "stopped".into() },
        ),
        (
            "the fleet shrank",
            |rig| {
                let shrunk = Shrunk { at: T0, running_before: 2, vanished: Vec::new() };
                rig.snapshot.shrunk.insert(TeamId::new("t1"), shrunk);
            },
            Hold::Incomplete { feed: Feed::Deployments },
        ),
        (
            "the team's list was not read",
            |rig| rig.snapshot.unread = BTreeSet::from([TeamId::new("t1")]),
            Hold::Incomplete { feed: Feed::Deployments },
        ),
        (
            "the team is forbidden",
            |rig| rig.team("t1").denied = Some("403".into()),
            Hold::Incomplete { feed: Feed::Deployments },
        ),
        (
            "the team is not known",
            |rig| rig.snapshot.teams.clear(),
            Hold::Incomplete { feed: Feed::Deployments },
        ),
        (
            "no list was read",
            |rig| drop(rig.snapshot.feeds.remove(&Feed::Deployments)),
            Hold::Incomplete { feed: Feed::Deployments },
        ),
        (
            "no list is fresh",
            |rig| drop(rig.snapshot.feeds.remove(&Feed::Deployments)),
            Hold::Stale { feed: Feed::Deployments },
        ),
        ("no clock", |rig| rig.snapshot.skew_ms = None, Hold::ClockUnknown),
        (
            "a list from the future",
            |rig| {
                let health = rig.snapshot.feeds.get_mut(&Feed::Deployments).unwrap();
                let ahead = Some(rig.now.plus(SECOND));
                (health.last_whole, health.last_attempt) = (ahead, ahead);
            },
            Hold::Stale { feed: Feed::Deployments },
        ),
        ("nobody measures", |rig| rig.snapshot.activity.clear(), Hold::Unmeasured),
        (
            "idle for a moment less",
            |rig| {
                let since = rig.now.minus(HOUR * 2).plus(SECOND);
                rig.idle("a", Reading::Idle, Some(since));
            },
            Hold::NotIdleLong { until: T0.plus(MINUTE * 30).plus(SECOND) },
        ),
        (
            "the volumes were not read",
            |rig| drop(rig.snapshot.feeds.remove(&Feed::Volumes)),
            Hold::Incomplete { feed: Feed::Volumes },
        ),
        (
            "it was armed otherwise",
            |rig| {
                let arming = rig.snapshot.armings.get_mut("idle").unwrap();
                Arc::make_mut(arming).fingerprint = "other".into();
            },
            Hold::ArmedOtherwise,
        ),
        (
            "only the log was told",
            |rig| {
                for told in rig.snapshot.told.values_mut() {
                    let at = told.remove("ops").unwrap();
                    told.insert("log".into(), at);
                }
            },
            Hold::NotTold,
        ),
        (
            "the read shows another team",
            |rig| reads(rig).0.deployment.team = TeamId::new("t2"),
            Hold::NotMatched,
        ),
        (
            "the read shows another creation",
            |rig| reads(rig).0.deployment.created_at = T0,
            Hold::ReadDiffers { what: "createdAt".into() },
        ),
        (
            "the read shows a protected name",
            |rig| reads(rig).0.deployment.name = "prod-1".into(),
            Hold::NotMatched,
        ),
        (
            "the read's clock is off",
            |rig| reads(rig).0.skew_ms = Some(61_000),
            Hold::ClockOff { skew_ms: 61_000 },
        ),
        (
            "can-terminate says no",
            |rig| reads(rig).1.answer.can_terminate = false,
            Hold::CannotTerminate { minutes: 0 },
        ),
        ("can-terminate's clock is not known", |rig| reads(rig).1.skew_ms = None, Hold::ClockUnknown),
        (
            "a read from before the clock was set back",
            |rig| reads(rig).0.sent = rig.now.plus(SECOND),
            Hold::ReadsOld,
        ),
    ];
    let rig = at_the_last_gate(true);
    for (what, mutate, expected) in doubts {
        let mut rig = rig.clone();
        mutate(&mut rig);
        assert!(closed(&rig).contains(&expected), "{what}: {:?}", closed(&rig));
        assert!(!ends(rig), "{what}");
    }
}

/// At its limit each gate is open, or closed, as it says: one moment, or one millisecond of skew, tells them apart.
#[test]
fn each_gate_holds_up_to_its_limit_and_no_longer() {
    fn keep(rig: &mut Rig, of: &str, until: Option<Time>) {
        let (target, at) = (Target::of(&deployment(of)), rig.now);
        let (by, reason) = ("ann".into(), "mine".into());
        let id = format!("k{}", rig.snapshot.keeps.len());
        let keep = Keep { id: id.as_str().into(), target, until, by, reason, at };
        rig.snapshot.keeps.insert(keep.id.clone(), keep.into());
    }
    let kept = |id: &str, until| vec![Hold::Kept { id: id.into(), by: "ann".into(), until }];
    fn skew(rig: &mut Rig, ms: i64) {
        rig.snapshot.skew_ms = Some(ms);
        (reads(rig).0.skew_ms, reads(rig).1.skew_ms) = (Some(ms), Some(ms));
    }
    fn waits(rig: &mut Rig, length: Duration) {
        rig.now = rig.now.plus(length);
        (reads(rig).0.sent, reads(rig).1.sent) = (rig.now, rig.now);
    }
    let now = T0.plus(MINUTE * 30);
    let later = |length: Duration| now.plus(length);
    let limits: [(&str, Mutation, Vec<Hold>); 25] = [
        ("the keep of another one", |rig| keep(rig, "b", None), vec![]),
        ("a keep that is over now", |rig| keep(rig, "a", Some(rig.now)), vec![]),
        (
            "a keep to the next second",
            |rig| keep(rig, "a", Some(rig.now.plus(SECOND))),
            kept("k0", Some(later(SECOND))),
        ),
        (
            "of two keeps the longer is named",
            |rig| [2, 1].into_iter().for_each(|hours| keep(rig, "a", Some(rig.now.plus(HOUR * hours)))),
            kept("k0", Some(later(HOUR * 2))),
        ),
        (
            "and one without an end before all",
            |rig| [None, Some(rig.now.plus(HOUR))].into_iter().for_each(|until| keep(rig, "a", until)),
            kept("k0", None),
        ),
        ("a rest that is over now", |rig| past(rig, 1, HOUR * 2, Some(rig.now)), vec![]),
        (
            "a rest to the next second",
            |rig| past(rig, 1, HOUR * 2, Some(rig.now.plus(SECOND))),
            vec![Hold::Resting { until: later(SECOND) }],
        ),
        ("a clock behind by a minute", |rig| skew(rig, 60_000), vec![]),
        ("a clock ahead by a minute", |rig| skew(rig, -60_000), vec![]),
        ("a clock behind by more", |rig| skew(rig, 60_001), vec![Hold::ClockOff { skew_ms: 60_001 }; 3]),
        (
            "a status of just long enough",
            |rig| rig.tracked("a").status_since = rig.now.minus(MINUTE * 15),
            vec![],
        ),
        ("a list of 150 s ago, which is 2.5 polls", |rig| waits(rig, SECOND * 150), vec![]),
        (
            "a list of 151 s ago, and a measurement",
            |rig| waits(rig, SECOND * 151),
            vec![
                Hold::Stale { feed: Feed::Deployments },
                Hold::WindowBroken { until: None },
                Hold::Stale { feed: Feed::Volumes },
                Hold::Unmeasured,
            ],
        ),
        (
            "idle for just long enough",
            |rig| {
                rig.idle("a", Reading::Idle, Some(rig.now.minus(HOUR * 2)));
            },
            vec![],
        ),
        ("two ends an hour ago", |rig| (0..2).for_each(|n| past(rig, n, HOUR, None)), vec![]),
        (
            "two ends a second less than an hour ago",
            |rig| (0..2).for_each(|n| past(rig, n, HOUR - SECOND, None)),
            vec![Hold::CapHour { max: 2, until: later(SECOND) }],
        ),
        (
            "two ends just now",
            |rig| (0..2).for_each(|n| past(rig, n, Duration::ZERO, None)),
            vec![Hold::CapHour { max: 2, until: later(HOUR) }],
        ),
        (
            "two ends by a clock that was ahead by two hours",
            |rig| {
                (0..2).for_each(|n| {
                    past(rig, n, Duration::ZERO, None);
                    let action = rig.reaper.past.values_mut().last().unwrap();
                    action.requests = vec![rig.now.plus(HOUR * 2)];
                });
            },
            vec![Hold::CapHour { max: 2, until: later(HOUR) }],
        ),
        ("five ends a day ago", |rig| (0..5).for_each(|n| past(rig, n, HOUR * 24, None)), vec![]),
        (
            "five ends a second less than a day ago",
            |rig| (0..5).for_each(|n| past(rig, n, HOUR * 24 - SECOND, None)),
            vec![Hold::CapDay { max: 5, until: later(SECOND) }],
        ),
        (
            "an announcement that arrived a second later",
            |rig| {
                let action = rig.reaper.open.values_mut().next().unwrap();
                let Stage::Committing { slot, .. } = &mut action.stage else { panic!() };
                (slot.told, slot.at) = (slot.told.plus(SECOND), slot.at.minus(HOUR));
            },
            vec![Hold::Grace { until: later(SECOND) }],
        ),
        (
            "an announcement for a second later",
            |rig| {
                let action = rig.reaper.open.values_mut().next().unwrap();
                let Stage::Committing { slot, .. } = &mut action.stage else { panic!() };
                (slot.told, slot.at) = (slot.told.minus(HOUR), slot.at.plus(SECOND));
            },
            vec![Hold::Grace { until: later(SECOND) }],
        ),
        (
            "reads of 30 s ago",
            |rig| {
                let sent = rig.now.minus(SECOND * 30);
                (reads(rig).0.sent, reads(rig).1.sent) = (sent, sent);
            },
            vec![],
        ),
        (
            "can-terminate of 31 s ago, before the final read",
            |rig| reads(rig).1.sent = rig.now.minus(SECOND * 31),
            vec![Hold::ReadsOld],
        ),
        (
            "a final read after can-terminate",
            |rig| reads(rig).1.sent = rig.now.minus(SECOND),
            vec![Hold::ReadsOld],
        ),
    ];
    let rig = at_the_last_gate(true);
    assert_eq!(rig.now, now);
    for (what, mutate, expected) in limits {
        let mut rig = rig.clone();
        mutate(&mut rig);
        assert_eq!(closed(&rig), expected, "{what}");
        assert_eq!(ends(rig), expected.is_empty(), "{what}");
    }
}

#[test]
fn fault_74_protection_wins_over_every_policy_whatever_it_matches() {
    let everything = Policy { matching: matcher(&[(MatchKey::Name, &["*"])]), ..idle_policy() };
    let mut rig = Rig::ready_with(policies(vec![everything]), &[]);
    for (id, name, of) in [("a", "Prod-db", "SPOT"), ("b", "dev-b", "CLUSTER"), ("c", "dev-c", "BARE_METAL")]
    {
        let (name, instance_type) = (name.into(), InstanceType::new(of));
        rig.add(Deployment { name, instance_type, ..deployment(id) });
        rig.idle(id, Reading::Idle, Some(T0.minus(HOUR * 3)));
    }
    rig.arm("idle");
    assert!(rig.pass(HOUR * 2).shifts.is_empty());
}

#[test]
fn fault_52_a_policy_without_a_selector_or_without_a_condition_ends_nothing() {
    let no_selector = Policy { name: "p".into(), matching: Matcher::default(), ..idle_policy() };
    let no_condition = Policy { name: "q".into(), when: Vec::new(), ..idle_policy() };
    let mut rig = Rig::ready_with(policies(vec![]), &["a"]);
    rig.reaper.replace(policies(vec![no_selector, no_condition]));
    for name in ["p", "q"] {
        let fingerprint = rig.reaper.fingerprints[name].clone();
        let arming = Arming {
            policy: name.into(),
            fingerprint,
            armed_at: rig.now,
            by: "ann".into(),
            acknowledged: BTreeSet::from([Target::of(&deployment("a"))]),
        };
        rig.snapshot.armings.insert(name.into(), arming.into());
    }
    assert!(rig.pass(HOUR * 5).shifts.is_empty());
    let verdicts = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now);
    assert_eq!(verdicts[0].holds, [Hold::NoSelector]);
    assert!(verdicts[1].holds.contains(&Hold::NoCondition));
}
