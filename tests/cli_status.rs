//! The commands that ask the daemon, as a person runs them: the real program against the simulated account, its socket, and
//! its database once it is gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use spheron_watch::{
    clock::Clock,
    model::{DeploymentId, Usd},
    sim::{self, Spec, World},
};
use tokio_util::sync::CancellationToken;

/// Long enough never to be the reason that a test passes.
const LONG: Duration = Duration::from_secs(60);
/// A name that means harm to terminals and spreadsheets.
const HOSTILE: &str = "=cmd()\u{1b}[2J\u{202e}";

struct Lab {
    api: SocketAddr,
    dir: tempfile::TempDir,
    ids: Vec<DeploymentId>,
    stop: CancellationToken,
    _runtime: tokio::runtime::Runtime,
}

impl Lab {
    /// A poor team, whose first hour has 10 minutes left, with four instances, three of which have names that begin alike.
    fn new() -> Self {
        let clock = Clock::system();
        let now = clock.now();
        let begin = now.minus(Duration::from_secs(3_000));
        let mut world = World::new(7, begin);
        let team = world.add_team("research", "owner", Usd::from_cents(700));
        let names = ["train-a", "train-b", "dev", HOSTILE];
        let ids =
            names.map(|name| world.deploy(begin, Spec::new(&team, name).rate(Usd::from_cents(50)))).to_vec();
        world.advance(now);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let (api, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        runtime.spawn(sim::serve(Arc::new(Mutex::new(world)), clock, listener, stop.clone()));
        Self { api, dir: tempfile::tempdir().unwrap(), ids, stop, _runtime: runtime }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spheron-watch"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("USER", "ann")
            .env("SPHERON_API_KEY", sim::KEY)
            .env("SPHERON_WATCH_ACCOUNT__BASE_URL", format!("http://{}", self.api))
            .env("SPHERON_WATCH_STORE__PATH", self.path("watch.db"))
            .env("SPHERON_WATCH_SERVE__LISTEN", "off")
            .env("SPHERON_WATCH_SERVE__SOCKET", self.path("run/control.sock"))
            .stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it printed, and nothing on stderr.
    fn shown(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.shown(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    fn start(&self) -> Daemon {
        // One alert is enough to look at.
        let folder = self.path("home/.config/spheron-watch");
        fs::create_dir_all(&folder).unwrap();
        let rule = |name| format!("[[rule]]\nname = \"{name}\"\nkind = \"runway\"\nbelow = \"60s\"\n");
        fs::write(folder.join("config.toml"), rule("runway-warning") + &rule("runway-critical")).unwrap();
        let log = fs::File::create(self.path("log")).unwrap();
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut daemon = Daemon(child);
        let clock = Clock::system();
        let began = clock.monotonic();
        loop {
            let output = self.output(&["status", "-o", "json"]);
            let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if document["source"] == "daemon"
                && document["fresh"] == true
                && document["alerts"]["critical"] == 1
            {
                return daemon;
            }
            let log = || fs::read_to_string(self.path("log")).unwrap();
            assert!(daemon.0.try_wait().unwrap().is_none(), "it ended: {}", log());
            assert!(clock.monotonic() - began < LONG, "nothing is known: {output:?} {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Killed when it goes.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_running_daemon_says_what_runs_what_fires_and_why() {
    let lab = Lab::new();
    let _daemon = lab.start();

    let table = lab.shown(&["status"]);
    let first = table.lines().next().unwrap();
    assert!(first.starts_with("balance $7.00   burn $2.00/h   runs out 20"), "{table}");
    assert!(first.contains("Z (in 2h") && first.ends_with("s old"), "{table}");
    assert!(table.contains("alerts: 1 critical: spheron-watch alerts"), "{table}");
    for heading in ["NAME", "GPU", "TYPE", "PROVIDER", "STATUS", "UP", "$/H", "COST", "NEXT"] {
        assert!(table.contains(heading), "{heading}: {table}");
    }
    assert!(table.contains("running-long fires in 2"), "{table}");
    let total = table.lines().last().unwrap();
    assert!(total.trim_start().starts_with("TOTAL") && total.contains("$2.00"), "{table}");

    let status = lab.json(&["status"]);
    assert_eq!((&status["schema"], &status["burn_per_hour"]), (&1.into(), &"2".into()));
    assert_eq!(status["deployments"].as_array().unwrap().len(), 4);

    let alerts = lab.json(&["alerts"]);
    assert_eq!((&alerts["total"], &alerts["items"][0]["rule"]), (&1.into(), &"low-balance".into()));
    assert!(lab.shown(&["alerts", "--all"]).contains("low-balance"));

    let why = lab.shown(&["why", "dev"]);
    assert!(why.contains("firing  low-balance (critical, team)"), "{why}");
    assert!(
        why.contains("condition  running longer than 1d") && why.contains("running-long fires at"),
        "{why}"
    );
    let by_id = lab.json(&["why", lab.ids[0].as_str()]);
    assert_eq!(by_id["deployment"]["name"], "train-a");
    for (asked, says) in
        [("train-", "2 deployments may be meant"), ("..", "no deployment"), ("/?#%2F", "no deployment")]
    {
        let refused = lab.output(&["why", asked]);
        assert_eq!((refused.status.code(), &*refused.stdout), (Some(1), &b""[..]), "{refused:?}");
        let message = text(&refused.stderr);
        assert!(message.contains(says), "{message}");
        assert_eq!(
            message.contains("train-a") && message.contains("train-b"),
            asked == "train-",
            "{message}"
        );
    }
}

#[test]
fn fault_77_a_hostile_name_harms_neither_terminal_nor_spreadsheet() {
    let lab = Lab::new();
    let _daemon = lab.start();
    for arguments in [&["status"][..], &["status", "-o", "csv"], &["status", "-o", "json"], &["why", "=cmd"]]
    {
        let shown = lab.shown(arguments);
        assert!(shown.contains("=cmd()"), "{arguments:?}: {shown}");
        let obeyed = |c: char| (c.is_control() && c != '\n' && c != '\r') || c == '\u{202e}';
        assert!(!shown.contains(obeyed), "{arguments:?}: {shown:?}");
    }
    let csv = lab.shown(&["status", "-o", "csv"]);
    assert_eq!(csv.matches("'=cmd()").count(), 1, "{csv}");
}

#[test]
fn a_silence_is_made_shown_and_ended_through_the_daemon_alone() {
    let lab = Lab::new();
    let daemon = lab.start();
    let until =
        &["silence", "add", "--match", "rule=low-*", "team=research", "--until", "2999-01-01T00:00:00Z"];
    let refused = lab.output(until);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("longer than a year"), "{refused:?}");

    let add =
        ["silence", "add", "--match", "rule=low-*", "--match", "team=research", "--for", "2h", "-m", "known"];
    let made = lab.shown(&add);
    assert!(made.starts_with("sil_") && made.contains(" holds until "), "{made}");
    let id = made.split(' ').next().unwrap();
    let list = lab.json(&["silence", "list"]);
    let silence = &list["items"][0];
    assert_eq!(
        (&silence["id"], &silence["author"], &silence["state"]),
        (&id.into(), &"ann".into(), &"active".into())
    );
    assert!(lab.shown(&["silence", "list"]).contains("rule=low-* team=research"));
    let alerts = lab.json(&["alerts"]);
    let states: Vec<(&Value, &Value)> =
        alerts["items"].as_array().unwrap().iter().map(|alert| (&alert["rule"], &alert["state"])).collect();
    assert!(states.contains(&(&"low-balance".into(), &"silenced".into())), "{alerts}");
    assert_eq!(lab.shown(&["silence", "end", id]), format!("{id} has ended\n"));
    assert_eq!(lab.json(&["silence", "list"])["total"], 0);
    assert_eq!(lab.json(&["silence", "list", "--all"])["items"][0]["state"], "ended");
    assert_eq!(lab.output(&["silence", "end", id]).status.code(), Some(1), "twice");

    drop(daemon);
    for change in [&add[..], &["silence", "end", id]] {
        let output = lab.output(change);
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
        assert!(text(&output.stderr).contains("start it: systemctl start spheron-watch"), "{output:?}");
    }
    for wrong in [
        &["silence", "add", "--for", "2h"][..],
        &["silence", "add", "--match", "rule=x"],
        &["silence", "add", "--match", "rule", "--for", "2h"],
        &["silence", "add", "--match", "rule=x", "--match", "rule=y", "--for", "2h"],
        &["silence", "add", "--match", "rule=x", "--for", "2h", "--until", "2026-12-24T18:00:00Z"],
        &["silence", "add", "--match", "rule=x", "--until", "tomorrow"],
        &["status", "-o", "xml"],
        &["why"],
    ] {
        assert_eq!(lab.output(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn without_a_daemon_reading_falls_back_to_the_database_and_says_so() {
    let lab = Lab::new();
    let nothing = lab.output(&["status"]);
    assert_eq!((nothing.status.code(), &*nothing.stdout), (Some(1), &b""[..]));
    let message = text(&nothing.stderr);
    assert!(message.contains("no daemon answers") && message.contains("database"), "{message}");

    drop(lab.start());
    for arguments in [&["status"][..], &["alerts"], &["why", "dev"], &["silence", "list"]] {
        let output = lab.output(arguments);
        let (shown, message) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && !shown.is_empty(), "{arguments:?}: {output:?}");
        assert!(message.contains("systemctl start spheron-watch"), "{message}");
        assert!(message.contains("This is from the database") && message.contains("s old."), "{message}");
    }
    let status = lab.output(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["source"], &status["fresh"], &status["balance"]),
        (&"database".into(), &false.into(), &"7".into())
    );
    assert_eq!(status["deployments"].as_array().unwrap().len(), 4);
    let alerts = text(&lab.output(&["alerts"]).stdout);
    assert!(alerts.contains("low-balance") && alerts.contains("firing"), "{alerts}");
    let why = text(&lab.output(&["why", "dev"]).stdout);
    assert!(why.contains("unknown  running-long") && why.contains("firing  low-balance"), "{why}");
}

#[test]
fn a_second_daemon_neither_takes_the_socket_nor_runs_without_it() {
    let lab = Lab::new();
    let mut daemon = lab.start();
    let mut second = lab.command(&["run"]);
    let log = fs::File::create(lab.path("second.log")).unwrap();
    second.env("SPHERON_WATCH_STORE__PATH", lab.path("other.db")).stderr(log);
    let mut second = Daemon(second.spawn().unwrap());
    let clock = Clock::system();
    let began = clock.monotonic();
    let ended = loop {
        match second.0.try_wait().unwrap() {
            Some(ended) => break ended,
            None => assert!(clock.monotonic() - began < LONG, "it runs"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let log = fs::read_to_string(lab.path("second.log")).unwrap();
    assert_eq!(ended.code(), Some(1), "{log}");
    assert!(log.contains("another process answers there"), "{log}");
    assert_eq!(lab.json(&["status"])["source"], "daemon", "the first still answers");

    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    assert!(lab.path("run/control.sock").exists(), "a killed daemon leaves it behind");
    let _next = lab.start();
}

#[test]
fn watching_goes_on_through_a_restart_and_ends_quietly_with_its_reader() {
    let lab = Lab::new();
    let daemon = lab.start();
    let watching = lab.command(&["status", "-w"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut watching = Daemon(watching.unwrap());
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |mark: &str| {
        // Some frames; a mark that does not come in them does not come.
        let seen: Vec<String> = lines.by_ref().take(120).take_while(|line| !line.contains(mark)).collect();
        assert!(seen.len() < 120, "no {mark:?} in {}", seen.join("\n"));
    };
    until("balance $7.00");
    drop(daemon);
    until("This is from the database");
    until("balance $7.00");
    let _daemon = lab.start();
    until("alerts: 1 critical");
    until("TOTAL");
    drop(lines);
    let mut errors = String::new();
    watching.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((watching.0.wait().unwrap().code(), &*errors), (Some(0), ""));
}

#[test]
fn watching_what_is_not_there_ends_with_its_reader_too() {
    let lab = Lab::new();
    let watching = lab.command(&["status", "-w"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut watching = Daemon(watching.unwrap());
    let mut errors = BufReader::new(watching.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(errors.next().unwrap().contains("no daemon answers"));
    drop(watching.0.stdout.take());
    assert!(errors.count() < 10, "it says so once more at most");
    assert_eq!(watching.0.wait().unwrap().code(), Some(0));
}
