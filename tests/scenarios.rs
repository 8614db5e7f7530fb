//! One script per kind of rule: an account, what happens to it, and in the golden file beside it every decision with its reason
//! and every message as a person reads it. `UPDATE_SCENARIOS=1` writes the golden files anew.
//!
//! A script is read line by line: `config … end` (TOML), `at 10m`, records (`team`, `deployment`, `volume`, `offer`: ID and
//! key=value, or `gone`, `unreadable`), `activity DEPLOYMENT SOURCE busy|idle|unknown …`, `configuration broken|loads`, `disk MIB`, `receiver NAME fails|dies|takes WHY`,
//! `end DEPLOYMENT requested` (by a policy; the API accepted it), `end DEPLOYMENT reads running|terminated`,
//! `poll FEED… [fails KIND]`, `every 1m until 30m poll …`, `step`, `restart`, and `expect nothing` or the transitions
//! that the last of these told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "scenarios/world.rs"]
mod world;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::tz::TimeZone;
use spheron_watch::{
    config::{self, Env},
    engine::{Engine, Money, changes, fold},
    model::{
        ActReceipt, Action, ActionId, Came, DeploymentId, Failure, FailureKind, Feed, FeedHealth, Glob,
        Grouping, Held, HeldReason, Label, Notice, Policies, PollRow, Proof, Reading, Rule, Snapshot,
        SourceActivity, Stage as StageOf, Status, StepRecord, Subject, Target, Time, Transition, Trouble,
        humanize,
    },
    notify::render,
    schedule::parse_length,
    store::{Db, Recovered},
};
use world::{Fields, START, World, time};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    scripts.sort();
    scripts
}

#[test]
fn every_script_is_decided_and_told_as_its_golden_file_says() {
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut wrong = Vec::new();
    for path in scripts() {
        let said = Stage::play(&path);
        let golden = path.with_extension("golden");
        if update {
            fs::write(&golden, &said).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if let Some((line, (now, then))) =
            said.lines().zip(expected.lines()).enumerate().find(|(_, (now, then))| now != then)
        {
            wrong.push(format!("{}:{}:\n  is   {now}\n  was  {then}", golden.display(), line + 1));
        } else if said != expected {
            wrong.push(format!("{}: {} lines, not {}", golden.display(), said.len(), expected.len()));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_SCENARIOS=1 accepts:\n{}", wrong.join("\n"));
}

#[test]
fn every_kind_of_rule_has_a_script() {
    let example = include_str!("../config/spheron-watch.toml");
    let rules = example.split("\n#[[").filter_map(|section| section.strip_prefix("rule]]"));
    let known = rules.flat_map(str::lines).filter_map(|line| line.strip_prefix("#kind = "));
    let known: BTreeSet<String> = known.map(|kind| kind.trim_matches('"').to_owned()).collect();
    let mut played: BTreeSet<String> = BTreeSet::new();
    for path in scripts() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("kind = \"{name}\"")), "{name}.txt has no rule of its kind");
        played.insert(name);
    }
    assert_eq!(played, known);
}

/// A script on stage: the account, what is known of it, the engine, the database, and what was said so far.
struct Stage {
    world: World,
    rules: Vec<Rule>,
    snapshot: Snapshot,
    recorded: Snapshot,
    engine: Engine,
    db: Db,
    now: Time,
    last_told: Vec<Transition>,
    last_held: Vec<Held>,
    said: String,
}

