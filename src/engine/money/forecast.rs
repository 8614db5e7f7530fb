//! How long a balance lasts: by what bills now, and by how the balance itself has moved.
//!
//! It must never take a top-up for negative burn, nor claim a slope that too little history shows.

use std::{sync::Arc, time::Duration};

use super::calendar::{HOUR, Stretch};
use crate::model::{Spend, Time, Usd};

/// The slope is that of the last hours: older deductions tell of another load.
const LOOK_BACK: Duration = Duration::from_secs(4 * 3_600);
/// Below this it is not known: so many deductions, over so long.
const FALLS_MIN: usize = 3;
const SPAN_MIN: Duration = Duration::from_secs(2 * 3_600);
/// Deductions come hourly: two that lie farther apart were not both seen when they came.
const APART_MAX: Duration = Duration::from_secs(100 * 60);
/// After so long without one, nothing is being spent that the balance could show.
const QUIET_AFTER: Duration = Duration::from_secs(2 * 3_600);
/// Two deductions are whole hours apart if they are within this.
const WHOLE_WITHIN: Duration = Duration::from_secs(6 * 60);
/// Of more changes, only every other is looked at, and so on.
const POINTS_MAX: usize = 64;

/// A balance with every change, oldest first.
type History = Vec<(Time, Usd)>;

/// Remembers the slope of a balance until it changes.
#[derive(Debug, Clone, Default)]
pub struct Slope {
    of: Option<(Arc<History>, Option<Time>)>,
    per_hour: Option<Usd>,
    /// The committed burn, and since when it has not fallen.
    burn: Usd,
    steady_since: Option<Time>,
}

impl Slope {
    /// The observed burn. A known end of load begins a new segment: what was deducted before it tells nothing of now.
    pub fn observe(
        &mut self,
        history: Option<&Arc<Vec<(Time, Usd)>>>,
        committed: Usd,
        now: Time,
    ) -> Option<Usd> {
        if i128::from(committed.nanos()) * 10 < i128::from(self.burn.nanos()) * 9 {
            self.steady_since = Some(now);
            self.burn = committed;
        }
        self.burn = self.burn.max(committed);
        let history = history?;
        let known = |(of, since): &(Arc<Vec<_>>, _)| Arc::ptr_eq(of, history) && *since == self.steady_since;
        if !self.of.as_ref().is_some_and(known) {
            self.per_hour = slope(segment(history, self.steady_since));
            self.of = Some((history.clone(), self.steady_since));
        }
        let last = history.last().map(|(at, _)| *at)?;
        self.per_hour.filter(|_| now.since(last) <= QUIET_AFTER)
    }
}

/// The deductions since the last rise, the last end of load, the last time nobody looked, and within the last hours. The first
/// balance after any of these is none: when its deduction came is not known.
fn segment(history: &[(Time, Usd)], steady_since: Option<Time>) -> &[(Time, Usd)] {
    let Some((last, _)) = history.last() else { return &[] };
    let oldest = last.minus(LOOK_BACK).max(steady_since.unwrap_or(Time::from_millis(i64::MIN)));
    let recent = history.partition_point(|(at, _)| *at < oldest);
    let breaks =
        |[(then, before), (at, after)]: &[(Time, Usd); 2]| after > before || at.since(*then) > APART_MAX;
    let fresh = history.array_windows().rposition(breaks).map_or(1, |at| at + 2);
    history.get(recent.max(fresh)..).unwrap_or(&[])
}

/// Theil and Sen: the median of the slopes of all pairs that lie far enough apart for single steps not to matter. Pairs that
/// lie whole hours apart hold every hourly deduction equally often: where there are some, they alone count.
fn slope(points: &[(Time, Usd)]) -> Option<Usd> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    let span = last.since(first);
    if points.len() < FALLS_MIN || span < SPAN_MIN {
        return None;
    }
    let every = points.len().div_ceil(POINTS_MAX);
    let points: Vec<_> = points.iter().rev().step_by(every).rev().collect();
    let (mut slopes, mut whole) = (Vec::new(), Vec::new());
    for (index, (later, low)) in points.iter().enumerate() {
        for (earlier, high) in points.iter().take(index) {
            let apart = later.since(*earlier);
            let slope = per_hour(high.saturating_sub(*low), apart);
            let beyond = apart.as_millis() % HOUR.as_millis();
            let within = beyond.min(HOUR.as_millis() - beyond) <= WHOLE_WITHIN.as_millis();
            if within && apart > HOUR / 2 {
                whole.push(slope);
            }
            if apart >= span / 2 {
                slopes.push(slope);
            }
        }
    }
    if whole.len() >= FALLS_MIN {
        slopes = whole;
    }
    slopes.sort_unstable();
    let middle = slopes.len() / 2;
    let upper = slopes.get(middle).copied()?;
    let lower = slopes.get(slopes.len().saturating_sub(1) / 2).copied()?;
    let middle = (i128::from(upper.nanos()) + i128::from(lower.nanos())) / 2;
    Some(Usd::from_nanos(i64::try_from(middle).unwrap_or(0)).max(Usd::ZERO))
}

