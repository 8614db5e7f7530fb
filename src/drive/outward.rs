//! Who outside hears of us beside the receivers: Alertmanagers that keep every alert, and a dead-man switch.
//!
//! It must never hold up the loop: both live on what was committed, as readers do.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    alertmanager::{Alertmanagers, Member},
    dead_man,
};
use crate::{
    clock::Clock,
    model::{Meter, View},
    notify::DeadMan,
    store::StoreError,
};

/// As configured; a reload replaces it whole.
#[derive(Debug, Clone, Default)]
pub struct Outward {
    pub alertmanagers: Vec<Arc<Member>>,
    pub dead_man: Option<Arc<DeadMan>>,
}

/// What whoever tells the outside needs.
#[derive(Clone)]
pub struct Teller {
    pub views: watch::Receiver<Arc<View>>,
    pub outward: watch::Receiver<Arc<Outward>>,
    pub clock: Clock,
    pub meter: Arc<dyn Meter>,
}

impl Teller {
    /// Until stopped; what is under way then is let go of: it will be said again.
    pub(super) fn start(self, tasks: &mut JoinSet<Result<(), StoreError>>, stop: &CancellationToken) {
        let (pinging, pushing, stop, stopped) = (self.clone(), self, stop.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = Alertmanagers::new(pushing).run() => {}
            }
            Ok(())
        });
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stopped.cancelled() => {}
                () = dead_man::run(pinging) => {}
            }
            Ok(())
        });
    }
}
