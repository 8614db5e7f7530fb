//! `check-config`: every error at once, then what the configuration means: schedule, calls, receivers, rules.
//!
//! It must never change anything; `--online` only asks.

use std::{collections::BTreeMap, path::Path, process::ExitCode, sync::Arc, time::Duration};

use tokio::runtime::Runtime;

use super::output;
use crate::{
    app,
    clock::Clock,
    config::{self, ActivityKind, Env, FeedPlan, ReceiverKind, Settings},
    model::{Feed, NoMeter, Time, humanize},
    notify::Alertmanager,
    serve,
    spheron::{Client, Governor, HttpTransport, Need, Stretches},
};

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Also try the key and every Alertmanager, and send a marked test to every receiver
    #[arg(long)]
    online: bool,
}

pub fn check(args: &CheckArgs, config: Option<&Path>, env: &Env) -> ExitCode {
    let settings = match config::load(config, env) {
        Ok(settings) => settings,
        Err(errors) => return super::failed(&errors.to_string()),
    };
    let source =
        settings.source.as_ref().map_or("no file: the defaults hold".to_owned(), |p| p.display().to_string());
    output::data(&format!("configuration: {source}\ndatabase: {}", settings.store.path.display()));
    output::data(&describe(&settings, 1));
    let problems = secrets(&settings, env);
    for problem in &problems {
        output::message(problem);
    }
    if !problems.is_empty() {
        return ExitCode::FAILURE;
    }
    if !args.online {
        output::data("\nok");
        return ExitCode::SUCCESS;
    }
    online(&settings, env)
}

/// Everything that `run` would build is built, and let go of again.
fn secrets(settings: &Settings, env: &Env) -> Vec<String> {
    let api = app::find_key(settings, env).map_err(|error| error.to_string()).and_then(|key| {
        let options = app::transport_options(settings, key, Clock::system());
        HttpTransport::new(options).map(drop).map_err(|error| error.to_string())
    });
    let key = api.err();
    let receivers = app::receivers(settings, env, &Clock::system()).err().map(|error| error.to_string());
    let outward = app::outward(settings, env).err().map(|error| error.to_string());
    let activity = app::activity_sources(settings, env).err().map(|error| error.to_string());
    let hosts = serve::check_hosts(&settings.serve.hosts).err().map(|error| error.to_string());
    key.into_iter().chain(receivers).chain(outward).chain(activity).chain(hosts).collect()
}

fn describe(settings: &Settings, teams: u32) -> String {
    let plan = settings.collect.plan(teams);
    let governor = Governor::assumed(settings.collect.calls_per_15m);
    let effective = effective(&plan, &governor.stretch(&needs(&plan), Time::EPOCH));
    let schedule = output::table(
        ["FEED", "SCHEDULE", "EFFECTIVE", "CALLS PER POLL", "CALLS PER 15 MIN"],
        plan.iter().map(|feed| {
            let per_15m = format!("{:.1}", feed.calls_per_15m);
            let effective = effective.get(&feed.feed);
            let effective =
                effective.map_or("as configured".to_owned(), |every| format!("every {}", humanize(*every)));
            let calls = feed.calls_per_poll.to_string();
            [feed.feed.to_string(), feed.schedule.to_string(), effective, calls, per_15m]
        }),
    );
    let total = settings.collect.planned_calls_per_15m(teams);
    let budget = match settings.collect.calls_per_15m {
        Some(calls) => format!("{calls}, as configured"),
        None => "50 until the API has said what it grants, then half of that".to_owned(),
    };
    let fits = if effective.is_empty() {
        "it fits"
    } else {
        "it does not fit beside the reserve for what is urgent: the schedule is stretched to what is effective"
    };
    let receivers = output::table(
        ["RECEIVER", "KIND", "RESOLVED"],
        settings.receivers.iter().map(|receiver| {
            let kind = match &receiver.kind {
                ReceiverKind::Email { to } => format!("email to {}", to.join(", ")),
                ReceiverKind::Webhook { format, .. } => format!("webhook, format {}", format.as_str()),
            };
            [receiver.name.to_string(), kind, if receiver.send_resolved { "yes" } else { "no" }.to_owned()]
        }),
    );
    let rules = output::table(
        ["RULE", "KIND", "SEVERITY", "FOR", "REMINDS EVERY", "TELLS"],
        settings.rules.iter().map(|rule| {
            let tells: Vec<&str> = rule.receivers.iter().map(|route| &*route.receiver).collect();
            let repeat = rule.repeat_interval.map_or("never".to_owned(), humanize);
            [
                rule.name.to_string(),
                rule.kind.as_str().to_owned(),
                rule.severity.to_string(),
                humanize(rule.for_),
                repeat,
                tells.join(", "),
            ]
        }),
    );
    format!(
        "\n{schedule}\n{total:.1} calls per 15 min for one team; allowed: {budget}; {fits}\n\n{receivers}{}\n{outward}\n\n{rules}\n\n{activity}",
        if settings.receivers.is_empty() { "\nnone: alerts go to the log" } else { "" },
        outward = outward(settings),
        activity = activity(settings),
    )
}

