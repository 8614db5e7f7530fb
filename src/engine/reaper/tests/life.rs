use super::*;
use crate::model::{Cancel, Hold};

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, "no answer")
}

fn deleted(answer: DeleteAnswer) -> Came {
    Came::Delete(answer)
}

fn ended(rig: &Rig) -> Came {
    let Came::Read(Ok(Some(mut read))) = rig.read("a") else { panic!() };
    read.status = Status::Terminated;
    Came::Read(Ok(Some(read)))
}

/// The next read after the DELETE, answered.
fn read_after(rig: &mut Rig, came: impl Fn(&Rig) -> Came) -> Reaped {
    rig.now = rig.now.plus(SECOND * 15);
    rig.poll();
    let acts = rig.step().acts;
    assert!(acts.iter().any(|act| act.deed == Deed::Verify), "{acts:?}");
    let came = came(rig);
    rig.answer(came)
}

fn still(rig: &Rig) -> Came {
    rig.read("a")
}

#[test]
fn an_idle_deployment_is_announced_reminded_read_committed_requested_and_verified() {
    let mut rig = Rig::ready();
    let first = rig.step();
    assert_eq!(names(&first), ["- > marked: idle for 4h, since 2027-01-15T08:00:00Z (limit: idle for 2h)"]);
    assert_eq!(first.notices[0].title, "will be ended: dev-a in 30m");
    assert!(first.notices[0].reason.contains("Ending deletes the instance and its disk"));
    assert!(first.notices[0].advice.contains("spheron-watch keep a --for 1d"));
    assert_eq!(first.notices[0].receivers, ["ops".into()]);
    let grant = first.notices[0].grant.as_ref().unwrap();
    assert_eq!((&*grant.target.id.to_string(), grant.expires), ("a", rig.now.plus(MINUTE * 30 + HOUR * 24)));
    assert!(rig.pass(MINUTE * 10).shifts.is_empty(), "nobody was told yet");
    rig.deliver(&first.notices, "log");
    assert!(rig.pass(MINUTE).shifts.is_empty(), "the log is nobody");
    rig.deliver(&first.notices, "ops");
    assert_eq!(names(&rig.step()), ["marked > announced: ops took the announcement"]);
    let half = rig.pass(MINUTE * 15);
    assert_eq!(half.notices.len(), 1);
    assert_eq!(half.notices[0].title, "will be ended: dev-a in 15m");
    assert_eq!(half.notices[0].grant.as_ref().unwrap().action, grant.action);
    assert!(half.shifts.is_empty() && half.acts.is_empty());
    let until = rig.pass(MINUTE * 15);
    assert_eq!(names(&until), ["announced > final read: the grace is over"]);
    assert_eq!(until.notices, []);
    let mut told = names(&rig.answer(rig.read("a")));
    told.extend(names(&rig.answer(yes())));
    let requested = rig.answer(Came::Commit(Ok(())));
    assert_eq!(requested.acts.len(), 1);
    assert_eq!(requested.acts[0].deed, Deed::Delete { not_after: rig.now.plus(SECOND * 30) });
    told.extend(names(&requested));
    told.extend(names(&rig.answer(deleted(DeleteAnswer::Accepted))));
    assert!(read_after(&mut rig, ended).shifts.is_empty(), "one read is not two");
    let done = read_after(&mut rig, ended);
    told.extend(names(&done));
    assert_eq!(
        told,
        [
            "final read > can-terminate: the final read agrees with what was announced",
            "can-terminate > committing: can-terminate says yes, and that nothing remains",
            "committing > requested: the intent is committed",
            "requested > verifying: the API accepted the request; reads have to confirm it",
            "verifying > gone: two reads show that it has ended",
        ]
    );
    assert_eq!(done.notices[0].title, "ended: dev-a");
    assert_eq!(done.notices[0].grant, None);
    assert!(done.notices[0].reason.contains("$48.00 in the next 24 hours"), "{}", done.notices[0].reason);
    let ids: BTreeSet<_> =
        first.notices.iter().chain(&half.notices).chain(&done.notices).map(|notice| &notice.id).collect();
    assert_eq!(ids.len(), 3, "each has an id of its own");
}

#[test]
fn an_announcement_says_what_is_lost_and_what_stays() {
    let said = |prepare: &dyn Fn(&mut Rig)| {
        let mut rig = Rig::ready();
        prepare(&mut rig);
        rig.step().notices[0].reason.clone()
    };
    let add = |rig: &mut Rig, id: &str, to: &str| {
        let volume = Volume { attached_to: vec![DeploymentId::new(to)], ..volume(id) };
        let tracked = TrackedVolume { volume, first_seen: T0, gone_at: None };
        rig.snapshot.volumes.insert(VolumeId::new(id), tracked.into());
    };
    let none = said(&|_| {});
    assert!(none.ends_with("its disk; no volume is attached, so all its data are lost."), "{none}");
    let other = said(&|rig| add(rig, "v", "b"));
    assert_eq!(other, none);
    let one = said(&|rig| add(rig, "v", "a"));
    assert!(one.ends_with("its disk; its volume data stays, and goes on billing."), "{one}");
    let unknown = said(&|rig| drop(rig.snapshot.feeds.remove(&Feed::Volumes)));
    assert!(unknown.ends_with("whether a volume is attached is not known now."), "{unknown}");
}

#[test]
fn fault_16_can_terminate_that_contradicts_itself_or_says_no_waits_and_reads_anew() {
    for answer in [can(true, 3), can(false, 3)] {
        let mut rig = Rig::ready();
        rig.until_check();
        assert_eq!(
            names(&rig.answer(answer)),
            [
                "can-terminate > announced: 3 minutes remain of the minimum runtime: not before 2027-01-15T12:33:05Z"
            ]
        );
        assert!(rig.pass(MINUTE * 3).acts.is_empty());
        let again = rig.pass(MINUTE);
        assert_eq!(again.acts.len(), 1);
        assert_eq!(again.acts[0].deed, Deed::FinalRead);
    }
}

#[test]
fn fault_17_a_minimum_runtime_of_hours_is_waited_for_without_starting_over() {
    let mut rig = Rig::ready();
    rig.until_check();
    rig.answer(can(false, 120));
    let waits = rig.pass(MINUTE * 120);
    assert_eq!((names(&waits).len(), waits.acts.len()), (0, 0), "{waits:?}");
    let again = rig.pass(SECOND * 5);
    assert_eq!(names(&again), ["announced > final read: the grace is over"]);
}

