//! The figures of an alert that have a limit, to be drawn as bars.
//!
//! It must never draw a figure that is not known: no bar is better than an empty one.

use std::{sync::Arc, time::Duration};

use super::Telling;
use crate::model::{Bar, Forecast, Period, RuleKind, Subject, TeamId, Usd, VolumeId, humanize};

pub fn bars(telling: &Telling<'_>) -> Vec<Bar> {
    let drawn = match (&telling.rule.kind, telling.subject) {
        (RuleKind::Balance { below, .. }, Subject::Team { id }) => balance(telling, id, *below),
        (RuleKind::Runway { below }, Subject::Team { id }) => runway(telling, id, *below),
        (RuleKind::BurnRate { above }, Subject::Team { id }) => burn(telling, id, *above),
        (RuleKind::Budget { amount, period, .. }, Subject::Occasion { team, .. }) => {
            return budget(telling, team, *amount, *period).into_iter().flatten().collect();
        }
        (RuleKind::VolumeFull { above_permille }, Subject::Volume { id }) => {
            volume(telling, id, (*above_permille).into())
        }
        (RuleKind::Idle { .. }, Subject::Deployment { .. }) => utilization(telling),
        (
            _,
            Subject::Account
            | Subject::Team { .. }
            | Subject::Deployment { .. }
            | Subject::Volume { .. }
            | Subject::Occasion { .. },
        ) => None,
    };
    drawn.into_iter().collect()
}

fn balance(telling: &Telling<'_>, id: &TeamId, below: Usd) -> Option<Bar> {
    let team = telling.snapshot.teams.get(id).filter(|team| team.unknown_since.is_none())?;
    of_limit("balance", team.balance?, below, |balance| format!("{balance}; the threshold is {below}"))
}

fn runway(telling: &Telling<'_>, id: &TeamId, below: Duration) -> Option<Bar> {
    let left = telling.forecasts.get(id)?.end()?.since(telling.now);
    share("runway", left.as_millis(), below.as_millis(), |_| {
        format!("{}; the threshold is {}", humanize(left), humanize(below))
    })
}

fn burn(telling: &Telling<'_>, id: &TeamId, above: Usd) -> Option<Bar> {
    let burn = telling.snapshot.burn_per_hour(id);
    of_limit("spending", burn, above, |burn| format!("{burn}/h; the threshold is {above}/h"))
}

fn budget(telling: &Telling<'_>, id: &TeamId, amount: Usd, period: Period) -> [Option<Bar>; 2] {
    let Some(Forecast { day, week, month, .. }) = telling.forecasts.get(id) else { return [None, None] };
    let spend = match period {
        Period::Day => day,
        Period::Week => week,
        Period::Month => month,
    };
    let part = |label, figure| of_limit(label, figure, amount, |figure| format!("{figure} of {amount}"));
    [part("spent", spend.spent), part("forecast", spend.forecast)]
}

fn volume(telling: &Telling<'_>, id: &VolumeId, above_permille: u32) -> Option<Bar> {
    let volume = &telling.snapshot.volumes.get(id).filter(|tracked| tracked.gone_at.is_none())?.volume;
    share("used", volume.used_bytes.into(), volume.size_bytes.into(), |used| {
        format!("{used}; the threshold is {}", percent(above_permille))
    })
}

/// Of the source that saw most of late: with several the busiest counts.
fn utilization(telling: &Telling<'_>) -> Option<Bar> {
    let Subject::Deployment { id, .. } = telling.subject else { return None };
    let sources = telling.snapshot.activity.get(id)?;
    let fresh = sources.values().filter(|source| source.is_fresh(telling.now));
    let busiest = fresh.filter_map(|source| source.utilization_permille).max()?;
    share("GPU use", busiest.into(), 1_000, |percent| percent)
}

fn of_limit(label: &str, figure: Usd, limit: Usd, text: impl FnOnce(Usd) -> String) -> Option<Bar> {
    let nanos = |usd: Usd| u128::try_from(usd.nanos()).unwrap_or(0);
    share(label, nanos(figure), nanos(limit), |_| text(figure))
}

/// Nothing where there is no limit to draw against.
fn share(label: &str, part: u128, whole: u128, text: impl FnOnce(String) -> String) -> Option<Bar> {
    let permille = part.saturating_mul(1_000).checked_div(whole)?;
    let permille = u32::try_from(permille).unwrap_or(u32::MAX);
    Some(Bar { label: Arc::from(label), permille, text: text(percent(permille)) })
}

