//! The account's books: purses (one per team) that meters (one per deployment or volume) draw on, in deduction cycles.
//!
//! It must never lose a nano-dollar: what was paid in, less what every meter was charged, is the balance, at any time. What is
//! charged depends only on rates and times, never on how often anybody looked.

use std::{collections::BTreeSet, time::Duration};

use crate::model::{Time, Usd};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeterId(usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PurseId(usize);

/// Use is counted in nano-dollars per hour times milliseconds, exactly.
const HOUR_MS: i128 = 3_600_000;
/// Charges are whole micro-dollars: the API's floats carry up to six decimals.
const CHARGE_NANOS: i128 = 1_000;

#[derive(Debug, Clone)]
struct Meter {
    purse: PurseId,
    rate: Usd,
    /// `used` counts up to here.
    since: Time,
    used: i128,
    charged: Usd,
    charged_at: Option<Time>,
    refunds: Vec<(Time, Usd)>,
    /// Every rate with its beginning; zero while closed.
    rates: Vec<(Time, Usd)>,
}

#[derive(Debug, Clone)]
struct Purse {
    paid_in: Vec<(Time, Usd)>,
    balance: Usd,
    /// Every balance with its beginning.
    balances: Vec<(Time, Usd)>,
    open: BTreeSet<MeterId>,
}

#[derive(Debug, Clone)]
pub struct Ledger {
    meters: Vec<Meter>,
    purses: Vec<Purse>,
    /// Keep every balance ever shown; a fleet of thousands does without.
    pub remembers: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { meters: Vec::new(), purses: Vec::new(), remembers: true }
    }
}

impl Ledger {
    pub fn open_purse(&mut self, initial: Usd, at: Time) -> PurseId {
        let purse = Purse {
            paid_in: vec![(at, initial)],
            balance: initial,
            balances: vec![(at, initial)],
            open: BTreeSet::new(),
        };
        self.purses.push(purse);
        PurseId(self.purses.len() - 1)
    }

    pub fn pay_in(&mut self, purse: PurseId, amount: Usd, at: Time) {
        if let Some(p) = self.purses.get_mut(purse.0) {
            p.paid_in.push((at, amount));
        }
        self.draw(purse, Usd::ZERO.saturating_sub(amount), at);
    }

    pub fn open(&mut self, purse: PurseId, rate: Usd, at: Time) -> MeterId {
        let id = MeterId(self.meters.len());
        self.meters.push(Meter {
            purse,
            rate,
            since: at,
            used: 0,
            charged: Usd::ZERO,
            charged_at: None,
            refunds: Vec::new(),
            rates: vec![(at, rate)],
        });
        if let Some(p) = self.purses.get_mut(purse.0) {
            p.open.insert(id);
        }
        id
    }

    pub fn set_rate(&mut self, meter: MeterId, rate: Usd, at: Time) {
        if let Some(m) = self.meters.get_mut(meter.0) {
            m.used = m.used_at(at);
            m.since = at;
            m.rate = rate;
            m.rates.push((at, rate));
        }
    }

    /// Charges what was used since the last time.
    pub fn charge(&mut self, meter: MeterId, at: Time) {
        let Some(m) = self.meters.get_mut(meter.0) else { return };
        let due = nanos(m.used_at(at) / HOUR_MS / CHARGE_NANOS * CHARGE_NANOS);
        let amount = due.saturating_sub(m.charged);
        m.charged = due;
        m.charged_at = Some(at);
        let purse = m.purse;
        self.draw(purse, amount, at);
    }

    /// Charges the remainder; from here on nothing is used.
    pub fn close(&mut self, meter: MeterId, at: Time) {
        self.charge(meter, at);
        self.set_rate(meter, Usd::ZERO, at);
        if let Some(m) = self.meters.get(meter.0)
            && let Some(p) = self.purses.get_mut(m.purse.0)
        {
            p.open.remove(&meter);
        }
    }

    pub fn reopen(&mut self, meter: MeterId, rate: Usd, at: Time) {
        self.set_rate(meter, rate, at);
        if let Some(m) = self.meters.get(meter.0)
            && let Some(p) = self.purses.get_mut(m.purse.0)
        {
            p.open.insert(meter);
        }
    }

    /// Gives back a part of what was charged; from here on it counts as never used.
    pub fn refund(&mut self, meter: MeterId, amount: Usd, at: Time) {
        let Some(m) = self.meters.get_mut(meter.0) else { return };
        let amount = amount.min(m.charged);
        m.used = m.used_at(at) - i128::from(amount.nanos()) * HOUR_MS;
        m.since = at;
        m.charged = m.charged.saturating_sub(amount);
        m.refunds.push((at, amount));
        let purse = m.purse;
        self.draw(purse, Usd::ZERO.saturating_sub(amount), at);
    }

