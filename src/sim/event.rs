//! What can happen in the simulated account, and what it does to it.
//!
//! It must never do anything at random: all chance is in the script.

use std::time::Duration;

use super::{
    resource::{Disk, Machine, Spec, VolumeSpec},
    truth::Passage,
    world::{Due, Owner, World},
};
use crate::model::{DeploymentId, Status, TeamId, Time, Usd, VolumeId, VolumeStatus};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Has no effect when the team's balance is spent. The id of an ended deployment may be used again.
    Deploy(Box<Spec>),
    /// The provider takes SPOT capacity back: `terminated-provider`.
    Reclaim(DeploymentId),
    /// The provider ends whatever it is, DEDICATED too: `terminated-provider`.
    ProviderStop(DeploymentId),
    UserTerminate(DeploymentId),
    Fail(DeploymentId),
    /// `stopped`: holds the disk and bills.
    Stop(DeploymentId),
    /// Any status, unknown ones too; `running` brings an ended one back (FAULTS 20).
    SetStatus(DeploymentId, String),
    ChangeRate(DeploymentId, Usd),
    Rename(DeploymentId, String),
    /// Another team has it from now on; the first one goes on paying.
    Move(DeploymentId, TeamId),
    TopUp(TeamId, Usd),
    /// Something that no answer shows takes so much from the balance.
    Debit(TeamId, Usd),
    /// `totalCost` is corrected downwards and the balance gets it back (FAULTS 22).
    Refund(DeploymentId, Usd),
    AddVolume(Box<VolumeSpec>),
    AttachVolume(VolumeId, DeploymentId),
    DetachVolume(VolumeId),
    FillVolume(VolumeId, u64),
    DeleteVolume(VolumeId),
    /// Every call is 401 from here on.
    RevokeKey,
    RestoreKey,
    /// The key's owner leaves the team: it is missing from all answers.
    HideTeam(TeamId),
    ShowTeam(TeamId),
    /// Other clients behind the same address use up calls of the running window (FAULTS 13).
    OthersCall(u32),
}

