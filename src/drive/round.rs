//! One poll of one feed, in as many goes as the call governor needs to let it through; and whose turn it is to be asked after.
//!
//! It must never throw away an answer because another call was held back: the schedule stretches instead of failing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::observe::{Plan, ask};
use crate::{
    model::{DeploymentId, Facts, Failure, FailureKind, Feed, Observation, Scope, Snapshot, Time},
    spheron::{Client, Transport},
};

/// How many vanished deployments one round asks after; the rest have their turn in the next.
const DETAILS_MAX: usize = 20;
/// How long a deployment that is not ours to see is left alone.
const FORBIDDEN_FOR: Duration = Duration::from_secs(3_600);

/// A poll under way.
pub struct Round {
    feed: Feed,
    answered: Vec<(Scope, Result<Facts, Failure>)>,
    /// In reverse, so that the next is at the end.
    left: Vec<Scope>,
    /// When the last question was asked.
    asked: Option<Time>,
    /// What was handed on before and was not whole: then the rest does not make the poll whole.
    marred: Vec<Scope>,
}

impl Round {
    pub fn new(plan: Plan) -> Self {
        let mut left = plan.scopes;
        left.reverse();
        Self {
            feed: plan.feed,
            answered: Vec::with_capacity(left.len()),
            left,
            asked: None,
            marred: Vec::new(),
        }
    }

    /// Asks until everything is answered, or until the governor holds a call back; then it goes on from there next time.
    pub async fn go<T: Transport>(&mut self, client: &Client<T>) -> Result<Done, Interrupted> {
        while let Some(scope) = self.left.pop() {
            let asked = client.now();
            let answer = ask(client, self.feed, &scope).await;
            if let Err(failure) = &answer
                && failure.kind == FailureKind::Held
            {
                let why = failure.message.clone();
                self.left.push(scope);
                return Err(Interrupted { so_far: self.so_far(client), why });
            }
            self.asked = Some(asked);
            self.answered.push((scope, answer));
        }
        let mut observation = self.observation(client);
        let marred = || Failure::new(FailureKind::Held, "an earlier part of this poll was not whole");
        observation.scopes.extend(self.marred.drain(..).map(|scope| (scope, Err(marred()))));
        let asked = self.asked.unwrap_or(observation.at);
        Ok(Done { observation, asked })
    }

    /// What was answered must not wait: by the time that the rest is allowed it would be old. The rest is unread until then.
    fn so_far<T: Transport>(&mut self, client: &Client<T>) -> Option<Observation> {
        if self.answered.is_empty() {
            return None;
        }
        let not_whole = |(_, answer): &&(Scope, Result<Facts, Failure>)| {
            answer.as_ref().is_ok_and(|facts| !facts.is_whole())
        };
        self.marred.extend(self.answered.iter().filter(not_whole).map(|(scope, _)| scope.clone()));
        let unread = || Failure::new(FailureKind::Held, "the rest is held back by our own call budget");
        let left: Vec<_> = self.left.iter().rev().map(|scope| (scope.clone(), Err(unread()))).collect();
        let mut observation = self.observation(client);
        observation.scopes.extend(left);
        Some(observation)
    }

    fn observation<T: Transport>(&mut self, client: &Client<T>) -> Observation {
        let scopes = std::mem::take(&mut self.answered);
        Observation { feed: self.feed, at: client.now(), scopes, skew_ms: client.skew_ms() }
    }
}

/// Every scope was asked.
pub struct Done {
    /// Of what was not handed on before.
    pub observation: Observation,
    /// When the last question was asked.
    pub asked: Time,
}

/// The governor holds a call back.
pub struct Interrupted {
    pub so_far: Option<Observation>,
    pub why: Arc<str>,
}

/// Who of the vanished is asked next: those never asked, then those whose last turn is longest ago.
#[derive(Default)]
pub struct Turns(BTreeMap<DeploymentId, Turn>);

#[derive(Clone, Copy)]
struct Turn {
    asked: Time,
    not_before: Time,
}

