//! The configuration as the rest of the program uses it: typed, checked, every default applied.
//!
//! It must never hold a secret, only the name of the file that does, nor anything that changes while running.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::tz::TimeZone;

use crate::{
    model::{Feed, Glob, Grouping, Matcher, Policy, Query, Rule, Safety},
    schedule::Schedule,
};

#[derive(Debug, Clone)]
pub struct Settings {
    /// The file it was read from; `None` where there is none and defaults hold.
    pub source: Option<PathBuf>,
    pub account: Account,
    pub collect: Collect,
    pub store: Store,
    pub serve: Serve,
    pub smtp: Option<Smtp>,
    /// Without the log, which always exists.
    pub receivers: Vec<Receiver>,
    /// Default rules and the file's own, in that order.
    pub rules: Vec<Rule>,
    pub activity: Vec<Activity>,
    /// Dry runs until they are armed.
    pub policies: Vec<Policy>,
    pub safety: Safety,
    pub grouping: Grouping,
    /// Addresses of members, without a slash at the end; each hears of every alert.
    pub alertmanagers: Vec<String>,
    /// The file that holds the address of a dead-man switch.
    pub heartbeat_url_file: Option<PathBuf>,
}

impl Settings {
    /// The keys in which this differs from the settings that the process started with, and which a reload cannot change.
    pub fn needs_restart_after(&self, started: &Self) -> Vec<&'static str> {
        let (a, b) = (&self.account, &started.account);
        let differs = [
            ("account.base_url", a.base_url != b.base_url),
            ("account.api_key_file", a.api_key_file != b.api_key_file),
            ("account.ca_file", a.ca_file != b.ca_file),
            ("collect.calls_per_15m", self.collect.calls_per_15m != started.collect.calls_per_15m),
            ("collect.timeout", self.collect.timeout != started.collect.timeout),
            ("store", self.store != started.store),
            ("serve", self.serve != started.serve),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// A way to know that a GPU works.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    pub name: Arc<str>,
    pub kind: ActivityKind,
    pub every: Duration,
    /// Whether an address that the API gives may be a private or loopback one.
    pub allow_private: bool,
    /// Empty matches everything.
    pub matcher: Matcher,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ActivityKind {
    /// `{ip}` is the host of `url`.
    Prometheus {
        url: String,
        metric: String,
        busy_above: f64,
    },
    Ssh {
        identity_file: PathBuf,
        command: String,
        busy_above: f64,
    },
    Promql {
        url: String,
        query: Query,
        busy_above: f64,
    },
    Heartbeat {
        secret_file: PathBuf,
        busy_above: f64,
    },
    VolumeGrowth,
}

#[derive(Debug, Clone)]
pub struct Account {
    /// Without a slash at its end.
    pub base_url: String,
    pub api_key_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    /// Ids or names of teams; never empty.
    pub teams: Vec<Glob>,
}

#[derive(Debug, Clone)]
pub struct Collect {
    pub timezone: TimeZone,
    pub deployments: Schedule,
    pub balance: Schedule,
    pub volumes: Schedule,
    pub inventory: Schedule,
    pub offers: Option<Schedule>,
    /// `None`: half of what the API grants.
    pub calls_per_15m: Option<u32>,
    pub timeout: Duration,
}

/// What one feed costs in API calls.
#[derive(Debug, Clone)]
pub struct FeedPlan<'a> {
    pub feed: Feed,
    pub schedule: &'a Schedule,
    pub calls_per_poll: u32,
    pub calls_per_15m: f64,
}

impl Collect {
    /// The schedule of a feed; `None` where it has none of its own or is off.
    pub fn schedule(&self, feed: Feed) -> Option<&Schedule> {
        match feed {
            Feed::Balance => Some(&self.balance),
            Feed::Deployments => Some(&self.deployments),
            Feed::Inventory => Some(&self.inventory),
            Feed::Volumes => Some(&self.volumes),
            Feed::Offers => self.offers.as_ref(),
            Feed::Detail => None,
        }
    }

    /// Every scheduled feed with its calls for so many teams: lists per team, the inventory once unscoped besides, one page
    /// each. The unscoped list may do for all deployments; the plan counts the dearer way.
    pub fn plan(&self, teams: u32) -> Vec<FeedPlan<'_>> {
        let plan = |feed: Feed| {
            let schedule = self.schedule(feed)?;
            let calls_per_poll = match feed {
                Feed::Balance | Feed::Offers | Feed::Detail => 1,
                Feed::Deployments | Feed::Volumes => teams.max(1),
                Feed::Inventory => teams.saturating_add(1),
            };
            let calls_per_15m = schedule.calls_per_15m(f64::from(calls_per_poll));
            Some(FeedPlan { feed, schedule, calls_per_poll, calls_per_15m })
        };
        Feed::ALL.into_iter().filter_map(plan).collect()
    }

    pub fn planned_calls_per_15m(&self, teams: u32) -> f64 {
        self.plan(teams).iter().map(|plan| plan.calls_per_15m).sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    pub path: PathBuf,
    /// How long polls and their values are kept; `None`: for ever.
    pub keep_raw: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serve {
    /// `None`: no TCP.
    pub listen: Option<SocketAddr>,
    /// Lower case.
    pub hosts: Vec<String>,
    pub public: bool,
    /// Where people reach it, without a slash at the end; `None`: notices have no links.
    pub external_url: Option<String>,
    /// Where commands reach the daemon; `None`: nowhere.
    pub socket: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smtp {
    pub smarthost: HostPort,
    /// `Name <address>` or an address alone; parses as lettre's `Mailbox`.
    pub from: String,
    pub tls: SmtpTls,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

/// `host` without brackets where it is an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The names that can only mean this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Required, never stripped.
    Starttls,
    Implicit,
    /// To loopback only.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    pub name: Arc<str>,
    pub kind: ReceiverKind,
    pub send_resolved: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverKind {
    /// Never empty; each parses as lettre's `Mailbox`. There is an `[smtp]` then.
    Email {
        to: Vec<String>,
    },
    Webhook {
        url_file: PathBuf,
        format: WebhookFormat,
    },
}

/// What is posted, with the secret that the format needs or may have beside its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Standard Webhooks.
    Standard {
        secret_file: Option<PathBuf>,
    },
    Alertmanager {
        token_file: Option<PathBuf>,
    },
    Slack,
    Discord,
    Teams,
    Pagerduty {
        routing_key_file: PathBuf,
    },
    Ntfy {
        token_file: Option<PathBuf>,
    },
    Telegram {
        chat: Chat,
    },
}

impl WebhookFormat {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Standard { .. } => "standard",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Teams => "teams",
            Self::Pagerduty { .. } => "pagerduty",
            Self::Ntfy { .. } => "ntfy",
            Self::Telegram { .. } => "telegram",
        }
    }
}

/// Where a Telegram bot writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chat {
    Id(i64),
    /// With its `@`.
    Name(String),
}
