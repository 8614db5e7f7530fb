use std::time::Duration;

use jiff::tz::TimeZone;

use super::{gates::Gate, *};
use crate::model::{
    ActReceipt, ActivitySource, Came, CanTerminate, Condition, Deed, DeleteAnswer, Deployment, DeploymentId,
    Failure, FailureKind, Feed, FeedHealth, Glob, Hours, InstanceType, MatchKey, Matcher, Reading, Safety,
    SourceActivity, StageName, TrackedTeam, TrackedVolume, Trouble, Usd, Volume, VolumeId, VolumeStatus,
};

mod arming;
mod doubt;
mod gate;
mod life;
mod oracle;
mod shedding;

/// A Monday noon.
pub(super) const T0: Time = Time::from_secs(1_800_014_400);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn matcher(keys: &[(MatchKey, &[&str])]) -> Matcher {
    let globs = |texts: &[&str]| texts.iter().map(|text| Glob::new(text)).collect();
    Matcher { globs: keys.iter().map(|(key, texts)| (*key, globs(texts))).collect() }
}

pub(super) fn idle_policy() -> Policy {
    Policy {
        name: "idle".into(),
        matching: matcher(&[(MatchKey::Name, &["dev-*"]), (MatchKey::Team, &["research", "vault"])]),
        when: vec![Condition::IdleFor(HOUR * 2)],
        grace: MINUTE * 30,
        require_volume: false,
        receivers: vec!["ops".into()],
    }
}

pub(super) fn policies(policies: Vec<Policy>) -> Policies {
    let mut safety = Safety::default();
    safety.protect.insert(MatchKey::Team, vec![Glob::new("vault")]);
    let source = ActivitySource {
        name: "dcgm".into(),
        every: MINUTE,
        matcher: Matcher::default(),
        only_busy: false,
        settings: "s".into(),
    };
    Policies { policies, safety, zone: TimeZone::UTC, sources: vec![source] }
}

pub(super) fn deployment(id: &str) -> Deployment {
    Deployment {
        id: DeploymentId::new(id),
        created_at: T0.minus(HOUR * 20),
        name: format!("dev-{id}").into(),
        team: TeamId::new("t1"),
        gpu_type: "h100".into(),
        gpu_count: 1,
        provider: "spheron-ai".into(),
        region: "us-east-1".into(),
        instance_type: InstanceType::new("DEDICATED"),
        status: Status::Running,
        hourly_rate: Usd::from_cents(200),
        total_cost: Usd::from_cents(4_000),
        started_at: Some(T0.minus(HOUR * 20)),
        stopped_at: None,
        kubernetes: false,
        access: Default::default(),
    }
}

/// Attached to `a`.
pub(super) fn volume(id: &str) -> Volume {
    Volume {
        id: VolumeId::new(id),
        created_at: T0,
        name: "data".into(),
        team: TeamId::new("t1"),
        provider: "spheron-ai".into(),
        status: VolumeStatus::Attached,
        size_bytes: 1,
        used_bytes: 1,
        hourly_rate: Usd::from_cents(1),
        attached_to: vec![DeploymentId::new("a")],
        last_detached_at: None,
    }
}

/// An account in which everything is in order: watched for hours, idle, and the policy armed.
#[derive(Clone)]
pub(super) struct Rig {
    pub(super) now: Time,
    pub(super) snapshot: Snapshot,
    pub(super) forecasts: BTreeMap<TeamId, Forecast>,
    pub(super) reaper: Reaper,
    pub(super) last: Vec<Act>,
}

impl Rig {
    pub(super) fn new(policies: Policies) -> Self {
        let mut rig = Self {
            now: T0.minus(HOUR * 4),
            snapshot: Snapshot { skew_ms: Some(200), ..Snapshot::default() },
            forecasts: BTreeMap::new(),
            reaper: Reaper::new(policies, Vec::new()),
            last: Vec::new(),
        };
        rig.snapshot.confirmed.insert("ops".into(), rig.now);
        rig.add_team("t1", "research");
        rig
    }

