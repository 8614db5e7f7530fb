//! The real program among real ones: an SMTP server, Prometheus' own linter, a filesystem that is full, a terminal.
//!
//! It must never be skipped silently: what is missing fails with how to get it. Needs root for the filesystem.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may panic, and measures real time"
)]

#[path = "daemon/lab.rs"]
mod lab;
#[path = "system/smtp.rs"]
mod smtp;

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lab::{Hook, Lab, until};
use spheron_watch::{
    model::Usd,
    sim::{Event, Spec},
};

#[test]
fn a_mail_arrives_over_starttls_with_a_login_from_an_alert_of_the_daemon() {
    let server = smtp::Server::start("required");
    let lab = Lab::new(|world, _| {
        world.add_team("Forschung Größe", "owner", Usd::from_cents(820));
    });
    let password = lab.file("password", smtp::PASSWORD);
    lab.file(
        "config.toml",
        &format!(
            "[smtp]\nsmarthost = \"localhost:{}\"\nfrom = \"Spheron Watch <watch@example.org>\"\nusername = \"watch\"\n\
             password_file = {password:?}\nca_file = {:?}\n\
             [[receiver]]\nname = \"ops\"\nemail = {{ to = [\"ops@example.org\"] }}\n\
             [notify]\nreceivers = [\"ops\"]\n",
            server.port, server.ca_file
        ),
    );
    let mut daemon = lab.start();
    until("the mail", || server.events().iter().any(|event| event["event"] == "data").then_some(()));
    assert_eq!(daemon.terminate().code(), Some(0));
    let events = server.stop();
    let mails: Vec<_> = events.iter().filter(|event| event["event"] == "data").collect();
    assert_eq!(mails.len(), 1, "{events:?}");
    assert_eq!((&mails[0]["encrypted"], &mails[0]["login"]), (&true.into(), &"watch".into()));
    assert_eq!(mails[0]["to"], serde_json::json!(["ops@example.org"]));
    let content = mails[0]["content"].as_str().unwrap();
    assert!(content.contains("$8.20") && content.contains("Message-ID: <evt_"), "{content}");
}

#[test]
fn promtool_accepts_what_a_running_daemon_serves() {
    let lab = Lab::new(|world, now| {
        let team = world.add_team("\"research\"\\\n", "owner", Usd::from_cents(2_120));
        let begin = now.minus(std::time::Duration::from_secs(26 * 3_600));
        world.deploy(begin, Spec::new(&team, "forgotten \u{202e}\" }"));
        world.deploy(now, Spec::new(&team, "new").kind("SPOT"));
    });
    let hook = Hook::answering(|_, again| if again == 0 { 500 } else { 200 });
    lab.config(&[("hook", &hook)], "");
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    hook.wait_for("low-balance", "alert.firing");
    let page = daemon.get("/metrics").unwrap().1;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (Debian: apt-get install prometheus)");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

/// A filesystem of 2 MiB, gone at the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).status();
        assert!(mounted.unwrap().success(), "mounting a tmpfs needs root");
        Self(at.to_owned())
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        loop {
            match file.write_all(&[0; 4_096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return path,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: what a failed test still holds open does not keep it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn fault_33_on_a_full_disk_nothing_is_told_that_is_not_kept_and_all_of_it_once_there_is_room() {
    let mut team = None;
    let lab = Lab::new(|world, _| team = Some(world.add_team("research", "owner", Usd::from_cents(820))));
    let small = Small::mount(&lab.path("state"));
    let hook = Hook::new();
    lab.config(&[("hook", &hook)], "");
    let mut daemon = lab.start();
    hook.wait_for("low-balance", "alert.firing");
    hook.wait_for("disk-low", "alert.firing");
    daemon.wait_until_ready();

    let filler = small.fill();
    lab.happens(Event::RevokeKey);
    daemon.reload();
    until("the refusal", || daemon.log().contains("cannot commit; nothing is lost").then_some(()));
    assert!(daemon.is_alive(), "{}", daemon.log());
    assert_eq!(daemon.get("/healthz").unwrap().0, 200);
    assert_eq!(hook.sent().len(), 2, "what is not committed is not told");

    fs::remove_file(filler).unwrap();
    hook.wait_for("key-rejected", "alert.firing");
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
    let check: String = lab.reader().query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    assert_eq!(hook.sent().len(), 3, "each once");
}

#[test]
fn fault_33_a_disk_that_is_full_at_the_start_is_worth_a_restart() {
    let lab = Lab::quiet();
    let small = Small::mount(&lab.path("state"));
    let filler = small.fill();
    let mut daemon = lab.start();
    assert_eq!(daemon.ended().code(), Some(1), "not 78, after which nobody tries again: {}", daemon.log());
    assert!(daemon.log().contains("no space left for the database"), "{}", daemon.log());
    fs::remove_file(filler).unwrap();
    let mut daemon = lab.start();
    daemon.wait_until_ready();
}

/// What a command prints when its output is a terminal.
fn on_a_terminal(lab: &Lab, arguments: &str, variables: &[(&str, &str)]) -> String {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_spheron-watch"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    let output = command.env("TMPDIR", lab.path("tmp")).env_remove("NO_COLOR").stdin(Stdio::null());
    let output = output.envs(variables.iter().copied()).output().expect("script is installed (bsdutils)");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn colours_are_for_terminals_whose_owner_did_not_say_no() {
    let lab = Lab::quiet();
    let colourful = |text: &str| text.contains("\u{1b}[");
    assert!(colourful(&on_a_terminal(&lab, "demo --for 1s", &[])));
    assert!(!colourful(&on_a_terminal(&lab, "demo --for 1s", &[("NO_COLOR", "1")])));
    assert!(!colourful(&on_a_terminal(&lab, "--no-color demo --for 1s", &[])));
}
