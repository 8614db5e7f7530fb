//! What must hold of every DELETE (FAULTS C1–C6), judged by what the account truly was and by what went over the network and to
//! people. They must never ask what the watcher believed.

use std::{collections::BTreeMap, time::Duration};

use spheron_watch::{
    drive::simulate::{Asked, Called, Sent},
    model::{ActionId, DeploymentId, Feed, Policy, Status, Subject, Target, Time, outbox::LOG},
    sim::{Endpoint as Place, Fault, Identity},
    spheron::Endpoint,
};

use crate::{
    conditions,
    life::{Armed, Evidence, action_of},
    world::{DAY, HOUR, MINUTE, START, policies},
};

pub const ARMED: &str = "C1: armed";
pub const INTENT: &str = "C1: an intent was committed";
pub const TOLD: &str = "C1: announced a whole grace before";
pub const READ: &str = "C1: read again, and what was announced";
pub const PROTECTED: &str = "C1: not protected";
pub const KEPT: &str = "C1: not kept";
pub const CANCELLED: &str = "C1: not cancelled";
pub const CLOCK: &str = "C1: by a clock that is right";
pub const WHOLE: &str = "C1: by a list that came whole";
pub const CONDITION: &str = "C1: its condition holds";
pub const EARLY: &str = "C2: not before what people were told";
pub const TWICE: &str = "C3: once without a GET between";
pub const CAPS: &str = "C3: caps";
pub const DOUBT: &str = "C4: no doubt was seen";
pub const CHANGES: &str = "C5: only GETs while nothing is armed, and only what is on the list";
pub const ORIGIN: &str = "C6: only to the one origin";
pub const SHARE: &str = "68: not so many at once";
pub const ORDER: &str = "75: in the stated order, one at a time";
pub const CONFIRMED: &str = "19: what is not confirmed is told";
pub const LEFT: &str = "what should end ends";

/// Two clocks that may each be most of a minute off.
pub const SLACK: Duration = Duration::from_secs(120);
const YOUNG: Duration = Duration::from_secs(30);
const AGE: Duration = Duration::from_secs(15 * 60);

pub type Findings = BTreeMap<&'static str, Vec<String>>;

/// An announcement that a receiver took.
#[derive(Debug, Clone)]
pub struct Told {
    pub at: Time,
    pub policy: String,
    pub target: Target,
    pub action: ActionId,
    pub title: String,
    pub team: String,
    /// Not before, as people read it.
    pub promise: Time,
    /// When people were told that it is called off.
    pub off: Option<Time>,
}

/// A DELETE, with all calls about its deployment up to it.
pub struct Delete<'a> {
    pub call: &'a Called,
    pub before: &'a [&'a Called],
    pub truth: &'a Identity,
}

impl Delete<'_> {
    pub fn target(&self) -> Target {
        Target { id: self.call.id.clone(), created_at: self.truth.created_at }
    }

    fn last(&self, endpoint: Endpoint) -> Option<&Called> {
        self.before.iter().rev().find(|call| call.endpoint == endpoint).copied()
    }
}

pub fn judge(evidence: &Evidence) -> Findings {
    let mut findings = Findings::new();
    let told = announcements(&evidence.sent);
    let mut by_id: BTreeMap<&DeploymentId, Vec<&Called>> = BTreeMap::new();
    let mut deletes: Vec<(Time, Target)> = Vec::new();
    for call in &evidence.called {
        let calls = by_id.entry(&call.id).or_default();
        if call.endpoint == Endpoint::Terminate {
            let broken = match &call.truth {
                None => vec![READ],
                Some(truth) => {
                    let delete = Delete { call, before: calls, truth };
                    let broken = of_one(evidence, &delete, &told, &deletes);
                    deletes.push((call.at, delete.target()));
                    broken
                }
            };
            for what in broken {
                let truth = call.truth.as_ref().map(|truth| truth.name.as_str()).unwrap_or("nothing");
                let own = told.iter().filter(|told| told.target.id == call.id && told.at <= call.at);
                let own: Vec<String> = own
                    .map(|told| format!("{} at {} for {}", told.policy, told.at, told.promise))
                    .take(2)
                    .collect();
                let weather: Vec<&Fault> = [Place::Deployments, Place::Detail, Place::CanTerminate]
                    .into_iter()
                    .flat_map(|place| faults(evidence, place, call.at))
                    .collect();
                let found =
                    format!("{} {truth} at {}, told of: {own:?}, weather: {weather:?}", call.id, call.at);
                findings.entry(what).or_default().push(found);
            }
        }
        calls.push(call);
    }
    let mut find = |what, found: Vec<String>| {
        if !found.is_empty() {
            findings.entry(what).or_default().extend(found);
        }
    };
    let (changes, strays) = whole_log(evidence, deletes.len());
    find(CHANGES, changes);
    find(ORIGIN, strays);
    find(CONFIRMED, unconfirmed(evidence));
    find(LEFT, conditions::left(evidence));
    findings
}

