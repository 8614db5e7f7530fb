//! A simulated quarter: outages, rate changes, top-ups, restarts, odd statuses, add-ons, refunds and hidden debits; and an
//! oracle that knows what everything really cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{collections::BTreeMap, time::Duration};

use jiff::tz::TimeZone;
use spheron_watch::{
    drive::{
        Cadence,
        simulate::{Scenario, Simulation, Tamper},
    },
    model::{
        CostBy, DeploymentId, EventId, Forecast, Grouping, Line, Notice, Period, Route, Rule, RuleKind,
        Severity, StepRecord, Subject, TeamId, Time, Transition, Usd, View,
    },
    schedule::Schedule,
    sim::{Event, Fault, Spec, VolumeSpec, Window, World},
};

const START: Time = Time::from_secs(1_790_000_000);
const DAY: u64 = 24 * 60;

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn at(minute: u64) -> Time {
    START.plus(minutes(minute))
}

fn usd(cents: i64) -> Usd {
    Usd::from_cents(cents)
}

fn rule(name: &str, kind: RuleKind) -> Rule {
    Rule {
        name: name.into(),
        kind,
        severity: Severity::Warning,
        for_: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        matcher: Default::default(),
        receivers: vec![Route { receiver: "ops".into(), send_resolved: true }],
        repeat_interval: None,
    }
}

fn rules() -> Vec<Rule> {
    vec![
        rule("runway", RuleKind::Runway { below: minutes(6 * 60) }),
        rule("unexplained", RuleKind::UnexplainedSpend { above: usd(100) }),
        rule("month", RuleKind::Budget { amount: usd(60_000), period: Period::Month, at: vec![50, 80, 100] }),
        rule("jump", RuleKind::BalanceJump),
        rule("burn", RuleKind::BurnRate { above: usd(1_500) }),
    ]
}

fn cadence() -> Cadence {
    let every = |text| Schedule::parse(text).unwrap();
    Cadence {
        zone: TimeZone::get("Asia/Kolkata").unwrap(),
        balance: every("every 10m"),
        deployments: every("every 10m"),
        inventory: every("every 2h"),
        volumes: every("every 10m"),
        offers: None,
    }
}

/// What the script hides from the watcher, and what it pays in.
struct Script {
    world: World,
    steady: TeamId,
    busy: TeamId,
    debits: Vec<(Time, TeamId, Usd)>,
    topups: BTreeMap<TeamId, Usd>,
}

fn script(days: u64) -> Script {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut world = World::new(7, START.minus(minutes(3 * DAY + 17)));
    let steady = world.add_team("Steady", "owner", usd(100_000));
    let busy = world.add_team("Busy", "admin", usd(500_000));
    let mut topups = BTreeMap::new();
    let mut pay = |world: &mut World, team: &TeamId, minute: u64, dollars: i64| {
        world.at(at(minute), Event::TopUp(team.clone(), usd(dollars * 100)));
        let sum: &mut Usd = topups.entry(team.clone()).or_default();
        *sum = sum.saturating_add(usd(dollars * 100));
    };
    // A constant load with a past, paid for now and then: once while nobody watches.
    for (name, rate, before) in [("serve", 1_333_333_333, 4_000), ("embed", 457_000_000, 61)] {
        world.deploy(START.minus(minutes(before)), Spec::new(&steady, name).rate(Usd::from_nanos(rate)));
    }
    world.add_volume(START.minus(minutes(3_001)), VolumeSpec::new(&steady, "data", 2_000));
    for day in (0..days).step_by(9) {
        pay(&mut world, &steady, day * DAY + 1_003, 500);
    }
    let mut last: Option<DeploymentId> = None;
    let mut minute = 7;
    for turn in 0_u64.. {
        let length = [5, 43, 700, 61, 2_900, 240][usize::try_from(turn % 6).unwrap()] + rng.u64(0..60);
        if minute + length + 200 > days * DAY {
            break;
        }
        let rate = Usd::from_nanos(rng.i64(100_000_000..9_000_000_000));
        let mut spec = Spec::new(&busy, &format!("job-{turn}")).rate(rate).boot(minutes(rng.u64(0..4)));
        match turn % 7 {
            1 => spec.instance_type = "SPOT".into(),
            3 => {
                spec.kubernetes = true;
                spec.addon = Usd::from_nanos(rate.nanos() / 9);
            }
            5 => spec.id = last.clone(),
            _ => {}
        }
        let id = world.deploy(at(minute), spec);
        let middle = at(minute + length / 2);
        match turn % 5 {
            0 => world.at(middle, Event::ChangeRate(id.clone(), Usd::from_nanos(rate.nanos() / 10 * 13))),
            1 => world.at(middle, Event::SetStatus(id.clone(), "maintenance".into())),
            2 => world.at(middle, Event::Stop(id.clone())),
            3 if length > 400 => world.at(middle, Event::Refund(id.clone(), usd(50))),
            _ => {}
        }
        let end = at(minute + length);
        world.at(
            end,
            if turn % 7 == 1 { Event::Reclaim(id.clone()) } else { Event::UserTerminate(id.clone()) },
        );
        last = Some(id);
        minute += length + rng.u64(10..900);
    }
    for (name, from, until) in [("a", 500, 5_000), ("b", 6_000, 9_000), ("c", 100, u64::MAX)] {
        let volume = world.add_volume(at(from), VolumeSpec::new(&busy, name, 700));
        if until < days * DAY {
            world.at(at(until), Event::DeleteVolume(volume));
        }
    }
    let mut debits = Vec::new();
    for (day, team, cents) in
        [(3, &steady, 731), (8, &busy, 4_000), (31, &steady, 250), (32, &busy, 1_199), (70, &steady, 10_050)]
    {
        if day + 2 < days {
            let time = at(day * DAY + 777);
            world.at(time, Event::Debit(team.clone(), usd(cents)));
            debits.push((time, team.clone(), usd(cents)));
        }
    }
    // The API is down for hours.
    for (what, from, length) in
        [(Fault::ServerError, 15 * DAY, 5 * 60), (Fault::Reset, 45 * DAY + 33, 26 * 60)]
    {
        world.faults.add(Window { what, on: None, from: at(from), until: at(from + length) });
    }
    world.advance(START);
    Script { world, steady, busy, debits, topups }
}

