//! The JSON API: a view, a path and a query → a document. The same over TCP, over the socket, and over a view that was read
//! from the database because no daemon runs.
//!
//! It must never show a half of anything: lists are paged and say how long they are, and each answer is of one view.

mod actions;
mod alerts;
mod changes;
mod costs;
mod deliveries;
mod deployments;
mod keeps;
mod policies;
mod problem;
mod query;
mod records;
mod silences;
mod status;
mod teams;
mod values;
mod verdicts;
mod volumes;
mod why;
mod wishes;
mod words;

pub use actions::{Action, ActionHistory, Step};
pub use alerts::{About, Alert};
pub use changes::{NewSilence, Orders, Sending};
pub use costs::{Costs, Spent};
pub use deliveries::{Attempt, Deliveries, Delivery};
pub use deployments::{Deployment, Named, Next};
pub use keeps::{Keep, NewKeep};
pub use policies::{Arm, Disarmed, Limits, Policy, PolicyPreview, Stop, Waiting, WouldEnd};
pub use problem::{Candidate, Problem};
pub use query::encode;
pub use records::Records;
pub use silences::Silence;
pub use status::{Counts, FeedStatus, Status};
pub use teams::Team;
pub use values::{At, Money, Page, SCHEMA};
pub use verdicts::{Input, WhyPolicy};
pub use volumes::Volume;
pub use why::{Why, WhyRule};
pub use wishes::Asking;

pub(super) use changes::{Api, COMMITTED_WITHIN, answer};
pub(super) use policies::lost;

use std::borrow::Cow;

use crate::model::{Held, PolicyReasons, Time, View};
use query::Query;

/// Where all paths begin.
pub const ROOT: &str = "/api/v1";

/// What there is, for whoever asks for something else.
const PATHS: &str = "status, teams, deployments, volumes, alerts, silences, keeps, policies, policies/{name}, actions, actions/{id}, \
     costs, deliveries, why/{deployment}";

/// Who knows: the running daemon, or what it left in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Daemon,
    Database,
}

/// One picture and the time at which it is looked at.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    pub view: &'a View,
    /// Why nothing is told; empty unless [`asks_why`].
    pub held: &'a [Held],
    /// Where every policy stands; `None` unless [`asks_policies`].
    pub policies: Option<&'a PolicyReasons>,
    /// What the view does not hold; `None` unless [`asks_records`].
    pub records: Option<&'a dyn Records>,
    pub now: Time,
    pub source: Source,
}

impl<'a> Look<'a> {
    fn records(self) -> Result<&'a dyn Records, Problem> {
        self.records.ok_or_else(|| Problem::new(503, "there is no database to read this from"))
    }
}

/// Whether what lies at `path` below [`ROOT`] says why nothing is told: nobody makes reasons that nobody reads.
pub fn asks_why(path: &str) -> bool {
    matches!(first(path).as_deref(), Some("alerts" | "why"))
}

/// Whether what lies at `path` below [`ROOT`] says where a policy stands.
pub fn asks_policies(path: &str) -> bool {
    let segments = query::segments(path).unwrap_or_default();
    let segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
    matches!(segments.as_slice(), ["why", _] | ["policies", _])
}

/// Whether what lies at `path` below [`ROOT`] may be in the database alone, so that [`get`] takes as long as a query.
pub fn asks_records(path: &str) -> bool {
    matches!(first(path).as_deref(), Some("actions" | "costs" | "deliveries"))
}

fn first(path: &str) -> Option<Cow<'_, str>> {
    query::segments(path).ok()?.into_iter().next()
}

/// Answers a GET of `path` below [`ROOT`], percent-encoded as it was sent.
pub fn get(look: Look<'_>, path: &str, query: &str) -> Result<String, Problem> {
    let segments = query::segments(path)?;
    let query = Query::parse(query)?;
    let segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
    match segments.as_slice() {
        ["status"] => query.none().and_then(|()| json(&status::status(look))),
        ["teams"] => json(&teams::list(look, query.page(&[])?)),
        ["deployments"] => {
            let current = query.flag("current")?;
            json(&deployments::list(look, query.page(&["current"])?, current))
        }
        ["volumes"] => json(&volumes::list(look, query.page(&[])?)),
        ["alerts"] => {
            let all = query.flag("all")?;
            json(&alerts::list(look, query.page(&["all"])?, all))
        }
        ["silences"] => json(&silences::list(look, query.page(&[])?)),
        ["keeps"] => json(&keeps::list(look, query.page(&[])?)),
        ["policies"] => json(&policies::list(look, query.page(&[])?)),
        ["policies", name] => query.none().and_then(|()| json(&policies::preview(look, name)?)),
        ["actions"] => {
            let all = query.flag("all")?;
            json(&actions::list(look, query.page(&["all"])?, all)?)
        }
        ["actions", id] => query.none().and_then(|()| json(&actions::history(look, id)?)),
        ["costs"] => json(&costs::costs(look, &query)?),
        ["deliveries"] => json(&deliveries::list(look, &query)?),
        ["why", deployment] => query.none().and_then(|()| json(&why::why(look, deployment)?)),
        _ => Err(Problem::new(404, format!("there is no such path below {ROOT}; there is: {PATHS}"))),
    }
}

fn json(document: &impl serde::Serialize) -> Result<String, Problem> {
    serde_json::to_string(document).map_err(|error| {
        tracing::error!(%error, "an answer of the API cannot be written as JSON");
        Problem::new(500, "the answer cannot be written as JSON; see the daemon's log")
    })
}
