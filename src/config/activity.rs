//! `[[activity]]`: how to know that a GPU works.
//!
//! It must never take a threshold, a placeholder or an address for what was not clearly meant: each would call a busy GPU idle.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    node::{Node, Read, Value},
    notify::name,
    reader::Reader,
    sections::{glob, values},
    settings::{Activity, ActivityKind},
};
use crate::model::{MatchKey, Matcher, Query, Unit, activity::NVIDIA_SMI};

const EVERY: Duration = Duration::from_secs(60);
const EVERY_MIN: Duration = Duration::from_secs(10);
const EVERY_MAX: Duration = Duration::from_secs(3_600);
const METRIC: &str = "DCGM_FI_DEV_GPU_UTIL";
const COMMAND_CHARS_MAX: usize = 1_000;

/// Every parameter, and the kinds that have it.
const PARAMETERS: [(&str, &[&str]); 8] = [
    ("url", &["prometheus", "promql"]),
    ("metric", &["prometheus"]),
    ("query", &["promql"]),
    ("identity_file", &["ssh"]),
    ("command", &["ssh"]),
    ("secret_file", &["heartbeat"]),
    ("busy_above", &["prometheus", "promql", "ssh", "heartbeat"]),
    ("allow_private", &["prometheus", "promql", "ssh"]),
];

type Build = fn(&mut Reader<'_>) -> Option<ActivityKind>;

const KINDS: [(&str, Build); 5] = [
    ("prometheus", prometheus),
    ("ssh", ssh),
    ("promql", promql),
    ("heartbeat", heartbeat),
    ("volume_growth", |_| Some(ActivityKind::VolumeGrowth)),
];

pub(super) fn activity(root: &mut Reader<'_>) -> Vec<Activity> {
    let mut taken: Vec<Arc<str>> = Vec::new();
    let read = root.tables("activity", |r| {
        let name = r.require("name", name, "a name for this source");
        if let Some(name) = &name {
            if taken.contains(name) {
                r.complain("name", "is taken by another [[activity]]");
            }
            taken.push(name.clone());
        }
        let words = KINDS.map(|(word, build)| (word, (word, build)));
        let Some((word, build)) = r.require("kind", |n| n.word(&words), "one of the kinds of activity")
        else {
            r.forgive();
            return None;
        };
        let kind = build(r);
        for (parameter, kinds) in PARAMETERS {
            if !kinds.contains(&word) && r.take(parameter).is_some() {
                r.complain(
                    parameter,
                    format!("kind `{word}` has no such parameter, only {}", kinds.join(" and ")),
                );
            }
        }
        let allow_private =
            kinds_of("allow_private").contains(&word) && r.read("allow_private", Node::flag).unwrap_or(false);
        let every = r.read("every", |n| n.length(EVERY_MIN..=EVERY_MAX)).unwrap_or(EVERY);
        let matcher = matcher(r);
        Some(Activity { name: name?, kind: kind?, every, allow_private, matcher })
    });
    read.into_iter().flatten().collect()
}

fn kinds_of(parameter: &str) -> &'static [&'static str] {
    PARAMETERS.iter().find(|(name, _)| *name == parameter).map_or(&[], |(_, kinds)| kinds)
}

fn prometheus(r: &mut Reader<'_>) -> Option<ActivityKind> {
    let url = r.require("url", instance_url, "the page, as in \"http://{ip}:9400/metrics\"");
    let metric = r.read("metric", metric).unwrap_or_else(|| METRIC.to_owned());
    let unit = Unit::of_metric(&metric);
    let busy_above = match unit.busy_above() {
        Some(default) => r.read("busy_above", |n| threshold(n, unit)).unwrap_or(default),
        None => {
            r.require("busy_above", |n| threshold(n, unit), "the value above which this metric means work")?
        }
    };
    Some(ActivityKind::Prometheus { url: url?, metric, busy_above })
}

fn ssh(r: &mut Reader<'_>) -> Option<ActivityKind> {
    let identity_file = r.require("identity_file", Node::path, "the private key that the instances accept");
    let command = r.read("command", command).unwrap_or_else(|| NVIDIA_SMI.to_owned());
    Some(ActivityKind::Ssh { identity_file: identity_file?, command, busy_above: percent(r) })
}

