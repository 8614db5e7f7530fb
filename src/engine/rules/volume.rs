//! Rules about volumes: unattached and billing, or nearly full.
//!
//! It must never take a volume that its list could not show for one that is gone or free.

use std::time::Duration;

use super::{
    Ground, Judgement,
    deployment::{is_old, lasting},
};
use crate::{
    engine::alert::Verdict,
    model::{Feed, Rule, Subject, TrackedVolume, VolumeStatus},
};

/// `available` and attached to nothing since it was last detached, or created.
pub fn unattached(
    rule: &Rule,
    longer_than: Duration,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
) {
    for_each(rule, ground, each, &|tracked| {
        let volume = &tracked.volume;
        if volume.status != VolumeStatus::Available || !volume.attached_to.is_empty() {
            return Verdict::NotMet.into();
        }
        lasting(volume.last_detached_at.unwrap_or(volume.created_at), longer_than, ground)
    });
}

/// Used/size above the threshold; equal to it goes on firing and does not begin.
pub fn full(rule: &Rule, above_permille: u16, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    for_each(rule, ground, each, &|tracked| {
        let used = u128::from(tracked.volume.used_bytes).saturating_mul(1_000);
        let threshold = u128::from(tracked.volume.size_bytes).saturating_mul(above_permille.into());
        let sized = tracked.volume.size_bytes > 0;
        Judgement { keeps: sized && used >= threshold, ..Judgement::met_if(sized && used > threshold) }
    });
}

fn for_each(
    rule: &Rule,
    ground: &Ground<'_>,
    each: &mut dyn FnMut(Subject, Judgement),
    judge: &dyn Fn(&TrackedVolume) -> Judgement,
) {
    for (id, tracked) in &ground.snapshot.volumes {
        let team = ground.snapshot.teams.get(&tracked.volume.team);
        let judgement = if !rule.matcher.matches_volume(&tracked.volume, team.map_or("", |team| &team.name)) {
            Verdict::NotMatched.into()
        } else if tracked.gone_at.is_some() || is_ending(&tracked.volume.status) {
            Verdict::NotMet.into()
        } else if is_unsure(tracked, ground) {
            Verdict::Unknown(Feed::Volumes).into()
        } else {
            judge(tracked)
        };
        each(Subject::Volume { id: id.clone() }, judgement);
    }
}

fn is_ending(status: &VolumeStatus) -> bool {
    match status {
        VolumeStatus::Deleting | VolumeStatus::Deleted => true,
        VolumeStatus::Available | VolumeStatus::Attached | VolumeStatus::Unknown(_) => false,
    }
}

/// What is known of it is old: its team is closed to us, or its list was not read lately.
fn is_unsure(tracked: &TrackedVolume, ground: &Ground<'_>) -> bool {
    let denied = ground.snapshot.teams.get(&tracked.volume.team).is_some_and(|team| team.denied.is_some());
    denied || is_old(Feed::Volumes, ground)
}
