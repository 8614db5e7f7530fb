//! Enters an observation into the snapshot.
//!
//! It must never take an error for an empty list, nor absence from a list for an end: a deployment that a list lacks is
//! `Missing` until its own GET says what became of it (FAULTS 6).

pub mod activity;
mod health;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::model::{
    Access, Balance, Change, Deployment, DeploymentId, Facts, Failure, FailureKind, Feed, Glob, Listing,
    Observation, Outcome, Presence, Scope, Shrunk, Snapshot, Status, TeamId, Time, Tracked, TrackedTeam,
    TrackedVolume, Unknown, Volume, snapshot::push_balance,
};

/// 404 on two polls: gone, and not by a status of its own.
const NOT_FOUND_MEANS_GONE: u8 = 2;

/// Enters one observation. `watched`: the teams that the user wants; others never enter.
pub fn fold(snapshot: &mut Snapshot, observation: &Observation, watched: &[Glob]) {
    let at = observation.at;
    snapshot.first_observed.get_or_insert(at);
    if observation.skew_ms.is_some() {
        snapshot.skew_ms = observation.skew_ms;
    }
    health::enter(snapshot, observation);
    enter_key(snapshot, observation);
    match observation.feed {
        Feed::Balance => fold_balances(snapshot, observation, watched),
        Feed::Deployments => fold_lists(snapshot, observation, watched),
        Feed::Inventory => {
            judge_cover(snapshot, observation);
            fold_lists(snapshot, observation, watched);
        }
        Feed::Detail => fold_details(snapshot, observation, watched),
        Feed::Volumes => fold_volumes(snapshot, observation),
        Feed::Offers => fold_offers(snapshot, observation),
    }
}

/// What differs between two snapshots, as rows for the change-only series. Shared records cost one pointer comparison.
pub fn changes(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    fn differing<'a, K: Ord, V: PartialEq>(
        before: &'a BTreeMap<K, Arc<V>>,
        after: &'a BTreeMap<K, Arc<V>>,
    ) -> impl Iterator<Item = &'a Arc<V>> {
        after
            .iter()
            .filter(|(key, now)| before.get(*key).is_none_or(|was| !Arc::ptr_eq(was, now) && was != *now))
            .map(|(_, v)| v)
    }
    let mut rows = Vec::new();
    // A complete poll that read the same balance again is told by the poll log alone; whom a partial one read, it does not say.
    let balance = after.feeds.get(&Feed::Balance).and_then(|health| health.last_outcome);
    let log_tells = balance == Some(Outcome::Complete);
    for team in after.teams.values() {
        let same = |was: &Arc<TrackedTeam>| {
            let balance_at = if log_tells { was.balance_at } else { team.balance_at };
            Arc::ptr_eq(was, team) || **was == TrackedTeam { balance_at, ..(**team).clone() }
        };
        if !before.teams.get(&team.id).is_some_and(same) {
            rows.push(Change::Team(team.clone()));
        }
    }
    for (id, tracked) in &after.deployments {
        let was = before.deployments.get(id);
        if !was.is_some_and(|was| Arc::ptr_eq(was, tracked) || same_facts(was, tracked)) {
            rows.push(Change::Deployment(settled(tracked)));
        }
    }
    rows.extend(differing(&before.volumes, &after.volumes).cloned().map(Change::Volume));
    if !Arc::ptr_eq(&before.offers, &after.offers) && before.offers != after.offers {
        rows.push(Change::Offers(after.offers.clone()));
    }
    let silences = differing(&before.silences, &after.silences);
    rows.extend(silences.map(|silence| Change::Silence(silence.id.clone(), Some(silence.clone()))));
    let gone = before.silences.keys().filter(|id| !after.silences.contains_key(*id));
    rows.extend(gone.map(|id| Change::Silence(id.clone(), None)));
    if before.account() != after.account() {
        rows.push(Change::Account(after.account()));
    }
    rows
}

/// `Missing` is a question, not a fact: it is asked anew after a restart, and never written. Nor is how to reach an instance.
fn same_facts(was: &Tracked, now: &Tracked) -> bool {
    let gone = |tracked: &Tracked| matches!(tracked.presence, Presence::Gone(_));
    let mut now_as_then = Tracked { presence: was.presence, ..now.clone() };
    now_as_then.deployment.access = was.deployment.access.clone();
    gone(was) == gone(now) && *was == now_as_then
}

