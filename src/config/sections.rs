//! `[account]`, `[collect]`, `[store]`, `[serve]` and `[smtp]`: what each key may be, and its default.
//!
//! It must never fill in for a value that is there and wrong: that is an error, and the default only keeps the reading going.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use jiff::tz::TimeZone;

use super::{
    env::Env,
    node::{Node, Read},
    reader::{Located, Reader},
    settings::{Account, Collect, HostPort, Serve, Smtp, SmtpTls, Store, is_loopback},
};
use crate::{
    model::Glob,
    schedule::{Schedule, ScheduleError},
};

pub(super) const BASE_URL: &str = "https://app.spheron.ai";
const TIMEOUT: Duration = Duration::from_secs(20);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Fewer would not even show a balance every few minutes.
const CALLS_MIN: i64 = 10;
const CALLS_MAX: i64 = 100_000;
const KEEP_RAW: Duration = Duration::from_secs(400 * 86_400);
/// The engine goes on from what the last days held.
const KEEP_RAW_MIN: Duration = Duration::from_secs(7 * 86_400);
const KEEP_RAW_MAX: Duration = Duration::from_secs(36_500 * 86_400);
const DATABASE: &str = "spheron-watch.db";
const SOCKET: &str = "control.sock";
/// The kernel's limit is 108 with a NUL, and the socket is made under a name that is 4 longer.
const SOCKET_BYTES_MAX: usize = 103;

pub(super) fn account(r: &mut Reader<'_>) -> Account {
    Account {
        base_url: r.read("base_url", base_url).unwrap_or_else(|| BASE_URL.to_owned()),
        api_key_file: r.read("api_key_file", Node::path),
        ca_file: r.read("ca_file", Node::path),
        teams: r.full_list("teams", glob).map_or_else(|| vec![Glob::new("*")], values),
    }
}

pub(super) fn collect(r: &mut Reader<'_>) -> Result<Collect, ScheduleError> {
    Ok(Collect {
        timezone: r.read("timezone", timezone).unwrap_or(TimeZone::UTC),
        deployments: schedule_or(r, "deployments", "every 60s")?,
        balance: schedule_or(r, "balance", "every 60s")?,
        volumes: schedule_or(r, "volumes", "every 5m")?,
        inventory: schedule_or(r, "inventory", "every 1h")?,
        offers: match r.read("offers", schedule_or_off) {
            Some(given) => given,
            None => Some(Schedule::parse("every 30m")?),
        },
        calls_per_15m: r.read("calls_per_15m", calls).flatten(),
        timeout: r.read("timeout", |n| n.length(TIMEOUT_MIN..=TIMEOUT_MAX)).unwrap_or(TIMEOUT),
    })
}

pub(super) fn store(r: &mut Reader<'_>, env: &Env) -> Store {
    let given = r.has("path");
    let path = r.read("path", Node::path);
    let path = path.or_else(|| default_database(env)).unwrap_or_else(|| {
        if !given {
            r.complain("path", "has no default without HOME, XDG_STATE_HOME or STATE_DIRECTORY; give one");
        }
        PathBuf::new()
    });
    let keep_raw =
        r.read("keep_raw", |n| n.length_or_forever(KEEP_RAW_MIN..=KEEP_RAW_MAX)).unwrap_or(Some(KEEP_RAW));
    Store { path, keep_raw }
}

/// Where the state lies unless told otherwise: the service's directory, root's, or the user's.
fn default_database(env: &Env) -> Option<PathBuf> {
    let service = env.var("STATE_DIRECTORY").and_then(|dirs| dirs.split(':').next()).map(PathBuf::from);
    let service = service.filter(|dir| dir.is_absolute());
    if let Some(dir) = service {
        return Some(dir.join(DATABASE));
    }
    if env.root {
        return Some(PathBuf::from("/var/lib/spheron-watch").join(DATABASE));
    }
    env.xdg("XDG_STATE_HOME", ".local/state").map(|dir| dir.join("spheron-watch").join(DATABASE))
}

pub(super) fn serve(r: &mut Reader<'_>, env: &Env) -> Serve {
    let default = Some(SocketAddr::from(([127, 0, 0, 1], 10_977)));
    let listen = r.read("listen", listen).unwrap_or(default);
    let hosts = r.list("hosts", host).map_or_else(Vec::new, values);
    let public = r.read("public", Node::flag).unwrap_or(false);
    if !public && listen.is_some_and(|at| !at.ip().is_loopback()) {
        r.complain(
            "listen",
            "is not a loopback address; anybody there could read it: set public = true if so meant",
        );
    }
    let external_url = r.read("external_url", external_url);
    let socket = r.read("socket", socket).unwrap_or_else(|| default_socket(env));
    Serve { listen, hosts, public, external_url, socket }
}

