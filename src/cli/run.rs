//! `run`: the daemon, from the configuration to its end.
//!
//! It must never exit 0 after a failure, nor 78 for what a restart may mend.

use std::{path::Path, process::ExitCode};

use super::EXIT_CONFIG;
use crate::{app, config::Env};

pub fn run(config: Option<&Path>, env: &Env) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failed(&format!("cannot start: {error}")),
    };
    match runtime.block_on(app::daemon(config, env)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            if error.is_permanent() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}
