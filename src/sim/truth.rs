//! What is really so in the simulated account, for oracles: balances, statuses, costs at any time, whatever the answers said.
//!
//! It must never change anything.

use std::collections::BTreeMap;

use super::{
    ledger::{MeterId, PurseId},
    resource::{Disk, Machine},
    world::World,
};
use crate::model::{DeploymentId, Status, TeamId, Time, Usd, VolumeId, VolumeStatus};

/// A deployment took on a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    pub at: Time,
    pub id: DeploymentId,
    pub to: Status,
}

/// What a deployment is, beyond its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub created_at: Time,
    pub name: String,
    pub team: TeamId,
    pub status: Status,
    pub rate: Usd,
}

/// One deployment that there was: an id that is used again is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub id: DeploymentId,
    pub team: TeamId,
    pub instance_type: String,
    /// Every status with its beginning; the first is `deploying`.
    pub statuses: Vec<(Time, Status)>,
    /// Every rate with its beginning; zero once it has ended.
    pub rates: Vec<(Time, Usd)>,
}

/// One volume that there was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeLife {
    pub id: VolumeId,
    pub team: TeamId,
    pub size_gb: u32,
    /// Every status and used bytes with their beginning.
    pub states: Vec<(Time, VolumeStatus, u64)>,
}

impl World {
    pub fn now(&self) -> Time {
        self.now
    }

    /// In the order of their creation; the first is the key's current one.
    pub fn teams(&self) -> Vec<TeamId> {
        self.teams.iter().map(|t| t.id.clone()).collect()
    }

    /// As the API shows it: stepped by deductions.
    pub fn balance(&self, team: &TeamId) -> Usd {
        self.purse(team).map_or(Usd::ZERO, |p| self.ledger.balance(p))
    }

    /// Every balance that the API has shown or would have, with its beginning.
    pub fn balances(&self, team: &TeamId) -> &[(Time, Usd)] {
        self.purse(team).map_or(&[], |p| self.ledger.balances(p))
    }

    /// The balance as the API showed it then.
    pub fn balance_at(&self, team: &TeamId, at: Time) -> Option<Usd> {
        let balances = self.balances(team);
        let after = balances.partition_point(|(t, _)| *t <= at);
        after.checked_sub(1).and_then(|i| balances.get(i)).map(|(_, usd)| *usd)
    }

    /// What was really left then: payments less use, deducted or not.
    pub fn true_balance_at(&self, team: &TeamId, at: Time) -> Usd {
        self.purse(team).map_or(Usd::ZERO, |p| self.ledger.accrued_balance_at(p, at))
    }

    /// Payments with their times; the first is the initial balance.
    pub fn paid_in(&self, team: &TeamId) -> &[(Time, Usd)] {
        self.purse(team).map_or(&[], |p| self.ledger.paid_in(p))
    }

    /// Σ of what was deducted for everything the team ever had.
    pub fn deducted(&self, team: &TeamId) -> Usd {
        self.purse(team).map_or(Usd::ZERO, |p| self.ledger.charged_to(p))
    }

    /// Σ rates of what bills now, deployments and volumes, per hour.
    pub fn burn(&self, team: &TeamId) -> Usd {
        self.purse(team).map_or(Usd::ZERO, |p| self.ledger.burn(p))
    }

    /// When the balance will be spent, if nothing changes.
    pub fn empties_at(&self, team: &TeamId) -> Option<Time> {
        self.teams.iter().find(|t| t.id == *team).and_then(|t| t.empties_at)
    }

    /// Every time that a team's balance was spent and everything of it ended.
    pub fn emptied(&self) -> &[(Time, TeamId)] {
        &self.emptied
    }

    pub fn deployments(&self) -> impl Iterator<Item = (&DeploymentId, &Status)> {
        self.machines.iter().filter(|m| !m.superseded).map(|m| (&m.id, &m.status))
    }

    pub fn status(&self, id: &DeploymentId) -> Option<&Status> {
        self.machine(id).and_then(|i| self.machines.get(i)).map(|m| &m.status)
    }

