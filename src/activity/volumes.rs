//! Growth of attached volumes: who writes, works.
//!
//! It must never take a volume that stays as it is for a sign of idleness.

use std::{collections::BTreeMap, time::Duration};

use super::Measured;
use crate::model::{DeploymentId, Feed, Reading, Snapshot, Time, VolumeId, activity::longest_gap};

/// Used bytes of each attached volume when last looked at.
pub type Used = BTreeMap<VolumeId, u64>;

/// Busy: one grew since the last look. Idle: nothing speaks against idleness, which alone proves none. Unknown: the volumes
/// have not been read of late.
pub fn growth(
    snapshot: &Snapshot,
    deployment: &DeploymentId,
    every: Duration,
    now: Time,
    used: &mut Used,
) -> Measured {
    let is_late = snapshot.feeds.get(&Feed::Volumes).is_none_or(|feed| {
        feed.last_usable.is_none_or(|at| now.since(at) > longest_gap(every.max(feed.interval)))
    });
    if is_late {
        return Measured::unknown("the volumes have not been read of late".to_owned());
    }
    let attached = snapshot
        .volumes
        .values()
        .filter(|v| v.gone_at.is_none() && v.volume.attached_to.contains(deployment));
    let present: Used = attached.map(|v| (v.volume.id.clone(), v.volume.used_bytes)).collect();
    let grew = present.iter().any(|(id, bytes)| used.get(id).is_some_and(|before| bytes > before));
    *used = present;
    Measured { reading: if grew { Reading::Busy } else { Reading::Idle }, utilization_permille: None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{FeedHealth, TeamId, TrackedVolume, Usd, Volume, VolumeStatus};

    const NOW: Time = Time::from_secs(1_790_000_000);
    const EVERY: Duration = Duration::from_secs(60);

    fn snapshot(volumes: &[(&str, u64, &str)], read_secs_ago: u64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut feed = FeedHealth::new(Duration::from_secs(300), NOW);
        feed.last_usable = Some(NOW.minus(Duration::from_secs(read_secs_ago)));
        snapshot.feeds.insert(Feed::Volumes, feed);
        for (id, used_bytes, attached_to) in volumes {
            let volume = Volume {
                id: VolumeId::new(*id),
                created_at: Time::EPOCH,
                name: "data".into(),
                team: TeamId::new("t1"),
                provider: "spheron-ai".into(),
                status: VolumeStatus::Attached,
                size_bytes: 1_000,
                used_bytes: *used_bytes,
                hourly_rate: Usd::ZERO,
                attached_to: vec![DeploymentId::new(*attached_to)],
                last_detached_at: None,
            };
            let tracked = TrackedVolume { volume, first_seen: Time::EPOCH, gone_at: None };
            snapshot.volumes.insert(VolumeId::new(*id), Arc::new(tracked));
        }
        snapshot
    }

    #[test]
    fn only_growth_of_a_volume_that_was_attached_before_is_work() {
        let mut used = Used::new();
        let mut look = |volumes: &[(&str, u64, &str)]| {
            growth(&snapshot(volumes, 10), &DeploymentId::new("d1"), EVERY, NOW, &mut used).reading
        };
        assert_eq!(look(&[("v1", 500, "d1")]), Reading::Idle, "the first look knows no growth");
        assert_eq!(look(&[("v1", 500, "d1")]), Reading::Idle);
        assert_eq!(look(&[("v1", 501, "d1")]), Reading::Busy);
        assert_eq!(look(&[("v1", 501, "d1")]), Reading::Idle, "once for each growth");
        assert_eq!(look(&[("v1", 400, "d1")]), Reading::Idle, "it shrank");
        assert_eq!(look(&[("v1", 400, "d1"), ("v2", 900, "d1")]), Reading::Idle, "a full one was attached");
        assert_eq!(look(&[("v1", 400, "d1"), ("v2", 900, "d1"), ("v3", 5, "d2")]), Reading::Idle);
        assert_eq!(
            look(&[("v1", 400, "d1"), ("v2", 900, "d1"), ("v3", 50, "d2")]),
            Reading::Idle,
            "another's"
        );
        assert_eq!(look(&[("v1", 399, "d1"), ("v2", 901, "d1")]), Reading::Busy);
    }

    #[test]
    fn fault_72_volumes_that_are_not_read_say_nothing() {
        let mut used = Used::new();
        let mut look =
            |snapshot: &Snapshot| growth(snapshot, &DeploymentId::new("d1"), EVERY, NOW, &mut used).reading;
        assert_eq!(look(&snapshot(&[], 750)), Reading::Idle, "two and a half polls of the volumes");
        assert!(matches!(look(&snapshot(&[], 751)), Reading::Unknown(_)));
        assert!(matches!(look(&Snapshot::default()), Reading::Unknown(_)));
    }
}