/// The watcher is down: shortly, for hours, for two days, over the end of a month.
fn gaps() -> Vec<(Time, Time)> {
    [
        (2 * DAY, 3),
        (5 * DAY, 7 * 60),
        (11 * DAY + 11, 25),
        (20 * DAY, 2 * DAY),
        (38 * DAY, 45),
        (60 * DAY, 9 * 60),
    ]
    .map(|(from, length)| (at(from + 5), at(from + 5 + length)))
    .to_vec()
}

/// What a run leaves for the oracle.
struct Evidence {
    script: Script,
    lines: BTreeMap<Subject, Line>,
    /// By subject and by team, from the rollups.
    by_subject: BTreeMap<String, Usd>,
    by_team: BTreeMap<TeamId, Usd>,
    /// True cost by identity: deducted, used; and whether it is still running.
    truth: BTreeMap<Subject, (Usd, Usd)>,
    /// (time, what was forecast, what is true) of the steady team.
    depletions: Vec<(Time, Option<Time>, Option<Time>, Time)>,
    /// The unexplained total of each team after each day.
    unexplained: Vec<(Time, BTreeMap<TeamId, Usd>)>,
    last: BTreeMap<TeamId, Forecast>,
    told: Vec<(Time, Subject, String, Transition)>,
    month: BTreeMap<TeamId, Usd>,
}

fn run(days: u64, tamper: Option<Tamper>) -> Evidence {
    let mut script = script(days);
    let world = std::mem::replace(&mut script.world, World::new(0, START));
    let mut sim = Simulation::new(Scenario {
        seed: 7,
        world,
        start: START,
        rules: rules(),
        grouping: Grouping { wait: Duration::ZERO, interval: Duration::ZERO, ..Grouping::default() },
        cadence: cadence(),
        calls_per_15m: Some(200),
        gaps: gaps(),
        receiver_fails_percent: 0,
    })
    .unwrap();
    sim.tamper = tamper;
    let (mut depletions, mut unexplained) = (Vec::new(), Vec::new());
    let mut last = BTreeMap::new();
    for hour in 1..=days * 24 {
        sim.run_until(at(hour * 60)).unwrap();
        let view = sim.core().view(sim.now(), &View::default());
        // A process that has just begun knows nothing yet.
        let Some(forecast) = view.forecasts.get(&script.steady) else { continue };
        last = view.forecasts.clone();
        if let Some(truth) = sim.world().empties_at(&script.steady) {
            depletions.push((sim.now(), forecast.committed_end, forecast.observed_end, truth));
        }
        if hour % 24 == 0 {
            unexplained
                .push((sim.now(), last.iter().map(|(id, f)| (id.clone(), f.unexplained_total)).collect()));
        }
    }
    let end = at(days * DAY);
    let books = sim.db().recover().unwrap().books;
    let mut world = sim.world();
    let now = sim.now();
    world.advance(now);
    let subject = |id: &DeploymentId, created: Time| Subject::Deployment {
        id: id.clone(),
        created_at: Time::from_secs(created.secs()),
    };
    let truth =
        world.accounts().map(|(id, at, _, charged, used)| (subject(id, at), (charged, used))).collect();
    let spent = |team: &TeamId| {
        let from = last[team].month.from;
        let paid = world.paid_in(team).iter().filter(|(at, _)| *at > from);
        // A hidden debit is no cost.
        let paid: Usd = paid.map(|(_, amount)| *amount).sum();
        world
            .true_balance_at(team, from)
            .saturating_add(paid)
            .saturating_sub(world.true_balance_at(team, now))
    };
    let month = last.keys().map(|team| (team.clone(), spent(team))).collect();
    drop(world);
    let costs = |by| sim.db().costs(Time::EPOCH, end.plus(minutes(DAY)), by).unwrap();
    Evidence {
        lines: books.lines,
        by_subject: costs(CostBy::Subject)
            .into_iter()
            .map(|c| (c.subject.unwrap().to_string(), c.amount))
            .collect(),
        by_team: costs(CostBy::Team).into_iter().map(|c| (c.team, c.amount)).collect(),
        truth,
        depletions,
        unexplained,
        last,
        told: sim
            .sent()
            .iter()
            .flat_map(|sent| {
                let Notice { together, .. } = &sent.notice;
                let alone = together.members.is_empty().then_some(&sent.notice);
                together.members.iter().chain(alone).map(|notice| (sent.at, notice))
            })
            .map(|(at, Notice { key, transition, .. })| {
                (at, key.subject.clone(), key.rule.to_string(), *transition)
            })
            .collect(),
        month,
        script,
    }
}

