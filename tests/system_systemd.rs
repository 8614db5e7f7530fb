//! The systemd files, judged by systemd itself. Needs Debian's `systemd` package; nothing is installed or started.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const UNIT: &str = include_str!("../systemd/spheron-watch.service");

/// The unit in a folder of its own, with our built binary in place of the installed one.
fn unit_file(folder: &tempfile::TempDir, unit: &str) -> PathBuf {
    let installed = "/usr/bin/spheron-watch";
    assert!(unit.contains(&format!("ExecStart={installed} run\n")), "the unit starts {installed} run");
    let path = folder.path().join("spheron-watch.service");
    fs::write(&path, unit.replace(installed, env!("CARGO_BIN_EXE_spheron-watch"))).unwrap();
    path
}

fn run(program: &str, arguments: &[&str], path: &Path) -> Output {
    let output = Command::new(program).args(arguments).arg(path).env("SYSTEMD_COLORS", "0").output();
    output.unwrap_or_else(|e| panic!("{program} did not start ({e}): apt-get install systemd"))
}

/// What systemd has to say about our unit; other units of this machine are not our business.
fn complaints(unit: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let output = run("systemd-analyze", &["verify", "--man=no"], &unit_file(&folder, unit));
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().filter(|line| line.contains("spheron-watch")).map(str::to_owned).collect()
}

fn exposure_is_low(unit: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["security", "--offline=true", "--threshold=13", "--no-pager"];
    let output = run("systemd-analyze", &arguments, &unit_file(&folder, unit));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Overall exposure level for spheron-watch.service"), "{output:?}");
    output.status.success()
}

#[test]
fn the_unit_is_valid() {
    assert_eq!(complaints(UNIT), Vec::<String>::new());
    let broken = UNIT.replace("ProtectHome=yes", "ProtectHomes=yes");
    assert_eq!(complaints(&broken).len(), 1, "a directive that does not exist is noticed");
}

#[test]
fn the_unit_exposes_at_most_1_3() {
    assert!(exposure_is_low(UNIT), "see systemd-analyze security --offline=true --threshold=13");
    let open = UNIT.replace("SystemCallFilter", "#SystemCallFilter");
    assert!(!exposure_is_low(&open), "without its system call filter the unit is too open");
}

#[test]
fn the_user_and_the_folder_that_the_unit_needs_are_made() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let at_root = format!("--root={}", root.path().display());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    for (program, arguments, file) in [
        ("systemd-sysusers", vec![at_root.as_str()], "spheron-watch.sysusers"),
        ("systemd-tmpfiles", vec!["--create", at_root.as_str()], "spheron-watch.tmpfiles"),
    ] {
        let output = run(program, &arguments, &folder.join(file));
        assert!(output.status.success(), "{program}: {output:?}");
    }
    let user = UNIT.lines().find_map(|line| line.strip_prefix("User=")).unwrap();
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(users.lines().any(|line| line.starts_with(&format!("{user}:"))), "{user} in {users}");
    assert!(root.path().join("etc/spheron-watch").is_dir());
}
