//! What surrounds an answer: rate-limit headers, the API's clock, how long a 429 wants us to wait, redirect targets.
//!
//! It must never trust a number: every wait is bounded, and what cannot be read counts as absent.

use std::time::Duration;

use http::{
    HeaderMap, Uri,
    header::{CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER},
};
use jiff::fmt::rfc2822::DateTimeParser;

use super::wire::ErrorBody;
use crate::model::Time;

/// No wait is longer: a broken header must not blind us for a day.
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// The documented window, and the wait where a 429 says nothing.
pub const WINDOW: Duration = Duration::from_secs(900);

/// What the `X-RateLimit-*` headers said, if they did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    pub limit: Option<u32>,
    pub remaining: Option<u32>,
    /// Counted from the API's own `Date`, so that a wrong clock here does not matter.
    pub reset_in: Option<Duration>,
}

pub fn rate(headers: &HeaderMap, now: Time) -> Rate {
    let number = |name| text(headers, name).and_then(|text| text.trim().parse().ok());
    Rate {
        limit: number("x-ratelimit-limit"),
        remaining: number("x-ratelimit-remaining"),
        reset_in: text(headers, "x-ratelimit-reset")
            .and_then(|text| reset_in(text, date(headers).unwrap_or(now))),
    }
}

/// The API's clock when it answered, in whole seconds.
pub fn date(headers: &HeaderMap) -> Option<Time> {
    headers.get(DATE)?.to_str().ok().and_then(http_date)
}

/// FAULTS 12: the longest of what header and body ask for; 15 minutes where neither says anything.
pub fn wait_after_429(headers: &HeaderMap, body: &ErrorBody, now: Time) -> Duration {
    let api_now = date(headers).unwrap_or(now);
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked = [
        retry_after.and_then(|text| seconds(text).or_else(|| until(http_date(text)?, api_now))),
        body.retry_after.as_deref().and_then(seconds),
        rate(headers, now).reset_in,
        body.error.as_deref().and_then(minutes_in),
        body.message.as_deref().and_then(minutes_in),
    ];
    asked.into_iter().flatten().max().unwrap_or(WINDOW).clamp(Duration::from_secs(1), WAIT_MAX)
}

