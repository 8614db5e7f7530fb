//! `/keep/{token}`: what would be ended, when, why and what is lost, and one button that keeps it.
//!
//! It must never change anything on a GET (scanners of mail follow links), shorten a keep, or keep for longer than `keep_max`.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{Environment, UndefinedBehavior, context, value::Serde};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::timeout};

use super::Keeper;
use crate::{
    clock::Clock,
    model::{Action, Grant, Keep, StageName, Target, Time, Tracked, View, humanize},
    serve::{
        api::{self, COMMITTED_WITHIN},
        text::visible,
    },
};

const BODY_BYTES_MAX: usize = 256;
const NAME_CHARS_MAX: usize = 120;
const STYLE: &str = include_str!("../templates/keep.css");
const TEMPLATE: &str = include_str!("../templates/keep.html");
const FUEL: u64 = 20_000;
/// Who keeps it, as far as anybody knows.
const BY: &str = "the link in the notice";
const HOUR: Duration = Duration::from_secs(3_600);

/// All that the page needs.
pub struct Page {
    keeper: Option<Keeper>,
    views: watch::Receiver<Arc<View>>,
    clock: Clock,
    templates: Environment<'static>,
    policy: HeaderValue,
}

/// One page, filled in; every text may be hostile.
#[derive(Debug, Default, Serialize)]
struct Sheet {
    #[serde(skip)]
    status: StatusCode,
    title: String,
    text: String,
    facts: Vec<(&'static str, String)>,
    choices: Vec<Choice>,
}

#[derive(Debug, Serialize)]
struct Choice {
    secs: u64,
    label: String,
}

impl Sheet {
    fn new(status: StatusCode, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { status, title: title.into(), text: text.into(), ..Self::default() }
    }
}

/// What the link is about, while it can still be kept.
struct Open<'a> {
    action: &'a Action,
    tracked: &'a Tracked,
}

