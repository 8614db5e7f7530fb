//! The API over HTTP: reading for everybody who may ask, changes for the socket alone.
//!
//! It must never say that a change is made before the database has it.

use std::{collections::BTreeMap, fmt, panic::resume_unwind, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Asking, At, Look, Problem, ROOT, Records, Source, asks_policies, asks_records, asks_why, get, query,
    silences,
};
use crate::{
    clock::Clock,
    model::{ActionId, ArmError, Arming, Cancel, CancelError, Keep, PolicyReasons, Reasons, Silence, View},
    serve::ServeOptions,
};

/// How long a change may take to be committed: an answer within the client's patience.
pub const COMMITTED_WITHIN: Duration = Duration::from_secs(8);
/// How long the loop may take to come to a question.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);
/// What can be changed, for whoever asks for something else.
const CHANGES: &str = "POST silences, DELETE silences/{id}, POST keeps, DELETE keeps/{id}, POST policies/{name}/arm, \
     POST policies/{name}/disarm, POST actions/{id}/cancel";
const BODY_BYTES_MAX: usize = 64 * 1024;
const SILENCES_MAX: usize = 1_000;

pub type Sending<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Takes changes to whoever makes them. `false` of a silence: nobody takes them any more.
pub trait Orders: Send + Sync + fmt::Debug {
    fn silence(&self, silence: Silence) -> Sending<'_>;
    fn end_silence(&self, id: Arc<str>) -> Sending<'_>;
    /// `false`: there are too many.
    fn keep(&self, keep: Keep) -> Asking<'_, bool>;
    /// `false`: none that holds has this id.
    fn end_keep(&self, id: Arc<str>, by: Arc<str>) -> Asking<'_, bool>;
    fn cancel(&self, action: ActionId, cancel: Cancel) -> Asking<'_, Result<(), CancelError>>;
    fn arm(&self, policy: Arc<str>, code: Arc<str>, by: Arc<str>) -> Asking<'_, Result<Arming, ArmError>>;
    /// Whether it was armed.
    fn disarm(&self, policy: Arc<str>, by: Arc<str>) -> Asking<'_, bool>;
}

/// What answers at one listener.
#[derive(Clone)]
pub struct Api {
    views: watch::Receiver<Arc<View>>,
    clock: Clock,
    /// `None`: this listener changes nothing.
    orders: Option<Arc<dyn Orders>>,
    reasons: Option<Arc<dyn Reasons>>,
    records: Option<Arc<dyn Records>>,
    /// One question to the database at a time.
    turn: Arc<Semaphore>,
}

/// What `POST silences` takes: an end or a length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    pub matchers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<At>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<At>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_secs: Option<u64>,
    #[serde(default)]
    pub author: String,
    #[serde(default)]
    pub comment: String,
}

pub async fn answer(api: &Api, request: Request) -> Response {
    let method = request.method().clone();
    let result = match method {
        Method::GET | Method::HEAD => {
            api.read(request.uri()).await.map(|document| reply(StatusCode::OK, document))
        }
        _ => api.change(request).await,
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

pub(super) fn reply(status: StatusCode, document: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], document).into_response()
}

fn below_root(uri: &Uri) -> &str {
    uri.path().strip_prefix(ROOT).unwrap_or_default()
}

impl Api {
    pub fn new(
        options: &ServeOptions,
        views: watch::Receiver<Arc<View>>,
        clock: Clock,
        orders: Option<Arc<dyn Orders>>,
    ) -> Self {
        let (reasons, records) = (options.reasons.clone(), options.records.clone());
        Self { views, clock, orders, reasons, records, turn: Arc::new(Semaphore::new(1)) }
    }

    async fn read(&self, uri: &Uri) -> Result<String, Problem> {
        let path = below_root(uri);
        if asks_records(path) {
            return self.read_records(uri.clone()).await;
        }
        let held =
            if asks_why(path) { self.reasons(|reasons| reasons.held()).await? } else { Arc::default() };
        let policies: Option<Arc<PolicyReasons>> = match asks_policies(path) {
            true => Some(self.reasons(|reasons| reasons.policies()).await?),
            false => None,
        };
        let view = self.view();
        let look = Look { held: &held, policies: policies.as_deref(), ..self.look(&view) };
        get(look, path, uri.query().unwrap_or_default())
    }

