//! Accrual of one line: rate × time, cut at hours, and what `totalCost` makes of it.
//!
//! It must never count a moment twice nor round twice: what is accrued and not yet a whole nano-dollar is carried on.

use std::{collections::BTreeMap, time::Duration};

use super::calendar::{HOUR, Periods, Stretch, hour_of, pieces};
use crate::model::{Charge, ChargeKind, Line, Purse, Subject, TeamId, Time, Usd};

const HOUR_MS: i128 = 3_600_000;
/// Hours that a line remembers as guessed; beyond, the oldest are taken together.
const GUESSES_MAX: usize = 400;

/// Where everything is booked.
pub struct Book<'a> {
    pub periods: &'a Periods,
    pub purses: &'a mut BTreeMap<TeamId, Purse>,
    pub charges: &'a mut Vec<Charge>,
}

/// A new `totalCost`.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    pub total: Usd,
    pub now: Time,
    /// When the old one was still seen: it changed after that.
    pub last_seen: Time,
}

/// What a report says of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    /// To be added to what is charged.
    diff: Usd,
    /// Up to here the cost is told, no longer guessed.
    told_until: Time,
}

pub fn new_purse(periods: &Periods) -> Purse {
    Purse {
        day: (periods.day.from, Usd::ZERO),
        week: (periods.week.from, Usd::ZERO),
        month: (periods.month.from, Usd::ZERO),
        ..Purse::default()
    }
}

/// Deductions come in hourly cycles from each one's creation (facts.md §1): the last one that is due.
pub fn last_cycle(from: Time, now: Time) -> Time {
    let hours = now.since(from).as_millis() / HOUR.as_millis();
    from.plus(HOUR.saturating_mul(u32::try_from(hours).unwrap_or(u32::MAX)))
}

