//! argv → command → exit code, with the process's two globals: TLS provider and log subscriber.
//!
//! It must never do more: `cli` knows the commands, `app` wires the daemon.

use std::process::ExitCode;

use clap::Parser as _;
use spheron_watch::cli::{self, Args};
use tracing_subscriber::{EnvFilter, fmt};

fn main() -> ExitCode {
    let args = Args::parse();
    // A core dump would hold the key; a limit of 0 does not stop one that is piped (core(5)). If refused, nothing is lost.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // One provider for the API client, webhooks and mail; a second install is refused and never made.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    log_to_stderr(args.log_level());
    cli::main(args)
}

/// SPHERON_WATCH_LOG (`debug`, `spheron_watch=trace`, …) says how much; journald has times of its own.
fn log_to_stderr(level: &str) {
    let filter = std::env::var("SPHERON_WATCH_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
    // Never coloured: the subscriber is built without, and panics when it is asked for.
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() { log.without_time().init() } else { log.init() }
}
