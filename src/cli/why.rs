//! `why DEPLOYMENT`: what each rule makes of it, and what happens next.
//!
//! It must never pick one of several deployments that a text may mean.

use std::{path::Path, process::ExitCode, time::Duration};

use super::{
    output::{self, Cell, Colors, Column, Fit, Format, Sheet},
    source::{self, Source, SourceError},
};
use crate::{
    config::Env,
    model::humanize,
    serve::api::{self, Problem, Why, WhyRule},
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
        source.notice.iter().for_each(|notice| output::message(notice));
        why
    });
    match asked {
        Ok(why) => {
            output::data(&text(&why, format, colors));
            ExitCode::SUCCESS
        }
        Err(SourceError::Refused(problem)) => super::failed(&refusal(&args.deployment, &problem)),
        Err(error) => super::failed(&error.to_string()),
    }
}

fn refusal(asked: &str, problem: &Problem) -> String {
    let mut text = format!("{}: {}", output::clean(asked), output::clean(&problem.detail));
    if !problem.candidates.is_empty() {
        let rows = problem.candidates.iter().map(|c| [c.id.clone(), c.name.clone(), c.status.clone()]);
        text.push('\n');
        text.push_str(&output::table(["ID", "NAME", "STATUS"], rows));
    }
    text
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

fn text(why: &Why, format: Format, colors: Colors) -> String {
    match format {
        Format::Json => source::pretty(why),
        Format::Csv => Sheet::new(COLUMNS, why.rules.iter().map(row)).csv(),
        Format::Table => {
            let rules = why.rules.iter().map(|rule| block(why, rule, colors));
            std::iter::once(head(why, colors)).chain(rules).collect::<Vec<_>>().join("\n\n")
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

fn head(why: &Why, colors: Colors) -> String {
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
    format!("{}  {}", colors.bold(&name), facts.join("  "))
}

fn block(why: &Why, rule: &WhyRule, colors: Colors) -> String {
    let verdict = rule.verdict.replace('_', " ");
    let title = format!(
        "{}  {} ({}, {})",
        verdict,
        output::clean(&rule.rule),
        rule.severity,
        output::clean(&rule.about)
    );
    let since = rule.since.map(|at| format!("{at} ({} ago)", humanize(why.at.0.since(at.0))));
    let next = rule
        .next
        .as_ref()
        .map(|next| format!("{} at {} (in {})", next.what, next.at, humanize(next.at.0.since(why.at.0))));
    let lines = [
        ("condition", Some(rule.condition.clone())),
        ("now", rule.input.clone()),
        ("reason", Some(rule.reason.clone())),
        ("since", since),
        ("next", next),
        ("ends by", Some(rule.cancelled_by.clone())),
    ];
    let lines = lines.into_iter().filter_map(|(name, text)| Some((name, text?)));
    let lines: Vec<String> = lines
        .map(|(name, text)| format!("  {} {}", colors.dim(&format!("{name:<9}")), output::clean(&text)))
        .collect();
    let title = if rule.verdict == "firing" { colors.warn(&title) } else { colors.bold(&title) };
    format!("{title}\n{}", lines.join("\n"))
}
