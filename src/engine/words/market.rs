//! Words about prices: a rate that changed, a cheaper equivalent, and what is left after a spot interruption.
//!
//! It must never show an offer that is not available, nor one that is no equivalent.

use std::{sync::Arc, time::Duration};

use super::{
    CONSOLE, Telling, Words, a_day, a_month,
    deployment::{Of, instead},
    label, percent,
};
use crate::{
    engine::rules,
    model::{Deployment, Feed, Offer, Outcome, Status, TrackedVolume, Usd, humanize},
};

/// So many offers help to choose; more do not.
const OFFERS_SHOWN: usize = 3;
const VOLUMES_SHOWN: usize = 5;

pub fn rate_changed(telling: &Telling<'_>) -> Option<Words> {
    let Of { tracked, name, mut details, .. } = Of::new(telling)?;
    let (before, at) = tracked.rate_before?;
    let now = tracked.deployment.hourly_rate;
    let difference = a_day(now.saturating_sub(before));
    let reason = format!(
        "The rate of {name} went from {before}/h to {now}/h between two polls, seen at {at}: {} a day.",
        signed(difference)
    );
    details.push(("rate before".into(), format!("{before}/h")));
    let advice = if now > before {
        format!(
            "Look at its terms at {CONSOLE}; if it is too dear now, deploy an equivalent and end this one."
        )
    } else {
        "Nothing to do; the forecasts follow the new rate.".to_owned()
    };
    Some(Words { title: format!("rate changed: {name} from {before}/h to {now}/h"), reason, advice, details })
}

pub fn overpaying(telling: &Telling<'_>, threshold: u16) -> Option<Words> {
    let Of { tracked, name, mut details, .. } = Of::new(telling)?;
    let deployment = &tracked.deployment;
    let rate = deployment.hourly_rate;
    let offers = rules::equivalents(deployment, &telling.snapshot.offers);
    let (title, reason) = match offers.first() {
        _ if !tracked.is_live() || deployment.status != Status::Running => instead(tracked, &name),
        Some(offer) if offer.price < rate => {
            let saved = rate.saturating_sub(offer.price);
            let reason = format!(
                "{name} costs {rate}/h; the same GPUs are on offer at {}, {} for {}/h, {} less (the threshold is \
                 {threshold} %). That is {} a day, {} a month.",
                offer.provider,
                offer.region,
                offer.price,
                share(saved, rate),
                a_day(saved),
                a_month(saved)
            );
            (format!("overpaying: {name} at {rate}/h, on offer for {}/h", offer.price), reason)
        }
        Some(_) | None => {
            let title = format!("nothing is on offer for less: {name} at {rate}/h");
            (title, format!("Nothing equivalent is on offer for less than {rate}/h."))
        }
    };
    show_offers(&mut details, &offers, rate);
    let advice = format!(
        "Moving means a new instance with an empty disk: save the data, deploy the offer at {CONSOLE}, then end this one."
    );
    Some(Words { title, reason, advice, details })
}

/// What people need to go on: how long it ran, what it cost, what is left, and what could replace it.
pub fn spot_interrupted(telling: &Telling<'_>) -> Option<Words> {
    let Of { tracked, name, runtime, mut details } = Of::new(telling)?;
    let (deployment, snapshot) = (&tracked.deployment, telling.snapshot);
    let mut reason = format!(
        "The provider reclaimed the spot instance {name} after {runtime}. It cost {}, and its local disk is gone.",
        deployment.total_cost
    );
    let volumes: Vec<_> =
        snapshot.volumes.values().filter(|volume| was_attached(volume, deployment)).collect();
    reason.push_str(&volumes_left(&volumes, &mut details));
    let offers = rules::equivalents(deployment, &snapshot.offers);
    reason.push_str(&replacement(telling, deployment, &offers));
    show_offers(&mut details, &offers, deployment.hourly_rate);
    let advice = format!(
        "Deploy a replacement at {CONSOLE} if the work must go on; what was not on a volume has to be redone."
    );
    Some(Words { title: format!("spot interrupted: {name} after {runtime}"), reason, advice, details })
}