/// `93 %`, `93.4 %`.
fn percent(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{} %", permille / 10),
        tenths => format!("{}.{tenths} %", permille / 10),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{DeploymentId, Reading};
    use crate::model::{
        Matcher, Rule, Severity, Snapshot, SourceActivity, Spend, Time, TrackedTeam, TrackedVolume, Volume,
        VolumeStatus,
    };

    const NOW: Time = Time::from_secs(1_795_516_200);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn team() -> TeamId {
        TeamId::new("t1")
    }

    fn usd(dollars: f64) -> Usd {
        Usd::from_dollars(dollars).unwrap()
    }

    fn account(balance: Option<Usd>, unknown_since: Option<Time>) -> Snapshot {
        let tracked = TrackedTeam {
            id: team(),
            name: "research".into(),
            role: "owner".into(),
            balance,
            balance_at: Some(NOW),
            previous: None,
            unknown_since,
            denied: None,
        };
        Snapshot { teams: [(team(), Arc::new(tracked))].into(), ..Snapshot::default() }
    }

    /// `label permille text` of each bar.
    fn drawn(
        kind: RuleKind,
        subject: &Subject,
        snapshot: &Snapshot,
        forecast: Option<Forecast>,
    ) -> Vec<String> {
        let rule = Rule {
            name: "r".into(),
            kind,
            severity: Severity::Warning,
            for_: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
            matcher: Matcher::default(),
            receivers: Vec::new(),
            repeat_interval: None,
        };
        let forecasts: BTreeMap<TeamId, Forecast> = forecast.map(|f| (team(), f)).into_iter().collect();
        let telling =
            Telling { rule: &rule, subject, snapshot, forecasts: &forecasts, actions: &[], now: NOW };
        bars(&telling).iter().map(|bar| format!("{} {} {}", bar.label, bar.permille, bar.text)).collect()
    }

    fn nothing() -> Vec<String> {
        Vec::new()
    }

    #[test]
    fn a_balance_is_drawn_against_its_threshold_and_not_at_all_when_unknown() {
        let of = |balance, unknown, below| {
            let kind = RuleKind::Balance { below: usd(below), clear_above: usd(below) };
            drawn(kind, &Subject::Team { id: team() }, &account(balance, unknown), None)
        };
        assert_eq!(of(Some(usd(8.2)), None, 10.0), ["balance 820 $8.20; the threshold is $10.00"]);
        assert_eq!(of(Some(usd(25.0)), None, 10.0), ["balance 2500 $25.00; the threshold is $10.00"]);
        assert_eq!(of(Some(usd(-3.0)), None, 10.0), ["balance 0 -$3.00; the threshold is $10.00"]);
        assert_eq!(of(Some(usd(8.2)), Some(NOW), 10.0), nothing(), "what it was is not what it is");
        assert_eq!(of(None, None, 10.0), nothing());
        assert_eq!(of(Some(usd(1.0)), None, 0.0), nothing(), "no limit to draw against");
    }

    #[test]
    fn runway_burn_and_budget_are_drawn_from_the_forecast() {
        let subject = Subject::Team { id: team() };
        let snapshot = account(Some(usd(8.2)), None);
        let month = Spend { from: NOW, until: NOW.plus(HOUR), spent: usd(83.0), forecast: usd(120.0) };
        let forecast = Forecast { observed_end: Some(NOW.plus(HOUR * 5)), month, ..Forecast::default() };
        let runway = || RuleKind::Runway { below: HOUR * 6 };
        assert_eq!(
            drawn(runway(), &subject, &snapshot, Some(forecast)),
            ["runway 833 5h; the threshold is 6h"]
        );
        assert_eq!(drawn(runway(), &subject, &snapshot, Some(Forecast::default())), nothing());
        assert_eq!(drawn(runway(), &subject, &snapshot, None), nothing());
        let mark = crate::model::Mark::Forecast(80);
        let occasion = Subject::Occasion { team: team(), at: NOW, mark };
        let budget = || RuleKind::Budget { amount: usd(100.0), period: Period::Month, at: vec![80] };
        assert_eq!(
            drawn(budget(), &occasion, &snapshot, Some(forecast)),
            ["spent 830 $83.00 of $100.00", "forecast 1200 $120.00 of $100.00"]
        );
        assert_eq!(drawn(budget(), &subject, &snapshot, None), nothing());
        assert_eq!(
            drawn(RuleKind::BurnRate { above: usd(2.0) }, &subject, &snapshot, None),
            ["spending 0 $0.00/h; the threshold is $2.00/h"]
        );
    }

    #[test]
    fn a_volume_is_drawn_until_it_is_gone_and_the_busiest_source_counts() {
        let id = VolumeId::new("v1");
        let volume = |gone_at| {
            let volume = Volume {
                id: id.clone(),
                created_at: NOW,
                name: "data".into(),
                team: team(),
                provider: "p".into(),
                status: VolumeStatus::Available,
                size_bytes: u64::MAX,
                used_bytes: u64::MAX / 1_000 * 935,
                hourly_rate: usd(0.1),
                attached_to: Vec::new(),
                last_detached_at: None,
            };
            let tracked = TrackedVolume { volume, first_seen: NOW, gone_at };
            Snapshot { volumes: [(id.clone(), Arc::new(tracked))].into(), ..Snapshot::default() }
        };
        let of = |snapshot: &Snapshot| {
            let kind = RuleKind::VolumeFull { above_permille: 900 };
            drawn(kind, &Subject::Volume { id: id.clone() }, snapshot, None)
        };
        assert_eq!(of(&volume(None)), ["used 934 93.4 %; the threshold is 90 %"]);
        assert_eq!(of(&volume(Some(NOW))), nothing());

        let deployment = DeploymentId::new("d1");
        let source = |last, utilization_permille| SourceActivity {
            last,
            every: HOUR,
            reading: Reading::Idle,
            idle_since: None,
            utilization_permille,
        };
        let stale = NOW.minus(HOUR * 3);
        let sources = [
            ("a".into(), source(NOW, Some(30))),
            ("b".into(), source(NOW, Some(45))),
            ("c".into(), source(NOW, None)),
            ("d".into(), source(stale, Some(900))),
        ];
        let snapshot =
            Snapshot { activity: [(deployment.clone(), sources.into())].into(), ..Snapshot::default() };
        let subject = Subject::Deployment { id: deployment, created_at: NOW };
        let idle = || RuleKind::Idle { longer_than: HOUR };
        assert_eq!(drawn(idle(), &subject, &snapshot, None), ["GPU use 45 4.5 %"]);
        assert_eq!(drawn(idle(), &subject, &Snapshot::default(), None), nothing());
    }
}
