//! Holds what left the balance against what the account's own costs say should have left it.
//!
//! It must never cry over one billing step: the two are polled at different times, and a difference counts only where both
//! are known to have been true at one time, and only after it has lasted.

use std::time::Duration;

use crate::model::{Finding, Purse, Time, TrackedTeam, Usd};

/// A difference has to last so long: the API may post a cost later than its debit, and the hourly inventory finds what lived
/// and died between two polls.
const DOUBT: Duration = Duration::from_secs(3 * 3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// What is less than a cent is nobody's dollar.
const DUST: Usd = Usd::from_cents(1);

/// What this process remembers of one team between two polls.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The last balance read, and when.
    balance: Option<(Usd, Time)>,
    /// A whole list of deployments: its time, what should have left the balance by then, and the balance last read before.
    list: Option<(Time, Usd, Usd)>,
    listed: Option<Time>,
    settled: Option<Time>,
    /// The balance rose, or might have while nobody looked, since they were last held against each other.
    rose: bool,
    /// What should have left the balance when it was last read.
    pub told_at_balance: Usd,
}

/// What a team's account says at one step.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// What should have left the balance so far, in the API's steps.
    pub due: Usd,
    /// The last whole list of deployments; `None` while the team's own is not readable.
    pub listed: Option<Time>,
    /// One billing step of the dearest volume, whose cycle is not told; and of the dearest of all.
    pub volume_step: Usd,
    pub step: Usd,
    /// Some `totalCost` runs at another pace than its rate.
    pub drifting: bool,
}

impl Look {
    /// Nobody looked for a while: what rose meanwhile may have fallen again.
    pub fn blinked(&mut self) {
        self.rose = true;
        self.list = None;
    }

    /// One step. Gives a finding where both were seen to agree on a time, or have not for long.
    pub fn step(&mut self, team: &TrackedTeam, told: Told, purse: &mut Purse, now: Time) -> Option<Finding> {
        purse.named.retain(|(at, _)| now.since(*at) < DAY);
        let (Some(balance), Some(read), None) = (team.balance, team.balance_at, team.unknown_since) else {
            return None;
        };
        purse.since.get_or_insert(read);
        let before = self.balance;
        if before.is_none_or(|(_, at)| read > at) {
            self.rose |= before.is_none_or(|(before, _)| balance > before);
            self.balance = Some((balance, read));
            self.told_at_balance = told.due;
        }
        let mut finding = self.compare(balance, read, told, purse, now);
        if let Some(listed) = told.listed
            && self.listed.is_none_or(|last| listed > last)
        {
            self.listed = Some(listed);
            let then = if read <= listed { Some(balance) } else { before.map(|(before, _)| before) };
            self.list = then.map(|then| (listed, told.due, then));
            finding = self.compare(balance, read, told, purse, now).or(finding);
        }
        finding
    }

    fn compare(
        &mut self,
        balance: Usd,
        read: Time,
        told: Told,
        purse: &mut Purse,
        now: Time,
    ) -> Option<Finding> {
        let (listed, due, then) = self.list?;
        let slack = DUST.saturating_add(told.volume_step);
        if read > listed && then == balance {
            self.list = None;
            self.settled = Some(now);
            return Some(self.settle(balance, due, slack, purse, told.drifting, now));
        }
        // So busy that the balance differs at every poll: then only what exceeds a billing step tells.
        let settled = *self.settled.get_or_insert(now);
        if read > listed && now.since(settled) >= DOUBT {
            self.list = None;
            let slack = slack.saturating_add(told.step).saturating_add(told.step);
            return Some(self.settle(balance, told.due, slack, purse, told.drifting, now));
        }
        None
    }

