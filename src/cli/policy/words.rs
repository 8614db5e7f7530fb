//! What `policy` says of one policy: what it would end, what is lost with that, what holds the rest back, and what to type next.
//!
//! It must never call anything armed, ended or called off that the daemon does not.

use std::time::Duration;

use crate::{
    cli::{
        layout::{Paper, count, distance, keep_command, label, moment, quoted},
        output::{Cell, Column, Fit, Sheet},
    },
    model::{Usd, humanize, outbox::LOG},
    serve::api::{Action, At, Disarmed, Named, Policy, PolicyPreview, Waiting, WouldEnd},
};

pub fn grace(policy: &Policy) -> Duration {
    Duration::from_secs(policy.grace_secs)
}

pub fn matching(policy: &Policy) -> String {
    let keys = policy.matching.iter().map(|(key, globs)| format!("{key}={}", globs.join("|")));
    keys.collect::<Vec<_>>().join(" ")
}

/// Below the list: what its words mean for who has not armed anything yet, or not again.
pub fn notes(policies: &[Policy], paper: Paper) -> Vec<String> {
    let any = |state| policies.iter().any(|policy| policy.state == state);
    let changed = any("changed").then(|| {
        paper.prose(
            "changed: it was armed, and it or what bears on it has changed since, so that it is a dry run until it is armed again.",
        )
    });
    let dry = any("dry_run").then(|| {
        let text = paper.prose("A dry run ends nothing. What one would end, and how to arm it:");
        format!("{text}\n  spheron-watch policy arm NAME")
    });
    [changed, dry].into_iter().flatten().collect()
}

fn state(policy: &Policy, now: At) -> String {
    let since = policy.armed_at.map_or_else(String::new, |at| format!(" since {}", moment(now, at)));
    let by = policy.armed_by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    match &*policy.state {
        "armed" => format!("armed{since}{by}"),
        "changed" => format!(
            "a dry run: it was armed{since}{by}, and it or what bears on it ([safety], the time zone, an activity) has changed since"
        ),
        _ => "a dry run: it ends nothing".to_owned(),
    }
}

fn is_armed(policy: &Policy) -> bool {
    policy.state == "armed"
}

pub fn shown(preview: &PolicyPreview, paper: Paper) -> String {
    let policy = &preview.policy;
    let title = paper.colors.bold(&paper.prose(&policy.name));
    let past = format!("{} ended, {} saved", count(policy.ended, "deployment"), policy.saved);
    let open = (policy.open_actions > 0)
        .then(|| format!("{}: spheron-watch actions", count(policy.open_actions, "action")));
    let facts = paper.facts([
        ("state", Some(state(policy, preview.at))),
        ("match", Some(matching(policy))),
        ("when", Some(policy.when.join("; and "))),
        ("needs", policy.require_volume.then(|| "a volume attached".to_owned())),
        ("grace", Some(format!("{} after the announcement has arrived", humanize(grace(policy))))),
        ("limits", Some(limits(preview))),
        ("tells", Some(hearers(policy).unwrap_or_else(|| NOBODY.to_owned()))),
        ("so far", Some(past)),
        ("open", open),
    ]);
    let mut parts = vec![format!("{title}\n{facts}")];
    parts.extend(lists(preview, paper));
    let name = quoted(&policy.name);
    parts.push(if is_armed(policy) {
        format!("To stop it: spheron-watch policy disarm {name}")
    } else {
        format!("To arm it: spheron-watch policy arm {name}")
    });
    parts.join("\n\n")
}

fn limits(preview: &PolicyPreview) -> String {
    let limits = &preview.limits;
    format!(
        "at most {} an hour and {} a day, over all policies; none while {} % of what runs, and at least 3, qualify at once",
        limits.max_per_hour,
        limits.max_per_day,
        f64::from(limits.max_fleet_share_permille) / 10.0
    )
}

const NOBODY: &str = "nobody but the log, so it cannot be armed: give it `receivers`";

