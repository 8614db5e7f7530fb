//! Heartbeats on their way from the HTTP server to the loop: verified, matched to a running deployment, taken once.
//!
//! It must never tell somebody without the secret which deployments there are, nor wait: a full queue is an answer.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, watch};

use super::activity::{Batch, sample};
use crate::{
    activity::{Book, Kind, Message, Rejected, Source},
    clock::Clock,
    model::{DeploymentId, Snapshot, Time, Tracked, View},
    serve::{Beat, Heartbeat, Refused},
};

pub struct Heartbeats {
    sources: watch::Receiver<Arc<Vec<Source>>>,
    views: watch::Receiver<Arc<View>>,
    out: mpsc::Sender<Batch>,
    clock: Clock,
    taken: Mutex<Taken>,
}

struct Taken {
    book: Book,
    last: BTreeMap<DeploymentId, BTreeMap<Arc<str>, Time>>,
}

impl fmt::Debug for Heartbeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heartbeats")
    }
}

impl Heartbeats {
    pub(super) fn new(
        sources: watch::Receiver<Arc<Vec<Source>>>,
        views: watch::Receiver<Arc<View>>,
        out: mpsc::Sender<Batch>,
        clock: Clock,
    ) -> Self {
        let taken = Mutex::new(Taken { book: Book::new(clock.now()), last: BTreeMap::new() });
        Self { sources, views, out, clock, taken }
    }

    /// When a heartbeat of this source was last taken.
    pub(super) fn last(&self, source: &str, deployment: &DeploymentId) -> Option<Time> {
        self.taken().last.get(deployment)?.get(source).copied()
    }

    pub(super) fn forget_all_but(&self, wanted: impl Fn(&DeploymentId) -> bool) {
        let mut taken = self.taken();
        taken.last.retain(|id, _| wanted(id));
        taken.book.keep(wanted);
    }

    /// Nothing that holds this lock can fail between two of its writes.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeat for Heartbeats {
    fn take(&self, beat: &Beat<'_>) -> Result<(), Refused> {
        let Beat { deployment, timestamp, signature, body } = *beat;
        let message = Message { deployment, timestamp, signature, body };
        let (sources, view, now) =
            (self.sources.borrow().clone(), self.views.borrow().clone(), self.clock.now());
        let mut why = Rejected::Forged;
        let mut signed = Vec::new();
        for source in sources.iter() {
            let Kind::Heartbeat { secret, busy_above } = &source.kind else { continue };
            match message.verify(secret, now) {
                Ok(secs) => signed.push((source, *busy_above, secs)),
                Err(Rejected::Skewed) => why = Rejected::Skewed,
                Err(Rejected::Forged | Rejected::Replayed | Rejected::Malformed) => {}
            }
        }
        let Some((_, _, secs)) = signed.first().copied() else { return Err(refused(&why)) };
        let (tracked, team) = find(&view.snapshot, deployment)?;
        let id = &tracked.deployment.id;
        signed.retain(|(source, _, _)| source.watch.watches(tracked, team));
        if signed.is_empty() {
            return Err(Refused::NotFound("no [[activity]] of kind heartbeat with this secret matches it"));
        }
        let batch: Result<Batch, Rejected> = signed
            .iter()
            .map(|(source, busy_above, _)| Ok(sample(source, id, now, message.measured(*busy_above)?)))
            .collect();
        let batch = batch.map_err(|why| refused(&why))?;
        let room = self.out.try_reserve().map_err(|_| Refused::Busy)?;
        let mut taken = self.taken();
        taken.book.enter(id, secs).map_err(|why| refused(&why))?;
        let last = taken.last.entry(id.clone()).or_default();
        last.extend(signed.iter().map(|(source, _, _)| (source.watch.name.clone(), now)));
        room.send(batch);
        Ok(())
    }
}

fn refused(why: &Rejected) -> Refused {
    match why {
        Rejected::Forged | Rejected::Skewed => Refused::Unauthorized(why.to_string()),
        Rejected::Replayed => Refused::Conflict(why.to_string()),
        Rejected::Malformed => Refused::Malformed(why.to_string()),
    }
}

/// By id, else by a name that only one running deployment has: an instance is not told its id when it is created.
fn find<'a>(snapshot: &'a Snapshot, text: &str) -> Result<(&'a Tracked, &'a str), Refused> {
    let running = |tracked: &&Arc<Tracked>| tracked.is_live();
    let by_id = snapshot.deployments.get(&DeploymentId::new(text)).filter(running);
    let mut named = snapshot.deployments.values().filter(running).filter(|t| *t.deployment.name == *text);
    let found = match (by_id, named.next(), named.next()) {
        (Some(tracked), _, _) | (None, Some(tracked), None) => tracked,
        (None, None, _) => return Err(Refused::NotFound("no running deployment has this id or name")),
        (None, Some(_), Some(_)) => {
            return Err(Refused::Conflict(
                "several running deployments have this name; use the id".to_owned(),
            ));
        }
    };
    let team = snapshot.teams.get(&found.deployment.team).map_or("", |team| &*team.name);
    Ok((found, team))
}