    /// Closes everything of an exhausted purse. The dust that rounding left goes to the last charge, so that the balance is 0.
    pub fn exhaust(&mut self, purse: PurseId, at: Time) {
        let open: Vec<MeterId> =
            self.purse(purse).map(|p| p.open.iter().copied().collect()).unwrap_or_default();
        for meter in &open {
            self.close(*meter, at);
        }
        let rest = self.balance(purse);
        if let Some(m) = open.last().and_then(|last| self.meters.get_mut(last.0)) {
            m.charged = m.charged.saturating_add(rest);
            self.draw(purse, rest, at);
        }
    }

    /// The last millisecond at which everything used so far can still be paid, if nothing changes.
    pub fn empties_at(&self, purse: PurseId, now: Time) -> Option<Time> {
        let burn = i128::from(self.burn(purse).nanos());
        if burn <= 0 {
            return None;
        }
        let left_ms = self.left(purse, now).max(0) / burn;
        Some(now.plus(Duration::from_millis(u64::try_from(left_ms).unwrap_or(u64::MAX))))
    }

    /// As the API shows it: stepped by charges.
    pub fn balance(&self, purse: PurseId) -> Usd {
        self.purse(purse).map_or(Usd::ZERO, |p| p.balance)
    }

    pub fn balances(&self, purse: PurseId) -> &[(Time, Usd)] {
        self.purse(purse).map_or(&[], |p| &p.balances)
    }

    pub fn paid_in(&self, purse: PurseId) -> &[(Time, Usd)] {
        self.purse(purse).map_or(&[], |p| &p.paid_in)
    }

    /// The balance less what was used and not charged yet.
    pub fn accrued_balance(&self, purse: PurseId, now: Time) -> Usd {
        nanos(self.left(purse, now) / HOUR_MS)
    }

    /// What was left at any time, from rates and payments alone.
    pub fn accrued_balance_at(&self, purse: PurseId, at: Time) -> Usd {
        let paid: Usd = self.paid_in(purse).iter().filter(|(t, _)| *t <= at).map(|(_, usd)| *usd).sum();
        let used: Usd = (0..self.meters.len())
            .map(MeterId)
            .filter(|id| self.meter(*id).is_some_and(|m| m.purse == purse))
            .map(|id| self.used_at(id, at))
            .sum();
        paid.saturating_sub(used)
    }

    /// Σ rates of what is open, per hour.
    pub fn burn(&self, purse: PurseId) -> Usd {
        self.purse(purse)
            .map_or(Usd::ZERO, |p| p.open.iter().filter_map(|id| self.meter(*id)).map(|m| m.rate).sum())
    }

    /// Every rate of a meter with its beginning; zero while it is closed.
    pub fn rates(&self, meter: MeterId) -> &[(Time, Usd)] {
        self.meter(meter).map_or(&[], |m| &m.rates)
    }

    /// Every burn that there ever was, with its beginning.
    pub fn burns(&self, purse: PurseId) -> Vec<(Time, Usd)> {
        let mut steps: Vec<(Time, Usd, Usd)> = Vec::new();
        for meter in self.meters.iter().filter(|m| m.purse == purse) {
            let before = std::iter::once(Usd::ZERO).chain(meter.rates.iter().map(|(_, rate)| *rate));
            steps.extend(meter.rates.iter().zip(before).map(|((at, rate), before)| (*at, before, *rate)));
        }
        steps.sort_unstable();
        let mut burns: Vec<(Time, Usd)> = Vec::new();
        let mut burn = Usd::ZERO;
        for (at, before, after) in steps {
            burn = burn.saturating_sub(before).saturating_add(after);
            match burns.last_mut() {
                Some(last) if last.0 == at => last.1 = burn,
                Some(_) | None => burns.push((at, burn)),
            }
        }
        burns
    }

    pub fn charged(&self, meter: MeterId) -> Usd {
        self.meter(meter).map_or(Usd::ZERO, |m| m.charged)
    }

    pub fn charged_at(&self, meter: MeterId) -> Option<Time> {
        self.meter(meter).and_then(|m| m.charged_at)
    }

    /// Σ of all that meters charged to this purse.
    pub fn charged_to(&self, purse: PurseId) -> Usd {
        self.meters.iter().filter(|m| m.purse == purse).map(|m| m.charged).sum()
    }

