//! The only file that reads a clock: wall, monotonic and boot time, real or scaled for the demo.
//!
//! It must never be asked by the engine, the model or a test of either: they take time as an argument.
#![allow(clippy::disallowed_methods, reason = "this is the file that the ban points to")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

use crate::model::Time;

/// A clock that may run faster than the world. Cloning is cheap; clones agree.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    System,
    /// From `wall` on, `speed` times as fast as monotonic time since `started`.
    Scaled {
        speed: u32,
        wall: Time,
        started: Duration,
    },
}

impl Clock {
    pub fn system() -> Self {
        Self(Arc::new(Kind::System))
    }

    /// `speed` simulated seconds pass in a real one.
    pub fn scaled(speed: u32) -> Self {
        Self(Arc::new(Kind::Scaled {
            speed: speed.max(1),
            wall: wall_time(),
            started: gettime(ClockId::Monotonic),
        }))
    }

    /// Wall-clock time; may step.
    pub fn now(&self) -> Time {
        match *self.0 {
            Kind::System => wall_time(),
            Kind::Scaled { speed, wall, started } => {
                wall.plus(gettime(ClockId::Monotonic).saturating_sub(started).saturating_mul(speed))
            }
        }
    }

    /// Never steps; stands still while the machine is suspended.
    pub fn monotonic(&self) -> Duration {
        gettime(ClockId::Monotonic).saturating_mul(self.speed())
    }

    /// Never steps; goes on while the machine is suspended. Its lead over `monotonic` grows by each suspension (FAULTS 45).
    pub fn boottime(&self) -> Duration {
        gettime(ClockId::Boottime).saturating_mul(self.speed())
    }

    /// How many simulated seconds a real one holds; 1 but in the demo.
    pub fn speed(&self) -> u32 {
        match *self.0 {
            Kind::System => 1,
            Kind::Scaled { speed, .. } => speed,
        }
    }

    /// Sleeps for a length of this clock's time.
    pub async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length / self.speed()).await;
    }
}

fn wall_time() -> Time {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Time::EPOCH.plus(since),
        Err(before) => Time::EPOCH.minus(before.duration()),
    }
}

fn gettime(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_clock_runs_faster_and_starts_at_the_real_time() {
        let real = Clock::system();
        let fast = Clock::scaled(3_600);
        let (before, start) = (real.now(), fast.now());
        assert!(start.since(before) < Duration::from_secs(3_600), "starts at the real time");
        std::thread::sleep(Duration::from_millis(20));
        assert!(
            fast.now().since(start) >= Duration::from_secs(72),
            "20 ms are 72 s at 3,600 times the speed"
        );
    }
}
