//! `why/{deployment}`: what each rule makes of it, of its team and of the account: condition, verdict, reason, what is next,
//! and what would cancel it; and where each policy stands with it.
//!
//! It must never judge anew: it says what the engine says.

use serde::{Deserialize, Serialize};

use super::{
    At, Deployment, Look, Next, Problem, Source, WhyPolicy, alerts,
    deployments::{self, find},
    values::SCHEMA,
    verdicts,
    words::{self, Scope},
};
use crate::model::{AlertKey, AlertState, Held, HeldReason, Rule, Severity, Subject, Tracked};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    pub schema: u32,
    pub at: At,
    pub source: Source,
    pub deployment: Deployment,
    pub rules: Vec<WhyRule>,
    #[serde(default)]
    pub policies: Vec<WhyPolicy>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyRule {
    pub rule: String,
    pub kind: String,
    pub severity: Severity,
    /// `deployment`, `team` or `account`.
    pub about: String,
    pub condition: String,
    /// What the condition is held against, where it is a figure of this deployment or team.
    pub input: Option<String>,
    /// `firing`, `silenced`, `inhibited`, `kept_firing`, `pending`, `not_met`, `told`, `unknown`, `not_matched` or `unjudged`.
    pub verdict: String,
    pub reason: String,
    pub since: Option<At>,
    pub next: Option<Next>,
    pub cancelled_by: String,
}

pub fn why(look: Look<'_>, text: &str) -> Result<Why, Problem> {
    let tracked = find(look.view, text)?;
    let held: Vec<&Held> = look.held.iter().filter(|held| concerns(&held.subject, tracked)).collect();
    let rules = look.view.rules.iter().flat_map(|rule| verdicts(look, rule, tracked, &held));
    Ok(Why {
        schema: SCHEMA,
        at: At(look.now),
        source: look.source,
        deployment: deployments::deployment(look, tracked),
        rules: rules.collect(),
        policies: verdicts::all(look, tracked),
    })
}

/// The deployment itself, its team, the account.
fn concerns(subject: &Subject, tracked: &Tracked) -> bool {
    match subject {
        Subject::Account => true,
        Subject::Team { id: team } | Subject::Occasion { team, .. } => *team == tracked.deployment.team,
        Subject::Deployment { .. } => *subject == deployments::subject(tracked),
        Subject::Volume { .. } => false,
    }
}

/// One for each subject of the rule that concerns it; one also where the rule says nothing of it.
fn verdicts(look: Look<'_>, rule: &Rule, tracked: &Tracked, held: &[&Held]) -> Vec<WhyRule> {
    let default = match words::scope(&rule.kind) {
        Scope::Deployment => deployments::subject(tracked),
        Scope::Team => Subject::Team { id: tracked.deployment.team.clone() },
        Scope::Account => Subject::Account,
        Scope::Volume => return Vec::new(),
    };
    let firing = look.view.firing.keys().filter(|key| key.rule == rule.name);
    let firing = firing.map(|key| &key.subject).filter(|subject| concerns(subject, tracked));
    let judged = held.iter().filter(|held| held.rule == rule.name).map(|held| &held.subject);
    let mut subjects: Vec<&Subject> = firing.chain(judged).collect();
    subjects.sort();
    subjects.dedup();
    if subjects.is_empty() {
        subjects.push(&default);
    }
    subjects.into_iter().map(|subject| verdict(look, rule, subject, tracked, held)).collect()
}

fn verdict(look: Look<'_>, rule: &Rule, subject: &Subject, tracked: &Tracked, held: &[&Held]) -> WhyRule {
    let held = held.iter().find(|held| held.rule == rule.name && held.subject == *subject);
    let reason = held.map(|held| &held.reason);
    let key = AlertKey { rule: rule.name.clone(), subject: subject.clone() };
    let state = look.view.firing.get(&key).map(|(state, _)| state);
    let (verdict, text) = match (state, reason) {
        (
            Some(_),
            Some(
                known @ (HeldReason::KeptFiring { .. }
                | HeldReason::Silenced { .. }
                | HeldReason::Inhibited { .. }),
            ),
        ) => (words::code(known), words::reason(look, reason, rule)),
        (Some(_), Some(_)) => ("firing", words::reason(look, reason, rule)),
        (Some(state), None) => ("firing", told(state)),
        (None, Some(known)) => (words::code(known), words::reason(look, reason, rule)),
        (None, None) if !matches(look, rule, tracked) => {
            ("not_matched", "the rule's `match` leaves it out".to_owned())
        }
        (None, None) => ("unjudged", words::reason(look, None, rule)),
    };
    let pending = match reason {
        Some(HeldReason::Pending { until }) => Some(until.minus(rule.for_)),
        Some(_) | None => None,
    };
    WhyRule {
        rule: rule.name.to_string(),
        kind: rule.kind.as_str().to_owned(),
        severity: rule.severity,
        about: subject.kind().to_owned(),
        condition: match words::mark(subject) {
            Some(mark) => format!("{}; here: {mark}", words::condition(&rule.kind)),
            None => words::condition(&rule.kind),
        },
        input: words::input(look, &rule.kind, tracked),
        verdict: verdict.to_owned(),
        reason: text,
        since: state.map(|state| alerts::times(state).0).or(pending).map(At),
        next: words::next(look, rule, subject, tracked),
        cancelled_by: words::cancelled_by(&rule.kind),
    }
}

fn told(state: &AlertState) -> String {
    match alerts::times(state).1 {
        Some(at) => format!("it fires, and people were told at {at}"),
        None => "it fires".to_owned(),
    }
}

fn matches(look: Look<'_>, rule: &Rule, tracked: &Tracked) -> bool {
    let team = look.view.snapshot.teams.get(&tracked.deployment.team);
    let team_name = team.map_or("", |team| &*team.name);
    match words::scope(&rule.kind) {
        Scope::Deployment => rule.matcher.matches_deployment(&tracked.deployment, team_name),
        Scope::Team => rule.matcher.matches_team(tracked.deployment.team.as_str(), team_name),
        Scope::Account | Scope::Volume => true,
    }
}
