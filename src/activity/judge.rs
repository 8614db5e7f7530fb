//! Measured values → busy, idle or unknown.
//!
//! It must never say idle while one GPU is unmeasured, or by a value that cannot be one.

use crate::model::{Reading, Unit};

/// What the values mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    pub busy_above: f64,
    pub unit: Unit,
    /// Each value is one GPU's, so that fewer values than GPUs leave some unmeasured.
    pub per_gpu: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub reading: Reading,
    /// Of the busiest GPU.
    pub utilization_permille: Option<u16>,
}

impl Measured {
    pub fn unknown(why: String) -> Self {
        Self { reading: Reading::Unknown(why.into()), utilization_permille: None }
    }
}

/// The busiest counts. One that is busy proves it; idle is said only when every value says so.
pub(super) fn judge(values: &[f64], scale: &Scale, gpus: u32) -> Measured {
    let possible = |value: &&f64| (0.0..=scale.unit.largest()).contains(*value);
    let busiest = values.iter().filter(possible).copied().reduce(f64::max);
    let Some(busiest) = busiest else { return Measured::unknown("it gives no value that can be one".into()) };
    let missing = usize::try_from(gpus).unwrap_or(usize::MAX).saturating_sub(values.len());
    let reading = if busiest > scale.busy_above {
        Reading::Busy
    } else if !values.iter().all(|value| possible(&value)) {
        Reading::Unknown("one of its values cannot be one".into())
    } else if scale.per_gpu && missing > 0 {
        Reading::Unknown(format!("{missing} of {gpus} GPUs are not measured").into())
    } else {
        Reading::Idle
    };
    Measured { reading, utilization_permille: permille(busiest, scale.unit) }
}

fn permille(value: f64, unit: Unit) -> Option<u16> {
    let permille = match unit {
        Unit::Percent => value * 10.0,
        Unit::Ratio => value * 1_000.0,
        Unit::Other => return None,
    };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 1,000, as the unit bounds it"
    )]
    Some(permille.round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[f64], unit: Unit, gpus: u32) -> (&'static str, Option<u16>) {
        let busy_above = unit.busy_above().unwrap_or(5.0);
        let measured = judge(values, &Scale { busy_above, unit, per_gpu: true }, gpus);
        let word = match measured.reading {
            Reading::Busy => "busy",
            Reading::Idle => "idle",
            Reading::Unknown(_) => "unknown",
        };
        (word, measured.utilization_permille)
    }

    #[test]
    fn fault_72_idle_is_said_only_when_every_gpu_says_so() {
        for (values, unit, gpus, expected) in [
            (&[0.0, 3.0][..], Unit::Percent, 2, ("idle", Some(30))),
            (&[5.0, 0.0], Unit::Percent, 2, ("idle", Some(50))),
            (&[0.0, 97.0], Unit::Percent, 2, ("busy", Some(970))),
            (&[0.0], Unit::Percent, 2, ("unknown", Some(0))),
            (&[0.0, 0.0, 0.0], Unit::Percent, 2, ("idle", Some(0))),
            (&[0.0, f64::NAN], Unit::Percent, 2, ("unknown", Some(0))),
            (&[97.0, f64::NAN], Unit::Percent, 2, ("busy", Some(970))),
            (&[f64::NAN], Unit::Percent, 1, ("unknown", None)),
            (&[f64::INFINITY, 0.0], Unit::Percent, 2, ("unknown", Some(0))),
            (&[-1.0, 0.0], Unit::Percent, 2, ("unknown", Some(0))),
            (&[9.223372036854776e18, 0.0], Unit::Percent, 2, ("unknown", Some(0))),
            (&[2_147_483_632.0], Unit::Percent, 1, ("unknown", None)),
            (&[0.04], Unit::Ratio, 1, ("idle", Some(40))),
            (&[0.06], Unit::Ratio, 1, ("busy", Some(60))),
            (&[1.5], Unit::Ratio, 1, ("unknown", None)),
            (&[1e9], Unit::Other, 1, ("busy", None)),
            (&[], Unit::Percent, 1, ("unknown", None)),
        ] {
            assert_eq!(said(values, unit, gpus), expected, "{values:?} of {gpus} GPUs, {unit:?}");
        }
    }
}