    fn settle(
        &mut self,
        balance: Usd,
        due: Usd,
        slack: Usd,
        purse: &mut Purse,
        drifting: bool,
        now: Time,
    ) -> Finding {
        let rose = std::mem::take(&mut self.rose);
        let Some(paid) = purse.paid else {
            purse.paid = Some(balance.saturating_add(due));
            return Finding::Matched;
        };
        let mut residual = paid.saturating_sub(balance).saturating_sub(due);
        // What was in doubt may just have been explained: that is no payment.
        let doubted = purse.doubt.map_or(Usd::ZERO, |(_, least)| least.max(Usd::ZERO));
        let came = purse.residual.saturating_sub(doubted).saturating_sub(residual);
        if rose && came > slack {
            let amount = whole(came, slack);
            purse.topups = purse.topups.saturating_add(amount);
            purse.paid = Some(paid.saturating_add(amount));
            purse.residual = residual.saturating_add(amount);
            return Finding::TopUp(amount);
        }
        if within(residual, slack) {
            purse.doubt = None;
            if !within(purse.residual, slack) {
                purse.residual = residual;
            }
            return if drifting { Finding::RateChanged } else { Finding::Matched };
        }
        let (since, least) = match purse.doubt {
            Some((since, least)) if (least > Usd::ZERO) == (residual > Usd::ZERO) => {
                (since, if residual > Usd::ZERO { least.min(residual) } else { least.max(residual) })
            }
            Some(_) | None => (now, residual),
        };
        if now.since(since) < DOUBT {
            purse.doubt = Some((since, least));
            purse.residual = residual;
            return Finding::Doubtful(least);
        }
        purse.doubt = None;
        purse.named.push((now, least));
        purse.paid = Some(paid.saturating_sub(least));
        residual = residual.saturating_sub(least);
        purse.residual = residual;
        if least > Usd::ZERO {
            purse.unexplained = purse.unexplained.saturating_add(least);
            Finding::Unexplained(least)
        } else {
            Finding::MissingCharge(Usd::ZERO.saturating_sub(least))
        }
    }
}

/// Unexplained in the last 24 h; `None` before balance and costs were ever held against each other.
pub fn unexplained_day(purse: &Purse, now: Time) -> Option<Usd> {
    purse.paid?;
    Some(purse.named.iter().filter(|(at, _)| now.since(*at) < DAY).map(|(_, amount)| *amount).sum())
}

fn within(amount: Usd, slack: Usd) -> bool {
    amount.nanos().saturating_abs() <= slack.nanos()
}

