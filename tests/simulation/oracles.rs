//! What must hold of any watcher's life, each as a function from the evidence to findings; none is good.
//!
//! It must never know what was planted, nor take the watcher's word for what is true: the account and the network say that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use spheron_watch::{
    drive::simulate::Sent,
    model::{AlertKey, Feed, Notice, RuleKind, Scope, Status, Subject, TeamId, Time, Transition, Usd},
    sim::{Endpoint, Fault, Life},
};

use crate::{
    resources,
    run::{DAY, Evidence, HOUR, MINUTE},
    spending,
    truth::{between, is_odd, is_spot, long_spans, meets, spans, taken_at},
};

pub use spheron_watch::drive::simulate::Asked;

pub type Oracle = fn(&Evidence) -> Vec<String>;

pub const LOW_BALANCE: &str = "every low balance is told";
pub const UNKNOWN_BALANCE: &str = "every missing balance is told";
pub const PROVIDER_END: &str = "every end by the provider is told once";
pub const ODD_STATUS: &str = "every odd status is told";
pub const LONG_RUN: &str = "every long run is told";
pub const SHRUNK_FLEET: &str = "every fleet that ends at once is told";
pub const BLINDNESS: &str = "every blindness is told";
pub const REJECTED_KEY: &str = "every rejected key is told";
pub const FAILURE: &str = "every failure is told once";
pub const STUCK: &str = "every stuck deployment is told";
pub const ARRIVALS: &str = "every new deployment is told once";
pub const RATE: &str = "every change of a rate is told";
pub const UNATTACHED: &str = "every unattached volume is told";
pub const FULL: &str = "every full volume is told";
pub const RUNWAY: &str = "every short runway is told";
pub const BURN: &str = "every high burn is told";
pub const BUDGET: &str = "every spent budget is told";
pub const TOP_UP: &str = "every top-up is told";
pub const UNTRUE: &str = "nothing untrue is told";
pub const ORDER: &str = "firing comes before resolved";
pub const TWICE: &str = "nothing comes twice";
pub const ARRIVAL: &str = "all that was decided arrives at everybody in time";
pub const CHANGES: &str = "nothing but GET is asked";
pub const CALLS: &str = "calls stay within budget";
pub const STORE: &str = "the store knows what the process knows";

pub const ALL: [(&str, Oracle); 25] = [
    (LOW_BALANCE, every_low_balance_is_told),
    (UNKNOWN_BALANCE, every_missing_balance_is_told),
    (PROVIDER_END, every_end_by_the_provider_is_told_once),
    (ODD_STATUS, every_odd_status_is_told),
    (LONG_RUN, every_long_run_is_told),
    (SHRUNK_FLEET, every_fleet_that_ends_at_once_is_told),
    (BLINDNESS, every_blindness_is_told),
    (REJECTED_KEY, every_rejected_key_is_told),
    (FAILURE, every_failure_is_told_once),
    (STUCK, resources::every_stuck_deployment_is_told),
    (ARRIVALS, resources::every_new_deployment_is_told_once),
    (RATE, resources::every_change_of_rate_is_told),
    (UNATTACHED, resources::every_unattached_volume_is_told),
    (FULL, resources::every_full_volume_is_told),
    (RUNWAY, spending::every_short_runway_is_told),
    (BURN, spending::every_high_burn_is_told),
    (BUDGET, spending::every_spent_budget_is_told),
    (TOP_UP, spending::every_top_up_is_told),
    (UNTRUE, nothing_untrue_is_told),
    (ORDER, firing_comes_before_resolved),
    (TWICE, nothing_comes_twice),
    (ARRIVAL, everything_arrives),
    (CHANGES, nothing_is_changed),
    (CALLS, calls_stay_within_budget),
    (STORE, the_store_knows_it_all),
];

/// One call may take 20 s, and a second one after it.
pub const ONE_POLL: Duration = Duration::from_secs(60);
/// How soon after a poll its decision is there.
pub const AT_ONCE: Duration = Duration::from_secs(1);

