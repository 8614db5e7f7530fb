//! A watcher's life in such a world, with people who want things of it, and what is kept of it as evidence.
//!
//! It must never judge: that is for the oracles.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use jiff::tz::TimeZone;
use spheron_watch::{
    drive::{
        Cadence,
        simulate::{Asked, Called, Meddle, Mishear, Scenario, Sent, Simulation, Tamper},
    },
    model::{
        ActionId, Cancel, DeploymentId, Grouping, Hold, Keep, Notice, Policies, Policy, Reading, Safety,
        Subject, Target, Time, outbox::LOG,
    },
    schedule::Schedule,
    sim::{Event, Window, World},
    store::Intent,
};

use crate::world::{
    Account, Case, Fate, HOUR, Machine, START, Setting, Wish, account, policies, source, zone,
};

/// How often people look.
const LOOKED_EVERY: Duration = Duration::from_secs(600);

/// A bug to plant.
#[derive(Default)]
pub struct Plant {
    pub tamper: Option<Tamper>,
    pub meddle: Option<Meddle>,
    pub mishear: Option<Mishear>,
    pub loses: Option<fn(&Notice) -> bool>,
    /// What the watcher takes the configuration for.
    pub misread: Option<fn(&mut Policies)>,
    /// What people order and the watcher never hears.
    pub unheard: Option<Unheard>,
    /// Done at every look of people, with the time in truth.
    pub looks: Option<fn(&mut Simulation, Time)>,
    /// What is changed about the account.
    pub account: Option<fn(&mut Account)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unheard {
    Keeps,
    Cancels,
    Disarming,
}

/// A person armed it, as it then stood.
#[derive(Debug, Clone)]
pub struct Armed {
    pub policy: Policy,
    pub safety: Safety,
    pub from: Time,
    pub until: Option<Time>,
    pub acknowledged: BTreeSet<Target>,
}

#[derive(Debug, Clone)]
pub struct Kept {
    pub target: Target,
    pub from: Time,
    pub until: Option<Time>,
}

pub type Samples = BTreeMap<DeploymentId, Vec<(Time, char)>>;

pub struct Evidence {
    pub case: Case,
    pub world: World,
    pub trace: String,
    pub machines: Vec<Machine>,
    pub teams: [(spheron_watch::model::TeamId, &'static str); 3],
    pub windows: Vec<Window>,
    pub called: Vec<Called>,
    pub asked: Vec<Asked>,
    pub sent: Vec<Sent>,
    pub intents: Vec<(Time, Intent)>,
    pub armed: Vec<Armed>,
    pub configured: Vec<(Time, Setting)>,
    pub keeps: Vec<Kept>,
    pub cancels: Vec<(Time, Target)>,
    pub samples: Samples,
    pub mishaps: Vec<(Time, spheron_watch::drive::simulate::Mishap)>,
    /// What the watcher has to say at the end of those that run, for people who read a finding.
    pub says: Vec<(DeploymentId, String)>,
    /// In words, what else befell it.
    pub befell: BTreeSet<&'static str>,
}

struct Life {
    case: Case,
    plant: Unplanted,
    simulation: Simulation,
    machines: Vec<Machine>,
    setting: Setting,
    /// Policies that people want as dry runs now.
    off: BTreeSet<&'static str>,
    armed: Vec<Armed>,
    configured: Vec<(Time, Setting)>,
    keeps: Vec<Kept>,
    cancels: Vec<(Time, Target)>,
    /// When people last heard that too many qualify at once.
    held: Option<Time>,
    /// How many notices people have read.
    read: usize,
    /// What they will do about those.
    plans: Vec<(Time, Plan)>,
}

/// What of a plant is for the people.
struct Unplanted {
    misread: Option<fn(&mut Policies)>,
    unheard: Option<Unheard>,
    looks: Option<fn(&mut Simulation, Time)>,
}

enum Plan {
    End(DeploymentId),
    Cancel(ActionId, Target),
}

pub fn live(case: Case, plant: Plant) -> Evidence {
    let mut account = account(case);
    if let Some(change) = plant.account {
        change(&mut account);
    }
    let Account { world, machines, wishes, mishaps, gaps, down, unmeasured, teams } = account;
    let windows = world.faults.windows().to_vec();
    let mut befell: BTreeSet<&'static str> = BTreeSet::new();
    for (what, was) in [
        ("a watcher that is away", !gaps.is_empty()),
        ("a receiver that is down", !down.is_empty()),
        ("a source that is silent", unmeasured.iter().any(|(_, _, silent)| *silent)),
        ("a source that does not know", unmeasured.iter().any(|(_, _, silent)| !silent)),
    ] {
        befell.extend(was.then_some(what));
    }
    let every = |minutes: u32| Schedule::parse(&format!("every {minutes}m")).unwrap();
    let cadence = Cadence {
        zone: TimeZone::UTC,
        balance: every(case.poll * 2),
        deployments: every(case.poll),
        inventory: every(360),
        volumes: every(360),
        offers: None,
    };
    let mut simulation = Simulation::new(Scenario {
        seed: case.seed,
        world,
        start: START,
        rules: Vec::new(),
        grouping: Grouping::default(),
        cadence,
        calls_per_15m: Some(200),
        gaps,
        receiver_fails_percent: if case.foul { 15 } else { 0 },
    })
    .unwrap();
    (simulation.tamper, simulation.meddle) = (plant.tamper, plant.meddle);
    (simulation.mishear, simulation.loses) = (plant.mishear, plant.loses);
    simulation.dies_percent = case.dies;
    simulation.sleeps_percent = if case.foul { 2 } else { 0 };
    simulation.down = down;
    simulation.mishaps.clone_from(&mishaps);
    let samples = Rc::new(RefCell::new(Samples::new()));
    simulation.attend(source(), measure(machines.clone(), unmeasured, samples.clone()));
    let mut life = Life {
        case,
        plant: Unplanted { misread: plant.misread, unheard: plant.unheard, looks: plant.looks },
        simulation,
        machines,
        setting: Setting::Usual,
        off: BTreeSet::new(),
        armed: Vec::new(),
        configured: Vec::new(),
        keeps: Vec::new(),
        cancels: Vec::new(),
        held: None,
        read: 0,
        plans: Vec::new(),
    };
    life.configure(Setting::Usual);
    life.lives(wishes);
    let Life { simulation, machines, armed, configured, keeps, cancels, .. } = life;
    let samples = samples.take();
    let reasons = simulation.core().policy_reasons(simulation.now());
    let says = reasons.verdicts.iter().filter(|verdict| !verdict.holds.contains(&Hold::NotMatched));
    let says = says
        .map(|verdict| {
            let Target { id, .. } = &verdict.target;
            (id.clone(), format!("{}: {:?}, {:?}", verdict.policy, verdict.action, verdict.holds))
        })
        .collect();
    Evidence {
        case,
        windows,
        called: simulation.called(),
        asked: simulation.asked().to_vec(),
        sent: simulation.sent().to_vec(),
        intents: simulation.intents().to_vec(),
        trace: simulation.trace(),
        world: std::mem::replace(&mut *simulation.world(), World::new(0, START)),
        machines,
        teams,
        armed,
        configured,
        keeps,
        cancels,
        samples,
        mishaps,
        says,
        befell,
    }
}

/// What the source says: the truth, where it is not away.
fn measure(
    machines: Vec<Machine>,
    unmeasured: Vec<(Time, Time, bool)>,
    samples: Rc<RefCell<Samples>>,
) -> spheron_watch::drive::simulate::Measure {
    let busy: BTreeMap<DeploymentId, Vec<(Time, Time)>> =
        machines.into_iter().map(|machine| (machine.id, machine.busy)).collect();
    Box::new(move |id, now| {
        let away = unmeasured.iter().find(|(from, until, _)| (*from..*until).contains(&now));
        let (reading, word) = match away {
            Some((_, _, true)) => return None,
            Some((_, _, false)) => (Reading::Unknown("it is away".into()), '?'),
            None if busy.get(id).is_none_or(|busy| works(busy, now)) => (Reading::Busy, 'b'),
            None => (Reading::Idle, 'i'),
        };
        samples.borrow_mut().entry(id.clone()).or_default().push((now, word));
        Some(reading)
    })
}

pub fn works(busy: &[(Time, Time)], now: Time) -> bool {
    busy.iter().any(|(from, until)| (*from..*until).contains(&now))
}

impl Life {
    fn lives(&mut self, wishes: Vec<(Time, Wish)>) {
        let mut wishes = wishes.into_iter().peekable();
        let mut at = START;
        while at < self.case.end() {
            at = at.plus(LOOKED_EVERY);
            while let Some((when, wish)) = wishes.next_if(|(when, _)| *when < at) {
                self.simulation.run_until(when).unwrap();
                self.want(wish);
            }
            self.simulation.run_until(at).unwrap();
            self.look(at);
            if let Some(looks) = self.plant.looks {
                looks(&mut self.simulation, at);
            }
        }
    }

    fn want(&mut self, wish: Wish) {
        match wish {
            Wish::Keep(id, until) => self.keep(&id, until),
            Wish::Disarm(policy) => self.disarm(policy),
            Wish::Arm(policy) => drop(self.off.remove(policy)),
            Wish::Configure(setting) => self.configure(setting),
        }
    }

    fn keep(&mut self, id: &DeploymentId, until: Option<Time>) {
        let Some(created_at) = self.simulation.world().created_at(id) else { return };
        let target = Target { id: id.clone(), created_at };
        if self.plant.unheard != Some(Unheard::Keeps) {
            let (target, at) = (target.clone(), self.simulation.now());
            let (by, reason) = ("ann".into(), "".into());
            let keep =
                Keep { id: format!("kp_{id}_{}", self.keeps.len()).into(), target, until, by, reason, at };
            assert!(self.simulation.order(|core, now| core.keep(keep, now)).unwrap());
        }
        self.keeps.push(Kept { target, from: self.simulation.truly(), until });
    }

    fn disarm(&mut self, policy: &'static str) {
        self.off.insert(policy);
        let now = self.simulation.truly();
        if self.plant.unheard != Some(Unheard::Disarming) {
            self.simulation.order(|core, now| core.disarm(policy, "ann".into(), now)).unwrap();
        }
        let now = now.max(self.simulation.truly());
        self.armed
            .iter_mut()
            .filter(|armed| &*armed.policy.name == policy && armed.until.is_none())
            .for_each(|armed| armed.until = Some(now));
    }

    fn configure(&mut self, setting: Setting) {
        self.setting = setting;
        let mut of = policies(setting);
        if let Some(misread) = self.plant.misread {
            misread(&mut of);
        }
        // Whatever becomes of it later: it has to be armed anew.
        let now = self.simulation.truly();
        let meant = policies(setting);
        let stands = |armed: &Armed| meant.policies.contains(&armed.policy) && meant.safety == armed.safety;
        let lapsed = self.armed.iter_mut().filter(|armed| armed.until.is_none() && !stands(armed));
        lapsed.for_each(|armed| armed.until = Some(now));
        self.configured.push((now, setting));
        self.simulation.govern(of);
        self.simulation.order(|_, _| ()).unwrap();
    }

    /// People read what came, and do what they planned; each full hour they see to it that everything is armed.
    fn look(&mut self, at: Time) {
        self.read_notices(at);
        let (due, later) = std::mem::take(&mut self.plans).into_iter().partition(|(when, _)| *when <= at);
        self.plans = later;
        for (_, plan) in due {
            match plan {
                Plan::End(id) => self.simulation.world().at(at, Event::UserTerminate(id)),
                Plan::Cancel(action, target) => self.cancel(action, target),
            }
        }
        // The first day and a half is a dry run.
        if at.since(START) > HOUR * 36 && at.since(START).as_secs().is_multiple_of(3_600) {
            for policy in policies(self.setting).policies {
                let wanted = !self.off.contains(&*policy.name);
                let armed = self.armed.iter().any(|armed| armed.policy == policy && armed.until.is_none());
                // They acknowledge the list for a day, until all of it is what they meant.
                let held = self.held.is_some_and(|told| at.since(told) < HOUR * 24);
                if wanted && (!armed || held) {
                    self.arm(&policy.name);
                }
            }
        }
    }

    fn read_notices(&mut self, at: Time) {
        let mut plans = Vec::new();
        for sent in self.simulation.sent().iter().skip(self.read).filter(|sent| &*sent.receiver != LOG) {
            let title = &sent.notice.title;
            match &sent.notice.key.subject {
                Subject::Account if title.starts_with("held:") => self.held = Some(at),
                Subject::Deployment { id, .. } if title.starts_with("not confirmed:") => {
                    plans.push((at.plus(HOUR * 2), Plan::End(id.clone())));
                }
                Subject::Deployment { id, created_at } if title.starts_with("will be ended:") => {
                    let cancelled = |machine: &&Machine| machine.id == *id && machine.fate == Fate::Cancelled;
                    if self.machines.iter().any(|machine| cancelled(&machine))
                        && let Some(action) = action_of(&sent.notice)
                    {
                        let target = Target { id: id.clone(), created_at: *created_at };
                        plans.push((at, Plan::Cancel(action, target)));
                    }
                }
                _ => {}
            }
        }
        self.read = self.simulation.sent().len();
        self.plans.extend(plans);
    }

    fn cancel(&mut self, action: ActionId, target: Target) {
        let heard = self.plant.unheard != Some(Unheard::Cancels);
        let cancel = Cancel { at: self.simulation.now(), by: "ann".into() };
        let done = if heard {
            self.simulation.order(|core, _| core.cancel(action, cancel)).unwrap().is_ok()
        } else {
            true
        };
        if done {
            self.cancels.push((self.simulation.truly(), target));
        }
    }

    fn arm(&mut self, name: &str) {
        let setting = policies(self.setting);
        let Some(policy) = setting.policies.iter().find(|policy| *policy.name == *name).cloned() else {
            return;
        };
        let from = self.simulation.truly();
        let armed = self.simulation.order(|core, now| {
            let previews = core.policy_reasons(now).previews;
            let code = previews.iter().find(|preview| *preview.policy == *name).unwrap().code.clone();
            core.arm(name, &code, "ann".into(), now)
        });
        if let Ok(arming) = armed.unwrap() {
            let mut before = self.armed.iter_mut().filter(|armed| *armed.policy.name == *name);
            before.by_ref().filter(|armed| armed.until.is_none()).for_each(|armed| armed.until = Some(from));
            let acknowledged = arming.acknowledged;
            self.armed.push(Armed { policy, safety: setting.safety, from, until: None, acknowledged });
        }
    }
}

pub fn action_of(notice: &Notice) -> Option<ActionId> {
    let (_, id) = notice.details.iter().find(|(key, _)| &**key == "action")?;
    Some(ActionId::from_text(id.as_str()))
}

/// In which zone people look at the clock.
pub fn local(at: Time) -> jiff::Zoned {
    at.to_jiff().unwrap().to_zoned(zone())
}
