//! What the account shows that no policy may take for a reason to end something.

use super::*;

/// The final read of `a`, as this changes it.
fn read(rig: &Rig, change: impl FnOnce(&mut Deployment)) -> Came {
    let Came::Read(Ok(Some(mut read))) = rig.read("a") else { panic!("it is there") };
    change(&mut read);
    Came::Read(Ok(Some(read)))
}

fn unknown() -> Status {
    Status::from(Arc::<str>::from("migrating"))
}

#[test]
fn fault_02_an_unknown_status_is_never_ended_and_is_no_end_either() {
    let mut rig = Rig::ready();
    rig.deployment("a").status = unknown();
    assert!(rig.pass(HOUR).shifts.is_empty());

    let mut rig = Rig::ready();
    rig.until_read();
    let closed = rig.answer(read(&rig, |deployment| deployment.status = unknown()));
    assert_eq!(names(&closed), ["final read > cancelled: its status is `migrating`, not running"]);

    let mut rig = Rig::ready();
    rig.until_request();
    rig.answer(Came::Delete(DeleteAnswer::Accepted));
    for _ in 0..4 {
        rig.pass(MINUTE);
        rig.answer(read(&rig, |deployment| deployment.status = unknown()));
    }
    assert_eq!(rig.stage(), StageName::Verifying, "it does not show an end");
}

#[test]
fn fault_07_a_list_that_may_lack_something_marks_nothing_and_ends_nothing() {
    let suspect = |rig: &mut Rig| {
        let before = rig.now;
        rig.now = rig.now.plus(SECOND * 30);
        rig.poll();
        let health = rig.snapshot.feeds.get_mut(&Feed::Deployments).unwrap();
        health.last_whole = Some(before);
    };
    let mut rig = Rig::ready();
    suspect(&mut rig);
    assert!(rig.step().shifts.is_empty());
    rig.poll();
    assert!(names(&rig.step())[0].starts_with("- > marked"), "once it is whole again");

    let mut rig = Rig::ready();
    rig.until_read();
    suspect(&mut rig);
    let back = rig.answer(rig.read("a"));
    assert_eq!(names(&back), ["final read > announced: the last poll of deployments was not complete"]);
}

#[test]
fn fault_08_a_list_and_a_read_that_disagree_end_nothing() {
    type Change = fn(&mut Deployment);
    let mut rig = Rig::ready();
    rig.until_read();
    let changes: [(Change, &str); 6] = [
        (|read| read.status = Status::Stopped, "its status is `stopped`, not running"),
        (|read| read.status = Status::Terminated, "its status is `terminated`, not running"),
        (|read| read.status = Status::Deploying, "it is still deploying"),
        (|read| read.name = "prod-a".into(), "the policy's `match` leaves it out"),
        (|read| read.name = "dev-z".into(), "its name is not what was announced"),
        (|read| read.created_at = T0, "its createdAt is not what was announced"),
    ];
    for (change, why) in changes {
        let mut rig = rig.clone();
        let closed = rig.answer(read(&rig, change));
        assert!(closed.acts.is_empty(), "{why}");
        let said = names(&closed).remove(0);
        assert!(said.starts_with("final read > cancelled") && said.contains(why), "{said}");
    }
    rig.tracked("a").presence = Presence::Missing { since: rig.now, not_found: 0 };
    let back = rig.answer(rig.read("a"));
    assert_eq!(names(&back), ["final read > announced: the last list did not show it"]);
    assert!(!rig.pass(HOUR).acts.iter().any(is_delete), "a read that shows it running does not do alone");

    let mut rig = Rig::ready();
    rig.snapshot.unlisted.insert(DeploymentId::new("a"));
    assert!(rig.step().shifts.is_empty(), "its own GET found it, and the list lacks it");
    rig.snapshot.unlisted.clear();
    assert!(names(&rig.step())[0].starts_with("- > marked"));
}

#[test]
fn fault_20_one_that_ended_and_runs_again_is_another_and_announced_anew() {
    let mut rig = Rig::ready();
    let notices = rig.step().notices;
    rig.deliver(&notices, "ops");
    rig.step();
    let first = rig.action().id.clone();
    rig.deployment("a").status = Status::Terminated;
    assert!(names(&rig.step())[0].starts_with("announced > cancelled: it ended without us"));
    rig.deployment("a").status = Status::Running;
    rig.tracked("a").status_since = rig.now;
    assert!(rig.pass(MINUTE * 14).shifts.is_empty(), "it was met lately");
    assert!(names(&rig.pass(MINUTE))[0].starts_with("- > marked"));
    assert_ne!(rig.action().id, first, "what was announced before is void");
}

#[test]
fn fault_71_what_deploys_or_was_met_lately_is_exempt() {
    let mut rig = Rig::ready();
    rig.deployment("a").status = Status::Deploying;
    assert!(rig.pass(HOUR).shifts.is_empty());
    rig.deployment("a").status = Status::Running;
    rig.tracked("a").status_since = rig.now;
    assert!(rig.pass(MINUTE * 14).shifts.is_empty(), "younger than `min_observed_age`");
    assert!(names(&rig.pass(MINUTE))[0].starts_with("- > marked"));
}
