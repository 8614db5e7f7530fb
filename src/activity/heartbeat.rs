//! What an instance says of itself, signed: HMAC-SHA256 over `timestamp.deployment.body` with a shared secret.
//!
//! It must never say more to somebody without the secret than that, take the same message twice, or compare a signature in a
//! time that tells where it differs.

use std::{collections::BTreeMap, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::Sha256;

use super::{Measured, Scale, judge::judge};
use crate::model::{DeploymentId, Time, Unit};

/// How far the instance's clock may be from ours.
pub const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// As it came in.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The id or the name, as it stands in the path.
    pub deployment: &'a str,
    /// Seconds since 1970, as signed.
    pub timestamp: &'a str,
    /// 64 hexadecimal digits.
    pub signature: &'a str,
    pub body: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("the signature does not hold")]
    Forged,
    #[error("the timestamp is more than 5 minutes from the time here; set the instance's clock")]
    Skewed,
    #[error("this or a later heartbeat was taken already")]
    Replayed,
    #[error("the body must be {{\"busy\": true}}, {{\"busy\": false}} or {{\"utilization\": 0 to 100}}")]
    Malformed,
}

/// What the instance says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    busy: Option<bool>,
    utilization: Option<f64>,
}

fn mac(secret: &SecretString, message: &Message<'_>) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
    for part in [message.timestamp.as_bytes(), b".", message.deployment.as_bytes(), b".", message.body] {
        mac.update(part);
    }
    Some(mac)
}

