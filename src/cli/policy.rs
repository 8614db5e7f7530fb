//! `policy list|show|arm|disarm`: what may be ended, whether it is, and the switch.
//!
//! It must never arm without a code that the person has read beside what it stands for.

pub mod words;

use std::{path::Path, process::ExitCode};

use super::{
    change::{self, Daemon, Made},
    layout::{Paper, quoted},
    output::{self, Cell, Colors, Column, Fit, Format, Sheet, Size},
    source::{self, Source, SourceError},
};
use crate::{
    config::Env,
    model::humanize,
    serve::api::{self, Action, Arm, Disarmed, Page, Policy, PolicyPreview, Stop},
};

#[derive(Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Show the policies
    List,
    /// Show one: what it says, whether it is armed, what it would end now, and why not the rest
    Show {
        /// As the configuration has it
        name: String,
    },
    /// Show what a policy would end, what is lost with that, and the code that arms it
    Arm {
        /// As the configuration has it
        name: String,
        /// Arm it: the code of what it would end now, as shown without this
        #[arg(long, value_name = "CODE")]
        confirm: Option<String>,
    },
    /// Make a policy a dry run again, at once; what it has announced is called off
    Disarm {
        /// As the configuration has it
        name: String,
    },
}

pub fn policy(
    command: &PolicyCommand,
    config: Option<&Path>,
    env: &Env,
    format: Format,
    colors: Colors,
) -> ExitCode {
    let paper = Paper::detect(colors);
    let done = match command {
        PolicyCommand::List => list(config, env, format),
        PolicyCommand::Show { name } => show(name, config, env, format, paper),
        PolicyCommand::Arm { name, confirm: None } => preview(name, config, env, format, paper),
        PolicyCommand::Arm { name, confirm: Some(code) } => arm(name, code, config, env, format, paper),
        PolicyCommand::Disarm { name } => disarm(name, config, env, format, paper),
    };
    match done {
        Ok(text) => super::done(&text),
        Err(error) => error.tell(""),
    }
}

fn path(name: &str) -> String {
    format!("policies/{}", api::encode(name))
}

fn list(config: Option<&Path>, env: &Env, format: Format) -> Result<String, SourceError> {
    let mut source = Source::new(config, env)?;
    let page = source.all("policies", "")?;
    source.tell();
    Ok(text(&page, format, Size::detect().map(|size| size.columns)))
}

const COLUMNS: [Column; 8] = [
    Column("NAME", "name", Fit::Text),
    Column("STATE", "state", Fit::Whole),
    Column("WHEN", "when", Fit::Text),
    Column("MATCH", "match", Fit::Text),
    Column("GRACE", "grace_secs", Fit::Whole),
    Column("OPEN", "open_actions", Fit::Figure),
    Column("ENDED", "ended", Fit::Figure),
    Column("SAVED", "saved_usd", Fit::Figure),
];

fn text(page: &Page<Policy>, format: Format, width: Option<u16>) -> String {
    match format {
        Format::Json => source::pretty(page),
        Format::Csv => Sheet::new(COLUMNS, page.items.iter().map(row)).csv(),
        Format::Table if page.items.is_empty() => "there is no [[policy]]: nothing is ended".to_owned(),
        Format::Table => {
            let table = Sheet::new(COLUMNS, page.items.iter().map(row)).table(width);
            let paper = Paper { width, colors: Colors(false) };
            let notes = words::notes(&page.items, paper);
            std::iter::once(table).chain(notes).collect::<Vec<_>>().join("\n\n")
        }
    }
}

fn row(policy: &Policy) -> [Cell; 8] {
    [
        Cell::text(&policy.name),
        Cell::both(policy.state.replace('_', " "), &policy.state),
        Cell::text(policy.when.join("; ")),
        Cell::text(words::matching(policy)),
        Cell::both(humanize(words::grace(policy)), policy.grace_secs.to_string()),
        Cell::text(policy.open_actions.to_string()),
        Cell::text(policy.ended.to_string()),
        Cell::both(policy.saved.to_string(), policy.saved.0.to_decimal()),
    ]
}

fn show(
    name: &str,
    config: Option<&Path>,
    env: &Env,
    format: Format,
    paper: Paper,
) -> Result<String, SourceError> {
    let mut source = Source::new(config, env)?;
    let preview: PolicyPreview = source.get(&path(name), "")?;
    source.tell();
    Ok(document(&preview, format, || words::shown(&preview, paper)))
}

/// The daemon's alone: a code of anybody else would arm nothing.
fn preview(
    name: &str,
    config: Option<&Path>,
    env: &Env,
    format: Format,
    paper: Paper,
) -> Result<String, SourceError> {
    let preview: PolicyPreview = Daemon::new(config, env)?.get(&path(name))?;
    Ok(document(&preview, format, || words::before_arming(&preview, paper)))
}

fn document(preview: &PolicyPreview, format: Format, table: impl FnOnce() -> String) -> String {
    match format {
        Format::Json => source::pretty(preview),
        Format::Csv => words::sheet(preview).csv(),
        Format::Table => table(),
    }
}

fn arm(
    name: &str,
    code: &str,
    config: Option<&Path>,
    env: &Env,
    format: Format,
    paper: Paper,
) -> Result<String, SourceError> {
    let daemon = Daemon::new(config, env)?;
    let before: PolicyPreview = daemon.get(&path(name))?;
    let asked = Arm { code: code.to_owned(), by: change::user(env) };
    let posted = daemon.post(&format!("{}/arm", path(name)), &asked);
    let policy: Policy = posted.map_err(|mut error| {
        if let (SourceError::Refused(problem), true) = (&mut error, before.code != code) {
            problem.detail.push_str("; it is shown by: spheron-watch policy arm ");
            problem.detail.push_str(&quoted(name));
        }
        error
    })?;
    Ok(match format {
        Format::Json => source::pretty(&Made::new(policy)),
        Format::Csv => output::clean(&policy.state),
        Format::Table => words::armed(&policy, &before, paper),
    })
}

fn disarm(
    name: &str,
    config: Option<&Path>,
    env: &Env,
    format: Format,
    paper: Paper,
) -> Result<String, SourceError> {
    let daemon = Daemon::new(config, env)?;
    let of_this = |action: &Action| action.policy == name && action.state != "withheld";
    let before: Page<Action> = daemon.get("actions")?;
    let open = before.items.into_iter().filter(|action| action.closed.is_none() && of_this(action));
    let open: Vec<String> = open.map(|action| action.id).collect();
    let by = Stop { by: change::user(env) };
    let disarmed: Disarmed = daemon.post(&format!("{}/disarm", path(name)), &by)?;
    Ok(match format {
        Format::Json => source::pretty(&Made::new(disarmed)),
        Format::Csv => "dry_run".to_owned(),
        Format::Table => {
            let now: Page<Action> = daemon.get("actions")?;
            let known: Vec<&Action> = now.items.iter().filter(|action| open.contains(&action.id)).collect();
            words::disarmed(&disarmed, &known, paper)
        }
    })
}

#[cfg(test)]
mod tests;