fn apart(a: Usd, b: Usd) -> i64 {
    a.saturating_sub(b).nanos().abs()
}

const CENT: i64 = 10_000_000;

/// Per deployment the ledger is the truth, to the cent: exact for what has ended.
fn ledger_is_true(e: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let deployments = e.lines.iter().filter(|(subject, _)| matches!(subject, Subject::Deployment { .. }));
    for (subject, line) in deployments.clone() {
        let Some((charged, used)) = e.truth.get(subject) else {
            wrong.push(format!("{subject} never existed"));
            continue;
        };
        let booked = e.by_subject.get(&subject.to_string()).copied().unwrap_or_default();
        if booked != line.charged {
            wrong.push(format!("{subject}: the rollups say {booked}, the line {}", line.charged));
        }
        let end = e.unexplained.last().unwrap().0;
        let now = line.charged.saturating_add(line.rate.per_hour_for(end.since(line.until)));
        let (mine, truth) = if line.ended { (line.charged, *charged) } else { (now, *used) };
        if apart(mine, truth) > if line.ended { 0 } else { CENT } {
            wrong.push(format!("{subject}: {} and really {}", mine.to_decimal(), truth.to_decimal()));
        }
    }
    if deployments.count() != e.truth.len() {
        wrong.push(format!("{} deployments of {}", e.lines.len(), e.truth.len()));
    }
    wrong
}

fn rollups_agree(e: &Evidence) -> Vec<String> {
    let mut teams: BTreeMap<TeamId, Usd> = BTreeMap::new();
    for line in e.lines.values() {
        let sum = teams.entry(line.team.clone()).or_default();
        *sum = sum.saturating_add(line.charged);
    }
    if teams == e.by_team { vec![] } else { vec![format!("{teams:?} and {:?}", e.by_team)] }
}

fn depletion_is_forecast(e: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let off = |now: Time, forecast: Time, truth: Time| {
        let (a, b) = (forecast.since(now).as_secs_f64(), truth.since(now).as_secs_f64());
        (a - b).abs() > 0.05 * b
    };
    let (mut committed_known, mut observed_known) = (0, 0);
    for &(now, committed, observed, truth) in &e.depletions {
        let disturbed = |time: &Time| now.since(*time) < minutes(6 * 60) && now >= *time;
        let debit = e.script.debits.iter().any(|(time, _, _)| disturbed(time));
        let blind = |(from, length): (u64, u64)| (at(from)..at(from + length + 60)).contains(&now);
        let blind = [(0, 120), (15 * DAY, 300), (45 * DAY, 27 * 60)].into_iter().any(blind);
        let down = gaps().iter().any(|(from, until)| (*from..until.plus(minutes(60))).contains(&now));
        if blind || down {
            continue;
        }
        committed_known += usize::from(committed.is_some());
        observed_known += usize::from(observed.is_some());
        if committed.is_none_or(|end| off(now, end, truth)) {
            wrong.push(format!("{now}: committed {committed:?}, really {truth}"));
        }
        if !debit && observed.is_some_and(|end| off(now, end, truth)) {
            wrong.push(format!("{now}: observed {observed:?}, really {truth}"));
        }
    }
    if observed_known * 10 < committed_known * 8 {
        wrong.push(format!("observed is known {observed_known} times of {committed_known}"));
    }
    wrong
}

