//! `status`: what is left, what it costs, how long it lasts, and what runs.
//!
//! It must never show old figures without their age.

use std::{path::Path, process::ExitCode, thread::sleep, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    output::{self, Cell, Colors, Column, Fit, Format, Sheet, Size},
    source::{self, Source, SourceError},
};
use crate::{
    config::Env,
    model::{Usd, humanize},
    serve::api::{At, Deployment, Status, Team},
};

const REFRESH: Duration = Duration::from_secs(2);
/// More have their figures with `-o json`.
const TEAMS_MAX: usize = 20;
/// Top left, and everything gone.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Show it anew every 2 s, until Ctrl-C; goes on through a restart of the daemon
    #[arg(short, long)]
    watch: bool,
}

/// The API's `status` with the items of its `teams` and of its current `deployments`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document {
    #[serde(flatten)]
    status: Status,
    teams: Vec<Team>,
    deployments: Vec<Deployment>,
}

pub fn status(
    args: &StatusArgs,
    config: Option<&Path>,
    env: &Env,
    format: Format,
    colors: Colors,
) -> ExitCode {
    if !args.watch {
        return match ask(config, env) {
            Ok((document, notice)) => {
                notice.iter().for_each(|notice| output::message(notice));
                output::data(&text(&document, format, Size::detect().map(|size| size.columns), colors));
                ExitCode::SUCCESS
            }
            Err(error) => super::failed(&error.to_string()),
        };
    }
    loop {
        let size = Size::detect();
        let frame = match ask(config, env) {
            Ok((document, notice)) => {
                let text = text(&document, format, size.map(|size| size.columns), colors);
                match (notice, format) {
                    (Some(notice), Format::Table) => format!("{}\n{text}", colors.warn(&notice)),
                    (_, _) => text,
                }
            }
            Err(SourceError::Config(errors)) => return super::failed(&errors.to_string()),
            Err(error) if size.is_some() => colors.warn(&output::clean(&error.to_string())),
            Err(error) => {
                output::message(&error.to_string());
                // An empty frame: only a write tells that the reader has gone.
                String::new()
            }
        };
        let frame = match (size, format) {
            (Some(size), _) => format!("{CLEAR}{}", fitting(&frame, size)),
            (None, Format::Table) if !frame.is_empty() => format!("{frame}\n"),
            (None, Format::Table | Format::Json | Format::Csv) => frame,
        };
        if !output::data(&frame) {
            return ExitCode::SUCCESS;
        }
        sleep(REFRESH);
    }
}

fn ask(config: Option<&Path>, env: &Env) -> Result<(Document, Option<String>), SourceError> {
    let mut source = Source::new(config, env)?;
    let document = Document {
        status: source.get("status", "")?,
        teams: source.all("teams", "")?.items,
        deployments: source.all("deployments", "current=true")?.items,
    };
    Ok((document, source.notice))
}

/// What does not fit on the screen is counted, so that the first lines stay in sight.
fn fitting(frame: &str, size: Size) -> String {
    let (lines, room) = (frame.lines().count(), usize::from(size.rows).saturating_sub(2));
    if lines <= room {
        return frame.to_owned();
    }
    let shown: Vec<&str> = frame.lines().take(room.saturating_sub(1)).collect();
    format!("{}\n… {} lines more", shown.join("\n"), lines - shown.len())
}

fn text(document: &Document, format: Format, width: Option<u16>, colors: Colors) -> String {
    match format {
        Format::Json => source::pretty(document),
        Format::Csv => sheet(document).csv(),
        Format::Table => table(document, width, colors),
    }
}

