//! `demo`: the real daemon on a simulated account, its mails and webhooks printed as a person wants to read them.
//!
//! It must never leave the machine: the API, the webhook's receiver and the metrics are on loopback, mails are printed.

mod person;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Collected, Empty, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    layout::{self, Paper},
    output::{self, Colors},
};
use person::POLICY;

use crate::{
    app::{self, Wiring},
    clock::Clock,
    config::{self, Env, Settings},
    drive::{Deliver, Heart, Outward},
    model::{Delivery, Ends, Notice, Time, View},
    notify::render,
    schedule::parse_length,
    serve::{SelfMetrics, ServeOptions},
    signals::{self, Signal},
    sim::{self, script},
    store::Store,
};

#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// How many simulated seconds pass in a real one
    #[arg(long, default_value_t = script::DEMO_SPEED, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    speed: u32,
    /// How long to run, in real time (`20s`, `2m`); until Ctrl-C without it
    #[arg(long = "for", value_name = "D", value_parser = length)]
    length: Option<Duration>,
    /// Where to serve /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

fn length(text: &str) -> Result<Duration, String> {
    parse_length(text).map_err(|error| error.to_string())
}

pub fn demo(args: &DemoArgs, colors: Colors) -> ExitCode {
    let result = super::runtime()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(show(args, colors)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::message(&format!("demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn show(args: &DemoArgs, colors: Colors) -> anyhow::Result<()> {
    let clock = Clock::scaled(args.speed);
    let start = clock.now();
    let stop = CancellationToken::new();
    let folder = Folder::new()?;
    let api = TcpListener::bind("127.0.0.1:0")
        .await
        .context("cannot bind a loopback port for the simulated API")?;
    let hook =
        TcpListener::bind("127.0.0.1:0").await.context("cannot bind a loopback port for the webhook")?;
    let http =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let settings = lab_settings(&folder.0, api.local_addr()?, hook.local_addr()?, http.local_addr()?)?;
    print_header(args, colors, http.local_addr()?);

    let world = Arc::new(Mutex::new(script::demo(start)));
    let api = tokio::spawn(sim::serve(world, clock.clone(), api, stop.clone()));
    let hook = tokio::spawn(receive_webhooks(hook, clock.clone(), start, colors, stop.clone()));
    end_in_time(args.length, stop.clone())?;

    let mut receivers = app::receivers(&settings, &Env::default(), &clock)?;
    for receiver in &mut receivers {
        if &**receiver.name() == MAIL {
            *receiver = Arc::new(Mailbox { name: MAIL.into(), clock: clock.clone(), start, colors });
        }
    }
    let (store, recovered) = Store::open(&settings.store.path)?;
    let (orders, control) = mpsc::channel(1);
    let metrics = Arc::new(SelfMetrics::new()?);
    app::declare(&metrics, &settings.rules, &receivers);
    let ends = Arc::new(Mutex::new(Ends::default()));
    let (policies, keep_links) = (app::policies(&settings), app::keep_links(&settings)?);
    let archive = app::Archive::new(settings.store.path.clone(), clock.clone());
    let wiring = Wiring {
        keep_links,
        clock: clock.clone(),
        api: app::transport_options(&settings, sim::KEY.to_owned().into(), clock.clone()),
        calls_per_15m: settings.collect.calls_per_15m,
        store,
        recovered,
        cadence: app::cadence(&settings),
        rules: settings.rules,
        watched: settings.account.teams,
        grouping: settings.grouping,
        receivers,
        outward: Outward::default(),
        sources: Vec::new(),
        policies,
        prober: app::prober_options(&settings.store.path),
        listener: Some(http),
        socket: settings.serve.socket,
        serve: ServeOptions { records: Some(Arc::new(archive)), ..ServeOptions::default() },
        heart: Arc::new(Hours { start, colors, told: AtomicI64::new(0), ends: ends.clone() }),
        metrics,
        control,
        orders,
    };
    let now = clock.clone();
    let says = move || stamp(now.now(), start, colors);
    let person = tokio::spawn(person::arm(folder.config(), Paper::detect(colors), says, stop.clone()));
    let ran = app::run(wiring, stop.clone()).await;
    stop.cancel();
    let _ = tokio::join!(api, hook, person);
    ran?;
    print_ends(&ends.lock().unwrap_or_else(PoisonError::into_inner));
    output::data(&colors.dim("The end. The same on your account: see \"Run it\" in README.md."));
    Ok(())
}

/// Mail goes to the terminal instead of a server.
const MAIL: &str = "lab-mail";

/// The lab's configuration, read by the same code as everybody's.
fn lab_settings(
    folder: &Path,
    api: SocketAddr,
    hook: SocketAddr,
    http: SocketAddr,
) -> anyhow::Result<Settings> {
    let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _};
        let path = folder.join(name);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    };
    let url = file("url", &format!("http://{hook}/hooks/chat"))?;
    let secret = file("secret", "whsec_ZGVtby1vbmx5LW5vLXNlY3JldC1hdC1hbGw=")?;
    let text = format!(
        r#"
[account]
base_url = "http://{api}"
[store]
path = {store:?}
[serve]
listen = "off"
socket = {socket:?}
external_url = "http://{http}"
[smtp]
smarthost = "127.0.0.1:25"
tls = "none"
from = "Spheron Watch <watch@lab.example>"
[[receiver]]
name = "{MAIL}"
email = {{ to = ["lab@lab.example"] }}
[[receiver]]
name = "chat"
webhook = {{ url_file = {url:?}, secret_file = {secret:?} }}
[notify]
receivers = ["{MAIL}"]
severity = {{ critical = ["{MAIL}", "chat"] }}
[[policy]]
name = "{POLICY}"
match = {{ name = ["dev-*"] }}
when = {{ running_for = "24h" }}
grace = "1h"
receivers = ["{MAIL}"]
"#,
        store = folder.join("demo.db"),
        socket = folder.join("control.sock"),
    );
    let path = file(CONFIG, &text)?;
    Ok(config::load(Some(&path), &Env::default())?)
}

/// A folder of its own under the system's temporary one, gone at the end.
struct Folder(PathBuf);

const CONFIG: &str = "config.toml";

impl Folder {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("spheron-watch-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Folder {
    fn config(&self) -> PathBuf {
        self.0.join(CONFIG)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            output::message(&format!("demo: {} is left behind: {error}", self.0.display()));
        }
    }
}

fn end_in_time(length: Option<Duration>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut signals = signals::listen().context("cannot handle signals")?;
    tokio::spawn(async move {
        let end = async {
            match length {
                Some(length) => tokio::time::sleep(length).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                signal = signals.recv() => match signal {
                    Some(Signal::Reload | Signal::Summary) => {}
                    Some(Signal::Stop) | None => break,
                },
            }
        }
        stop.cancel();
    });
    Ok(())
}

fn print_header(args: &DemoArgs, colors: Colors, http: SocketAddr) {
    output::data(&colors.bold("spheron-watch demo"));
    output::data(&format!(
        "The real daemon on a simulated Spheron account, {} times as fast as life: a minute here is {} there.\n\
         Nothing leaves this machine. Metrics: http://{http}/metrics{}\n",
        args.speed,
        crate::model::humanize(Duration::from_secs(60) * args.speed),
        if args.length.is_some() { "" } else { "   End: Ctrl-C" },
    ));
}

fn print_ends(ends: &Ends) {
    if ends.count > 0 {
        let (count, saved) = (layout::count(ends.count, "instance"), ends.saved);
        output::data(&format!(
            "Policy {POLICY} ended {count} that nobody needed, and saved {saved} since: docs/policies.md says how that is counted."
        ));
    }
}

/// Prints mails instead of sending them.
struct Mailbox {
    name: Arc<str>,
    clock: Clock,
    start: Time,
    colors: Colors,
}

impl Deliver for Mailbox {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn deliver<'a>(&'a self, notice: &'a Notice) -> Pin<Box<dyn Future<Output = Delivery> + Send + 'a>> {
        let heading = format!("✉  mail to lab@lab.example — {}", render::subject(notice));
        let text = render::terminal(notice, self.colors.0);
        output::data(&format!(
            "{} {}\n{text}",
            stamp(self.clock.now(), self.start, self.colors),
            self.colors.bold(&heading)
        ));
        Box::pin(std::future::ready(Delivery::Delivered { detail: "printed".into() }))
    }
}

/// The other end of the webhook: a real HTTP server that shows what it was sent.
async fn receive_webhooks(
    listener: TcpListener,
    clock: Clock,
    start: Time,
    colors: Colors,
    stop: CancellationToken,
) {
    let show = move |headers: &HeaderMap, body: &[u8]| {
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text =
            |pointer: &str| body.pointer(pointer).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
        let heading = format!("⇢  webhook POST /hooks/chat — {}: {}", text("/type"), text("/data/title"));
        let signed = header("webhook-signature");
        let detail = format!("webhook-id: {}   webhook-signature: {signed:.24}…", header("webhook-id"));
        output::data(&format!(
            "{} {}\n{}\n",
            stamp(clock.now(), start, colors),
            colors.bold(&heading),
            colors.dim(&format!("           {detail}"))
        ));
    };
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => break,
            },
        };
        let show = show.clone();
        connections.spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let show = show.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = Limited::new(body, 64 * 1024)
                        .collect()
                        .await
                        .map(Collected::to_bytes)
                        .unwrap_or_default();
                    show(&head.headers, &body);
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                }
            });
            // The sender says what came of it.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
    connections.shutdown().await;
}

/// A quiet line for every simulated hour.
struct Hours {
    start: Time,
    colors: Colors,
    told: AtomicI64,
    /// What the policy has ended so far, for the report at the end.
    ends: Arc<Mutex<Ends>>,
}

impl Heart for Hours {
    fn ready(&self) {}

    fn beat(&self, view: &View) {
        if let Some(tally) = view.tallies.get(POLICY) {
            *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = tally.ends;
        }
        let hour = i64::try_from(view.at.since(self.start).as_secs() / 3_600).unwrap_or(0);
        if view.snapshot.fleet_known() && self.told.fetch_max(hour + 1, Ordering::Relaxed) <= hour {
            let line = format!("·  {}", app::status_line(view));
            output::data(&format!(
                "{} {}\n",
                stamp(view.at, self.start, self.colors),
                self.colors.dim(&line)
            ));
        }
    }
}

/// Simulated time since the demo began.
fn stamp(now: Time, start: Time, colors: Colors) -> String {
    let minutes = now.since(start).as_secs() / 60;
    colors.dim(&format!("[{:>2}:{:02} h]", minutes / 60, minutes % 60))
}
