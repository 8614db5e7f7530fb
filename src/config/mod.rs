//! Text → `Settings`: TOML and `SPHERON_WATCH_…` overrides, checked as a whole, every error at once with its place.
//!
//! It must never read any file but the one configuration, nor print or keep a line of it; what a `*_file` key names is for
//! others to read.

mod activity;
mod env;
mod error;
mod node;
mod notify;
mod outward;
mod policy;
mod reader;
mod refused;
mod rules;
mod sections;
mod settings;
mod webhook;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use self::{
    error::Origin,
    node::{Table, table_from_toml},
    reader::{Reader, Sink},
};

pub use env::{Env, OTHER_VARIABLES};
pub use error::{ConfigError, ConfigErrors};
pub use settings::{
    Account, Activity, ActivityKind, Chat, Collect, FeedPlan, HostPort, Receiver, ReceiverKind, Serve,
    Settings, Smtp, SmtpTls, Store, WebhookFormat,
};

/// Far more than anybody writes by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file given, else the first of [`candidates`] that is there, else nothing: then defaults and overrides hold.
pub fn load(path: Option<&Path>, env: &Env) -> Result<Settings, ConfigErrors> {
    let candidates = path.map_or_else(|| candidates(env), |path| vec![path.to_owned()]);
    for candidate in candidates {
        match read_file(&candidate) {
            Ok(text) => {
                let settings = parse(&candidate, &text, env)?;
                return Ok(Settings { source: Some(candidate), ..settings });
            }
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ConfigErrors::of_file(&candidate, format!("cannot be read: {error}"))),
        }
    }
    parse(Path::new("no file"), "", env)
}

/// Where a configuration is looked for, in this order, when none is named.
pub fn candidates(env: &Env) -> Vec<PathBuf> {
    let user = env.xdg("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("spheron-watch/config.toml"));
    std::iter::once(env.system_config.clone()).chain(user).collect()
}

/// The whole of [`load`] without a file; `file` is only named in errors.
pub fn parse(file: &Path, text: &str, env: &Env) -> Result<Settings, ConfigErrors> {
    parse_recording(file, text, env).0
}

/// Also tells which keys exist (asked for) and which the text has: the annotated example must show every one.
#[doc(hidden)]
pub fn parse_recording(
    file: &Path,
    text: &str,
    env: &Env,
) -> (Result<Settings, ConfigErrors>, BTreeSet<String>, BTreeSet<String>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sink = Sink::new(file.to_owned(), text.to_owned());
    let settings = match read_text(text, &mut sink) {
        Some(root) => read_tree(root, env, &mut sink),
        None => None,
    };
    let (asked, found) = (std::mem::take(&mut sink.asked), std::mem::take(&mut sink.found));
    let result = match (sink.into_errors(), settings) {
        (None, Some(settings)) => Ok(settings),
        (Some(errors), _) => Err(errors),
        (None, None) => Err(ConfigErrors::of_file(file, "could not be understood")),
    };
    (result, asked, found)
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > FILE_BYTES_MAX) {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|e| {
        io::Error::other(format!("it is not UTF-8 at byte {}", e.utf8_error().valid_up_to() + 1))
    })
}

/// `None` where the text is no TOML: guessing at what it means would make one error many. A duplicate key is no such guess.
fn read_text(text: &str, sink: &mut Sink) -> Option<Table> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let origin = Origin::Text(span.start);
        if error.message() == "duplicate key" {
            let key = text.get(span).unwrap_or_default().trim_matches(['"', '\'']);
            sink.push(&origin, key, "stands here for the second time; keep one");
        } else {
            readable = false;
            // The library's `Display` would print the line; its message names what it expected only.
            sink.push(&origin, "", format!("is not valid TOML: {}", error.message().replace('\n', ", ")));
        }
    }
    readable.then(|| table_from_toml(table.into_inner(), None))
}

fn read_tree(mut root: Table, env: &Env, sink: &mut Sink) -> Option<Settings> {
    let strangers = env::override_with(env, &mut root, sink);
    let mut r = Reader::new(sink, String::new(), Origin::Text(0), root);
    let account = r.section("account", sections::account);
    let collect = r.section("collect", sections::collect);
    let store = r.section("store", |r| sections::store(r, env));
    let serve = r.section("serve", |r| sections::serve(r, env));
    let (receivers, known) = notify::receivers(&mut r);
    let smtp = r.table("smtp", sections::smtp).flatten();
    let notify = r.section("notify", |r| notify::notify(r, &known));
    let defaults = r.section("alerts", rules::defaults).unwrap_or(true);
    // A broken [notify] is an error already; the rules are still looked at.
    let notify = notify.unwrap_or_else(|| reader::of_nothing(|r| notify::notify(r, &known)));
    let offers = !collect.as_ref().is_some_and(|c| c.as_ref().is_ok_and(|c| c.offers.is_none()));
    let rules = rules::rules(&mut r, defaults, &rules::Ground { notify: &notify, known: &known, offers });
    let activity = activity::activity(&mut r);
    let ground = policy::Ground { notify: &notify, known: &known, activity: !activity.is_empty() };
    let policies = policy::policies(&mut r, &ground);
    let safety = r.section("safety", policy::safety).unwrap_or_default();
    r.finish();
    env::refuse_strangers(&strangers, sink);
    Some(Settings {
        source: None,
        account: account?,
        collect: collect?.ok()?,
        store: store?,
        serve: serve?,
        smtp,
        receivers,
        rules,
        activity,
        policies,
        safety,
        grouping: notify.grouping,
        alertmanagers: notify.outward.alertmanagers,
        heartbeat_url_file: notify.outward.heartbeat_url_file,
    })
}

#[cfg(test)]
mod tests;
