//! `alerts`: what fires now, and with `--all` what is about to.
//!
//! It must never say that nothing fires when nobody was asked.

use std::{path::Path, process::ExitCode};

use super::{
    output::{self, Cell, Column, Fit, Format, Sheet, Size},
    source::{self, Source, SourceError},
};
use crate::{
    config::Env,
    model::humanize,
    serve::api::{Alert, Page},
};

#[derive(Debug, clap::Args)]
pub struct AlertsArgs {
    /// Also those whose `for` has not passed yet
    #[arg(long)]
    all: bool,
}

pub fn alerts(args: &AlertsArgs, config: Option<&Path>, env: &Env, format: Format) -> ExitCode {
    match ask(args, config, env) {
        Ok((page, notice)) => {
            notice.iter().for_each(|notice| output::message(notice));
            output::data(&text(&page, format, Size::detect().map(|size| size.columns)));
            ExitCode::SUCCESS
        }
        Err(error) => super::failed(&error.to_string()),
    }
}

fn ask(
    args: &AlertsArgs,
    config: Option<&Path>,
    env: &Env,
) -> Result<(Page<Alert>, Option<String>), SourceError> {
    let mut source = Source::new(config, env)?;
    let page = source.all("alerts", if args.all { "all=true" } else { "" })?;
    Ok((page, source.notice))
}

const COLUMNS: [Column; 8] = [
    Column("SEVERITY", "severity", Fit::Whole),
    Column("STATE", "state", Fit::Whole),
    Column("RULE", "rule", Fit::Whole),
    Column("ABOUT", "subject_kind", Fit::Whole),
    Column("NAME", "subject_name", Fit::Text),
    Column("TEAM", "team", Fit::Text),
    Column("SINCE", "since", Fit::Whole),
    Column("TOLD", "told", Fit::Whole),
];

pub(super) fn text(page: &Page<Alert>, format: Format, width: Option<u16>) -> String {
    let ago = |at: crate::serve::api::At| format!("{} ago", humanize(page.at.0.since(at.0)));
    let rows = page.items.iter().map(|alert| {
        let about = &alert.subject;
        let name =
            about.name.as_deref().filter(|name| !name.is_empty()).or(about.id.as_deref()).unwrap_or("");
        let told = alert.told.map_or(("-".to_owned(), String::new()), |at| (ago(at), at.to_string()));
        [
            Cell::text(alert.severity.as_str()),
            Cell::text(&alert.state),
            Cell::text(&alert.rule),
            Cell::text(&about.kind),
            Cell::text(name),
            Cell::text(about.team.as_ref().map_or("", |team| &team.name)),
            Cell::both(ago(alert.since), alert.since.to_string()),
            Cell::both(told.0, told.1),
        ]
    });
    match format {
        Format::Json => source::pretty(page),
        Format::Csv => Sheet::new(COLUMNS, rows).csv(),
        Format::Table if page.items.is_empty() => "no alert fires".to_owned(),
        Format::Table => Sheet::new(COLUMNS, rows).table(width),
    }
}
