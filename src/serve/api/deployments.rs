//! `deployments`: what runs, what it costs, and what will happen to it next; and finding one by what a person types.
//!
//! It must never guess which deployment is meant: several candidates are an error that names them.

use std::time::Duration;

use serde::{Deserialize as De, Serialize};

use super::{At, Candidate, Look, Money, Page, Problem, actions, query::Slice, words};
use crate::model::{DeploymentId, Presence, Subject, Target, TeamId, Tracked, View};

/// An ended one is current for so long, as it is in `/metrics` (PRODUCT §9).
const CURRENT_AFTER_END: Duration = Duration::from_secs(15 * 60);
const CANDIDATES_MAX: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, De)]
pub struct Deployment {
    pub id: String,
    pub name: String,
    pub team: Named,
    pub gpu_type: String,
    pub gpu_count: u32,
    pub instance_type: String,
    pub provider: String,
    pub region: String,
    pub status: String,
    /// Present and billing, as far as is known.
    pub live: bool,
    /// `listed`, `missing` (its own GET decides) or `gone`.
    pub presence: String,
    pub created_at: At,
    pub started_at: Option<At>,
    pub stopped_at: Option<At>,
    /// Since it started, or until it stopped.
    pub up_secs: u64,
    pub price_per_hour: Money,
    /// The API's own sum so far.
    pub cost: Money,
    /// `busy`, `idle` or `unknown`, as `[[activity]]` measures it.
    pub activity: String,
    /// A Kubernetes add-on costs extra that the price may not hold.
    pub kubernetes: bool,
    pub next: Option<Next>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, De)]
pub struct Named {
    pub id: String,
    pub name: String,
}

/// What happens by itself if nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, De)]
pub struct Next {
    pub at: At,
    pub what: String,
}

/// `current`: those that bill, and those that ended lately.
pub fn list(look: Look<'_>, slice: Slice, current: bool) -> Page<Deployment> {
    let wanted = |tracked: &&Tracked| !current || is_current(look, tracked);
    let all: Vec<&Tracked> = look.view.snapshot.deployments.values().map(|t| &**t).filter(wanted).collect();
    Page::new(look, slice, all, |tracked| deployment(look, tracked))
}

fn is_current(look: Look<'_>, tracked: &Tracked) -> bool {
    let ended = match tracked.presence {
        Presence::Gone(at) => at,
        Presence::Listed | Presence::Missing { .. } => tracked.status_since,
    };
    tracked.is_live() || look.now.since(ended) < CURRENT_AFTER_END
}

pub fn deployment(look: Look<'_>, tracked: &Tracked) -> Deployment {
    let deployment = &tracked.deployment;
    let presence = match tracked.presence {
        Presence::Listed => "listed",
        Presence::Missing { .. } => "missing",
        Presence::Gone(_) => "gone",
    };
    let subject = subject(tracked);
    let next = look.view.rules.iter().filter_map(|rule| words::next(look, rule, &subject, tracked));
    let target = Target::of(deployment);
    let announced =
        look.view.actions.iter().filter(|action| action.target == target && action.stage.slot().is_some());
    let next = next.chain(announced.filter_map(|action| actions::next(look, action)));
    Deployment {
        id: deployment.id.to_string(),
        name: deployment.name.to_string(),
        team: named_team(look, &deployment.team),
        gpu_type: deployment.gpu_type.to_string(),
        gpu_count: deployment.gpu_count,
        instance_type: deployment.instance_type.to_string(),
        provider: deployment.provider.to_string(),
        region: deployment.region.to_string(),
        status: deployment.status.to_string(),
        live: tracked.is_live(),
        presence: presence.to_owned(),
        created_at: At(deployment.created_at),
        started_at: deployment.started_at.map(At),
        stopped_at: deployment.stopped_at.map(At),
        up_secs: up(look, tracked).as_secs(),
        price_per_hour: Money(deployment.hourly_rate),
        cost: Money(deployment.total_cost),
        activity: look.view.snapshot.activity_of(&deployment.id, look.now).as_str().to_owned(),
        kubernetes: deployment.kubernetes,
        next: next.min_by_key(|next| next.at),
    }
}

pub fn up(look: Look<'_>, tracked: &Tracked) -> Duration {
    let ended = (!tracked.is_live()).then_some(tracked.status_since);
    tracked.deployment.stopped_at.or(ended).unwrap_or(look.now).since(tracked.deployment.since())
}

pub fn subject(tracked: &Tracked) -> Subject {
    Subject::Deployment { id: tracked.deployment.id.clone(), created_at: tracked.deployment.created_at }
}

pub fn named_team(look: Look<'_>, id: &TeamId) -> Named {
    let team = look.view.snapshot.teams.get(id);
    Named { id: id.to_string(), name: team.map_or_else(String::new, |team| team.name.to_string()) }
}

/// By id, else by name, else by the beginning of either. Of several with one name, the one that bills.
pub fn find<'a>(view: &'a View, text: &str) -> Result<&'a Tracked, Problem> {
    let deployments = &view.snapshot.deployments;
    if let Some(tracked) = deployments.get(&DeploymentId::new(text)) {
        return Ok(tracked);
    }
    let those = |fits: &dyn Fn(&Tracked) -> bool| -> Vec<&'a Tracked> {
        deployments.values().map(|tracked| &**tracked).filter(|tracked| fits(tracked)).collect()
    };
    let begins = |whole: &str| !text.is_empty() && whole.starts_with(text);
    let named = those(&|t| !text.is_empty() && *t.deployment.name == *text);
    let begun = || those(&|t| begins(t.deployment.id.as_str()) || begins(&t.deployment.name));
    let found = if named.is_empty() { begun() } else { named };
    let live: Vec<&Tracked> = found.iter().copied().filter(|tracked| tracked.is_live()).collect();
    match (found.as_slice(), live.as_slice()) {
        ([], _) if !view.snapshot.fleet_known() => Err(Problem::new(
            503,
            "what runs is not read yet; see `spheron-watch status` for why, and ask again",
        )),
        ([], _) => match view.snapshot.unknown.get(&DeploymentId::new(text)) {
            Some(unknown) => Err(Problem::new(
                503,
                format!("it is listed and cannot be read ({}): what it is and costs is unknown", unknown.why),
            )),
            None => Err(Problem::new(404, "no deployment has this id or name, or one that begins so")),
        },
        ([one], _) | (_, [one]) => Ok(one),
        _ => Err(ambiguous(&found)),
    }
}

fn ambiguous(found: &[&Tracked]) -> Problem {
    let candidates = found.iter().take(CANDIDATES_MAX).map(|tracked| Candidate {
        id: tracked.deployment.id.to_string(),
        name: tracked.deployment.name.to_string(),
        status: tracked.deployment.status.to_string(),
    });
    let detail = format!("{} deployments may be meant; give the id of one", found.len());
    Problem { candidates: candidates.collect(), ..Problem::new(409, detail) }
}