    /// What was used up to any time, charged or not.
    pub fn used_at(&self, meter: MeterId, at: Time) -> Usd {
        let Some(m) = self.meter(meter) else { return Usd::ZERO };
        let ends = m.rates.iter().skip(1).map(|(t, _)| *t).chain([at]);
        let used: i128 =
            m.rates.iter().zip(ends).map(|((from, rate), until)| use_of(*rate, *from, until.min(at))).sum();
        let refunded: Usd = m.refunds.iter().filter(|(t, _)| *t <= at).map(|(_, amount)| *amount).sum();
        nanos(used / HOUR_MS).saturating_sub(refunded)
    }

    pub fn is_open(&self, meter: MeterId) -> bool {
        self.meter(meter).and_then(|m| self.purse(m.purse)).is_some_and(|p| p.open.contains(&meter))
    }

    fn left(&self, purse: PurseId, now: Time) -> i128 {
        let Some(p) = self.purse(purse) else { return 0 };
        let pending: i128 = p
            .open
            .iter()
            .filter_map(|id| self.meter(*id))
            .map(|m| m.used_at(now) - i128::from(m.charged.nanos()) * HOUR_MS)
            .sum();
        i128::from(p.balance.nanos()) * HOUR_MS - pending
    }

    fn draw(&mut self, purse: PurseId, amount: Usd, at: Time) {
        let Some(p) = self.purses.get_mut(purse.0) else { return };
        if amount == Usd::ZERO {
            return;
        }
        p.balance = p.balance.saturating_sub(amount);
        if self.remembers {
            p.balances.push((at, p.balance));
        }
    }

    fn meter(&self, id: MeterId) -> Option<&Meter> {
        self.meters.get(id.0)
    }

    fn purse(&self, id: PurseId) -> Option<&Purse> {
        self.purses.get(id.0)
    }
}

impl Meter {
    fn used_at(&self, at: Time) -> i128 {
        self.used + use_of(self.rate, self.since, at)
    }
}

fn use_of(rate: Usd, from: Time, until: Time) -> i128 {
    let length_ms = i128::try_from(until.since(from).as_millis()).unwrap_or(0);
    i128::from(rate.nanos()) * length_ms
}

fn nanos(amount: i128) -> Usd {
    Usd::from_nanos(i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time::from_secs(secs)
    }

    #[test]
    fn a_charge_is_the_use_so_far_however_often_it_was_charged() {
        let mut books = Ledger::default();
        let purse = books.open_purse(Usd::from_cents(10_000), at(0));
        let (often, once) =
            (books.open(purse, Usd::from_cents(37), at(0)), books.open(purse, Usd::from_cents(37), at(0)));
        for second in 1..=1_000 {
            books.charge(often, at(second));
        }
        books.charge(once, at(1_000));
        assert_eq!(books.charged(often), books.charged(once), "rounding never adds up");
        assert_eq!(books.charged(once), Usd::from_nanos(102_777_000), "0.37 $/h for 1,000 s");
    }

    #[test]
    fn an_exhausted_purse_is_exactly_empty_and_its_last_charge_took_the_dust() {
        let mut books = Ledger::default();
        let purse = books.open_purse(Usd::from_cents(100), at(0));
        for cents in [37, 111, 3] {
            books.open(purse, Usd::from_cents(cents), at(0));
        }
        let end = books.empties_at(purse, at(0)).unwrap();
        assert_eq!(end.secs(), 2_384, "1 $ at 1.51 $/h");
        books.exhaust(purse, end);
        assert_eq!(books.balance(purse), Usd::ZERO);
        assert_eq!(books.charged_to(purse), Usd::from_cents(100));
        assert_eq!(books.empties_at(purse, end), None, "nothing is open any more");
    }

    #[test]
    fn a_top_up_moves_the_end_and_a_closed_meter_no_longer_uses() {
        let mut books = Ledger::default();
        let purse = books.open_purse(Usd::from_cents(100), at(0));
        let meter = books.open(purse, Usd::from_cents(100), at(0));
        books.pay_in(purse, Usd::from_cents(100), at(1_800));
        assert_eq!(books.empties_at(purse, at(1_800)), Some(at(7_200)));
        books.close(meter, at(3_600));
        assert_eq!(books.used_at(meter, at(9_000)), Usd::from_cents(100));
        assert_eq!(books.accrued_balance(purse, at(9_000)), Usd::from_cents(100));
        assert_eq!(
            books.accrued_balance_at(purse, at(1_799)),
            books.balance(purse).saturating_sub(Usd::from_nanos(499_722_222))
        );
    }
}