fn settled(tracked: &Arc<Tracked>) -> Arc<Tracked> {
    let presence = match tracked.presence {
        Presence::Listed | Presence::Missing { .. } => Presence::Listed,
        Presence::Gone(at) => Presence::Gone(at),
    };
    if presence == tracked.presence && tracked.deployment.access == Access::default() {
        return tracked.clone();
    }
    let mut settled = Tracked { presence, ..(**tracked).clone() };
    settled.deployment.access = Access::default();
    Arc::new(settled)
}

fn enter_key(snapshot: &mut Snapshot, observation: &Observation) {
    let rejected = observation.scopes.iter().any(|(_, result)| {
        result.as_ref().err().is_some_and(|failure| failure.kind == FailureKind::Unauthorized)
    });
    // Offers are public: that they come says nothing of the key.
    let accepted =
        observation.feed != Feed::Offers && observation.scopes.iter().any(|(_, result)| result.is_ok());
    if accepted {
        snapshot.key_rejected_since = None;
    } else if rejected {
        snapshot.key_rejected_since.get_or_insert(observation.at);
    }
}

fn is_watched(watched: &[Glob], id: &TeamId, name: &str) -> bool {
    watched.iter().any(|glob| glob.matches(id.as_str()) || glob.matches(name))
}

fn fold_balances(snapshot: &mut Snapshot, observation: &Observation, watched: &[Glob]) {
    let at = observation.at;
    for (_, result) in &observation.scopes {
        let Ok(Facts::Balances(list)) = result else { continue };
        for balance in list.items.iter().filter(|b| is_watched(watched, &b.team, &b.name)) {
            enter_balance(snapshot, balance, at);
        }
        let readable: BTreeSet<&TeamId> = list.items.iter().map(|balance| &balance.team).collect();
        for (id, team) in &mut snapshot.teams {
            if !readable.contains(id) && team.unknown_since.is_none() {
                Arc::make_mut(team).unknown_since = Some(at);
            }
        }
        // A team that we meet for the first time with an unreadable balance is unknown, not absent.
        for id in list.unreadable.iter().filter_map(|bad| bad.id.clone()).map(TeamId::new) {
            if is_watched(watched, &id, "") {
                let team = || Arc::new(TrackedTeam { unknown_since: Some(at), ..new_team(&id) });
                snapshot.teams.entry(id.clone()).or_insert_with(team);
            }
        }
    }
}

/// Teams that nobody wants watched any more leave with all that is theirs; nothing may be judged from what is no longer read.
pub fn forget_unwatched(snapshot: &mut Snapshot, watched: &[Glob]) {
    snapshot.teams.retain(|id, team| is_watched(watched, id, &team.name));
    let teams = &snapshot.teams;
    // A deployment may come before its team is known by name; the lists decide anew about those.
    snapshot.deployments.retain(|_, tracked| teams.contains_key(&tracked.deployment.team));
    snapshot.volumes.retain(|_, tracked| teams.contains_key(&tracked.volume.team));
    snapshot.shrunk.retain(|id, _| teams.contains_key(id));
    snapshot.unread.retain(|id| teams.contains_key(id));
}

fn new_team(id: &TeamId) -> TrackedTeam {
    TrackedTeam {
        id: id.clone(),
        name: id.as_str().into(),
        role: "".into(),
        balance: None,
        balance_at: None,
        previous: None,
        unknown_since: None,
        denied: None,
    }
}

fn enter_balance(snapshot: &mut Snapshot, balance: &Balance, at: Time) {
    let history = snapshot.balance_history.entry(balance.team.clone()).or_default();
    if history.last().is_none_or(|(_, last)| *last != balance.balance) {
        push_balance(Arc::make_mut(history), at, balance.balance);
    }
    let team =
        snapshot.teams.entry(balance.team.clone()).or_insert_with(|| Arc::new(new_team(&balance.team)));
    let team = Arc::make_mut(team);
    if let Some(before) = team.balance
        && before != balance.balance
    {
        team.previous = Some((before, at));
    }
    team.balance = Some(balance.balance);
    team.balance_at = Some(at);
    team.unknown_since = None;
    if team.name != balance.name && !balance.name.is_empty() {
        team.name = balance.name.clone();
    }
    if team.role != balance.role {
        team.role = balance.role.clone();
    }
}

