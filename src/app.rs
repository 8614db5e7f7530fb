//! The only wiring: settings → parts → the running daemon, and their teardown in reverse.
//!
//! It must never decide what the parts do; it constructs them, hands them to each other, and ends them in order.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::{Prober, ProberOptions, Source},
    clock::Clock,
    config::{self, Env, Settings},
    drive::{Activity, Cadence, Control, Deliver, Heart, Live, LiveError, Outward, Questions, Reload, live},
    engine::{Engine, Money},
    model::{Glob, Grouping, Links, Policies, Rule, View},
    serve::{self, KeepLinks, Keeper, SelfMetrics, ServeError, ServeOptions, SocketError, api::Orders},
    signals,
    spheron::{Client, HttpOptions, HttpTransport},
    store::{OpenError, Options as StoreOptions, Recovered, Store},
};

mod keep_key;
mod parts;
mod records;
mod servers;
mod supervisor;

pub use keep_key::links as keep_links;
pub use parts::{
    activity_sources, cadence, find_key, outward, policies, prober_options, receivers, transport_options,
    whole_policies,
};
pub use records::Archive;
pub use supervisor::{Supervisor, status_line};

use servers::{Servers, Switchboard};

/// Everything a daemon is made of, as the configuration or the demo give it.
pub struct Wiring {
    pub clock: Clock,
    pub api: HttpOptions,
    pub calls_per_15m: Option<u32>,
    /// Open already: a second daemon on the same state has to hear that, not that the address is taken.
    pub store: Store,
    pub recovered: Recovered,
    pub rules: Vec<Rule>,
    pub watched: Vec<Glob>,
    pub grouping: Grouping,
    pub cadence: Cadence,
    pub receivers: Vec<Arc<dyn Deliver>>,
    pub outward: Outward,
    /// `None`: notices have no links, and nobody answers one.
    pub keep_links: Option<Arc<KeepLinks>>,
    pub sources: Vec<Source>,
    /// Their own sources are left out: those above hold.
    pub policies: Policies,
    pub prober: ProberOptions,
    /// `None` serves no TCP.
    pub listener: Option<TcpListener>,
    /// `None` serves no socket.
    pub socket: Option<PathBuf>,
    pub serve: ServeOptions,
    pub heart: Arc<dyn Heart>,
    pub metrics: Arc<SelfMetrics>,
    pub control: mpsc::Receiver<Control>,
    /// The other end of `control`.
    pub orders: mpsc::Sender<Control>,
}

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A restart cannot mend it: exit code 78.
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("cannot listen on {address}: {source}; change `[serve] listen`, or end what listens there")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot handle signals: {0}")]
    Signals(std::io::Error),
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the HTTP server ended: {0}")]
    Serve(#[from] ServeError),
    #[error("{0} panicked; restart, and report what the log says")]
    Panicked(&'static str),
    #[error(transparent)]
    Live(#[from] LiveError),
}

impl AppError {
    /// Whether a restart is of no use until somebody changes something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Config(_) => true,
            Self::Open(error) => error.is_permanent(),
            Self::Listen { .. }
            | Self::Socket(_)
            | Self::Signals(_)
            | Self::Metrics(_)
            | Self::Serve(_)
            | Self::Panicked(_)
            | Self::Live(_) => false,
        }
    }
}

