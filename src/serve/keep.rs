//! The signed link by which the reader of a notice keeps a deployment: made here, and read here again.
//!
//! It must never be logged nor stored, name a deployment by its id alone, or be compared in a time that tells where it differs.

mod page;

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::api::Orders;
use crate::model::{ActionId, DeploymentId, Grant, Links, Target, Time};

pub(super) use page::Page;

pub const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 32;
/// What else is signed by this key some day is signed in another context.
const CONTEXT: &[u8] = b"spheron-watch keep\0";
const VERSION: u8 = 1;
/// Of an id; a longer one gets no link.
const ID_BYTES_MAX: usize = 200;
const TOKEN_CHARS_MAX: usize = 640;

/// Signs grants. No Debug shows it.
pub struct KeepKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for KeepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeepKey")
    }
}

impl KeepKey {
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 2 * KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    fn mac(&self, payload: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).ok()?;
        mac.update(CONTEXT);
        mac.update(payload);
        Some(mac)
    }

    /// One segment of a path. `None`: an id is too long to be true.
    pub fn token(&self, grant: &Grant) -> Option<String> {
        let Grant { action, target, expires } = grant;
        let mut bytes = vec![VERSION];
        bytes.extend(expires.millis().to_be_bytes());
        bytes.extend(target.created_at.millis().to_be_bytes());
        for id in [action.as_str(), target.id.as_str()] {
            let length = u8::try_from(id.len()).ok().filter(|_| id.len() <= ID_BYTES_MAX)?;
            bytes.push(length);
            bytes.extend(id.as_bytes());
        }
        let tag = self.mac(&bytes)?.finalize().into_bytes();
        bytes.extend(tag);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a token grants, if it is one of ours; whether it has expired is another question.
    pub fn read(&self, token: &str) -> Option<Grant> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (payload, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        self.mac(payload)?.verify_slice(tag).ok()?;
        parse(payload)
    }
}

/// Of bytes that we have signed.
fn parse(payload: &[u8]) -> Option<Grant> {
    let (version, rest) = payload.split_first()?;
    let (expires, rest) = rest.split_first_chunk::<8>()?;
    let (created_at, rest) = rest.split_first_chunk::<8>()?;
    let (action, rest) = id(rest)?;
    let (deployment, rest) = id(rest)?;
    let time = |bytes: &[u8; 8]| Time::from_millis(i64::from_be_bytes(*bytes));
    let target = Target { id: DeploymentId::new(deployment), created_at: time(created_at) };
    let grant = Grant { action: ActionId::from_text(action), target, expires: time(expires) };
    (*version == VERSION && rest.is_empty()).then_some(grant)
}

fn id(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(id).ok()?, rest))
}

/// Where people reach us, and what signs the links there.
#[derive(Debug)]
pub struct KeepLinks {
    key: KeepKey,
    external_url: String,
}

impl KeepLinks {
    /// `external_url` has no slash at its end.
    pub fn new(key: KeepKey, external_url: String) -> Self {
        Self { key, external_url }
    }
}

impl Links for KeepLinks {
    fn keep(&self, grant: &Grant) -> Option<Arc<str>> {
        Some(format!("{}/keep/{}", self.external_url, self.key.token(grant)?).into())
    }
}

/// Who reads the links, and who keeps what they grant.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub links: Arc<KeepLinks>,
    pub orders: Arc<dyn Orders>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> KeepKey {
        KeepKey::new([byte; KEY_BYTES])
    }

    fn grant(action: &str, deployment: &str, created_at: i64, expires: i64) -> Grant {
        Grant {
            action: ActionId::from_text(action),
            target: Target { id: DeploymentId::new(deployment), created_at: Time::from_millis(created_at) },
            expires: Time::from_millis(expires),
        }
    }

    #[test]
    fn a_link_is_the_same_each_time_and_of_another_version_or_key_it_is_none() {
        let grant = grant("act_0123456789abcdef", "68d0", 1, 2);
        let links = KeepLinks::new(key(7), "https://watch.example.org/w".to_owned());
        let link = links.keep(&grant).unwrap();
        assert_eq!(links.keep(&grant).unwrap(), link);
        let token = link.strip_prefix("https://watch.example.org/w/keep/").unwrap();
        assert_eq!(key(7).read(token), Some(grant.clone()));
        assert_eq!(key(8).read(token), None);
        let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        bytes.truncate(bytes.len() - TAG_BYTES);
        bytes[0] = VERSION + 1;
        let tag = key(7).mac(&bytes).unwrap().finalize().into_bytes();
        bytes.extend(tag);
        assert_eq!(key(7).read(&URL_SAFE_NO_PAD.encode(bytes)), None, "signed by us, of another version");
        for text in ["", "A", "====", "/../x", &"A".repeat(TOKEN_CHARS_MAX + 4), &format!("{token}A")] {
            assert_eq!(key(7).read(text), None, "{text}");
        }
        assert!(!format!("{links:?}").contains("07") && !format!("{links:?}").contains("7, 7"));
    }

    #[test]
    fn an_id_that_is_too_long_gets_no_link_and_the_longest_fits() {
        let longest = "x".repeat(ID_BYTES_MAX);
        let token = key(1).token(&grant(&longest, &longest, 1, 2)).unwrap();
        assert!(token.len() <= TOKEN_CHARS_MAX && key(1).read(&token).is_some(), "{}", token.len());
        assert_eq!(key(1).token(&grant("act_1", &format!("{longest}x"), 1, 2)), None);
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        assert_eq!(*KeepKey::from_hex(&"0a".repeat(32)).unwrap().0, [10; KEY_BYTES]);
        for text in ["", "0a", &"0a".repeat(33), &"0g".repeat(32), &"é".repeat(32)] {
            assert!(KeepKey::from_hex(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_grant_comes_back_whole_and_no_changed_token_is_read(
            action in "[ -~]{0,40}",
            deployment in any::<String>().prop_filter("short", |id| id.len() <= ID_BYTES_MAX),
            created_at in any::<i64>(),
            expires in any::<i64>(),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let grant = grant(&action, &deployment, created_at, expires);
            let token = key(3).token(&grant).unwrap();
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            prop_assert_eq!(key(3).read(&token), Some(grant));
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(key(3).read(&URL_SAFE_NO_PAD.encode(&bytes)), None);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            prop_assert_eq!(key(3).read(&text), None);
        }
    }
}