    /// Off the async threads. The turn lasts as long as the query does, so that clients who ask and hang up pile up nothing.
    async fn read_records(&self, uri: Uri) -> Result<String, Problem> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| stopping())?;
        let api = self.clone();
        let reading = spawn_blocking(move || {
            let _turn = turn;
            let view = Arc::clone(&api.views.borrow());
            let look = Look { records: api.records.as_deref(), ..api.look(&view) };
            get(look, below_root(&uri), uri.query().unwrap_or_default())
        });
        match reading.await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(stopping()),
            },
        }
    }

    async fn reasons<'a, T>(
        &'a self,
        ask: impl FnOnce(&'a dyn Reasons) -> Pin<Box<dyn Future<Output = Option<Arc<T>>> + Send + 'a>>,
    ) -> Result<Arc<T>, Problem> {
        let reasons = self.reasons.as_deref().ok_or_else(stopping)?;
        match timeout(ANSWERED_WITHIN, ask(reasons)).await {
            Ok(answer) => answer.ok_or_else(stopping),
            Err(_) => Err(Problem::new(503, "the daemon is busy; ask again, and see its log if it stays so")),
        }
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    pub(super) fn look<'a>(&self, view: &'a View) -> Look<'a> {
        let (now, source) = (self.clock.now(), Source::Daemon);
        Look { view, held: &[], policies: None, records: None, now, source }
    }

    async fn change(&self, request: Request) -> Result<Response, Problem> {
        let Some(orders) = &self.orders else {
            return Err(Problem::new(
                403,
                "over TCP this is read-only; changes are made over the control socket (`[serve] socket`), as \
                 `spheron-watch silence` and `spheron-watch keep` do",
            ));
        };
        let path = below_root(request.uri()).to_owned();
        let segments = query::segments(&path)?;
        let segments: Vec<&str> = segments.iter().map(|segment| &**segment).collect();
        match (request.method(), segments.as_slice()) {
            (&Method::POST, ["silences"]) => self.silence(&**orders, request.into_body()).await,
            (&Method::DELETE, ["silences", id]) => self.end_silence(&**orders, id).await,
            (&Method::POST, ["keeps"]) => self.keep(&**orders, request.into_body()).await,
            (&Method::DELETE, ["keeps", id]) => self.end_keep(&**orders, id, request.uri()).await,
            (&Method::POST, ["policies", name, "arm"]) => {
                self.arm(&**orders, name, request.into_body()).await
            }
            (&Method::POST, ["policies", name, "disarm"]) => {
                self.disarm(&**orders, name, request.into_body()).await
            }
            (&Method::POST, ["actions", id, "cancel"]) => {
                self.cancel(&**orders, id, request.into_body()).await
            }
            _ => Err(Problem::new(405, format!("nothing can be changed so; there is {CHANGES}"))),
        }
    }

    async fn silence(&self, orders: &dyn Orders, body: Body) -> Result<Response, Problem> {
        let body = read_body(body).await?;
        let asked: NewSilence = serde_json::from_slice(&body)
            .map_err(|error| Problem::new(400, format!("the body is no silence: {error}")))?;
        let silence = self.new_silence(asked)?;
        let id = silence.id.clone();
        if !orders.silence(silence).await {
            return Err(stopping());
        }
        let view = self.committed(|view| view.snapshot.silences.contains_key(&id)).await?;
        let made = view.snapshot.silences.get(&id).ok_or_else(not_yet)?;
        let document = super::json(&silences::silence(self.look(&view), made))?;
        Ok(reply(StatusCode::CREATED, document))
    }

    fn new_silence(&self, asked: NewSilence) -> Result<Silence, Problem> {
        let now = self.clock.now();
        let starts = asked.starts.map_or(now, |at| at.0);
        let ends = match (asked.ends, asked.for_secs) {
            (Some(ends), None) => ends.0,
            (None, Some(secs)) => starts.plus(Duration::from_secs(secs)),
            (Some(_), Some(_)) | (None, None) => {
                return Err(Problem::new(400, "a silence has either `ends` or `for_secs`"));
            }
        };
        let lasting =
            self.views.borrow().snapshot.silences.values().filter(|silence| now < silence.ends).count();
        if lasting >= SILENCES_MAX {
            return Err(Problem::new(
                409,
                "there are 1000 silences already; end some, or match more with one",
            ));
        }
        let matchers = asked.matchers.into_iter().map(|(key, glob)| (key.into(), glob.into())).collect();
        let silence = Silence::new(matchers, starts, ends, asked.author.into(), asked.comment.into());
        silence.map_err(|refused| Problem::new(400, refused.to_string()))
    }

    async fn end_silence(&self, orders: &dyn Orders, id: &str) -> Result<Response, Problem> {
        let view = Arc::clone(&self.views.borrow());
        let now = self.clock.now();
        let found = view.snapshot.silences.get(id).filter(|silence| now < silence.ends);
        let id = found.ok_or_else(|| Problem::new(404, "no silence that lasts has this id"))?.id.clone();
        if !orders.end_silence(id.clone()).await {
            return Err(stopping());
        }
        // Removed, or with an end that has come.
        let over = |view: &View| view.snapshot.silences.get(&id).is_none_or(|kept| kept.ends <= view.at);
        self.committed(over).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// The first view in which the change shows: what is shown is committed.
    async fn committed(&self, shows: impl Fn(&View) -> bool) -> Result<Arc<View>, Problem> {
        let mut views = self.views.clone();
        let found = timeout(COMMITTED_WITHIN, views.wait_for(|view| shows(view))).await;
        match found {
            Ok(Ok(view)) => Ok(Arc::clone(&view)),
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(not_yet()),
        }
    }
}

pub(super) async fn read_body(body: Body) -> Result<bytes::Bytes, Problem> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    Ok(body.map_err(|_| Problem::new(413, "the body is too large or did not come whole"))?.to_bytes())
}

pub(super) fn stopping() -> Problem {
    Problem::new(503, "the daemon is stopping; ask again when it is back")
}

pub(super) fn not_yet() -> Problem {
    Problem::new(503, "the database has not taken it yet; look again before you repeat it, and see the log")
}