impl Page {
    pub fn new(keeper: Option<Keeper>, views: watch::Receiver<Arc<View>>, clock: Clock) -> Self {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_fuel(Some(FUEL));
        if let Err(error) = templates.add_template("keep.html", TEMPLATE) {
            tracing::error!(%error, "the template of the keep page cannot be parsed; please report this");
        }
        let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        );
        let strict = HeaderValue::from_static("default-src 'none'");
        Self { keeper, views, clock, templates, policy: HeaderValue::from_str(&policy).unwrap_or(strict) }
    }

    pub async fn answer(
        State(page): State<Arc<Self>>,
        method: Method,
        Path(token): Path<String>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let sheet = match method {
            Method::GET | Method::HEAD => page.show(&token),
            Method::POST => page.act(&token, &headers, &body).await,
            _ => Err(Sheet::new(StatusCode::METHOD_NOT_ALLOWED, "Not so", "There is only GET and POST.")),
        };
        page.render(&sheet.unwrap_or_else(|sheet| sheet))
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    fn granted(&self, token: &str) -> Result<(&Keeper, Grant), Sheet> {
        let Some(keeper) = &self.keeper else {
            return Err(Sheet::new(
                StatusCode::NOT_FOUND,
                "No links here",
                "This server gives out no links to keep something.",
            ));
        };
        let forged = || {
            Sheet::new(
                StatusCode::FORBIDDEN,
                "Not a link of ours",
                "It is not whole, or was not made here. Copy the whole link from the notice, or use `spheron-watch keep`.",
            )
        };
        Ok((keeper, keeper.links.key.read(token).ok_or_else(forged)?))
    }

    fn show(&self, token: &str) -> Result<Sheet, Sheet> {
        let (_, grant) = self.granted(token)?;
        let (view, now) = (self.view(), self.clock.now());
        // To look at what is kept is no error.
        let open = standing(&view, &grant, now, StatusCode::OK)?;
        Ok(offer(&view, &open, now))
    }

    async fn act(&self, token: &str, headers: &HeaderMap, body: &Bytes) -> Result<Sheet, Sheet> {
        if !is_from_here(headers) {
            return Err(Sheet::new(
                StatusCode::FORBIDDEN,
                "Not from here",
                "Another site sent this form. Open the link in the notice, and use its button.",
            ));
        }
        let (keeper, grant) = self.granted(token)?;
        let (view, now) = (self.view(), self.clock.now());
        standing(&view, &grant, now, StatusCode::CONFLICT)?;
        let length = chosen(headers, body, view.policies.safety.keep_max)?;
        let until = now.plus(length);
        let refused = |error: crate::model::WishError| {
            Sheet::new(StatusCode::BAD_REQUEST, "Not kept", error.to_string())
        };
        let keep = Keep::new(grant.target.clone(), Some(until), BY, "", now).map_err(refused)?;
        let failed = |text: &str| Sheet::new(StatusCode::SERVICE_UNAVAILABLE, "Not kept yet", text);
        match timeout(COMMITTED_WITHIN, keeper.orders.keep(keep)).await {
            Ok(Some(true)) => {}
            Ok(Some(false)) => {
                return Err(failed("There are too many keeps. Use `spheron-watch keep end` for some."));
            }
            Ok(None) => return Err(failed("The daemon is stopping. Try again in a minute.")),
            Err(_) => {
                return Err(failed(
                    "The database has not taken it yet. Look again in a minute, then repeat it.",
                ));
            }
        }
        // The commit shows in this view: whether it came in time is known.
        let view = self.view();
        let action = view.actions.iter().find(|action| action.id == grant.action);
        if let Some(why) = action.and_then(late) {
            return Err(Sheet::new(
                StatusCode::CONFLICT,
                "Too late for this time",
                format!("It is kept until {until} from now on, but {why}."),
            ));
        }
        let name = action.map_or_else(|| grant.target.id.to_string(), |action| action.name.to_string());
        let text =
            format!("Nothing ends it before {until}, in {}. You can close this page.", humanize(length));
        Ok(Sheet::new(StatusCode::OK, format!("Kept: {}", visible(&name, NAME_CHARS_MAX)), text))
    }

    fn render(&self, sheet: &Sheet) -> Response {
        let context = context! { sheet => Serde(sheet), style => STYLE };
        let html = self.templates.get_template("keep.html").and_then(|template| template.render(context));
        let body = html.unwrap_or_else(|error| {
            tracing::error!(%error, "the keep page cannot be rendered; please report this");
            format!("{}\n", sheet.status)
        });
        let mut response = (sheet.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if sheet.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        response
    }
}

/// Why it comes too late, once the DELETE may have been sent.
fn late(action: &Action) -> Option<&'static str> {
    let stage = action.stage.name();
    let sent =
        matches!(stage, StageName::Requested | StageName::Verifying | StageName::InDoubt | StageName::Gone);
    stage.too_late().filter(|_| sent)
}

/// What can still be kept, or the page that says why not. `kept`: the status where it is kept already.
fn standing<'a>(view: &'a View, grant: &Grant, now: Time, kept: StatusCode) -> Result<Open<'a>, Sheet> {
    let gone = |title: &str, text: &str| Err(Sheet::new(StatusCode::GONE, title, text));
    if now >= grant.expires {
        return gone("This link has expired", "It was for one announcement. A new one brings a new link.");
    }
    let action =
        view.actions.iter().find(|action| action.id == grant.action && action.target == grant.target);
    if let Some((why, stage)) = action.and_then(|action| Some((late(action)?, action.stage.name()))) {
        let status = if stage == StageName::Gone { StatusCode::GONE } else { StatusCode::CONFLICT };
        return Err(Sheet::new(status, "Too late", capital(why)));
    }
    let keeps = view.snapshot.keeps.values();
    let holding = keeps.filter(|keep| keep.target == grant.target && keep.holds(now));
    if let Some(keep) = holding.max_by_key(|keep| (keep.until.is_none(), keep.until)) {
        let until = keep.until.map_or_else(|| "for good".to_owned(), |until| format!("until {until}"));
        let text =
            format!("{} keeps it {until}. Nothing more to do here.", visible(&keep.by, NAME_CHARS_MAX));
        return Err(Sheet::new(kept, "It is kept already", text));
    }
    let tracked = view.snapshot.deployments.get(&grant.target.id);
    let tracked = tracked.filter(|tracked| Target::of(&tracked.deployment) == grant.target);
    match (action, tracked) {
        (Some(action), Some(tracked)) if action.stage.name().cancellable().is_ok() && tracked.is_live() => {
            Ok(Open { action, tracked })
        }
        (_, Some(tracked)) if tracked.is_live() => gone(
            "Nothing to keep now",
            "What was announced is called off, or over. If it is to be ended again, a new notice brings a new link.",
        ),
        (_, _) => gone("It has ended", "The instance does not run any more, so there is nothing to keep."),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).chain(['.']).collect()).unwrap_or_default()
}

