//! The values of one metric on a page in Prometheus' text format 0.0.4 or OpenMetrics, read leniently.
//!
//! It must never take a line that it does not understand for a small number: such a value is no number at all.

use crate::model::Time;

/// A text in seconds (OpenMetrics) or in milliseconds (0.0.4): no second of this millennium is as large.
const MILLIS_FROM: f64 = 1e11;

/// Every value of the metric; NaN where there is one that cannot be read, or that was measured before `oldest`.
pub(super) fn values(page: &[u8], metric: &str, oldest: Time) -> Vec<f64> {
    let lines = page.split(|byte| *byte == b'\n');
    lines.filter_map(|line| value(&String::from_utf8_lossy(line), metric, oldest)).collect()
}

/// `None`: the line is about something else.
fn value(line: &str, metric: &str, oldest: Time) -> Option<f64> {
    let rest = line.trim().strip_prefix(metric)?;
    let rest = match rest.chars().next()? {
        '{' => after_labels(rest),
        c if c.is_whitespace() => Some(rest),
        _ => return None,
    };
    let mut words = rest.unwrap_or_default().split_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN);
    match words.next() {
        None | Some("#") => Some(value),
        Some(stamp) => Some(if is_recent(stamp, oldest) { value } else { f64::NAN }),
    }
}

/// What stands behind the closing brace. A quoted text may hold braces and escaped quotes.
fn after_labels(text: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return text.get(at + 1..),
            _ => {}
        }
    }
    None
}

/// A page may repeat for ever what an exporter that has died said last.
fn is_recent(stamp: &str, oldest: Time) -> bool {
    let Ok(stamp) = stamp.parse::<f64>() else { return false };
    let millis = if stamp.abs() < MILLIS_FROM { stamp * 1_000.0 } else { stamp };
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of this era fit the mantissa")]
    let oldest = oldest.millis() as f64;
    millis >= oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_790_000_000);

    fn read(page: &str) -> Vec<f64> {
        values(page.as_bytes(), "gpu_util", NOW)
    }

    #[test]
    fn both_formats_are_read() {
        for (page, expected) in [
            ("# HELP gpu_util x\n# TYPE gpu_util gauge\ngpu_util 7\n", &[7.0][..]),
            ("gpu_util{gpu=\"0\"} 3\r\ngpu_util{gpu=\"1\"}\t4.5\r\n", &[3.0, 4.5]),
            ("gpu_util{a=\"}\\\"} 9\"} 1e1", &[10.0]),
            ("gpu_util{a=\"x\",} 2", &[2.0]),
            ("gpu_util{} 2 # {trace=\"x\"} 1", &[2.0]),
            ("gpu_util 2 1790000000000\ngpu_util 3 1790000000.5\n# EOF", &[2.0, 3.0]),
            ("  gpu_util   5  ", &[5.0]),
            ("gpu_util_total 5\nother 3\nmy_gpu_util 2\n", &[]),
            ("gpu_util +Inf", &[f64::INFINITY]),
            ("", &[]),
        ] {
            assert_eq!(read(page), expected, "{page:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_old_is_no_number() {
        for page in [
            "gpu_util NaN",
            "gpu_util nan",
            "gpu_util{a=\"x\"} ",
            "gpu_util ",
            "gpu_util{a=\"x 5",
            "gpu_util low",
            "gpu_util 0x10",
            "gpu_util 5%",
            "gpu_util 0 1789999999999",
            "gpu_util 0 1789999999",
            "gpu_util 0 yesterday",
            "gpu_util{a=\"\u{fffd}\"} ?",
        ] {
            let values = read(page);
            // A name with nothing behind it is another line.
            assert!(values.iter().all(|value| value.is_nan()), "{page:?}: {values:?}");
            assert!(!values.is_empty() || page.trim() == "gpu_util", "{page:?}");
        }
        assert!(values(b"gpu_util{a=\"\xff\xfe\"} 4", "gpu_util", NOW) == [4.0]);
    }
}
