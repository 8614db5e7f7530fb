//! The simulated account itself: what is in it, what is due to happen, and time passing.
//!
//! It must never depend on how often it is asked: the same seed, script and times give the same bytes, in one jump or in many.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    calls::Calls,
    event::Event,
    faults::FaultPlan,
    ledger::{Ledger, MeterId},
    resource::{AutoTopUp, Disk, Machine, Spec, Team, VolumeSpec},
    truth::Passage,
};
use crate::model::{DeploymentId, Status, TeamId, Time, Usd, VolumeId};

/// The account's terms; the defaults are what is published or was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Between two deductions, counted from each one's creation.
    pub cycle: Duration,
    /// Before it, DELETE is refused.
    pub minimum_runtime: Duration,
    /// From DELETE until the instance is really gone.
    pub destroy_takes: Duration,
    /// Calls per 15 minutes.
    pub limit: u32,
    /// Whether the list without `teamId` spans all teams, or is the current team's.
    pub unscoped_spans_teams: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            cycle: Duration::from_secs(3_600),
            minimum_runtime: Duration::from_secs(20 * 60),
            destroy_takes: Duration::from_secs(30),
            limit: 250,
            unscoped_spans_teams: true,
        }
    }
}

/// The simulated account. Synchronous; time is an argument.
pub struct World {
    pub faults: FaultPlan,
    pub terms: Terms,
    pub(super) now: Time,
    pub(super) ledger: Ledger,
    pub(super) teams: Vec<Team>,
    pub(super) machines: Vec<Machine>,
    pub(super) machine_of: BTreeMap<DeploymentId, usize>,
    pub(super) disks: Vec<Disk>,
    pub(super) disk_of: BTreeMap<VolumeId, usize>,
    pub(super) key_revoked: bool,
    pub(super) calls: Calls,
    pub(super) passages: Vec<Passage>,
    pub(super) emptied: Vec<(Time, TeamId)>,
    due: BTreeMap<Slot, Due>,
    slots: u64,
    /// When each team's balance ends, if nothing changes.
    empties: BTreeSet<(Time, usize)>,
    owners: BTreeMap<MeterId, (Owner, Slot)>,
    rng: fastrand::Rng,
}

/// When something is due, and in which order among what is due at the same time.
pub(super) type Slot = (Time, u64);

pub(super) enum Due {
    Scripted(Event),
    Charge(MeterId),
    /// A deployment has booted.
    Booted(usize),
    /// A DELETE has done its work.
    Destroyed(usize),
    AutoTopUp(usize),
}

#[derive(Clone, Copy)]
pub(super) enum Owner {
    Machine(usize),
    Disk(usize),
}

