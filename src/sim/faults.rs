//! What can go wrong with an answer, and when.
//!
//! It must never touch the account: what happens there stays true, only what is said about it suffers.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    answer::{Answer, Conduct, HTML, PAGE, refusal},
    json,
    routes::Endpoint,
};
use crate::model::{Status, Time};

/// Where a fault picks one record or team, it is the one with this number in the answer, counted from 0 and round again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 429; with or without `X-RateLimit-Reset`.
    TooMany {
        body: LimitBody,
        reset_header: bool,
    },
    /// 500 with the envelope.
    ServerError,
    /// 200, and the web app's page.
    Html,
    /// 200, and nothing.
    EmptyBody,
    /// The body ends amid a record, as its length says.
    Truncated,
    EmptyList,
    /// The price or balance of one record.
    BadMoney {
        nth: usize,
        how: BadMoney,
    },
    MissingTeam {
        nth: usize,
    },
    MissingRecord {
        nth: usize,
    },
    DuplicateRecord {
        nth: usize,
    },
    /// An undocumented page limit.
    HiddenLimit(usize),
    /// 403 on what is asked of the team with this number in the account.
    Forbidden {
        team: usize,
    },
    Redirect(String),
    WrongContentType,
    /// So many spaces before the end.
    Oversized(usize),
    Delay(Duration),
    Drip {
        bytes: usize,
        every: Duration,
    },
    Hang,
    /// The connection closes before the head; the call has had no effect.
    Reset,
    /// The call has its effect, then the connection closes (FAULTS 18).
    LostAnswer,
    /// The connection closes amid the body.
    Cut,
    /// The `Date` header is off by so many seconds.
    SkewedDate(i64),
    /// One field of one record says something else.
    Says {
        nth: usize,
        field: &'static str,
        value: Value,
    },
    /// One field of one record is missing.
    Lacks {
        nth: usize,
        field: &'static str,
    },
    /// 404, of what is there.
    NotFound,
    /// A DELETE is refused with so many minutes of the minimum runtime, whatever can-terminate says (FAULTS 17).
    TooEarly(u64),
    /// A DELETE is refused because it has ended, which it has not.
    SaysEnded,
    /// A DELETE is accepted, and nothing happens (FAULTS 19).
    Ignored,
    /// A DELETE is accepted, and takes so long.
    Slow(Duration),
    /// The call has its effect, and is answered with 500.
    ErrorAfter,
    /// The call has its effect, and no answer comes.
    HangAfter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitBody {
    /// `{error: "… Try again in 15 minutes", code}`.
    A,
    /// `{error, message, retryAfter}`.
    B,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadMoney {
    Missing,
    Null,
    Text,
    Negative,
    /// `1e400`.
    Huge,
}

/// A fault from one time until another, on one endpoint or on all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub from: Time,
    pub until: Time,
    pub on: Option<Endpoint>,
    pub what: Fault,
}

/// All windows; they may overlap. Of several that replace an answer, the first does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// By their beginning.
    pub(super) windows: Vec<Window>,
    next: usize,
    open: Vec<usize>,
}

impl FaultPlan {
    pub fn add(&mut self, window: Window) {
        self.windows.push(window);
        self.windows.sort_by_key(|w| w.from);
        self.next = 0;
        self.open.clear();
    }

    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// When the last one ends.
    pub fn end(&self) -> Option<Time> {
        self.windows.iter().map(|w| w.until).max()
    }

    pub(super) fn active(&mut self, now: Time, endpoint: Endpoint) -> Vec<Fault> {
        while self.windows.get(self.next).is_some_and(|w| w.from <= now) {
            self.open.push(self.next);
            self.next += 1;
        }
        let windows = &self.windows;
        self.open.retain(|i| windows.get(*i).is_some_and(|w| now < w.until));
        let open = self.open.iter().filter_map(|i| windows.get(*i));
        open.filter(|w| w.on.is_none_or(|on| on == endpoint)).map(|w| w.what.clone()).collect()
    }
}