impl Book<'_> {
    /// Accounts a line up to a time at its present rate; what lies in `blind` is estimated.
    pub fn accrue(&mut self, subject: &Subject, line: &mut Line, until: Time, blind: Option<Stretch>) {
        for piece in pieces(line.until, until, self.periods.starts()) {
            let length_ms = millis(piece);
            let exact = i128::from(line.rate.nanos()) * length_ms + i128::from(line.rest);
            let amount = nanos(exact.div_euclid(HOUR_MS));
            line.rest = i64::try_from(exact.rem_euclid(HOUR_MS)).unwrap_or(0);
            line.until = piece.until;
            let guessed = blind.map_or(Usd::ZERO, |blind| share(amount, overlap(piece, blind), length_ms));
            self.guess(subject, line, piece.from, amount, guessed);
        }
    }

    /// Takes back what was accrued after `from`: it had ended by then.
    pub fn take_back(&mut self, subject: &Subject, line: &mut Line, from: Time) {
        for piece in pieces(from.max(line.from), line.until, self.periods.starts()) {
            let exact = i128::from(line.rest) - i128::from(line.rate.nanos()) * millis(piece);
            line.rest = i64::try_from(exact.rem_euclid(HOUR_MS)).unwrap_or(0);
            self.charge(
                subject,
                line,
                piece.from,
                (nanos(exact.div_euclid(HOUR_MS)), Usd::ZERO),
                ChargeKind::Trued,
            );
        }
        line.until = line.until.min(from.max(line.from));
    }

    /// Books an amount evenly over a stretch: the past of what we meet for the first time.
    pub fn spread(&mut self, subject: &Subject, line: &mut Line, amount: Usd, over: Stretch) {
        if over.until <= over.from {
            self.charge(subject, line, over.from, (amount, Usd::ZERO), ChargeKind::Accrued);
            return;
        }
        let (whole, mut done) = (millis(over), Usd::ZERO);
        for piece in pieces(over.from, over.until, self.periods.starts()) {
            let so_far = share(amount, millis(Stretch { from: over.from, until: piece.until }), whole);
            let part = so_far.saturating_sub(done);
            self.charge(subject, line, piece.from, (part, Usd::ZERO), ChargeKind::Accrued);
            done = so_far;
        }
        line.until = over.until;
    }

    /// Holds a new `totalCost` against a line. One that agrees books nothing: the hour goes on; else the line is accrued up to
    /// the report's time, and the difference booked, both ways.
    pub fn hear(&mut self, subject: &Subject, line: &mut Line, report: Report, blind: Option<Stretch>) {
        let old = line.reported.map_or(Usd::ZERO, |(total, _)| total);
        let mut verdict = judge(line, old, report);
        if verdict.diff != Usd::ZERO {
            self.accrue(subject, line, report.now, blind);
            verdict = judge(line, old, report);
        }
        let step = report.total.saturating_sub(old).saturating_sub(verdict.diff);
        line.drift_permille = permille(verdict.diff, step);
        let why = if report.total < old { ChargeKind::Correction } else { ChargeKind::Trued };
        self.true_up(subject, line, verdict, why);
        self.report(subject, line, report);
    }

    /// It has ended, and `totalCost` is final: that is what it cost.
    pub fn close(&mut self, subject: &Subject, line: &mut Line, report: Report) {
        let old = line.reported.map_or(Usd::ZERO, |(total, _)| total);
        let diff = report.total.saturating_sub(line.charged);
        let why = match (report.total < old, diff.nanos().saturating_abs() <= dust(line).nanos()) {
            (true, _) => ChargeKind::Correction,
            (false, true) => ChargeKind::Accrued,
            (false, false) => ChargeKind::Trued,
        };
        self.true_up(subject, line, Verdict { diff, told_until: Time::from_millis(i64::MAX) }, why);
        line.rest = 0;
        self.report(subject, line, report);
    }

    /// First seen with this `totalCost`.
    pub fn meet(&mut self, subject: &Subject, line: &mut Line, report: Report) {
        line.reported = Some((Usd::ZERO, report.now));
        let watched = self.purses.get(&line.team).and_then(|purse| purse.since);
        if watched.is_some_and(|since| line.from >= since) {
            self.report(subject, line, report);
        } else {
            // What it cost before the balance was watched never left this balance.
            line.reported = Some((report.total, report.now));
        }
    }

    fn report(&mut self, subject: &Subject, line: &mut Line, report: Report) {
        let old = line.reported.map_or(Usd::ZERO, |(total, _)| total);
        debug_assert!(matches!(subject, Subject::Deployment { .. }), "volumes report no cost");
        let purse = self.purse(&line.team);
        purse.told = purse.told.saturating_add(report.total.saturating_sub(old));
        line.reported = Some((report.total, report.now));
    }

    /// Estimates that lie before `told_until` are replaced; the difference goes to where they are, else to the last cycle.
    fn true_up(&mut self, subject: &Subject, line: &mut Line, verdict: Verdict, why: ChargeKind) {
        let (told, guesses): (Vec<_>, Vec<_>) = std::mem::take(&mut line.guesses)
            .into_iter()
            .partition(|(moment, _)| *moment < verdict.told_until);
        line.guesses = guesses;
        // What was guessed of a time after the end takes no part: it was taken back.
        let weight = |moment: Time, guess: Usd| {
            if moment < line.until { i128::from(guess.nanos()) } else { 0 }
        };
        let weights: Vec<i128> = told.iter().map(|(moment, guess)| weight(*moment, *guess)).collect();
        let whole: i128 = weights.iter().sum();
        let (mut so_far, mut done) = (0, Usd::ZERO);
        for ((moment, guess), weight) in told.iter().zip(weights) {
            so_far += weight;
            let due = if whole > 0 { share(verdict.diff, so_far, whole) } else { Usd::ZERO };
            let part = due.saturating_sub(done);
            done = due;
            self.charge(subject, line, *moment, (part, Usd::ZERO.saturating_sub(*guess)), why);
        }
        let rest = verdict.diff.saturating_sub(done);
        let moment = verdict.told_until.min(line.until).minus(Duration::from_millis(1)).max(line.from);
        self.charge(subject, line, moment, (rest, Usd::ZERO), why);
    }

    fn guess(&mut self, subject: &Subject, line: &mut Line, moment: Time, amount: Usd, guessed: Usd) {
        // Of a volume nothing ever tells: the rollups alone know what was estimated.
        if guessed != Usd::ZERO && !matches!(subject, Subject::Volume { .. }) {
            match line.guesses.last_mut() {
                Some((last, sum)) if hour_of(*last) == hour_of(moment) => *sum = sum.saturating_add(guessed),
                Some(_) | None => line.guesses.push((moment, guessed)),
            }
            if line.guesses.len() > GUESSES_MAX {
                let (_, oldest) = line.guesses.remove(0);
                if let Some((_, next)) = line.guesses.first_mut() {
                    *next = next.saturating_add(oldest);
                }
            }
        }
        self.charge(subject, line, moment, (amount, guessed), ChargeKind::Accrued);
    }

    fn charge(
        &mut self,
        subject: &Subject,
        line: &mut Line,
        moment: Time,
        (amount, estimated): (Usd, Usd),
        why: ChargeKind,
    ) {
        if amount == Usd::ZERO && estimated == Usd::ZERO {
            return;
        }
        line.charged = line.charged.saturating_add(amount);
        let volume = matches!(subject, Subject::Volume { .. });
        let purse = self.purse(&line.team);
        for (from, spent) in [&mut purse.day, &mut purse.week, &mut purse.month] {
            if moment >= *from {
                *spent = spent.saturating_add(amount);
            }
        }
        if volume {
            purse.volumes = purse.volumes.saturating_add(amount);
            if purse.since.is_some_and(|since| moment >= since) {
                purse.told = purse.told.saturating_add(amount);
            }
        } else {
            purse.deployments = purse.deployments.saturating_add(amount);
        }
        let (subject, team) = (subject.clone(), line.team.clone());
        self.charges.push(Charge { subject, team, hour: hour_of(moment), amount, estimated, why });
    }

    fn purse(&mut self, team: &TeamId) -> &mut Purse {
        self.purses.entry(team.clone()).or_insert_with(|| new_purse(self.periods))
    }
}