    pub fn status_at(&self, id: &DeploymentId, at: Time) -> Option<&Status> {
        let before = self.passages.partition_point(|p| p.at <= at);
        self.passages.iter().take(before).rev().find(|p| p.id == *id).map(|p| &p.to)
    }

    /// Every change of a status, in order of time.
    pub fn passages(&self) -> &[Passage] {
        &self.passages
    }

    /// Every deployment that there ever was, in the order of their creation.
    pub fn lives(&self) -> Vec<Life> {
        let life = |m: &Machine| Life {
            id: m.id.clone(),
            team: m.spec.team.clone(),
            instance_type: m.spec.instance_type.clone(),
            statuses: Vec::new(),
            rates: self.ledger.rates(m.meter).to_vec(),
        };
        let mut lives: Vec<Life> = self.machines.iter().map(life).collect();
        // A new machine's first passage is to `deploying`, and nothing is deployed a second time.
        let (mut born, mut current) = (0, BTreeMap::new());
        for Passage { at, id, to } in &self.passages {
            if *to == Status::Deploying {
                current.insert(id, born);
                born += 1;
            }
            if let Some(life) = current.get(id).and_then(|index| lives.get_mut(*index)) {
                life.statuses.push((*at, to.clone()));
            }
        }
        lives
    }

    pub fn volume_lives(&self) -> Vec<VolumeLife> {
        let life = |d: &Disk| VolumeLife {
            id: d.id.clone(),
            team: d.spec.team.clone(),
            size_gb: d.spec.size_gb,
            states: d.past.clone(),
        };
        self.disks.iter().map(life).collect()
    }

    /// Σ rates of all that billed, with its beginning.
    pub fn burns(&self, team: &TeamId) -> Vec<(Time, Usd)> {
        self.purse(team).map_or_else(Vec::new, |p| self.ledger.burns(p))
    }

    pub fn name(&self, id: &DeploymentId) -> Option<&str> {
        self.machine(id).and_then(|i| self.machines.get(i)).map(|m| &*m.spec.name)
    }

    pub fn team_of(&self, id: &DeploymentId) -> Option<&TeamId> {
        self.machine(id).and_then(|i| self.machines.get(i)).map(|m| &m.spec.team)
    }

    pub fn identity(&self, id: &DeploymentId) -> Option<Identity> {
        self.machine(id).and_then(|i| self.machines.get(i)).map(|m| Identity {
            created_at: m.created_at,
            name: m.spec.name.clone(),
            team: m.spec.team.clone(),
            status: m.status.clone(),
            rate: m.spec.rate,
        })
    }

    pub fn created_at(&self, id: &DeploymentId) -> Option<Time> {
        self.machine(id).and_then(|i| self.machines.get(i)).map(|m| m.created_at)
    }

    /// `totalCost` as the API shows it: stepped by deductions.
    pub fn cost(&self, id: &DeploymentId) -> Option<Usd> {
        self.machine(id).and_then(|i| self.machines.get(i)).map(|m| self.ledger.charged(m.meter))
    }

    /// What it had really cost by then, deducted or not.
    pub fn true_cost_at(&self, id: &DeploymentId, at: Time) -> Option<Usd> {
        self.meter(id).map(|meter| self.ledger.used_at(meter, at))
    }

    /// Every deployment there ever was, by id and creation, with its team, what was deducted, and what it really cost so far.
    pub fn accounts(&self) -> impl Iterator<Item = (&DeploymentId, Time, &TeamId, Usd, Usd)> {
        self.machines.iter().map(|m| {
            let (charged, used) = (self.ledger.charged(m.meter), self.ledger.used_at(m.meter, self.now));
            (&m.id, m.created_at, &m.spec.team, charged, used)
        })
    }

    pub fn volume_cost(&self, id: &VolumeId) -> Option<Usd> {
        self.disk_of.get(id).and_then(|i| self.disks.get(*i)).map(|d| self.ledger.charged(d.meter))
    }

    fn meter(&self, id: &DeploymentId) -> Option<MeterId> {
        self.machine(id).and_then(|i| self.machines.get(i)).map(|m| m.meter)
    }

    fn purse(&self, team: &TeamId) -> Option<PurseId> {
        self.teams.iter().find(|t| t.id == *team).map(|t| t.purse)
    }
}