pub fn announcements(sent: &[Sent]) -> Vec<Told> {
    let mut off: BTreeMap<ActionId, Time> = BTreeMap::new();
    let people = || sent.iter().filter(|sent| &*sent.receiver != LOG && &*sent.notice.kind == "policy");
    for sent in people().filter(|sent| sent.notice.title.starts_with("not ended:")) {
        if let Some(action) = action_of(&sent.notice) {
            off.entry(action).or_insert(sent.at);
        }
    }
    let told = |sent: &Sent| {
        let Subject::Deployment { id, created_at } = &sent.notice.key.subject else { return None };
        let promise = sent.notice.reason.split("not before ").nth(1)?;
        let promise = promise.split([',', ' ']).next()?.trim_end_matches('.');
        let action = action_of(&sent.notice)?;
        let team = sent.notice.details.iter().find(|(key, _)| &**key == "team");
        Some(Told {
            at: sent.at,
            policy: sent.notice.key.rule.trim_start_matches("policy/").to_owned(),
            target: Target { id: id.clone(), created_at: *created_at },
            off: off.get(&action).copied(),
            action,
            title: sent.notice.title.clone(),
            team: team.map(|(_, team)| team.clone()).unwrap_or_default(),
            promise: Time::parse_rfc3339(promise)?,
        })
    };
    let announced = people().filter(|sent| sent.notice.title.starts_with("will be ended:"));
    announced.filter_map(told).collect()
}

/// The person's arming that is in force for a policy as it is configured then. A configuration of the very instant may have been
/// loaded before or after what was done in it.
pub fn arming<'a>(evidence: &'a Evidence, policy: &str, at: Time) -> Option<&'a Armed> {
    let loaded = |by: usize| evidence.configured[..by].last().map(|(_, setting)| *setting);
    let by_then = loaded(evidence.configured.partition_point(|(from, _)| *from <= at));
    let before = loaded(evidence.configured.partition_point(|(from, _)| *from < at));
    let of = |setting| {
        let policies = policies(setting);
        let now = policies.policies.iter().find(|known| *known.name == *policy)?;
        evidence.armed.iter().rev().find(|armed| {
            armed.policy == *now
                && armed.safety == policies.safety
                && armed.from <= at
                && armed.until.is_none_or(|until| at <= until)
        })
    };
    by_then.and_then(of).or_else(|| before.and_then(of))
}

