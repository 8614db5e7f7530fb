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

/// What has to fit a terminal: names give way to each other, and figures stay.
const SHOWN: [Column; 7] = [
    Column("SEVERITY", "severity", Fit::Whole),
    Column("STATE", "state", Fit::Whole),
    Column("RULE", "rule", Fit::Text),
    Column("ABOUT", "subject_name", Fit::Text),
    Column("TEAM", "team", Fit::Text),
    Column("SINCE", "since", Fit::Whole),
    Column("TOLD", "told", Fit::Whole),
];

fn shown(row: [Cell; 8]) -> [Cell; 7] {
    let [severity, state, rule, kind, name, team, since, told] = row;
    [severity, state, rule, if name.is_empty() { kind } else { name }, team, since, told]
}

pub(super) fn text(page: &Page<Alert>, format: Format, width: Option<u16>) -> String {
    let ago = |at: crate::serve::api::At| humanize(page.at.0.since(at.0));
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
        Format::Table => Sheet::new(SHOWN, rows.map(shown)).table(width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_can_be_read_at_80_columns() {
        let alert = |rule: &str, kind: &str, name: &str| {
            serde_json::json!({
                "rule": rule, "kind": "balance", "severity": "critical", "state": "firing",
                "subject": {"kind": kind, "id": "id", "name": name, "team": {"id": "t", "name": "research"}},
                "since": "2026-09-21T14:13:20Z", "told": "2026-09-21T14:13:20Z", "cleared": null, "reason": "",
            })
        };
        let page: Page<Alert> = serde_json::from_value(serde_json::json!({
            "schema": 1, "at": "2026-09-22T15:14:21Z", "source": "daemon", "total": 2, "offset": 0, "limit": 1_000,
            "next_offset": null,
            "items": [alert("unattached-volume", "volume", "checkpoints-1"), alert("delivery-failing", "account", "")],
        }))
        .unwrap();
        let text = text(&page, Format::Table, Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() == 3, "{text}");
        for word in
            ["unattached-volume", "checkpoints-1", "research", "critical", "delivery-failing", "1d 1h"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
