//! By how much schedules are lengthened where calls are short: fairly, as the account's money hangs on more than one feed.
//!
//! It must never let one feed starve for another, nor lengthen one beyond its bound while the grant can bear that.

use std::time::Duration;

use crate::model::Feed;

/// What a feed's schedule takes, and how far it may give way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    feed: Feed,
    calls_per_15m: f64,
    /// At least 1.
    most: f64,
}

impl Need {
    pub fn new(feed: Feed, interval: Duration, calls_per_15m: f64) -> Self {
        let most = feed.slowest().as_secs_f64() / interval.as_secs_f64();
        let calls_per_15m = if calls_per_15m.is_finite() { calls_per_15m.max(0.0) } else { 0.0 };
        Self { feed, calls_per_15m, most: if most.is_finite() { most.max(1.0) } else { 1.0 } }
    }

    fn at_its_slowest(&self) -> f64 {
        self.calls_per_15m / self.most
    }
}

/// One factor for all, but none beyond its bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    factor: f64,
    /// On top of the bounds, where the grant cannot bear even those.
    beyond: f64,
    /// The balance gives way last: it keeps its bound while that takes no more than half of the grant.
    beyond_of_balance: f64,
}

impl Stretch {
    /// `granted_per_15m` is above 0.
    pub(super) fn fitting(needs: &[Need], granted_per_15m: f64) -> Self {
        let (balance, rest): (Vec<&Need>, Vec<&Need>) =
            needs.iter().partition(|need| need.feed == Feed::Balance);
        let slowest = |needs: &[&Need]| needs.iter().map(|need| need.at_its_slowest()).sum::<f64>();
        let (balance, rest) = (slowest(&balance), slowest(&rest));
        if balance + rest <= granted_per_15m {
            return Self { factor: factor(needs, granted_per_15m), beyond: 1.0, beyond_of_balance: 1.0 };
        }
        let kept = balance.min((granted_per_15m / 2.0).max(granted_per_15m - rest));
        Self {
            factor: f64::INFINITY,
            beyond: (rest / (granted_per_15m - kept)).max(1.0),
            beyond_of_balance: if kept > 0.0 { balance / kept } else { 1.0 },
        }
    }

    /// No factor above `most`, and nothing beyond the bounds.
    pub(super) fn at_most(self, most: f64) -> Self {
        Self { factor: self.factor.min(most), beyond: 1.0, beyond_of_balance: 1.0 }
    }

    /// 1 or more.
    fn of(&self, need: &Need) -> f64 {
        let beyond = if need.feed == Feed::Balance { self.beyond_of_balance } else { self.beyond };
        self.factor.min(need.most) * beyond
    }
}

/// What two budgets ask for: the longer of both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretches {
    pub(super) own: Stretch,
    pub(super) drained: Option<Stretch>,
}

impl Stretches {
    /// 1 or more: by how much to lengthen this one's schedule.
    pub fn of(&self, need: &Need) -> f64 {
        let drained = self.drained.map_or(1.0, |drained| drained.of(need));
        self.own.of(need).max(drained)
    }
}

/// The least factor at which all fit, where those at their bounds stay there.
fn factor(needs: &[Need], granted: f64) -> f64 {
    let mut needs = needs.to_vec();
    needs.sort_by(|a, b| a.most.total_cmp(&b.most));
    let (mut bounded, mut open) = (0.0, needs.iter().map(|need| need.calls_per_15m).sum::<f64>());
    for need in &needs {
        let factor = open / (granted - bounded);
        if factor.is_finite() && factor <= need.most {
            return factor.max(1.0);
        }
        bounded += need.at_its_slowest();
        open -= need.calls_per_15m;
    }
    // All at their bounds, which just fit.
    needs.last().map_or(1.0, |need| need.most)
}
