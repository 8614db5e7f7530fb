use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;
use crate::{
    drive::{
        Cadence,
        simulate::{Scenario, Simulation},
    },
    model::{ActionId, DeleteAnswer, DeploymentId, FailureKind, Status, Target, Time, Usd},
    schedule::Schedule,
    sim::{Endpoint, Fault, LimitBody, Spec, Window, World},
};

const START: Time = Time::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

/// An account with one deployment that has run for two hours, and what goes wrong with the calls to one endpoint.
struct Rig {
    simulation: Simulation,
    target: Target,
}

impl Rig {
    fn new(fault: Option<(Endpoint, Fault)>) -> Self {
        let mut world = World::new(1, START.minus(HOUR * 2));
        let team = world.add_team("Research", "owner", Usd::from_cents(100_000));
        let id = world.deploy(START.minus(HOUR * 2), Spec::new(&team, "dev-1").boot(Duration::ZERO));
        world.advance(START);
        let target = Target { created_at: world.created_at(&id).unwrap(), id };
        if let Some((on, what)) = fault {
            world.faults.add(Window { from: START, until: START.plus(HOUR), on: Some(on), what });
        }
        let every = Schedule::parse("every 60s").unwrap();
        let cadence = Cadence {
            zone: TimeZone::UTC,
            balance: every.clone(),
            deployments: every.clone(),
            inventory: every.clone(),
            volumes: every,
            offers: None,
        };
        let scenario = Scenario {
            seed: 1,
            world,
            start: START,
            rules: Vec::new(),
            grouping: Default::default(),
            cadence,
            calls_per_15m: None,
            gaps: Vec::new(),
            receiver_fails_percent: 0,
        };
        Self { simulation: Simulation::new(scenario).unwrap(), target }
    }

    fn perform(&self, deed: Deed) -> ActReceipt {
        let act = Act { action: ActionId::from_text("act_1"), seq: 7, target: self.target.clone(), deed };
        let commit = |intent: Intent| async move { Err(format!("{} {}", intent.seq, intent.policy).into()) };
        self.simulation.ask(|client| Box::pin(async move { perform(client, &act, commit).await })).unwrap()
    }

    fn delete(&self) -> DeleteAnswer {
        let receipt = self.perform(Deed::Delete { not_after: self.simulation.now().plus(HOUR) });
        assert_eq!((receipt.action.as_str(), receipt.seq), ("act_1", 7));
        let Came::Delete(answer) = receipt.came else { panic!("{receipt:?}") };
        answer
    }

    fn deletes(&self) -> u64 {
        self.simulation.world().call_count("DELETE", "/api/deployments/")
    }

    /// What has become of it a while later.
    fn status_later(&self) -> Status {
        let mut world = self.simulation.world();
        let later = world.now().plus(HOUR);
        world.advance(later);
        world.status(&self.target.id).unwrap().clone()
    }
}

#[test]
fn the_reads_bring_what_was_asked_for_with_the_clock_of_their_own_answer() {
    let rig = Rig::new(None);
    for deed in [Deed::FinalRead, Deed::Verify] {
        let receipt = rig.perform(deed);
        assert!(receipt.skew_ms.is_some_and(|skew| skew.abs() <= 1_000), "{receipt:?}");
        assert_eq!(receipt.sent, START);
        let Came::Read(Ok(Some(read))) = receipt.came else { panic!("{receipt:?}") };
        assert_eq!(Target::of(&read), rig.target);
    }
    let receipt = rig.perform(Deed::CanTerminate);
    let Came::CanTerminate(Ok(Some(answer))) = receipt.came else { panic!("{receipt:?}") };
    assert_eq!((answer.can_terminate, answer.minutes_remaining), (true, 0));
    assert!(receipt.skew_ms.is_some());
    let commit = Deed::Commit { policy: "idle".into(), fingerprint: "f".into() };
    assert_eq!(rig.perform(commit).came, Came::Commit(Err("7 idle".into())), "it is that of the store");
    assert_eq!(rig.deletes(), 0);

    let mut elsewhere = Rig::new(None);
    elsewhere.target.id = DeploymentId::new("nobody");
    assert_eq!(elsewhere.perform(Deed::FinalRead).came, Came::Read(Ok(None)));
    assert_eq!(elsewhere.perform(Deed::CanTerminate).came, Came::CanTerminate(Ok(None)));
    let silent = Rig::new(Some((Endpoint::Detail, Fault::Hang)));
    let receipt = silent.perform(Deed::FinalRead);
    let Came::Read(Err(failure)) = &receipt.came else { panic!("{receipt:?}") };
    assert_eq!((failure.kind, receipt.skew_ms), (FailureKind::Timeout, None));
}