/// Up to the last moment nothing is given up; a millisecond later it is.
#[test]
fn what_waits_is_given_up_after_its_last_moment_and_says_when_that_is() {
    type Until = fn(&mut Rig);
    fn announced(rig: &mut Rig) {
        let notices = rig.step().notices;
        rig.deliver(&notices, "ops");
        rig.step();
        // Held back by a gate that only waits.
        rig.snapshot.skew_ms = None;
    }
    let waits: [(&str, Until, Duration, &str, &[&str]); 6] = [
        ("a mark that nobody takes", |rig| drop(rig.step()), HOUR, "marked > expired", &[]),
        (
            "an announcement past its slot",
            announced,
            MINUTE * 90,
            "announced > expired",
            &["not ended: dev-a"],
        ),
        ("a final read", Rig::until_read, MINUTE, "final read > announced", &[]),
        ("can-terminate", Rig::until_check, MINUTE, "can-terminate > announced", &[]),
        ("a commit", Rig::until_commit, MINUTE, "committing > announced", &[]),
        ("a DELETE", |rig| drop(rig.until_request()), MINUTE, "requested > in doubt", &[]),
    ];
    for (what, until, length, then, told) in waits {
        let mut rig = Rig::ready();
        until(&mut rig);
        let from = rig.now;
        rig.pass(length - MINUTE);
        rig.snapshot.receipts.clear();
        rig.now = from.plus(length);
        rig.poll();
        let last = rig.step();
        assert_eq!(names(&last), [""; 0], "{what}");
        let wake = last.wake.map(|(at, _)| at);
        assert_eq!(wake, Some(from.plus(length).plus(Duration::from_millis(1))), "{what}");
        rig.now = wake.unwrap();
        let over = rig.step();
        assert!(names(&over)[0].starts_with(then), "{what}: {:?}", names(&over));
        let titles: Vec<&str> = over.notices.iter().map(|notice| &*notice.title).collect();
        assert_eq!(titles, told, "{what}");
    }
}

#[test]
fn an_answer_that_was_asked_for_by_a_clock_that_was_ahead_is_given_up_at_once() {
    let mut rig = Rig::ready();
    rig.until_read();
    rig.now = rig.now.minus(Duration::from_millis(1));
    assert_eq!(names(&rig.step()), ["final read > announced: nothing came back in time"]);
}

#[test]
fn half_of_the_grace_is_reminded_of_once_and_never_where_it_is_over() {
    let announced = || {
        let mut rig = Rig::ready();
        let notices = rig.step().notices;
        rig.deliver(&notices, "ops");
        rig.step();
        assert_eq!(rig.step().wake, Some((T0.plus(MINUTE * 15), "half of a grace")));
        rig
    };
    let mut rig = announced();
    assert!(rig.pass(MINUTE * 15 - SECOND).notices.is_empty());
    assert_eq!(rig.pass(SECOND).notices.len(), 1);
    let rest = rig.pass(MINUTE * 14);
    assert_eq!((rest.notices.len(), rest.wake.unwrap().0), (0, T0.plus(MINUTE * 30)), "once");
    let mut rig = announced();
    rig.now = T0.plus(MINUTE * 30);
    rig.poll();
    assert!(rig.step().notices.is_empty(), "it is read now");
}

#[test]
fn a_step_wakes_at_the_first_moment_that_is_ahead_with_its_reason() {
    let rig = Rig::ready();
    let mut turn = Turn::new(rig.reaper.looked(&rig.snapshot, &rig.forecasts, rig.now).0);
    for (at, why, expected) in [
        (rig.now, "now", None),
        (rig.now.minus(SECOND), "past", None),
        (rig.now.plus(MINUTE), "later", Some((rig.now.plus(MINUTE), "later"))),
        (rig.now.plus(SECOND), "soon", Some((rig.now.plus(SECOND), "soon"))),
        (rig.now.plus(SECOND), "too", Some((rig.now.plus(SECOND), "soon"))),
        (rig.now.plus(HOUR), "late", Some((rig.now.plus(SECOND), "soon"))),
    ] {
        turn.wake(at, why);
        assert_eq!(turn.wake, expected, "{why}");
    }
}

#[test]
fn fault_17_a_delete_refused_for_the_minimum_runtime_waits_for_it_and_reads_anew() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::MinimumRuntime { minutes: 2 }));
    assert_eq!(rig.stage(), StageName::Announced);
    assert!(rig.pass(MINUTE * 2).acts.is_empty());
    let again = rig.pass(MINUTE);
    assert_eq!(again.acts.iter().map(|act| &act.deed).collect::<Vec<_>>(), [&Deed::FinalRead]);
}

#[test]
fn fault_18_a_lost_answer_is_in_doubt_and_only_reads_decide() {
    for lost in [Some(DeleteAnswer::Lost { why: "timeout".into() }), None] {
        let mut rig = Rig::ready();
        rig.until_request();
        match lost {
            Some(lost) => drop(rig.answer(deleted(lost))),
            None => drop(rig.pass(MINUTE * 2)),
        }
        assert_eq!(rig.stage(), StageName::InDoubt);
        read_after(&mut rig, |_| Came::Read(Err(failure(FailureKind::Timeout))));
        assert_eq!(rig.stage(), StageName::InDoubt, "a read that failed decides nothing");
        read_after(&mut rig, still);
        assert_eq!(rig.stage(), StageName::InDoubt, "an end takes its time");
        assert_eq!(
            names(&read_after(&mut rig, ended))[0],
            "in doubt > verifying: two reads show that it has ended"
        );
        read_after(&mut rig, ended);
        assert!(rig.reaper.open.is_empty());
    }
}

#[test]
fn fault_18_a_request_that_had_no_effect_starts_over_with_a_new_announcement() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Lost { why: "timeout".into() }));
    let (mut all, mut told) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        rig.now = rig.now.plus(SECOND * 15);
        rig.poll();
        let acts = rig.step().acts;
        if acts.iter().any(|act| act.deed == Deed::Verify) {
            let reaped = rig.answer(rig.read("a"));
            assert!(!reaped.acts.iter().any(is_delete));
            all.extend(names(&reaped));
            told.extend(reaped.notices.into_iter().map(|notice| notice.title));
        }
        if !all.is_empty() {
            break;
        }
    }
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with("in doubt > expired: reads show that it is still running"));
    assert_eq!(told, ["not ended: dev-a still runs"]);
    assert_eq!(rig.now, T0.plus(MINUTE * 40), "ten minutes after the request");
    assert!(names(&rig.pass(MINUTE))[0].starts_with("- > marked"));
}