fn of_one(
    evidence: &Evidence,
    delete: &Delete<'_>,
    told: &[Told],
    deletes: &[(Time, Target)],
) -> Vec<&'static str> {
    let at = delete.call.at;
    let armed_any = |armed: &Armed| arming(evidence, &armed.policy.name, at).is_some();
    if !evidence.armed.iter().any(armed_any) {
        return vec![CHANGES];
    }
    let target = delete.target();
    let mut broken: Vec<&'static str> = Vec::new();
    let mut check = |what, holds: bool| {
        if !holds {
            broken.push(what);
        }
    };
    let own: Vec<&Told> = told.iter().filter(|told| told.target == target && told.at <= at).collect();
    check(INTENT, has_intent(evidence, delete, &own));
    check(PROTECTED, !is_protected(&delete.truth.name));
    check(KEPT, !evidence.keeps.iter().any(|keep| keep.target == target && holds(keep, at)));
    let cancelled = |(when, of): &(Time, Target)| *of == target && at.since(*when) < DAY && *when < at;
    check(CANCELLED, !evidence.cancels.iter().any(cancelled));
    check(CLOCK, clock_is_right(evidence, delete));
    check(WHOLE, list_was_whole(evidence, at));
    check(EARLY, own.iter().all(|told| told.promise <= delete.call.ours.plus(SLACK)));
    check(TWICE, read_between(delete));
    check(CAPS, within_caps(at, deletes));
    check(DOUBT, no_doubt(evidence, delete));
    check(SHARE, conditions::not_so_many(evidence, at));
    broken.extend(of_its_announcement(evidence, delete, &own));
    broken
}