impl Stage {
    fn play(path: &Path) -> String {
        let text = fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once("config\n").expect("a script begins with its config");
        let (toml, script) = rest.split_once("\nend\n").expect("config … end");
        assert!(before.lines().all(|line| line.starts_with('#')), "only remarks stand before the config");
        let env = Env { home: Some("/home/me".into()), ..Env::default() };
        let toml = format!("[alerts]\ndefaults = false\n{toml}");
        let settings = config::parse(path, &toml, &env).unwrap_or_else(|e| panic!("{e}"));
        let mut stage = Self {
            world: World::default(),
            engine: engine(settings.rules.clone(), Recovered::default()),
            rules: settings.rules,
            snapshot: Snapshot::default(),
            recorded: Snapshot::default(),
            db: Db::in_memory().unwrap(),
            now: START,
            last_told: Vec::new(),
            last_held: Vec::new(),
            said: before.to_owned(),
        };
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            stage.said.push_str(&format!("\n> {line}\n"));
            let words: Vec<&str> = line.split_whitespace().collect();
            stage.perform(&words);
        }
        stage.step();
        assert!(stage.last_told.is_empty(), "{}: stepping again told something", path.display());
        stage.said
    }

    fn perform(&mut self, words: &[&str]) {
        match words {
            ["#", ..] => {}
            ["at", at] => {
                let at = time(at, self.now);
                assert!(at >= self.now, "time goes on");
                self.now = at;
            }
            ["team", id, rest @ ..] => self.world.team(id, rest),
            ["deployment", id, rest @ ..] => self.world.deployment(id, rest, self.now),
            ["volume", id, rest @ ..] => self.world.volume(id, rest, self.now),
            ["offer", id, rest @ ..] => self.world.offer(id, rest),
            ["activity", id, source, reading, rest @ ..] => self.activity(id, source, reading, rest),
            ["configuration", "broken"] => {
                self.snapshot.config_error = Some("config.toml:3:1: rule.below".into())
            }
            ["configuration", "loads"] => self.snapshot.config_error = None,
            ["disk", mib] => self.snapshot.disk_free_bytes = Some(mib.parse::<u64>().unwrap() << 20),
            ["receiver", name, "takes"] => {
                self.snapshot.deliveries.remove(*name);
            }
            ["receiver", name, fails @ ("fails" | "dies"), why @ ..] => {
                let trouble = Trouble { since: self.now, dead: *fails == "dies", why: why.join(" ").into() };
                self.snapshot.deliveries.insert((*name).into(), trouble);
            }
            ["end", id, "requested"] => self.request_end(id),
            ["end", id, "reads", status] => self.read_end(id, status),
            ["poll", feeds @ ..] => {
                let polls = self.poll(feeds);
                self.commit(polls);
            }
            ["every", length, "until", until, "poll", feeds @ ..] => {
                let (length, until) = (parse_length(length).unwrap(), time(until, self.now));
                for feed in feeds.iter().filter_map(|name| feed_named(name)) {
                    let health = || FeedHealth::new(length, self.now);
                    self.snapshot.feeds.entry(feed).or_insert_with(health).interval = length;
                }
                let mut told = Vec::new();
                while self.now.plus(length) <= until {
                    self.now = self.now.plus(length);
                    let polls = self.poll(feeds);
                    self.commit(polls);
                    told.append(&mut self.last_told);
                }
                self.last_told = told;
            }
            ["step"] => self.commit(Vec::new()),
            ["restart"] => self.restart(),
            ["expect", expected @ ..] => {
                let told: Vec<_> = self.last_told.iter().map(|transition| transition.as_str()).collect();
                let expected = if expected == ["nothing"] { &[] } else { expected };
                assert_eq!(told, expected, "told so far:\n{}", self.said);
            }
            _ => panic!("not understood: {}", words.join(" ")),
        }
    }

    fn activity(&mut self, id: &str, source: &str, reading: &str, words: &[&str]) {
        let mut fields = Fields::of(words);
        let reading = match reading {
            "busy" => Reading::Busy,
            "idle" => Reading::Idle,
            "unknown" => Reading::Unknown("connection refused".into()),
            other => panic!("no reading: {other}"),
        };
        let said = SourceActivity {
            last: fields.take("last").map_or(self.now, |at| time(at, self.now)),
            every: Duration::from_secs(60),
            reading,
            idle_since: fields.take("since").map(|at| time(at, self.now)),
            utilization_permille: fields.take("util").map(|permille| permille.parse().unwrap()),
        };
        self.snapshot.activity.entry(DeploymentId::new(id)).or_default().insert(source.into(), said);
    }

    /// As a policy left it that is no longer in the configuration: the log alone hears of it.
    fn request_end(&mut self, id: &str) {
        let deployment = self.snapshot.deployments[&DeploymentId::new(id)].deployment.clone();
        let target = Target::of(&deployment);
        let proof = Proof { requested: self.now, ended: 0, asked: None, next: self.now, late: false };
        let action = Action {
            id: ActionId::derive("nightly", &target, self.now),
            policy: "nightly".into(),
            target,
            name: deployment.name,
            team: deployment.team,
            rate: deployment.hourly_rate,
            marked: self.now,
            fingerprint: "f".into(),
            seq: 0,
            requests: vec![self.now],
            stage: StageOf::Verifying { proof },
        };
        let known = self.engine.actions().cloned().chain([action]).collect();
        self.engine = self.engine.clone().with_policies(Policies::default(), known);
    }

    /// What the read that was asked for last brings.
    fn read_end(&mut self, id: &str, status: &str) {
        let mut read = self.snapshot.deployments[&DeploymentId::new(id)].deployment.clone();
        read.status = Status::from(Arc::<str>::from(status));
        let action = self.engine.actions().find(|action| action.target.id == read.id).unwrap();
        let receipt = ActReceipt {
            action: action.id.clone(),
            seq: action.seq,
            sent: self.now,
            skew_ms: Some(0),
            came: Came::Read(Ok(Some(Box::new(read)))),
        };
        self.snapshot.receipts.insert(receipt.action.clone(), receipt.into());
    }

    fn poll(&mut self, words: &[&str]) -> Vec<PollRow> {
        let (feeds, failure) = match words {
            [feeds @ .., "fails", kind] => (feeds, Some(failure(kind))),
            feeds => (feeds, None),
        };
        let watched = [Glob::new("*")];
        let mut polls = Vec::new();
        for name in feeds {
            let feed = feed_named(name).expect("a feed");
            let vanished: Vec<_> = self.snapshot.vanished().into_iter().cloned().collect();
            let observation = self.world.poll(feed, failure.as_ref(), &vanished, self.now);
            fold(&mut self.snapshot, &observation, &watched);
            polls.push(PollRow {
                feed,
                at: self.now,
                outcome: observation.outcome(),
                items: 0,
                failure: failure.as_ref().map(|failure| failure.kind),
                trouble: observation.trouble(),
            });
        }
        polls
    }

    fn commit(&mut self, polls: Vec<PollRow>) {
        let held = self.engine.held(&self.snapshot, self.now);
        let decisions = self.engine.step(&self.snapshot, self.now);
        self.say(&decisions.notices, held);
        let record = StepRecord {
            at: self.now,
            polls,
            changes: changes(&self.recorded, &self.snapshot),
            alerts: decisions.alerts,
            notices: decisions.notices,
            groups: decisions.groups,
            lines: decisions.lines,
            charges: decisions.charges,
            purses: decisions.purses,
            ..StepRecord::default()
        };
        self.recorded = self.snapshot.clone();
        self.db.commit(&record).unwrap();
        let again = self.engine.step(&self.snapshot, self.now);
        assert!(again.notices.is_empty() && again.alerts.is_empty(), "not a fixpoint: {again:?}");
    }

    fn step(&mut self) {
        self.commit(Vec::new());
    }

    /// What the process knew by itself is gone; the database remembers the rest.
    fn restart(&mut self) {
        let recovered = self.db.recover().unwrap();
        self.snapshot = recovered.snapshot.clone();
        self.recorded = recovered.snapshot.clone();
        self.engine = engine(self.rules.clone(), recovered);
        self.last_held.clear();
    }

    /// Every message whole; reasons only where they differ from those of the step before.
    fn say(&mut self, notices: &[Notice], held: Vec<Held>) {
        self.last_told = notices.iter().map(|notice| notice.transition).collect();
        let clock = self.clock();
        for reason in held.iter().filter(|held| !self.last_held.contains(held)) {
            let (rule, why) = (&reason.rule, self.reason(&reason.reason));
            self.said.push_str(&format!("{clock}  {rule}, {}: {why}\n", subject(&reason.subject)));
        }
        for notice in notices {
            let (rule, how) = (&notice.key.rule, notice.transition.as_str());
            self.said.push_str(&format!("{clock}  {rule}, {}: told, {how}\n", subject(&notice.key.subject)));
            self.said.push_str(&render::terminal(notice, false));
        }
        self.last_held = held;
    }

    fn clock(&self) -> String {
        format!("{:>7}", humanize(self.now.since(START)))
    }

    fn reason(&self, reason: &HeldReason) -> String {
        let at = |time: &Time| humanize(time.since(START));
        match reason {
            HeldReason::NotMet => "does not hold".to_owned(),
            HeldReason::Pending { until } => format!("holds, waits until {}", at(until)),
            HeldReason::AlreadyTold { next: Some(next) } => format!("told already, reminds at {}", at(next)),
            HeldReason::AlreadyTold { next: None } => "told already".to_owned(),
            HeldReason::KeptFiring { until: Some(until) } => {
                format!("ceased, kept firing until {}", at(until))
            }
            HeldReason::KeptFiring { until: None } => "kept firing by hysteresis".to_owned(),
            HeldReason::PastEvent => "past, or told already".to_owned(),
            HeldReason::Unknown { feed } => format!("unknown until {feed} speaks"),
            HeldReason::Unmeasured => "nobody measures it".to_owned(),
            HeldReason::NotMatched => "left out by its matcher".to_owned(),
            HeldReason::Silenced { until, .. } => format!("silenced until {}", at(until)),
            HeldReason::Inhibited { by } => format!("held back while {by} fires"),
        }
    }
}

