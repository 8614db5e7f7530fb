//! Snapshot and engine joined: observations in, a record to commit out. Live run and simulation drive this same core.
//!
//! It must never wait, and never forget a record: what `step` returns has to be committed before the next one is taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::tz::TimeZone;

use super::poller::Pace;
use crate::{
    engine::{self, Engine},
    model::{
        Act, Action, ActionId, ActivitySample, ActivitySource, Audit, Facts, Failure, Feed, FeedHealth,
        Forecast, Glob, Grouping, Held, Observation, Policies, PollRow, Rule, Shift, Silence, SilenceError,
        Snapshot, StageName, StepRecord, Tally, Time, Trouble, View, Wake, wishes,
    },
};

/// More silences than this at a time are no longer a person's.
const SILENCES_MAX: usize = 1_000;
/// How long a silence that is over stays to be looked at, unless as many as may hold have ended since.
const SILENCE_KEPT: Duration = Duration::from_secs(30 * 86_400);

pub struct Core {
    pub(super) snapshot: Snapshot,
    /// As of the last record; what differs from it becomes rows.
    recorded: Arc<Snapshot>,
    pub(super) engine: Engine,
    /// The engine's, for readers.
    rules: Arc<Vec<Rule>>,
    sources: Vec<ActivitySource>,
    /// The engine's, for readers.
    pub(super) policies: Arc<Policies>,
    actions: Arc<Vec<Action>>,
    /// How many actions of each policy came to each stage.
    steps: BTreeMap<(Arc<str>, StageName), u64>,
    /// Decided, and not yet to be performed: first what decided them has to be committed.
    pub(super) acts: Vec<Act>,
    /// What people ordered since the last record.
    pub(super) audit: Vec<Audit>,
    polls: Vec<PollRow>,
    wake: Option<Wake>,
}