fn thresholds(evidence: &Evidence) -> (Usd, Usd) {
    let of = |kind: &RuleKind| {
        if let RuleKind::Balance { below, clear_above } = kind { Some((*below, *clear_above)) } else { None }
    };
    evidence.rules.iter().find_map(|rule| of(&rule.kind)).expect("a default rule")
}

fn long(evidence: &Evidence) -> Duration {
    let of = |kind: &RuleKind| {
        if let RuleKind::RunningLong { longer_than } = kind { Some(*longer_than) } else { None }
    };
    evidence.rules.iter().find_map(|rule| of(&rule.kind)).expect("a default rule")
}

fn receivers(evidence: &Evidence) -> BTreeSet<&str> {
    evidence.rules.iter().flat_map(|rule| &rule.receivers).map(|route| &*route.receiver).collect()
}

/// Each decision once, in the order of its making.
pub fn decided(evidence: &Evidence) -> Vec<&Notice> {
    let mut decided: Vec<&Notice> = evidence.sent.iter().map(|sent| &sent.notice).collect();
    decided.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    decided.dedup_by(|a, b| a.id == b.id);
    decided
}

/// When each alert fired, as one receiver heard it.
struct Told<'a>(BTreeMap<&'a AlertKey, Vec<(Time, Transition)>>);

impl<'a> Told<'a> {
    fn to(evidence: &'a Evidence, receiver: &str) -> Self {
        let mut told: BTreeMap<&AlertKey, Vec<(Time, Transition)>> = BTreeMap::new();
        for Sent { notice, .. } in evidence.sent.iter().filter(|sent| &*sent.receiver == receiver) {
            told.entry(&notice.key).or_default().push((notice.at, notice.transition));
        }
        Self(told)
    }

    fn fires_at(&self, rule: &str, subject: &Subject, at: Time) -> bool {
        let key = AlertKey { rule: rule.into(), subject: subject.clone() };
        let heard = self.0.get(&key).into_iter().flatten();
        let last = heard.filter(|(t, _)| *t <= at).max_by_key(|(t, _)| *t);
        last.is_some_and(|(_, transition)| matches!(transition, Transition::Firing | Transition::Reminder))
    }
}

/// Asks of every receiver whether it was told by then that this fires.
pub fn expect_firing(evidence: &Evidence, expected: &[(&str, Subject, Time)]) -> Vec<String> {
    let mut lost = Vec::new();
    for receiver in receivers(evidence) {
        let told = Told::to(evidence, receiver);
        for (rule, subject, at) in expected {
            if !told.fires_at(rule, subject, *at) {
                lost.push(format!("{receiver} was not told by {at} that {rule} fires for {subject}"));
            }
        }
    }
    lost
}

/// The first honest poll that lies wholly in each span.
pub fn first_within<'e>(polls: &[&'e Asked], spans: &[(Time, Time)]) -> Vec<&'e Asked> {
    let first = |(from, until): &(Time, Time)| {
        let after = polls.partition_point(|poll| poll.from < *from);
        polls.get(after).copied().filter(|poll| poll.until < *until)
    };
    spans.iter().filter_map(first).collect()
}

pub fn every_low_balance_is_told(evidence: &Evidence) -> Vec<String> {
    let (below, _) = thresholds(evidence);
    let mut expected = Vec::new();
    for team in evidence.truth.balances.keys() {
        let polls: Vec<&Asked> = evidence
            .honest(Feed::Balance)
            .filter(|poll| !evidence.truth.hid(team, poll.from, poll.until))
            .collect();
        for poll in first_within(&polls, &evidence.truth.low_spans(team, below)) {
            expected.push(("low-balance", Subject::Team { id: team.clone() }, poll.until.plus(AT_ONCE)));
        }
    }
    expect_firing(evidence, &expected)
}