impl Fault {
    /// The answer that comes in place of the account's, which hears nothing of the call.
    pub(super) fn instead(&self, asked_team: Option<usize>, until_reset: Duration) -> Option<Answer> {
        let mut answer = match self {
            Self::TooMany { body, .. } => too_many(*body, until_reset),
            Self::ServerError => refusal(500, "Internal server error", "INTERNAL_ERROR"),
            Self::Html => Answer::new(200, HTML, PAGE.as_bytes().to_vec()),
            Self::EmptyBody => Answer::json(200, String::new()),
            Self::Forbidden { team } if asked_team == Some(*team) => {
                refusal(403, "Insufficient permissions to access this resource", "FORBIDDEN")
            }
            Self::Redirect(to) => {
                let mut answer = Answer::new(302, HTML, Vec::new());
                answer.headers.push(("location", to.clone()));
                answer
            }
            Self::Hang | Self::Reset => Answer::json(200, String::new()),
            Self::NotFound => refusal(404, "Deployment not found", "NOT_FOUND"),
            Self::TooEarly(minutes) => Answer::json(400, json::too_early(*minutes, 20)),
            Self::SaysEnded => Answer::json(400, json::cannot_terminate(&Status::Terminated)),
            Self::Ignored => Answer::json(200, json::destruction_begun("unknown", Time::EPOCH)),
            Self::Truncated
            | Self::EmptyList
            | Self::BadMoney { .. }
            | Self::MissingTeam { .. }
            | Self::MissingRecord { .. }
            | Self::DuplicateRecord { .. }
            | Self::HiddenLimit(_)
            | Self::Forbidden { .. }
            | Self::WrongContentType
            | Self::Oversized(_)
            | Self::Delay(_)
            | Self::Drip { .. }
            | Self::LostAnswer
            | Self::Cut
            | Self::SkewedDate(_)
            | Self::Says { .. }
            | Self::Lacks { .. }
            | Self::Slow(_)
            | Self::ErrorAfter
            | Self::HangAfter => return None,
        };
        answer.honest = false;
        Some(answer)
    }

    /// What it does to an answer on its way out.
    pub(super) fn mar(&self, answer: &mut Answer) {
        let before = (answer.conduct.clone(), answer.body.len());
        match self {
            Self::Truncated => answer.body.truncate(answer.body.len() / 2),
            Self::WrongContentType => answer.set_content_type("text/plain"),
            Self::Oversized(bytes) => {
                let end = answer.body.pop();
                answer.body.extend(b" ".repeat(*bytes));
                answer.body.extend(end);
            }
            Self::Delay(length) => answer.conduct = Conduct::Delay(*length),
            Self::Drip { bytes, every } => answer.conduct = Conduct::Drip { bytes: *bytes, every: *every },
            Self::Hang | Self::HangAfter => answer.conduct = Conduct::Hang,
            Self::ErrorAfter => *answer = refusal(500, "Internal server error", "INTERNAL_ERROR"),
            Self::Reset | Self::LostAnswer => answer.conduct = Conduct::Reset,
            Self::Cut => answer.conduct = Conduct::Cut,
            Self::EmptyList => answer.edit(Some, |list| list.clear()),
            Self::MissingRecord { nth } => answer.edit(Some, |list| {
                list.remove(nth % list.len());
            }),
            Self::DuplicateRecord { nth } => answer.edit(Some, |list| {
                let twin = list.get(nth % list.len()).cloned();
                list.extend(twin);
            }),
            Self::HiddenLimit(limit) => answer.edit(Some, |list| list.truncate(*limit)),
            Self::MissingTeam { nth } => answer.edit(teams_only, |list| {
                list.remove(nth % list.len());
            }),
            Self::BadMoney { nth, how } => answer.edit(Some, |list| {
                let nth = nth % list.len();
                if let Some(record) = list.get_mut(nth) {
                    spoil(record, *how);
                }
            }),
            Self::Says { nth, field, value } => answer.edit(Some, |list| {
                if let Some(record) = field_of(list, *nth, field) {
                    record.insert((*field).to_owned(), value.clone());
                }
            }),
            Self::Lacks { nth, field } => answer.edit(Some, |list| {
                if let Some(record) = field_of(list, *nth, field) {
                    record.remove(*field);
                }
            }),
            Self::TooMany { .. }
            | Self::ServerError
            | Self::Html
            | Self::EmptyBody
            | Self::Forbidden { .. }
            | Self::Redirect(_)
            | Self::SkewedDate(_)
            | Self::NotFound
            | Self::TooEarly(_)
            | Self::SaysEnded
            | Self::Ignored
            | Self::Slow(_) => return,
        }
        let replaced = matches!(self, Self::WrongContentType | Self::ErrorAfter);
        if replaced || before != (answer.conduct.clone(), answer.body.len()) {
            answer.honest = false;
        }
    }