#[test]
fn fault_19_an_end_that_no_read_confirms_is_told_once_and_never_requested_again() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Accepted));
    let mut told = Vec::new();
    for _ in 0..240 {
        rig.now = rig.now.plus(SECOND * 15);
        rig.poll();
        let reaped = rig.step();
        assert!(!reaped.acts.iter().any(is_delete));
        told.extend(reaped.notices);
        if !reaped.acts.is_empty() {
            told.extend(rig.answer(rig.read("a")).notices);
        }
    }
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].title, "not confirmed: the end of dev-a");
    assert_eq!(told[0].at, T0.plus(MINUTE * 40));
    assert_eq!(rig.stage(), StageName::Verifying);
    rig.pass(MINUTE * 5);
    rig.answer(Came::Read(Ok(None)));
    rig.pass(MINUTE * 5);
    rig.answer(Came::Read(Ok(None)));
    assert!(rig.reaper.open.is_empty(), "a person ended it at last");
}

/// Requested and accepted at T0 + 30 min: after how many seconds of the next so many it is read, if this comes of each read.
fn asked(rig: &mut Rig, secs: u64, came: Option<&Came>) -> Vec<u64> {
    let mut asked = Vec::new();
    for sec in 1..=secs {
        rig.now = rig.now.plus(SECOND);
        rig.poll();
        for act in rig.step().acts {
            assert_eq!(act.deed, Deed::Verify);
            asked.push(sec);
            let _ = came.map(|came| rig.answer(came.clone()));
        }
    }
    asked
}

#[test]
fn fault_19_what_was_requested_is_read_every_15_s_once_late_every_5_min_and_again_where_nothing_came_back() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Accepted));
    let (still, failed) = (still(&rig), Came::Read(Err(failure(FailureKind::Timeout))));
    for (what, came, expected) in [
        ("it runs", Some(&still), vec![15, 30, 45, 60, 75, 90]),
        ("a read that fails waits for its turn", Some(&failed), vec![15, 30, 45, 60, 75, 90]),
        ("one that does not come back for longer", None, vec![15, 76]),
    ] {
        assert_eq!(asked(&mut rig.clone(), 90, came), expected, "{what}");
    }
    let mut silent = rig.clone();
    asked(&mut silent, 590, None);
    assert_eq!(silent.step().wake, Some((T0.plus(MINUTE * 40), "an end that is not confirmed")));
    asked(&mut rig, 590, Some(&still));
    assert_eq!(asked(&mut rig, 1_000, Some(&still)), [10, 310, 610, 910]);
    // Set back while a read is under way: it is not waited for.
    asked(&mut rig, 210, None);
    rig.now = rig.now.minus(SECOND * 30);
    assert_eq!(asked(&mut rig, 1, None), [1]);
    // Set back by an hour between two reads.
    rig.answer(still);
    rig.now = rig.now.minus(HOUR);
    assert_eq!(asked(&mut rig, 1, None), [1]);
}

#[test]
fn fault_19_what_was_told_in_doubt_is_not_told_again_once_a_read_shows_it_ended() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Lost { why: "timeout".into() }));
    let told = rig.pass(MINUTE * 12).notices;
    assert_eq!(
        told.iter().map(|notice| &*notice.title).collect::<Vec<_>>(),
        ["not confirmed: the end of dev-a"]
    );
    rig.answer(ended(&rig));
    assert_eq!(rig.stage(), StageName::Verifying);
    assert_eq!(rig.pass(MINUTE * 20).notices, []);
}

#[test]
fn fault_73_what_a_read_shows_to_be_gone_closes_the_action_whatever_its_last_status() {
    let mut rig = Rig::ready();
    rig.until_commit();
    rig.tracked("a").presence = Presence::Gone(rig.now);
    let closed = rig.answer(Came::Commit(Ok(())));
    assert_eq!(names(&closed), ["committing > cancelled: it ended without us: it is `running` or gone"]);
}

#[test]
fn fault_12_a_delete_that_is_counted_out_waits_as_long_as_the_api_asks_and_reads_anew() {
    let mut rig = Rig::ready();
    rig.until_request();
    let until = rig.now.plus(MINUTE * 15);
    let waits = rig.answer(deleted(DeleteAnswer::AskedToWait { until }));
    assert_eq!(
        names(&waits),
        [
            "requested > announced: the API asked us to wait (429), so nothing was done: not before 2027-01-15T12:45:00Z"
        ]
    );
    assert!(waits.notices.is_empty(), "what was announced stands");
    assert!(rig.pass(MINUTE * 14).acts.is_empty());
    let again = rig.pass(MINUTE);
    assert_eq!(again.acts.iter().map(|act| &act.deed).collect::<Vec<_>>(), [&Deed::FinalRead]);

    let mut rig = Rig::ready();
    rig.until_request();
    let past = rig.now.minus(HOUR);
    let waits = rig.answer(deleted(DeleteAnswer::AskedToWait { until: past }));
    assert_eq!((rig.stage(), waits.acts.len()), (StageName::Announced, 0));
    assert!(rig.pass(SECOND * 59).acts.is_empty(), "a reset in the past is no leave to hammer");
    assert_eq!(rig.pass(SECOND).acts.len(), 1);
    let mut rig = Rig::ready();
    rig.until_request();
    let far = rig.now.plus(HOUR * 24 * 365);
    rig.answer(deleted(DeleteAnswer::AskedToWait { until: far }));
    assert!(
        names(&rig.pass(MINUTE * 61))[0].starts_with("announced > expired"),
        "one in a year: announced anew"
    );
}

#[test]
fn fault_19_where_a_rule_tells_of_what_is_not_confirmed_the_action_does_not() {
    let mut rig = Rig::ready();
    rig.reaper.alerted(true);
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Accepted));
    assert_eq!(rig.action().to_confirm_by(), Some(T0.plus(MINUTE * 40)));
    assert_eq!(rig.reaper.to_confirm().len(), 1);
    let mut reaped = rig.pass(MINUTE * 5);
    for _ in 0..6 {
        reaped.notices.extend(rig.answer(rig.read("a")).notices);
        reaped.notices.extend(rig.pass(MINUTE * 2).notices);
    }
    assert_eq!(reaped.notices, []);
    assert!(
        matches!(rig.action().stage, Stage::Verifying { proof } if proof.late),
        "{:?}",
        rig.action().stage
    );
}

