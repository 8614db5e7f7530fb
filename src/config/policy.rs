//! `[[policy]]` and `[safety]`: what may be ended, when, and within which limits.
//!
//! It must never let a policy match more than was written: a missing or empty selector or condition is an error, not everything.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    node::{Node, Read},
    notify::{Known, Notify, name, routes},
    reader::Reader,
    sections::{glob, values},
};
use crate::model::{Condition, Glob, Hours, MatchKey, Matcher, Policy, Safety, Severity};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// Less is no time to hear of it and to act.
const GRACE_MIN: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(30 * 60);
const GRACE_MAX: Duration = Duration::from_secs(14 * 86_400);
/// Nobody ends more in an hour, or in a day, by rule.
const CAP_MAX: u16 = 1_000;
/// What `[safety] protect` can look at.
const PROTECTS: [(&str, MatchKey); 4] = [
    ("name", MatchKey::Name),
    ("team", MatchKey::Team),
    ("id", MatchKey::Id),
    ("instance_type", MatchKey::InstanceType),
];

/// What the rest of the configuration says that policies depend on.
pub(super) struct Ground<'a> {
    pub(super) notify: &'a Notify,
    pub(super) known: &'a Known,
    /// Whether anything measures activity.
    pub(super) activity: bool,
}

pub(super) fn policies(root: &mut Reader<'_>, ground: &Ground<'_>) -> Vec<Policy> {
    let mut taken: Vec<Arc<str>> = Vec::new();
    let read = root.tables("policy", |r| {
        let name = r.require("name", name, "a name for this policy");
        if let Some(name) = &name {
            if taken.contains(name) {
                r.complain("name", "is taken by another [[policy]]");
            }
            taken.push(name.clone());
        }
        policy(r, name, ground)
    });
    read.into_iter().flatten().collect()
}

fn policy(r: &mut Reader<'_>, name: Option<Arc<str>>, ground: &Ground<'_>) -> Option<Policy> {
    let matching = selector(r);
    let when = when(r, ground);
    let grace = r.read("grace", |n| n.length(GRACE_MIN..=GRACE_MAX)).unwrap_or(GRACE);
    let require_volume = r.read("require_volume", Node::flag).unwrap_or(false);
    let named = r.full_list("receivers", |n| n.text().map(str::to_owned));
    let own = named.map(|named| routes(r, "receivers", named, ground.known));
    let routes = ground.notify.route(own, Severity::Warning);
    let receivers: Vec<Arc<str>> = routes.into_iter().map(|route| route.receiver).collect();
    Some(Policy { name: name?, matching: matching?, when: when?, grace, require_volume, receivers })
}

/// A policy without one would match nothing, which nobody means.
fn selector(r: &mut Reader<'_>) -> Option<Matcher> {
    const WHAT: &str = "what it may end, as in { name = [\"dev-*\"] }; { name = [\"*\"] } is everything";
    if !r.has("match") {
        r.complain("match", format!("is missing; give {WHAT}"));
        return None;
    }
    r.table("match", |r| {
        if r.is_empty() {
            r.complain("", format!("must not be empty; give {WHAT}"));
        }
        let mut matcher = Matcher::default();
        for (key, of) in MatchKey::ALL {
            if let Some(globs) = r.full_list(key, glob) {
                matcher.globs.insert(of, values(globs));
            }
        }
        matcher
    })
}

fn when(r: &mut Reader<'_>, ground: &Ground<'_>) -> Option<Vec<Condition>> {
    const WHAT: &str = "when it ends something, as in { idle_for = \"2h\" }";
    if !r.has("when") {
        r.complain("when", format!("is missing; give {WHAT}"));
        return None;
    }
    r.table("when", |r| {
        if r.is_empty() {
            r.complain("", format!("must not be empty; give {WHAT}"));
        }
        let length = |n: &Node| n.length(MINUTE..=YEAR);
        let idle_for = r.read("idle_for", length);
        if idle_for.is_some() && !ground.activity {
            r.complain("idle_for", "needs an [[activity]]: without one nothing is known to be idle");
        }
        let conditions = [
            idle_for.map(Condition::IdleFor),
            r.read("running_for", length).map(Condition::RunningFor),
            r.read("runway_below", length).map(Condition::RunwayBelow),
            r.read("spend_above", Node::dollars).map(Condition::SpendAbove),
            r.read("outside", hours).map(Condition::Outside),
        ];
        conditions.into_iter().flatten().collect()
    })
}

fn hours(node: &Node) -> Read<Hours> {
    Hours::parse(node.text()?).map_err(str::to_owned)
}

/// Each key has a default of its own.
pub(super) fn safety(r: &mut Reader<'_>) -> Safety {
    let default = Safety::default();
    let protect = r.section("protect", |r| protect(r, &default.protect));
    let cap = |n: &Node| n.whole("a number of ends", 0..=CAP_MAX);
    Safety {
        protect: protect.unwrap_or_else(|| default.protect.clone()),
        max_per_hour: r.read("max_per_hour", cap).unwrap_or(default.max_per_hour),
        max_per_day: r.read("max_per_day", cap).unwrap_or(default.max_per_day),
        max_fleet_share_permille: r
            .read("max_fleet_share", Node::permille)
            .unwrap_or(default.max_fleet_share_permille),
        min_observed_age: r
            .read("min_observed_age", |n| n.length(MINUTE..=DAY))
            .unwrap_or(default.min_observed_age),
        keep_max: r.read("keep_max", |n| n.length(MINUTE * 60..=YEAR)).unwrap_or(default.keep_max),
    }
}

/// A key that is not given keeps its default; an empty list protects nothing by it.
fn protect(r: &mut Reader<'_>, default: &BTreeMap<MatchKey, Vec<Glob>>) -> BTreeMap<MatchKey, Vec<Glob>> {
    let mut protect = default.clone();
    for (key, of) in PROTECTS {
        if let Some(globs) = r.list(key, glob) {
            protect.insert(of, values(globs));
        }
    }
    protect.retain(|_, globs| !globs.is_empty());
    protect
}