fn table(document: &Document, width: Option<u16>, colors: Colors) -> String {
    let Document { status, teams, deployments } = document;
    let mut parts = vec![head(status, width, colors)];
    if teams.len() > 1 {
        let more = teams.len().saturating_sub(TEAMS_MAX);
        let rows = teams.iter().take(TEAMS_MAX).map(|team| team_row(status, team));
        let mut text = Sheet::new(TEAM_COLUMNS, rows).table(width);
        if more > 0 {
            text.push_str(&format!("\n… {more} teams more: spheron-watch status -o json"));
        }
        parts.push(text);
    }
    if deployments.is_empty() {
        let read = status.burn_per_hour.is_some();
        parts.push(if read { "nothing runs" } else { "what runs is not read yet" }.to_owned());
    } else {
        let live = || deployments.iter().filter(|deployment| deployment.live);
        let rate: Usd = live().map(|deployment| deployment.price_per_hour.0).sum();
        let cost: Usd = deployments.iter().map(|deployment| deployment.cost.0).sum();
        let mut total = [(); 9].map(|()| Cell::empty());
        let [name, .., rate_cell, cost_cell, _] = &mut total;
        *name = Cell::text("TOTAL");
        *rate_cell = Cell::text(rate.to_string());
        *cost_cell = Cell::text(cost.to_string());
        parts.push(shown(document).total(total).table(width));
    }
    parts.join("\n\n")
}

/// Balance, burn, end, age; then what is wrong.
fn head(status: &Status, width: Option<u16>, colors: Colors) -> String {
    let known = |money: Option<String>| money.unwrap_or_else(|| "unknown".to_owned());
    let mut figures = vec![
        format!("balance {}", known(status.balance.map(|balance| balance.to_string()))),
        format!("burn {}", known(status.burn_per_hour.map(|burn| format!("{burn}/h")))),
    ];
    if let Some(end) = status.runs_out_at {
        let team = status.runs_out_team.as_ref().filter(|_| status.counts.teams > 1);
        let team = team.map_or_else(String::new, |team| format!(": {}", output::clean(&team.name)));
        figures.push(format!("runs out {end} (in {}{team})", until(status.at, end)));
    }
    let age = status.data_at.map(|at| format!("data {} old", until(at, status.at)));
    figures.push(age.unwrap_or_else(|| "no data yet".to_owned()));
    let mut lines: Vec<String> = fill(&figures, width).iter().map(|line| colors.bold(line)).collect();
    let firing: Vec<String> = status
        .alerts
        .iter()
        .rev()
        .filter(|(_, count)| **count > 0)
        .map(|(severity, count)| format!("{count} {severity}"))
        .collect();
    if !firing.is_empty() {
        lines.push(colors.warn(&format!("alerts: {}: spheron-watch alerts", firing.join(", "))));
    }
    lines.extend(status.late.iter().map(|late| colors.warn(&output::clean(late))));
    lines.extend(status.stretched.iter().map(|line| colors.warn(&output::clean(line))));
    if let Some(unknown) = status.unknown.first() {
        lines.push(colors.warn(&format!(
            "{} listed and not readable, its cost is in no figure: {} ({}), for {}",
            if status.unknown.len() == 1 {
                "1 deployment is".to_owned()
            } else {
                format!("{} deployments are", status.unknown.len())
            },
            output::clean(&unknown.id),
            output::clean(&unknown.why),
            until(unknown.since, status.at)
        )));
    }
    if !status.config_reload_ok {
        lines.push(colors.warn("the configuration could not be reloaded: spheron-watch check-config"));
    }
    lines.join("\n")
}

/// Side by side as far as there is room.
fn fill(figures: &[String], width: Option<u16>) -> Vec<String> {
    const GAP: &str = "   ";
    let room = width.map_or(usize::MAX, usize::from);
    let mut lines: Vec<String> = Vec::new();
    for figure in figures {
        match lines.last_mut() {
            Some(line) if line.chars().count() + GAP.len() + figure.chars().count() <= room => {
                line.push_str(GAP);
                line.push_str(figure);
            }
            Some(_) | None => lines.push(figure.clone()),
        }
    }
    lines
}

fn until(from: At, to: At) -> String {
    humanize(to.0.since(from.0))
}

const TEAM_COLUMNS: [Column; 4] = [
    Column("TEAM", "team", Fit::Text),
    Column("BALANCE", "balance_usd", Fit::Figure),
    Column("BURN/H", "burn_usd_per_hour", Fit::Figure),
    Column("RUNS OUT", "runs_out_at", Fit::Whole),
];