impl Core {
    /// `snapshot` as the store remembers it; no feed has spoken in this process yet.
    pub fn new(mut snapshot: Snapshot, engine: Engine) -> Self {
        engine::forget_unwatched(&mut snapshot, engine.watched());
        let recorded = Arc::new(snapshot.clone());
        Self {
            snapshot,
            recorded,
            rules: Arc::new(engine.rules().to_vec()),
            policies: Arc::new(engine.policies().clone()),
            actions: Arc::new(engine.actions().cloned().collect()),
            engine,
            steps: BTreeMap::new(),
            sources: Vec::new(),
            acts: Vec::new(),
            audit: Vec::new(),
            polls: Vec::new(),
            wake: None,
        }
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub fn rules(&self) -> &[Rule] {
        self.engine.rules()
    }

    /// Every rule and subject that tells nothing now, with the reason.
    pub fn held(&self, now: Time) -> Vec<Held> {
        self.engine.held(&self.snapshot, now)
    }

    /// When to step again though nothing was observed.
    pub fn wake(&self) -> Option<&Wake> {
        self.wake.as_ref()
    }

    /// From now on a feed is late if it does not speak at this pace.
    pub fn expect(&mut self, feed: Feed, pace: Pace, now: Time) {
        let health = self.snapshot.feeds.entry(feed).or_insert_with(|| FeedHealth::new(pace.interval, now));
        health.interval = pace.interval;
        health.stretched_from = pace.stretched_from;
    }

    /// After a suspension nobody could have polled, and after the clock was set no age holds: lateness counts anew. As it does
    /// under a new schedule.
    pub fn resumed(&mut self, now: Time) {
        for health in self.snapshot.feeds.values_mut() {
            health.watched_since = now;
            health.last_usable = health.last_usable.map(|last| last.min(now));
            health.last_complete = health.last_complete.map(|last| last.min(now));
        }
    }

    /// After a suspension, or after the clock was set.
    pub fn leapt(&mut self, now: Time) {
        self.resumed(now);
        engine::restart_windows(&mut self.snapshot);
    }

    /// Our own governor holds a feed back: nobody was asked, and the feed's age goes on.
    pub fn hold(&mut self, feed: Feed, why: Arc<str>) {
        if let Some(health) = self.snapshot.feeds.get_mut(&feed) {
            health.trouble = Some(why);
        }
    }

    pub fn absorb(&mut self, observation: &Observation) {
        engine::fold(&mut self.snapshot, observation, self.engine.watched());
        engine::attend(&mut self.snapshot, &self.sources, observation.at);
        self.polls.push(PollRow {
            feed: observation.feed,
            at: observation.at,
            outcome: observation.outcome(),
            items: items(observation),
            failure: observation.failure().map(|failure| failure.kind),
            trouble: observation.trouble(),
        });
    }

    /// From now on these sources speak. What others said before, or these under other settings, is no evidence any more.
    pub fn attend(&mut self, sources: Vec<ActivitySource>, now: Time) {
        let kept = |name: &Arc<str>| {
            let of = |sources: &[ActivitySource]| sources.iter().find(|source| source.name == *name).cloned();
            of(&self.sources) == of(&sources)
        };
        for sources in self.snapshot.activity.values_mut() {
            sources.retain(|name, _| kept(name));
        }
        engine::attend(&mut self.snapshot, &sources, now);
        self.sources = sources;
        self.govern(Policies::clone(&self.policies));
    }

    pub fn absorb_activity(&mut self, sample: &ActivitySample) {
        engine::fold_activity(&mut self.snapshot, &self.sources, sample);
    }

    /// New rules over the state that is.
    pub fn reconfigure(&mut self, rules: Vec<Rule>, watched: Vec<Glob>, zone: TimeZone) {
        self.snapshot.config_error = None;
        self.rules = Arc::new(rules.clone());
        self.engine.replace(rules, watched, zone);
        engine::forget_unwatched(&mut self.snapshot, self.engine.watched());
    }

    /// New policies over the actions that are. The sources are those that speak.
    pub fn govern(&mut self, policies: Policies) {
        self.policies = Arc::new(Policies { sources: self.sources.clone(), ..policies });
        self.engine.replace_policies(Policies::clone(&self.policies));
    }

    /// How alerts are gathered from now on.
    pub fn regroup(&mut self, grouping: Grouping) {
        self.engine.regroup(grouping);
    }

    /// Takes effect at the next step, which also commits it. The same id again replaces it.
    pub fn silence(&mut self, silence: Silence, now: Time) -> Result<(), SilenceError> {
        silence.check()?;
        let known = &mut self.snapshot.silences;
        let lasting = |silence: &Arc<Silence>| now < silence.ends;
        let count = known.values().filter(|silence| lasting(silence)).count();
        if count >= SILENCES_MAX && !known.get(&silence.id).is_some_and(lasting) {
            return Err(SilenceError::TooMany(count));
        }
        if known.len() - count >= SILENCES_MAX {
            let ended = known.values().filter(|silence| !lasting(silence)).min_by_key(|silence| silence.ends);
            if let Some(id) = ended.map(|silence| silence.id.clone()) {
                known.remove(&id);
            }
        }
        known.insert(silence.id.clone(), Arc::new(silence));
        Ok(())
    }

    /// Ends one that holds or is to come; `false` where there is none. It stays to be looked at.
    pub fn end_silence(&mut self, id: &str, now: Time) -> bool {
        match self.snapshot.silences.get_mut(id) {
            Some(silence) if now < silence.ends => {
                Arc::make_mut(silence).ends = now;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The old configuration stays in force, and an alert says so.
    pub fn reconfiguration_failed(&mut self, why: Arc<str>) {
        self.snapshot.config_error = Some(why);
    }

    /// Decides. The record holds all that happened since the last one.
    pub fn step(&mut self, now: Time) -> StepRecord {
        self.snapshot.silences.retain(|_, silence| now < silence.ends.plus(SILENCE_KEPT));
        self.forget_old_keeps(now);
        self.disown_copy(now);
        let decisions = self.engine.step(&self.snapshot, now);
        self.snapshot.restored = None;
        self.void_lapsed(now);
        if !decisions.actions.is_empty() || self.engine.actions().count() != self.actions.len() {
            self.actions = Arc::new(self.engine.actions().cloned().collect());
            let known: BTreeSet<&ActionId> = self.actions.iter().map(|action| &action.id).collect();
            self.snapshot.receipts.retain(|id, _| known.contains(id));
            self.snapshot.cancels.retain(|id, _| known.contains(id));
        }
        self.count_steps(&decisions.actions, &decisions.shifts);
        self.acts.extend(decisions.acts);
        let changes = engine::changes(&self.recorded, &self.snapshot);
        let wishes = wishes(&self.recorded, &self.snapshot);
        self.recorded = Arc::new(self.snapshot.clone());
        self.wake = decisions.wake;
        StepRecord {
            at: now,
            polls: std::mem::take(&mut self.polls),
            changes,
            alerts: decisions.alerts,
            notices: decisions.notices,
            groups: decisions.groups,
            lines: decisions.lines,
            charges: decisions.charges,
            purses: decisions.purses,
            actions: decisions.actions,
            shifts: decisions.shifts,
            wishes,
            audit: std::mem::take(&mut self.audit),
        }
    }

    fn count_steps(&mut self, actions: &[Action], shifts: &[Shift]) {
        for shift in shifts {
            let Some(action) = actions.iter().find(|action| action.id == shift.action) else { continue };
            *self.steps.entry((action.policy.clone(), shift.to)).or_default() += 1;
        }
    }

    fn tallies(&self, now: Time) -> BTreeMap<Arc<str>, Tally> {
        let mut tallies: BTreeMap<Arc<str>, Tally> = BTreeMap::new();
        for ((policy, stage), count) in &self.steps {
            tallies.entry(policy.clone()).or_default().steps.insert(*stage, *count);
        }
        for (policy, ends) in self.engine.ended(now) {
            tallies.entry(policy).or_default().ends = ends;
        }
        tallies
    }

    /// What the outbox says of the configured receivers, and the room that the database has.
    pub fn look_after_itself(
        &mut self,
        deliveries: BTreeMap<Arc<str>, Trouble>,
        disk_free_bytes: Option<u64>,
    ) {
        self.snapshot.deliveries = deliveries;
        self.snapshot.disk_free_bytes = disk_free_bytes;
    }

    /// When the first team's money ends, by the forecast of the last step.
    pub fn money_ends(&self) -> Option<Time> {
        self.engine.forecasts().values().filter_map(Forecast::end).min()
    }

    /// The picture as of the last step, for readers.
    pub fn view(&self, now: Time, last: &View) -> View {
        View {
            at: now,
            snapshot: self.recorded.clone(),
            rules: self.rules.clone(),
            policies: self.policies.clone(),
            actions: self.actions.clone(),
            tallies: self.tallies(now),
            firing: self.engine.firing(),
            latent: self.engine.latent(),
            events: self.engine.events(now),
            forecasts: self.engine.forecasts().clone(),
            budgets: self.engine.budgets(&self.snapshot),
            generation: last.generation.saturating_add(1),
            config_reload_ok: self.snapshot.config_error.is_none(),
            receivers: last.receivers.clone(),
            outbox: last.outbox.clone(),
            outbox_at: last.outbox_at,
            database_bytes: last.database_bytes,
        }
    }
}

fn items(observation: &Observation) -> u32 {
    let of = |result: &Result<Facts, Failure>| match result {
        Ok(Facts::Balances(list)) => list.items.len(),
        Ok(Facts::Deployments(list)) => list.items.len(),
        Ok(Facts::Volumes(list)) => list.items.len(),
        Ok(Facts::Offers(list)) => list.items.len(),
        Ok(Facts::Deployment(found)) => usize::from(found.is_some()),
        Err(_) => 0,
    };
    u32::try_from(observation.scopes.iter().map(|(_, result)| of(result)).sum::<usize>()).unwrap_or(u32::MAX)
}
