//! One pass over the fleet: every line is followed to its cut, and what a team spends now is added up on the way.
//!
//! It must never book what did not change: a line costs a look, until its hour is over.

use std::{collections::BTreeMap, time::Duration};

use super::{
    calendar::{HOUR, Periods, Stretch},
    ledger::{Book, Report, last_cycle},
    watch::Watch,
};
use crate::model::{
    DeploymentId, Line, Presence, Subject, TeamId, Time, Tracked, TrackedTeam, TrackedVolume, Usd,
};

/// A `totalCost` that runs at another pace than its rate by more than this says that the rate does not hold all (FAULTS 21).
const DRIFT_PERMILLE: i32 = 20;

/// After so long without its own answer, what a list lacks counts again as what bills.
const DOUBTFUL_FOR: Duration = Duration::from_secs(120);

/// A balance that is newer than the list by more than this has been debited for more than the list tells.
const OUTRUN_BY: Duration = Duration::from_secs(300);

/// What one pass over the fleet adds up for a team.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Σ live rates, per hour.
    pub committed: Usd,
    /// Accrued and not booked yet.
    pub deployments: Usd,
    pub volumes: Usd,
    /// Of that, what lies before the present day, week and month.
    pub before: [Usd; 3],
    /// Accrued and not yet due in the API's own cycles.
    pub owed: Usd,
    pub owed_volumes: Usd,
    /// Of `committed` and `owed`, what the last list lacks and its own GET has not decided yet.
    pub doubtful: Usd,
    pub doubtful_owed: Usd,
    pub step: Usd,
    pub volume_step: Usd,
    pub drifting: bool,
}

impl Tally {
    /// A line that waits for a poll beyond the beginning of a period.
    fn wait(&mut self, line: &Line, periods: &Periods) {
        for (before, start) in self.before.iter_mut().zip(periods.starts()) {
            if line.until < start {
                *before = before.saturating_add(line.rate.per_hour_for(start.since(line.until)));
            }
        }
    }
}

/// One step's constants.
#[derive(Clone, Copy)]
pub struct Moment {
    pub now: Time,
    /// Everything is booked up to here at least: the last hour's or day's end.
    pub cut: Time,
}

/// One pass over the fleet: books what changed, adds up the rest.
pub struct Pass<'a> {
    pub at: Moment,
    pub lines: &'a mut BTreeMap<Subject, Line>,
    pub book: Book<'a>,
    pub touched: &'a mut Vec<(Subject, Option<Line>)>,
}

