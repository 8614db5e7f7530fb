//! One call in, one answer out: the account's HTTP face without a socket.
//!
//! It must never do work for what has not changed: records are rendered once and kept until something about them changes.

use std::{sync::Arc, time::Duration};

use super::{
    calls::Allowance,
    catalogue, json,
    routes::{Route, number, parameter},
    world::{Due, World},
};
use crate::model::{DeploymentId, Status, Time, VolumeId};

/// The only key that the account accepts; as public as the simulation.
pub const KEY: &str = "sai_pk_simulated_7d1c4b9a2e6f";

const JSON: &str = "application/json; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const PAGE: &str =
    "<!DOCTYPE html><html><head><title>Spheron</title></head><body><div id=\"root\"></div></body></html>";

/// A call as it arrives: path and query as they stand in the request line.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub authorization: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub conduct: Conduct,
    /// No fault touched it.
    pub honest: bool,
}

/// How the answer travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conduct {
    Whole,
    /// Whole, after a while.
    Delay(Duration),
    /// So many bytes at a time.
    Drip {
        bytes: usize,
        every: Duration,
    },
    /// The connection stays open and nothing comes.
    Hang,
    /// The connection closes before the head.
    Reset,
    /// The connection closes amid the body.
    Cut,
}

impl Answer {
    pub(super) fn json(status: u16, body: String) -> Self {
        Self::new(status, JSON, body.into_bytes())
    }

    pub(super) fn new(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { status, headers, body, conduct: Conduct::Whole, honest: true }
    }

    /// How long until it is there; `None` if it never is.
    pub fn takes(&self) -> Option<Duration> {
        match self.conduct {
            Conduct::Whole => Some(Duration::ZERO),
            Conduct::Delay(length) => Some(length),
            Conduct::Drip { bytes, every } => {
                let drops = self.body.len().div_ceil(bytes.max(1));
                Some(every.saturating_mul(u32::try_from(drops).unwrap_or(u32::MAX)))
            }
            Conduct::Hang | Conduct::Reset | Conduct::Cut => None,
        }
    }

    fn stamp(&mut self, now: Time, skew_secs: i64, allowance: &Allowance, reset: bool) {
        let date = Time::from_millis(now.millis().saturating_add(skew_secs.saturating_mul(1_000)));
        self.headers.push(("date", format_time(date, "%a, %d %b %Y %H:%M:%S GMT")));
        self.headers.push(("x-ratelimit-limit", allowance.limit.to_string()));
        self.headers.push(("x-ratelimit-remaining", allowance.remaining.to_string()));
        if reset {
            self.headers.push(("x-ratelimit-reset", format_time(allowance.reset, "%Y-%m-%dT%H:%M:%S%.3fZ")));
        }
    }
}

impl World {
    /// Answers one call at a time; a time before the last one counts as the last one.
    pub fn answer(&mut self, ask: &Ask<'_>, now: Time) -> Answer {
        self.advance(now);
        let now = self.now;
        let target = match ask.query {
            "" => format!("{} {}", ask.method, ask.path),
            query => format!("{} {}?{query}", ask.method, ask.path),
        };
        self.calls.note(now, ask.method, ask.path, &target);
        let allowance = self.calls.count(now, self.terms.limit);
        let route = Route::of(ask.method, ask.path);
        let endpoint = route.endpoint();
        let faults = self.faults.active(now, endpoint);
        let team = if faults.is_empty() { None } else { self.asked_team(&route, ask.query) };
        let instead = faults.iter().find_map(|fault| fault.instead(team, allowance.reset.since(now)));
        let usual = self.terms.destroy_takes;
        self.terms.destroy_takes = faults.iter().find_map(super::Fault::slow).unwrap_or(usual);
        let mut answer = instead.unwrap_or_else(|| self.plain(&route, ask, &allowance));
        self.terms.destroy_takes = usual;
        for fault in &faults {
            fault.mar(&mut answer);
        }
        let skew = faults.iter().find_map(super::Fault::skew_secs).unwrap_or(0);
        let reset = !faults.iter().any(super::Fault::hides_reset);
        answer.stamp(now, skew, &allowance, reset);
        answer.honest &= skew == 0;
        let failed = answer.status >= 500 || answer.takes().is_none();
        self.calls.answered(now, endpoint, &target, failed, answer.honest && answer.status == 200);
        answer
    }