fn engine(rules: Vec<Rule>, recovered: Recovered) -> Engine {
    let money = Money::new(TimeZone::UTC, recovered.books);
    let mut engine = Engine::new(rules, vec![Glob::new("*")], money, recovered.alerts)
        .resume(recovered.groups, recovered.polls);
    // Scripts are about what a rule decides: nothing waits for others.
    engine.regroup(Grouping {
        by: vec![Label::Rule, Label::Id],
        wait: Duration::ZERO,
        interval: Duration::ZERO,
    });
    engine
}

fn feed_named(name: &str) -> Option<Feed> {
    Feed::ALL.into_iter().find(|feed| feed.as_str() == name)
}

/// Without the instant that tells two of one id apart.
fn subject(subject: &Subject) -> String {
    let text = subject.to_string();
    match text.split_once('@') {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => text,
    }
}

fn failure(word: &str) -> Failure {
    let (kind, message) = match word {
        "unauthorized" => (FailureKind::Unauthorized, "401 UNAUTHORIZED"),
        "forbidden" => (FailureKind::Forbidden, "403 FORBIDDEN"),
        "server" => (FailureKind::Server, "500 INTERNAL_ERROR"),
        "timeout" => (FailureKind::Timeout, "no answer within 20s"),
        other => panic!("no failure: {other}"),
    };
    Failure::new(kind, message)
}
