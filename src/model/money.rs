//! Money as integer nano-dollars.
//!
//! It must never do arithmetic in floating point: a JSON number is rounded once, at decode, and is an integer ever after.

use std::{fmt, iter::Sum, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// US dollars in nano-dollars (1 USD = 1 credit = 10⁹). Arithmetic saturates: no amount of hostile input can wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(i64);

/// The largest amount accepted from outside, in dollars. Above it an `f64` no longer holds nano-dollars to the cent.
const USD_MAX: f64 = 1_000_000_000.0;

impl Usd {
    pub const ZERO: Self = Self(0);

    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    pub const fn from_cents(cents: i64) -> Self {
        Self(cents.saturating_mul(10_000_000))
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Dollars as they stand in JSON or TOML, rounded to the nearest nano-dollar; `None` when not finite or beyond ±10⁹ $.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        if !dollars.is_finite() || dollars.abs() > USD_MAX {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, reason = "bounded to ±10¹⁸ above, which fits an i64")]
        Some(Self((dollars * 1e9).round() as i64))
    }

    /// For metrics, charts and other places that are read, never added up.
    #[allow(clippy::cast_precision_loss, reason = "an approximation for display")]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// What an hourly rate costs over a length of time, rounded once, half away from zero.
    pub fn per_hour_for(self, length: Duration) -> Self {
        const HOUR_MS: i128 = 3_600_000;
        let length_ms = i128::try_from(length.as_millis()).unwrap_or(i128::MAX / HOUR_MS);
        let product = i128::from(self.0).saturating_mul(length_ms);
        let half = if product < 0 { -HOUR_MS / 2 } else { HOUR_MS / 2 };
        let rounded = product.saturating_add(half) / HOUR_MS;
        Self(i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX }))
    }

    /// How long an amount lasts at an hourly rate; `None` when nothing is spent.
    pub fn lasts_at(self, per_hour: Self) -> Option<Duration> {
        if per_hour.0 <= 0 {
            return None;
        }
        let ms = i128::from(self.0.max(0)).saturating_mul(3_600_000) / i128::from(per_hour.0);
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
    }

    /// The exact decimal, as the JSON API gives money: `"12.5"`, `"0.0137"`.
    pub fn to_decimal(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, frac) = (self.0.unsigned_abs() / 1_000_000_000, self.0.unsigned_abs() % 1_000_000_000);
        if frac == 0 {
            return format!("{sign}{whole}");
        }
        let digits = format!("{frac:09}");
        format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// What a person reads: `$1.46`, `-$0.05`; four digits for amounts under ten cents that are not whole cents (`$0.0137`).
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let text = if nanos < 100_000_000 && !nanos.is_multiple_of(10_000_000) {
            let units = nanos.saturating_add(50_000) / 100_000;
            format!("{sign}${}.{:04}", units / 10_000, units % 10_000)
        } else {
            let cents = nanos.saturating_add(5_000_000) / 10_000_000;
            format!("{sign}${}.{:02}", cents / 100, cents % 100)
        };
        f.pad(&text)
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::saturating_add)
    }
}

/// Persisted as nano-dollars. The API's dollars are read by [`Usd::deserialize_dollars`].
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self)
    }
}

impl Usd {
    /// Dollars from a JSON or TOML number, for `#[serde(deserialize_with = "Usd::deserialize_dollars")]`.
    /// A string, null, or a number that is negative or absurd is an error: money is rejected, never defaulted (FAULTS 3).
    pub fn deserialize_dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let dollars = f64::deserialize(deserializer)?;
        match Self::from_dollars(dollars) {
            Some(usd) if usd.0 >= 0 => Ok(usd),
            Some(_) => Err(de::Error::custom("a negative amount of money")),
            None => Err(de::Error::custom("not a believable amount of money")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_round_once_to_nanos() {
        assert_eq!(Usd::from_dollars(0.0137), Some(Usd::from_nanos(13_700_000)));
        assert_eq!(Usd::from_dollars(f64::INFINITY), None);
        assert_eq!(Usd::from_dollars(1e10), None);
    }

    #[test]
    fn a_rate_over_time_is_rounded_half_away_from_zero() {
        assert_eq!(Usd::from_nanos(1).per_hour_for(Duration::from_secs(1_800)), Usd::from_nanos(1));
        assert_eq!(Usd::from_nanos(1).per_hour_for(Duration::from_secs(1_799)), Usd::ZERO);
        assert_eq!(Usd::from_cents(50).per_hour_for(Duration::from_secs(5_400)), Usd::from_cents(75));
        assert_eq!(Usd::from_nanos(i64::MAX).per_hour_for(Duration::MAX), Usd::from_nanos(i64::MAX));
    }

    #[test]
    fn a_balance_lasts_until_it_is_spent() {
        assert_eq!(Usd::from_cents(300).lasts_at(Usd::from_cents(200)), Some(Duration::from_secs(5_400)));
        assert_eq!(Usd::from_cents(-1).lasts_at(Usd::from_cents(200)), Some(Duration::ZERO));
        assert_eq!(Usd::from_cents(300).lasts_at(Usd::ZERO), None);
    }

    #[test]
    fn people_read_cents_and_machines_read_the_exact_decimal() {
        assert_eq!(Usd::from_cents(146).to_string(), "$1.46");
        assert_eq!(Usd::from_nanos(13_700_000).to_string(), "$0.0137");
        assert_eq!(Usd::from_cents(-5).to_string(), "-$0.05");
        assert_eq!(Usd::from_nanos(13_700_000).to_decimal(), "0.0137");
        assert_eq!(Usd::from_cents(-150).to_decimal(), "-1.5");
        assert_eq!(Usd::from_cents(300).to_decimal(), "3");
    }
}