fn needs(plan: &[FeedPlan<'_>]) -> Vec<Need> {
    plan.iter().map(need).collect()
}

fn need(plan: &FeedPlan<'_>) -> Need {
    Need::new(plan.feed, plan.schedule.min_interval(), plan.calls_per_15m)
}

/// The interval of each feed that is polled less often than configured.
fn effective(plan: &[FeedPlan<'_>], stretches: &Stretches) -> BTreeMap<Feed, Duration> {
    let stretched = |plan: &FeedPlan<'_>| {
        let configured = plan.schedule.min_interval();
        let every = configured.mul_f64(stretches.of(&need(plan)));
        (every >= configured + Duration::from_secs(1)).then_some((plan.feed, every))
    };
    plan.iter().filter_map(stretched).collect()
}

/// Nothing secret: members' addresses hold none, and of the switch's only the file is named.
fn outward(settings: &Settings) -> String {
    let alertmanagers = match settings.alertmanagers.as_slice() {
        [] => "none".to_owned(),
        members => format!("every alert to each of {}", members.join(", ")),
    };
    let dead_man = settings.heartbeat_url_file.as_ref().map_or("none".to_owned(), |path| {
        format!("a ping each minute, while all works, to what {} holds", path.display())
    });
    format!("Alertmanager: {alertmanagers}\ndead-man switch: {dead_man}")
}

fn activity(settings: &Settings) -> String {
    if settings.activity.is_empty() {
        return "activity: no source; whether a GPU works is unknown, never idle".to_owned();
    }
    output::table(
        ["ACTIVITY", "KIND", "EVERY", "BUSY ABOVE", "PRIVATE ADDRESSES"],
        settings.activity.iter().map(|source| {
            let (kind, busy_above, asks) = match &source.kind {
                ActivityKind::Prometheus { metric, busy_above, .. } => {
                    (format!("prometheus, {metric}"), Some(*busy_above), true)
                }
                ActivityKind::Ssh { busy_above, .. } => ("ssh".to_owned(), Some(*busy_above), true),
                ActivityKind::Promql { busy_above, .. } => ("promql".to_owned(), Some(*busy_above), true),
                ActivityKind::Heartbeat { busy_above, .. } => {
                    ("heartbeat".to_owned(), Some(*busy_above), false)
                }
                ActivityKind::VolumeGrowth => ("volume_growth".to_owned(), None, false),
            };
            let private = match (asks, source.allow_private) {
                (false, _) => "-",
                (true, true) => "allowed",
                (true, false) => "refused",
            };
            let busy_above = busy_above.map_or("any growth".to_owned(), |limit| limit.to_string());
            [source.name.to_string(), kind, humanize(source.every), busy_above, private.to_owned()]
        }),
    )
}

fn online(settings: &Settings, env: &Env) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failed(&format!("cannot start: {error}")),
    };
    let key_works = runtime.block_on(async {
        let clock = Clock::system();
        let api_key = app::find_key(settings, env).map_err(|error| error.to_string())?;
        let options = app::transport_options(settings, api_key, clock);
        let transport = HttpTransport::new(options).map_err(|error| error.to_string())?;
        let client = Client::new(transport, settings.collect.calls_per_15m, Arc::new(NoMeter));
        let teams = client.balances().await.map_err(|failure| failure.to_string())?;
        Ok::<_, String>((teams, client))
    });
    let key_works = match key_works {
        Ok((teams, client)) => {
            let names: Vec<&str> = teams.items.iter().map(|team| &*team.name).collect();
            output::data(&format!("\nAPI key: works; teams: {}", names.join(", ")));
            let teams = u32::try_from(teams.items.len()).unwrap_or(u32::MAX);
            output::data(&format!(
                "{:.1} calls per 15 min for {teams} team(s)",
                settings.collect.planned_calls_per_15m(teams)
            ));
            let plan = settings.collect.plan(teams);
            for (feed, every) in effective(&plan, &client.stretch(&needs(&plan))) {
                let every = humanize(every);
                output::data(&format!("{feed}: every {every}, as the API grants too few calls for more"));
            }
            true
        }
        Err(why) => {
            output::message(&format!("API key: {why}"));
            false
        }
    };
    let delivered = super::test_notify::send(settings, env, None, &runtime);
    let heard = members_answer(settings, &runtime);
    if key_works && delivered && heard { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Each Alertmanager is sent no alert at all, which it takes where it would take some. The dead-man switch is left alone: a
/// ping from here would say that the daemon lives.
fn members_answer(settings: &Settings, runtime: &Runtime) -> bool {
    let _inside = runtime.enter();
    let mut all = true;
    for base in &settings.alertmanagers {
        let member = Alertmanager::new(base).map_err(|error| error.to_string());
        let answer = member.and_then(|member| {
            runtime.block_on(member.push(&[])).map_err(|error| format!("does not take alerts: {error}"))
        });
        match answer {
            Ok(()) => {
                output::data(&format!("Alertmanager {base}: takes alerts"));
            }
            Err(why) => {
                output::message(&format!("Alertmanager {base}: {why}"));
                all = false;
            }
        }
    }
    all
}