#[test]
fn fault_11_a_404_is_gone_by_reads_and_not_by_itself() {
    let mut rig = Rig::ready();
    rig.until_check();
    let asked = rig.answer(Came::CanTerminate(Ok(None)));
    assert_eq!(names(&asked), ["can-terminate > announced: the final read did not find it"]);
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::NotFound));
    read_after(&mut rig, still);
    read_after(&mut rig, |_| Came::Read(Ok(None)));
    read_after(&mut rig, still);
    read_after(&mut rig, |_| Came::Read(Ok(None)));
    assert_eq!(rig.stage(), StageName::Verifying, "two in a row");
    read_after(&mut rig, |_| Came::Read(Ok(None)));
    assert!(rig.reaper.open.is_empty());
}

#[test]
fn a_refusal_is_believed_once_a_read_shows_it_running_and_rests_for_a_day() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Refused { why: "403 FORBIDDEN".into() }));
    assert_eq!(rig.stage(), StageName::InDoubt);
    let refused = read_after(&mut rig, still);
    assert_eq!(names(&refused), ["in doubt > refused: the API refused: 403 FORBIDDEN"]);
    assert_eq!(refused.notices[0].title, "refused: the end of dev-a");
    assert!(rig.pass(HOUR * 23).shifts.is_empty());
    assert!(names(&rig.pass(HOUR * 2))[0].starts_with("- > marked"));
}

#[test]
fn fault_20_an_id_that_comes_back_voids_the_mark() {
    let mut rig = Rig::ready();
    rig.until_read();
    rig.deployment("a").created_at = T0;
    rig.tracked("a").first_seen = T0;
    let voided = rig.answer(rig.read("a"));
    assert_eq!(
        names(&voided),
        ["final read > cancelled: it ended without us: its id names another deployment now"]
    );
}

#[test]
fn fault_73_what_a_person_or_a_reclaim_ends_first_closes_the_action() {
    let mut rig = Rig::ready();
    rig.until_commit();
    rig.deployment("a").status = Status::TerminatedProvider;
    let closed = rig.answer(Came::Commit(Ok(())));
    assert!(closed.acts.is_empty());
    assert!(names(&closed)[0].starts_with("committing > cancelled: it ended without us"));
}

#[test]
fn fault_70_a_keep_a_new_name_or_a_cancel_stops_it_at_every_stage_before_the_request() {
    type Stop = fn(&mut Rig);
    let stops: [(&str, Stop); 5] = [
        ("renamed to a protected name", |rig| rig.deployment("a").name = "prod-a".into()),
        ("renamed to another name", |rig| rig.deployment("a").name = "dev-z".into()),
        ("kept", |rig| {
            let keep = Keep {
                id: "k".into(),
                target: Target::of(&deployment("a")),
                until: Some(rig.now.plus(HOUR)),
                by: "ann".into(),
                reason: "".into(),
                at: rig.now,
            };
            rig.snapshot.keeps.insert("k".into(), keep.into());
        }),
        ("cancelled", |rig| {
            let id = rig.action().id.clone();
            rig.snapshot.cancels.insert(id, Cancel { at: rig.now, by: "ann".into() });
        }),
        ("disarmed", |rig| rig.snapshot.armings.clear()),
    ];
    type Until = fn(&mut Rig);
    let stages: [Until; 5] = [
        |rig| drop(rig.step()),
        |rig| {
            let notices = rig.step().notices;
            rig.deliver(&notices, "ops");
            rig.step();
        },
        Rig::until_read,
        Rig::until_check,
        Rig::until_commit,
    ];
    for (what, stop) in stops {
        for (number, until) in stages.iter().enumerate() {
            let mut rig = Rig::ready();
            until(&mut rig);
            stop(&mut rig);
            let stopped = if number == 4 { rig.answer(Came::Commit(Ok(()))) } else { rig.step() };
            assert!(stopped.acts.is_empty(), "{what} at {number}");
            assert_eq!(stopped.shifts[0].to, StageName::Cancelled, "{what} at {number}");
            let told = stopped.notices.iter().any(|notice| notice.title == "not ended: dev-a");
            assert_eq!(told, number > 0, "{what} at {number}: who heard of it hears of this");
        }
    }
}

#[test]
fn what_a_person_cancelled_is_left_alone_for_a_day() {
    let mut rig = Rig::ready();
    rig.until_read();
    let id = rig.action().id.clone();
    rig.snapshot.cancels.insert(id, Cancel { at: rig.now, by: "ann".into() });
    let stopped = rig.step();
    assert_eq!(names(&stopped), ["final read > cancelled: ann cancelled it"]);
    assert!(rig.pass(HOUR * 24 - MINUTE).shifts.is_empty());
    assert!(names(&rig.pass(MINUTE))[0].starts_with("- > marked"));
}

#[test]
fn a_policy_that_is_removed_cancels_what_was_not_requested_and_lets_the_rest_be_verified() {
    type Until = fn(&mut Rig);
    let stages: [Until; 4] = [|rig| drop(rig.step()), Rig::until_read, Rig::until_check, Rig::until_commit];
    for until in stages {
        let mut rig = Rig::ready();
        until(&mut rig);
        rig.reaper.replace(Policies::default());
        let gone = rig.step();
        assert!(names(&gone)[0].ends_with("> cancelled: the policy is no longer in the configuration"));
        assert!(gone.acts.is_empty());
    }
    let mut rig = Rig::ready();
    rig.until_request();
    rig.reaper.replace(Policies::default());
    assert!(rig.step().shifts.is_empty(), "it was requested: only what came of it counts");
    rig.answer(deleted(DeleteAnswer::Accepted));
    read_after(&mut rig, ended);
    let done = read_after(&mut rig, ended);
    assert!(names(&done)[0].starts_with("verifying > gone"));
    assert_eq!(done.notices[0].receivers, ["log".into()]);
}

#[test]
fn fault_51_an_announcement_that_is_older_than_its_slot_and_an_hour_starts_over() {
    let mut rig = Rig::ready();
    rig.until_read();
    rig.snapshot.skew_ms = None;
    let mut all = Vec::new();
    for _ in 0..61 {
        all.extend(names(&rig.pass(MINUTE)));
    }
    assert_eq!(
        all,
        [
            "final read > announced: nothing came back in time",
            "announced > expired: it could not be done within an hour of when it was announced for"
        ]
    );
    rig.snapshot.skew_ms = Some(0);
    let again = rig.pass(SECOND);
    assert!(names(&again)[0].starts_with("- > marked"));
    assert_eq!(again.notices.len(), 1);
}

