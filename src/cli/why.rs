//! `why DEPLOYMENT`: what each rule and each policy makes of it, and what happens next.
//!
//! It must never pick one of several deployments that a text may mean.

use std::{path::Path, process::ExitCode, time::Duration};

use super::{
    layout::{Paper, moment, quoted},
    output::{self, Cell, Colors, Column, Fit, Format, Sheet},
    source::{self, Source, SourceError},
};
use crate::{
    config::Env,
    model::humanize,
    serve::api::{self, Input, Why, WhyPolicy, WhyRule},
};

#[derive(Debug, clap::Args)]
pub struct WhyArgs {
    /// An id or a name, or the beginning of one
    deployment: String,
}

pub fn why(args: &WhyArgs, config: Option<&Path>, env: &Env, format: Format, colors: Colors) -> ExitCode {
    let path = format!("why/{}", api::encode(&args.deployment));
    let asked = Source::new(config, env).and_then(|mut source| {
        let why: Result<Why, SourceError> = source.get(&path, "");
        source.tell();
        why
    });
    match asked {
        Ok(why) => super::done(&text(&why, format, Paper::detect(colors))),
        Err(error) => error.tell(&args.deployment),
    }
}

const COLUMNS: [Column; 11] = [
    Column("RULE", "rule", Fit::Text),
    Column("KIND", "kind", Fit::Text),
    Column("SEVERITY", "severity", Fit::Text),
    Column("ABOUT", "about", Fit::Text),
    Column("VERDICT", "verdict", Fit::Text),
    Column("CONDITION", "condition", Fit::Text),
    Column("INPUT", "input", Fit::Text),
    Column("REASON", "reason", Fit::Text),
    Column("SINCE", "since", Fit::Text),
    Column("NEXT", "next_at", Fit::Text),
    Column("CANCELLED BY", "cancelled_by", Fit::Text),
];

fn text(why: &Why, format: Format, paper: Paper) -> String {
    match format {
        Format::Json => source::pretty(why),
        Format::Csv => {
            let policies = why.policies.iter().map(policy_row);
            Sheet::new(COLUMNS, why.rules.iter().map(row).chain(policies)).csv()
        }
        Format::Table => {
            let rules = why.rules.iter().map(|rule| block(why, rule, paper));
            let policies = why.policies.iter().map(|policy| policy_block(why, policy, paper));
            std::iter::once(head(why, paper)).chain(rules).chain(policies).collect::<Vec<_>>().join("\n\n")
        }
    }
}

fn row(rule: &WhyRule) -> [Cell; 11] {
    let at = |at: Option<api::At>| Cell::text(at.map_or_else(String::new, |at| at.to_string()));
    [
        Cell::text(&rule.rule),
        Cell::text(&rule.kind),
        Cell::text(rule.severity.as_str()),
        Cell::text(&rule.about),
        Cell::text(&rule.verdict),
        Cell::text(&rule.condition),
        Cell::text(rule.input.as_deref().unwrap_or_default()),
        Cell::text(&rule.reason),
        at(rule.since),
        at(rule.next.as_ref().map(|next| next.at)),
        Cell::text(&rule.cancelled_by),
    ]
}

fn policy_row(policy: &WhyPolicy) -> [Cell; 11] {
    let each = |part: fn(&Input) -> &String| {
        policy.inputs.iter().map(|input| part(input).as_str()).collect::<Vec<_>>().join("; ")
    };
    [
        Cell::text(&policy.policy),
        Cell::text("policy"),
        Cell::empty(),
        Cell::text("deployment"),
        Cell::text(&policy.verdict),
        Cell::text(each(|input| &input.condition)),
        Cell::text(each(|input| &input.value)),
        Cell::text(policy.reasons.join("; ")),
        Cell::empty(),
        Cell::text(policy.next.as_ref().map_or_else(String::new, |next| next.at.to_string())),
        Cell::text(policy.stops.join("; ")),
    ]
}

fn head(why: &Why, paper: Paper) -> String {
    let deployment = &why.deployment;
    let name = output::clean(&deployment.name);
    let facts = [
        output::clean(&deployment.id),
        format!("team {}", output::clean(&deployment.team.name)),
        output::clean(super::status::state(deployment)),
        format!("{}/h", deployment.price_per_hour),
        format!("up {}", humanize(Duration::from_secs(deployment.up_secs))),
        format!("cost {}", deployment.cost),
    ];
    format!("{}  {}", paper.colors.bold(&name), facts.join("  "))
}

fn block(why: &Why, rule: &WhyRule, paper: Paper) -> String {
    let verdict = rule.verdict.replace('_', " ");
    let title = format!(
        "{}  {} ({}, {})",
        verdict,
        output::clean(&rule.rule),
        rule.severity,
        output::clean(&rule.about)
    );
    let since = rule.since.map(|at| moment(why.at, at));
    let next = rule.next.as_ref().map(|next| format!("{} at {}", next.what, moment(why.at, next.at)));
    let lines = [
        ("condition", Some(rule.condition.clone())),
        ("now", rule.input.clone()),
        ("reason", Some(rule.reason.clone())),
        ("since", since),
        ("next", next),
        ("ends by", Some(rule.cancelled_by.clone())),
    ];
    let colors = paper.colors;
    let title = if rule.verdict == "firing" { colors.warn(&title) } else { colors.bold(&title) };
    format!("{title}\n{}", paper.facts(lines))
}

/// Each condition with what it looks at, then every gate that is closed.
fn policy_block(why: &Why, policy: &WhyPolicy, paper: Paper) -> String {
    let verdict = policy.verdict.replace('_', " ");
    let armed = if policy.armed { "armed" } else { "dry run" };
    let title = format!("{verdict}  {} (policy, {armed})", output::clean(&policy.policy));
    let mut facts = Vec::new();
    // What it looks at does not matter where it looks away.
    if policy.verdict != "not_matched" {
        let inputs = policy.inputs.iter();
        facts.extend(inputs.flat_map(|input| {
            [("condition", Some(input.condition.clone())), ("now", Some(input.value.clone()))]
        }));
    }
    let open = policy.reasons.is_empty().then(|| "nothing keeps it: every gate is open".to_owned());
    let names = std::iter::once("reason").chain(std::iter::repeat(""));
    facts.extend(names.zip(policy.reasons.iter().cloned().chain(open).map(Some)));
    let next = policy.next.as_ref().map(|next| format!("{}: {}", moment(why.at, next.at), next.what));
    let action = policy.action.as_ref().map(|id| format!("spheron-watch actions show {}", quoted(id)));
    let stops = (!policy.stops.is_empty()).then(|| policy.stops.join(", or "));
    facts.extend([("next", next), ("action", action), ("stopped by", stops)]);
    let colors = paper.colors;
    let title =
        if policy.armed && policy.action.is_some() { colors.warn(&title) } else { colors.bold(&title) };
    format!("{title}\n{}", paper.facts(facts))
}

#[cfg(test)]
mod tests;