/// The unscoped list covers every team's own if all were whole, none holds what the unscoped one lacks, and at least two of them
/// (or the only one) have something to show: empty lists prove nothing.
fn judge_cover(snapshot: &mut Snapshot, observation: &Observation) {
    let asked_all = observation.scopes.iter().any(|(scope, _)| *scope == Scope::Unscoped);
    if !asked_all {
        // The rest of a poll that the governor interrupted: it shows nothing of the whole.
        return;
    }
    let mut unscoped: BTreeSet<&DeploymentId> = BTreeSet::new();
    let mut of_teams: Vec<BTreeSet<&DeploymentId>> = Vec::new();
    for (scope, result) in &observation.scopes {
        let Ok(Facts::Deployments(list)) = result else { return };
        if !list.is_whole() {
            return;
        }
        let ids = list.items.iter().map(|deployment| &deployment.id);
        match scope {
            Scope::Unscoped => unscoped.extend(ids),
            Scope::Team(_) | Scope::One(_) => of_teams.push(ids.collect()),
        }
    }
    let telling = of_teams.iter().filter(|ids| !ids.is_empty()).count();
    snapshot.unscoped_covers =
        telling >= of_teams.len().clamp(1, 2) && of_teams.iter().all(|ids| ids.is_subset(&unscoped));
}

fn fold_lists(snapshot: &mut Snapshot, observation: &Observation, watched: &[Glob]) {
    let at = observation.at;
    let running_before = running_by_team(snapshot);
    let mut seen: BTreeSet<DeploymentId> = BTreeSet::new();
    let (mut covered, mut doubtful): (Vec<&Scope>, Vec<&Scope>) = (Vec::new(), Vec::new());
    let (mut unreadable, mut whole_poll) = (BTreeMap::new(), true);
    for (scope, result) in &observation.scopes {
        if observation.feed == Feed::Deployments {
            enter_denial(snapshot, scope, result);
        }
        let Ok(Facts::Deployments(list)) = result else {
            whole_poll = false;
            continue;
        };
        unreadable.extend(
            list.unreadable.iter().filter_map(|bad| Some((DeploymentId::new(bad.id.clone()?), &bad.why))),
        );
        for deployment in &list.items {
            enter_deployment(snapshot, deployment, at, watched);
        }
        seen.extend(list.items.iter().map(|deployment| deployment.id.clone()));
        enter_unreadable(snapshot, list, at, &mut seen);
        let whole = list.suspect.is_none() && list.unreadable.iter().all(|bad| bad.id.is_some());
        if whole { &mut covered } else { &mut doubtful }.push(scope);
    }
    enter_unknown(snapshot, &unreadable, whole_poll, (observation.feed, at));
    let spans_all = snapshot.unscoped_covers;
    let hold = |scopes: &[&Scope], team: &TeamId| {
        scopes.iter().any(|scope| match scope {
            Scope::Unscoped => spans_all,
            Scope::Team(id) => id == team,
            Scope::One(_) => false,
        })
    };
    let known = &snapshot.deployments;
    let runs = |id: &DeploymentId| known.get(id).is_some_and(|tracked| !tracked.deployment.status.is_ended());
    // The inventory may know what the list of what runs lacks: they disagree as well then.
    let shown = |id: &DeploymentId| observation.feed == Feed::Deployments && seen.contains(id);
    snapshot.unlisted.retain(|id| !shown(id) && runs(id));
    for (id, tracked) in &mut snapshot.deployments {
        let (listed, team) = (tracked.presence == Presence::Listed, &tracked.deployment.team);
        if !listed || tracked.deployment.status.is_ended() || seen.contains(id) {
            continue;
        }
        if hold(&covered, team) {
            Arc::make_mut(tracked).presence = Presence::Missing { since: at, not_found: 0 };
            snapshot.unlisted.insert(id.clone());
        } else if hold(&doubtful, team) && tracked.unreadable_since.is_none() {
            Arc::make_mut(tracked).unreadable_since = Some(at);
        }
    }
    let whole = |scope: &Scope| {
        observation.scopes.iter().any(|(asked, result)| {
            asked == scope && matches!(result, Ok(Facts::Deployments(list)) if list.is_whole())
        })
    };
    let all = whole(&Scope::Unscoped) && snapshot.unscoped_covers;
    let judged: Vec<TeamId> =
        snapshot.teams.keys().filter(|id| all || whole(&Scope::Team((*id).clone()))).cloned().collect();
    for team in judged {
        judge_shrinking(snapshot, &team, running_before.get(&team), at);
    }
}

