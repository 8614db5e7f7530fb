use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    activity::{ProberOptions, Reach},
    model::{
        Access, Deployment, Glob, InstanceType, MatchKey, Matcher, Presence, Reading, Snapshot, Status,
        TeamId, Usd,
    },
};

fn tracked(n: usize, status: Status) -> Tracked {
    let deployment = Deployment {
        id: DeploymentId::new(format!("d{n:02}")),
        created_at: Time::EPOCH,
        name: format!("box-{n:02}").into(),
        team: TeamId::new("t1"),
        gpu_type: "H100".into(),
        gpu_count: 1,
        provider: "spheron-ai".into(),
        region: "us-east-1".into(),
        instance_type: InstanceType::new("SPOT"),
        status,
        hourly_rate: Usd::ZERO,
        total_cost: Usd::ZERO,
        started_at: None,
        stopped_at: None,
        kubernetes: false,
        access: Access { ip: Some("127.0.0.1".into()), ..Access::default() },
    };
    Tracked {
        deployment,
        first_seen: Time::EPOCH,
        presence: Presence::Listed,
        status_since: Time::EPOCH,
        status_before: None,
        rate_before: None,
        unreadable_since: None,
    }
}

fn view(fleet: impl IntoIterator<Item = Tracked>) -> Arc<View> {
    let deployments = fleet.into_iter().map(|t| (t.deployment.id.clone(), Arc::new(t))).collect();
    Arc::new(View { snapshot: Arc::new(Snapshot { deployments, ..Snapshot::default() }), ..View::default() })
}

fn source(name: &str, port: u16, only: &str) -> Source {
    let globs = [(MatchKey::Name, vec![Glob::new(only)])].into();
    let watch = ActivitySource {
        name: name.into(),
        every: Duration::from_millis(300),
        matcher: Matcher { globs },
        only_busy: false,
        settings: only.into(),
    };
    let kind = Kind::Prometheus {
        url: format!("http://{{ip}}:{port}/metrics"),
        metric: "DCGM_FI_DEV_GPU_UTIL".to_owned(),
        busy_above: 5.0,
    };
    Source { watch, kind, reach: Reach::Private }
}

/// An exporter that takes its time, and counts how many ask at once.
async fn exporter(most: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let now = Arc::new(AtomicUsize::new(0));
        while let Ok((mut stream, _)) = listener.accept().await {
            let (now, most) = (now.clone(), most.clone());
            tokio::spawn(async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 1_024]).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                let page = "DCGM_FI_DEV_GPU_UTIL 0\n";
                let head =
                    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", page.len());
                let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
            });
        }
    });
    port
}

struct Rig {
    views: watch::Sender<Arc<View>>,
    sources: watch::Sender<Arc<Vec<Source>>>,
    samples: mpsc::Receiver<Batch>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn start(sources: Vec<Source>, fleet: Arc<View>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (views, receiver) = watch::channel(fleet);
        let clock = Clock::system();
        let prober =
            Prober::new(ProberOptions::new("/nonexistent/known_hosts".into()), clock.clone()).unwrap();
        let (activity, _) = Activity::new(sources, prober, clock, receiver);
        let (asker, sources, samples) = activity.split();
        let stop = CancellationToken::new();
        let task = tokio::spawn(asker.run(stop.clone()));
        Self { views, sources, samples, stop, task }
    }

    /// Who has been heard of, once `enough` says so.
    async fn heard(&mut self, enough: impl Fn(&BTreeSet<(Arc<str>, DeploymentId)>) -> bool) -> usize {
        let mut heard = BTreeSet::new();
        let mut batches = 0;
        while !enough(&heard) {
            let batch = tokio::time::timeout(Duration::from_secs(30), self.samples.recv()).await;
            let batch = batch.expect("nothing more is said").unwrap();
            batches += 1;
            for sample in batch {
                assert_eq!(sample.reading, Reading::Idle);
                heard.insert((sample.source, sample.deployment));
            }
        }
        batches
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn fault_85_a_fleet_is_asked_a_few_at_a_time_and_heard_in_batches() {
    let most = Arc::new(AtomicUsize::new(0));
    let port = exporter(most.clone()).await;
    let stopped = tracked(99, Status::Stopped);
    let fleet = (0..40).map(|n| tracked(n, Status::Running)).chain([stopped]);
    let mut rig = Rig::start(vec![source("gpu", port, "*")], view(fleet));
    let batches = rig.heard(|heard| heard.len() == 40).await;
    assert!(most.load(Ordering::SeqCst) <= AT_ONCE, "{most:?} at once");
    assert!(batches <= 10, "{batches} batches for 40 samples: each is a commit");
    rig.end().await;
}

#[tokio::test]
async fn what_no_longer_runs_is_not_asked_any_more_and_new_sources_are() {
    let asked = Arc::new(AtomicUsize::new(0));
    let port = exporter(asked.clone()).await;
    let mut rig =
        Rig::start(vec![source("gpu", port, "box-00")], view((0..2).map(|n| tracked(n, Status::Running))));
    rig.heard(|heard| heard.len() == 1 && heard.iter().all(|(_, id)| id.as_str() == "d00")).await;

    rig.sources.send_replace(Arc::new(vec![source("other", port, "box-01")]));
    rig.heard(|heard| heard.iter().any(|(name, id)| (&**name, id.as_str()) == ("other", "d01"))).await;

    rig.sources.send_replace(Arc::new(vec![source("both", port, "box-0*")]));
    rig.heard(|heard| heard.iter().filter(|(name, _)| &**name == "both").count() == 2).await;
    rig.views.send_replace(view([tracked(0, Status::Running), tracked(1, Status::Stopped)]));
    let (mut stays, mut gone) = (0, 0);
    while stays < 24 {
        for sample in rig.samples.recv().await.unwrap() {
            if sample.deployment.as_str() == "d00" { stays += 1 } else { gone += 1 }
        }
    }
    // What was on its way still came: one batch, and what was gathered for the next.
    assert!(gone <= 12, "one that no longer runs was asked {gone} times, the other {stays} times");
    rig.end().await;
}