    pub(super) fn skew_secs(&self) -> Option<i64> {
        if let Self::SkewedDate(secs) = self { Some(*secs) } else { None }
    }

    /// How long an end takes.
    pub(super) fn slow(&self) -> Option<Duration> {
        if let Self::Slow(length) = self { Some(*length) } else { None }
    }

    pub(super) fn hides_reset(&self) -> bool {
        matches!(self, Self::TooMany { reset_header: false, .. })
    }
}

/// Both documented bodies of a 429.
pub(super) fn too_many(body: LimitBody, until_reset: Duration) -> Answer {
    let seconds = until_reset.as_secs().max(1);
    match body {
        LimitBody::A => {
            let message = format!("Rate limit exceeded. Try again in {} minutes", seconds.div_ceil(60));
            refusal(429, &message, "RATE_LIMIT_EXCEEDED")
        }
        LimitBody::B => {
            let body = serde_json::json!({
                "error": "Too many requests",
                "message": "Too many requests from this IP, please try again later.",
                "retryAfter": seconds,
            });
            Answer::json(429, body.to_string())
        }
    }
}

const HUGE_MARK: &str = "\"huge-money\"";

impl Answer {
    fn set_content_type(&mut self, to: &str) {
        for (name, value) in &mut self.headers {
            if *name == "content-type" {
                to.clone_into(value);
            }
        }
    }

    /// Changes the records of a 200: the root array, the array in an object, or the one object. An empty list stays as it is.
    fn edit(&mut self, wanted: fn(Value) -> Option<Value>, change: impl FnOnce(&mut Vec<Value>)) {
        if self.status != 200 {
            return;
        }
        let Some(mut body) = serde_json::from_slice(&self.body).ok().and_then(wanted) else { return };
        let key = ["teams", "volumes", "data"].into_iter().find(|key| body.get(key).is_some());
        let list = match key {
            Some(key) => body.get_mut(key),
            None => Some(&mut body),
        };
        match list {
            Some(Value::Array(records)) if !records.is_empty() => {
                change(records);
                if records.is_empty()
                    && let Some(counts) = body.as_object_mut()
                {
                    for count in ["total", "totalPages"] {
                        counts.entry(count).and_modify(|n| *n = 0.into());
                    }
                }
            }
            Some(Value::Object(_)) => {
                let mut one = vec![body];
                change(&mut one);
                // A detail without its record is no answer of this API.
                let Some(first) = one.into_iter().next() else { return };
                body = first;
            }
            _ => return,
        }
        self.body = body.to_string().replace(HUGE_MARK, "1e400").into_bytes();
        self.honest = false;
    }
}

fn teams_only(body: Value) -> Option<Value> {
    body.get("teams").is_some().then_some(body)
}

/// The record with this number, counted from 0 and round again, if it has such a field.
fn field_of<'a>(list: &'a mut [Value], nth: usize, field: &str) -> Option<&'a mut Map<String, Value>> {
    let nth = nth % list.len().max(1);
    list.get_mut(nth).and_then(Value::as_object_mut).filter(|record| record.contains_key(field))
}

fn spoil(record: &mut Value, how: BadMoney) {
    let offered = record.get("offers").is_some();
    let fields = if offered { record.pointer_mut("/offers/0") } else { Some(record) };
    let Some(fields) = fields.and_then(Value::as_object_mut) else { return };
    for key in ["balance", "hourlyRate", "price"] {
        if fields.contains_key(key) {
            let value = match how {
                BadMoney::Missing => {
                    fields.remove(key);
                    continue;
                }
                BadMoney::Null => Value::Null,
                BadMoney::Text => "12.50".into(),
                BadMoney::Negative => (-12.5).into(),
                BadMoney::Huge => HUGE_MARK.trim_matches('"').into(),
            };
            fields.insert(key.to_owned(), value);
        }
    }
}