impl World {
    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Deploy(spec) => self.create_machine(*spec),
            Event::Reclaim(id) => {
                let spot = |m: &Machine| m.spec.instance_type == "SPOT";
                if let Some(i) = self.machine(&id).filter(|i| self.machines.get(*i).is_some_and(spot)) {
                    self.end_machine(i, Status::TerminatedProvider);
                }
            }
            Event::ProviderStop(id) => self.end_by_id(&id, Status::TerminatedProvider),
            Event::UserTerminate(id) => self.end_by_id(&id, Status::Terminated),
            Event::Fail(id) => self.end_by_id(&id, Status::Failed),
            Event::Stop(id) => {
                if let Some(i) = self.machine(&id).filter(|i| self.is_live(*i)) {
                    self.set_status(i, Status::Stopped);
                }
            }
            Event::SetStatus(id, status) => {
                self.force_status(&id, Status::from(std::sync::Arc::from(status)))
            }
            Event::ChangeRate(id, rate) => self.change_rate(&id, rate),
            Event::Rename(id, name) => {
                if let Some(m) = self.machine(&id).and_then(|i| self.machines.get_mut(i)) {
                    m.spec.name = name;
                    m.json = None;
                }
            }
            Event::Move(id, team) => {
                if let (Some(m), Some(at)) = (self.machine(&id), self.team_index(&team))
                    && let Some(m) = self.machines.get_mut(m)
                {
                    (m.team, m.spec.team, m.json) = (at, team, None);
                }
            }
            Event::TopUp(team, amount) => {
                if let Some(team) = self.team_index(&team) {
                    self.top_up(team, amount);
                }
            }
            Event::Debit(team, amount) => {
                if let Some(team) = self.team_index(&team) {
                    self.top_up(team, Usd::ZERO.saturating_sub(amount));
                }
            }
            Event::Refund(id, amount) => self.refund(&id, amount),
            Event::AddVolume(spec) => self.create_disk(*spec),
            Event::AttachVolume(volume, id) => self.attach(&volume, &id),
            Event::DetachVolume(volume) => self.with_disk(&volume, |disk, now| disk.detach(now)),
            Event::FillVolume(volume, bytes) => {
                self.with_disk(&volume, |disk, _| disk.spec.used_bytes = bytes)
            }
            Event::DeleteVolume(volume) => {
                if let Some(i) = self.disk_of.get(&volume).copied() {
                    self.delete_disk(i);
                }
            }
            Event::RevokeKey => self.key_revoked = true,
            Event::RestoreKey => self.key_revoked = false,
            Event::HideTeam(team) => self.hide(&team, true),
            Event::ShowTeam(team) => self.hide(&team, false),
            Event::OthersCall(calls) => self.calls.spend(self.now, calls),
        }
    }

    fn create_machine(&mut self, mut spec: Spec) {
        let (Some(team), Some(id)) = (self.team_index(&spec.team), spec.id.take()) else { return };
        let Some(purse) = self.teams.get(team).map(|t| t.purse) else { return };
        if self.ledger.accrued_balance(purse, self.now) <= Usd::ZERO {
            return;
        }
        let index = self.machines.len();
        if let Some(old) = self.machine_of.insert(id.clone(), index) {
            self.end_machine(old, Status::Terminated);
            if let Some(old) = self.machines.get_mut(old) {
                old.superseded = true;
            }
        }
        let (meter, boot) = (self.ledger.open(purse, spec.debited(), self.now), spec.boot);
        self.machines.push(Machine {
            id,
            team,
            payer: team,
            spec,
            status: Status::Deploying,
            created_at: self.now,
            started_at: None,
            stopped_at: None,
            meter,
            superseded: false,
            json: None,
        });
        self.set_status(index, Status::Deploying);
        self.start_cycles(meter, Owner::Machine(index));
        self.refigure(team);
        if boot == Duration::ZERO {
            self.booted(index);
        } else {
            self.schedule(self.now.plus(boot), Due::Booted(index));
        }
    }

    pub(super) fn booted(&mut self, index: usize) {
        let now = self.now;
        if let Some(m) = self.machines.get_mut(index).filter(|m| m.status == Status::Deploying) {
            m.started_at = Some(now);
            self.set_status(index, Status::Running);
        }
    }

    fn end_by_id(&mut self, id: &DeploymentId, status: Status) {
        if let Some(i) = self.machine(id) {
            self.end_machine(i, status);
        }
    }

    /// Charges the remainder, detaches the volumes, keeps the record. What has ended stays as it is.
    pub(super) fn end_machine(&mut self, index: usize, status: Status) {
        let now = self.now;
        let Some(m) = self.machines.get_mut(index).filter(|m| m.stopped_at.is_none()) else { return };
        m.stopped_at = Some(now);
        let (meter, team, id) = (m.meter, m.payer, m.id.clone());
        self.set_status(index, status);
        if self.ledger.is_open(meter) {
            self.ledger.close(meter, now);
            self.refigure(team);
            self.charged(team);
        }
        for disk in self.disks.iter_mut().filter(|d| d.attached.contains(&id)) {
            disk.detach(now);
            disk.changed(now);
        }
    }

    pub(super) fn set_status(&mut self, index: usize, status: Status) {
        let now = self.now;
        if let Some(m) = self.machines.get_mut(index) {
            self.passages.push(Passage { at: now, id: m.id.clone(), to: status.clone() });
            m.status = status;
            m.json = None;
        }
    }

    fn force_status(&mut self, id: &DeploymentId, status: Status) {
        let Some(index) = self.machine(id) else { return };
        if status.is_ended() {
            return self.end_machine(index, status);
        }
        let Some(m) = self.machines.get_mut(index) else { return };
        let (meter, team, rate) = (m.meter, m.payer, m.spec.debited());
        if m.stopped_at.take().is_some() {
            self.ledger.reopen(meter, rate, self.now);
            self.start_cycles(meter, Owner::Machine(index));
            self.refigure(team);
        }
        self.set_status(index, status);
    }

    fn change_rate(&mut self, id: &DeploymentId, rate: Usd) {
        let Some(index) = self.machine(id).filter(|i| self.is_live(*i)) else { return };
        let Some(m) = self.machines.get_mut(index) else { return };
        m.spec.rate = rate;
        m.json = None;
        let (meter, team, debited) = (m.meter, m.payer, m.spec.debited());
        self.ledger.set_rate(meter, debited, self.now);
        self.refigure(team);
    }

    fn refund(&mut self, id: &DeploymentId, amount: Usd) {
        let Some(index) = self.machine(id) else { return };
        let Some(m) = self.machines.get_mut(index) else { return };
        m.json = None;
        let (meter, team) = (m.meter, m.payer);
        self.ledger.refund(meter, amount, self.now);
        self.refigure(team);
    }

    fn create_disk(&mut self, mut spec: VolumeSpec) {
        let (Some(team), Some(id)) = (self.team_index(&spec.team), spec.id.take()) else { return };
        let Some(purse) = self.teams.get(team).map(|t| t.purse) else { return };
        if self.ledger.accrued_balance(purse, self.now) <= Usd::ZERO || self.disk_of.contains_key(&id) {
            return;
        }
        let (index, meter) = (self.disks.len(), self.ledger.open(purse, spec.rate, self.now));
        self.disk_of.insert(id.clone(), index);
        let (target, used_bytes) = (spec.attach_to.take(), spec.used_bytes);
        self.disks.push(Disk {
            volume_id: format!("vol-{id}"),
            id: id.clone(),
            team,
            spec,
            status: VolumeStatus::Available,
            attached: Vec::new(),
            created_at: self.now,
            attached_at: None,
            detached_at: None,
            priced_at: self.now,
            meter,
            past: vec![(self.now, VolumeStatus::Available, used_bytes)],
            json: None,
        });
        self.start_cycles(meter, Owner::Disk(index));
        self.refigure(team);
        if let Some(target) = target {
            self.attach(&id, &target);
        }
    }

    fn attach(&mut self, volume: &VolumeId, id: &DeploymentId) {
        if self.machine(id).is_some_and(|i| self.is_live(i)) {
            self.with_disk(volume, |disk, now| {
                disk.attached = vec![id.clone()];
                disk.status = VolumeStatus::Attached;
                disk.attached_at = Some(now);
            });
        }
    }

    pub(super) fn delete_disk(&mut self, index: usize) {
        let now = self.now;
        let Some(disk) = self.disks.get_mut(index).filter(|d| d.status != VolumeStatus::Deleted) else {
            return;
        };
        disk.detach(now);
        disk.status = VolumeStatus::Deleted;
        disk.changed(now);
        let (meter, team) = (disk.meter, disk.team);
        if self.ledger.is_open(meter) {
            self.ledger.close(meter, now);
            self.refigure(team);
            self.charged(team);
        }
    }

    /// A deleted volume does not change any more.
    fn with_disk(&mut self, id: &VolumeId, change: impl FnOnce(&mut Disk, Time)) {
        let now = self.now;
        let disk = self.disk_of.get(id).and_then(|i| self.disks.get_mut(*i));
        if let Some(disk) = disk.filter(|d| d.status != VolumeStatus::Deleted) {
            change(disk, now);
            disk.changed(now);
        }
    }

    fn hide(&mut self, team: &TeamId, hidden: bool) {
        if let Some(t) = self.teams.iter_mut().find(|t| t.id == *team) {
            t.hidden = hidden;
        }
    }

    pub(super) fn machine(&self, id: &DeploymentId) -> Option<usize> {
        self.machine_of.get(id).copied()
    }

    fn is_live(&self, index: usize) -> bool {
        self.machines.get(index).is_some_and(|m| m.stopped_at.is_none())
    }
}

impl Disk {
    fn detach(&mut self, now: Time) {
        if !self.attached.is_empty() {
            self.attached.clear();
            self.status = VolumeStatus::Available;
            self.detached_at = Some(now);
        }
    }
}
