//! The command line: parse, do, print, exit code. One file per command group.
//!
//! It must never print data to stderr or messages to stdout, nor panic because a pipe was closed.

mod actions;
mod alerts;
mod change;
mod check;
mod client;
mod demo;
mod health;
mod keep;
mod layout;
mod output;
mod policy;
mod run;
mod silence;
mod source;
mod status;
mod test_notify;
mod why;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{config::Env, model::Time, schedule::parse_length};

/// Exit code of `run` for what a restart cannot mend: bad configuration, foreign or newer database, state in use.
pub const EXIT_CONFIG: u8 = 78;
/// Exit code of a command that is used wrongly.
const EXIT_USAGE: u8 = 2;

/// Watches what a Spheron AI account spends on rented GPUs, and tells people before it hurts.
#[derive(Debug, Parser)]
#[command(name = "spheron-watch", version, disable_help_subcommand = true)]
pub struct Args {
    /// Configuration file [default: /etc/spheron-watch/config.toml, then $XDG_CONFIG_HOME/spheron-watch/config.toml; none is fine]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// How data are written, by the commands that show some: status, alerts, silence, why, keep, policy, actions
    #[arg(short, long, value_name = "FORMAT", global = true, value_enum, default_value_t = output::Format::Table)]
    pub output: output::Format,
    /// No colours, as with NO_COLOR set
    #[arg(long, global = true)]
    pub no_color: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon (works with no configuration: key from the environment, default rules, alerts to the log)
    Run,
    /// Show the real daemon on a simulated account: no key, no network
    Demo(demo::DemoArgs),
    /// Check the configuration: every error at once, the effective schedule, the API calls it takes
    CheckConfig(check::CheckArgs),
    /// Show balance, burn, when the money ends, and what runs
    Status(status::StatusArgs),
    /// Show the alerts that fire
    Alerts(alerts::AlertsArgs),
    /// Do not hear of some alerts for a while
    #[command(subcommand)]
    Silence(silence::SilenceCommand),
    /// Show what each rule and each policy makes of a deployment, and what happens next
    Why(why::WhyArgs),
    /// Have no policy end a deployment for a while
    Keep(keep::KeepArgs),
    /// Show the policies and what they would end; arm and disarm them
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Show what policies are about to end, and stop it
    Actions(actions::ActionsArgs),
    /// Send a marked test to one receiver or to all, and show what each answered
    TestNotify(test_notify::TestArgs),
    /// Ask the running daemon whether it lives (for container health checks)
    Health,
}

impl Args {
    /// How much is logged unless SPHERON_WATCH_LOG says otherwise: the daemon tells, a command only warns.
    pub fn log_level(&self) -> &'static str {
        match self.command {
            Command::Run => "info",
            Command::Demo(_) => "error",
            Command::CheckConfig(_)
            | Command::Status(_)
            | Command::Alerts(_)
            | Command::Silence(_)
            | Command::Why(_)
            | Command::Keep(_)
            | Command::Policy(_)
            | Command::Actions(_)
            | Command::TestNotify(_)
            | Command::Health => "warn",
        }
    }
}

/// Does what the arguments say.
pub fn main(args: Args) -> ExitCode {
    let colors = output::Colors::detect(args.no_color);
    let env = environment();
    let config = args.config.as_deref();
    match args.command {
        Command::Run => run::run(config, &env),
        Command::Demo(demo) => demo::demo(&demo, colors),
        Command::CheckConfig(check) => check::check(&check, config, &env),
        Command::Status(status) => status::status(&status, config, &env, args.output, colors),
        Command::Alerts(alerts) => alerts::alerts(&alerts, config, &env, args.output),
        Command::Silence(silence) => silence::silence(&silence, config, &env, args.output),
        Command::Why(why) => why::why(&why, config, &env, args.output, colors),
        Command::Keep(keep) => keep::keep(&keep, config, &env, args.output),
        Command::Policy(policy) => policy::policy(&policy, config, &env, args.output, colors),
        Command::Actions(actions) => actions::actions(&actions, config, &env, args.output, colors),
        Command::TestNotify(test) => test_notify::test(&test, config, &env),
        Command::Health => health::health(config, &env),
    }
}

/// The only place that reads the environment.
fn environment() -> Env {
    Env {
        vars: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        home: std::env::home_dir(),
        root: rustix::process::geteuid().is_root(),
        system_config: PathBuf::from("/etc/spheron-watch/config.toml"),
    }
}

/// A runtime for a command that has to wait for something. Two workers suffice: the work is waiting.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(4).enable_all().build()
}

/// Of an argument: how long something is to last.
fn length(text: &str) -> Result<Duration, String> {
    parse_length(text).map_err(|error| error.to_string())
}

/// Of an argument: until when.
fn time(text: &str) -> Result<Time, String> {
    Time::parse_rfc3339(text)
        .ok_or_else(|| "a time has a date, a time and an offset, as in 2026-12-24T18:00:00Z".to_owned())
}

/// Data to stdout, and exit code 0.
fn done(text: &str) -> ExitCode {
    output::data(text);
    ExitCode::SUCCESS
}

/// How it is to be used, to stderr, and exit code 2.
fn misused(message: &str) -> ExitCode {
    output::message(message);
    ExitCode::from(EXIT_USAGE)
}

/// A message to stderr, and exit code 1.
fn failed(message: &str) -> ExitCode {
    output::message(message);
    ExitCode::FAILURE
}
