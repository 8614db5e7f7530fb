//! The heartbeat that `config/heartbeat-cloud-init.json` installs, run by a real shell with openssl and curl against the daemon.
//!
//! It must never be skipped silently: without them it fails.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "activity/daemon.rs"]
mod daemon;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use daemon::Daemon;
use secrecy::SecretString;
use serde_json::Value;
use spheron_watch::{
    activity::{Kind, Reach, Source},
    model::{ActivitySource, Matcher, Reading},
};

const SECRET: &str = "0f6de8a3c711b41c7d25e8025c90b7e4";

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn what_cloud_init_installs_is_understood_and_silent_where_a_gpu_is_not_measured() {
    let watch = ActivitySource {
        name: "told".into(),
        every: Duration::from_secs(60),
        matcher: Matcher::default(),
        only_busy: false,
        settings: "".into(),
    };
    let kind = Kind::Heartbeat { secret: SecretString::from(SECRET), busy_above: 5.0 };
    let mut daemon = Daemon::start(vec![Source { watch, kind, reach: Reach::Public }]).await;
    daemon.until(|said| said.contains_key("told")).await;

    let shipped: Value = serde_json::from_str(include_str!("../config/heartbeat-cloud-init.json")).unwrap();
    let files = shipped["cloudInit"]["writeFiles"].as_array().unwrap();
    let script = files.iter().find(|file| file["path"] == "/usr/local/bin/gpu-heartbeat").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    executable(&at("gpu-heartbeat"), script["content"].as_str().unwrap());
    let settings = format!("URL=http://{}\nDEPLOYMENT=train-1\nSECRET={SECRET}\n", daemon.http);
    fs::write(at("settings"), settings).unwrap();
    let send = async || {
        // The second after the last: one heartbeat is taken each second.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let mut run = tokio::process::Command::new(at("gpu-heartbeat"));
        run.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
            .env("GPU_HEARTBEAT", at("settings"));
        let ran = run.output().await.expect("no shell");
        (ran.status.success(), String::from_utf8(ran.stderr).unwrap())
    };
    for (loads, permille) in [("3\n0\n", 30), ("100\n9\n", 1_000)] {
        executable(&at("nvidia-smi"), &format!("#!/bin/sh\nprintf '{loads}'\n"));
        assert_eq!(send().await, (true, String::new()));
        let said = daemon.until(|said| said["told"].utilization_permille == Some(permille)).await;
        assert_eq!(said["told"].reading, if permille > 50 { Reading::Busy } else { Reading::Idle });
    }
    for script in ["printf '0\\n[N/A]\\n'", "true", "echo 0; exit 9", "echo failed"] {
        executable(&at("nvidia-smi"), &format!("#!/bin/sh\n{script}\n"));
        assert!(!send().await.0, "{script}");
    }
    executable(&at("nvidia-smi"), "#!/bin/sh\necho 0\n");
    fs::write(at("settings"), format!("URL=http://{}\nDEPLOYMENT=train-1\nSECRET=wrong\n", daemon.http))
        .unwrap();
    let (sent, why) = send().await;
    assert!(!sent && why.contains("401"), "{why}");
    daemon.end().await;
}