impl World {
    pub fn new(seed: u64, start: Time) -> Self {
        Self {
            faults: FaultPlan::default(),
            terms: Terms::default(),
            now: start,
            ledger: Ledger::default(),
            teams: Vec::new(),
            machines: Vec::new(),
            machine_of: BTreeMap::new(),
            disks: Vec::new(),
            disk_of: BTreeMap::new(),
            key_revoked: false,
            calls: Calls::default(),
            passages: Vec::new(),
            emptied: Vec::new(),
            due: BTreeMap::new(),
            slots: 0,
            empties: BTreeSet::new(),
            owners: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// A team, from now on. The first one is the key's current team.
    pub fn add_team(&mut self, name: &str, role: &'static str, balance: Usd) -> TeamId {
        let id = TeamId::new(self.new_id());
        let purse = self.ledger.open_purse(balance, self.now);
        self.teams.push(Team {
            id: id.clone(),
            name: name.to_owned(),
            role,
            purse,
            hidden: false,
            auto: None,
            top_up_pending: false,
            empties_at: None,
        });
        id
    }

    pub fn auto_top_up(&mut self, team: &TeamId, rule: AutoTopUp) {
        if let Some(t) = self.teams.iter_mut().find(|t| t.id == *team) {
            t.auto = Some(rule);
        }
    }

    /// Puts an event on the script. One in the past happens at the next `advance`; one about what does not exist, or has
    /// ended, has no effect.
    pub fn at(&mut self, time: Time, mut event: Event) {
        if let Event::Deploy(spec) = &mut event {
            spec.id.get_or_insert_with(|| DeploymentId::new(self.new_id()));
        }
        if let Event::AddVolume(spec) = &mut event {
            spec.id.get_or_insert_with(|| VolumeId::new(self.new_id()));
        }
        self.schedule(time, Due::Scripted(event));
    }

    /// Scripts a new deployment and says which id it will have.
    pub fn deploy(&mut self, time: Time, mut spec: Spec) -> DeploymentId {
        let id = spec.id.clone().unwrap_or_else(|| DeploymentId::new(self.new_id()));
        spec.id = Some(id.clone());
        self.at(time, Event::Deploy(Box::new(spec)));
        id
    }

    /// Scripts a new volume and says which id it will have.
    pub fn add_volume(&mut self, time: Time, mut spec: VolumeSpec) -> VolumeId {
        let id = spec.id.clone().unwrap_or_else(|| VolumeId::new(self.new_id()));
        spec.id = Some(id.clone());
        self.at(time, Event::AddVolume(Box::new(spec)));
        id
    }

    /// Lets everything happen that is due until `now`, once and in order. Time never runs backwards.
    pub fn advance(&mut self, now: Time) {
        loop {
            let next = self.due.first_key_value().map(|(slot, _)| *slot);
            let empty = self.empties.first().copied();
            match (next, empty) {
                // What is scripted for the very millisecond of exhaustion comes first: a top-up in time saves the team.
                (Some(slot), empty) if slot.0 <= now && empty.is_none_or(|(at, _)| slot.0 <= at) => {
                    if let Some(due) = self.due.remove(&slot) {
                        self.now = self.now.max(slot.0);
                        self.happen(slot, due);
                    }
                }
                (_, Some((at, team))) if at <= now => {
                    self.now = self.now.max(at);
                    self.exhaust(team);
                }
                _ => break,
            }
        }
        self.now = self.now.max(now);
    }

    fn happen(&mut self, slot: Slot, due: Due) {
        match due {
            Due::Scripted(event) => self.apply(event),
            Due::Charge(meter) => self.cycle(meter, slot),
            Due::Booted(machine) => self.booted(machine),
            Due::Destroyed(machine) => self.end_machine(machine, Status::Terminated),
            Due::AutoTopUp(team) => {
                if let Some(t) = self.teams.get_mut(team) {
                    t.top_up_pending = false;
                    if let Some(rule) = t.auto {
                        self.top_up(team, rule.amount);
                    }
                }
            }
        }
    }

    pub(super) fn schedule(&mut self, time: Time, due: Due) -> Slot {
        let slot = (time.max(self.now), self.slots);
        self.slots += 1;
        self.due.insert(slot, due);
        slot
    }

    /// From now on this one is charged in cycles.
    pub(super) fn start_cycles(&mut self, meter: MeterId, owner: Owner) {
        let slot = self.schedule(self.now.plus(self.terms.cycle), Due::Charge(meter));
        self.owners.insert(meter, (owner, slot));
    }

    fn cycle(&mut self, meter: MeterId, slot: Slot) {
        let Some((owner, expected)) = self.owners.get(&meter).copied() else { return };
        if expected != slot || !self.ledger.is_open(meter) {
            return;
        }
        self.ledger.charge(meter, self.now);
        let team = self.forget_rendering(owner);
        self.start_cycles(meter, owner);
        self.charged(team);
    }

    /// After a charge: a saved card, or a person, may notice.
    pub(super) fn charged(&mut self, team: usize) {
        let Some(t) = self.teams.get_mut(team) else { return };
        let Some(rule) = t.auto else { return };
        if !t.top_up_pending && self.ledger.balance(t.purse) < rule.below {
            t.top_up_pending = true;
            self.schedule(self.now.plus(rule.after), Due::AutoTopUp(team));
        }
    }

    pub(super) fn top_up(&mut self, team: usize, amount: Usd) {
        if let Some(t) = self.teams.get(team) {
            self.ledger.pay_in(t.purse, amount, self.now);
            self.refigure(team);
        }
    }

    /// To be called whenever a rate, a payment or what is open has changed: finds anew when the balance ends.
    pub(super) fn refigure(&mut self, team: usize) {
        let Some(t) = self.teams.get_mut(team) else { return };
        if let Some(at) = t.empties_at {
            self.empties.remove(&(at, team));
        }
        t.empties_at = self.ledger.empties_at(t.purse, self.now);
        if let Some(at) = t.empties_at {
            self.empties.insert((at, team));
        }
    }

    /// Nothing left: everything of the team ends, and the disks with it.
    fn exhaust(&mut self, team: usize) {
        let Some(t) = self.teams.get(team) else { return };
        self.emptied.push((self.now, t.id.clone()));
        self.ledger.exhaust(t.purse, self.now);
        for machine in 0..self.machines.len() {
            if self.machines.get(machine).is_some_and(|m| m.payer == team) {
                self.end_machine(machine, Status::Terminated);
            }
        }
        for disk in 0..self.disks.len() {
            if self.disks.get(disk).is_some_and(|d| d.team == team) {
                self.delete_disk(disk);
            }
        }
        self.refigure(team);
        self.charged(team);
    }

    pub(super) fn forget_rendering(&mut self, owner: Owner) -> usize {
        let (json, team): (Option<&mut Option<Arc<str>>>, usize) = match owner {
            Owner::Machine(i) => self.machines.get_mut(i).map_or((None, 0), |m| (Some(&mut m.json), m.payer)),
            Owner::Disk(i) => self.disks.get_mut(i).map_or((None, 0), |d| (Some(&mut d.json), d.team)),
        };
        if let Some(json) = json {
            *json = None;
        }
        team
    }

    pub(super) fn team_index(&self, team: &TeamId) -> Option<usize> {
        self.teams.iter().position(|t| t.id == *team)
    }

    /// As the API's ids look: 24 hexadecimal digits.
    fn new_id(&mut self) -> String {
        format!("{:08x}{:016x}", self.rng.u32(..), self.rng.u64(..))
    }
}
