//! `[alerts]` and `[[rule]]`: the default rules, what replaces them, and which parameters each kind has.
//!
//! It must never take a parameter that its kind does not have: it would look as if it did something.

use std::{sync::Arc, time::Duration};

use super::{
    node::{Node, Read},
    notify::{Known, LOG, Notify, name, routes},
    reader::{Reader, of_nothing},
    sections::{glob, values},
};
use crate::model::{MatchKey, Matcher, Period, Route, Rule, RuleKind, Severity, Usd};

const HOUR: Duration = Duration::from_secs(3_600);
const LENGTH_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What an alert of a kind is about, and so what a `match` can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Account,
    Team,
    Deployment,
    Volume,
}

impl About {
    /// Why a key finds nothing to look at, if so.
    fn cannot_match(self, key: MatchKey) -> Option<&'static str> {
        let volume = matches!(key, MatchKey::Name | MatchKey::Id | MatchKey::Team | MatchKey::Provider);
        match self {
            Self::Team if key != MatchKey::Team => Some("teams; it can match `team` alone"),
            Self::Volume if !volume => Some("volumes; it can match `name`, `id`, `team` and `provider`"),
            Self::Account | Self::Team | Self::Deployment | Self::Volume => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    kind: &'static str,
    /// Of a rule that says none.
    severity: Severity,
    about: About,
    build: fn(&mut Reader<'_>) -> RuleKind,
}

const KINDS: [Kind; 25] = {
    use About::{Account, Deployment, Team, Volume};
    use Severity::{Critical, Info, Warning};
    [
        Kind::new("balance", Critical, Team, balance),
        Kind::new("runway", Warning, Team, runway),
        Kind::new("burn_rate", Warning, Team, burn_rate),
        Kind::new("budget", Warning, Team, budget),
        Kind::new("running_long", Warning, Deployment, running_long),
        Kind::new("idle", Warning, Deployment, |r| RuleKind::Idle { longer_than: longer_than(r, HOUR) }),
        Kind::new("spot_interrupted", Critical, Deployment, |_| RuleKind::SpotInterrupted),
        Kind::new("provider_stopped", Critical, Deployment, |_| RuleKind::ProviderStopped),
        Kind::new("failed", Warning, Deployment, |_| RuleKind::Failed),
        Kind::new("stuck", Warning, Deployment, stuck),
        Kind::new("new_deployment", Info, Deployment, |_| RuleKind::NewDeployment),
        Kind::new("unattached_volume", Info, Volume, unattached_volume),
        Kind::new("volume_full", Warning, Volume, volume_full),
        Kind::new("rate_changed", Warning, Deployment, |_| RuleKind::RateChanged),
        Kind::new("overpaying", Info, Deployment, overpaying),
        Kind::new("unexplained_spend", Warning, Team, unexplained_spend),
        Kind::new("balance_jump", Info, Team, |_| RuleKind::BalanceJump),
        Kind::new("balance_unknown", Critical, Team, |_| RuleKind::BalanceUnknown),
        Kind::new("fleet_shrunk", Warning, Team, |_| RuleKind::FleetShrunk),
        Kind::new("blind", Critical, Account, blind),
        Kind::new("key_rejected", Critical, Account, |_| RuleKind::KeyRejected),
        Kind::new("config_invalid", Critical, Account, |_| RuleKind::ConfigInvalid),
        Kind::new("not_confirmed", Critical, Account, |_| RuleKind::NotConfirmed),
        Kind::new("delivery_failing", Critical, Account, |_| RuleKind::DeliveryFailing),
        Kind::new("disk_low", Critical, Account, |_| RuleKind::DiskLow),
    ]
};

/// The default rules: one for each kind that has a sensible default, named for it, and a second runway.
fn defaults_of(kind: &Kind) -> Vec<(Arc<str>, Severity, RuleKind)> {
    match kind.kind {
        "burn_rate" | "budget" | "new_deployment" | "overpaying" => Vec::new(),
        "balance" => vec![("low-balance".into(), kind.severity, of_nothing(kind.build))],
        "runway" => vec![
            ("runway-warning".into(), Severity::Warning, RuleKind::Runway { below: HOUR * 24 }),
            ("runway-critical".into(), Severity::Critical, RuleKind::Runway { below: HOUR * 6 }),
        ],
        name => vec![(name.replace('_', "-").into(), kind.severity, of_nothing(kind.build))],
    }
}

/// Every parameter, and the kinds that have it.
const PARAMETERS: [(&str, &[&str]); 8] = [
    ("below", &["balance", "runway"]),
    ("clear_above", &["balance"]),
    ("above", &["burn_rate", "volume_full", "unexplained_spend"]),
    ("amount", &["budget"]),
    ("period", &["budget"]),
    ("at", &["budget"]),
    ("percent", &["overpaying"]),
    ("longer_than", &["running_long", "idle", "stuck", "unattached_volume", "blind"]),
];

impl Kind {
    const fn new(
        kind: &'static str,
        severity: Severity,
        about: About,
        build: fn(&mut Reader<'_>) -> RuleKind,
    ) -> Self {
        Self { kind, severity, about, build }
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

fn runway(r: &mut Reader<'_>) -> RuleKind {
    let below = r.read("below", |n| n.length(Duration::from_secs(60)..=LENGTH_MAX));
    RuleKind::Runway { below: below.unwrap_or(HOUR * 24) }
}

fn burn_rate(r: &mut Reader<'_>) -> RuleKind {
    let above = r.require("above", Node::dollars, "an amount in USD per hour, as in 25.0");
    RuleKind::BurnRate { above: above.unwrap_or_default() }
}

fn budget(r: &mut Reader<'_>) -> RuleKind {
    let amount = r.require("amount", positive, "an amount in USD for one period, as in 500.0");
    let words = [("day", Period::Day), ("week", Period::Week), ("month", Period::Month)];
    let period = r.require("period", |n| n.word(&words), "\"day\", \"week\" or \"month\"");
    let at = r.full_list("at", |n| n.whole("a percentage", 1..=1_000)).map(values);
    let mut at = at.unwrap_or_else(|| vec![50, 80, 100]);
    at.sort_unstable();
    at.dedup();
    RuleKind::Budget { amount: amount.unwrap_or_default(), period: period.unwrap_or(Period::Month), at }
}

/// Of a budget of nothing no percentage can be told.
fn positive(node: &Node) -> Read<Usd> {
    match node.dollars()? {
        Usd::ZERO => Err("must be more than 0".to_owned()),
        usd => Ok(usd),
    }
}

fn stuck(r: &mut Reader<'_>) -> RuleKind {
    RuleKind::Stuck { longer_than: longer_than(r, HOUR / 2) }
}

fn unattached_volume(r: &mut Reader<'_>) -> RuleKind {
    RuleKind::UnattachedVolume { longer_than: longer_than(r, HOUR * 72) }
}

fn volume_full(r: &mut Reader<'_>) -> RuleKind {
    RuleKind::VolumeFull { above_permille: r.read("above", Node::permille).unwrap_or(900) }
}

fn overpaying(r: &mut Reader<'_>) -> RuleKind {
    let percent = |n: &Node| n.whole("a percentage", 1..=99);
    let percent = r.require("percent", percent, "by how many percent an offer must be cheaper, as in 20");
    RuleKind::Overpaying { percent: percent.unwrap_or(20) }
}

fn unexplained_spend(r: &mut Reader<'_>) -> RuleKind {
    let above = r.read("above", Node::dollars).unwrap_or(Usd::from_cents(100));
    RuleKind::UnexplainedSpend { above }
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

/// What the rest of the configuration says that rules depend on.
pub(super) struct Ground<'a> {
    pub(super) notify: &'a Notify,
    pub(super) known: &'a Known,
    /// Whether offers are polled.
    pub(super) offers: bool,
}

/// The default rules but those that a `[[rule]]` replaces, then the file's own.
pub(super) fn rules(root: &mut Reader<'_>, defaults: bool, ground: &Ground<'_>) -> Vec<Rule> {
    let notify = ground.notify;
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
        rule(r, name, kind, ground)
    });
    let of_default = |(name, severity, kind): (_, _, RuleKind)| Rule {
        name,
        receivers: notify.route(everybody(&kind, ground.known), severity),
        kind,
        severity,
        for_: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        matcher: Matcher::default(),
        repeat_interval: None,
    };
    let mut rules: Vec<Rule> =
        KINDS.iter().filter(|_| defaults).flat_map(defaults_of).map(of_default).collect();
    rules.retain(|rule| !taken.contains(&rule.name));
    rules.extend(own.into_iter().flatten());
    for rule in &mut rules {
        rule.repeat_interval = if rule.kind.is_event() { None } else { notify.repeat(rule.severity) };
    }
    rules
}

fn rule(r: &mut Reader<'_>, name: Option<Arc<str>>, kind: Kind, ground: &Ground<'_>) -> Option<Rule> {
    let built = (kind.build)(r);
    if kind.kind == "overpaying" && !ground.offers {
        r.complain("kind", "kind `overpaying` needs the offers, and [collect] offers is off");
    }
    for (parameter, kinds) in PARAMETERS {
        if !kinds.contains(&kind.kind) && r.take(parameter).is_some() {
            r.complain(
                parameter,
                format!("kind `{}` has no such parameter, only {}", kind.kind, kinds.join(", ")),
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
        About::Account | About::Team | About::Deployment | About::Volume => matcher(r, kind),
    };
    let named = r.full_list("receivers", |n| n.text().map(str::to_owned));
    let own = named.map(|named| routes(r, "receivers", named, ground.known));
    let own = own.or_else(|| everybody(&built, ground.known));
    Some(Rule {
        name: name?,
        kind: built,
        severity,
        for_,
        keep_firing_for,
        matcher,
        receivers: ground.notify.route(own, severity),
        repeat_interval: None,
    })
}

/// That one receiver takes nothing has to be told by the others, whoever hears of what else.
fn everybody(kind: &RuleKind, known: &Known) -> Option<Vec<Route>> {
    let named = known.iter().filter(|(name, _)| &***name != LOG);
    let all = named.map(|(name, resolved)| Route { receiver: name.clone(), send_resolved: *resolved });
    matches!(kind, RuleKind::DeliveryFailing).then(|| all.collect())
}

fn matcher(r: &mut Reader<'_>, kind: Kind) -> Matcher {
    let matcher = r.table("match", |r| {
        if r.is_empty() {
            r.complain("", "must not be empty; remove it to match everything");
        }
        let mut matcher = Matcher::default();
        for (key, of) in MatchKey::ALL {
            if let Some(can) = kind.about.cannot_match(of) {
                if r.has(key) {
                    r.take(key);
                    r.complain(key, format!("kind `{}` is about {can}", kind.kind));
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
    node.word(&KINDS.map(|kind| (kind.kind, kind)))
}

fn severity(node: &Node) -> Read<Severity> {
    node.word(&Severity::ALL.map(|severity| (severity.as_str(), severity)))
}