pub fn is_json(headers: &HeaderMap) -> bool {
    let essence =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|t| t.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The host that a redirect points to: never its path or query, which may hold a token.
pub fn redirect_host(headers: &HeaderMap) -> String {
    let target = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let host = target.and_then(|text| text.parse::<Uri>().ok()).and_then(|uri| uri.host().map(str::to_owned));
    host.map_or_else(|| "another place on the same host".to_owned(), |host| plain_text(&host, 100))
}

/// A text from outside, fit for one line of an error: no control or direction-changing characters, at most `max` characters.
pub fn plain_text(text: &str, max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
    };
    let mut shown = text.chars().filter(|c| !hidden(*c));
    let mut plain: String = shown.by_ref().take(max).collect();
    if shown.next().is_some() {
        plain.push('…');
    }
    plain
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// RFC 3339 as documented, or seconds (or milliseconds) since 1970, or seconds from now.
fn reset_in(text: &str, api_now: Time) -> Option<Duration> {
    let text = text.trim();
    if let Some(at) = Time::parse_rfc3339(text) {
        return until(at, api_now);
    }
    match text.parse::<i64>().ok()? {
        ms @ 100_000_000_000.. => until(Time::from_millis(ms), api_now),
        secs @ 1_000_000_000.. => until(Time::from_secs(secs), api_now),
        secs => Some(Duration::from_secs(u64::try_from(secs).ok()?).min(WAIT_MAX)),
    }
}

fn until(at: Time, api_now: Time) -> Option<Duration> {
    let wait = at.since(api_now);
    (!wait.is_zero()).then_some(wait.min(WAIT_MAX))
}

/// Seconds, whole or not; rounded up by the caller's clamp to at least one.
fn seconds(text: &str) -> Option<Duration> {
    let secs = text.trim().parse::<f64>().ok().filter(|secs| *secs > 0.0)?;
    Some(Duration::try_from_secs_f64(secs).unwrap_or(WAIT_MAX).min(WAIT_MAX))
}

/// "Try again in 15 minutes".
fn minutes_in(text: &str) -> Option<Duration> {
    let words: Vec<&str> = text.split_whitespace().take(100).collect();
    words.windows(2).find_map(|pair| match pair {
        [count, unit] if unit.to_ascii_lowercase().starts_with("minute") => {
            let minutes = count.parse::<u64>().ok()?;
            Some(Duration::from_secs(minutes.saturating_mul(60)).min(WAIT_MAX))
        }
        _ => None,
    })
}

fn http_date(text: &str) -> Option<Time> {
    let stamp = DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(Time::from_millis(stamp.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NOW: Time = Time::from_secs(1_767_016_800);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn wait(pairs: &[(&'static str, &str)], body: &str) -> u64 {
        wait_after_429(&headers(pairs), &ErrorBody::read(body.as_bytes()), NOW).as_secs()
    }

    #[test]
    fn fault_12_the_longest_wait_of_header_and_body_counts() {
        let body_a =
            r#"{"error":"Rate limit exceeded. Try again in 15 minutes","code":"RATE_LIMIT_EXCEEDED"}"#;
        let body_b =
            r#"{"error":"Too many requests","message":"Too many requests from this IP","retryAfter":600}"#;
        let body_text = r#"{"error":"Too many requests","retryAfter":"120"}"#;
        let iso = ("x-ratelimit-reset", "2025-12-29T14:10:00.500Z");
        for (name, pairs, body, secs) in [
            ("minutes in body A", &[][..], body_a, 900),
            ("number in body B", &[], body_b, 600),
            ("text in body B", &[], body_text, 120),
            ("nothing said", &[], r#"{"error":"no"}"#, 900),
            ("no JSON at all", &[], "<html>", 900),
            ("ISO reset beats a shorter body", &[iso], body_text, 600),
            ("a longer body beats an ISO reset", &[iso], body_a, 900),
            ("reset in seconds since 1970", &[("x-ratelimit-reset", "1767016900")], "", 100),
            ("reset in the past says nothing", &[("x-ratelimit-reset", "2020-01-01T00:00:00.000Z")], "", 900),
            ("Retry-After in seconds", &[("retry-after", "1200")], body_a, 1_200),
            ("Retry-After as a date", &[("retry-after", "Mon, 29 Dec 2025 14:05:00 GMT")], "", 300),
            ("an absurd wait is bounded", &[("retry-after", "99999999999999999999")], "", 3_600),
            ("a zero says nothing", &[("retry-after", "0")], body_text, 120),
        ] {
            assert_eq!(wait(pairs, body), secs, "{name}");
        }
    }

    #[test]
    fn fault_12_a_reset_is_counted_from_the_apis_own_clock() {
        let pairs =
            [("date", "Mon, 29 Dec 2025 15:00:00 GMT"), ("x-ratelimit-reset", "2025-12-29T15:01:00.000Z")];
        assert_eq!(rate(&headers(&pairs), NOW).reset_in, Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_redirect_names_the_host_and_nothing_else() {
        let host = |target| redirect_host(&headers(&[("location", target)]));
        assert_eq!(host("https://login.example.org/x?token=abc"), "login.example.org");
        assert_eq!(host("/login?token=abc"), "another place on the same host");
    }

    #[test]
    fn only_json_is_json() {
        let json = |kind| is_json(&headers(&[("content-type", kind)]));
        assert!(json("application/json") && json("Application/JSON; charset=utf-8"));
        assert!(!json("text/html") && !json("application/jsonp") && !is_json(&HeaderMap::new()));
    }

    #[test]
    fn outside_text_becomes_one_plain_line() {
        assert_eq!(plain_text("a\r\nb\u{1b}[31mc\u{202e}d\0", 50), "ab[31mcd");
        assert_eq!(plain_text("abcdef", 3), "abc…");
    }
}
