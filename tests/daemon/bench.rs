//! An account with instances that have run for long, a daemon with policies beside it, and a person who arms them; each call
//! to the account is noted, and each end can be held back where a test wants to look.
//!
//! It must never reach into the product: what holds it back is the world outside, or the disk.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use spheron_watch::{
    clock::Clock,
    model::{DeploymentId, StageName, Status, Time, Usd},
    sim::{Endpoint, Fault, FaultPlan, Spec, Window},
};

use crate::{
    lab::{Daemon, Hook, Lab, SOON, until, within},
    wire::Wire,
};

/// A window of a minute, a grace of a minute, and twice the time after which an answer is given up.
pub const LONG: Duration = Duration::from_secs(360);
pub const GRACE: Duration = Duration::from_secs(60);

/// What the webhook's other end does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Takes,
    Refuses,
    Hangs,
}

pub struct Bench {
    pub lab: Lab,
    pub wire: Wire,
    pub hook: Hook,
    manner: Arc<Mutex<Manner>>,
    ids: BTreeMap<String, DeploymentId>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub stage: String,
    pub announcement: String,
    pub intent: Option<i64>,
    /// How many DELETEs were handed out.
    pub requests: usize,
}

impl Bench {
    /// These instances have run for two hours, and the daemon has these policies.
    pub fn new(names: &[&str], policies: &str) -> Self {
        let mut ids = BTreeMap::new();
        let lab = Lab::new(|world, now| {
            world.terms.destroy_takes = Duration::from_secs(2);
            let team = world.add_team("research", "owner", Usd::from_cents(10_000_000));
            for name in names {
                let spec = Spec::new(&team, name).rate(Usd::from_cents(3_600));
                ids.insert((*name).to_owned(), world.deploy(now.minus(Duration::from_secs(7_200)), spec));
            }
        });
        let manner = Arc::new(Mutex::new(Manner::Takes));
        let asked = manner.clone();
        let hook = Hook::answering(move |_, _| {
            loop {
                match *asked.lock().unwrap() {
                    Manner::Takes => return 200,
                    Manner::Refuses => return 503,
                    Manner::Hangs => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        let bench = Self { wire: Wire::to(lab.api), lab, hook, manner, ids };
        bench.configure(policies);
        bench
    }

    pub fn configure(&self, policies: &str) -> PathBuf {
        let rest = "[collect]\ndeployments = \"every 10s\"\nbalance = \"every 10s\"\ncalls_per_15m = 10000\n\
             [safety]\nmin_observed_age = \"1m\"\nmax_per_hour = 10\nmax_per_day = 10\nmax_fleet_share = 0.99\n";
        self.lab.config(&[("hook", &self.hook)], &format!("{rest}{policies}"))
    }

    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.lab.configured(&["run"]);
        command.env("SPHERON_WATCH_ACCOUNT__BASE_URL", format!("http://{}", self.wire.address));
        command.envs(environment.iter().copied());
        let mut daemon = self.lab.launch(command);
        daemon.wait_until_ready();
        daemon
    }

    pub fn id(&self, name: &str) -> &DeploymentId {
        &self.ids[name]
    }

    pub fn set_manner(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// From now on, until `no_faults`.
    pub fn fault(&self, on: Endpoint, what: Fault) {
        let now = Clock::system().now();
        let window = Window { from: now, until: now.plus(Duration::from_secs(86_400)), on: Some(on), what };
        self.lab.world().faults.add(window);
    }

    pub fn no_faults(&self) {
        self.lab.world().faults = FaultPlan::default();
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, found) = self.lab.ask(&format!("GET /api/v1/{path}"), "");
        assert_eq!(status, 200, "{path}: {found}");
        found
    }

    /// Looks at what it would end, and confirms with this code, or with the one that stands there.
    pub fn try_to_arm(&self, policy: &str, code: Option<&str>) -> (u16, Value) {
        let code = code.map_or_else(|| self.get(&format!("policies/{policy}"))["code"].clone(), Value::from);
        let body = json!({ "code": code, "by": "ann" }).to_string();
        self.lab.ask(&format!("POST /api/v1/policies/{policy}/arm"), &body)
    }

    /// Once a receiver has confirmed a delivery; the list may change between a person's two looks.
    pub fn arm(&self, policy: &str) {
        until(&format!("{policy} is armed"), || {
            let (status, said) = self.try_to_arm(policy, None);
            assert!(matches!(status, 200 | 409), "{said}");
            (status == 200 && said["state"] == "armed").then_some(())
        });
    }

    /// What became of a policy's decisions, oldest first; what a dry run noted aside.
    pub fn actions(&self, policy: &str) -> Vec<Row> {
        let conn = self.lab.reader();
        let mut select = conn
            .prepare(
                "SELECT id, stage, announcement, intent, json_array_length(body, '$.requests') FROM action
                 WHERE policy = ?1 AND announcement IS NOT NULL ORDER BY json_extract(body, '$.marked')",
            )
            .unwrap();
        let rows = select.query_map([policy], |row| {
            let (id, stage, announcement) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let requests = usize::try_from(row.get::<_, i64>(4)?).unwrap();
            Ok(Row { id, stage, announcement, intent: row.get(3)?, requests })
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    pub fn last(&self, policy: &str) -> Option<Row> {
        self.actions(policy).pop()
    }

    pub fn stage(&self, policy: &str) -> Option<StageName> {
        let row = self.last(policy)?;
        Some(*StageName::ALL.iter().find(|stage| stage.as_str() == row.stage).unwrap())
    }

    pub fn wait_for_stage(&self, policy: &str, stage: StageName) {
        within(LONG, &format!("{policy}: {stage:?}"), || (self.stage(policy) == Some(stage)).then_some(()));
    }

    /// Steps of one action in order, as the append-only table has them.
    pub fn steps(&self, action: &str) -> Vec<(Option<StageName>, StageName)> {
        let conn = self.lab.reader();
        let mut select =
            conn.prepare("SELECT from_stage, to_stage FROM shift WHERE action = ?1 ORDER BY seq").unwrap();
        let named = |text: String| *StageName::ALL.iter().find(|stage| stage.as_str() == text).unwrap();
        let steps = select
            .query_map([action], |row| Ok((row.get::<_, Option<String>>(0)?.map(named), named(row.get(1)?))));
        steps.unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Each action took only steps of the table, one from where the last one led, and is over.
    pub fn assert_legal(&self, policy: &str, note: &str) {
        for row in self.actions(policy) {
            let steps = self.steps(&row.id);
            assert_eq!(steps[0], (None, StageName::Marked), "{note}: {steps:?}");
            for two in steps.windows(2) {
                let (from, to) = two[1];
                assert_eq!(from, Some(two[0].1), "{note}: {steps:?}");
                assert!(two[0].1.may_become(to), "{note}: {steps:?}");
            }
            let last = steps.last().unwrap().1;
            assert!(last.is_closed() && last.as_str() == row.stage, "{note}: {steps:?}, but {row:?}");
        }
    }

    /// For a DELETE that is on its way, while no daemon lives.
    pub fn time_passes(&self, length: Duration) {
        self.lab.tamper(&format!(
            "UPDATE action SET body = json_set(body, '$.stage.asked', json_extract(body, '$.stage.asked') - {})
             WHERE stage = 'requested'",
            length.as_millis()
        ));
    }

    pub fn status(&self, name: &str) -> Status {
        let mut world = self.lab.world();
        world.advance(Clock::system().now());
        world.status(self.id(name)).unwrap().clone()
    }

    /// What arrived at the webhook of this policy, whose title begins so: id and time of each.
    pub fn heard(&self, policy: &str, title: &str) -> Vec<(String, Time)> {
        let rule = format!("policy/{policy}");
        let sent = self.hook.sent().into_iter().filter(|sent| sent.rule() == rule);
        let sent = sent.filter(|sent| sent.body["data"]["title"].as_str().unwrap().starts_with(title));
        sent.map(|sent| (sent.id, sent.at)).collect()
    }

    pub fn wait_to_hear(&self, policy: &str, title: &str) {
        let heard = || (!self.heard(policy, title).is_empty()).then_some(());
        within(LONG, &format!("{title:?} of {policy} at the webhook"), heard);
    }

    /// A rule that fires at the first poll, so that the receiver has something to confirm.
    pub fn alarm() -> &'static str {
        "[[rule]]\nname = \"rich\"\nkind = \"balance\"\nbelow = 500000.0\nseverity = \"critical\"\n"
    }

    pub fn wait_for_alarm(&self) {
        within(SOON, "the alarm at the webhook", || {
            self.hook.sent().iter().any(|sent| sent.rule() == "rich").then_some(())
        });
    }
}