/// The API deducts in cycles: a report is the cost up to some moment after the old one was last seen. If that can be the last
/// hourly cycle, it was; else anything that some moment in between explains is taken to agree.
fn judge(line: &Line, old: Usd, report: Report) -> Verdict {
    let Report { total, now, last_seen } = report;
    let charged = line.charged.saturating_add(line.rate.per_hour_for(now.since(line.until)));
    let cycle = last_cycle(line.from, now);
    let charged_if_at = |moment: Time| total.saturating_add(line.rate.per_hour_for(now.since(moment)));
    let diff = charged_if_at(cycle).saturating_sub(charged);
    if diff.nanos().saturating_abs() <= dust(line).nanos() {
        return Verdict { diff: Usd::ZERO, told_until: cycle };
    }
    if cycle > last_seen {
        return Verdict { diff, told_until: cycle };
    }
    if total < old {
        return Verdict { diff: total.saturating_sub(old), told_until: line.from };
    }
    let (low, high) = (total, charged_if_at(last_seen));
    let diff = charged.clamp(low, high.max(low)).saturating_sub(charged);
    Verdict { diff, told_until: last_seen }
}

/// Times come in whole seconds and money in micro-dollars: less than this tells nothing.
fn dust(line: &Line) -> Usd {
    line.rate.per_hour_for(Duration::from_secs(1)).saturating_add(Usd::from_nanos(2_000))
}

fn permille(part: Usd, whole: Usd) -> i32 {
    if whole.nanos() <= 0 {
        return 0;
    }
    let ratio = i128::from(part.nanos()) * 1_000 / i128::from(whole.nanos());
    i32::try_from(ratio).unwrap_or(if ratio < 0 { i32::MIN } else { i32::MAX })
}

fn millis(stretch: Stretch) -> i128 {
    i128::try_from(stretch.until.since(stretch.from).as_millis()).unwrap_or(i128::MAX)
}

fn overlap(a: Stretch, b: Stretch) -> i128 {
    millis(Stretch { from: a.from.max(b.from), until: a.until.min(b.until) })
}

/// `amount × part / whole`, rounded down.
fn share(amount: Usd, part: i128, whole: i128) -> Usd {
    nanos(i128::from(amount.nanos()).saturating_mul(part).checked_div_euclid(whole).unwrap_or(0))
}

fn nanos(amount: i128) -> Usd {
    Usd::from_nanos(i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests;