    /// With one deployment `a` that is idle, up to T0, and the policies armed.
    pub(super) fn ready() -> Self {
        Self::ready_with(policies(vec![idle_policy()]), &["a"])
    }

    pub(super) fn ready_with(policies: Policies, ids: &[&str]) -> Self {
        let names: Vec<Arc<str>> = policies.policies.iter().map(|policy| policy.name.clone()).collect();
        let mut rig = Self::new(policies);
        for id in ids {
            rig.add(deployment(id));
        }
        while rig.now < T0 {
            rig.now = rig.now.plus(MINUTE);
            rig.poll();
            rig.reaper.sight.look(&rig.snapshot, &rig.forecasts, rig.now);
        }
        for name in names {
            rig.arm(&name);
        }
        rig
    }

    pub(super) fn add_team(&mut self, id: &str, name: &str) {
        let team = TrackedTeam {
            id: TeamId::new(id),
            name: name.into(),
            role: "owner".into(),
            balance: Some(Usd::from_cents(100_000)),
            balance_at: Some(self.now),
            previous: None,
            unknown_since: None,
            denied: None,
        };
        self.snapshot.teams.insert(team.id.clone(), team.into());
    }

    pub(super) fn add(&mut self, deployment: Deployment) {
        let tracked = Tracked {
            first_seen: deployment.created_at,
            status_since: deployment.created_at,
            presence: Presence::Listed,
            status_before: None,
            rate_before: None,
            unreadable_since: None,
            deployment,
        };
        self.idle(tracked.deployment.id.as_str(), Reading::Idle, Some(self.now));
        self.snapshot.deployments.insert(tracked.deployment.id.clone(), tracked.into());
    }

    pub(super) fn idle(&mut self, id: &str, reading: Reading, idle_since: Option<Time>) {
        let activity =
            SourceActivity { last: self.now, every: MINUTE, reading, idle_since, utilization_permille: None };
        self.snapshot.activity.insert(DeploymentId::new(id), [("dcgm".into(), activity)].into());
    }

    pub(super) fn deployment(&mut self, id: &str) -> &mut Deployment {
        &mut self.tracked(id).deployment
    }

    pub(super) fn tracked(&mut self, id: &str) -> &mut Tracked {
        Arc::make_mut(self.snapshot.deployments.get_mut(&DeploymentId::new(id)).unwrap())
    }

    pub(super) fn team(&mut self, id: &str) -> &mut TrackedTeam {
        Arc::make_mut(self.snapshot.teams.get_mut(&TeamId::new(id)).unwrap())
    }

    /// Every feed speaks, whole, and every source as it did.
    pub(super) fn poll(&mut self) {
        for feed in [Feed::Deployments, Feed::Balance, Feed::Volumes] {
            let health = FeedHealth {
                last_attempt: Some(self.now),
                last_whole: Some(self.now),
                last_usable: Some(self.now),
                last_complete: Some(self.now),
                ..FeedHealth::new(MINUTE, self.now)
            };
            self.snapshot.feeds.insert(feed, health);
        }
        for team in self.snapshot.teams.values_mut() {
            Arc::make_mut(team).balance_at = Some(self.now);
        }
        for activity in self.snapshot.activity.values_mut().flat_map(BTreeMap::values_mut) {
            activity.last = self.now;
        }
    }

    pub(super) fn code(&self, policy: &str) -> Arc<str> {
        self.reaper.preview(policy, &self.snapshot, &self.forecasts, self.now).unwrap().code
    }

    pub(super) fn arm(&mut self, policy: &str) {
        let code = self.code(policy);
        let wish = (policy, &*code, "ann".into());
        let arming = self.reaper.arm(wish, &self.snapshot, &self.forecasts, self.now).unwrap();
        self.snapshot.armings.insert(policy.into(), arming.into());
    }