/// One announcement has to bear it: of its policy, its whole grace before, of what the reads say, with its condition.
fn of_its_announcement(evidence: &Evidence, delete: &Delete<'_>, own: &[&Told]) -> Vec<&'static str> {
    let at = delete.call.at;
    let judged = |told: &&&Told| {
        let mut broken = Vec::new();
        let armed = arming(evidence, &told.policy, at);
        let policy: Option<&Policy> = armed.map(|armed| &armed.policy);
        if armed.is_none_or(|armed| told.at < armed.from && !was_armed(evidence, &told.policy, told.at)) {
            broken.push(ARMED);
        }
        // What was called off at the very instant was called off after it.
        let over = told.off.is_some_and(|off| off < at);
        if policy.is_some_and(|policy| told.at.plus(policy.grace) > at.plus(SLACK)) || over {
            broken.push(TOLD);
        }
        if !reads_agree(evidence, delete, told) {
            broken.push(READ);
        }
        if policy.is_some_and(|policy| !conditions::hold(evidence, delete, policy)) {
            broken.push(CONDITION);
        }
        if told.policy == "shed" && !conditions::in_order(evidence, delete, told) {
            broken.push(ORDER);
        }
        broken
    };
    let all = own.iter().map(|told| judged(&told));
    all.min_by_key(Vec::len).unwrap_or_else(|| vec![TOLD])
}

fn was_armed(evidence: &Evidence, policy: &str, at: Time) -> bool {
    arming(evidence, policy, at).is_some()
}

/// A keep of the very instant may have come after what was done in it.
pub fn holds(keep: &crate::life::Kept, at: Time) -> bool {
    keep.from < at && keep.until.is_none_or(|until| at < until)
}

pub fn is_protected(name: &str) -> bool {
    name.starts_with("prod-") || name.contains("-keep-")
}

/// The store took an intent for what was announced.
fn has_intent(evidence: &Evidence, delete: &Delete<'_>, own: &[&Told]) -> bool {
    let target = delete.target();
    evidence.intents.iter().any(|(when, intent)| {
        let announced = own.is_empty() || own.iter().any(|told| told.action == intent.action);
        *when <= delete.call.at && intent.target == target && announced
    })
}

fn clock_is_right(evidence: &Evidence, delete: &Delete<'_>) -> bool {
    let ahead = delete.call.ours.millis() - delete.call.at.millis();
    let skewed = faults(evidence, Place::CanTerminate, delete.call.at)
        .chain(faults(evidence, Place::Detail, delete.call.at))
        .any(|fault| matches!(fault, Fault::SkewedDate(secs) if secs.unsigned_abs() > 61));
    ahead.abs() <= 60_000 && !skewed
}

pub fn faults(evidence: &Evidence, on: Place, at: Time) -> impl Iterator<Item = &Fault> {
    let open = move |window: &&spheron_watch::sim::Window| {
        window.from <= at && at < window.until && window.on.is_none_or(|place| place == on)
    };
    evidence.windows.iter().filter(open).map(|window| &window.what)
}

/// The last list was asked for lately, answered, and nothing was wrong with it that can be seen.
fn list_was_whole(evidence: &Evidence, at: Time) -> bool {
    let seen = |fault: &Fault| {
        matches!(
            fault,
            Fault::Html
                | Fault::EmptyBody
                | Fault::EmptyList
                | Fault::Truncated
                | Fault::DuplicateRecord { .. }
                | Fault::Redirect(_)
                | Fault::WrongContentType
                | Fault::Cut
                | Fault::Hang
                | Fault::Reset
        )
    };
    let through = |at: Time| faults(evidence, Place::Deployments, at).any(seen);
    let good = |last: &Asked| {
        last.answered >= last.scopes.len().max(1)
            && at.since(last.until) <= effective(evidence, last) * 5 / 2 + SLACK
            && !(through(last.from) && through(last.until))
    };
    // A list that came at the very instant may have come before or after.
    let lists = |until: usize| evidence.asked[..until].iter().rev().find(|a| a.feed == Feed::Deployments);
    let before = lists(evidence.asked.partition_point(|asked| asked.until < at));
    let by_then = lists(evidence.asked.partition_point(|asked| asked.until <= at));
    before.is_some_and(good) || by_then.is_some_and(good)
}

/// How far lists lie apart after this one, as the API's limit stretches them: by a quarter of an hour at most, for it counts in those.
fn effective(evidence: &Evidence, last: &Asked) -> Duration {
    let mut later =
        evidence.asked[evidence.asked.partition_point(|asked| asked.until <= last.until)..].iter();
    let next = later.find(|asked| asked.feed == Feed::Deployments && asked.from > last.until);
    let usual = MINUTE * evidence.case.poll;
    next.map_or(usual, |next| next.from.since(last.until).clamp(usual, MINUTE * 15))
}

fn read_between(delete: &Delete<'_>) -> bool {
    let ended = delete.before.iter().rposition(|call| call.endpoint == Endpoint::Terminate);
    let Some(ended) = ended else { return true };
    delete.before[ended..].iter().any(|call| call.endpoint == Endpoint::Deployment)
}

fn within_caps(at: Time, deletes: &[(Time, Target)]) -> bool {
    let safety = policies(crate::world::Setting::Usual).safety;
    let near = |length: Duration| deletes.iter().filter(|(then, _)| at.since(*then) + SLACK < length).count();
    near(HOUR) < usize::from(safety.max_per_hour) && near(DAY) < usize::from(safety.max_per_day)
}

fn body(call: &Called) -> serde_json::Value {
    serde_json::from_str(&call.body).unwrap_or_default()
}

/// Both reads went out within 30 s, and the first says what people were told, and what it is now.
fn reads_agree(evidence: &Evidence, delete: &Delete<'_>, told: &Told) -> bool {
    let (Some(read), Some(check)) = (delete.last(Endpoint::Deployment), delete.last(Endpoint::CanTerminate))
    else {
        return false;
    };
    let young = |call: &Called| delete.call.at.since(call.at) <= YOUNG;
    let (said, truth) = (body(read), delete.truth);
    let team = evidence.teams.iter().find(|(id, _)| *id == truth.team).map_or("", |(_, name)| *name);
    let agrees = said["id"] == delete.call.id.as_str()
        && said["name"] == truth.name.as_str()
        && said["teamId"] == truth.team.as_str()
        && said["createdAt"].as_str().and_then(Time::parse_rfc3339) == Some(second(truth.created_at))
        && told.title.contains(&*truth.name)
        && told.team.contains(team);
    young(read) && young(check) && agrees
}

fn second(at: Time) -> Time {
    Time::from_secs(at.secs())
}

/// The last word of each read was no error and no doubt, nothing touched it, and it is running by them and in truth.
fn no_doubt(evidence: &Evidence, delete: &Delete<'_>) -> bool {
    // These change nothing that one record says.
    let harmless = |fault: &Fault| {
        matches!(
            fault,
            Fault::DuplicateRecord { .. }
                | Fault::HiddenLimit(_)
                | Fault::MissingRecord { .. }
                | Fault::EmptyList
                | Fault::Delay(_)
                | Fault::Drip { .. }
                | Fault::SkewedDate(_)
                | Fault::ServerError
        )
    };
    let good = |call: &Called, place: Place| {
        call.status == Some(200) && (call.honest || faults(evidence, place, call.at).all(harmless))
    };
    let read = delete.last(Endpoint::Deployment).filter(|call| good(call, Place::Detail));
    let check = delete.last(Endpoint::CanTerminate).filter(|call| good(call, Place::CanTerminate));
    let (Some(read), Some(check)) = (read, check) else { return false };
    let check = body(check);
    body(read)["status"] == "running"
        && delete.truth.status == Status::Running
        && check["canTerminate"] == true
        && check["timeRemaining"] == 0
}

/// What was asked beside the reads and DELETEs: changes that nobody asked for, and calls that go elsewhere.
fn whole_log(evidence: &Evidence, deletes: usize) -> (Vec<String>, Vec<String>) {
    let world = &evidence.world;
    let (mut changes, mut strays) = (Vec::new(), Vec::new());
    if world.mutations().len() != deletes {
        changes.push(format!("{} changes, {deletes} DELETEs", world.mutations().len()));
    }
    for call in world.calls().keys() {
        let (method, target) = call.split_once(' ').unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let listed = matches!(
            (method, parts.as_slice()),
            ("GET", ["", "api", "balance" | "deployments" | "volumes" | "gpu-offers"])
                | ("GET" | "DELETE", ["", "api", "deployments", _])
                | ("GET", ["", "api", "deployments", _, "can-terminate"])
        );
        if !path.starts_with("/api/") {
            strays.push(call.clone());
        } else if !listed {
            changes.push(call.clone());
        }
    }
    (changes, strays)
}

/// The second, where the watcher died before it heard the answer.
fn says_it_runs(title: &str) -> bool {
    title.starts_with("not confirmed:") || title.starts_with("not ended:") && title.ends_with("still runs")
}

/// FAULTS 19: a DELETE was accepted, and an hour later it still ran: by then, or soon after, somebody is told.
fn unconfirmed(evidence: &Evidence) -> Vec<String> {
    let world = &evidence.world;
    let mut found = Vec::new();
    for call in evidence.called.iter().filter(|call| call.endpoint == Endpoint::Terminate) {
        let (Some(truth), Some(200)) = (&call.truth, call.status) else { continue };
        let by = call.at.plus(HOUR * 13);
        let hour = call.at..call.at.plus(HOUR);
        let ended = world
            .passages()
            .iter()
            .any(|passage| passage.id == call.id && passage.to.is_ended() && hour.contains(&passage.at));
        let same = evidence.machines.iter().filter(|machine| machine.id == call.id).count() == 1
            && world.created_at(&call.id) == Some(truth.created_at);
        let lied = conditions::lies(evidence, &call.id, (hour.start, hour.end));
        if !same || by > evidence.case.end() || ended || lied > 1 {
            continue;
        }
        let told = evidence.sent.iter().any(|sent| {
            let about = matches!(&sent.notice.key.subject, Subject::Deployment { id, .. } if *id == call.id);
            about
                && says_it_runs(&sent.notice.title)
                && (call.at..by).contains(&sent.at)
                && &*sent.receiver != LOG
        });
        if !told {
            found.push(format!("{} {} at {}", call.id, truth.name, call.at));
        }
    }
    found
}

/// How long something has been running without a break, in truth.
pub fn running_since(evidence: &Evidence, id: &DeploymentId, at: Time) -> Option<Time> {
    let world = &evidence.world;
    let passages = world.passages();
    let until = passages.partition_point(|passage| passage.at <= at);
    let last = passages[..until].iter().rev().find(|passage| passage.id == *id)?;
    (last.to == Status::Running).then_some(last.at)
}

/// FAULTS 71.
pub fn is_old_enough(since: Time, at: Time) -> bool {
    at.since(since) + SLACK >= AGE && since >= START
}