pub fn every_missing_balance_is_told(evidence: &Evidence) -> Vec<String> {
    let truth = &evidence.truth;
    let polls: Vec<&Asked> = evidence.honest(Feed::Balance).collect();
    let told = |poll: &Asked| {
        let subject = Subject::Team { id: truth.hidden_team.clone() };
        ("balance-unknown", subject, poll.until.plus(AT_ONCE))
    };
    let expected: Vec<_> = first_within(&polls, &truth.hidden).into_iter().map(told).collect();
    expect_firing(evidence, &expected)
}

/// Lists that were read whole and showed everything of a team.
pub fn whole_lists<'e>(evidence: &'e Evidence, team: &TeamId) -> Vec<&'e Asked> {
    evidence
        .honest(Feed::Deployments)
        .filter(|asked| {
            asked.scopes.iter().any(|scope| match scope {
                Scope::Unscoped => true,
                Scope::Team(id) => id == team,
                Scope::One(_) => false,
            })
        })
        .filter(|asked| !evidence.truth.hid(team, asked.from, asked.until))
        .collect()
}

/// Polls that tell a deployment's status whatever it is: its own GET, and lists without a filter.
pub fn tells_status<'e>(evidence: &'e Evidence, life: &Life) -> Vec<&'e Asked> {
    let asks = |asked: &&Asked| {
        let own = asked.scopes.contains(&Scope::One(life.id.clone()));
        asked.honest && (asked.feed == Feed::Detail && own || asked.feed == Feed::Inventory)
    };
    let hid = |asked: &&Asked| evidence.truth.hid(&life.team, asked.from, asked.until);
    evidence.asked.iter().filter(asks).filter(|asked| !hid(asked)).collect()
}

/// Until its id is used again, it is there to be seen.
pub fn replaced_at(evidence: &Evidence, life: &Life) -> Time {
    let later = evidence.truth.lives.values().filter(|other| other.id == life.id);
    let births = later.map(|other| other.statuses[0].0).filter(|birth| *birth > life.statuses[0].0);
    births.min().unwrap_or(Time::from_millis(i64::MAX))
}

pub fn every_end_by_the_provider_is_told_once(evidence: &Evidence) -> Vec<String> {
    let rule = |life: &Life| if is_spot(life) { "spot-interrupted" } else { "provider-stopped" };
    told_once(evidence, |life| Some((rule(life), taken_at(life)?)), calm_notice)
}

pub fn every_failure_is_told_once(evidence: &Evidence) -> Vec<String> {
    told_once(evidence, |life| Some(("failed", resources::failed_at(life)?)), |_, _, _| None)
}