/// Attached still, or detached when the deployment ended: ending detaches, and the volumes may be polled after it.
fn was_attached(tracked: &TrackedVolume, deployment: &Deployment) -> bool {
    const WITH_THE_END: Duration = Duration::from_secs(300);
    let volume = &tracked.volume;
    let detached_then = volume.attached_to.is_empty()
        && volume.team == deployment.team
        && volume.provider == deployment.provider
        && volume.last_detached_at.zip(deployment.stopped_at).is_some_and(|(detached, stopped)| {
            detached.since(stopped) <= WITH_THE_END && stopped.since(detached) <= WITH_THE_END
        });
    tracked.bills() && (volume.attached_to.contains(&deployment.id) || detached_then)
}

fn volumes_left(volumes: &[&Arc<TrackedVolume>], details: &mut Vec<(Arc<str>, String)>) -> String {
    if volumes.is_empty() {
        return " No volume is known to have been attached to it.".to_owned();
    }
    for tracked in volumes.iter().take(VOLUMES_SHOWN) {
        let volume = &tracked.volume;
        let name = label(&volume.name, &volume.id);
        let text = format!("{name} ({}), {} a month", volume.id, a_month(volume.hourly_rate));
        details.push(("volume left".into(), text));
    }
    let month = a_month(volumes.iter().map(|v| v.volume.hourly_rate).sum());
    let (those, go) = if volumes.len() == 1 {
        ("1 volume".to_owned(), "is left and goes")
    } else {
        (format!("{} volumes", volumes.len()), "are left and go")
    };
    format!(" {those} {go} on billing, {month} a month.")
}

fn replacement(telling: &Telling<'_>, deployment: &Deployment, offers: &[&Offer]) -> String {
    let health = telling.snapshot.feeds.get(&Feed::Offers);
    let known = health.filter(|health| health.last_outcome == Some(Outcome::Complete));
    let age = match known.and_then(|health| health.last_complete) {
        Some(at) => format!("as of {} ago", humanize(telling.now.since(at))),
        None => "by the last offers that were known, which may be old".to_owned(),
    };
    match offers.first() {
        Some(offer) => {
            let difference = offer.price.saturating_sub(deployment.hourly_rate);
            format!(
                " The cheapest equivalent is {}/h, {} than it was ({age}).",
                offer.price,
                more_or_less(difference)
            )
        }
        None => format!(" Nothing equivalent is on offer ({age})."),
    }
}

/// `equivalent 1` and so on, each with its difference to what is paid now.
fn show_offers(details: &mut Vec<(Arc<str>, String)>, offers: &[&Offer], rate: Usd) {
    for (n, offer) in (1..).zip(offers.iter().take(OFFERS_SHOWN)) {
        let difference = signed(offer.price.saturating_sub(rate));
        let text =
            format!("{}/h ({difference}/h): {}, {}, {}", offer.price, offer.provider, offer.region, offer.id);
        details.push((format!("equivalent {n}").into(), text));
    }
}

/// `+$0.50`, `-$0.50`.
fn signed(usd: Usd) -> String {
    if usd < Usd::ZERO { usd.to_string() } else { format!("+{usd}") }
}

fn more_or_less(difference: Usd) -> String {
    let amount = Usd::from_nanos(difference.nanos().saturating_abs());
    if difference < Usd::ZERO { format!("{amount}/h less") } else { format!("{amount}/h more") }
}

/// Of a positive whole.
fn share(part: Usd, whole: Usd) -> String {
    let permille = i128::from(part.nanos()).saturating_mul(1_000) / i128::from(whole.nanos()).max(1);
    percent(u64::try_from(permille).unwrap_or(0))
}
