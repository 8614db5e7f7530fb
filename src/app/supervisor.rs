//! What the service manager hears and says: readiness, watchdog, status line, stop, reload.
//!
//! It must never feed the watchdog but for progress that was committed (FAULTS 86).

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    drive::{Control, Heart, Reload},
    model::{Usd, View, humanize},
    signals::Signal,
};

/// Tells systemd, where there is one.
pub struct Supervisor {
    clock: Clock,
    /// When the status line was last written, in ms of monotonic time: it need not be told at every beat.
    told_ms: AtomicI64,
}

impl Supervisor {
    pub fn new(clock: Clock) -> Self {
        Self { clock, told_ms: AtomicI64::new(i64::MIN) }
    }
}

/// The status line is for people: more often than this nobody reads it.
const STATUS_EVERY_MS: i64 = 5_000;

impl Heart for Supervisor {
    fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    fn beat(&self, view: &View) {
        let now_ms = i64::try_from(self.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        let due = self.told_ms.load(Ordering::Relaxed).saturating_add(STATUS_EVERY_MS);
        if now_ms >= due {
            self.told_ms.store(now_ms, Ordering::Relaxed);
            tell(&[NotifyState::Watchdog, NotifyState::Status(&status_line(view))]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// `3 running, $1.46/h, 51h left`; what is not known is not claimed.
pub fn status_line(view: &View) -> String {
    let snapshot = &view.snapshot;
    if !snapshot.fleet_known() {
        return "nothing read yet".to_owned();
    }
    let running = snapshot.deployments.values().filter(|tracked| tracked.is_live()).count();
    let burn: Usd = view.forecasts.values().map(|forecast| forecast.committed).sum();
    let mut line = format!("{running} running, {burn}/h");
    let ends = view.forecasts.iter().filter(|(team, _)| snapshot.teams.contains_key(*team));
    if let Some(end) = ends.filter_map(|(_, forecast)| forecast.end()).min() {
        line.push_str(&format!(", {} left", humanize(end.since(view.at))));
    }
    if !view.firing.is_empty() {
        line.push_str(&format!(", {} alert(s) firing", view.firing.len()));
    }
    line
}

/// Turns signals into orders until the process stops. `load` parses everything before anything is swapped. A daemon that no
/// longer hears stops (FAULTS 83).
pub async fn obey_signals(
    mut signals: mpsc::Receiver<Signal>,
    orders: mpsc::Sender<Control>,
    load: impl Fn() -> Result<Reload, String>,
    clock: Clock,
    stop: CancellationToken,
) {
    let _deaf = stop.clone().drop_guard();
    while let Some(signal) = signals.recv().await {
        let order = match signal {
            Signal::Stop => {
                tracing::info!("stopping; sends under way are finished first");
                tell(&[NotifyState::Stopping]);
                stop.cancel();
                continue;
            }
            Signal::Summary => Control::Summary,
            Signal::Reload => {
                let monotonic_us = i128::try_from(clock.monotonic().as_micros()).unwrap_or(i128::MAX);
                tell(&[NotifyState::Reloading, NotifyState::MonotonicUsec(monotonic_us)]);
                let order = match load() {
                    Ok(reload) => {
                        tracing::info!("configuration reloaded");
                        Control::Reload(Box::new(reload))
                    }
                    Err(why) => {
                        tracing::error!("configuration not reloaded, the old one stays in force:\n{why}");
                        Control::ReloadFailed(Arc::from(why))
                    }
                };
                tell(&[NotifyState::Ready]);
                order
            }
        };
        if orders.send(order).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fault_83_a_reload_that_panics_stops_a_daemon_that_would_be_deaf() {
        let (signals, heard) = mpsc::channel(1);
        let (orders, _control) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let obeying =
            tokio::spawn(obey_signals(heard, orders, || panic!("planted"), Clock::system(), stop.clone()));
        signals.send(Signal::Reload).await.unwrap();
        assert!(obeying.await.unwrap_err().is_panic());
        assert!(stop.is_cancelled());
    }
}