fn promql(r: &mut Reader<'_>) -> Option<ActivityKind> {
    let url = r.require("url", prometheus_url, "your Prometheus, as in \"http://prometheus:9090\"");
    let read = |n: &Node| Query::parse(n.text()?).map_err(str::to_owned);
    let query =
        r.require("query", read, "a query that names the deployment by {id}, {name} or {ip} in quotes");
    let threshold = |n: &Node| threshold(n, Unit::Other);
    let busy_above = r.require("busy_above", threshold, "the value above which the result means work");
    Some(ActivityKind::Promql { url: url?, query: query?, busy_above: busy_above? })
}

fn heartbeat(r: &mut Reader<'_>) -> Option<ActivityKind> {
    let secret_file: Option<PathBuf> =
        r.require("secret_file", Node::path, "the file that holds the secret which the instances sign with");
    let busy_above = percent(r);
    Some(ActivityKind::Heartbeat { secret_file: secret_file?, busy_above })
}

fn percent(r: &mut Reader<'_>) -> f64 {
    r.read("busy_above", |n| threshold(n, Unit::Percent)).unwrap_or(5.0)
}

/// At the largest possible value and above, nothing would ever be busy.
fn threshold(node: &Node, unit: Unit) -> Read<f64> {
    #[allow(clippy::cast_precision_loss, reason = "thresholds are small; a large one is a threshold still")]
    let number = match &node.value {
        Value::Integer(number) => number.map(|n| n as f64),
        Value::Float(number) => Some(*number),
        Value::Text(_) | Value::Raw(_) | Value::Flag(_) | Value::Date | Value::List(_) | Value::Table(_) => {
            None
        }
    };
    number.filter(|number| (0.0..unit.largest()).contains(number)).ok_or_else(|| match unit {
        Unit::Percent => "must be a number of percent, 0 or more and below 100, without quotes".to_owned(),
        Unit::Ratio => "must be 0 or more and below 1, for this metric is a ratio".to_owned(),
        Unit::Other => "must be a number, 0 or more, without quotes".to_owned(),
    })
}

/// Plain http too: exporters seldom speak TLS, and nothing secret is sent.
fn instance_url(node: &Node) -> Read<String> {
    let text = node.text()?;
    let wrong = "must be a URL whose host is {ip}, as in \"http://{ip}:9400/metrics\"";
    let filled = text.replacen("{ip}", "192.0.2.1", 1);
    let uri = uri(&filled, wrong)?;
    if uri.host() != Some("192.0.2.1") || text.matches("{ip}").count() != 1 || filled.contains(['{', '}']) {
        return Err(wrong.to_owned());
    }
    Ok(text.to_owned())
}

fn prometheus_url(node: &Node) -> Read<String> {
    let text = node.text()?;
    uri(text, "must be a URL, as in \"http://prometheus:9090\"")?;
    if text.contains('?') {
        return Err("must not have a query of its own".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn uri(text: &str, wrong: &str) -> Read<http::Uri> {
    let uri: http::Uri = text.parse().map_err(|_| wrong.to_owned())?;
    let authority = uri.authority().ok_or(wrong)?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user name or password".to_owned());
    }
    let known = matches!(uri.scheme_str(), Some("http" | "https")) && !text.contains('#');
    if known && !authority.host().is_empty() { Ok(uri) } else { Err(wrong.to_owned()) }
}

fn metric(node: &Node) -> Read<String> {
    let text = node.text()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    if text.chars().all(plain) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("must be the name of a metric alone, without labels".to_owned())
    }
}

fn command(node: &Node) -> Read<String> {
    let text = node.text()?;
    if text.chars().count() > COMMAND_CHARS_MAX {
        return Err(format!("must be at most {COMMAND_CHARS_MAX} characters"));
    }
    Ok(text.to_owned())
}

/// A missing one matches everything.
fn matcher(r: &mut Reader<'_>) -> Matcher {
    let matcher = r.table("match", |r| {
        if r.is_empty() {
            r.complain("", "must not be empty; remove it to match everything");
        }
        let mut matcher = Matcher::default();
        for (key, of) in MatchKey::ALL {
            if let Some(globs) = r.full_list(key, glob) {
                matcher.globs.insert(of, values(globs));
            }
        }
        matcher
    });
    matcher.unwrap_or_default()
}