    /// Decides; and sees to it that a second look decides nothing new.
    pub(super) fn step(&mut self) -> Reaped {
        let reaped = self.reaper.step(&self.snapshot, &self.forecasts, self.now);
        let again = self.reaper.step(&self.snapshot, &self.forecasts, self.now);
        assert_eq!(
            again,
            Reaped { wake: again.wake, ..Reaped::default() },
            "a second look decides nothing new"
        );
        if !reaped.acts.is_empty() {
            self.last = reaped.acts.clone();
        }
        reaped
    }

    /// Later, with every feed in time, one step a minute; gives all that was decided.
    pub(super) fn pass(&mut self, length: Duration) -> Reaped {
        let until = self.now.plus(length);
        let mut all = Reaped::default();
        while self.now < until {
            self.now = self.now.plus(MINUTE).min(until);
            self.poll();
            let Reaped { actions, shifts, acts, notices, wake } = self.step();
            all.actions.extend(actions);
            all.shifts.extend(shifts);
            all.acts.extend(acts);
            all.notices.extend(notices);
            all.wake = wake;
        }
        all
    }

    pub(super) fn deliver(&mut self, notices: &[Notice], receiver: &str) {
        for notice in notices {
            self.snapshot.told.entry(notice.id.clone()).or_default().insert(receiver.into(), self.now);
        }
    }

    /// What came of the last act.
    pub(super) fn answer(&mut self, came: Came) -> Reaped {
        let act = self.last.last().unwrap().clone();
        let receipt =
            ActReceipt { action: act.action.clone(), seq: act.seq, sent: self.now, skew_ms: Some(300), came };
        self.snapshot.receipts.insert(act.action, receipt.into());
        self.step()
    }

    pub(super) fn read(&self, id: &str) -> Came {
        let tracked = &self.snapshot.deployments[&DeploymentId::new(id)];
        Came::Read(Ok(Some(Box::new(tracked.deployment.clone()))))
    }

    pub(super) fn action(&self) -> &Action {
        self.reaper.open.values().next().unwrap()
    }

    pub(super) fn stage(&self) -> StageName {
        self.action().stage.name()
    }

    /// Marked, announced, and the grace over: the final read of `a` is under way.
    pub(super) fn until_read(&mut self) {
        let notices = self.step().notices;
        assert_eq!(self.stage(), StageName::Marked);
        self.deliver(&notices, "ops");
        self.step();
        assert_eq!(self.stage(), StageName::Announced);
        self.pass(MINUTE * 30);
        assert_eq!(self.stage(), StageName::Reading);
    }

    pub(super) fn until_check(&mut self) {
        self.until_read();
        self.answer(self.read("a"));
        assert_eq!(self.stage(), StageName::Checking);
    }

    pub(super) fn until_commit(&mut self) {
        self.until_check();
        self.answer(yes());
        assert_eq!(self.stage(), StageName::Committing);
    }

    pub(super) fn until_request(&mut self) -> Reaped {
        self.until_commit();
        let reaped = self.answer(Came::Commit(Ok(())));
        assert_eq!(self.stage(), StageName::Requested);
        reaped
    }
}

pub(super) fn yes() -> Came {
    can(true, 0)
}

pub(super) fn can(can_terminate: bool, minutes_remaining: u32) -> Came {
    Came::CanTerminate(Ok(Some(CanTerminate { can_terminate, minutes_remaining, minutes_minimum: 20 })))
}

pub(super) fn is_delete(act: &Act) -> bool {
    matches!(act.deed, Deed::Delete { .. })
}

pub(super) fn names(reaped: &Reaped) -> Vec<String> {
    let line = |shift: &Shift| {
        format!("{} > {}: {}", shift.from.map_or("-", StageName::as_str), shift.to.as_str(), shift.reason)
    };
    reaped.shifts.iter().map(line).collect()
}