#[test]
fn an_announcement_that_nobody_takes_is_over_in_an_hour() {
    let mut rig = Rig::ready();
    rig.step();
    rig.pass(HOUR);
    let over = rig.pass(SECOND);
    assert_eq!(names(&over), ["marked > expired: no receiver took the announcement within an hour"]);
    let next = rig.now.plus(Duration::from_millis(1));
    assert_eq!(over.wake, Some((next, "an action that starts over")));
    rig.now = next;
    assert!(names(&rig.step())[0].starts_with("- > marked"));
}

#[test]
fn fault_54_a_shorter_grace_ends_nothing_before_what_was_announced() {
    let mut rig = Rig::ready();
    let notices = rig.step().notices;
    rig.deliver(&notices, "ops");
    rig.step();
    rig.reaper.replace(policies(vec![Policy { grace: MINUTE * 5, ..idle_policy() }]));
    assert!(names(&rig.step())[0].contains("changed since it was armed"), "any change disarms");
    rig.arm("idle");
    rig.now = rig.now.plus(SECOND);
    let notices = rig.step().notices;
    assert_eq!(rig.stage(), StageName::Marked);
    rig.deliver(&notices, "ops");
    rig.step();
    assert!(rig.pass(MINUTE * 29).acts.is_empty(), "30 minutes were promised");
    assert_eq!(rig.pass(SECOND * 59).acts.len(), 1);
}

#[test]
fn fault_54_what_was_announced_days_ahead_holds_though_it_was_called_off_more_than_a_day_ago() {
    let of = |grace: Duration| policies(vec![Policy { grace, ..idle_policy() }]);
    let mut rig = Rig::ready_with(of(HOUR * 72), &["a"]);
    let notices = rig.step().notices;
    rig.deliver(&notices, "ops");
    rig.step();
    rig.reaper.replace(of(MINUTE * 5));
    rig.idle("a", Reading::Busy, None);
    rig.step();
    rig.pass(HOUR * 26);
    assert!(rig.reaper.open.is_empty());
    rig.idle("a", Reading::Idle, Some(rig.now.minus(HOUR * 3)));
    rig.arm("idle");
    let notices = rig.step().notices;
    assert_eq!(notices[0].title, "will be ended: dev-a in 1d 22h");
    rig.deliver(&notices, "ops");
    assert!(rig.pass(HOUR * 46 - MINUTE).acts.is_empty(), "three days were promised");
    assert_eq!(rig.pass(MINUTE).acts.len(), 1);
}

#[test]
fn fault_44_a_clock_that_was_set_begins_no_grace_and_ends_none() {
    let mut rig = Rig::ready();
    let notices = rig.step().notices;
    rig.deliver(&notices, "ops");
    rig.snapshot.skew_ms = Some(3_600_000);
    assert!(rig.pass(MINUTE * 5).shifts.is_empty(), "by which clock?");
    rig.snapshot.skew_ms = Some(0);
    rig.step();
    assert_eq!(rig.stage(), StageName::Announced);
    // An hour ahead at once: the grace seems over, but nothing that was seen is of now.
    rig.now = rig.now.plus(HOUR);
    assert!(rig.step().acts.is_empty());
    rig.poll();
    rig.snapshot.skew_ms = Some(-3_600_000);
    assert!(rig.step().acts.is_empty());
}

#[test]
fn fault_45_a_suspension_begins_the_window_anew() {
    let mut rig = Rig::ready();
    rig.now = rig.now.plus(HOUR * 8);
    rig.poll();
    assert!(rig.step().shifts.is_empty());
    let verdict = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now).remove(0);
    assert_eq!(verdict.holds, [Hold::WindowBroken { until: Some(rig.now.plus(HOUR * 2)) }]);
    assert_eq!(verdict.next.unwrap().0, rig.now.plus(HOUR * 2));
    assert!(names(&rig.pass(HOUR * 2))[0].starts_with("- > marked"));
}

#[test]
fn fault_69_caps_hold_the_rest_back_across_a_restart() {
    let mut rig = Rig::ready_with(policies(vec![idle_policy()]), &["a", "b", "c", "d", "e", "f", "g"]);
    let mut ended = Vec::new();
    let mut rows: BTreeMap<_, Action> = BTreeMap::new();
    for minute in 0..60 * 30 {
        rig.now = rig.now.plus(MINUTE);
        rig.poll();
        let mut reaped = rig.step();
        while !reaped.acts.is_empty() || !reaped.notices.is_empty() {
            rows.extend(reaped.actions.iter().map(|action| (action.id.clone(), action.clone())));
            rig.deliver(&reaped.notices, "ops");
            let Some(act) = reaped.acts.last().cloned() else {
                reaped = rig.step();
                continue;
            };
            let id = act.target.id.as_str().to_owned();
            let came = match act.deed {
                Deed::FinalRead | Deed::Verify => rig.read(&id),
                Deed::CanTerminate => yes(),
                Deed::Commit { .. } => Came::Commit(Ok(())),
                Deed::Delete { .. } => {
                    ended.push(rig.now);
                    rig.deployment(&id).status = Status::Terminated;
                    Came::Delete(DeleteAnswer::Accepted)
                }
            };
            rig.last = vec![act];
            reaped = rig.answer(came);
        }
        rows.extend(reaped.actions.iter().map(|action| (action.id.clone(), action.clone())));
        if minute % 50 == 0 {
            let known = rows.values().filter(|action| action.matters(rig.now)).cloned().collect();
            let sight = rig.reaper.sight.clone();
            rig.reaper = Reaper::new(rig.reaper.policies().clone(), known);
            rig.reaper.sight = sight;
        }
    }
    assert_eq!(ended.len(), 7, "all get their turn");
    for (index, at) in ended.iter().enumerate() {
        let within = |length| ended[..index].iter().filter(|then| at.since(**then) < length).count();
        assert!(within(HOUR) < 2 && within(HOUR * 24) < 5, "{ended:?}");
    }
    assert!(ended[4].since(ended[0]) < HOUR * 6, "and the caps are used: {ended:?}");
}

#[test]
fn fault_69_what_is_announced_takes_its_place_in_the_hour_in_which_it_is_to_end() {
    let slow = Policy { grace: HOUR * 3, ..idle_policy() };
    let other =
        Policy { name: "other".into(), matching: matcher(&[(MatchKey::Name, &["x"])]), ..idle_policy() };
    let mut rig = Rig::ready_with(policies(vec![other, slow]), &["a", "b", "c"]);
    assert_eq!(rig.step().notices.len(), 2, "the third waits for an hour of its own");
    let verdicts = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now);
    let third = verdicts
        .into_iter()
        .find(|verdict| verdict.policy == "idle".into() && verdict.target.id.as_str() == "c");
    assert_eq!(third.unwrap().holds, [Hold::CapHour { max: 2, until: T0.plus(HOUR) }]);
}