/// People pay whole dollars, or whole cents.
fn whole(amount: Usd, slack: Usd) -> Usd {
    let near = |unit: Usd| {
        let units = amount.nanos().saturating_add(unit.nanos() / 2).div_euclid(unit.nanos());
        Usd::from_nanos(units.saturating_mul(unit.nanos()))
    };
    let dollars = near(Usd::from_cents(100));
    if within(amount.saturating_sub(dollars), slack) { dollars } else { near(Usd::from_cents(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TeamId;

    const T0: Time = Time::from_secs(1_800_000_000);

    /// A team that is polled every minute: first its balance, then its list.
    struct Rig {
        look: Look,
        purse: Purse,
        minute: u64,
        balance: i64,
        due: i64,
    }

    impl Rig {
        fn new() -> Self {
            let mut rig =
                Self { look: Look::default(), purse: Purse::default(), minute: 0, balance: 10_000, due: 0 };
            rig.pass(3);
            rig
        }

        fn pass(&mut self, minutes: u64) -> Vec<Finding> {
            let found = (0..minutes).filter_map(|_| {
                self.minute += 1;
                self.poll(self.minute)
            });
            found.collect::<Vec<_>>()
        }

        fn poll(&mut self, minute: u64) -> Option<Finding> {
            let now = T0.plus(Duration::from_secs(60 * minute));
            let team = TrackedTeam {
                id: TeamId::new("t"),
                name: "t".into(),
                role: "".into(),
                balance: Some(Usd::from_cents(self.balance)),
                balance_at: Some(now),
                previous: None,
                unknown_since: None,
                denied: None,
            };
            let told = Told {
                due: Usd::from_cents(self.due),
                listed: Some(now),
                volume_step: Usd::ZERO,
                step: Usd::from_cents(100),
                drifting: false,
            };
            self.look.step(&team, told, &mut self.purse, now)
        }

        fn named(found: &[Finding]) -> Vec<Finding> {
            let quiet = |f: &&Finding| !matches!(f, Finding::Matched | Finding::Doubtful(_));
            found.iter().filter(quiet).copied().collect()
        }
    }

    #[test]
    fn what_is_told_and_debited_matches_whichever_comes_first() {
        let mut rig = Rig::new();
        for (debit_first, minutes) in [(true, 10), (false, 10), (true, 50)] {
            if debit_first {
                rig.balance -= 300
            } else {
                rig.due += 300
            }
            rig.pass(2);
            if debit_first {
                rig.due += 300
            } else {
                rig.balance -= 300
            }
            assert_eq!(Rig::named(&rig.pass(minutes)), []);
        }
        assert_eq!((rig.purse.residual, rig.purse.doubt), (Usd::ZERO, None));
    }

    #[test]
    fn a_drop_that_nothing_explains_is_named_once_after_three_hours() {
        let mut rig = Rig::new();
        rig.balance -= 500;
        assert_eq!(Rig::named(&rig.pass(175)), []);
        assert_eq!(Rig::named(&rig.pass(30)), [Finding::Unexplained(Usd::from_cents(500))]);
        assert_eq!(rig.purse.unexplained, Usd::from_cents(500));
        let now = T0.plus(Duration::from_secs(60 * rig.minute));
        assert_eq!(unexplained_day(&rig.purse, now), Some(Usd::from_cents(500)));
        assert_eq!(Rig::named(&rig.pass(24 * 60)), []);
        assert_eq!(unexplained_day(&rig.purse, now.plus(DAY)), Some(Usd::ZERO));
    }

    #[test]
    fn a_cost_that_is_never_debited_is_a_missing_charge() {
        let mut rig = Rig::new();
        rig.due += 240;
        assert_eq!(Rig::named(&rig.pass(200)), [Finding::MissingCharge(Usd::from_cents(240))]);
        assert_eq!(rig.purse.unexplained, Usd::ZERO, "the counter never counts down");
    }

    #[test]
    fn a_top_up_is_its_whole_amount_though_a_deduction_falls_into_the_same_minute() {
        let mut rig = Rig::new();
        rig.balance += 5_000 - 137;
        rig.due += 137;
        assert_eq!(Rig::named(&rig.pass(5)), [Finding::TopUp(Usd::from_cents(5_000))]);
        assert_eq!(rig.purse.topups, Usd::from_cents(5_000));
        assert_eq!(Rig::named(&rig.pass(400)), []);
    }

    #[test]
    fn a_refund_of_a_cost_that_fell_is_neither_a_top_up_nor_unexplained() {
        let mut rig = Rig::new();
        rig.balance += 500;
        rig.due -= 500;
        assert_eq!(Rig::named(&rig.pass(400)), []);
        assert_eq!(rig.purse.topups, Usd::ZERO);
    }

    #[test]
    fn a_top_up_while_nobody_looked_is_one_though_the_balance_fell() {
        let mut rig = Rig::new();
        rig.balance += 2_000 - 3_000;
        rig.due += 3_000;
        rig.minute += 600;
        rig.look = Look::default();
        assert_eq!(Rig::named(&rig.pass(5)), [Finding::TopUp(Usd::from_cents(2_000))]);
    }

    #[test]
    fn what_explains_a_doubt_after_a_restart_is_no_top_up_and_a_top_up_meanwhile_is_one() {
        for paid in [0, 2_000] {
            let mut rig = Rig::new();
            rig.balance -= 300;
            assert_eq!(Rig::named(&rig.pass(10)), []);
            rig.look = Look::default();
            rig.due += 300;
            rig.balance += paid;
            let expected = if paid > 0 { vec![Finding::TopUp(Usd::from_cents(paid))] } else { Vec::new() };
            assert_eq!(Rig::named(&rig.pass(400)), expected);
            assert_eq!(rig.purse.unexplained, Usd::ZERO);
        }
    }

    #[test]
    fn a_debit_is_named_even_where_the_balance_never_rests() {
        let mut rig = Rig::new();
        let mut found = Vec::new();
        for minute in 0..600 {
            rig.balance -= if minute == 30 { 1_007 } else { 7 };
            rig.due += 7;
            found.extend(rig.pass(1));
        }
        let [Finding::Unexplained(amount)] = Rig::named(&found)[..] else { panic!("{found:?}") };
        assert!(amount >= Usd::from_cents(990), "{amount}");
    }
}