/// Which teams' lists the last poll could not read, and which are not ours to read.
fn enter_denial(snapshot: &mut Snapshot, scope: &Scope, result: &Result<Facts, Failure>) {
    let failure = result.as_ref().err();
    let forbidden = failure
        .filter(|failure| failure.kind == FailureKind::Forbidden)
        .map(|failure| failure.message.clone());
    for (id, team) in &mut snapshot.teams {
        let meant = match scope {
            Scope::Team(meant) => meant == id,
            Scope::Unscoped => true,
            Scope::One(_) => false,
        };
        if !meant {
            continue;
        }
        if failure.is_some() {
            snapshot.unread.insert(id.clone());
        } else {
            snapshot.unread.remove(id);
        }
        if (failure.is_none() || forbidden.is_some()) && team.denied != forbidden {
            Arc::make_mut(team).denied.clone_from(&forbidden);
        }
    }
}

/// Keeps what is listed and was never read; what a whole poll of its feed lists no more, or what could be read, goes.
fn enter_unknown(
    snapshot: &mut Snapshot,
    unreadable: &BTreeMap<DeploymentId, &Arc<str>>,
    whole_poll: bool,
    (feed, at): (Feed, Time),
) {
    let deployments = &snapshot.deployments;
    snapshot.unknown.retain(|id, unknown| {
        let over = whole_poll && unknown.feed == feed && !unreadable.contains_key(id);
        !over && !deployments.contains_key(id)
    });
    for (id, why) in unreadable.iter().filter(|(id, _)| !deployments.contains_key(*id)) {
        let new = || Unknown { why: Arc::clone(why), since: at, feed };
        snapshot.unknown.entry(id.clone()).or_insert_with(new);
    }
}

fn enter_unreadable(
    snapshot: &mut Snapshot,
    list: &Listing<Deployment>,
    at: Time,
    seen: &mut BTreeSet<DeploymentId>,
) {
    for id in list.unreadable.iter().filter_map(|bad| bad.id.clone()).map(DeploymentId::new) {
        if let Some(tracked) = snapshot.deployments.get_mut(&id)
            && tracked.unreadable_since.is_none()
        {
            Arc::make_mut(tracked).unreadable_since = Some(at);
        }
        seen.insert(id);
    }
}

fn enter_deployment(snapshot: &mut Snapshot, deployment: &Deployment, at: Time, watched: &[Glob]) {
    let team = snapshot.teams.get(&deployment.team);
    if !is_watched(watched, &deployment.team, team.map_or("", |team| &team.name)) {
        return;
    }
    match snapshot.deployments.get_mut(&deployment.id) {
        Some(tracked) if tracked.deployment.created_at == deployment.created_at => {
            let same = tracked.deployment == *deployment
                && tracked.presence == Presence::Listed
                && tracked.unreadable_since.is_none();
            if !same {
                let tracked = Arc::make_mut(tracked);
                if tracked.deployment.status != deployment.status {
                    tracked.status_before = Some(tracked.deployment.status.clone());
                    tracked.status_since = at;
                }
                if tracked.deployment.hourly_rate != deployment.hourly_rate && deployment.bills() {
                    tracked.rate_before = Some((tracked.deployment.hourly_rate, at));
                }
                tracked.deployment = deployment.clone();
                tracked.presence = Presence::Listed;
                tracked.unreadable_since = None;
            }
        }
        // An older identity of the same id, from a list that holds both: the newer one stays.
        Some(tracked) if tracked.deployment.created_at > deployment.created_at => {}
        Some(_) | None => {
            let tracked = Tracked {
                deployment: deployment.clone(),
                first_seen: at,
                presence: Presence::Listed,
                status_since: at,
                status_before: None,
                rate_before: None,
                unreadable_since: None,
            };
            // What was measured of another identity under this id is not its own.
            snapshot.activity.remove(&deployment.id);
            snapshot.deployments.insert(deployment.id.clone(), Arc::new(tracked));
        }
    }
}

