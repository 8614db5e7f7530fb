//! What befalls the machine that the watcher runs on, and what measures the activity of the deployments.
//!
//! It must never restart the watcher: it lives on through a sleep and a clock that is set.

use std::{sync::Arc, time::Duration};

use super::{ORDER, Simulation, SimulationError};
use crate::model::{ActivitySample, ActivitySource, DeploymentId, Reading, Time};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Our wall clock is set so many milliseconds ahead of the true time.
    Clock(i64),
    /// The machine is suspended for so long.
    Sleep(Duration),
}

/// What a source says of a deployment at a true time; `None`: nothing.
pub type Measure = Box<dyn FnMut(&DeploymentId, Time) -> Option<Reading>>;

/// A source, and when it is asked next.
pub(super) struct Activity {
    source: ActivitySource,
    measure: Measure,
    pub(super) due: Time,
}

impl Simulation {
    /// From now on this source measures activity.
    pub fn attend(&mut self, source: ActivitySource, measure: Measure) {
        self.activity = Some(Activity { source, measure, due: self.now() });
        self.attend_again();
    }

    pub(super) fn attend_again(&mut self) {
        let now = self.now();
        if let Some(activity) = &mut self.activity {
            activity.due = now;
            self.core.attend(vec![activity.source.clone()], now);
        }
    }

    /// Asks the source where it is time.
    pub(super) fn measure(&mut self) {
        let (now, truly) = (self.now(), self.truly());
        let Some(activity) = self.activity.as_mut().filter(|activity| activity.due <= now) else {
            return;
        };
        activity.due = now.plus(activity.source.every);
        let watched: Vec<DeploymentId> = self.core.snapshot().activity.keys().cloned().collect();
        for deployment in watched {
            let Some(reading) = (activity.measure)(&deployment, truly) else { continue };
            self.core.absorb_activity(&ActivitySample {
                deployment,
                source: activity.source.name.clone(),
                at: now,
                every: activity.source.every,
                reading,
                utilization_permille: None,
                settings: Arc::clone(&activity.source.settings),
            });
        }
    }

    /// Lets befall what is due by then, in truth; whether anything did.
    pub(super) fn befalls(&mut self, by: Time) -> Result<bool, SimulationError> {
        let Some((at, mishap)) = self.mishaps.get(self.befallen).copied().filter(|(at, _)| *at <= by) else {
            return Ok(false);
        };
        self.befallen += 1;
        self.network.set_true(at.max(self.truly()));
        match mishap {
            Mishap::Clock(ahead_ms) => self.network.set_clock(ahead_ms),
            Mishap::Sleep(length) => self.network.pass(length),
        }
        self.wake_up();
        self.step()?;
        Ok(true)
    }

    /// As live after a jump of the clock: windows begin anew, and everything is asked at once.
    pub(super) fn wake_up(&mut self) {
        let now = self.now();
        self.core.leapt(now);
        self.anchor = now;
        self.past.clear();
        self.due = ORDER.map(|feed| (feed, now)).into();
        if let Some(activity) = &mut self.activity {
            activity.due = now;
        }
    }
}
