//! `keep DEPLOYMENT|list|end`: which deployments no policy may end, and until when.
//!
//! It must never let anybody think that what is kept costs nothing.

use std::{path::Path, process::ExitCode, time::Duration};

use super::{
    change::{self, Daemon, Made},
    layout::{count, distance, label, moment, quoted},
    output::{self, Cell, Column, Fit, Format, Sheet, Size},
    source::{self, Source, SourceError},
};
use crate::{
    config::Env,
    model::{Time, Usd},
    serve::api::{self, At, Keep, NewKeep, Page},
};

#[derive(Debug, clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    override_usage = "spheron-watch keep <DEPLOYMENT> <--for <D>|--until <T>|--forever> [--reason <R>]\n       \
                      spheron-watch keep list [--all]\n       spheron-watch keep end <ID>",
    after_help = "A deployment that is called `list` or `end` is kept by its id, or after two dashes: keep --for 1d -- list",
    group(clap::ArgGroup::new("length_of_it").required(true).args(["length", "until", "forever"])),
)]
pub struct KeepArgs {
    #[command(subcommand)]
    command: Option<KeepCommand>,
    /// An id or a name, or the beginning of one
    #[arg(required = true)]
    deployment: Option<String>,
    /// How long (`2h`, `3d`)
    #[arg(long = "for", value_name = "D", value_parser = super::length)]
    length: Option<Duration>,
    /// Until when (`2026-12-24T18:00:00Z`)
    #[arg(long, value_name = "T", value_parser = super::time)]
    until: Option<Time>,
    /// Until the keep is ended, or the deployment ends otherwise
    #[arg(long)]
    forever: bool,
    /// Why
    #[arg(short = 'r', long, value_name = "R")]
    reason: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
pub enum KeepCommand {
    /// Show the keeps that hold
    List {
        /// Also those that have ended; they are remembered for 30 days
        #[arg(long)]
        all: bool,
    },
    /// End a keep now
    End {
        /// As `keep list` shows it, whole
        id: String,
    },
}

impl KeepArgs {
    fn is_for_one(&self) -> bool {
        self.deployment.is_some()
            || self.length.is_some()
            || self.until.is_some()
            || self.forever
            || self.reason.is_some()
    }
}

pub fn keep(args: &KeepArgs, config: Option<&Path>, env: &Env, format: Format) -> ExitCode {
    let deployment = args.deployment.as_deref().unwrap_or_default();
    let done = match &args.command {
        Some(_) if args.is_for_one() => {
            return super::misused(
                "`list` and `end` are commands of their own here; to keep a deployment of such a name: \
                 spheron-watch keep --for 1d -- list",
            );
        }
        Some(KeepCommand::List { all }) => list(*all, config, env, format),
        Some(KeepCommand::End { id }) => end(id, config, env),
        None => match add(args, deployment, config, env, format) {
            // What it was kept from may happen nevertheless: a script must not take that for done.
            Ok((text, true)) => {
                super::done(&text);
                return ExitCode::FAILURE;
            }
            Ok((text, false)) => Ok(text),
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(text) => super::done(&text),
        Err(error) => error.tell(deployment),
    }
}

/// Also whether it comes too late for what is under way.
fn add(
    args: &KeepArgs,
    deployment: &str,
    config: Option<&Path>,
    env: &Env,
    format: Format,
) -> Result<(String, bool), SourceError> {
    let asked = NewKeep {
        deployment: deployment.to_owned(),
        until: args.until.map(At),
        for_secs: args.length.map(|length| length.as_secs()),
        forever: args.forever,
        by: change::user(env),
        reason: args.reason.clone().unwrap_or_default(),
    };
    let made: Keep = Daemon::new(config, env)?.post("keeps", &asked)?;
    if let (Some(warning), Format::Table | Format::Csv) = (&made.warning, format) {
        output::message(&output::clean(warning));
    }
    let late = made.warning.is_some();
    let text = match format {
        Format::Csv => output::clean(&made.id),
        Format::Table => said(&made),
        Format::Json => source::pretty(&Made::new(made)),
    };
    Ok((text, late))
}

fn said(keep: &Keep) -> String {
    let name = output::clean(label(&keep.deployment));
    let until = match keep.until {
        Some(until) => format!("until {}", moment(keep.at, until)),
        None => "until the keep is ended".to_owned(),
    };
    let costs = match keep.price_per_hour {
        Some(price) => format!("It runs on and costs {price}/h: to keep is not to stop."),
        None => "What runs on costs as before: to keep is not to stop.".to_owned(),
    };
    if keep.warning.is_some() {
        return format!(
            "{name} is kept {until}, but too late for what is under way: look at it with spheron-watch actions.\n\
             To end the keep: spheron-watch keep end {}",
            quoted(&keep.id)
        );
    }
    format!(
        "{name} is kept {until}: no policy ends it.\n{costs}\nTo end the keep: spheron-watch keep end {}",
        quoted(&keep.id)
    )
}

fn end(id: &str, config: Option<&Path>, env: &Env) -> Result<String, SourceError> {
    let by = api::encode(&change::user(env));
    Daemon::new(config, env)?.delete(&format!("keeps/{}?by={by}", api::encode(id)))?;
    Ok(format!(
        "{} has ended; what it kept may be ended by a policy again, after a new announcement",
        output::clean(id)
    ))
}

fn list(all: bool, config: Option<&Path>, env: &Env, format: Format) -> Result<String, SourceError> {
    let mut source = Source::new(config, env)?;
    let mut page: Page<Keep> = source.all("keeps", "")?;
    page.items.retain(|keep| all || keep.state == "active");
    (page.total, page.limit) = (page.items.len(), page.items.len());
    source.tell();
    Ok(text(&page, format, Size::detect().map(|size| size.columns)))
}

const SHOWN: [Column; 7] = [
    Column("ID", "id", Fit::Whole),
    Column("STATE", "state", Fit::Whole),
    Column("DEPLOYMENT", "name", Fit::Text),
    Column("UNTIL", "until", Fit::Whole),
    Column("$/H", "usd_per_hour", Fit::Figure),
    Column("BY", "by", Fit::Text),
    Column("REASON", "reason", Fit::Text),
];

const COLUMNS: [&str; 9] =
    ["id", "state", "deployment_id", "name", "until", "usd_per_hour", "by", "reason", "at"];

fn text(page: &Page<Keep>, format: Format, width: Option<u16>) -> String {
    match format {
        Format::Json => source::pretty(page),
        Format::Csv => {
            let at = |at: At| Cell::text(at.to_string());
            let rows = page.items.iter().map(|keep| {
                let [id, state, name, until, price, by, reason] = row(page.at, keep);
                let deployment = Cell::text(&keep.deployment.id);
                [id, state, deployment, name, until, price, by, reason, at(keep.at)]
            });
            Sheet::new(COLUMNS.map(|name| Column(name, name, Fit::Text)), rows).csv()
        }
        Format::Table if page.items.is_empty() => {
            "no keep holds: whatever a policy matches, it may end".to_owned()
        }
        Format::Table => {
            let table = Sheet::new(SHOWN, page.items.iter().map(|keep| row(page.at, keep))).table(width);
            let held = page.items.iter().filter(|keep| keep.state == "active");
            let prices: Vec<Usd> = held.filter_map(|keep| Some(keep.price_per_hour?.0)).collect();
            let rate: Usd = prices.iter().copied().sum();
            format!("{table}\n\n{} kept and running, at {rate}/h", count(prices.len(), "deployment"))
        }
    }
}

fn row(now: At, keep: &Keep) -> [Cell; 7] {
    let until = match keep.until {
        Some(until) => Cell::both(distance(now, until), until.to_string()),
        None => Cell::both("forever", ""),
    };
    let price = keep
        .price_per_hour
        .map_or(Cell::both("-", ""), |price| Cell::both(price.to_string(), price.0.to_decimal()));
    [
        Cell::text(&keep.id),
        Cell::text(&keep.state),
        Cell::both(label(&keep.deployment), &keep.deployment.name),
        until,
        price,
        Cell::text(&keep.by),
        Cell::text(&keep.reason),
    ]
}

#[cfg(test)]
mod tests;
