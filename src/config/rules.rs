//! `[alerts]` and `[[rule]]`: the default rules, what replaces them, and which parameters each kind has.
//!
//! It must never take a parameter that its kind does not have: it would look as if it did something.

use std::{sync::Arc, time::Duration};

use super::{
    node::{Node, Read},
    notify::{Known, Notify, name, routes},
    reader::{Reader, of_nothing},
    refused::UNSUPPORTED_KINDS,
    sections::{glob, values},
};
use crate::model::{MatchKey, Matcher, Rule, RuleKind, Severity, Usd};

const HOUR: Duration = Duration::from_secs(3_600);
const LENGTH_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What an alert of a kind is about, and so what a `match` can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Account,
    Team,
    Deployment,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    kind: &'static str,
    /// The name of the kind's default rule.
    default_name: &'static str,
    severity: Severity,
    about: About,
    build: fn(&mut Reader<'_>) -> RuleKind,
}

const KINDS: [Kind; 9] = [
    Kind::new("balance", "low-balance", Severity::Critical, About::Team, balance),
    Kind::new("balance_unknown", "balance-unknown", Severity::Critical, About::Team, |_| {
        RuleKind::BalanceUnknown
    }),
    Kind::new("running_long", "running-long", Severity::Warning, About::Deployment, running_long),
    Kind::new("spot_interrupted", "spot-interrupted", Severity::Critical, About::Deployment, |_| {
        RuleKind::SpotInterrupted
    }),
    Kind::new("provider_stopped", "provider-stopped", Severity::Critical, About::Deployment, |_| {
        RuleKind::ProviderStopped
    }),
    Kind::new("fleet_shrunk", "fleet-shrunk", Severity::Warning, About::Team, |_| RuleKind::FleetShrunk),
    Kind::new("blind", "blind", Severity::Critical, About::Account, blind),
    Kind::new("key_rejected", "key-rejected", Severity::Critical, About::Account, |_| RuleKind::KeyRejected),
    Kind::new("config_invalid", "config-invalid", Severity::Critical, About::Account, |_| {
        RuleKind::ConfigInvalid
    }),
];

/// Every parameter, and the kinds that have it.
const PARAMETERS: [(&str, &[&str]); 3] =
    [("below", &["balance"]), ("clear_above", &["balance"]), ("longer_than", &["running_long", "blind"])];