#[test]
fn fault_44_the_skew_of_a_receipt_is_that_of_its_answer_and_not_of_another() {
    let rig = Rig::new(Some((Endpoint::CanTerminate, Fault::SkewedDate(-90))));
    assert!(rig.perform(Deed::CanTerminate).skew_ms.is_some_and(|skew| (-91_000..=-89_000).contains(&skew)));
    assert!(rig.perform(Deed::FinalRead).skew_ms.is_some_and(|skew| skew.abs() <= 1_000));
}

#[test]
fn a_delete_that_is_taken_ends_it_and_a_second_one_is_told_that_it_has_ended() {
    let rig = Rig::new(None);
    assert_eq!(rig.delete(), DeleteAnswer::Accepted);
    assert_eq!(rig.status_later(), Status::Terminated);
    assert_eq!(rig.delete(), DeleteAnswer::Ended { status: "terminated".into() });
    let mut elsewhere = Rig::new(None);
    elsewhere.target.id = DeploymentId::new("nobody");
    assert_eq!(elsewhere.delete(), DeleteAnswer::NotFound);
}

#[test]
fn fault_17_a_delete_that_comes_too_early_brings_the_minutes_that_remain() {
    let rig = Rig::new(None);
    rig.simulation.world().terms.minimum_runtime = HOUR * 3;
    let DeleteAnswer::MinimumRuntime { minutes } = rig.delete() else { panic!("it was too early") };
    assert!((59..=60).contains(&minutes), "{minutes}");
    assert_eq!(rig.status_later(), Status::Running);
}

#[test]
fn fault_18_what_may_have_been_done_is_lost_and_sent_once_whatever_the_answer_lacks() {
    for (fault, done) in [
        (Fault::LostAnswer, true),
        (Fault::WrongContentType, true),
        (Fault::Cut, true),
        (Fault::Hang, false),
        (Fault::Reset, false),
        (Fault::ServerError, false),
        (Fault::Html, false),
        (Fault::Redirect("https://login.example.org/".into()), false),
    ] {
        let rig = Rig::new(Some((Endpoint::Delete, fault.clone())));
        let answer = rig.delete();
        assert!(matches!(answer, DeleteAnswer::Lost { .. }), "{fault:?}: {answer:?}");
        assert_eq!(rig.deletes(), 1, "{fault:?}");
        let ended = rig.status_later() == Status::Terminated;
        assert!(ended || !done, "{fault:?}: the world took it");
    }
}

#[test]
fn fault_12_what_is_refused_is_refused_and_what_is_counted_out_or_held_back_was_not_done() {
    let rig = Rig::new(Some((Endpoint::Delete, Fault::Forbidden { team: 0 })));
    assert!(matches!(rig.delete(), DeleteAnswer::Refused { .. }));
    let rig = Rig::new(Some((Endpoint::Delete, Fault::TooMany { body: LimitBody::A, reset_header: true })));
    let DeleteAnswer::AskedToWait { until } = rig.delete() else { panic!("it was counted out") };
    assert!(until >= START.plus(Duration::from_secs(60)), "{until}");
    let held = rig.delete();
    assert!(matches!(&held, DeleteAnswer::NotSent { why } if why.contains("429")), "{held:?}");
    assert_eq!(rig.deletes(), 1);
    assert_eq!(rig.status_later(), Status::Running);
}

#[test]
fn a_delete_is_not_sent_after_its_time() {
    let rig = Rig::new(None);
    // Connecting may take ten seconds.
    let not_after = START.plus(Duration::from_millis(9_999));
    let late = rig.perform(Deed::Delete { not_after });
    assert!(matches!(late.came, Came::Delete(DeleteAnswer::NotSent { .. })), "{late:?}");
    assert_eq!((rig.deletes(), rig.status_later()), (0, Status::Running));
    let not_after = rig.simulation.now().plus(Duration::from_secs(10));
    let in_time = rig.perform(Deed::Delete { not_after });
    assert_eq!(in_time.came, Came::Delete(DeleteAnswer::Accepted));
}
