//! The API client: asks what is on the allow-list, through the governor, and turns answers into model or into one failure.
//!
//! It must never repeat a DELETE, hold a lock across an await, or take an answer that is not as documented for an empty one.

mod failure;
mod last;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Endpoint, Method, Request, Response, SendError, Transport,
    governor::{Governor, Need, Priority, Stretches},
    headers,
    wire::{self, ErrorBody, OfferGroup, Page, RECORDS_MAX, Record, Records},
};
use crate::model::{
    Balance, Deployment, DeploymentId, Failure, FailureKind, Listing, Meter, Offer, TeamId, Time, Volume,
    VolumeId,
};

pub use last::Answered;

const LIST_BYTES_MAX: usize = 32 * 1024 * 1024;
const ONE_BYTES_MAX: usize = 8 * 1024 * 1024;
const PAGES_MAX: u64 = 1_000;
const PAGE_LIMIT: usize = 100;
/// A bare array of just so many may have been cut off by a limit that nobody documents.
const ROUND_COUNTS: [usize; 5] = [100, 200, 250, 500, 1_000];

pub struct Client<T> {
    transport: T,
    meter: Arc<dyn Meter>,
    state: Mutex<State>,
    grants: watch::Sender<u32>,
}

struct State {
    governor: Governor,
    jitter: fastrand::Rng,
    skew_ms: Option<i64>,
}

/// One question.
struct Call<'a> {
    endpoint: Endpoint,
    id: &'a str,
    priority: Priority,
    query: Vec<(&'static str, String)>,
}

impl<'a> Call<'a> {
    fn list(endpoint: Endpoint, priority: Priority) -> Self {
        Self { endpoint, id: "", priority, query: Vec::new() }
    }

