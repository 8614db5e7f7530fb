//! `volumes`: what storage there is and what it bills.
//!
//! It must never hide a volume that nothing is attached to: it bills all the same.

use serde::{Deserialize, Serialize};

use super::{At, Look, Money, Named, Page, deployments::named_team, query::Slice};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: String,
    pub name: String,
    pub team: Named,
    pub provider: String,
    pub status: String,
    pub size_bytes: u64,
    pub used_bytes: u64,
    pub price_per_hour: Money,
    pub attached_to: Vec<String>,
    pub created_at: At,
    pub last_detached_at: Option<At>,
}

/// Those that the last complete list held.
pub fn list(look: Look<'_>, slice: Slice) -> Page<Volume> {
    let all = look.view.snapshot.volumes.values().filter(|tracked| tracked.gone_at.is_none()).collect();
    Page::new(look, slice, all, |tracked| {
        let volume = &tracked.volume;
        Volume {
            id: volume.id.to_string(),
            name: volume.name.to_string(),
            team: named_team(look, &volume.team),
            provider: volume.provider.to_string(),
            status: volume.status.as_str().to_owned(),
            size_bytes: volume.size_bytes,
            used_bytes: volume.used_bytes,
            price_per_hour: Money(volume.hourly_rate),
            attached_to: volume.attached_to.iter().map(ToString::to_string).collect(),
            created_at: At(volume.created_at),
            last_detached_at: volume.last_detached_at.map(At),
        }
    })
}