impl Kind {
    const fn new(
        kind: &'static str,
        default_name: &'static str,
        severity: Severity,
        about: About,
        build: fn(&mut Reader<'_>) -> RuleKind,
    ) -> Self {
        Self { kind, default_name, severity, about, build }
    }
}

fn balance(r: &mut Reader<'_>) -> RuleKind {
    let below = r.read("below", Node::dollars).unwrap_or(Usd::from_cents(1_000));
    let clear_above = r.read("clear_above", Node::dollars);
    if clear_above.is_some_and(|clear| clear < below) {
        r.complain("clear_above", "must be `below` or more");
    }
    let default = || below.saturating_add(Usd::from_nanos(below.nanos() / 5));
    RuleKind::Balance { below, clear_above: clear_above.unwrap_or_else(default) }
}

fn running_long(r: &mut Reader<'_>) -> RuleKind {
    RuleKind::RunningLong { longer_than: longer_than(r, HOUR * 24) }
}

fn blind(r: &mut Reader<'_>) -> RuleKind {
    RuleKind::Blind { longer_than: longer_than(r, HOUR / 12) }
}

fn longer_than(r: &mut Reader<'_>, default: Duration) -> Duration {
    r.read("longer_than", |n| n.length(Duration::from_secs(1)..=LENGTH_MAX)).unwrap_or(default)
}

/// `[alerts]`: whether the default rules hold.
pub(super) fn defaults(r: &mut Reader<'_>) -> bool {
    r.read("defaults", Node::flag).unwrap_or(true)
}

/// The default rules but those that a `[[rule]]` replaces, then the file's own.
pub(super) fn rules(root: &mut Reader<'_>, defaults: bool, notify: &Notify, known: &Known) -> Vec<Rule> {
    let mut taken: Vec<Arc<str>> = Vec::new();
    let own = root.tables("rule", |r| {
        let name = r.require("name", name, "a name; that of a default rule replaces it");
        if let Some(name) = &name {
            if taken.contains(name) {
                r.complain("name", "is taken by another rule");
            }
            taken.push(name.clone());
        }
        let Some(kind) = r.require("kind", kind, "one of the kinds of rules") else {
            r.forgive();
            return None;
        };
        rule(r, name, kind, notify, known)
    });
    let of_default = |kind: &Kind| Rule {
        name: kind.default_name.into(),
        kind: of_nothing(kind.build),
        severity: kind.severity,
        for_: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        matcher: Matcher::default(),
        receivers: notify.route(None, kind.severity),
        repeat_interval: None,
    };
    let mut rules: Vec<Rule> = KINDS.iter().filter(|_| defaults).map(of_default).collect();
    rules.retain(|rule| !taken.contains(&rule.name));
    rules.extend(own.into_iter().flatten());
    for rule in &mut rules {
        rule.repeat_interval = if rule.kind.is_event() { None } else { notify.repeat(rule.severity) };
    }
    rules
}

fn rule(
    r: &mut Reader<'_>,
    name: Option<Arc<str>>,
    kind: Kind,
    notify: &Notify,
    known: &Known,
) -> Option<Rule> {
    let built = (kind.build)(r);
    for (parameter, kinds) in PARAMETERS {
        if !kinds.contains(&kind.kind) && r.take(parameter).is_some() {
            r.complain(
                parameter,
                format!("kind `{}` has no such parameter, only {}", kind.kind, kinds.join(" and ")),
            );
        }
    }
    let length = |n: &Node| n.length(Duration::ZERO..=LENGTH_MAX);
    let for_ = r.read("for", length).unwrap_or_default();
    let keep_firing_for = r.read("keep_firing_for", length).unwrap_or_default();
    if built.is_event() {
        for key in ["for", "keep_firing_for"] {
            if r.is_given(key) {
                r.complain(key, format!("kind `{}` is told once, when it happens; remove it", kind.kind));
            }
        }
    }
    let severity = r.read("severity", severity).unwrap_or(kind.severity);
    let matcher = match kind.about {
        About::Account if r.has("match") => {
            r.take("match");
            r.complain("match", format!("kind `{}` is about the whole account; remove it", kind.kind));
            Matcher::default()
        }
        About::Account | About::Team | About::Deployment => matcher(r, kind),
    };
    let named = r.full_list("receivers", |n| n.text().map(str::to_owned));
    let own = named.map(|named| routes(r, "receivers", named, known));
    Some(Rule {
        name: name?,
        kind: built,
        severity,
        for_,
        keep_firing_for,
        matcher,
        receivers: notify.route(own, severity),
        repeat_interval: None,
    })
}

fn matcher(r: &mut Reader<'_>, kind: Kind) -> Matcher {
    let matcher = r.table("match", |r| {
        if r.is_empty() {
            r.complain("", "must not be empty; remove it to match everything");
        }
        let mut matcher = Matcher::default();
        for (key, of) in MatchKey::ALL {
            if kind.about == About::Team && of != MatchKey::Team {
                if r.has(key) {
                    r.take(key);
                    r.complain(
                        key,
                        format!("kind `{}` is about teams; it can match `team` alone", kind.kind),
                    );
                }
            } else if let Some(globs) = r.full_list(key, glob) {
                matcher.globs.insert(of, values(globs));
            }
        }
        matcher
    });
    matcher.unwrap_or_default()
}

fn kind(node: &Node) -> Read<Kind> {
    let text = node.text()?;
    if UNSUPPORTED_KINDS.contains(&text) {
        return Err(format!("kind `{text}` is not supported by this version; remove this rule"));
    }
    node.word(&KINDS.map(|kind| (kind.kind, kind)))
}

fn severity(node: &Node) -> Read<Severity> {
    node.word(&Severity::ALL.map(|severity| (severity.as_str(), severity)))
}