    fn one(endpoint: Endpoint, id: &'a str, priority: Priority) -> Self {
        Self { endpoint, id, priority, query: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    fn of_team(self, team: Option<&TeamId>) -> Self {
        match team {
            Some(team) => self.with("teamId", team.as_str()),
            None => self,
        }
    }

    fn request(&self) -> Result<Request, Failure> {
        let path = self
            .endpoint
            .path(self.id)
            .map_err(|error| failure::of(self.endpoint, FailureKind::Refused, &error))?;
        let cap_bytes = if self.id.is_empty() { LIST_BYTES_MAX } else { ONE_BYTES_MAX };
        let (endpoint, method) = (self.endpoint, self.endpoint.method());
        Ok(Request { endpoint, method, path, query: self.query.clone(), cap_bytes })
    }
}

impl<T: Transport> Client<T> {
    /// `calls_per_15m`: `None` follows what the API grants.
    pub fn new(transport: T, calls_per_15m: Option<u32>, meter: Arc<dyn Meter>) -> Self {
        Self::seeded(transport, calls_per_15m, meter, fastrand::u64(..))
    }

    /// The same seed jitters the same way, for simulations.
    pub fn seeded(transport: T, calls_per_15m: Option<u32>, meter: Arc<dyn Meter>, seed: u64) -> Self {
        let state = State {
            governor: Governor::new(calls_per_15m),
            jitter: fastrand::Rng::with_seed(seed),
            skew_ms: None,
        };
        let grants = watch::Sender::new(state.governor.limit());
        Self { transport, meter, state: Mutex::new(state), grants }
    }

    /// Every team's balance.
    pub async fn balances(&self) -> Result<Listing<Balance>, Failure> {
        let body = self.ask(&Call::list(Endpoint::Balance, Priority::Balance)).await?;
        let page: Page<Balance> = wire::balances(&body).map_err(|why| malformed(Endpoint::Balance, &why))?;
        let currency = page.currency.filter(|currency| !currency.eq_ignore_ascii_case("USD"));
        let foreign = currency
            .map(|currency| format!("the balances are in {}, not USD", headers::plain_text(&currency, 20)));
        Ok(wire::listing(page.records.unwrap_or_default(), foreign.into_iter().collect()))
    }

    /// `active_only` is a hint to the server; `inventory` gives the call its lower priority.
    pub async fn deployments(
        &self,
        team: Option<&TeamId>,
        active_only: bool,
        inventory: bool,
    ) -> Result<Listing<Deployment>, Failure> {
        let priority = if inventory { Priority::Inventory } else { Priority::Deployments };
        let mut call = Call::list(Endpoint::Deployments, priority).of_team(team);
        if active_only {
            call = call.with("status", "active");
        }
        let mut records = Records::default();
        let reasons = self.pages(call, |page| records.append(page)).await?;
        if ROUND_COUNTS.contains(&records.seen) {
            tracing::warn!(
                count = records.seen,
                "the list of deployments has a round length: it may have been cut off"
            );
        }
        Ok(of_team(team, records, reasons))
    }

    /// `None`: the API knows no such deployment (404).
    pub async fn deployment(&self, id: &DeploymentId) -> Result<Option<Deployment>, Failure> {
        let call = Call::one(Endpoint::Deployment, id.as_str(), Priority::Vanished);
        self.one::<Deployment>(call, |deployment| deployment.id == *id).await
    }

    /// All pages.
    pub async fn volumes(&self, team: Option<&TeamId>) -> Result<Listing<Volume>, Failure> {
        let call = Call::list(Endpoint::Volumes, Priority::Volumes)
            .of_team(team)
            .with("limit", PAGE_LIMIT.to_string());
        let mut records = Records::default();
        let reasons = self.pages(call, |page| records.append(page)).await?;
        Ok(of_team(team, records, reasons))
    }

    /// One volume, with usage fresh from its provider.
    pub async fn volume(&self, id: &VolumeId) -> Result<Option<Volume>, Failure> {
        let call = Call::one(Endpoint::Volume, id.as_str(), Priority::Volumes);
        self.one::<Volume>(call, |volume| volume.id == *id).await
    }

    /// All pages of the catalogue, as this account would pay.
    pub async fn offers(&self) -> Result<Listing<Offer>, Failure> {
        let call = Call::list(Endpoint::Offers, Priority::Offers).with("limit", PAGE_LIMIT.to_string());
        let mut offers = Records::default();
        // The catalogue moves while it is paged through, so its totals prove nothing.
        let _ = self
            .pages(call, |page: Records<OfferGroup>| {
                let seen = page.unreadable.len();
                offers.append(Records { items: Vec::new(), unreadable: page.unreadable, seen });
                page.items.into_iter().for_each(|OfferGroup(group)| offers.append(group));
            })
            .await?;
        Ok(wire::listing(offers, Vec::new()))
    }

    /// The transport's time: an observation is stamped with it.
    pub fn now(&self) -> Time {
        self.transport.now()
    }

    /// The API's clock minus ours, from its last `Date` header (whole seconds).
    pub fn skew_ms(&self) -> Option<i64> {
        self.state().skew_ms
    }

    /// By how much to lengthen each schedule, so that all of them fit.
    pub fn stretch(&self, needs: &[Need]) -> Stretches {
        let now = self.transport.now();
        self.state().governor.stretch(needs, now)
    }

    /// How many calls the API grants per window; it changes when the API says another number.
    pub fn grants(&self) -> watch::Receiver<u32> {
        self.grants.subscribe()
    }

    /// Since a 401, until the key is accepted again.
    pub fn key_rejected(&self) -> bool {
        self.state().governor.key_rejected()
    }

    async fn one<R: Record>(&self, call: Call<'_>, is_it: impl Fn(&R) -> bool) -> Result<Option<R>, Failure> {
        let answer = self.ask(&call).await;
        record(&call, answer, is_it)
    }

    /// Follows the pages that the answers speak of; gives what makes the list suspect, if anything.
    async fn pages<R: Record>(
        &self,
        mut call: Call<'_>,
        mut take: impl FnMut(Records<R>),
    ) -> Result<Vec<String>, Failure> {
        let first_query = call.query.clone();
        let mut seen = 0_usize;
        for number in 1..=PAGES_MAX {
            let body = self.ask(&call).await?;
            let page = wire::page::<R>(&body).map_err(|why| malformed(call.endpoint, &why))?;
            let Page { records, total, total_pages, .. } = page;
            let records = records.unwrap_or_default();
            let is_empty = records.seen == 0;
            seen = seen.saturating_add(records.seen);
            take(records);
            let more = match (total_pages, total) {
                (Some(pages), _) => number < pages,
                (None, Some(total)) => (seen as u64) < total,
                (None, None) => false,
            };
            if !more || is_empty {
                let missing = total.filter(|total| *total != seen as u64);
                let reason =
                    missing.map(|total| format!("the API counts {total} {}s but listed {seen}", R::WHAT));
                let reason =
                    reason.or_else(|| more.then(|| format!("page {number} of the {}s is empty", R::WHAT)));
                return Ok(reason.into_iter().collect());
            }
            if seen >= RECORDS_MAX {
                break;
            }
            call.query = first_query.clone();
            call.query.push(("page", (number + 1).to_string()));
        }
        Ok(vec![format!("there are more {}s than {PAGES_MAX} pages or {RECORDS_MAX} records", R::WHAT)])
    }

    /// One call, and for a 500 one more after a short pause; but a DELETE that may have been heard is never repeated.
    async fn ask(&self, call: &Call<'_>) -> Result<Bytes, Failure> {
        self.ask_closely(call).await.answer
    }

    async fn ask_closely(&self, call: &Call<'_>) -> Attempt {
        let first = self.attempt(call).await;
        if first.status != Some(500) || call.endpoint.method() != Method::Get {
            return first;
        }
        let jitter = self.state().jitter.f64();
        self.transport.pause(Duration::from_millis(500).mul_f64(1.0 + jitter)).await;
        let second = self.attempt(call).await;
        if second.is_sent { second } else { first }
    }

    async fn attempt(&self, call: &Call<'_>) -> Attempt {
        let sent = self.transport.now();
        let request = match call.request() {
            Ok(request) => request,
            Err(failure) => return Attempt::none(sent, failure),
        };
        if let Err(hold) = self.state().governor.admit(call.priority, sent) {
            return Attempt::none(sent, failure::of(call.endpoint, FailureKind::Held, &hold));
        }
        let result = self.transport.send(request).await;
        let took = self.transport.now().since(sent);
        let status = result.as_ref().ok().map(|response| response.status);
        let code = status.map_or_else(|| "error".to_owned(), |status| status.to_string());
        self.meter.api_call(call.endpoint.template(), call.endpoint.method().as_str(), &code, took);
        match result {
            Ok(response) => self.judge(call, sent, response),
            Err(error) => {
                let is_sent = error != SendError::NotAllowed;
                Attempt { is_sent, ..Attempt::none(sent, self.not_sent(call.endpoint, &error)) }
            }
        }
    }

    fn judge(&self, call: &Call<'_>, sent: Time, response: Response) -> Attempt {
        let now = self.transport.now();
        let Response { status, headers, body } = response;
        let said = if (200..300).contains(&status) { ErrorBody::default() } else { ErrorBody::read(&body) };
        let rate = headers::rate(&headers, now);
        let is_json = headers::is_json(&headers);
        let skew_ms = headers::date(&headers).map(|date| date.millis().saturating_sub(now.millis()));
        // Offers are public, and a login page is not the API: neither shows that the key is good.
        let accepted = (200..300).contains(&status) && is_json && call.endpoint != Endpoint::Offers;
        let wait = (status == 429).then(|| headers::wait_after_429(&headers, &said, now));
        {
            let mut state = self.state();
            state.governor.learn(&rate, now);
            let limit = state.governor.limit();
            self.grants.send_if_modified(|known| std::mem::replace(known, limit) != limit);
            state.skew_ms = skew_ms.or(state.skew_ms);
            let jitter = state.jitter.f64();
            if status == 401 {
                state.governor.key_refused(call.priority, now);
            }
            if let Some(wait) = wait {
                state.governor.told_to_wait(wait, now);
            }
            match status {
                500..=599 => state.governor.failed(now, jitter),
                _ => state.governor.answered(accepted),
            }
        }
        if let (Some(limit), Some(remaining)) = (rate.limit, rate.remaining) {
            self.meter.rate_limit(limit, remaining, rate.reset_in.map(|wait| now.plus(wait)));
        }
        let answer = if (200..300).contains(&status) && is_json {
            Ok(body)
        } else {
            let failure = failure::of_status(call.endpoint, status, is_json, &said, || {
                headers::redirect_host(&headers)
            });
            Err(Failure::new(failure.kind, self.transport.redact(failure.message.to_string())))
        };
        let wait_until = wait.map(|wait| now.plus(wait));
        Attempt { answer, sent, is_sent: true, status: Some(status), skew_ms, said, wait_until }
    }

    fn not_sent(&self, endpoint: Endpoint, error: &SendError) -> Failure {
        let kind = match error {
            SendError::Timeout => FailureKind::Timeout,
            SendError::Network(_) => FailureKind::Network,
            SendError::TooLarge { .. } => FailureKind::Malformed,
            SendError::NotAllowed => FailureKind::Refused,
        };
        let now = self.transport.now();
        let mut state = self.state();
        match error {
            SendError::Timeout | SendError::Network(_) => {
                let jitter = state.jitter.f64();
                state.governor.failed(now, jitter);
            }
            SendError::TooLarge { .. } | SendError::NotAllowed => state.governor.answered(false),
        }
        failure::of(endpoint, kind, error)
    }

    /// Every change is one assignment after another, so a panic elsewhere leaves nothing half-done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call, and what surrounded it.
struct Attempt {
    answer: Result<Bytes, Failure>,
    /// When its sending began.
    sent: Time,
    /// `false`: certainly nothing went out.
    is_sent: bool,
    /// `None`: no answer came.
    status: Option<u16>,
    /// The API's clock minus ours, by this answer's own `Date`.
    skew_ms: Option<i64>,
    /// What it said where it was no success.
    said: ErrorBody,
    /// Until when a 429 wants us to wait.
    wait_until: Option<Time>,
}

impl Attempt {
    fn none(sent: Time, failure: Failure) -> Self {
        Self {
            answer: Err(failure),
            sent,
            is_sent: false,
            status: None,
            skew_ms: None,
            said: ErrorBody::default(),
            wait_until: None,
        }
    }
}

/// `None`: the API knows no such thing (404).
fn record<R: Record>(
    call: &Call<'_>,
    answer: Result<Bytes, Failure>,
    is_it: impl Fn(&R) -> bool,
) -> Result<Option<R>, Failure> {
    let Some(body) = found(answer)? else { return Ok(None) };
    let record: R = wire::one(&body).map_err(|why| malformed(call.endpoint, &why))?;
    if !is_it(&record) {
        return Err(malformed(call.endpoint, &format!("the answer is about another {}", R::WHAT)));
    }
    Ok(Some(record))
}

fn malformed(endpoint: Endpoint, why: &str) -> Failure {
    failure::of(endpoint, FailureKind::Malformed, &why)
}

fn found(answer: Result<Bytes, Failure>) -> Result<Option<Bytes>, Failure> {
    match answer {
        Ok(body) => Ok(Some(body)),
        Err(Failure { kind: FailureKind::NotFound, .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Records of another team than was asked for are kept, but such a list proves nothing (`facts.md` §3 row 6).
fn of_team<R: Record>(team: Option<&TeamId>, records: Records<R>, mut reasons: Vec<String>) -> Listing<R> {
    if let Some(asked) = team
        && records.items.iter().any(|record| record.team().is_some_and(|team| team != asked))
    {
        reasons.push(format!("asked for one team, the API listed {}s of another", R::WHAT));
    }
    wire::listing(records, reasons)
}

#[cfg(test)]
mod tests;
