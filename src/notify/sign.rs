//! Signs a webhook as the Standard Webhooks specification says: HMAC-SHA256 over `id.timestamp.body`.
//!
//! It must never show the secret; it has no Debug.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

pub(super) struct SigningKey(Zeroizing<Vec<u8>>);

impl SigningKey {
    /// `whsec_` + base64, as services hand it out; anything else is taken as it stands.
    pub(super) fn parse(secret: &SecretString) -> Result<Self, &'static str> {
        let text = secret.expose_secret().trim();
        let bytes = match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| "begins with whsec_ but is not base64 after it: copy it anew")?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.is_empty() {
            return Err("is empty: put the receiver's signing secret into secret_file, or leave the key out");
        }
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp_secs: i64, body: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{timestamp_secs}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(secret: &str) -> Result<String, &'static str> {
        let key = SigningKey::parse(&SecretString::from(secret))?;
        Ok(key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#).unwrap())
    }

    #[test]
    fn the_specifications_test_vector_is_reproduced() {
        assert_eq!(
            sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned())
        );
    }

    #[test]
    fn a_raw_secret_signs_as_its_own_bytes() {
        let raw = sign("a secret of my own").unwrap();
        assert_eq!(sign(&format!("whsec_{}", STANDARD.encode("a secret of my own"))).unwrap(), raw);
        assert_eq!(sign("a secret of my own\n").unwrap(), raw, "a file ends in a line break");
    }

    #[test]
    fn a_broken_or_empty_secret_is_refused_without_showing_it() {
        for secret in ["whsec_no base64!", "whsec_", "", "\n"] {
            let why = sign(secret).unwrap_err();
            assert!(!why.contains("no base64!"), "{why}");
        }
    }
}
