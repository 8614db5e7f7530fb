//! `silence add|list|end`: what people do not want to hear of for a while.
//!
//! It must never change anything but through the daemon, which commits it before it says so.

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use super::{
    change::{self, Daemon, Made},
    output::{self, Cell, Column, Fit, Format, Sheet, Size},
    source::{self, Source, SourceError},
};
use crate::{
    config::Env,
    model::{Time, humanize},
    serve::api::{self, At, NewSilence, Page, Silence},
};

#[derive(Debug, clap::Subcommand)]
pub enum SilenceCommand {
    /// Do not tell what matches, for a while
    Add(AddArgs),
    /// Show the silences that hold or are to come
    List {
        /// Also those that have ended; they are remembered for 30 days
        #[arg(long)]
        all: bool,
    },
    /// End a silence now
    End {
        /// As `silence list` shows it
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// What an alert must match, all of it: rule, kind, severity, team, name, id, gpu_type, provider,
    /// region or instance_type, with * and ? in the pattern
    #[arg(long = "match", value_name = "KEY=GLOB", required = true, num_args = 1.., value_parser = matcher)]
    matchers: Vec<(String, String)>,
    /// How long (`2h`, `3d`)
    #[arg(long = "for", value_name = "D", value_parser = super::length, required_unless_present = "until", conflicts_with = "until")]
    length: Option<Duration>,
    /// Until when (`2026-12-24T18:00:00Z`)
    #[arg(long, value_name = "T", value_parser = super::time)]
    until: Option<Time>,
    /// Why
    #[arg(short = 'm', long, value_name = "C", default_value = "")]
    comment: String,
    /// Who says so [default: $USER]
    #[arg(long, value_name = "A")]
    author: Option<String>,
}

fn matcher(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, glob)) if !key.is_empty() && !glob.is_empty() => Ok((key.to_owned(), glob.to_owned())),
        Some(_) | None => Err("a matcher is KEY=GLOB, as in rule=low-balance".to_owned()),
    }
}

pub fn silence(command: &SilenceCommand, config: Option<&Path>, env: &Env, format: Format) -> ExitCode {
    let done = match command {
        SilenceCommand::List { all } => list(*all, config, env, format),
        SilenceCommand::Add(args) => {
            let matchers: BTreeMap<String, String> = args.matchers.iter().cloned().collect();
            if matchers.len() < args.matchers.len() {
                return super::misused(
                    "one key has two patterns, and an alert would have to match both; give one",
                );
            }
            add(args, matchers, config, env, format)
        }
        SilenceCommand::End { id } => end(id, config, env),
    };
    match done {
        Ok(text) => super::done(&text),
        Err(error) => error.tell(""),
    }
}

fn add(
    args: &AddArgs,
    matchers: BTreeMap<String, String>,
    config: Option<&Path>,
    env: &Env,
    format: Format,
) -> Result<String, SourceError> {
    let asked = NewSilence {
        matchers,
        starts: None,
        ends: args.until.map(At),
        for_secs: args.length.map(|length| length.as_secs()),
        author: args.author.clone().unwrap_or_else(|| change::user(env)),
        comment: args.comment.clone(),
    };
    let made: Silence = Daemon::new(config, env)?.post("silences", &asked)?;
    Ok(match format {
        Format::Csv => output::clean(&made.id),
        Format::Table => format!("{} holds until {}", output::clean(&made.id), made.ends),
        Format::Json => source::pretty(&Made::new(made)),
    })
}

fn end(id: &str, config: Option<&Path>, env: &Env) -> Result<String, SourceError> {
    Daemon::new(config, env)?.delete(&format!("silences/{}", api::encode(id)))?;
    Ok(format!("{} has ended", output::clean(id)))
}

fn list(all: bool, config: Option<&Path>, env: &Env, format: Format) -> Result<String, SourceError> {
    let mut source = Source::new(config, env)?;
    let mut page: Page<Silence> = source.all("silences", "")?;
    page.items.retain(|silence| all || silence.ends > page.at);
    (page.total, page.limit) = (page.items.len(), page.items.len());
    source.tell();
    Ok(text(&page, format, Size::detect().map(|size| size.columns)))
}

const COLUMNS: [Column; 6] = [
    Column("ID", "id", Fit::Whole),
    Column("STATE", "state", Fit::Whole),
    Column("MATCHES", "matchers", Fit::Text),
    Column("ENDS", "ends", Fit::Whole),
    Column("AUTHOR", "author", Fit::Text),
    Column("COMMENT", "comment", Fit::Text),
];

fn text(page: &Page<Silence>, format: Format, width: Option<u16>) -> String {
    let rows = page.items.iter().map(|silence| {
        let matchers: Vec<String> =
            silence.matchers.iter().map(|(key, glob)| format!("{key}={glob}")).collect();
        let left = humanize(silence.ends.0.since(page.at.0));
        let ends = if silence.ends > page.at { format!("in {left}") } else { silence.ends.to_string() };
        [
            Cell::text(&silence.id),
            Cell::text(&silence.state),
            Cell::text(matchers.join(" ")),
            Cell::both(ends, silence.ends.to_string()),
            Cell::text(&silence.author),
            Cell::text(&silence.comment),
        ]
    });
    match format {
        Format::Json => source::pretty(page),
        Format::Csv => Sheet::new(COLUMNS, rows).csv(),
        Format::Table if page.items.is_empty() => "no silence holds or is to come".to_owned(),
        Format::Table => Sheet::new(COLUMNS, rows).table(width),
    }
}