/// Who hears of it; the log hears of everything, and does not count.
fn hearers(policy: &Policy) -> Option<String> {
    let names: Vec<&str> = policy.receivers.iter().map(String::as_str).filter(|name| *name != LOG).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// What a person has to know before they arm it; then how.
pub fn before_arming(preview: &PolicyPreview, paper: Paper) -> String {
    let policy = &preview.policy;
    let name = quoted(&policy.name);
    let mut parts =
        vec![paper.colors.bold(&paper.prose(&format!("{} is {}", policy.name, state(policy, preview.at))))];
    parts.extend(lists(preview, paper));
    parts.push(paper.prose(&course(preview)));
    let command = format!("  spheron-watch policy arm {name} --confirm={}", quoted(&preview.code));
    let command = paper.colors.bold(&command);
    if is_armed(policy) {
        parts.push(paper.prose(&format!("To stop it: spheron-watch policy disarm {name}")));
        if !preview.would_end.is_empty() {
            parts.push(paper.prose(
                "Only if it ends nothing because too many qualify at once, and all of these are meant: arm it again on this list:",
            ));
            parts.push(command);
        }
    } else {
        let list =
            if preview.would_end.is_empty() { "to arm it as things are" } else { "to arm it on this list" };
        parts.push(format!("Nothing is changed yet; {list}:"));
        parts.push(command);
    }
    parts.join("\n\n")
}

/// How it goes once it is armed.
fn course(preview: &PolicyPreview) -> String {
    let policy = &preview.policy;
    let Some(hearers) = hearers(policy) else { return format!("It tells {NOBODY}.") };
    format!(
        "Armed, it announces what qualifies to {hearers}, and ends it {} after that has arrived at the earliest, if \
         everything still holds then: {}. So it goes on with whatever comes to match, until it is disarmed.",
        humanize(grace(policy)),
        limits(preview)
    )
}

/// `before`: what the code stood for.
pub fn armed(policy: &Policy, before: &PolicyPreview, paper: Paper) -> String {
    // Armed later than what the code stood for was looked at.
    let now = policy.armed_at.map_or(before.at, |at| at.max(before.at));
    let title = format!("{} is {}", policy.name, state(policy, now));
    let receivers = hearers(policy).unwrap_or_else(|| LOG.to_owned());
    let grace = humanize(grace(policy));
    let names: Vec<&str> = before.would_end.iter().map(|would| label(&would.deployment)).collect();
    let now = match names.as_slice() {
        [] => format!(
            "Nothing qualifies now. What comes to qualify is announced to {receivers}, and ended {grace} after that has arrived at the earliest."
        ),
        [name] => format!(
            "It announces {name} to {receivers} now, and ends it {grace} after that has arrived at the earliest."
        ),
        names => format!(
            "It announces these to {receivers} now, and ends them {grace} after that has arrived at the earliest: {}.",
            names.join(", ")
        ),
    };
    let facts = paper.facts([
        ("to follow it", Some("spheron-watch actions".to_owned())),
        ("to keep one", before.would_end.first().map(|would| keep_command(&would.deployment.id))),
        ("to stop it", Some(format!("spheron-watch policy disarm {}", quoted(&policy.name)))),
    ]);
    format!("{}\n{}\n\n{facts}", paper.colors.warn(&paper.prose(&title)), paper.prose(&now))
}

/// `actions`: those that were open before, as they are now.
pub fn disarmed(disarmed: &Disarmed, actions: &[&Action], paper: Paper) -> String {
    let said = if disarmed.was_armed {
        "is a dry run from now on: it ends nothing."
    } else {
        "was a dry run already: it ends nothing."
    };
    let mut lines = vec![paper.prose(&format!("{} {said}", disarmed.policy))];
    lines.extend(actions.iter().map(|action| {
        let what = match (&action.too_late, action.closed) {
            (Some(why), None) => why.as_str(),
            (None, None) => "is called off at the next look",
            (_, Some(_)) if action.state == "cancelled" => "is called off",
            (_, Some(_)) => &action.state,
        };
        paper.hanging("  ", &format!("{} ({}): {what}", label(&action.deployment), action.id))
    }));
    if actions.is_empty() {
        lines.push("Nothing was announced, so nothing has to be called off.".to_owned());
    }
    lines.join("\n")
}

const WOULD_END: [Column; 6] = [
    Column("NAME", "name", Fit::Text),
    Column("ID", "id", Fit::Whole),
    Column("GPU", "gpu_type", Fit::Text),
    Column("TYPE", "instance_type", Fit::Text),
    Column("$/H", "usd_per_hour", Fit::Figure),
    Column("COST", "cost_usd", Fit::Figure),
];

const WAITING: [Column; 3] = [
    Column("NAME", "name", Fit::Text),
    Column("ID", "id", Fit::Whole),
    Column("$/H", "usd_per_hour", Fit::Figure),
];

/// What it would end with what is lost, and what it matches besides with what holds that back.
fn lists(preview: &PolicyPreview, paper: Paper) -> Vec<String> {
    let PolicyPreview { would_end, waiting, .. } = preview;
    let mut parts = Vec::new();
    if would_end.is_empty() {
        parts.push(
            if waiting.is_empty() {
                "It matches nothing that runs now."
            } else {
                "It would end nothing now."
            }
            .to_owned(),
        );
    } else {
        let rate: Usd = would_end.iter().map(|would| would.price_per_hour.0).sum();
        let head = format!("It would end {} now, {rate}/h:", count(would_end.len(), "deployment"));
        let below = would_end.iter().map(|would| {
            let stays: Vec<&str> = would.volumes.iter().map(label).collect();
            paper.below([
                ("because", Some(would.because.clone())),
                ("lost", Some(would.lost.clone())),
                ("stays", (!stays.is_empty()).then(|| stays.join(", "))),
            ])
        });
        let table = Sheet::new(WOULD_END, would_end.iter().map(would_row)).table_with(paper.width, below);
        parts.push(format!("{head}\n\n{table}"));
    }
    if !waiting.is_empty() {
        let besides = if would_end.is_empty() { "" } else { " besides" };
        let head = format!(
            "It matches {}{besides}, and would not end that now:",
            count(waiting.len(), "deployment")
        );
        let head = if waiting.len() == 1 { head } else { head.replace("that now", "those now") };
        let below = waiting.iter().map(|waiting| paper.below([("because", Some(why(waiting, preview.at)))]));
        let table = Sheet::new(WAITING, waiting.iter().map(waiting_row)).table_with(paper.width, below);
        parts.push(format!("{head}\n\n{table}"));
    }
    parts
}

fn why(waiting: &Waiting, now: At) -> String {
    let until = waiting.until.map_or_else(String::new, |until| format!(" ({})", distance(now, until)));
    format!("{}{until}", waiting.reason)
}

fn would_row(would: &WouldEnd) -> [Cell; 6] {
    let [name, id] = named(&would.deployment);
    [
        name,
        id,
        Cell::text(&would.gpu_type),
        Cell::text(&would.instance_type),
        Cell::text(would.price_per_hour.to_string()),
        Cell::text(would.cost.to_string()),
    ]
}

fn waiting_row(waiting: &Waiting) -> [Cell; 3] {
    let [name, id] = named(&waiting.deployment);
    [name, id, Cell::text(waiting.price_per_hour.to_string())]
}

fn named(deployment: &Named) -> [Cell; 2] {
    [Cell::text(label(deployment)), Cell::text(&deployment.id)]
}

/// What programs read: both lists as one.
pub fn sheet(preview: &PolicyPreview) -> Sheet<11> {
    let columns = [
        "policy",
        "id",
        "name",
        "team",
        "would_end",
        "gpu_type",
        "instance_type",
        "usd_per_hour",
        "cost_usd",
        "because",
        "until",
    ];
    let policy = || Cell::text(&preview.policy.name);
    let would = preview.would_end.iter().map(|would| {
        [
            policy(),
            Cell::text(&would.deployment.id),
            Cell::text(&would.deployment.name),
            Cell::text(&would.team.name),
            Cell::text("true"),
            Cell::text(&would.gpu_type),
            Cell::text(&would.instance_type),
            Cell::text(would.price_per_hour.0.to_decimal()),
            Cell::text(would.cost.0.to_decimal()),
            Cell::text(&would.because),
            Cell::empty(),
        ]
    });
    let waiting = preview.waiting.iter().map(|waiting| {
        [
            policy(),
            Cell::text(&waiting.deployment.id),
            Cell::text(&waiting.deployment.name),
            Cell::text(&waiting.team.name),
            Cell::text("false"),
            Cell::empty(),
            Cell::empty(),
            Cell::text(waiting.price_per_hour.0.to_decimal()),
            Cell::empty(),
            Cell::text(&waiting.reason),
            Cell::text(waiting.until.map_or_else(String::new, |until| until.to_string())),
        ]
    });
    Sheet::new(columns.map(|name| Column(name, name, Fit::Text)), would.chain(waiting))
}