/// Each unexplained dollar is named within a day, and nothing else is.
fn debits_are_named(e: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for (end, named) in &e.unexplained {
        for team in [&e.script.steady, &e.script.busy] {
            let sum = |before: Time| -> Usd {
                e.script
                    .debits
                    .iter()
                    .filter(|(t, of, _)| of == team && *t <= before)
                    .map(|(_, _, a)| *a)
                    .sum()
            };
            let (least, most) = (sum(end.minus(minutes(DAY))), sum(*end));
            let named = named[team];
            if named.nanos() < least.nanos() - 50 * CENT || named.nanos() > most.nanos() + 50 * CENT {
                wrong.push(format!("{end}: {named} of {team}, should be {least} to {most}"));
            }
        }
    }
    for (time, team, amount) in &e.script.debits {
        let told = e.told.iter().any(|(at, subject, rule, transition)| {
            *subject == Subject::Team { id: team.clone() }
                && rule == "unexplained"
                && *transition == Transition::Firing
                && (*time..time.plus(minutes(DAY))).contains(at)
        });
        if !told {
            wrong.push(format!("{amount} of {team} at {time} was not told"));
        }
    }
    let fired =
        e.told.iter().filter(|(_, _, rule, t)| rule == "unexplained" && *t == Transition::Firing).count();
    if fired != e.script.debits.len() {
        wrong.push(format!("{fired} alerts of {}", e.script.debits.len()));
    }
    wrong
}

fn topups_are_counted(e: &Evidence) -> Vec<String> {
    let paid = |(team, forecast): (&TeamId, &Forecast)| {
        let paid = e.script.topups.get(team).copied().unwrap_or_default();
        (apart(forecast.topups_total, paid) > CENT)
            .then(|| format!("{team}: {} of {paid}", forecast.topups_total))
    };
    e.last.iter().filter_map(paid).collect()
}

fn months_add_up(e: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for (team, truth) in &e.month {
        let spent = e.last[team].month.spent;
        if apart(spent, *truth) > 5 * CENT {
            wrong.push(format!("{team} spent {spent} this month, really {truth}"));
        }
    }
    wrong
}

/// No occasion is told twice.
fn occasions_are_told_once(e: &Evidence) -> Vec<String> {
    let mut seen: BTreeMap<(String, String), u32> = BTreeMap::new();
    for (_, subject, rule, _) in e.told.iter().filter(|(_, _, rule, _)| rule == "month" || rule == "jump") {
        *seen.entry((rule.clone(), subject.to_string())).or_default() += 1;
    }
    seen.into_iter()
        .filter(|(_, times)| *times > 1)
        .map(|(what, times)| format!("{what:?} {times} times"))
        .collect()
}

type Oracle = fn(&Evidence) -> Vec<String>;

const ORACLES: [(&str, Oracle); 7] = [
    ("ledger", ledger_is_true),
    ("rollups", rollups_agree),
    ("depletion", depletion_is_forecast),
    ("debits", debits_are_named),
    ("topups", topups_are_counted),
    ("months", months_add_up),
    ("occasions", occasions_are_told_once),
];

#[test]
fn a_simulated_quarter_is_accounted_to_the_cent_forecast_and_explained() {
    let evidence = run(92, None);
    let wrong: Vec<String> = ORACLES
        .iter()
        .flat_map(|(name, oracle)| oracle(&evidence).into_iter().map(move |what| format!("{name}: {what}")))
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(evidence.lines.len() > 60, "{} lines", evidence.lines.len());
    assert!(evidence.told.iter().any(|(_, _, rule, _)| rule == "month"), "a budget was crossed");
}

/// What each oracle is for, broken on purpose: costs lost on the way, state that a restart forgets, ids that
/// change, a burn misjudged.
#[test]
fn every_oracle_of_the_quarter_sees_its_planted_bug() {
    let mut steps = 0;
    let forgetful = move |record: &mut StepRecord| {
        steps += 1;
        record.purses.clear();
        record.alerts.clear();
        for notice in &mut record.notices {
            notice.id = EventId::from_text(format!("{}-{steps}", notice.id));
        }
        if steps % 100 == 0 {
            record.charges.clear();
        }
    };
    let mut evidence = run(16, Some(Box::new(forgetful)));
    for (_, committed, _, truth) in &mut evidence.depletions {
        let late = truth.since(START).mul_f64(0.06);
        *committed = committed.map(|end| end.plus(late));
    }
    for (name, oracle) in ORACLES {
        assert!(!oracle(&evidence).is_empty(), "{name} is blind");
    }
}