fn offer(view: &View, open: &Open<'_>, now: Time) -> Sheet {
    let Open { action, tracked } = open;
    let deployment = &tracked.deployment;
    let policies = &view.policies;
    let policy = policies.policies.iter().find(|policy| policy.name == action.policy);
    let name = if action.name.is_empty() { action.target.id.as_str() } else { &action.name };
    let name = visible(name, NAME_CHARS_MAX);
    let when = match action.stage.slot() {
        Some(slot) if slot.at > now => format!("in {}, not before {}", humanize(slot.at.since(now)), slot.at),
        Some(slot) => format!("any moment now: it was announced for {}", slot.at),
        None => "once the announcement has arrived and its grace is over".to_owned(),
    };
    let because = policy.map(|policy| policy.when.iter().map(ToString::to_string).collect::<Vec<_>>());
    let why = format!("policy {}: {}", action.policy, because.unwrap_or_default().join(", and "));
    let team = view.snapshot.teams.get(&action.team).map_or("", |team| &*team.name);
    let shown = |text: &str| visible(text, NAME_CHARS_MAX).into_owned();
    let look = api::Look { view, held: &[], policies: None, records: None, now, source: api::Source::Daemon };
    Sheet {
        facts: vec![
            ("When", when),
            ("Why", shown(&why)),
            ("What is lost", api::lost(look, &action.target)),
            (
                "Instance",
                shown(&format!(
                    "{} × {}, {}",
                    deployment.gpu_count, deployment.gpu_type, deployment.instance_type
                )),
            ),
            ("Costs", format!("{}/h, {} so far", deployment.hourly_rate, deployment.total_cost)),
            ("Team", shown(team)),
            ("Id", shown(action.target.id.as_str())),
        ],
        choices: choices(policies.safety.keep_max),
        ..Sheet::new(
            StatusCode::OK,
            format!("Keep {name}?"),
            format!("{name} will be ended unless somebody keeps it."),
        )
    }
}

/// Up to `keep_max`, which is always one of them.
fn choices(keep_max: Duration) -> Vec<Choice> {
    let usual = [HOUR * 4, HOUR * 24, HOUR * 72];
    let lengths = usual.into_iter().filter(|length| *length < keep_max).chain([keep_max]);
    lengths.map(|length| Choice { secs: length.as_secs(), label: humanize(length) }).collect()
}

/// `for`, as the form sends it: one of the lengths that are offered now.
fn chosen(headers: &HeaderMap, body: &Bytes, keep_max: Duration) -> Result<Duration, Sheet> {
    let bad = || {
        let text = "Choose one of the lengths that the page offers: open the link again.";
        Sheet::new(StatusCode::BAD_REQUEST, "For how long?", text)
    };
    let form = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded")
    });
    if !form || body.len() > BODY_BYTES_MAX {
        return Err(bad());
    }
    let secs = std::str::from_utf8(body).ok().and_then(|body| body.strip_prefix("for="));
    let secs: u64 = secs.and_then(|secs| secs.parse().ok()).ok_or_else(bad)?;
    let offered = choices(keep_max).iter().any(|choice| choice.secs == secs);
    if offered { Ok(Duration::from_secs(secs)) } else { Err(bad()) }
}

/// As far as the browser says. With our `no-referrer` it says `Origin: null` of our own form too.
fn is_from_here(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return false;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    if origin == "null" {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.zip(host).is_some_and(|((_, origin), host)| origin.eq_ignore_ascii_case(host))
}