/// The service's directory, root's, or the user's; `None` for a user without a session.
fn default_socket(env: &Env) -> Option<PathBuf> {
    let service = env.var("RUNTIME_DIRECTORY").and_then(|dirs| dirs.split(':').next()).map(PathBuf::from);
    if let Some(dir) = service.filter(|dir| dir.is_absolute()) {
        return Some(dir.join(SOCKET));
    }
    if env.root {
        return Some(PathBuf::from("/run/spheron-watch").join(SOCKET));
    }
    let session = env.var("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    session.map(|dir| dir.join("spheron-watch").join(SOCKET))
}

/// `None` where it could not be read; the errors are told.
pub(super) fn smtp(r: &mut Reader<'_>) -> Option<Smtp> {
    let smarthost = r.require("smarthost", host_port, "the mail server as \"host:port\"");
    let from = r.require("from", mailbox, "the sender as \"Name <address>\"");
    let words = [("starttls", SmtpTls::Starttls), ("implicit", SmtpTls::Implicit), ("none", SmtpTls::None)];
    let tls = r.read("tls", |n| n.word(&words)).unwrap_or(SmtpTls::Starttls);
    let username = r.read("username", |n| n.text().map(str::to_owned));
    let password_file = r.read("password_file", Node::path);
    let ca_file = r.read("ca_file", Node::path);
    if tls == SmtpTls::None && smarthost.as_ref().is_some_and(|host| !host.is_loopback()) {
        r.complain(
            "tls",
            "`none` is allowed to a loopback smarthost alone; use \"starttls\" or \"implicit\"",
        );
    }
    if password_file.is_some() && username.is_none() {
        r.complain("password_file", "needs `username` beside it");
    }
    Some(Smtp { smarthost: smarthost?, from: from?, tls, username, password_file, ca_file })
}

pub(super) fn values<T>(located: Vec<Located<T>>) -> Vec<T> {
    located.into_iter().map(|item| item.value).collect()
}

pub(super) fn glob(node: &Node) -> Read<Glob> {
    node.text().map(Glob::new)
}

/// An address as lettre will read it again.
pub(super) fn mailbox(node: &Node) -> Read<String> {
    let text = node.text()?;
    match text.parse::<lettre::message::Mailbox>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err("must be an address, as in \"ops@example.org\" or \"Ops <ops@example.org>\"".to_owned())
        }
    }
}

fn schedule(node: &Node) -> Read<Schedule> {
    let text = node.text().map_err(|message| format!("{message}, as in \"every 60s\""))?;
    if text == "off" {
        return Err("cannot be off; only `offers` can".to_owned());
    }
    Schedule::parse(text).map_err(|e| e.to_string())
}

fn schedule_or_off(node: &Node) -> Read<Option<Schedule>> {
    if node.text() == Ok("off") { Ok(None) } else { schedule(node).map(Some) }
}

fn schedule_or(r: &mut Reader<'_>, key: &'static str, default: &str) -> Result<Schedule, ScheduleError> {
    r.read(key, schedule).map_or_else(|| Schedule::parse(default), Ok)
}

fn timezone(node: &Node) -> Read<TimeZone> {
    TimeZone::get(node.text()?).map_err(|_| {
        "is no known time zone; use an IANA name such as \"UTC\" or \"Europe/Berlin\"".to_owned()
    })
}

fn calls(node: &Node) -> Read<Option<u32>> {
    if node.text() == Ok("auto") {
        return Ok(None);
    }
    node.integer()
        .filter(|calls| (CALLS_MIN..=CALLS_MAX).contains(calls))
        .and_then(|calls| u32::try_from(calls).ok())
        .map(Some)
        .ok_or_else(|| format!("must be \"auto\" or a number from {CALLS_MIN} to {CALLS_MAX}"))
}

/// Never with a user name (a secret may follow it), query or fragment: the client appends the path.
fn base_url(node: &Node) -> Read<String> {
    let text = node.text()?;
    let wrong = || "must be a URL such as \"https://app.spheron.ai\"".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err("must not hold a user name or password".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("must not have a query or fragment".to_owned());
    }
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(host.trim_matches(['[', ']'])) => {}
        Some("http") => {
            return Err("must be https; plain http is accepted for loopback addresses alone".to_owned());
        }
        Some(_) | None => return Err(wrong()),
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// As [`base_url`], but for a proxy's address, which may be plain where nobody else reaches it.
fn external_url(node: &Node) -> Read<String> {
    let text = node.text()?;
    let wrong = || "must be a URL such as \"https://watch.example.org\"".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err("must not hold a user name or password".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("must not have a query or fragment".to_owned());
    }
    match uri.scheme_str() {
        Some("https" | "http") => Ok(text.trim_end_matches('/').to_owned()),
        Some(_) | None => Err(wrong()),
    }
}

fn listen(node: &Node) -> Read<Option<SocketAddr>> {
    let text = node.text()?;
    if text == "off" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| "must be an address with a port, as in \"127.0.0.1:10977\", or \"off\"".to_owned())
}

fn socket(node: &Node) -> Read<Option<PathBuf>> {
    if node.text() == Ok("off") {
        return Ok(None);
    }
    let path = node.path().map_err(|message| format!("{message}, or \"off\""))?;
    if path.as_os_str().len() > SOCKET_BYTES_MAX {
        return Err(format!("is longer than the {SOCKET_BYTES_MAX} bytes that a socket's path may have"));
    }
    Ok(Some(path))
}

fn host(node: &Node) -> Read<String> {
    let text = node.text()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if text.chars().all(allowed) || text.parse::<std::net::IpAddr>().is_ok() {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("must be a host name without scheme and port, as in \"watch.example.org\"".to_owned())
    }
}

fn host_port(node: &Node) -> Read<HostPort> {
    let text = node.text()?;
    let found = text.rsplit_once(':').and_then(|(host, port)| {
        let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(ip) => ip.parse::<std::net::Ipv6Addr>().ok().map(|_| ip)?,
            None => host,
        };
        let named = !host.is_empty()
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (named || bare != host).then(|| HostPort { host: bare.to_owned(), port })
    });
    found.ok_or_else(|| "must be \"host:port\", as in \"mail.example.org:587\"".to_owned())
}
