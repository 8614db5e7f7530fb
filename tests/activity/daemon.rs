//! The whole daemon on a simulated account with one deployment, `d1`, named `train-1`, with four GPUs, at 127.0.0.1.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::SecretString;
use spheron_watch::{
    activity::Source,
    app::{self, Wiring},
    clock::Clock,
    config::{self, Env},
    drive::Heart,
    model::{DeploymentId, SourceActivity, Usd, View},
    serve::{SelfMetrics, ServeOptions},
    sim::{self, Spec, World},
    store::Store,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

/// Shows every view that was committed.
struct Views(watch::Sender<Arc<View>>);

impl Heart for Views {
    fn ready(&self) {}
    fn beat(&self, view: &View) {
        self.0.send_replace(Arc::new(view.clone()));
    }
}

/// The whole daemon on a simulated account.
pub struct Daemon {
    views: watch::Receiver<Arc<View>>,
    pub http: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl Daemon {
    pub async fn start(sources: Vec<Source>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::system();
        let mut world = World::new(7, clock.now());
        let team = world.add_team("lab", "owner", Usd::from_cents(100_000));
        let spec = Spec::new(&team, "train-1").gpu("H100", 4).at("127.0.0.1");
        world.deploy(clock.now(), Spec { id: Some(DeploymentId::new("d1")), ..spec });
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (api_address, http) = (api.local_addr().unwrap(), listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let account = sim::serve(Arc::new(Mutex::new(world)), clock.clone(), api, stop.clone());
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[account]\nbase_url = \"http://{api_address}\"\n[store]\npath = {:?}\n",
            folder.path().join("test.db")
        );
        let settings = config::parse("test".as_ref(), &text, &Env::default()).unwrap();
        let (store, recovered) = Store::open(&settings.store.path).unwrap();
        let (orders, control) = mpsc::channel(1);
        let (beats, views) = watch::channel(Arc::default());
        let wiring = Wiring {
            keep_links: None,
            policies: Default::default(),
            api: app::transport_options(&settings, SecretString::from(sim::KEY), clock.clone()),
            calls_per_15m: None,
            store,
            recovered,
            cadence: app::cadence(&settings),
            receivers: app::receivers(&settings, &Env::default(), &clock).unwrap(),
            rules: settings.rules,
            watched: settings.account.teams,
            grouping: settings.grouping,
            outward: Default::default(),
            sources,
            prober: app::prober_options(&settings.store.path),
            listener: Some(listener),
            socket: None,
            serve: ServeOptions::default(),
            heart: Arc::new(Views(beats)),
            metrics: Arc::new(SelfMetrics::new().unwrap()),
            clock,
            control,
            orders,
        };
        let ended = stop.clone();
        let daemon = tokio::spawn(async move { app::run(wiring, ended).await.unwrap() });
        Self { views, http, stop, tasks: vec![tokio::spawn(account), daemon], folder }
    }

    /// What is said of the one deployment, once it is as wanted.
    pub async fn until(
        &mut self,
        wanted: impl Fn(&BTreeMap<Arc<str>, SourceActivity>) -> bool,
    ) -> BTreeMap<Arc<str>, SourceActivity> {
        let of = |view: &Arc<View>| view.snapshot.activity.values().next().cloned().unwrap_or_default();
        let found = self.views.wait_for(|view| wanted(&of(view)));
        let found = tokio::time::timeout(Duration::from_secs(30), found).await.expect("never came to be");
        of(&found.unwrap())
    }

    /// Every byte that it left in its folder.
    pub async fn end(self) -> Vec<u8> {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default()).collect()
    }
}