    fn plain(&mut self, route: &Route, ask: &Ask<'_>, allowance: &Allowance) -> Answer {
        if allowance.refused {
            return super::faults::too_many(super::LimitBody::B, allowance.reset.since(self.now));
        }
        let authorized = !self.key_revoked
            && ask
                .authorization
                .and_then(|header| header.strip_prefix("Bearer "))
                .is_some_and(|key| key == KEY);
        if !authorized && !route.is_public() {
            return refusal(401, "Invalid API key", "UNAUTHORIZED");
        }
        match route {
            Route::Balance => self.balance_answer(ask.query),
            Route::Deployments => self.deployments_answer(ask.query),
            Route::Deployment(id) => self.on_machine(id, |world, i| {
                let body = world.machine_json(i).map(|json| json::with_extras(&json)).unwrap_or_default();
                Answer::json(200, body)
            }),
            Route::CanTerminate(id) => self.on_machine(id, |world, i| world.can_terminate_answer(i)),
            Route::Delete(id) => self.on_machine(id, |world, i| world.delete_answer(i)),
            Route::Volumes => self.volumes_answer(ask.query),
            Route::Volume(id) => self.volume_answer(id),
            Route::VolumePricing => {
                let provider = parameter(ask.query, "provider").unwrap_or_else(|| "voltage-park".to_owned());
                let body = serde_json::json!({ "provider": provider, "hourlyRatePerGb": 0.000137 });
                Answer::json(200, body.to_string())
            }
            Route::Offers => offers_answer(ask.query, authorized),
            Route::Providers => Answer::json(200, json::text(&catalogue::PROVIDERS)),
            Route::Teams => {
                self.calls.team_created();
                self.balance_answer("")
            }
            Route::Refused => refusal(403, "Insufficient permissions to access this resource", "FORBIDDEN"),
            Route::Unknown => Answer::new(404, HTML, PAGE.as_bytes().to_vec()),
        }
    }

    fn balance_answer(&self, query: &str) -> Answer {
        let wanted = match self.wanted_team(query) {
            Ok(wanted) if parameter(query, "all").as_deref() == Some("false") => {
                wanted.or(self.current_team())
            }
            Ok(wanted) => wanted,
            Err(refused) => return refused,
        };
        let current = self.current_team();
        let teams =
            self.teams.iter().enumerate().filter(|(i, t)| !t.hidden && wanted.is_none_or(|w| w == *i));
        Answer::json(200, json::balance(teams.map(|(i, t)| (t, Some(i) == current)), &self.ledger))
    }

    fn deployments_answer(&mut self, query: &str) -> Answer {
        let team = match self.wanted_team(query) {
            Ok(None) if !self.terms.unscoped_spans_teams => self.current_team(),
            Ok(team) => team,
            Err(refused) => return refused,
        };
        if parameter(query, "userId").is_some_and(|user| user != json::USER_ID) {
            return refusal(403, "Insufficient permissions to access this resource", "FORBIDDEN");
        }
        let status = parameter(query, "status");
        let mut body = String::with_capacity(self.machines.len().saturating_mul(900).min(1 << 24));
        body.push('[');
        for i in 0..self.machines.len() {
            let Some(m) = self.machines.get(i) else { continue };
            let visible =
                self.teams.get(m.team).is_some_and(|t| !t.hidden) && team.is_none_or(|t| t == m.team);
            if visible
                && !m.superseded
                && status.as_deref().is_none_or(|filter| passes(filter, &m.status))
                && let Some(json) = self.machine_json(i)
            {
                if body.len() > 1 {
                    body.push(',');
                }
                body.push_str(&json);
            }
        }
        body.push(']');
        Answer::json(200, body)
    }

    fn on_machine(&mut self, id: &str, answer: impl FnOnce(&mut Self, usize) -> Answer) -> Answer {
        let Some(i) = self.machine(&DeploymentId::new(id)) else {
            return refusal(404, "Deployment not found", "NOT_FOUND");
        };
        let team = self.machines.get(i).and_then(|m| self.teams.get(m.team));
        if team.is_none_or(|t| t.hidden) {
            return refusal(403, "Insufficient permissions to access this resource", "FORBIDDEN");
        }
        answer(self, i)
    }

    fn can_terminate_answer(&self, machine: usize) -> Answer {
        let Some(m) = self.machines.get(machine) else {
            return refusal(404, "Deployment not found", "NOT_FOUND");
        };
        let end = m.stopped_at.unwrap_or(self.now);
        let runtime = m.started_at.map_or(0, |start| end.since(start).as_secs() / 60);
        let ended = m.stopped_at.map(|_| &m.status);
        let remaining = if ended.is_some() { 0 } else { self.minutes_remaining(machine) };
        Answer::json(200, json::can_terminate(runtime, remaining, self.minimum_minutes(), ended))
    }

    fn delete_answer(&mut self, machine: usize) -> Answer {
        let Some(m) = self.machines.get(machine) else {
            return refusal(404, "Deployment not found", "NOT_FOUND");
        };
        if m.stopped_at.is_some() {
            return Answer::json(400, json::cannot_terminate(&m.status));
        }
        let remaining = self.minutes_remaining(machine);
        if remaining > 0 {
            return Answer::json(400, json::too_early(remaining, self.minimum_minutes()));
        }
        let body = json::destruction_begun(m.id.as_str(), self.now);
        self.schedule(self.now.plus(self.terms.destroy_takes), Due::Destroyed(machine));
        Answer::json(200, body)
    }