fn fold_details(snapshot: &mut Snapshot, observation: &Observation, watched: &[Glob]) {
    for (scope, result) in &observation.scopes {
        match (scope, result) {
            (_, Ok(Facts::Deployment(Some(deployment)))) => {
                enter_deployment(snapshot, deployment, observation.at, watched);
            }
            (Scope::One(id), Ok(Facts::Deployment(None))) => {
                if let Some(tracked) = snapshot.deployments.get_mut(id)
                    && let Presence::Missing { since, not_found } = tracked.presence
                {
                    let not_found = not_found.saturating_add(1);
                    Arc::make_mut(tracked).presence = if not_found >= NOT_FOUND_MEANS_GONE {
                        Presence::Gone(observation.at)
                    } else {
                        Presence::Missing { since, not_found }
                    };
                }
            }
            _ => {}
        }
    }
}

fn running_by_team(snapshot: &Snapshot) -> BTreeMap<TeamId, Vec<DeploymentId>> {
    let mut running: BTreeMap<TeamId, Vec<DeploymentId>> = BTreeMap::new();
    for (id, tracked) in &snapshot.deployments {
        if tracked.presence == Presence::Listed && tracked.deployment.status == Status::Running {
            running.entry(tracked.deployment.team.clone()).or_default().push(id.clone());
        }
    }
    running
}

/// A shrinking that is explained ends here, and a new one begins.
fn judge_shrinking(
    snapshot: &mut Snapshot,
    team: &TeamId,
    running_before: Option<&Vec<DeploymentId>>,
    at: Time,
) {
    let missing = |id: &&DeploymentId| {
        snapshot.deployments.get(*id).is_some_and(|t| matches!(t.presence, Presence::Missing { .. }))
    };
    let explained =
        snapshot.shrunk.get(team).is_some_and(|shrunk| !shrunk.vanished.iter().any(|id| missing(&id)));
    let running_before = running_before.map_or(&[][..], Vec::as_slice);
    let vanished: Vec<DeploymentId> = running_before.iter().filter(missing).cloned().collect();
    if vanished.len() >= 2 && vanished.len().saturating_mul(2) >= running_before.len() {
        let running_before = u32::try_from(running_before.len()).unwrap_or(u32::MAX);
        snapshot.shrunk.insert(team.clone(), Shrunk { at, running_before, vanished });
    } else if explained {
        snapshot.shrunk.remove(team);
    }
}

fn fold_volumes(snapshot: &mut Snapshot, observation: &Observation) {
    let at = observation.at;
    for (scope, result) in &observation.scopes {
        let Ok(Facts::Volumes(list)) = result else { continue };
        for volume in list
            .items
            .iter()
            .filter(|volume| snapshot.teams.contains_key(&volume.team))
            .cloned()
            .collect::<Vec<_>>()
        {
            enter_volume(snapshot, volume, at);
        }
        let Scope::Team(team) = scope else { continue };
        if !list.is_whole() {
            continue;
        }
        let seen: BTreeSet<_> = list.items.iter().map(|volume| &volume.id).collect();
        for (id, tracked) in &mut snapshot.volumes {
            if tracked.volume.team == *team && tracked.gone_at.is_none() && !seen.contains(id) {
                Arc::make_mut(tracked).gone_at = Some(at);
            }
        }
    }
}

fn enter_volume(snapshot: &mut Snapshot, volume: Volume, at: Time) {
    match snapshot.volumes.get_mut(&volume.id) {
        Some(tracked) => {
            if tracked.volume != volume || tracked.gone_at.is_some() {
                let tracked = Arc::make_mut(tracked);
                tracked.volume = volume;
                tracked.gone_at = None;
            }
        }
        None => {
            let id = volume.id.clone();
            snapshot.volumes.insert(id, Arc::new(TrackedVolume { volume, first_seen: at, gone_at: None }));
        }
    }
}

fn fold_offers(snapshot: &mut Snapshot, observation: &Observation) {
    for (_, result) in &observation.scopes {
        let Ok(Facts::Offers(list)) = result else { continue };
        if list.is_whole() && *snapshot.offers != list.items {
            snapshot.offers = Arc::new(list.items.clone());
        }
    }
}
