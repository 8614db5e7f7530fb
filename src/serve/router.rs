//! Paths to answers, and what holds for every answer: the Host check, limits, and headers that disarm browsers.
//!
//! It must never answer anything before the Host check.

use std::{
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state, map_response},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Mutex, watch};
use tower_http::{limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

use super::{
    SelfMetrics, ServeOptions,
    api::{self, Api},
    health, heartbeat,
    hosts::Hosts,
    keep, metrics, text,
};
use crate::{clock::Clock, model::View};

const BODY_BYTES_MAX: usize = 64 * 1024;

const PATHS: &str = "/metrics  what the account holds and spends, for Prometheus\n\
                     /healthz  200 while the process lives\n\
                     /readyz   200 while its data is fresh, else 503 and what is late\n\
                     /api/v1/  status, teams, deployments, volumes, alerts, silences, keeps, policies, actions,\n\
                     \x20         costs, deliveries, why/{deployment}: JSON\n";

const MISDIRECTED: &str = "421: the Host header names none of this server's names.\n\
                           To allow another one, list it in the configuration, in `hosts` of `[serve]`, and restart.\n";

/// Every answer is for this asker, now; nothing in it is to be run, framed, guessed at or kept. A page may set its own.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

struct Shared {
    views: watch::Receiver<Arc<View>>,
    metrics: Arc<SelfMetrics>,
    clock: Clock,
    fleet: Arc<Mutex<Option<FleetPage>>>,
}

/// The fleet's part of `/metrics`, several MB for a large account, kept until the view or the minute changes.
struct FleetPage {
    generation: u64,
    minute: i64,
    text: Bytes,
}

pub(super) fn build(
    hosts: Hosts,
    options: &ServeOptions,
    views: watch::Receiver<Arc<View>>,
    metrics: Arc<SelfMetrics>,
    clock: Clock,
) -> Router {
    let api = Api::new(options, views.clone(), clock.clone(), None);
    let api = any(move |request: Request| async move { api::answer(&api, request).await });
    let keep = Arc::new(keep::Page::new(options.keeper.clone(), views.clone(), clock.clone()));
    let shared = Shared { views, metrics, clock, fleet: Arc::default() };
    let routes = Router::new()
        .route("/", get(async || format!("spheron-watch {}\n\n{PATHS}", env!("CARGO_PKG_VERSION"))))
        .route("/metrics", get(serve_metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(serve_readiness))
        .route("/heartbeat/{deployment}", any(heartbeat::receive).with_state(options.heartbeat.clone()))
        .route("/keep/{token}", any(keep::Page::answer).with_state(keep))
        .route("/api/v1/{*path}", api)
        .fallback(async || (StatusCode::NOT_FOUND, format!("404: there is nothing here. There is:\n{PATHS}")))
        .method_not_allowed_fallback(async || {
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "405: only GET and HEAD.\n")
        })
        .with_state(Arc::new(shared));
    let hosts = Arc::new(hosts);
    bounded(routes, options.request_timeout)
        .layer(from_fn_with_state(hosts, guard))
        .layer(map_response(disarm))
}

/// What holds at every listener: limits.
pub(super) fn bounded(routes: Router, request_timeout: Duration) -> Router {
    routes
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, request_timeout))
}

async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    if hosts.allow(&request) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, MISDIRECTED).into_response()
    }
}

async fn disarm(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn serve_readiness(State(shared): State<Arc<Shared>>) -> Response {
    let view = shared.view();
    match health::readiness(&view, shared.clock.now()) {
        Ok(()) => "ready\n".into_response(),
        Err(late) => (StatusCode::SERVICE_UNAVAILABLE, late).into_response(),
    }
}

async fn serve_metrics(State(shared): State<Arc<Shared>>) -> Response {
    let fleet = shared.fleet_page().await;
    match shared.metrics.render(&shared.view()) {
        Ok(own) => {
            let body = Body::new(Parts([fleet, own.into()]));
            ([(header::CONTENT_TYPE, text::CONTENT_TYPE)], body).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot render the daemon's own metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, "500: the daemon's own metrics failed; see its log.\n")
                .into_response()
        }
    }
}

impl Shared {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    /// Rendered once for all that ask meanwhile, off the async threads. The lock is held by the rendering itself, so that
    /// clients who ask and hang up cannot pile up renderings.
    async fn fleet_page(&self) -> Bytes {
        let mut page = Arc::clone(&self.fleet).lock_owned().await;
        let (view, now) = (self.view(), self.clock.now());
        let (generation, minute) = (view.generation, now.secs().div_euclid(60));
        if let Some(page) =
            page.as_ref().filter(|page| page.generation == generation && page.minute == minute)
        {
            return page.text.clone();
        }
        let rendering = tokio::task::spawn_blocking(move || {
            // The old page goes first: two of them are the most memory that this daemon needs.
            *page = None;
            let text = Bytes::from(metrics::render(&view, now));
            *page = Some(FleetPage { generation, minute, text: text.clone() });
            text
        });
        match rendering.await {
            Ok(text) => text,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is shutting down and this connection with it.
                Err(_) => Bytes::new(),
            },
        }
    }
}

/// A body of two texts, sent one after the other from where they lie.
struct Parts([Bytes; 2]);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.0.iter_mut().find(|part| !part.is_empty()).map(std::mem::take);
        Poll::Ready(next.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}
