//! What one poll of one resource saw, silence and damage included.
//!
//! It must never let an error look like an empty list: a scope either holds what was read or says why not.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Balance, Deployment, DeploymentId, Offer, TeamId, Time, Volume};

/// A kind of poll with a schedule of its own. `Detail` is the GET of single deployments that vanished from a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Feed {
    Balance,
    Deployments,
    Detail,
    Inventory,
    Volumes,
    Offers,
}

impl Feed {
    pub const ALL: [Self; 6] =
        [Self::Balance, Self::Deployments, Self::Detail, Self::Inventory, Self::Volumes, Self::Offers];

    /// Where calls are short, no feed's interval grows beyond this or its configured one, whichever is longer, while what is
    /// granted can bear that.
    pub fn slowest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Balance => 60,
            Self::Deployments | Self::Detail | Self::Volumes => 15 * 60,
            Self::Inventory | Self::Offers => 2 * 3_600,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Deployments => "deployments",
            Self::Detail => "detail",
            Self::Inventory => "inventory",
            Self::Volumes => "volumes",
            Self::Offers => "offers",
        }
    }
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whose list was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Without a `teamId`: for balances all teams, for deployments what the server makes of it.
    Unscoped,
    Team(TeamId),
    /// One deployment, by id.
    One(DeploymentId),
}

/// A record that was there but could not be trusted; what it holds is unknown, not absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it could be read at all.
    pub id: Option<Arc<str>>,
    /// Names the field and what is wrong with it, never its value.
    pub why: Arc<str>,
}

/// One list as the API gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    pub items: Vec<T>,
    pub unreadable: Vec<Unreadable>,
    /// Why the list may not be whole though it came: duplicate ids, totals that don't add up, a round count (FAULTS 7).
    pub suspect: Option<Arc<str>>,
}

impl<T> Listing<T> {
    /// Only a whole list can show that something is gone.
    pub fn is_whole(&self) -> bool {
        self.unreadable.is_empty() && self.suspect.is_none()
    }
}

/// What came of one call, as far as anybody must act differently on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// 401: the key is missing, expired or revoked.
    Unauthorized,
    /// 403: this team or resource is not ours.
    Forbidden,
    /// 404.
    NotFound,
    /// 429.
    RateLimited,
    /// Another 4xx.
    Refused,
    /// 5xx.
    Server,
    /// Name resolution, connection, TLS.
    Network,
    /// The 20 s deadline.
    Timeout,
    /// 200, but not what the reference documents: HTML, truncated, over the cap, a redirect.
    Malformed,
    /// Our own call governor held it back; nothing was sent.
    Held,
}

/// Why a call gave nothing. `message` is for people: it has the API's `code` and `error`, never a body, key or URL query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    pub message: Arc<str>,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facts {
    Balances(Listing<Balance>),
    Deployments(Listing<Deployment>),
    Volumes(Listing<Volume>),
    Offers(Listing<Offer>),
    /// The answer of a deployment's own GET; `None` is a 404.
    Deployment(Option<Box<Deployment>>),
}

impl Facts {
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Balances(list) => list.is_whole(),
            Self::Deployments(list) => list.is_whole(),
            Self::Volumes(list) => list.is_whole(),
            Self::Offers(list) => list.is_whole(),
            Self::Deployment(_) => true,
        }
    }
}

/// One poll of one feed: every scope that was asked, with what it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub feed: Feed,
    /// When the last answer was in.
    pub at: Time,
    pub scopes: Vec<(Scope, Result<Facts, Failure>)>,
    /// The API's own clock minus ours, in ms, from its `Date` header (whole seconds).
    pub skew_ms: Option<i64>,
}

/// `Complete` alone can show that something is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Complete,
    Partial,
    Failed,
}

impl Observation {
    /// A poll that asked nobody is a failed one: no scope, no knowledge.
    pub fn outcome(&self) -> Outcome {
        let good =
            self.scopes.iter().filter(|(_, result)| result.as_ref().is_ok_and(Facts::is_whole)).count();
        let read = self.scopes.iter().filter(|(_, result)| result.is_ok()).count();
        if read == 0 {
            Outcome::Failed
        } else if good == self.scopes.len() {
            Outcome::Complete
        } else {
            Outcome::Partial
        }
    }

    /// The first thing that went wrong, for people.
    pub fn trouble(&self) -> Option<Arc<str>> {
        fn of<T>(list: &Listing<T>) -> Option<Arc<str>> {
            list.suspect.clone().or_else(|| list.unreadable.first().map(|u| u.why.clone()))
        }
        self.scopes.iter().find_map(|(_, result)| match result {
            Err(failure) => Some(failure.message.clone()),
            Ok(Facts::Balances(list)) => of(list),
            Ok(Facts::Deployments(list)) => of(list),
            Ok(Facts::Volumes(list)) => of(list),
            Ok(Facts::Offers(list)) => of(list),
            Ok(Facts::Deployment(_)) => None,
        })
    }

    /// The worst failure of any scope, if any failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.scopes.iter().filter_map(|(_, result)| result.as_ref().err()).min_by_key(|failure| failure.kind)
    }
}