fn per_hour(amount: Usd, over: Duration) -> Usd {
    let (hour, over) = (HOUR.as_millis(), over.as_millis().max(1));
    let rate =
        i128::from(amount.nanos()) * i128::try_from(hour).unwrap_or(0) / i128::try_from(over).unwrap_or(1);
    Usd::from_nanos(i64::try_from(rate).unwrap_or(0))
}

/// What is spent and will be by the end of a calendar period at the committed burn.
pub fn spend(period: Stretch, spent: Usd, committed: Usd, now: Time) -> Spend {
    let forecast = spent.saturating_add(committed.per_hour_for(period.until.since(now)));
    Spend { from: period.from, until: period.until, spent, forecast }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Time = Time::from_secs(1_800_000_000);

    fn history(points: &[(i64, i64)]) -> Arc<Vec<(Time, Usd)>> {
        let point = |(minutes, cents): &(i64, i64)| {
            (T0.plus(Duration::from_secs(60 * minutes.unsigned_abs())), Usd::from_cents(*cents))
        };
        Arc::new(points.iter().map(point).collect())
    }

    fn observed(points: &[(i64, i64)]) -> Option<i64> {
        let history = history(points);
        let now = history.last()?.0;
        Slope::default().observe(Some(&history), Usd::ZERO, now).map(|usd| usd.nanos() / 10_000_000)
    }

    #[test]
    fn a_slope_is_the_burn_between_top_ups_or_not_known() {
        for (what, points, expected) in [
            ("nothing", &[][..], None),
            ("two deductions", &[(0, 110), (1, 100), (120, 90)], None),
            ("three within an hour", &[(0, 110), (1, 100), (30, 90), (59, 80)], None),
            ("three over two hours", &[(0, 1_050), (1, 1_000), (61, 900), (121, 800)], Some(100)),
            (
                "two loads, out of phase",
                &[(0, 1_010), (30, 910), (60, 900), (90, 800), (120, 790), (150, 690)],
                Some(110),
            ),
            ("a top-up begins anew", &[(0, 300), (60, 200), (120, 100), (125, 5_100), (180, 5_000)], None),
            (
                "and is known again after two hours",
                &[(0, 300), (60, 200), (65, 5_200), (120, 5_100), (180, 5_000), (240, 4_900)],
                Some(100),
            ),
            (
                "one odd debit",
                &[(0, 1_100), (1, 1_000), (61, 900), (121, 800), (130, 600), (181, 500), (241, 400)],
                Some(158),
            ),
            (
                "what is old",
                &[(0, 9_000), (60, 5_000), (120, 900), (180, 800), (240, 700), (300, 600)],
                Some(100),
            ),
            ("while nobody looked", &[(0, 5_000), (60, 4_900), (600, 900), (630, 800), (690, 700)], None),
        ] {
            assert_eq!(observed(points), expected, "{what}");
        }
    }

    #[test]
    fn an_end_of_load_makes_the_old_slope_unknown_and_so_does_silence() {
        let history = history(&[(0, 1_050), (1, 1_000), (61, 900), (121, 800)]);
        let at = |minutes: u64| T0.plus(Duration::from_secs(60 * minutes));
        let mut slope = Slope::default();
        assert_eq!(slope.observe(Some(&history), Usd::from_cents(100), at(122)), Some(Usd::from_cents(100)));
        assert_eq!(slope.observe(Some(&history), Usd::from_cents(95), at(123)), Some(Usd::from_cents(100)));
        assert_eq!(
            slope.observe(Some(&history), Usd::from_cents(95), at(271)),
            None,
            "no deduction for 2.5 h"
        );
        assert_eq!(slope.observe(Some(&history), Usd::from_cents(50), at(124)), None);
    }

    #[test]
    fn many_changes_cost_a_bounded_number_of_pairs() {
        let many: Vec<(i64, i64)> = (0..512).map(|n| (n, 100_000 - n * 10)).collect();
        assert_eq!(observed(&many), Some(600));
    }

    #[test]
    fn a_period_ends_at_what_is_spent_and_the_rest_at_the_committed_burn() {
        let period = Stretch { from: T0, until: T0.plus(HOUR * 24) };
        let spend = spend(period, Usd::from_cents(300), Usd::from_cents(100), T0.plus(HOUR * 4));
        assert_eq!((spend.spent, spend.forecast), (Usd::from_cents(300), Usd::from_cents(2_300)));
    }
}
