//! What people and signals order, done between two steps.
//!
//! It must never say that something is done before it is committed.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Running;
use crate::{
    activity::Source,
    drive::{outbox::Deliver, outward::Outward, poller::Cadence},
    model::{ActionId, ArmError, Arming, Cancel, CancelError, Glob, Grouping, Keep, Policies, Rule, Silence},
};

/// A configuration to put in force at once.
pub struct Reload {
    pub rules: Vec<Rule>,
    pub watched: Vec<Glob>,
    pub grouping: Grouping,
    pub cadence: Cadence,
    pub receivers: Vec<Arc<dyn Deliver>>,
    pub sources: Vec<Source>,
    /// Their own sources are left out: those above hold.
    pub policies: Policies,
    pub outward: Outward,
}

pub enum Control {
    Reload(Box<Reload>),
    ReloadFailed(Arc<str>),
    /// Begin a silence, or replace that of the same id. Its sender has checked it.
    Silence(Silence),
    /// End the silence of this id.
    EndSilence(Arc<str>),
    /// Keep a deployment, or replace the keep of the same id. Its sender has checked it. `false`: there are too many.
    Keep {
        keep: Keep,
        reply: oneshot::Sender<bool>,
    },
    /// End the keep of this id; `false`: none that holds has it.
    EndKeep {
        id: Arc<str>,
        by: Arc<str>,
        reply: oneshot::Sender<bool>,
    },
    /// Stop this action, if it is not too late.
    Cancel {
        action: ActionId,
        cancel: Cancel,
        reply: oneshot::Sender<Result<(), CancelError>>,
    },
    /// Switch a policy from dry run to real. The reply comes after the commit.
    Arm {
        policy: Arc<str>,
        code: Arc<str>,
        by: Arc<str>,
        reply: oneshot::Sender<Result<Arming, ArmError>>,
    },
    /// Switch a policy back to dry run; the reply says whether it was armed, after the commit.
    Disarm {
        policy: Arc<str>,
        by: Arc<str>,
        reply: oneshot::Sender<bool>,
    },
    /// Log a summary of the state.
    Summary,
}

/// Said once what was done is committed.
pub(super) type Reply = Box<dyn FnOnce() + Send>;

impl Running {
    pub(super) fn obey(&mut self, order: Control, stop: &CancellationToken) {
        match order {
            Control::Reload(reload) => {
                let Reload { rules, watched, grouping, cadence, receivers, sources, policies, outward } =
                    *reload;
                self.core.regroup(grouping);
                self.core.reconfigure(rules, watched, cadence.zone.clone());
                self.core.govern(policies);
                // What is late by the new schedule was not late by the old one.
                self.core.resumed(self.clock.now());
                self.cadence.send_replace(Arc::new(cadence));
                self.expect_feeds();
                self.sources.send_replace(Arc::new(sources));
                self.attend();
                self.outward.send_replace(Arc::new(outward));
                self.pumps_stop.cancel();
                self.pumps_stop = stop.child_token();
                self.start_pumps(receivers);
                self.nudge.notify_waiters();
            }
            Control::ReloadFailed(why) => self.core.reconfiguration_failed(why),
            Control::Silence(silence) => {
                let id = silence.id.clone();
                if let Err(error) = self.core.silence(silence, self.clock.now()) {
                    tracing::warn!(%id, "a silence was refused: {error}");
                }
            }
            Control::EndSilence(id) => {
                if !self.core.end_silence(&id, self.clock.now()) {
                    tracing::warn!(%id, "no silence of this id holds or is to come; nothing was ended");
                }
            }
            Control::Keep { keep, reply } => self.keep(keep, reply),
            Control::EndKeep { id, by, reply } => {
                let ended = self.core.end_keep(&id, by, self.clock.now());
                self.answer(reply, ended, ended);
            }
            Control::Cancel { action, cancel, reply } => self.cancel(action, cancel, reply),
            Control::Arm { policy, code, by, reply } => self.arm(&policy, &code, by, reply),
            Control::Disarm { policy, by, reply } => {
                let was_armed = self.core.disarm(&policy, by.clone(), self.clock.now());
                tracing::warn!(%policy, %by, was_armed, "disarmed");
                self.answer(reply, was_armed, true);
            }
            Control::Summary => self.log_summary(),
        }
    }

    fn keep(&mut self, keep: Keep, reply: oneshot::Sender<bool>) {
        let id = keep.id.clone();
        let kept = self.core.keep(keep, self.clock.now());
        if !kept {
            tracing::warn!(%id, "a keep was refused: there are too many");
        }
        self.answer(reply, kept, kept);
    }

    fn cancel(&mut self, action: ActionId, cancel: Cancel, reply: oneshot::Sender<Result<(), CancelError>>) {
        let by = cancel.by.clone();
        let cancelled = self.core.cancel(action.clone(), cancel);
        match &cancelled {
            Ok(()) => tracing::warn!(%action, %by, "cancelled"),
            Err(error) => tracing::warn!(%action, %by, "not cancelled: {error}"),
        }
        self.answer(reply, cancelled, cancelled.is_ok());
    }

    fn arm(
        &mut self,
        policy: &str,
        code: &str,
        by: Arc<str>,
        reply: oneshot::Sender<Result<Arming, ArmError>>,
    ) {
        let armed = self.core.arm(policy, code, by.clone(), self.clock.now());
        match &armed {
            Ok(_) => tracing::warn!(%policy, %by, "armed: from now on it ends what it matches"),
            Err(error) => tracing::warn!(%policy, %by, "not armed: {error}"),
        }
        let done = armed.is_ok();
        self.answer(reply, armed, done);
    }

    /// What is done is said after its commit, a refusal at once.
    fn answer<T: Send + 'static>(&mut self, reply: oneshot::Sender<T>, value: T, done: bool) {
        // Who gave up meanwhile needs no answer.
        let say = move || drop(reply.send(value));
        if done { self.replies.push(Box::new(say)) } else { say() }
    }
}