impl Pass<'_> {
    pub fn deployment(
        &mut self,
        tracked: &Tracked,
        watch: &Watch,
        team: Option<&TrackedTeam>,
        tally: &mut Tally,
    ) {
        let d = &tracked.deployment;
        let Moment { now, cut } = self.at;
        let subject = Subject::Deployment { id: d.id.clone(), created_at: d.created_at };
        let live = tracked.is_live();
        let heard = |line: &Line| line.reported.is_some_and(|(total, _)| total == d.total_cost);
        // What lies beyond the last poll is not booked before the next has come.
        let cut = cut.min(watch.seen.unwrap_or(cut));
        let unchanged = |line: &Line| {
            let as_it_is = if live {
                line.rate == d.hourly_rate && line.until >= cut && !watch.opened
            } else {
                line.ended
            };
            line.ended != live && heard(line) && as_it_is
        };
        if !self.lines.get(&subject).is_some_and(unchanged) {
            let line = match self.lines.remove(&subject) {
                Some(line) => {
                    let denied = team.is_some_and(|team| team.denied.is_some());
                    self.follow(&subject, line, tracked, watch, denied)
                }
                None => self.meet(&subject, tracked, watch),
            };
            self.touched.push((subject.clone(), Some(line.clone())));
            self.lines.insert(subject.clone(), line);
        }
        let Some(line) = self.lines.get(&subject).filter(|line| !line.ended) else { return };
        let pending = line.rate.per_hour_for(now.since(line.until));
        let total = line.charged.saturating_add(pending);
        let reported = line.reported.map_or(Usd::ZERO, |(reported, _)| reported);
        tally.committed = tally.committed.saturating_add(line.rate);
        tally.deployments = tally.deployments.saturating_add(pending);
        tally.wait(line, self.book.periods);
        let mut owed = total.saturating_sub(reported).max(Usd::ZERO);
        let read = team.and_then(|team| team.balance_at).zip(watch.seen);
        if let Some((read, seen)) = read
            && read.since(seen) > OUTRUN_BY
        {
            // The balance was debited since this was listed: all but the last cycle is gone from it already.
            owed = owed.min(line.rate.per_hour_for(HOUR.saturating_add(now.since(read))));
        }
        tally.owed = tally.owed.saturating_add(owed);
        if is_doubtful(tracked, now) {
            tally.doubtful = tally.doubtful.saturating_add(line.rate);
            tally.doubtful_owed = tally.doubtful_owed.saturating_add(owed);
        }
        tally.step = tally.step.max(line.rate);
        tally.drifting |= line.drift_permille.saturating_abs() > DRIFT_PERMILLE;
    }

    /// First sight. Its past is booked by its `totalCost`, evenly; what that does not hold yet, by its rate.
    fn meet(&mut self, subject: &Subject, tracked: &Tracked, watch: &Watch) -> Line {
        let d = &tracked.deployment;
        let now = self.at.now;
        let from = d.created_at.min(now);
        self.end_older(&d.id, from);
        let mut line = new_line(d.team.clone(), from, d.hourly_rate);
        let report = Report { total: d.total_cost, now, last_seen: from };
        if tracked.is_live() {
            let cycle = last_cycle(from, now);
            let told_until = match (d.total_cost > Usd::ZERO, cycle > from) {
                (true, true) => cycle,
                // It costs something before its first hour is over: the cycles are shorter.
                (true, false) => now,
                (false, _) => from,
            };
            self.book.spread(subject, &mut line, d.total_cost, Stretch { from, until: told_until });
            line.until = told_until;
            self.book.accrue(subject, &mut line, now, watch.gap(told_until, now));
        } else {
            let until = ended_at(tracked).clamp(from, now);
            self.book.spread(subject, &mut line, d.total_cost, Stretch { from, until });
            line.until = until;
            line.ended = true;
        }
        self.book.meet(subject, &mut line, report);
        line
    }

    fn follow(
        &mut self,
        subject: &Subject,
        mut line: Line,
        tracked: &Tracked,
        watch: &Watch,
        denied: bool,
    ) -> Line {
        let d = &tracked.deployment;
        let Moment { now, cut } = self.at;
        let heard = line.reported.is_none_or(|(total, _)| total != d.total_cost);
        let report = Report { total: d.total_cost, now, last_seen: watch.before.unwrap_or(line.until) };
        if !tracked.is_live() {
            if !line.ended {
                self.end(subject, &mut line, ended_at(tracked));
            }
            // A final status comes with the final cost; one that merely vanished leaves its estimate.
            if d.status.is_ended() {
                self.book.close(subject, &mut line, report);
            } else if heard {
                self.book.hear(subject, &mut line, report, None);
            }
            return line;
        }
        if line.ended {
            // Back from the dead: it bills again from when that was seen.
            line.ended = false;
            line.until = line.until.max(tracked.status_since).min(now);
        }
        let regular = watch.seen.map_or(cut, |seen| if watch.opened { seen } else { cut.min(seen) });
        let until = if line.rate == d.hourly_rate { regular } else { now };
        let unseen = denied || tracked.unreadable_since.is_some();
        let blind = if unseen { Some(Stretch { from: line.until, until: now }) } else { watch.blind };
        self.book.accrue(subject, &mut line, until, blind);
        if heard {
            self.book.hear(subject, &mut line, report, blind);
        }
        line.rate = d.hourly_rate;
        line
    }

    /// Ends a line, in the past or now.
    fn end(&mut self, subject: &Subject, line: &mut Line, at: Time) {
        let at = at.clamp(line.from, self.at.now.max(line.from));
        self.book.accrue(subject, line, at, None);
        self.book.take_back(subject, line, at);
        line.ended = true;
    }

    /// The id came back with another creation: what had it before is over (FAULTS 20).
    fn end_older(&mut self, id: &DeploymentId, created_at: Time) {
        let subject = |at: i64| Subject::Deployment { id: id.clone(), created_at: Time::from_millis(at) };
        let older = self.lines.range(subject(i64::MIN)..=subject(i64::MAX));
        let older: Vec<Subject> =
            older.filter(|(_, line)| !line.ended).map(|(subject, _)| subject.clone()).collect();
        for subject in older {
            if let Some(mut line) = self.lines.remove(&subject) {
                self.end(&subject, &mut line, created_at);
                self.touched.push((subject.clone(), Some(line.clone())));
                self.lines.insert(subject, line);
            }
        }
    }

    pub fn volume(&mut self, tracked: &TrackedVolume, watch: &Watch, tally: &mut Tally) {
        let v = &tracked.volume;
        let Moment { now, cut } = self.at;
        let subject = Subject::Volume { id: v.id.clone() };
        let live = tracked.bills();
        let cut = cut.min(watch.seen.unwrap_or(cut));
        let unchanged = |line: &Line| {
            line.ended != live
                && (!live || (line.rate == v.hourly_rate && line.until >= cut && !watch.opened))
        };
        if !self.lines.get(&subject).is_some_and(unchanged) {
            let from = v.created_at.min(now);
            let line = self.lines.remove(&subject);
            let new = line.is_none();
            let mut line = line.unwrap_or_else(|| new_line(v.team.clone(), from, v.hourly_rate));
            if live {
                if line.ended {
                    line.ended = false;
                    line.until = line.until.max(from);
                }
                let changes = new || line.rate != v.hourly_rate || watch.opened;
                let blind = if new { watch.gap(from, now) } else { watch.blind };
                self.book.accrue(&subject, &mut line, if changes { now } else { cut }, blind);
                line.rate = v.hourly_rate;
            } else if !line.ended {
                self.end(&subject, &mut line, tracked.gone_at.unwrap_or(now));
            }
            self.touched.push((subject.clone(), Some(line.clone())));
            self.lines.insert(subject.clone(), line);
        }
        let Some(line) = self.lines.get(&subject).filter(|line| !line.ended) else { return };
        let owed = line.rate.per_hour_for(now.since(last_cycle(line.from, now)));
        tally.committed = tally.committed.saturating_add(line.rate);
        tally.volumes = tally.volumes.saturating_add(line.rate.per_hour_for(now.since(line.until)));
        tally.owed = tally.owed.saturating_add(owed);
        tally.wait(line, self.book.periods);
        tally.owed_volumes = tally.owed_volumes.saturating_add(owed);
        tally.step = tally.step.max(line.rate);
        tally.volume_step = tally.volume_step.max(line.rate);
    }
}

pub fn new_line(team: TeamId, from: Time, rate: Usd) -> Line {
    Line {
        team,
        from,
        until: from,
        rate,
        rest: 0,
        charged: Usd::ZERO,
        guesses: Vec::new(),
        reported: None,
        drift_permille: 0,
        ended: false,
    }
}

/// A complete list lacks it since just now, and its own GET, which follows at once, has still to say whether it bills.
fn is_doubtful(tracked: &Tracked, now: Time) -> bool {
    match tracked.presence {
        Presence::Missing { since, .. } => now.since(since) < DOUBTFUL_FOR,
        Presence::Listed | Presence::Gone(_) => false,
    }
}

fn ended_at(tracked: &Tracked) -> Time {
    let observed = match tracked.presence {
        Presence::Gone(at) if !tracked.deployment.status.is_ended() => at,
        Presence::Gone(_) | Presence::Listed | Presence::Missing { .. } => tracked.status_since,
    };
    tracked.deployment.stopped_at.unwrap_or(observed)
}
