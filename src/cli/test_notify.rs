//! `test-notify`: a marked test to one receiver or all, and what each answered.
//!
//! It must never touch the outbox: a test is no alert.

use std::{path::Path, process::ExitCode, sync::Arc};

use tokio::runtime::Runtime;

use super::output;
use crate::{
    app,
    clock::Clock,
    config::{self, Env, Settings},
    drive::{Deliver, LOG},
    model::{AlertKey, Delivery, EventId, Notice, Severity, Subject, Time, Transition},
};

#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// The receiver's name; all without it
    receiver: Option<String>,
}

pub fn test(args: &TestArgs, config: Option<&Path>, env: &Env) -> ExitCode {
    let settings = match config::load(config, env) {
        Ok(settings) => settings,
        Err(errors) => return super::failed(&errors.to_string()),
    };
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failed(&format!("cannot start: {error}")),
    };
    if send(&settings, env, args.receiver.as_deref(), &runtime) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Sends and prints; `true` if every receiver took it.
pub fn send(settings: &Settings, env: &Env, only: Option<&str>, runtime: &Runtime) -> bool {
    let clock = Clock::system();
    // Some clients need the runtime when they are made.
    let _inside = runtime.enter();
    let receivers = match app::receivers(settings, env, &clock) {
        Ok(receivers) => receivers,
        Err(error) => {
            output::message(&error.to_string());
            return false;
        }
    };
    let names: Vec<String> = receivers.iter().map(|receiver| receiver.name().to_string()).collect();
    let wanted: Vec<Arc<dyn Deliver>> =
        receivers.into_iter().filter(|receiver| only.is_none_or(|only| only == &**receiver.name())).collect();
    if wanted.is_empty() {
        output::message(&format!("no receiver of that name; there are: {}", names.join(", ")));
        return false;
    }
    let mut all_took_it = true;
    let mut rows = Vec::new();
    for receiver in wanted {
        let notice = test_notice(receiver.name(), clock.now());
        let (verdict, detail) = match runtime.block_on(receiver.deliver(&notice)) {
            Delivery::Delivered { detail } => ("delivered", detail),
            Delivery::Retry { why, .. } => ("failed, would be tried again", why),
            Delivery::Rejected { why, .. } => ("refused", why),
        };
        all_took_it &= verdict == "delivered";
        rows.push([receiver.name().to_string(), verdict.to_owned(), detail]);
    }
    output::data(&output::table(["RECEIVER", "RESULT", "ANSWER"], rows));
    if names.iter().all(|name| name == LOG) {
        output::message(
            "no receiver is configured but the log; see [[receiver]] in the example configuration",
        );
    }
    all_took_it
}

fn test_notice(receiver: &Arc<str>, now: Time) -> Notice {
    let key = AlertKey { rule: "test".into(), subject: Subject::Account };
    Notice {
        bars: Vec::new(),
        together: Default::default(),
        grant: None,
        link: None,
        id: EventId::derive(&key, now, Transition::Test, 0),
        key,
        kind: "test".into(),
        transition: Transition::Test,
        severity: Severity::Info,
        title: "test of spheron-watch".into(),
        reason: "Somebody ran `spheron-watch test-notify`. Nothing is wrong.".into(),
        advice: "Nothing to do: alerts will reach you here.".into(),
        details: vec![("receiver".into(), receiver.to_string())],
        since: now,
        at: now,
        receivers: vec![receiver.clone()],
    }
}
