//! `actions [show|cancel]`: what policies have decided to end, where each stands, and what is next.
//!
//! It must never hide how to stop what can still be stopped.

use std::{path::Path, process::ExitCode};

use super::{
    change::{self, Daemon, Made},
    layout::{Paper, apart, distance, keep_command, label, moment, quoted},
    output::{self, Cell, Colors, Column, Fit, Format, Sheet, Size},
    source::{self, Source, SourceError},
};
use crate::{
    config::Env,
    serve::api::{self, Action, ActionHistory, At, Page, Step, Stop},
};

#[derive(Debug, clap::Args)]
pub struct ActionsArgs {
    #[command(subcommand)]
    command: Option<ActionsCommand>,
    /// Also those that have been over for more than a day
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum ActionsCommand {
    /// Show one: what is next, how to stop it, and every step with its reason
    Show {
        /// As `actions` shows it, or the beginning of it
        id: String,
    },
    /// Stop one, as long as nothing was requested; if its deployment still qualifies, it is announced anew, a day later at the earliest
    Cancel {
        /// As `actions` shows it, or the beginning of it
        id: String,
    },
}

pub fn actions(
    args: &ActionsArgs,
    config: Option<&Path>,
    env: &Env,
    format: Format,
    colors: Colors,
) -> ExitCode {
    let done = match &args.command {
        Some(_) if args.all => return super::misused("`--all` is of the list; leave it out here"),
        Some(ActionsCommand::Show { id }) => show(id, config, env, format, colors),
        Some(ActionsCommand::Cancel { id }) => cancel(id, config, env, format),
        None => list(args.all, config, env, format),
    };
    match done {
        Ok(text) => super::done(&text),
        Err(error) => error.tell(""),
    }
}

fn cancel(id: &str, config: Option<&Path>, env: &Env, format: Format) -> Result<String, SourceError> {
    let by = Stop { by: change::user(env) };
    let path = format!("actions/{}/cancel", api::encode(id));
    let action: Action = Daemon::new(config, env)?.post(&path, &by)?;
    let name = output::clean(label(&action.deployment));
    Ok(match format {
        Format::Csv => output::clean(&action.id),
        Format::Table => format!(
            "{} is {}: {name} is not ended by it.\nIf {name} still qualifies, it is announced anew, a day later at the earliest; to prevent that: {}",
            output::clean(&action.id),
            output::clean(&action.state),
            keep_command(&action.deployment.id)
        ),
        Format::Json => source::pretty(&Made::new(action)),
    })
}

fn list(all: bool, config: Option<&Path>, env: &Env, format: Format) -> Result<String, SourceError> {
    let mut source = Source::new(config, env)?;
    let page = source.all("actions", if all { "all=true" } else { "" })?;
    source.tell();
    Ok(text(&page, format, Size::detect().map(|size| size.columns)))
}

/// What has to fit a terminal; what is empty in every row gives its room to the names.
const SHOWN: [Column; 8] = [
    Column("ID", "id", Fit::Whole),
    Column("POLICY", "policy", Fit::Text),
    Column("DEPLOYMENT", "name", Fit::Text),
    Column("STATE", "state", Fit::Whole),
    Column("SINCE", "marked", Fit::Whole),
    Column("NEXT", "next", Fit::Spare),
    Column("$/H", "usd_per_hour", Fit::Figure),
    Column("SAVED", "saved_usd", Fit::Spare),
];

const COLUMNS: [&str; 14] = [
    "id",
    "policy",
    "deployment_id",
    "name",
    "team",
    "state",
    "marked",
    "not_before",
    "closed",
    "next",
    "next_at",
    "stoppable",
    "usd_per_hour",
    "saved_usd",
];

fn text(page: &Page<Action>, format: Format, width: Option<u16>) -> String {
    match format {
        Format::Json => source::pretty(page),
        Format::Csv => {
            Sheet::new(COLUMNS.map(|name| Column(name, name, Fit::Text)), page.items.iter().map(plain)).csv()
        }
        Format::Table if page.items.is_empty() => {
            "no policy is about to end anything, or has lately; what was before: spheron-watch actions --all"
                .to_owned()
        }
        Format::Table => Sheet::new(SHOWN, page.items.iter().map(|action| row(page.at, action))).table(width),
    }
}

fn row(now: At, action: &Action) -> [Cell; 8] {
    let next = action.next.as_ref();
    let saved =
        action.saved.map_or(Cell::empty(), |saved| Cell::both(saved.to_string(), saved.0.to_decimal()));
    [
        Cell::both(short(&action.id), &action.id),
        Cell::text(&action.policy),
        Cell::both(label(&action.deployment), &action.deployment.name),
        Cell::text(&action.state),
        Cell::both(apart(now, action.marked), action.marked.to_string()),
        next.map_or(Cell::empty(), |next| Cell::both(distance(now, next.at), &next.what)),
        Cell::both(action.price_per_hour.to_string(), action.price_per_hour.0.to_decimal()),
        saved,
    ]
}

/// The commands take the beginning of an id, and ask where it is that of several.
fn short(id: &str) -> String {
    id.chars().take("act_01234567".len()).collect()
}

fn plain(action: &Action) -> [Cell; 14] {
    let [id, policy, name, state, marked, next, price, saved] = row(action.marked, action);
    let at = |at: Option<At>| Cell::text(at.map_or_else(String::new, |at| at.to_string()));
    [
        id,
        policy,
        Cell::text(&action.deployment.id),
        name,
        Cell::text(&action.team.name),
        state,
        marked,
        at(action.not_before),
        at(action.closed),
        next,
        at(action.next.as_ref().map(|next| next.at)),
        Cell::text(action.stoppable.to_string()),
        price,
        saved,
    ]
}

fn show(
    id: &str,
    config: Option<&Path>,
    env: &Env,
    format: Format,
    colors: Colors,
) -> Result<String, SourceError> {
    let mut source = Source::new(config, env)?;
    let history: ActionHistory = source.get(&format!("actions/{}", api::encode(id)), "")?;
    source.tell();
    Ok(match format {
        Format::Json => source::pretty(&history),
        Format::Csv => Sheet::new(STEPS, history.steps.iter().map(step)).csv(),
        Format::Table => told(&history, Paper::detect(colors)),
    })
}

const STEPS: [Column; 4] = [
    Column("AT", "at", Fit::Whole),
    Column("FROM", "from", Fit::Text),
    Column("TO", "to", Fit::Text),
    Column("REASON", "reason", Fit::Text),
];

fn step(step: &Step) -> [Cell; 4] {
    [
        Cell::text(step.at.to_string()),
        Cell::text(step.from.as_deref().unwrap_or_default()),
        Cell::text(&step.to),
        Cell::text(&step.reason),
    ]
}

fn told(history: &ActionHistory, paper: Paper) -> String {
    let ActionHistory { at: now, action, steps, .. } = history;
    let title = format!("{}  {}", output::clean(&action.id), output::clean(&action.state));
    let title = if action.closed.is_none() { paper.colors.warn(&title) } else { paper.colors.bold(&title) };
    let deployment = format!(
        "{}, {}, team {}, {}/h",
        label(&action.deployment),
        action.deployment.id,
        label(&action.team),
        action.price_per_hour
    );
    let next = action.next.as_ref().map(|next| format!("{}: {}", moment(*now, next.at), next.what));
    let mut facts = vec![
        ("deployment", Some(deployment)),
        ("policy", Some(action.policy.clone())),
        ("marked", Some(moment(*now, action.marked))),
        ("not before", action.not_before.filter(|_| action.closed.is_none()).map(|at| moment(*now, at))),
        ("over", action.closed.map(|at| moment(*now, at))),
        ("saved", action.saved.map(|saved| format!("{saved}: what it would have cost since"))),
        ("next", next),
    ];
    if action.stoppable {
        let ways = [
            keep_command(&action.deployment.id),
            format!("spheron-watch actions cancel {}", quoted(&action.id)),
            format!("spheron-watch policy disarm {}", quoted(&action.policy)),
        ];
        facts.extend(["to stop it", "", ""].into_iter().zip(ways.map(Some)));
    }
    if action.closed.is_none() {
        facts.push(("to stop it", action.too_late.clone()));
    }
    let wide = steps.iter().map(|step| output::clean(&step.to).chars().count()).max().unwrap_or(0);
    let steps = steps.iter().map(|step| {
        let lead = format!("{}  {:<wide$}  ", step.at, output::clean(&step.to));
        paper.hanging(&lead, &step.reason)
    });
    let steps: Vec<String> = steps.collect();
    format!("{title}\n{}\n\n{}", paper.facts(facts), steps.join("\n"))
}

#[cfg(test)]
mod tests;
