//! Words about volumes.
//!
//! It must never make light of deleting one: nothing brings it back.

use std::{sync::Arc, time::Duration};

use super::{CONSOLE, Telling, Words, a_month, label, percent, team_label};
use crate::model::{Subject, TrackedVolume, Volume, VolumeStatus, humanize};

struct Of<'a> {
    tracked: &'a TrackedVolume,
    name: String,
    details: Vec<(Arc<str>, String)>,
}

impl<'a> Of<'a> {
    fn new(telling: &Telling<'a>) -> Option<Self> {
        let Subject::Volume { id } = telling.subject else { return None };
        let tracked = telling.snapshot.volumes.get(id)?;
        let volume = &tracked.volume;
        let name = label(&volume.name, id);
        let mut details: Vec<(Arc<str>, String)> = vec![
            ("volume".into(), format!("{name} ({id})")),
            ("team".into(), team_label(&volume.team, telling.snapshot)),
            ("where".into(), volume.provider.to_string()),
            ("status".into(), status(tracked)),
            ("used".into(), usage(volume)),
            ("rate".into(), format!("{}/h, {} a month", volume.hourly_rate, a_month(volume.hourly_rate))),
        ];
        if !volume.attached_to.is_empty() {
            let ids: Vec<&str> = volume.attached_to.iter().take(5).map(|id| id.as_str()).collect();
            details.push(("attached to".into(), ids.join(", ")));
        }
        Some(Self { tracked, name, details })
    }
}

fn status(tracked: &TrackedVolume) -> String {
    match tracked.gone_at {
        Some(at) => format!("gone since {at}"),
        None => tracked.volume.status.as_str().to_owned(),
    }
}

fn usage(volume: &Volume) -> String {
    format!("{} of {} ({})", size(volume.used_bytes), size(volume.size_bytes), percent(used_permille(volume)))
}

fn used_permille(volume: &Volume) -> u64 {
    let permille = u128::from(volume.used_bytes).saturating_mul(1_000) / u128::from(volume.size_bytes).max(1);
    u64::try_from(permille).unwrap_or(u64::MAX)
}

/// Decimal, one digit: `12.5 GB`.
fn size(bytes: u64) -> String {
    let tenths = bytes / 100_000_000;
    match tenths % 10 {
        0 => format!("{} GB", tenths / 10),
        rest => format!("{}.{rest} GB", tenths / 10),
    }
}

pub fn unattached(telling: &Telling<'_>, longer_than: Duration) -> Option<Words> {
    let Of { tracked, name, details } = Of::new(telling)?;
    let volume = &tracked.volume;
    let free = humanize(telling.now.since(volume.last_detached_at.unwrap_or(volume.created_at)));
    let loose = volume.status == VolumeStatus::Available && volume.attached_to.is_empty();
    let (title, reason) = if loose && tracked.gone_at.is_none() {
        let reason = format!(
            "{name} has been attached to nothing for {free}; the limit is {}. It goes on billing: {} a month.",
            humanize(longer_than),
            a_month(volume.hourly_rate)
        );
        (format!("unattached volume: {name} for {free}"), reason)
    } else {
        (format!("volume {name} is {}", status(tracked)), format!("{name} is {}.", status(tracked)))
    };
    let advice =
        format!("Attach it, or delete it at {CONSOLE} if its data is not needed: nothing brings it back.");
    Some(Words { title, reason, advice, details })
}

pub fn full(telling: &Telling<'_>, above_permille: u16) -> Option<Words> {
    let Of { tracked, name, details } = Of::new(telling)?;
    let volume = &tracked.volume;
    let used = percent(used_permille(volume));
    let (title, reason) = if tracked.gone_at.is_none() {
        let full = if used_permille(volume) >= above_permille.into() { "volume full" } else { "volume" };
        let reason =
            format!("{name} uses {}; the threshold is {}.", usage(volume), percent(above_permille.into()));
        (format!("{full}: {name} at {used}"), reason)
    } else {
        (format!("volume {name} is {}", status(tracked)), format!("{name} is {}.", status(tracked)))
    };
    let advice =
        "Delete what is not needed before writes fail, or move the data to a larger volume.".to_owned();
    Some(Words { title, reason, advice, details })
}