/// The signature that the message should have.
pub fn sign(secret: &SecretString, message: &Message<'_>) -> Option<String> {
    Some(mac(secret, message)?.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Message<'_> {
    /// Its timestamp, once the signature holds and the time is near.
    pub fn verify(&self, secret: &SecretString, now: Time) -> Result<i64, Rejected> {
        let signature = unhex(self.signature).ok_or(Rejected::Forged)?;
        let mac = mac(secret, self).ok_or(Rejected::Forged)?;
        mac.verify_slice(&signature).map_err(|_| Rejected::Forged)?;
        let digits = self.timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let secs: i64 = self.timestamp.parse().ok().filter(|_| digits).ok_or(Rejected::Skewed)?;
        let sent = Time::from_secs(secs);
        if now.since(sent).max(sent.since(now)) > SKEW_MAX { Err(Rejected::Skewed) } else { Ok(secs) }
    }

    pub fn measured(&self, busy_above: f64) -> Result<Measured, Rejected> {
        let body: Body = serde_json::from_slice(self.body).map_err(|_| Rejected::Malformed)?;
        match (body.busy, body.utilization) {
            (Some(busy), None) => {
                let reading = if busy { crate::model::Reading::Busy } else { crate::model::Reading::Idle };
                Ok(Measured { reading, utilization_permille: None })
            }
            (None, Some(percent)) if (0.0..=100.0).contains(&percent) => {
                Ok(judge(&[percent], &Scale { busy_above, unit: Unit::Percent, per_gpu: false }, 1))
            }
            _ => Err(Rejected::Malformed),
        }
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Which messages were taken: each deployment's timestamps only rise. It forgets at a restart, so what was signed before the
/// start is not taken.
#[derive(Debug)]
pub struct Book {
    started_secs: i64,
    last: BTreeMap<DeploymentId, i64>,
}

impl Book {
    pub fn new(started: Time) -> Self {
        Self { started_secs: started.secs(), last: BTreeMap::new() }
    }

    pub fn enter(&mut self, deployment: &DeploymentId, secs: i64) -> Result<(), Rejected> {
        let last = self.last.get(deployment).copied().unwrap_or(self.started_secs);
        if secs <= last {
            return Err(Rejected::Replayed);
        }
        self.last.insert(deployment.clone(), secs);
        Ok(())
    }

    /// Forgets what is gone; an id that comes back is at least as new as the last that was taken.
    pub fn keep(&mut self, wanted: impl Fn(&DeploymentId) -> bool) {
        let started = &mut self.started_secs;
        self.last.retain(|id, secs| {
            let kept = wanted(id);
            if !kept {
                *started = (*started).max(*secs);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reading;

    const NOW: Time = Time::from_secs(1_790_000_000);

    fn secret() -> SecretString {
        SecretString::from("a secret of at least sixteen bytes")
    }

    fn message<'a>(timestamp: &'a str, signature: &'a str, body: &'a [u8]) -> Message<'a> {
        Message { deployment: "train-1", timestamp, signature, body }
    }

    #[test]
    fn the_signature_is_what_openssl_makes() {
        // printf '1790000000.train-1.{"busy":false}' | openssl dgst -sha256 -hmac 'a secret of at least sixteen bytes'
        let signed = sign(&secret(), &message("1790000000", "", br#"{"busy":false}"#)).unwrap();
        assert_eq!(signed, "430d0908e85feea1744695cd3c96da4b716376b822aee0d036eda2d3e97aa8f9");
        assert_eq!(
            message("1790000000", &signed, br#"{"busy":false}"#).verify(&secret(), NOW),
            Ok(1_790_000_000)
        );
        assert!(
            message("1790000000", &signed.to_uppercase(), br#"{"busy":false}"#)
                .verify(&secret(), NOW)
                .is_ok()
        );
    }

    #[test]
    fn whatever_is_changed_the_signature_no_longer_holds() {
        let body = br#"{"busy":true}"#;
        let signed = sign(&secret(), &message("1790000000", "", body)).unwrap();
        let good = message("1790000000", &signed, body);
        let short = &signed[..62];
        for forged in [
            Message { deployment: "train-2", ..good },
            Message { timestamp: "1790000001", ..good },
            Message { body: br#"{"busy":false}"#, ..good },
            Message { signature: "", ..good },
            Message { signature: short, ..good },
            Message { signature: &"0".repeat(64), ..good },
            Message { signature: &"é".repeat(32), ..good },
        ] {
            assert_eq!(forged.verify(&secret(), NOW), Err(Rejected::Forged), "{forged:?}");
        }
        assert_eq!(good.verify(&SecretString::from("another"), NOW), Err(Rejected::Forged));
    }

    #[test]
    fn a_clock_may_be_five_minutes_off_and_no_more() {
        for (secs, ok) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
            let timestamp = (NOW.secs() + secs).to_string();
            let signed = sign(&secret(), &message(&timestamp, "", b"{}")).unwrap();
            assert_eq!(message(&timestamp, &signed, b"{}").verify(&secret(), NOW).is_ok(), ok, "{secs}");
        }
        for timestamp in ["", "x", "+1790000000", "-5", "99999999999999999999", "1790000000.5"] {
            let signed = sign(&secret(), &message(timestamp, "", b"{}")).unwrap();
            assert_eq!(
                message(timestamp, &signed, b"{}").verify(&secret(), NOW),
                Err(Rejected::Skewed),
                "{timestamp}"
            );
        }
    }

    #[test]
    fn a_message_counts_once_also_after_a_restart() {
        let (a, b) = (DeploymentId::new("a"), DeploymentId::new("b"));
        let mut book = Book::new(Time::from_secs(100));
        assert_eq!(book.enter(&a, 100), Err(Rejected::Replayed), "signed before the start");
        assert_eq!(book.enter(&a, 101), Ok(()));
        assert_eq!(book.enter(&a, 101), Err(Rejected::Replayed));
        assert_eq!(book.enter(&a, 100), Err(Rejected::Replayed), "an older one");
        assert_eq!((book.enter(&b, 101), book.enter(&a, 102)), (Ok(()), Ok(())));
        book.keep(|id| *id == b);
        assert_eq!(book.enter(&a, 102), Err(Rejected::Replayed), "forgetting lets nothing in again");
        assert_eq!(book.enter(&a, 103), Ok(()));
    }

    #[test]
    fn the_body_says_busy_or_utilization_and_nothing_else() {
        let read = |body: &str| {
            message("1", "", body.as_bytes()).measured(5.0).map(|m| (m.reading, m.utilization_permille))
        };
        assert_eq!(read(r#"{"busy":true}"#), Ok((Reading::Busy, None)));
        assert_eq!(read(r#"{"busy":false}"#), Ok((Reading::Idle, None)));
        assert_eq!(read(r#"{"utilization": 3}"#), Ok((Reading::Idle, Some(30))));
        assert_eq!(read(r#"{"utilization": 99.9}"#), Ok((Reading::Busy, Some(999))));
        for body in [
            "",
            "{}",
            "null",
            "[]",
            "true",
            r#"{"busy":0}"#,
            r#"{"busy":null}"#,
            r#"{"utilization":"3"}"#,
            r#"{"utilization":-1}"#,
            r#"{"utilization":101}"#,
            r#"{"utilization":1e400}"#,
            r#"{"busy":false,"utilization":99}"#,
            r#"{"busy":false,"other":1}"#,
            r#"{"busy":false}x"#,
        ] {
            assert_eq!(read(body), Err(Rejected::Malformed), "{body}");
        }
    }
}