#[test]
fn two_policies_that_match_one_deployment_make_one_action() {
    let other = Policy { name: "old".into(), when: vec![Condition::RunningFor(HOUR)], ..idle_policy() };
    let mut rig = Rig::ready_with(policies(vec![idle_policy(), other]), &["a"]);
    assert_eq!(rig.step().notices.len(), 1);
    assert_eq!(rig.reaper.open.len(), 1);
    let verdicts = rig.reaper.verdicts(&rig.snapshot, &rig.forecasts, rig.now);
    assert_eq!(verdicts[1].holds, [Hold::Claimed { policy: "idle".into() }]);
    // It works again: the one is called off, and the other takes over with an announcement of its own.
    rig.idle("a", Reading::Busy, None);
    assert_eq!(rig.step().shifts.len(), 1);
    assert_eq!(rig.pass(SECOND).shifts.len(), 1);
    assert_eq!(&*rig.action().policy, "old");
}

#[test]
fn final_reads_go_one_at_a_time() {
    let mut rig = Rig::ready_with(policies(vec![idle_policy()]), &["a", "b"]);
    let notices = rig.step().notices;
    assert_eq!(notices.len(), 2);
    rig.deliver(&notices, "ops");
    let acts = rig.pass(MINUTE * 31).acts;
    assert_eq!(acts.len(), 1);
    rig.last = acts;
    let next = rig.answer(Came::Read(Err(failure(FailureKind::Server))));
    assert_eq!(next.acts.len(), 1, "one that failed lets the next one go");
    assert_eq!(next.acts[0].target.id.as_str(), "b");
}

#[test]
fn a_receipt_of_an_earlier_act_or_of_another_kind_takes_nothing_forward() {
    let mut rig = Rig::ready();
    rig.until_check();
    let mut old = rig.last[0].clone();
    old.seq -= 1;
    let seq = rig.last[0].seq;
    rig.last = vec![old];
    assert!(rig.answer(yes()).shifts.is_empty(), "of the act before");
    rig.last[0].seq = seq;
    let other = rig.answer(Came::Commit(Ok(())));
    assert_eq!(names(&other), ["can-terminate > announced: the receipt is that of another act"]);
}

#[test]
fn a_delete_is_sent_within_30_s_of_the_earlier_of_both_reads() {
    let mut rig = Rig::ready();
    rig.until_check();
    let read = rig.now;
    rig.now = rig.now.plus(SECOND * 10);
    rig.answer(yes());
    rig.now = rig.now.plus(SECOND * 20);
    let requested = rig.answer(Came::Commit(Ok(())));
    assert_eq!(requested.acts[0].deed, Deed::Delete { not_after: read.plus(SECOND * 30) });
}

#[test]
fn fault_44_a_final_read_by_another_clock_goes_no_further() {
    for (skew_ms, why) in
        [(None, "the API's clock is not known"), (Some(61_000), "our clock and the API's differ")]
    {
        let mut rig = Rig::ready();
        rig.until_read();
        let act = rig.last[0].clone();
        let receipt = ActReceipt {
            action: act.action.clone(),
            seq: act.seq,
            sent: rig.now,
            skew_ms,
            came: still(&rig),
        };
        rig.snapshot.receipts.insert(act.action, receipt.into());
        let back = names(&rig.step());
        assert!(back[0].starts_with(&format!("final read > announced: {why}")), "{back:?}");
    }
}

#[test]
fn an_intent_that_was_overtaken_or_came_too_late_is_not_requested() {
    let mut rig = Rig::ready();
    rig.until_commit();
    let overtaken = rig.answer(Came::Commit(Err("it was kept meanwhile".into())));
    assert_eq!(names(&overtaken), ["committing > announced: it was kept meanwhile"]);
    let mut rig = Rig::ready();
    rig.until_commit();
    rig.now = rig.now.plus(SECOND * 31);
    let late = rig.answer(Came::Commit(Ok(())));
    assert_eq!(
        names(&late),
        ["committing > announced: the final read and can-terminate are older than 30 s"]
    );
    let mut rig = Rig::ready();
    rig.until_request();
    let not_sent = rig.answer(deleted(DeleteAnswer::NotSent { why: "too late to be sent".into() }));
    assert_eq!(names(&not_sent), ["requested > announced: too late to be sent"]);
}

/// A crash leaves rows: from each of them it goes on, and nothing is requested twice.
#[test]
fn a_crash_at_every_stage_ends_as_without_it() {
    type Until = fn(&mut Rig);
    let stages: [Until; 6] = [
        |rig| drop(rig.step()),
        Rig::until_read,
        Rig::until_check,
        Rig::until_commit,
        |rig| drop(rig.until_request()),
        |rig| {
            rig.until_request();
            rig.answer(deleted(DeleteAnswer::Accepted));
            rig.deployment("a").status = Status::Terminated;
        },
    ];
    for (number, until) in stages.into_iter().enumerate() {
        let mut rig = Rig::ready();
        until(&mut rig);
        let rows: Vec<Action> = rig.reaper.actions().cloned().collect();
        let text = serde_json::to_string(&rows).unwrap();
        rig.reaper = Reaper::new(rig.reaper.policies().clone(), serde_json::from_str(&text).unwrap());
        rig.snapshot.receipts.clear();
        let mut deletes = 0;
        for _ in 0..60 * 8 {
            rig.now = rig.now.plus(MINUTE);
            rig.poll();
            let mut reaped = rig.step();
            rig.deliver(&reaped.notices, "ops");
            while let Some(act) = reaped.acts.last().cloned() {
                let came = match act.deed {
                    Deed::FinalRead | Deed::Verify => rig.read("a"),
                    Deed::CanTerminate => yes(),
                    Deed::Commit { .. } => Came::Commit(Ok(())),
                    Deed::Delete { .. } => {
                        deletes += 1;
                        rig.deployment("a").status = Status::Terminated;
                        Came::Delete(DeleteAnswer::Accepted)
                    }
                };
                rig.last = vec![act];
                reaped = rig.answer(came);
                rig.deliver(&reaped.notices, "ops");
            }
        }
        assert_eq!(deletes, if number == 5 { 0 } else { 1 }, "stage {number}");
        assert!(rig.reaper.open.is_empty(), "stage {number}: {:?}", rig.reaper.open);
    }
}