fn team_row(status: &Status, team: &Team) -> [Cell; 4] {
    let balance = team.balance.map_or("unknown".to_owned(), |balance| balance.to_string());
    let end = team.runs_out_at.map_or("-".to_owned(), |end| format!("in {}", until(status.at, end)));
    let burn = team.burn_per_hour.map_or("unknown".to_owned(), |burn| burn.to_string());
    [Cell::text(&team.name), Cell::text(balance), Cell::text(burn), Cell::text(end)]
}

/// What people look at.
fn shown(document: &Document) -> Sheet<9> {
    let columns = [
        Column("NAME", "name", Fit::Text),
        Column("GPU", "gpu", Fit::Text),
        Column("TYPE", "instance_type", Fit::Text),
        Column("PROVIDER", "provider", Fit::Text),
        Column("STATUS", "status", Fit::Text),
        Column("UP", "up", Fit::Whole),
        Column("$/H", "price", Fit::Figure),
        Column("COST", "cost", Fit::Figure),
        Column("NEXT", "next", Fit::Text),
    ];
    let at = document.status.at;
    Sheet::new(
        columns,
        document.deployments.iter().map(|deployment| {
            let gpu = match deployment.gpu_count {
                0 => "CPU".to_owned(),
                count => format!("{count}× {}", deployment.gpu_type),
            };
            let price = if deployment.live { deployment.price_per_hour.to_string() } else { "-".to_owned() };
            let next = deployment.next.as_ref();
            let next =
                next.map_or_else(String::new, |next| format!("{} in {}", next.what, until(at, next.at)));
            [
                Cell::text(if deployment.name.is_empty() { &deployment.id } else { &deployment.name }),
                Cell::text(gpu),
                Cell::text(&deployment.instance_type),
                Cell::text(&deployment.provider),
                Cell::text(state(deployment)),
                Cell::text(humanize(Duration::from_secs(deployment.up_secs))),
                Cell::text(price),
                Cell::text(deployment.cost.to_string()),
                Cell::text(next),
            ]
        }),
    )
}

/// One short word, which has to fit: of what runs and is measured idle, that it is idle.
pub(super) fn state(deployment: &Deployment) -> &str {
    match (&*deployment.activity, &*deployment.presence) {
        ("idle", _) if deployment.live => "idle",
        // Its last status was none of an end, and the API knows it no more.
        (_, "gone") if matches!(&*deployment.status, "running" | "deploying" | "stopped") => "gone",
        (_, _) => &deployment.status,
    }
}

/// What programs read.
fn sheet(document: &Document) -> Sheet<15> {
    let column = |name: &'static str| Column(name, name, Fit::Text);
    let columns = [
        "id",
        "name",
        "team",
        "gpu_type",
        "gpu_count",
        "instance_type",
        "provider",
        "region",
        "status",
        "activity",
        "live",
        "up_secs",
        "usd_per_hour",
        "cost_usd",
        "started_at",
    ];
    Sheet::new(
        columns.map(column),
        document.deployments.iter().map(|deployment| {
            [
                Cell::text(&deployment.id),
                Cell::text(&deployment.name),
                Cell::text(&deployment.team.name),
                Cell::text(&deployment.gpu_type),
                Cell::text(deployment.gpu_count.to_string()),
                Cell::text(&deployment.instance_type),
                Cell::text(&deployment.provider),
                Cell::text(&deployment.region),
                Cell::text(&deployment.status),
                Cell::text(&deployment.activity),
                Cell::text(deployment.live.to_string()),
                Cell::text(deployment.up_secs.to_string()),
                Cell::text(deployment.price_per_hour.0.to_decimal()),
                Cell::text(deployment.cost.0.to_decimal()),
                Cell::text(deployment.started_at.map_or_else(String::new, |at| at.to_string())),
            ]
        }),
    )
}

#[cfg(test)]
mod tests;
