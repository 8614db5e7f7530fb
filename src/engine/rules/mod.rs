//! The conditions of PRODUCT §6: for each rule, the subjects it is about and what holds of each now.
//!
//! It must never judge from data that a failed poll left old: then the verdict is unknown and the last state stays.

mod account;
pub use account::{DISK_LOW_BYTES, VITAL, is_failing};
mod deployment;
mod market;
pub use market::equivalents;
mod money;
pub use money::{budgets, change_of, percent_of, spend_of};
mod team;
mod volume;

use super::alert::Verdict;
use std::collections::BTreeMap;

use crate::model::{Action, Forecast, Glob, Rule, RuleKind, Snapshot, Subject, TeamId, Time};

/// What a rule may look at.
pub struct Ground<'a> {
    pub snapshot: &'a Snapshot,
    pub watched: &'a [Glob],
    pub forecasts: &'a BTreeMap<TeamId, Forecast>,
    /// Those whose end was requested and is not confirmed.
    pub actions: &'a [Action],
    pub now: Time,
}

/// What holds of one subject, and when time alone may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    verdict: Verdict,
    /// Hysteresis: not met afresh, but enough to go on firing.
    keeps: bool,
    looks_again: Option<Time>,
    /// When something joined what is met: who was told before that is told again.
    news: Option<Time>,
}

impl Judgement {
    pub(super) fn verdict(&self, firing: bool) -> Verdict {
        if firing && self.keeps && self.verdict == Verdict::NotMet { Verdict::Kept } else { self.verdict }
    }

    pub(super) fn looks_again(&self) -> Option<Time> {
        self.looks_again
    }

    pub(super) fn news(&self) -> Option<Time> {
        self.news
    }

    fn at(mut self, time: Time) -> Self {
        self.looks_again = Some(time);
        self
    }

    /// What the rule's matcher leaves out is told apart from what does not hold.
    fn where_(self, matched: bool) -> Self {
        if matched { self } else { Verdict::NotMatched.into() }
    }

    fn met_if(holds: bool) -> Self {
        Self::from(if holds { Verdict::Met } else { Verdict::NotMet })
    }
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, keeps: false, looks_again: None, news: None }
    }
}

/// Judges every subject of a rule, in the order of their ids.
pub fn judge(rule: &Rule, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    match &rule.kind {
        RuleKind::Balance { below, clear_above } => team::balance(rule, *below, *clear_above, ground, each),
        RuleKind::BalanceUnknown => team::balance_unknown(rule, ground, each),
        RuleKind::FleetShrunk => team::fleet_shrunk(rule, ground, each),
        RuleKind::RunningLong { longer_than } => deployment::running_long(rule, *longer_than, ground, each),
        RuleKind::SpotInterrupted => deployment::spot_interrupted(rule, ground, each),
        RuleKind::ProviderStopped => deployment::provider_stopped(rule, ground, each),
        RuleKind::Blind { longer_than } => each(Subject::Account, account::blind(*longer_than, ground)),
        RuleKind::KeyRejected => each(Subject::Account, account::key_rejected(ground)),
        RuleKind::ConfigInvalid => each(Subject::Account, account::config_invalid(ground)),
        RuleKind::DeliveryFailing => each(Subject::Account, account::delivery_failing(ground)),
        RuleKind::NotConfirmed => each(Subject::Account, account::not_confirmed(ground)),
        RuleKind::DiskLow => each(Subject::Account, account::disk_low(ground)),
        RuleKind::Idle { longer_than } => deployment::idle(rule, *longer_than, ground, each),
        RuleKind::Failed => deployment::failed(rule, ground, each),
        RuleKind::Stuck { longer_than } => deployment::stuck(rule, *longer_than, ground, each),
        RuleKind::NewDeployment => deployment::new_deployment(rule, ground, each),
        RuleKind::RateChanged => deployment::rate_changed(rule, ground, each),
        RuleKind::Overpaying { percent } => market::overpaying(rule, *percent, ground, each),
        RuleKind::UnattachedVolume { longer_than } => volume::unattached(rule, *longer_than, ground, each),
        RuleKind::VolumeFull { above_permille } => volume::full(rule, *above_permille, ground, each),
        RuleKind::Runway { below } => money::runway(rule, *below, ground, each),
        RuleKind::BurnRate { above } => money::burn_rate(rule, *above, ground, each),
        RuleKind::Budget { amount, period, at } => money::budget(rule, (*amount, *period, at), ground, each),
        RuleKind::UnexplainedSpend { above } => money::unexplained_spend(rule, *above, ground, each),
        RuleKind::BalanceJump => money::balance_jump(rule, ground, each),
    }
}