/// Else the one that is over stands in for the one that may have been sent, and a second request goes out.
#[test]
fn a_restart_takes_what_is_over_for_over_beside_what_is_open_for_the_same_deployment() {
    let mut rig = Rig::ready();
    rig.step();
    rig.pass(MINUTE * 62);
    let over = rig.reaper.past.values().next().cloned().unwrap();
    assert_eq!(over.stage.name(), StageName::Expired);
    let open = rig.action().clone();
    for rows in [vec![over.clone(), open.clone()], vec![open.clone(), over.clone()]] {
        let reaper = Reaper::new(rig.reaper.policies().clone(), rows);
        assert_eq!(reaper.open.values().collect::<Vec<_>>(), [&open]);
        assert_eq!(reaper.past.values().collect::<Vec<_>>(), [&over]);
    }
}

#[test]
fn a_dry_run_tells_once_a_day_what_it_would_end_and_asks_for_nothing() {
    let mut rig = Rig::ready_with(policies(vec![idle_policy()]), &["a", "b"]);
    rig.snapshot.armings.clear();
    let first = rig.step();
    assert_eq!(first.notices.len(), 1);
    assert_eq!(first.notices[0].title, "dry run: idle would end 2");
    assert_eq!(first.notices[0].details.len(), 2);
    assert_eq!(names(&first).len(), 2);
    let daily = Some((T0.plus(HOUR * 24), "what is withheld is told daily"));
    assert_eq!(first.wake, daily);
    let day = rig.pass(HOUR * 24 - MINUTE);
    assert!(day.notices.is_empty() && day.acts.is_empty());
    let next = rig.pass(MINUTE);
    assert_eq!(next.notices.len(), 1);
    assert_ne!(next.notices[0].id, first.notices[0].id);
    rig.arm("idle");
    let armed = rig.step();
    let armed: Vec<StageName> = armed.shifts.iter().map(|shift| shift.to).collect();
    assert_eq!(armed, [StageName::Marked, StageName::Marked, StageName::Cancelled, StageName::Cancelled]);
}

#[test]
fn each_dry_run_tells_of_its_own_and_closes_what_no_longer_qualifies_after_a_day() {
    let old = Policy { name: "old".into(), when: vec![Condition::RunningFor(HOUR * 21)], ..idle_policy() };
    let mut rig = Rig::ready_with(policies(vec![idle_policy(), old]), &["a"]);
    rig.snapshot.armings.clear();
    let titles = |reaped: &Reaped| -> Vec<String> {
        reaped.notices.iter().map(|notice| notice.title.clone()).collect()
    };
    assert_eq!(titles(&rig.step()), ["dry run: idle would end 1"]);
    assert!(rig.pass(HOUR - MINUTE).notices.is_empty());
    assert_eq!(titles(&rig.pass(MINUTE)), ["dry run: old would end 1"], "the other told nothing of this");
    let again = rig.pass(HOUR * 23);
    assert_eq!(titles(&again), ["dry run: idle would end 1"]);
    assert_eq!(names(&again), [""; 0], "it is the row of yesterday");
    rig.idle("a", Reading::Busy, None);
    let rest = rig.pass(HOUR * 24 - MINUTE);
    assert_eq!(titles(&rest), ["dry run: old would end 1"]);
    assert_eq!(rig.reaper.withheld.len(), 2);
    let closed = rig.pass(MINUTE);
    assert_eq!(names(&closed), ["withheld > cancelled: it no longer qualifies"]);
    assert_eq!(rig.reaper.withheld.len(), 1);
}

#[test]
fn the_first_receiver_that_took_an_announcement_is_named() {
    let mut rig = Rig::ready();
    let notices = rig.step().notices;
    rig.snapshot.skew_ms = None;
    for receiver in ["log", "ops", "chat"] {
        rig.deliver(&notices, receiver);
        rig.pass(SECOND);
    }
    rig.snapshot.skew_ms = Some(0);
    assert_eq!(names(&rig.step()), ["marked > announced: ops took the announcement"]);
}

#[test]
fn what_was_a_dry_run_and_is_held_now_is_told_at_once_and_stays_one_row() {
    let mut rig = Rig::ready_with(policies(vec![idle_policy()]), &["a", "b", "c"]);
    let arming = rig.snapshot.armings.remove("idle").unwrap();
    let mut rows = BTreeMap::new();
    let mut titles = Vec::new();
    let unacknowledged = Arming { acknowledged: BTreeSet::new(), ..Arming::clone(&arming) };
    for armed in [None, Some(unacknowledged), None] {
        rig.snapshot.armings.clear();
        rig.snapshot.armings.extend(armed.map(|arming| ("idle".into(), arming.into())));
        let reaped = rig.pass(MINUTE);
        titles.extend(reaped.notices.iter().map(|notice| notice.title.clone()));
        rows.extend(reaped.actions.into_iter().map(|action| (action.id.clone(), action)));
    }
    assert_eq!(
        titles,
        ["dry run: idle would end 3", "held: 3 of 3 would be ended at once", "dry run: idle would end 3"]
    );
    assert_eq!(rows.values().filter(|action| !action.stage.name().is_closed()).count(), 3, "{rows:?}");
    assert_eq!(rig.reaper.withheld.len(), 3);
}

#[test]
fn what_two_reads_showed_to_be_gone_is_left_alone_though_the_lists_still_show_it() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Accepted));
    read_after(&mut rig, ended);
    read_after(&mut rig, ended);
    assert!(rig.reaper.open.is_empty());
    assert!(rig.pass(HOUR * 23).shifts.is_empty());
}