/// The daemon as the configuration says, until a signal ends it.
pub async fn daemon(config: Option<&Path>, env: &Env) -> Result<(), AppError> {
    let clock = Clock::system();
    let settings = load(config, env)?;
    let api_key = find_key(&settings, env)?;
    let receivers = receivers(&settings, env, &clock)?;
    let outward = outward(&settings, env)?;
    let sources = activity_sources(&settings, env)?;
    let hosts = hosts(&settings)?;
    make_state_folder(&settings.store.path, env)?;
    let options = StoreOptions { keep_raw: settings.store.keep_raw, ..StoreOptions::default() };
    let (store, recovered) = Store::open_with(&settings.store.path, &options)?;
    let keep_links = keep_links(&settings)?;
    let listener = listen(&settings).await?;
    let signals = signals::listen().map_err(AppError::Signals)?;
    let stop = CancellationToken::new();
    let (orders, control) = mpsc::channel(1);
    let metrics = Arc::new(SelfMetrics::new()?);
    declare(&metrics, &settings.rules, &receivers);
    let reload = {
        let (config, env, clock) = (config.map(Path::to_owned), env.clone(), clock.clone());
        let metrics = metrics.clone();
        let started = settings.clone();
        move || {
            let reload = reload(config.as_deref(), &env, &clock, &started)?;
            declare(&metrics, &reload.rules, &reload.receivers);
            Ok(reload)
        }
    };
    let obeying =
        tokio::spawn(supervisor::obey_signals(signals, orders.clone(), reload, clock.clone(), stop.clone()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = settings.source.as_deref().map_or("none: defaults".into(), Path::to_string_lossy).as_ref(),
        store = %settings.store.path.display(),
        listen = settings.serve.listen.map_or("off".to_owned(), |address| address.to_string()),
        socket = settings.serve.socket.as_deref().map_or("off".into(), Path::to_string_lossy).as_ref(),
        receivers = receivers.len(),
        "started"
    );
    let wiring = Wiring {
        policies: policies(&settings),
        api: transport_options(&settings, api_key, clock.clone()),
        calls_per_15m: settings.collect.calls_per_15m,
        store,
        recovered,
        cadence: cadence(&settings),
        rules: settings.rules,
        watched: settings.account.teams,
        grouping: settings.grouping,
        receivers,
        outward,
        keep_links,
        sources,
        prober: prober_options(&settings.store.path),
        listener,
        socket: settings.serve.socket,
        serve: served(hosts, &settings.store.path, &clock),
        heart: Arc::new(Supervisor::new(clock.clone())),
        metrics,
        clock,
        control,
        orders,
    };
    let result = run(wiring, stop).await;
    obeying.abort();
    if obeying.await.is_err_and(|ended| ended.is_panic()) {
        return Err(AppError::Panicked("a reload"));
    }
    result.inspect(|()| tracing::info!("stopped"))
}

/// As the configuration and the database have it; [`run`] adds who answers from within the loop.
fn served(hosts: Vec<String>, store: &Path, clock: &Clock) -> ServeOptions {
    let records = Archive::new(store.to_owned(), clock.clone());
    ServeOptions { hosts, records: Some(Arc::new(records)), ..ServeOptions::default() }
}

/// Those that are listed, and that of the address under which people reach it.
fn hosts(settings: &Settings) -> Result<Vec<String>, AppError> {
    let external = settings.serve.external_url.as_deref().and_then(|url| url.parse::<http::Uri>().ok());
    let external = external.and_then(|uri| uri.host().map(str::to_owned));
    let hosts: Vec<String> = settings.serve.hosts.iter().cloned().chain(external).collect();
    serve::check_hosts(&hosts).map_err(|error| AppError::Config(error.to_string()))?;
    Ok(hosts)
}

fn load(config: Option<&Path>, env: &Env) -> Result<Settings, AppError> {
    config::load(config, env).map_err(|errors| AppError::Config(errors.to_string()))
}

/// Everything that can fail happens here, before anything is swapped.
fn reload(config: Option<&Path>, env: &Env, clock: &Clock, started: &Settings) -> Result<Reload, String> {
    let settings = load(config, env).map_err(|error| error.to_string())?;
    let receivers = receivers(&settings, env, clock).map_err(|error| error.to_string())?;
    let outward = outward(&settings, env).map_err(|error| error.to_string())?;
    let sources = activity_sources(&settings, env).map_err(|error| error.to_string())?;
    let waiting = settings.needs_restart_after(started);
    if !waiting.is_empty() {
        tracing::warn!("these changes need a restart to take effect: {}", waiting.join(", "));
    }
    Ok(Reload {
        policies: policies(&settings),
        cadence: cadence(&settings),
        receivers,
        outward,
        sources,
        rules: settings.rules,
        watched: settings.account.teams,
        grouping: settings.grouping,
    })
}

/// A home may lack `.local/state`; anywhere else a folder that is missing is a mistake, and the store says so.
fn make_state_folder(store: &Path, env: &Env) -> Result<(), AppError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let (Some(folder), Some(home)) = (store.parent(), env.home.as_deref()) else { return Ok(()) };
    if !folder.starts_with(home) {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| AppError::Config(format!("cannot create {}: {error}", folder.display())))
}

