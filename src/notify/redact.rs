//! Takes secrets out of texts that come from elsewhere: an error of a library, an answer that echoes what it was sent.
//!
//! It must never be printed itself; it has no Debug.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Url;
use zeroize::Zeroizing;

use super::sanitize;

/// Shorter parts of a URL are words (`hooks`, `api`), not secrets.
const PART_MIN: usize = 6;
/// Texts from elsewhere are looked at this far.
const INPUT_MAX: usize = 64 * 1024;

pub(super) struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    /// The URL, its host, and whatever in it may be a token.
    pub(super) fn for_url(text: &str, url: &Url, secret: Option<&str>) -> Self {
        let mut parts = vec![text.to_owned(), url.as_str().to_owned(), url.path().to_owned()];
        parts.extend(url.host_str().map(str::to_owned));
        parts.extend(url.password().map(str::to_owned));
        parts.extend(url.query().map(str::to_owned));
        parts.extend(url.path().split('/').filter(|s| s.len() >= PART_MIN).map(str::to_owned));
        parts.extend(
            url.query_pairs().map(|(_, value)| value.into_owned()).filter(|value| value.len() >= PART_MIN),
        );
        parts.extend(secret.map(str::to_owned));
        Self::new(parts)
    }

    /// The password as it is, and as SMTP's two mechanisms send it.
    pub(super) fn for_login(username: &str, password: &str) -> Self {
        let plain = STANDARD.encode(format!("\0{username}\0{password}"));
        Self::new(vec![password.to_owned(), STANDARD.encode(password), plain])
    }

    fn new(parts: Vec<String>) -> Self {
        let mut parts: Vec<_> = parts.into_iter().filter(|p| p.len() > 1).map(Zeroizing::new).collect();
        parts.sort_by_key(|p| std::cmp::Reverse(p.len()));
        Self(parts)
    }

    /// One clean line of at most `max` characters without any of the secrets.
    pub(super) fn clean(&self, text: &str, max: usize) -> String {
        let hide =
            |text: String| self.0.iter().fold(text, |text, secret| text.replace(secret.as_str(), "[hidden]"));
        // Twice: cleaning may join what a control character had split.
        let text = hide(sanitize::clip(text, INPUT_MAX).to_owned());
        sanitize::line(&hide(sanitize::line(&text, INPUT_MAX)), max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_76_an_echo_of_the_url_or_the_secret_is_hidden() {
        let text = "https://hooks.example.org/services/T0KEN12345/abc?key=s3cr3t-value";
        let redactor = Redactor::for_url(text, &Url::parse(text).unwrap(), Some("whsec_AAAA"));
        for echo in [
            text,
            "no route for /services/T0KEN12345/abc",
            "token T0KEN12345 revoked",
            "bad T0KEN\u{0}12345",
            "key s3cr3t-value unknown",
            "dns error: hooks.example.org",
            "signed with whsec_AAAA",
        ] {
            let clean = redactor.clean(echo, 200);
            for secret in ["T0KEN12345", "s3cr3t-value", "hooks.example.org", "whsec_AAAA"] {
                assert!(!clean.contains(secret), "{clean}");
            }
        }
        assert_eq!(redactor.clean("invalid\npayload", 200), "invalid payload");
    }
}