impl Turns {
    pub fn plan(&mut self, snapshot: &Snapshot, now: Time) -> Plan {
        let vanished = snapshot.vanished();
        self.0.retain(|id, _| vanished.contains(&id));
        let ready = |id: &&DeploymentId| self.0.get(*id).is_none_or(|turn| turn.not_before <= now);
        let mut next: Vec<&DeploymentId> = vanished.into_iter().filter(ready).collect();
        next.sort_by_key(|id| self.0.get(*id).map(|turn| turn.asked));
        let scopes = next.into_iter().take(DETAILS_MAX).cloned().map(Scope::One).collect();
        Plan { feed: Feed::Detail, scopes }
    }

    pub fn note(&mut self, observation: &Observation) {
        for (scope, result) in &observation.scopes {
            let Scope::One(id) = scope else { continue };
            let failure = result.as_ref().err().map(|failure| failure.kind);
            if failure == Some(FailureKind::Held) {
                continue;
            }
            let forbidden = failure == Some(FailureKind::Forbidden);
            let pause = if forbidden { FORBIDDEN_FOR } else { Duration::ZERO };
            self.0.insert(id.clone(), Turn { asked: observation.at, not_before: observation.at.plus(pause) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Deployment, InstanceType, Presence, Status, TeamId, Tracked, Usd};

    fn missing(ids: &[&str]) -> Snapshot {
        let tracked = |id: &str| Tracked {
            deployment: Deployment {
                id: DeploymentId::new(id),
                created_at: Time::EPOCH,
                name: "".into(),
                team: TeamId::new("t"),
                gpu_type: "".into(),
                gpu_count: 1,
                provider: "".into(),
                region: "".into(),
                instance_type: InstanceType::new("SPOT"),
                status: Status::Running,
                hourly_rate: Usd::ZERO,
                total_cost: Usd::ZERO,
                started_at: None,
                stopped_at: None,
                kubernetes: false,
                access: Default::default(),
            },
            first_seen: Time::EPOCH,
            presence: Presence::Missing { since: Time::EPOCH, not_found: 0 },
            status_since: Time::EPOCH,
            status_before: None,
            rate_before: None,
            unreadable_since: None,
        };
        let deployments = ids.iter().map(|id| (DeploymentId::new(*id), Arc::new(tracked(id)))).collect();
        Snapshot { deployments, ..Snapshot::default() }
    }

    fn asked(turns: &mut Turns, snapshot: &Snapshot, at: i64, kind: FailureKind) -> Vec<String> {
        let plan = turns.plan(snapshot, Time::from_secs(at));
        let ids = plan.scopes.iter().map(|scope| format!("{scope:?}")).collect();
        let fail = |scope| (scope, Err(Failure::new(kind, "no")));
        let scopes = plan.scopes.into_iter().map(fail).collect();
        turns.note(&Observation { feed: Feed::Detail, at: Time::from_secs(at), scopes, skew_ms: None });
        ids
    }

    #[test]
    fn everybody_has_a_turn_before_anybody_has_a_second_one() {
        let ids: Vec<String> = (0..25).map(|n| format!("d{n:02}")).collect();
        let snapshot = missing(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let mut turns = Turns::default();
        let first = asked(&mut turns, &snapshot, 0, FailureKind::Server);
        let second = asked(&mut turns, &snapshot, 60, FailureKind::Server);
        assert_eq!(first.len(), DETAILS_MAX);
        assert!(second.iter().take(5).all(|id| !first.contains(id)), "{second:?}");
    }

    #[test]
    fn what_is_forbidden_is_left_alone_for_an_hour() {
        let snapshot = missing(&["a"]);
        let mut turns = Turns::default();
        assert_eq!(asked(&mut turns, &snapshot, 0, FailureKind::Forbidden).len(), 1);
        assert!(asked(&mut turns, &snapshot, 3_599, FailureKind::Forbidden).is_empty());
        assert_eq!(asked(&mut turns, &snapshot, 3_600, FailureKind::Forbidden).len(), 1);
    }
}
