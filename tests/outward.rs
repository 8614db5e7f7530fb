//! The whole daemon, its clock fast, on a simulated account: what Alertmanagers and a dead-man switch hear over loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    fs::OpenOptions,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use secrecy::SecretString;
use serde_json::Value;
use spheron_watch::{
    app::{self, Wiring},
    clock::Clock,
    config::{self, Env, Settings},
    drive::{Control, Heart, Reload},
    model::{DeploymentId, Time, Usd, View},
    serve::{SelfMetrics, ServeOptions},
    sim::{self, Event, Fault, Spec, Window, World},
    store::Store,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

const MINUTE: Duration = Duration::from_secs(60);
/// A minute is a good third of a second.
const SPEED: u32 = 160;

/// One request that a sink got.
#[derive(Debug, Clone)]
struct Asked {
    at: Time,
    /// `POST /path`
    what: String,
    body: String,
}

impl Asked {
    fn alerts(&self) -> Vec<Value> {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Answers every request with the status it has then, and keeps what it was asked. Status 0 never answers.
struct Sink {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: watch::Receiver<Vec<Asked>>,
}

impl Sink {
    async fn start(status: u16, clock: &Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (keep, asked) = watch::channel(Vec::new());
        let (status, keep, clock) = (Arc::new(AtomicU16::new(status)), Arc::new(keep), clock.clone());
        let answer = status.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, answer.clone(), keep.clone(), clock.clone()));
            }
        });
        Self { address, status, asked }
    }

    fn set(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// The first request that is as wanted, once there is one.
    async fn until(&self, what: &str, wanted: impl Fn(&Asked) -> bool) -> Asked {
        let mut asked = self.asked.clone();
        let found = asked.wait_for(|asked| asked.iter().any(&wanted));
        match tokio::time::timeout(Duration::from_secs(60), found).await {
            Ok(found) => found.unwrap().iter().find(|asked| wanted(asked)).unwrap().clone(),
            Err(_) => panic!("never came: {what}; only {:#?}", self.asked()),
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    status: Arc<AtomicU16>,
    keep: Arc<watch::Sender<Vec<Asked>>>,
    clock: Clock,
) -> Option<()> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
    let (head, body) = loop {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            break (
                String::from_utf8_lossy(&bytes[..end]).into_owned(),
                String::from_utf8(bytes[end + 4..].to_vec()).unwrap(),
            );
        }
    };
    let what = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    keep.send_modify(|asked| asked.push(Asked { at: clock.now(), what, body }));
    let status = status.load(Ordering::SeqCst);
    if status == 0 {
        let _ = stream.read(&mut chunk).await;
        return None;
    }
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok()
}

struct Deaf;

impl Heart for Deaf {
    fn ready(&self) {}
    fn beat(&self, _: &View) {}
}