/// What happens once in a life, by the first poll that can tell of it, or by when it is `promised`.
fn told_once(
    evidence: &Evidence,
    event: impl Fn(&Life) -> Option<(&'static str, Time)>,
    promised: impl Fn(&Evidence, &Life, Time) -> Option<Time>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let decided = decided(evidence);
    for (subject, life) in &evidence.truth.lives {
        let Some((rule, happened)) = event(life) else { continue };
        let told: Vec<&&Notice> = decided
            .iter()
            .filter(|n| {
                n.key.subject == *subject && &*n.key.rule == rule && n.transition == Transition::Event
            })
            .collect();
        if told.len() > 1 {
            wrong.push(format!("{rule} of {subject} was told {} times", told.len()));
        }
        let replaced = replaced_at(evidence, life);
        // What happened more than a day before anybody could see it is the past.
        let news = replaced.min(happened.plus(DAY).minus(HOUR));
        let known = first_within(&tells_status(evidence, life), &[(happened, news)]);
        let known = known.first().map(|poll| poll.until);
        if let Some(by) = known.into_iter().chain(promised(evidence, life, happened)).min()
            && !told.iter().any(|notice| notice.at <= by.plus(AT_ONCE))
        {
            wrong.push(format!("{rule} of {subject} at {happened} was not told by {by}"));
        }
    }
    wrong
}

/// In fair weather an end is known by the second list that lacks it: its own GET follows the list at once.
fn calm_notice(evidence: &Evidence, life: &Life, taken: Time) -> Option<Time> {
    let lists = whole_lists(evidence, &life.team);
    let seen = lists.iter().rev().find(|list| list.until < taken)?;
    let ran = between(&life.statuses, seen.from, seen.until).any(|(_, status)| *status == Status::Running);
    let second = lists.iter().filter(|list| list.from >= taken).nth(1)?;
    let (from, by) = (taken.minus(MINUTE * 16), second.until.plus(MINUTE));
    let foul = evidence.weather.iter().any(|window| window.from <= by && from <= window.until)
        || meets(&evidence.truth.revoked, from.minus(MINUTE * 5), by)
        || evidence.truth.hid(&life.team, from, by)
        || !evidence.lived(from, by)
        || replaced_at(evidence, life) <= by;
    (ran && !foul && by < evidence.case.end()).then_some(by)
}

pub fn every_odd_status_is_told(evidence: &Evidence) -> Vec<String> {
    let mut expected = Vec::new();
    for (subject, life) in &evidence.truth.lives {
        let lists = whole_lists(evidence, &life.team);
        for poll in first_within(&lists, &spans(&life.statuses, |status| *status == Status::Stopped)) {
            expected.push(("provider-stopped", subject.clone(), poll.until.plus(AT_ONCE)));
        }
        // One of unknown status is in no list of what is active: the list lacks it, and then its own GET tells.
        for (from, until) in spans(&life.statuses, is_odd) {
            let Some(list) = first_within(&lists, &[(from, until)]).pop() else { continue };
            let own: Vec<&Asked> =
                tells_status(evidence, life).into_iter().filter(|asked| asked.feed == Feed::Detail).collect();
            for poll in first_within(&own, &[(list.until, until)]) {
                expected.push(("provider-stopped", subject.clone(), poll.until.plus(AT_ONCE)));
            }
        }
    }
    expect_firing(evidence, &expected)
}

pub fn every_long_run_is_told(evidence: &Evidence) -> Vec<String> {
    let mut expected = Vec::new();
    for (subject, life) in &evidence.truth.lives {
        let runs = spans(&life.statuses, |status| *status == Status::Running);
        let overlap = |(from, until): (Time, Time)| {
            let inside = runs.iter().find(|(a, b)| *a < until && from < *b)?;
            Some((from.max(inside.0), until.min(inside.1)))
        };
        let longs: Vec<_> = long_spans(life, long(evidence)).into_iter().filter_map(overlap).collect();
        for poll in first_within(&whole_lists(evidence, &life.team), &longs) {
            expected.push(("running-long", subject.clone(), poll.until.plus(AT_ONCE)));
        }
    }
    expect_firing(evidence, &expected)
}

/// Half or more, and two at least, of those that ran at one honest list and were gone at the next.
pub fn every_fleet_that_ends_at_once_is_told(evidence: &Evidence) -> Vec<String> {
    let mut expected = Vec::new();
    for team in evidence.truth.balances.keys() {
        let lists = whole_lists(evidence, team);
        let lives: Vec<&Life> = evidence.truth.lives.values().filter(|life| life.team == *team).collect();
        let changes = lives.iter().flat_map(|life| life.statuses.iter().map(|(at, _)| *at));
        let firsts: BTreeSet<usize> =
            changes.map(|at| lists.partition_point(|list| list.from < at)).collect();
        for after in firsts {
            let (Some(before), Some(list)) = (after.checked_sub(1).map(|i| lists[i]), lists.get(after))
            else {
                continue;
            };
            let runs_at = |life: &&&Life, at: Time| {
                between(&life.statuses, at, at).next().is_some_and(|(_, status)| *status == Status::Running)
            };
            let ran: Vec<_> = lives.iter().filter(|life| runs_at(life, before.until)).collect();
            let left = ran.iter().filter(|life| {
                let shown = |(at, status): &(Time, Status)| {
                    *at > list.from || matches!(status, Status::Running | Status::Stopped)
                };
                !between(&life.statuses, list.from, list.until).any(shown)
            });
            let left = left.count();
            if left >= 2 && left * 2 >= ran.len() && nothing_between(evidence, before, list) {
                expected.push(("fleet-shrunk", Subject::Team { id: team.clone() }, list.until.plus(AT_ONCE)));
            }
        }
    }
    expect_firing(evidence, &expected)
}

/// Whether two polls follow each other with no other about deployments between them, and the same watcher made both.
fn nothing_between(evidence: &Evidence, before: &Asked, after: &Asked) -> bool {
    let since = evidence.asked.iter().skip_while(|asked| *asked != before).skip(1);
    let mut others = since.take_while(|asked| *asked != after);
    evidence.lived(before.from, after.until)
        && !others.any(|asked| matches!(asked.feed, Feed::Deployments | Feed::Inventory | Feed::Detail))
}

pub fn every_blindness_is_told(evidence: &Evidence) -> Vec<String> {
    let mut expected = Vec::new();
    // The balance is never stretched; lists may be, to a quarter of an hour, of which three make blind.
    for (feed, limit) in [(Feed::Balance, MINUTE * 7), (Feed::Deployments, MINUTE * 60)] {
        let answered = evidence.asked.iter().filter(|asked| asked.feed == feed && asked.answered > 0);
        let births = evidence.gaps.iter().map(|(_, born)| *born);
        let mut heard: Vec<Time> =
            answered.flat_map(|asked| [asked.from, asked.until]).chain(births).collect();
        heard.sort();
        for pair in heard.windows(2) {
            let by = pair[0].plus(limit);
            if by < pair[1] && evidence.lived(pair[0], by) {
                expected.push(("blind", Subject::Account, by));
            }
        }
    }
    expect_firing(evidence, &expected)
}

pub fn every_rejected_key_is_told(evidence: &Evidence) -> Vec<String> {
    let refused = |(from, until): &(Time, Time)| {
        let polls = evidence.asked.iter().filter(|asked| asked.feed == Feed::Balance && asked.refused);
        polls.filter(|asked| asked.from >= *from && asked.until < *until).map(|asked| asked.until).next()
    };
    let told = |at: Time| ("key-rejected", Subject::Account, at.plus(AT_ONCE));
    let expected: Vec<_> = evidence.truth.revoked.iter().filter_map(refused).map(told).collect();
    expect_firing(evidence, &expected)
}

pub fn nothing_untrue_is_told(evidence: &Evidence) -> Vec<String> {
    let untrue = |notice: &&&Notice| !is_true(evidence, notice);
    let text = |notice: &&Notice| {
        format!("{} at {} of {}: {}", notice.transition.as_str(), notice.at, notice.key.subject, notice.title)
    };
    decided(evidence).iter().filter(untrue).map(text).collect()
}

/// Whether what a notice says was so when it was decided, or when last the API said the truth about it.
fn is_true(evidence: &Evidence, notice: &Notice) -> bool {
    let (truth, at) = (&evidence.truth, notice.at);
    let lately = at.minus(ONE_POLL);
    let over = match notice.transition {
        Transition::Firing | Transition::Event => false,
        Transition::Resolved => true,
        // It says that something is still so that was found true before.
        Transition::Reminder => return true,
        Transition::Test => return false,
    };
    match (&*notice.kind, &notice.key.subject) {
        ("balance", Subject::Team { id }) => {
            let (below, clear_above) = thresholds(evidence);
            let fits = |usd: Usd| if over { usd >= clear_above } else { usd < below };
            truth.balances.contains_key(id) && truth.balances_between(id, lately, at).any(fits)
        }
        ("balance_unknown", Subject::Team { id }) => {
            if over {
                truth.shown(id, lately, at)
            } else {
                truth.hid(id, lately, at) || marred(evidence, &[Endpoint::Balance], lately, at)
            }
        }
        ("running_long", subject @ Subject::Deployment { .. }) => {
            let Some(life) = truth.life(subject) else { return false };
            let from = last_word(evidence, life, at);
            holds(&long_spans(life, long(evidence)), from, at, over)
        }
        ("spot_interrupted", subject @ Subject::Deployment { .. }) => {
            let Some(life) = truth.life(subject) else { return false };
            notice.transition == Transition::Event
                && is_spot(life)
                && taken_at(life).is_some_and(|taken| taken <= at)
        }
        ("provider_stopped", subject @ Subject::Deployment { .. }) => {
            let Some(life) = truth.life(subject) else { return false };
            if notice.transition == Transition::Event {
                return !is_spot(life) && taken_at(life).is_some_and(|taken| taken <= at);
            }
            holds(&spans(&life.statuses, is_odd), last_word(evidence, life, at), at, over)
        }
        ("fleet_shrunk", Subject::Team { id }) => over || shrank(evidence, id, at),
        ("blind", Subject::Account) => {
            let of = |feed: Feed| {
                evidence.asked.iter().filter(move |asked| asked.feed == feed && asked.until <= at)
            };
            let vital = [Feed::Balance, Feed::Deployments];
            if over {
                vital.iter().all(|feed| of(*feed).next_back().is_some_and(|asked| asked.answered > 0))
            } else {
                let since = at.minus(MINUTE * 5);
                !vital
                    .iter()
                    .all(|feed| of(*feed).any(|asked| asked.honest && asked.from > since && asked.until < at))
            }
        }
        ("failed", _) => resources::is_true_failure(evidence, notice),
        ("stuck", subject) => resources::is_true_stuck(evidence, subject, at, over),
        ("new_deployment", _) => resources::is_true_arrival(evidence, notice),
        ("rate_changed", _) => resources::is_true_rate_change(evidence, notice),
        ("unattached_volume", Subject::Volume { id }) => {
            resources::is_true_unattached(evidence, id, at, over)
        }
        ("volume_full", Subject::Volume { id }) => resources::is_true_full(evidence, id, at, over),
        ("runway", Subject::Team { id }) => spending::is_true_runway(evidence, notice, id, over),
        ("burn_rate", Subject::Team { id }) => spending::is_true_burn(evidence, id, at, over),
        ("budget", _) => spending::is_true_budget(evidence, notice),
        ("unexplained_spend", Subject::Team { id }) => spending::is_true_unexplained(evidence, id, at, over),
        ("balance_jump", _) => spending::is_true_jump(evidence, notice),
        ("key_rejected", Subject::Account) => {
            let probing = at.minus(ONE_POLL);
            if over {
                !truth.revoked.iter().any(|(from, until)| *from <= probing && at < *until)
            } else {
                meets(&truth.revoked, probing, at)
            }
        }
        // Nothing here is measured idle, or offered for less by a rule.
        _ => false,
    }
}

/// Whether the spans held at some time between; for what is over: whether at some time they did not.
pub fn holds(spans: &[(Time, Time)], from: Time, until: Time, over: bool) -> bool {
    if over {
        !spans.iter().any(|(a, b)| *a < from && until < *b)
    } else {
        spans.iter().any(|(a, b)| *a <= until && from < *b)
    }
}

/// When the API last told the truth about a deployment, before that time.
pub fn last_word(evidence: &Evidence, life: &Life, at: Time) -> Time {
    let lists = whole_lists(evidence, &life.team);
    let lists = lists.iter().rev().find(|list| list.until <= at).map(|list| list.from);
    let own = tells_status(evidence, life);
    let own = own.iter().rev().find(|asked| asked.until <= at).map(|asked| asked.from);
    lists.max(own).unwrap_or(Time::EPOCH)
}

/// Whether the answers of an endpoint lacked something that was there.
pub fn marred(evidence: &Evidence, on: &[Endpoint], from: Time, until: Time) -> bool {
    evidence.weather.iter().any(|window| {
        window.from <= until
            && from <= window.until
            && window.on.is_none_or(|endpoint| on.contains(&endpoint))
            && matches!(
                window.what,
                Fault::EmptyList
                    | Fault::BadMoney { .. }
                    | Fault::MissingTeam { .. }
                    | Fault::MissingRecord { .. }
                    | Fault::HiddenLimit(_)
            )
    })
}

fn shrank(evidence: &Evidence, team: &TeamId, at: Time) -> bool {
    let lists = whole_lists(evidence, team);
    let before =
        lists.iter().rev().filter(|list| list.until <= at).nth(1).map_or(Time::EPOCH, |list| list.from);
    let left = |life: &&Life| {
        life.team == *team
            && life
                .statuses
                .windows(2)
                .any(|pair| pair[0].1 == Status::Running && before <= pair[1].0 && pair[1].0 <= at)
    };
    evidence.truth.lives.values().filter(left).count() >= 2
        || marred(evidence, &[Endpoint::Deployments], at.minus(MINUTE * 3), at)
        || evidence.truth.hid(team, at.minus(MINUTE * 3), at)
}

pub fn firing_comes_before_resolved(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for receiver in receivers(evidence) {
        for (key, heard) in Told::to(evidence, receiver).0 {
            let mut firing = false;
            let mut last = Time::EPOCH;
            for (at, transition) in heard {
                let fits = match transition {
                    Transition::Firing => !std::mem::replace(&mut firing, true),
                    Transition::Reminder => firing,
                    Transition::Resolved => std::mem::replace(&mut firing, false),
                    Transition::Event | Transition::Test => true,
                };
                if !fits || at < last {
                    let what = transition.as_str();
                    wrong.push(format!(
                        "{receiver} heard `{what}` of {} {} of {at} out of order",
                        key.rule, key.subject
                    ));
                }
                last = at;
            }
        }
    }
    wrong
}

pub fn nothing_comes_twice(evidence: &Evidence) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let text = |sent: &Sent| format!("{} got {} again at {}", sent.receiver, sent.notice.id, sent.at);
    evidence.sent.iter().filter(|sent| !seen.insert((&sent.receiver, &sent.notice.id))).map(text).collect()
}