    fn minimum_minutes(&self) -> u64 {
        self.terms.minimum_runtime.as_secs().div_ceil(60)
    }

    /// Until the minimum runtime is met, rounded up; it counts from `startedAt`.
    fn minutes_remaining(&self, machine: usize) -> u64 {
        let start = self.machines.get(machine).and_then(|m| m.started_at).unwrap_or(self.now);
        let left = self.terms.minimum_runtime.saturating_sub(self.now.since(start));
        u64::try_from(left.as_millis().div_ceil(60_000)).unwrap_or(u64::MAX)
    }

    fn volumes_answer(&mut self, query: &str) -> Answer {
        let team = match self.wanted_team(query) {
            Ok(team) => team.or(self.current_team()),
            Err(refused) => return refused,
        };
        let status = parameter(query, "status");
        let shown: Vec<usize> = (0..self.disks.len())
            .filter(|i| {
                self.disks.get(*i).is_some_and(|d| {
                    Some(d.team) == team && status.as_deref().is_none_or(|filter| filter == d.status.as_str())
                })
            })
            .collect();
        let records: Vec<Arc<str>> = shown.into_iter().filter_map(|i| self.disk_json(i)).collect();
        Answer::json(
            200,
            json::page("volumes", &records, number(query, "page", 1), number(query, "limit", 20)),
        )
    }

    /// By `id` or by `volumeId`: the documentation takes both.
    fn volume_answer(&mut self, id: &str) -> Answer {
        let by_id = self.disk_of.get(&VolumeId::new(id)).copied();
        let index = by_id.or_else(|| self.disks.iter().position(|d| d.volume_id == id));
        let visible = |i: &usize| {
            let team = self.disks.get(*i).and_then(|d| self.teams.get(d.team));
            team.is_some_and(|t| !t.hidden)
        };
        match index.filter(visible).and_then(|i| self.disk_json(i)) {
            Some(json) => Answer::json(200, json.to_string()),
            None => refusal(404, "Volume not found", "NOT_FOUND"),
        }
    }

    fn machine_json(&mut self, index: usize) -> Option<Arc<str>> {
        let m = self.machines.get_mut(index)?;
        if m.json.is_none() {
            m.json = Some(json::deployment(m, index, &self.ledger).into());
        }
        m.json.clone()
    }

    fn disk_json(&mut self, index: usize) -> Option<Arc<str>> {
        let d = self.disks.get_mut(index)?;
        if d.json.is_none() {
            d.json = Some(json::volume(d).into());
        }
        d.json.clone()
    }

    fn current_team(&self) -> Option<usize> {
        self.teams.iter().position(|t| !t.hidden)
    }

    /// The team that `teamId` names; a strange one is refused.
    fn wanted_team(&self, query: &str) -> Result<Option<usize>, Answer> {
        let Some(id) = parameter(query, "teamId") else { return Ok(None) };
        let team = self.teams.iter().position(|t| t.id.as_str() == id && !t.hidden);
        match team {
            Some(team) => Ok(Some(team)),
            None => Err(refusal(403, "Insufficient permissions to access this resource", "FORBIDDEN")),
        }
    }

    /// Whose a call is about, as far as it says.
    fn asked_team(&self, route: &Route, query: &str) -> Option<usize> {
        let id = match route {
            Route::Deployment(id) | Route::CanTerminate(id) | Route::Delete(id) => id,
            Route::Balance
            | Route::Deployments
            | Route::Volumes
            | Route::Volume(_)
            | Route::VolumePricing
            | Route::Offers
            | Route::Providers
            | Route::Teams
            | Route::Refused
            | Route::Unknown => return self.wanted_team(query).ok().flatten(),
        };
        self.machine(&DeploymentId::new(id.as_str())).and_then(|i| self.machines.get(i)).map(|m| m.team)
    }
}

fn offers_answer(query: &str, authorized: bool) -> Answer {
    let search = parameter(query, "search").unwrap_or_default();
    let instance_type = parameter(query, "instanceType").unwrap_or_default();
    let groups = catalogue::groups(authorized, &search, &instance_type);
    Answer::json(200, json::page("data", &groups, number(query, "page", 1), number(query, "limit", 10)))
}

/// The list's filter, as it behaves: `stopped` counts as active, an unknown status as neither.
fn passes(filter: &str, status: &Status) -> bool {
    match filter {
        "active" => matches!(status, Status::Deploying | Status::Running | Status::Stopped),
        "inactive" => status.is_ended(),
        exact => status.as_str() == exact,
    }
}

pub(super) fn refusal(status: u16, message: &str, code: &str) -> Answer {
    Answer::json(status, json::error(message, code))
}

fn format_time(time: Time, format: &str) -> String {
    time.to_jiff().map(|t| t.strftime(format).to_string()).unwrap_or_default()
}
