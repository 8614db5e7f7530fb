//! What the market offers in place of a deployment: same GPU type, count and instance type, available now.
//!
//! It must never compare prices that a failed poll left old.

use super::{
    Ground, Judgement,
    deployment::{for_each, is_old, unsure},
};
use crate::{
    engine::alert::Verdict,
    model::{Deployment, Feed, InstanceType, Offer, Outcome, Rule, Status, Subject, Tracked, Usd},
};

/// The offer is cheaper by `percent` or more; four fifths of that keep it firing, so that a price that wavers is one alert.
pub fn overpaying(rule: &Rule, percent: u16, ground: &Ground<'_>, each: &mut dyn FnMut(Subject, Judgement)) {
    let health = ground.snapshot.feeds.get(&Feed::Offers);
    let whole = health.is_some_and(|health| health.last_outcome == Some(Outcome::Complete));
    let known = whole && !is_old(Feed::Offers, ground);
    let percent = i128::from(percent);
    for_each(rule, ground, each, &Tracked::is_live, &|tracked| {
        let deployment = &tracked.deployment;
        if deployment.status != Status::Running {
            return Verdict::NotMet.into();
        }
        if let Some(feed) = unsure(tracked, ground) {
            return Verdict::Unknown(feed).into();
        }
        if !known {
            return Verdict::Unknown(Feed::Offers).into();
        }
        let Some(offer) = equivalents(deployment, &ground.snapshot.offers).into_iter().next() else {
            return Verdict::NotMet.into();
        };
        let saves = |permille: i128| {
            let rate = nanos(deployment.hourly_rate);
            rate > 0 && (rate - nanos(offer.price)) * 1_000 >= rate * permille
        };
        Judgement { keeps: saves(percent * 8), ..Judgement::met_if(saves(percent * 10)) }
    });
}

fn nanos(usd: Usd) -> i128 {
    usd.nanos().into()
}

/// Every available equivalent, the cheapest first; equal prices in the order of their ids.
pub fn equivalents<'a>(deployment: &Deployment, offers: &'a [Offer]) -> Vec<&'a Offer> {
    let fits = |offer: &&Offer| {
        offer.available
            && offer.gpu_count == deployment.gpu_count
            && offer.gpu_type.eq_ignore_ascii_case(&deployment.gpu_type)
            && same_type(&offer.instance_type, &deployment.instance_type)
    };
    let mut offers: Vec<&Offer> = offers.iter().filter(fits).collect();
    offers.sort_by(|a, b| (a.price, &a.id).cmp(&(b.price, &b.id)));
    offers
}

/// CLUSTER and BARE_METAL are two words for one thing.
fn same_type(a: &InstanceType, b: &InstanceType) -> bool {
    let metal = |kind: &InstanceType| matches!(kind.as_str(), "CLUSTER" | "BARE_METAL");
    a == b || (metal(a) && metal(b))
}