/// Whatever the order of the rows: of rests and promises the latest counts, and of a team the last end.
#[test]
fn history_keeps_the_latest_of_everything() {
    let mut rig = Rig::ready();
    rig.step();
    let marked = rig.action().clone();
    let hours = |hours: i64| T0.minus(HOUR * 24).plus(HOUR * u32::try_from(24 + hours).unwrap());
    let row = |team: &str, requests: &[i64], stage: Stage| {
        let requests = requests.iter().map(|at| hours(*at)).collect();
        Action { team: TeamId::new(team), requests, stage, ..marked.clone() }
    };
    let mut rows = vec![
        row("t1", &[-5, -4], Stage::Expired { at: hours(-3) }),
        row("t2", &[-4], Stage::Gone { at: hours(-2), saved_until: hours(1) }),
        row("t3", &[-6], Stage::Expired { at: hours(-5) }),
        row("t3", &[-2], Stage::Expired { at: hours(-1) }),
        row("t3", &[-4], Stage::Expired { at: hours(-3) }),
        row("t4", &[], Stage::Cancelled { at: hours(-2), slot: Some(hours(1)), rest: Some(hours(22)) }),
        row("t4", &[], Stage::Cancelled { at: hours(-1), slot: Some(hours(3)), rest: Some(hours(21)) }),
        row("t4", &[], Stage::Cancelled { at: hours(-1), slot: Some(hours(2)), rest: None }),
        row("t4", &[], Stage::Refused { at: hours(-9), rest: hours(15) }),
    ];
    for _ in 0..2 {
        let history = History::of(rows.iter(), rig.reaper.policies(), rig.now);
        let target = Target::of(&deployment("a"));
        assert_eq!(history.rests, [(target.clone(), hours(22))].into(), "a Gone one rests for a day");
        assert_eq!(history.floors, [(target.clone(), hours(3))].into());
        assert_eq!(history.tried, [(target, hours(-1))].into());
        let ended = [("t1", -4), ("t2", -2), ("t3", -2)];
        assert_eq!(history.ended, ended.map(|(team, at)| (TeamId::new(team), hours(at))).into());
        assert_eq!(history.requests.len(), 6);
        rows.reverse();
    }
}

#[test]
fn what_counts_as_saved_ends_with_the_next_act_of_a_person_or_in_a_day() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Accepted));
    read_after(&mut rig, ended);
    read_after(&mut rig, ended);
    rig.deployment("a").status = Status::Terminated;
    let gone = rig.now;
    let saved = |rig: &Rig, at: Time| rig.reaper.past.values().map(|action| action.saved(at)).next().unwrap();
    assert_eq!(saved(&rig, gone.plus(HOUR * 48)), Usd::from_cents(4_800));
    rig.pass(HOUR * 3);
    assert_eq!(saved(&rig, rig.now), Usd::from_cents(600));
    let counted = |rig: &Rig| {
        let ended = rig.reaper.ended(rig.now);
        ended.values().map(|ends| (ends.count, ends.saved, ends.saved_for_good)).next().unwrap()
    };
    assert_eq!(counted(&rig), (1, Usd::from_cents(600), Usd::ZERO));
    let created_at = rig.now.minus(HOUR);
    rig.add(Deployment { created_at, name: "x".into(), ..deployment("new") });
    assert_eq!(rig.step().actions.len(), 1);
    assert_eq!(saved(&rig, rig.now), Usd::from_cents(400));
    assert!(rig.pass(HOUR).actions.is_empty());
    let four = Usd::from_cents(400);
    assert_eq!(counted(&rig), (1, four, four));
    rig.pass(HOUR * 48);
    assert!(rig.reaper.past.is_empty());
    assert_eq!(counted(&rig), (1, four, four), "what nobody decides by any more is still counted");
}

#[test]
fn what_counts_as_saved_ends_with_acts_after_the_end_and_within_a_day_of_it_and_never_shrinks_later() {
    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(deleted(DeleteAnswer::Accepted));
    read_after(&mut rig, ended);
    read_after(&mut rig, ended);
    rig.deployment("a").status = Status::Terminated;
    rig.snapshot.armings.clear();
    let gone = rig.now;
    // What is seen at one step, and then at another.
    let acts: [(&str, [Vec<Time>; 2], Duration); 5] = [
        ("at the end", [vec![gone], vec![]], HOUR * 24),
        ("a second later", [vec![gone.plus(SECOND)], vec![]], SECOND),
        ("after a day", [vec![gone.plus(HOUR * 24)], vec![]], HOUR * 24),
        ("the first of two", [vec![gone.plus(HOUR * 3), gone.plus(HOUR * 2)], vec![]], HOUR * 2),
        ("not one that is seen later", [vec![gone.plus(HOUR * 2)], vec![gone.plus(HOUR)]], HOUR * 2),
    ];
    for (what, steps, length) in acts {
        let mut rig = rig.clone();
        rig.now = gone.plus(HOUR * 23);
        for at in steps {
            for at in at {
                let keep = Keep {
                    id: at.to_string().into(),
                    target: Target::of(&deployment("b")),
                    until: None,
                    by: "ann".into(),
                    reason: "".into(),
                    at,
                };
                rig.snapshot.keeps.insert(keep.id.clone(), keep.into());
            }
            rig.step();
        }
        let saved = rig.reaper.past.values().map(|action| action.saved(gone.plus(HOUR * 30))).next().unwrap();
        let settled = &rig.reaper.ended(gone.plus(length))["idle"];
        assert_eq!(settled.saved_for_good, saved, "{what}");
        assert_eq!(rig.reaper.ended(gone.plus(length).minus(SECOND))["idle"].saved_for_good, Usd::ZERO);
        assert_eq!(saved, Usd::from_cents(200).per_hour_for(length), "{what}");
    }
}

#[test]
fn fault_44_a_clock_that_is_set_back_does_not_repeat_what_is_told_daily() {
    let mut rig = Rig::ready_with(policies(vec![idle_policy()]), &["a", "b"]);
    rig.snapshot.armings.clear();
    assert_eq!(rig.step().notices.len(), 1);
    // Set back by hours, and watched for long enough since, while what was told is still ahead; one of the two works now.
    rig.now = T0.minus(HOUR * 4);
    rig.idle("a", Reading::Busy, None);
    rig.idle("b", Reading::Idle, Some(T0.minus(HOUR * 8)));
    assert_eq!(rig.pass(HOUR * 3).notices.len(), 1);
}

/// Else it would be looked at every millisecond until our clock has come there again.
#[test]
fn fault_44_nobody_waits_for_an_end_by_a_clock_that_was_ahead() {
    let mut rig = Rig::ready();
    rig.step();
    rig.deployment("a").name = "other".into();
    assert_eq!(rig.pass(MINUTE).shifts.last().unwrap().to, StageName::Cancelled);
    rig.now = T0.minus(HOUR * 4);
    rig.deployment("a").name = "dev-a".into();
    rig.idle("a", Reading::Idle, Some(T0.minus(HOUR * 8)));
    let again = rig.pass(HOUR * 2 + MINUTE * 30);
    assert_eq!(again.shifts.iter().map(|shift| shift.to).collect::<Vec<_>>(), [StageName::Marked]);
}