/// One team that is poor or rich, with a spot instance.
struct Daemon {
    clock: Clock,
    world: Arc<Mutex<World>>,
    team: spheron_watch::model::TeamId,
    api: SocketAddr,
    orders: mpsc::Sender<Control>,
    stop: CancellationToken,
    folder: tempfile::TempDir,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Daemon {
    /// With this in its configuration; `{name}` of the files is replaced by the path of a file that holds their text.
    async fn start(clock: &Clock, cents: i64, files: &[(&str, String)], text: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = clock.clone();
        let start = clock.now();
        let mut world = World::new(7, start.minus(Duration::from_secs(86_400)));
        world.terms.limit = 1_000_000;
        let team = world.add_team("research", "owner", Usd::from_cents(cents));
        let spec = Spec::new(&team, "train-1").kind("SPOT");
        world.deploy(
            start.minus(Duration::from_secs(600)),
            Spec { id: Some(DeploymentId::new("d1")), ..spec },
        );
        world.advance(start);
        let world = Arc::new(Mutex::new(world));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let account = tokio::spawn(sim::serve(world.clone(), clock.clone(), listener, stop.clone()));
        let folder = tempfile::tempdir().unwrap();
        let (orders, control) = mpsc::channel(1);
        let mut daemon =
            Self { clock, world, team, api, orders: orders.clone(), stop, folder, tasks: vec![account] };
        let settings = daemon.settings(files, text);
        let (store, recovered) = Store::open(&settings.store.path).unwrap();
        let Reload { rules, watched, grouping, cadence, receivers, sources, policies, outward } =
            daemon.parts(settings.clone());
        let wiring = Wiring {
            keep_links: None,
            policies,
            socket: None,
            orders,
            clock: daemon.clock.clone(),
            api: app::transport_options(&settings, SecretString::from(sim::KEY), daemon.clock.clone()),
            calls_per_15m: None,
            store,
            recovered,
            rules,
            watched,
            grouping,
            cadence,
            receivers,
            outward,
            sources,
            prober: app::prober_options(&settings.store.path),
            listener: None,
            serve: ServeOptions::default(),
            heart: Arc::new(Deaf),
            metrics: Arc::new(SelfMetrics::new().unwrap()),
            control,
        };
        let ended = daemon.stop.clone();
        daemon.tasks.push(tokio::spawn(async move { app::run(wiring, ended).await.unwrap() }));
        daemon
    }

    fn settings(&self, files: &[(&str, String)], text: &str) -> Settings {
        let store = self.folder.path().join("test.db");
        let mut text =
            format!("[account]\nbase_url = \"http://{}\"\n[store]\npath = {store:?}\n{text}", self.api);
        for (name, secret) in files {
            let path: PathBuf = self.folder.path().join(name);
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path).unwrap();
            file.write_all(secret.as_bytes()).unwrap();
            text = text.replace(&format!("{{{name}}}"), path.to_str().unwrap());
        }
        config::parse("test".as_ref(), &text, &Env::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn parts(&self, settings: Settings) -> Reload {
        let env = Env::default();
        Reload {
            policies: Default::default(),
            receivers: app::receivers(&settings, &env, &self.clock).unwrap(),
            outward: app::outward(&settings, &env).unwrap(),
            sources: app::activity_sources(&settings, &env).unwrap(),
            cadence: app::cadence(&settings),
            rules: settings.rules,
            watched: settings.account.teams,
            grouping: settings.grouping,
        }
    }

    async fn reload(&self, text: &str) {
        let reload = Box::new(self.parts(self.settings(&[], text)));
        assert!(self.orders.send(Control::Reload(reload)).await.is_ok());
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn happens(&self, event: Event) {
        self.world().at(self.clock.now(), event);
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

fn alert<'a>(alerts: &'a [Value], rule: &str) -> Option<&'a Value> {
    alerts.iter().find(|alert| alert["labels"]["alertname"] == rule)
}

fn ends(alert: &Value) -> Time {
    Time::parse_rfc3339(alert["endsAt"].as_str().unwrap()).unwrap()
}

fn says(asked: &Asked, rule: &str, is: impl Fn(&Value, Time) -> bool) -> bool {
    alert(&asked.alerts(), rule).is_some_and(|alert| is(alert, asked.at))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_hears_of_beginnings_again_and_of_ends_while_another_never_answers() {
    let clock = Clock::scaled(SPEED);
    let (deaf, member) = (Sink::start(0, &clock).await, Sink::start(200, &clock).await);
    let text =
        format!("[notify]\nalertmanager = [\"http://{}\", \"http://{}\"]\n", deaf.address, member.address);
    let daemon = Daemon::start(&clock, 500, &[], &text).await;

    let first = member.until("low balance", |asked| says(asked, "low-balance", |_, _| true)).await;
    assert_eq!(first.what, "POST /api/v2/alerts");
    let alerts = first.alerts();
    let low = alert(&alerts, "low-balance").unwrap();
    assert_eq!(
        (&low["labels"]["team"], &low["labels"]["severity"]),
        (&"research".into(), &"critical".into())
    );
    for text in ["summary", "description", "advice"] {
        assert!(low["annotations"][text].as_str().is_some_and(|text| !text.is_empty()), "{text}: {low}");
    }
    assert!(ends(low) > first.at, "{low}");

    // Nothing changes, and it is said again.
    let again = member
        .until("the same, later", |asked| {
            says(asked, "low-balance", |again, _| {
                ends(again) > ends(low)
                    && again["labels"] == low["labels"]
                    && again["startsAt"] == low["startsAt"]
            })
        })
        .await;
    assert!(again.at.since(first.at) < MINUTE * 10, "a member that never answers holds up nobody");

    daemon.happens(Event::Reclaim(DeploymentId::new("d1")));
    let event = member.until("the event", |asked| says(asked, "spot-interrupted", |_, _| true)).await;
    let (alerts, at) = (event.alerts(), event.at);
    let event = alert(&alerts, "spot-interrupted").unwrap();
    assert_eq!(
        (&event["labels"]["deployment_id"], &event["labels"]["name"]),
        (&"d1".into(), &"train-1".into())
    );
    assert!(ends(event) > at, "{event}");

    daemon.happens(Event::TopUp(daemon.team.clone(), Usd::from_cents(100_000)));
    member.until("the end", |asked| says(asked, "low-balance", |low, at| ends(low) <= at)).await;
    member
        .until("no word any more", |asked| alert(&asked.alerts(), "low-balance").is_none() && asked.at > at)
        .await;
    assert!(deaf.asked().len() < member.asked().len() / 2, "one question at a time");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_puts_other_members_in_place_of_the_old_ones() {
    let clock = Clock::scaled(SPEED);
    let (old, new) = (Sink::start(200, &clock).await, Sink::start(200, &clock).await);
    let text = |sink: &Sink| format!("[notify]\nalertmanager = [\"http://{}\"]\n", sink.address);
    let daemon = Daemon::start(&clock, 500, &[], &text(&old)).await;
    old.until("low balance", |asked| says(asked, "low-balance", |_, _| true)).await;
    daemon.reload(&text(&new)).await;
    let first =
        new.until("low balance, to the new one", |asked| says(asked, "low-balance", |_, _| true)).await;
    new.until("the next round", |asked| asked.at > first.at.plus(MINUTE * 3)).await;
    let late: Vec<Asked> = old.asked().into_iter().filter(|asked| asked.at > first.at.plus(MINUTE)).collect();
    assert!(late.is_empty(), "the old one hears nothing more: {late:#?}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_66_pings_come_while_all_is_well_stop_when_the_api_is_down_and_come_again() {
    let clock = Clock::scaled(SPEED);
    let switch = Sink::start(200, &clock).await;
    let url = ("url", format!("http://{}/ping/0aa1", switch.address));
    let text = "[notify]\nheartbeat_url_file = \"{url}\"\n";
    let daemon = Daemon::start(&clock, 100_000, &[url], text).await;
    let first = switch.until("a ping", |_| true).await;
    assert_eq!((&*first.what, &*first.body), ("GET /ping/0aa1", ""));
    switch.until("a few more", |asked| asked.at > first.at.plus(MINUTE * 3)).await;

    let now = clock.now();
    let down = Window { from: now, until: now.plus(MINUTE * 20), on: None, what: Fault::ServerError };
    let up_again = down.until;
    daemon.world().faults.add(down);
    switch.until("a ping after the API came back", |asked| asked.at > up_again).await;
    let asked = switch.asked();
    let silent: Vec<&Asked> =
        asked.iter().filter(|asked| asked.at > now.plus(MINUTE * 8) && asked.at < up_again).collect();
    assert!(silent.is_empty(), "a blind watcher gives no sign of life: {silent:#?}");
    assert!(asked.iter().all(|asked| asked.what == "GET /ping/0aa1"), "{asked:#?}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_65_when_every_receiver_is_dead_the_switch_is_told_why_until_one_lives() {
    let clock = Clock::scaled(SPEED);
    let (switch, hook) = (Sink::start(200, &clock).await, Sink::start(500, &clock).await);
    let files = [
        ("url", format!("http://{}/ping/0aa1/", switch.address)),
        ("hook", format!("http://{}/T0KEN12345", hook.address)),
    ];
    let text = "[[receiver]]\nname = \"hook\"\nwebhook = { url_file = \"{hook}\" }\n\
                [notify]\nreceivers = [\"hook\"]\nheartbeat_url_file = \"{url}\"\n";
    let daemon = Daemon::start(&clock, 500, &files, text).await;
    let fail = switch.until("the failure", |asked| asked.what == "POST /ping/0aa1/fail").await;
    assert!(fail.body.contains("no alert gets through: hook ("), "{}", fail.body);
    assert!(!fail.body.contains("T0KEN"), "{}", fail.body);
    let before: Vec<Asked> = switch.asked().into_iter().filter(|asked| asked.at < fail.at).collect();
    assert!(
        before.iter().any(|asked| asked.what == "GET /ping/0aa1/"),
        "a retry may still help: {before:#?}"
    );

    hook.set(200);
    switch.until("a ping again", |asked| asked.at > fail.at && asked.what.starts_with("GET ")).await;
    daemon.end().await;
}