/// Series of what may fire or be told exist at zero from the start.
pub fn declare(metrics: &SelfMetrics, rules: &[Rule], receivers: &[Arc<dyn Deliver>]) {
    metrics.declare(
        rules.iter().map(|rule| (rule.name.clone(), rule.severity)),
        receivers.iter().map(|receiver| receiver.name().clone()),
    );
}

async fn listen(settings: &Settings) -> Result<Option<TcpListener>, AppError> {
    let Some(address) = settings.serve.listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).map_err(|source| AppError::Listen { address, source })
}

/// Runs until `stop`. Teardown, last in first out: the loop with its pumps, the HTTP server, the store.
pub async fn run(wiring: Wiring, stop: CancellationToken) -> Result<(), AppError> {
    let api = HttpTransport::new(wiring.api).map_err(|error| AppError::Config(error.to_string()))?;
    let metrics = wiring.metrics;
    let (store, recovered) = (wiring.store, wiring.recovered);
    let (views, watchers) = watch::channel(Arc::new(View::default()));
    let clock = wiring.clock;
    let prober =
        Prober::new(wiring.prober, clock.clone()).map_err(|error| AppError::Config(error.to_string()))?;
    let (activity, heartbeats) = Activity::new(wiring.sources, prober, clock.clone(), watchers.clone());
    let (reasons, questions) = Questions::channel();
    let mut servers = Servers::new(stop.clone());
    let options = ServeOptions { reasons: Some(Arc::new(reasons)), ..wiring.serve };
    let orders: Arc<dyn Orders> = Arc::new(Switchboard(wiring.orders));
    if let Some(path) = wiring.socket {
        let options = ServeOptions { orders: Some(orders.clone()), ..options.clone() };
        if let Err(error) = servers.add_socket(&path, options, watchers.clone(), clock.clone()) {
            store.close().await;
            return Err(error);
        }
    }
    if let Some(listener) = wiring.listener {
        let keeper = wiring.keep_links.clone().map(|links| Keeper { links, orders: orders.clone() });
        let options = ServeOptions { heartbeat: Some(heartbeats), keeper, ..options };
        let stop = servers.stop();
        servers.add(serve::serve(listener, options, watchers, metrics.clone(), clock.clone(), stop));
    }
    let mut engine = Engine::new(
        wiring.rules,
        wiring.watched,
        Money::new(wiring.cadence.zone.clone(), recovered.books),
        recovered.alerts,
    )
    .resume(recovered.groups, recovered.polls)
    .with_policies(wiring.policies, recovered.actions);
    engine.regroup(wiring.grouping);
    let live = Live {
        client: Arc::new(Client::new(api, wiring.calls_per_15m, metrics.clone())),
        store: store.clone(),
        engine,
        snapshot: recovered.snapshot,
        activity,
        receivers: wiring.receivers,
        outward: wiring.outward,
        links: wiring.keep_links.map(|links| links as Arc<dyn Links>),
        cadence: wiring.cadence,
        clock,
        meter: metrics,
        views,
        control: wiring.control,
        questions,
        heart: wiring.heart,
    };
    let lived = live::run(live, stop).await;
    let served = servers.end().await;
    store.close().await;
    lived?;
    served
}
