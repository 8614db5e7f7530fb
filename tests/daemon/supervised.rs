//! Beside a service manager: readiness, watchdog, reload and stop, and an end that finishes what was begun.

use std::{io::ErrorKind, os::unix::net::UnixDatagram, sync::mpsc, time::Duration};

use rustix::process::Signal;
use spheron_watch::{
    app::{self, AppError, Wiring},
    clock::Clock,
    config::{self, Env},
    drive::{Deliver, Heart, LiveError},
    model::{Delivery, Notice, Usd, View},
    serve::{SelfMetrics, ServeOptions},
    sim,
    store::Store,
};
use tokio_util::sync::CancellationToken;

use crate::lab::{Hook, Lab, SOON, stopwatch, until};

/// Stands in for systemd's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn wait_for(&mut self, what: &str) -> String {
        let began = stopwatch();
        loop {
            if let Some(heard) = self.heard.iter().find(|heard| heard.lines().any(|l| l.starts_with(what))) {
                return heard.clone();
            }
            assert!(began() < SOON, "{what} was not heard, but {:?}", self.heard);
            let mut bytes = [0; 4_096];
            match self.socket.recv(&mut bytes) {
                Ok(length) => self.heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
    }
}

#[test]
fn the_service_manager_hears_of_readiness_progress_reload_and_stop() {
    let lab = Lab::quiet();
    let hook = Hook::new();
    lab.config(&[("hook", &hook)], "");
    let socket = UnixDatagram::bind(lab.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut manager = Manager { socket, heard: Vec::new() };
    let mut command = lab.configured(&["run"]);
    command.env("NOTIFY_SOCKET", lab.path("notify"));
    let mut daemon = lab.launch(command);

    manager.wait_for("READY=1");
    assert!(lab.world().call_count("GET", "/api/balance") >= 1, "ready only after the first poll attempt");
    let beat = manager.wait_for("WATCHDOG=1");
    assert!(beat.contains("STATUS="), "{beat}");
    manager.heard.clear();

    daemon.wait_until_ready();
    daemon.signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1");
    let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    let uptime_us = Clock::system().monotonic().as_micros();
    let stamp: u128 = stamp.parse().unwrap();
    assert!(stamp <= uptime_us && uptime_us - stamp < 60_000_000, "{stamp} of {uptime_us}");
    manager.wait_for("READY=1");

    daemon.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn the_status_line_says_what_runs_and_what_it_costs() {
    let lab = Lab::quiet();
    let socket = UnixDatagram::bind(lab.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut manager = Manager { socket, heard: Vec::new() };
    let mut command = lab.configured(&["run"]);
    command.env("NOTIFY_SOCKET", lab.path("notify")).env("SPHERON_WATCH_COLLECT__BALANCE", "every 10s");
    let _daemon = lab.launch(command);
    let line = manager.wait_for("STATUS=1 running");
    assert!(line.contains("STATUS=1 running, $0.50/h, ") && line.contains(" left"), "{line}");
}

#[test]
fn term_ends_with_0_once_the_webhook_under_way_has_answered() {
    let lab = Lab::new(|world, _| {
        world.add_team("research", "owner", Usd::from_cents(500));
    });
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let hook = Hook::answering(move |_, _| {
        // A test that failed has dropped the other end: answer, and let it end.
        let _ = gate.lock().unwrap().recv();
        200
    });
    lab.config(&[("hook", &hook)], "");
    let mut daemon = lab.start();
    hook.wait_for("low-balance", "alert.firing");
    daemon.signal(Signal::TERM);
    until("it is stopping", || daemon.log().contains("stopping; sends under way").then_some(()));
    assert!(daemon.is_alive(), "it waits for the webhook");
    release.send(()).unwrap();
    assert_eq!(daemon.ended().code(), Some(0));
    let delivered: i64 = lab
        .reader()
        .query_row("SELECT count(*) FROM outbox WHERE receiver = 'hook' AND state = 2", [], |row| row.get(0))
        .unwrap();
    assert_eq!((hook.sent().len(), delivered), (1, 1), "sent once, and its receipt entered");
}

#[test]
fn int_ends_an_idle_daemon_within_seconds() {
    let lab = Lab::quiet();
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    let began = stopwatch();
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(began() < Duration::from_secs(5), "{:?}", began());
    assert!(daemon.log().trim_end().ends_with("stopped"), "{}", daemon.log());
}

struct Planted(std::sync::Arc<str>);

impl Deliver for Planted {
    fn name(&self) -> &std::sync::Arc<str> {
        &self.0
    }
    fn deliver<'a>(
        &'a self,
        _notice: &'a Notice,
    ) -> std::pin::Pin<Box<dyn Future<Output = Delivery> + Send + 'a>> {
        Box::pin(async { panic!("planted") })
    }
}

struct Deaf;

impl Heart for Deaf {
    fn ready(&self) {}
    fn beat(&self, _view: &View) {}
}

#[test]
fn fault_83_a_task_that_panics_ends_the_whole_daemon_with_an_error() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let lab = Lab::new(|world, _| {
        world.add_team("research", "owner", Usd::from_cents(500));
    });
    let env = Env { system_config: lab.path("none"), ..Env::default() };
    let text = format!(
        "[account]\nbase_url = \"http://{}\"\n[store]\npath = {:?}\n[serve]\nlisten = \"off\"\n",
        lab.api,
        lab.database()
    );
    let settings = config::load(Some(&lab.file("config.toml", &text)), &env).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(async {
        let clock = Clock::system();
        let (store, recovered) = Store::open(&settings.store.path).unwrap();
        let (orders, control) = tokio::sync::mpsc::channel(1);
        let wiring = Wiring {
            keep_links: None,
            policies: Default::default(),
            grouping: Default::default(),
            api: app::transport_options(&settings, sim::KEY.to_owned().into(), clock.clone()),
            calls_per_15m: None,
            cadence: app::cadence(&settings),
            store,
            recovered,
            rules: settings.rules,
            watched: settings.account.teams,
            // The default rules tell the log, and this one has its name.
            receivers: vec![std::sync::Arc::new(Planted(spheron_watch::drive::LOG.into()))],
            outward: Default::default(),
            sources: Vec::new(),
            prober: app::prober_options(&settings.store.path),
            listener: None,
            socket: None,
            serve: ServeOptions::default(),
            heart: std::sync::Arc::new(Deaf),
            metrics: std::sync::Arc::new(SelfMetrics::new().unwrap()),
            clock,
            control,
            orders,
        };
        tokio::time::timeout(SOON, app::run(wiring, CancellationToken::new()))
            .await
            .expect("it ends by itself")
    });
    let error = result.unwrap_err();
    assert!(matches!(error, AppError::Live(LiveError::Panic(_))), "{error}");
    assert!(!error.is_permanent(), "a restart is the remedy");
    // Not lost with the task: the next process sends it.
    let mut daemon = lab.start();
    until("the alert in the log", || daemon.log().contains("low balance: research").then_some(()));
    assert_eq!(daemon.terminate().code(), Some(0));
}