/// Seven attempts take up to 3 h 15 min; a row behind another waits for it, and a dead watcher sends nothing.
const LONGEST_ARRIVAL: Duration = Duration::from_secs(4 * 3_600);

pub fn everything_arrives(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    if evidence.waiting > 0 {
        wrong.push(format!("{} notices still wait long after the last fault", evidence.waiting));
    }
    let got = |receiver: &str| -> BTreeSet<_> {
        evidence.sent.iter().filter(|sent| &*sent.receiver == receiver).map(|sent| &sent.notice.id).collect()
    };
    let all: BTreeSet<_> = evidence.sent.iter().map(|sent| &sent.notice.id).collect();
    for receiver in receivers(evidence) {
        let missing: Vec<_> = all.difference(&got(receiver)).map(ToString::to_string).collect();
        if !missing.is_empty() {
            wrong.push(format!("{receiver} never got {missing:?}"));
        }
    }
    for sent in &evidence.sent {
        let dead: Duration = evidence
            .gaps
            .iter()
            .filter(|(from, until)| *from < sent.at && sent.notice.at < *until)
            .map(|(from, until)| until.since(*from))
            .sum();
        if sent.at.since(sent.notice.at) > LONGEST_ARRIVAL + dead {
            wrong.push(format!(
                "{} of {} came to {} only at {}",
                sent.notice.id, sent.notice.at, sent.receiver, sent.at
            ));
        }
    }
    wrong
}

pub fn nothing_is_changed(evidence: &Evidence) -> Vec<String> {
    let created = (evidence.teams_created > 0).then(|| "GET /api/teams created a team".to_owned());
    evidence.mutations.iter().cloned().chain(created).collect()
}

pub fn calls_stay_within_budget(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    // Half of the 250 that the account grants.
    if evidence.busiest_15m > 125 {
        wrong.push(format!("{} calls within 15 minutes", evidence.busiest_15m));
    }
    for (target, stats) in &evidence.calls {
        // The one retry of a 500 comes up to a second later than its first attempt.
        if stats.shortest_gap.is_some_and(|gap| gap < Duration::from_secs(9)) {
            wrong
                .push(format!("{target} was asked again after {:?}", stats.shortest_gap.unwrap_or_default()));
        }
    }
    wrong
}

pub fn the_store_knows_it_all(evidence: &Evidence) -> Vec<String> {
    evidence.unlike.clone()
}
