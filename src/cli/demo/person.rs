//! The person in the demo: looks at what the policy would end, and arms it, over the control socket as everybody would.
//!
//! It must never do what a person could not.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::super::{change::Daemon, layout::Paper, output, policy::words, source::SourceError};
use crate::{
    config::Env,
    serve::api::{Arm, Deliveries, Policy, PolicyPreview},
};

/// The policy of the demo's configuration.
pub const POLICY: &str = "forgotten-boxes";
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// Arms as soon as somebody has heard of the dry run, and says what was typed and shown.
pub async fn arm(config: PathBuf, paper: Paper, stamp: impl Fn() -> String, stop: CancellationToken) {
    let say = |text: &str| output::data(&format!("{} {text}\n", stamp()));
    let command = format!("$ spheron-watch policy arm {POLICY}");
    let Some(before) = until(&stop, &config, look).await else { return };
    say(&format!("{}\n{}", paper.colors.bold(&command), words::before_arming(&before, paper)));
    say(&paper.colors.bold(&format!("{command} --confirm={}", before.code)));
    let code = before.code.clone();
    let Some(armed) = until(&stop, &config, move |daemon| confirm(daemon, &code)).await else { return };
    say(&words::armed(&armed, &before, paper));
}

/// Tries again and again: the daemon only starts, or it is too early.
async fn until<T: Send + 'static>(
    stop: &CancellationToken,
    config: &Path,
    ask: impl Fn(&Daemon) -> Result<Option<T>, SourceError> + Clone + Send + 'static,
) -> Option<T> {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(LOOKS_EVERY) => {}
        }
        let (config, ask) = (config.to_owned(), ask.clone());
        let asking = move || Daemon::new(Some(&config), &Env::default()).and_then(|daemon| ask(&daemon));
        if let Ok(found) = tokio::task::spawn_blocking(asking).await.ok()?
            && found.is_some()
        {
            return found;
        }
    }
}

/// What it would end, once the dry run's mail has arrived.
fn look(daemon: &Daemon) -> Result<Option<PolicyPreview>, SourceError> {
    let told: Deliveries = daemon.get("deliveries?state=delivered&limit=1")?;
    if told.items.is_empty() {
        return Ok(None);
    }
    let before: PolicyPreview = daemon.get(&format!("policies/{POLICY}"))?;
    Ok((!before.would_end.is_empty()).then_some(before))
}

fn confirm(daemon: &Daemon, code: &str) -> Result<Option<Policy>, SourceError> {
    let asked = Arm { code: code.to_owned(), by: "you".to_owned() };
    daemon.post(&format!("policies/{POLICY}/arm"), &asked).map(Some)
}
