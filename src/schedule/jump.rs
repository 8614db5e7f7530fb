//! Tells a machine that slept and a wall clock that was set from time that merely passed (FAULTS 44, 45).
//!
//! It must never read a clock: the driver hands in what three of them said.

use std::time::Duration;

use crate::model::Time;

/// Below this a difference is scheduling noise between three clock readings, or NTP slewing.
const TOLERANCE: Duration = Duration::from_secs(2);

/// Three clocks, read one right after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Stands still while the machine is suspended.
    pub monotonic: Duration,
    /// Goes on while the machine is suspended.
    pub boottime: Duration,
    /// May be set to anything.
    pub wall: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// The machine slept: poll at once, and start idle windows anew.
    Suspended(Duration),
    /// The wall clock was set by so many milliseconds, negative when back: every waiting time must be computed again.
    Stepped(i64),
}

/// Compares each sample with the one before it, so that slow drift never adds up to a jump.
#[derive(Debug, Clone)]
pub struct JumpDetector {
    last: Sample,
    tolerance: Duration,
}

impl JumpDetector {
    /// `speed` is the clock's: a clock that runs faster magnifies the noise between its readings.
    pub fn new(first: Sample, speed: u32) -> Self {
        Self { last: first, tolerance: TOLERANCE.saturating_mul(speed.max(1)) }
    }

    /// What happened since the last sample; a machine that sleeps and wakes to a clock set anew gives both.
    pub fn observe(&mut self, sample: Sample) -> Vec<Jump> {
        let last = std::mem::replace(&mut self.last, sample);
        let awake = sample.monotonic.saturating_sub(last.monotonic);
        let passed = sample.boottime.saturating_sub(last.boottime).max(awake);
        let mut jumps = Vec::new();
        let slept = passed.saturating_sub(awake);
        if slept > self.tolerance {
            jumps.push(Jump::Suspended(slept));
        }
        let passed_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let stepped_ms = sample.wall.millis().saturating_sub(last.wall.millis()).saturating_sub(passed_ms);
        if u128::from(stepped_ms.unsigned_abs()) > self.tolerance.as_millis() {
            jumps.push(Jump::Stepped(stepped_ms));
        }
        jumps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Sample = Sample {
        monotonic: Duration::from_secs(100),
        boottime: Duration::from_secs(100),
        wall: Time::from_secs(1_800_000_000),
    };

    fn after(awake_secs: u64, slept_secs: u64, stepped_secs: i64) -> Vec<Jump> {
        let passed = Duration::from_secs(awake_secs + slept_secs);
        JumpDetector::new(START, 1).observe(Sample {
            monotonic: START.monotonic + Duration::from_secs(awake_secs),
            boottime: START.boottime + passed,
            wall: Time::from_millis(START.wall.plus(passed).millis() + stepped_secs * 1_000),
        })
    }

    #[test]
    fn time_that_merely_passes_is_no_jump() {
        assert_eq!(after(60, 0, 0), []);
        assert_eq!(after(86_400, 0, 1), [], "a second of slewing");
    }

    #[test]
    fn fault_44_a_clock_set_forward_back_or_to_1970_is_a_step_and_no_suspension() {
        assert_eq!(after(60, 0, 3_600), [Jump::Stepped(3_600_000)]);
        assert_eq!(after(60, 0, -3_600), [Jump::Stepped(-3_600_000)]);
        let mut detector = JumpDetector::new(START, 1);
        let jumps = detector.observe(Sample { wall: Time::EPOCH, ..START });
        assert_eq!(jumps, [Jump::Stepped(-1_800_000_000_000)]);
        let jumps = detector.observe(Sample { wall: Time::EPOCH, ..START });
        assert_eq!(jumps, [], "told once, not at every sample after it");
    }

    #[test]
    fn fault_45_eight_hours_of_suspension_are_no_step() {
        assert_eq!(after(60, 28_800, 0), [Jump::Suspended(Duration::from_secs(28_800))]);
    }

    #[test]
    fn fault_45_a_machine_that_wakes_to_a_clock_set_anew_tells_both() {
        assert_eq!(after(1, 100, -50), [Jump::Suspended(Duration::from_secs(100)), Jump::Stepped(-50_000)]);
    }

    #[test]
    fn a_fast_clock_needs_a_larger_jump() {
        let late = Sample { wall: START.wall.plus(Duration::from_secs(60)), ..START };
        assert_eq!(JumpDetector::new(START, 1).observe(late), [Jump::Stepped(60_000)]);
        assert_eq!(JumpDetector::new(START, 3_600).observe(late), []);
    }

    #[test]
    fn absurd_clocks_do_not_panic() {
        let mut detector = JumpDetector::new(START, u32::MAX);
        for wall in [i64::MIN, i64::MAX, 0] {
            let wall = Time::from_millis(wall);
            let _jumps =
                detector.observe(Sample { monotonic: Duration::MAX, boottime: Duration::ZERO, wall });
            let _jumps =
                detector.observe(Sample { monotonic: Duration::ZERO, boottime: Duration::MAX, wall });
        }
    }
}
