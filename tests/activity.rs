//! Activity as it is measured: against pages over real loopback sockets, and through the whole daemon on a simulated account.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "activity/daemon.rs"]
mod daemon;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use daemon::Daemon;
use secrecy::SecretString;
use spheron_watch::{
    activity::{Kind, Message, Prober, ProberOptions, Reach, Source, sign},
    clock::Clock,
    model::{
        Access, ActivitySource, Deployment, DeploymentId, InstanceType, Matcher, Query, Reading, Status,
        TeamId, Time, Usd,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const DCGM: &str = include_str!("activity/dcgm.txt");
const UTIL: &str = "DCGM_FI_DEV_GPU_UTIL";

/// What a server does with each connection, once it has read a request's head.
#[derive(Clone)]
enum Conduct {
    Answer(String),
    /// A page of 64 MiB.
    Huge,
    /// A byte now and then.
    Drip,
}

/// Answers every request alike, and keeps what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, conduct.clone(), kept.clone()));
            }
        });
        Self { address, asked, task }
    }

    async fn page(status: &str, kind: &str, body: &str) -> Self {
        let length = body.len();
        Self::start(Conduct::Answer(format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )))
        .await
    }

    async fn text(body: &str) -> Self {
        Self::page("200 OK", "text/plain; version=0.0.4", body).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn source(&self) -> Source {
        let url = format!("http://{{ip}}:{}/metrics", self.address.port());
        source(Kind::Prometheus { url, metric: UTIL.to_owned(), busy_above: 5.0 })
    }
}

async fn serve(mut stream: TcpStream, conduct: Conduct, asked: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    asked.lock().unwrap().push(String::from_utf8(head).unwrap());
    // The client may hang up at any time; that is what some tests are about.
    let _ = match conduct {
        Conduct::Answer(text) => stream.write_all(text.as_bytes()).await,
        Conduct::Huge => huge(&mut stream).await,
        Conduct::Drip => drip(&mut stream).await,
    };
    let _ = stream.shutdown().await;
}

async fn huge(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n").await?;
    let line = format!("{UTIL}{{gpu=\"0\"}} 0\n").repeat(1_000);
    // Whole and idle, were it read to its end.
    for _ in 0..64 * 1024 * 1024 / line.len() {
        stream.write_all(line.as_bytes()).await?;
    }
    Ok(())
}

async fn drip(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n").await?;
    loop {
        stream.write_all(b"#").await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn source(kind: Kind) -> Source {
    let watch = ActivitySource {
        name: "gpu".into(),
        every: Duration::from_millis(200),
        matcher: Matcher::default(),
        only_busy: false,
        settings: "".into(),
    };
    Source { watch, kind, reach: Reach::Private }
}

fn deployment(ip: &str, gpu_count: u32) -> Deployment {
    Deployment {
        id: DeploymentId::new("68d000000000000000000001"),
        created_at: Time::EPOCH,
        name: "train-1".into(),
        team: TeamId::new("t1"),
        gpu_type: "H100".into(),
        gpu_count,
        provider: "spheron-ai".into(),
        region: "us-east-1".into(),
        instance_type: InstanceType::new("SPOT"),
        status: Status::Running,
        hourly_rate: Usd::from_cents(50),
        total_cost: Usd::ZERO,
        started_at: None,
        stopped_at: None,
        kubernetes: false,
        access: Access { ip: Some(ip.into()), ..Access::default() },
    }
}

fn prober(deadline: Duration) -> Prober {
    let options =
        ProberOptions { http_deadline: deadline, ..ProberOptions::new("/nonexistent/known_hosts".into()) };
    Prober::new(options, Clock::system()).unwrap()
}

/// `busy 3`, `idle 0`, or why it is unknown.
async fn said(source: &Source, deployment: &Deployment) -> String {
    let measured = prober(Duration::from_secs(10)).measure(source, deployment).await.unwrap();
    let permille = measured.utilization_permille.map_or("?".to_owned(), |permille| permille.to_string());
    match measured.reading {
        Reading::Busy => format!("busy {permille}"),
        Reading::Idle => format!("idle {permille}"),
        Reading::Unknown(why) => why.to_string(),
    }
}

#[tokio::test]
async fn of_several_gpus_on_a_real_page_the_busiest_counts() {
    let idle = Server::text(DCGM).await;
    assert_eq!(said(&idle.source(), &deployment("127.0.0.1", 4)).await, "idle 30");
    assert_eq!(said(&idle.source(), &deployment("127.0.0.1", 8)).await, "4 of 8 GPUs are not measured");
    let busy = Server::text(&DCGM.replace("pod=\"\"} 3\n", "pod=\"\"} 96\n")).await;
    assert_eq!(said(&busy.source(), &deployment("127.0.0.1", 4)).await, "busy 960");
    let ratio = Kind::Prometheus {
        url: format!("http://{{ip}}:{}/metrics", idle.address.port()),
        metric: "DCGM_FI_PROF_GR_ENGINE_ACTIVE".to_owned(),
        busy_above: 0.02,
    };
    assert_eq!(said(&source(ratio), &deployment("127.0.0.1", 4)).await, "busy 22");
}

#[tokio::test]
async fn fault_72_a_page_that_does_not_tell_is_unknown() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = Server { address: gone, asked: Arc::default(), task: tokio::spawn(async {}) };
    let nan = DCGM.lines().map(|line| {
        if line.starts_with(UTIL) { line.replace("pod=\"\"} 0", "pod=\"\"} NaN") } else { line.to_owned() }
    });
    let nan: Vec<String> = nan.collect();
    for (server, says) in [
        (
            Server::text(&DCGM.replace(UTIL, "DCGM_FI_DEV_OTHER")).await,
            "its page does not have DCGM_FI_DEV_GPU_UTIL",
        ),
        (Server::text("").await, "its page does not have DCGM_FI_DEV_GPU_UTIL"),
        (Server::text(&nan.join("\n")).await, "one of its values cannot be one"),
        (
            Server::page("200 OK", "text/html", "<html><h1>DCGM_FI_DEV_GPU_UTIL 0</h1></html>").await,
            "its page does not have DCGM_FI_DEV_GPU_UTIL",
        ),
        (Server::page("500 Internal Server Error", "text/plain", DCGM).await, "it answers 500"),
        (Server::page("204 No Content", "text/plain", "").await, "it answers 204"),
        (
            Server::start(Conduct::Answer(
                "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nDCGM_FI_DEV_GPU_UTIL 0".into(),
            ))
            .await,
            "the connection to it broke",
        ),
        (
            Server::start(Conduct::Answer("SSH-2.0-OpenSSH_9.2\r\n".into())).await,
            "the connection to it broke",
        ),
        (Server::start(Conduct::Huge).await, "its answer is larger than 4 MiB"),
        (gone, "no connection to it can be made"),
    ] {
        assert_eq!(said(&server.source(), &deployment("127.0.0.1", 4)).await, says);
    }
}

#[tokio::test]
async fn fault_15_a_page_that_drips_is_given_up_at_the_deadline() {
    let server = Server::start(Conduct::Drip).await;
    let measured =
        prober(Duration::from_millis(300)).measure(&server.source(), &deployment("127.0.0.1", 4)).await;
    assert_eq!(measured.unwrap().reading, Reading::Unknown("it did not answer within 0.3s".into()));
}

#[tokio::test]
async fn fault_26_a_redirect_is_not_followed_and_nothing_secret_is_sent() {
    let target = Server::text(DCGM).await;
    let to = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/metrics\r\nContent-Length: 0\r\n\r\n",
        target.address
    );
    let server = Server::start(Conduct::Answer(to)).await;
    assert_eq!(
        said(&server.source(), &deployment("127.0.0.1", 4)).await,
        "it answers 302, a redirect, which is not followed"
    );
    assert_eq!(target.asked(), [""; 0]);
    let asked = server.asked().join("").to_ascii_lowercase();
    assert!(asked.starts_with("get /metrics http/1.1\r\n"), "{asked}");
    assert!(!asked.contains("authorization") && !asked.contains("cookie"), "{asked}");
}

#[tokio::test]
async fn fault_78_an_address_of_our_own_is_not_even_connected_to_without_permission() {
    let server = Server::text(DCGM).await;
    for (reach, ips) in [
        (Reach::Public, &["127.0.0.1", "::ffff:127.0.0.1", "localhost", "127.0.0.1/x?"][..]),
        (Reach::Private, &["localhost", "127.0.0.1/x?", "0.0.0.0", "169.254.169.254"]),
    ] {
        let source = Source { reach, ..server.source() };
        for ip in ips {
            let said = said(&source, &deployment(ip, 4)).await;
            assert!(said.ends_with("not asked"), "{ip}: {said}");
        }
    }
    assert_eq!(server.asked(), [""; 0]);
    let permitted = Source { reach: Reach::Private, ..server.source() };
    said(&permitted, &deployment("::ffff:127.0.0.1", 4)).await;
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_query_names_the_deployment_and_an_empty_result_is_unknown() {
    let found = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"3"]},{"metric":{},"value":[1,"61"]}]}}"#;
    let nothing = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    for (body, says) in [(found, "busy ?"), (nothing, "the query finds nothing for this deployment")] {
        let server = Server::page("200 OK", "application/json", body).await;
        let query = Query::parse(r#"max(util{id="{id}",name="{name}",i=~"{ip}:.*"})"#).unwrap();
        let url = format!("http://{}/prom", server.address);
        let source = source(Kind::Promql { url, query, busy_above: 5.0 });
        let strange = Deployment { name: "a\"} or up{b=\"".into(), ..deployment("203.0.113.7", 1) };
        assert_eq!(said(&source, &strange).await, says);
        let asked = server.asked().join("");
        let (path, _) = asked.split_once(" HTTP").unwrap();
        let (path, query) = path.split_once("?query=").unwrap();
        assert_eq!(path, "GET /prom/api/v1/query");
        let query: String = reqwest::Url::parse(&format!("http://x/?q={query}"))
            .unwrap()
            .query_pairs()
            .map(|(_, v)| v.into_owned())
            .collect();
        assert_eq!(
            query,
            r#"max(util{id="68d000000000000000000001",name="a\u0022} or up{b=\u0022",i=~"203\\.0\\.113\\.7:.*"})"#
        );
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_daemon_measures_what_runs_and_no_address_reaches_its_files() {
    let page = Server::text(DCGM).await;
    let mut daemon = Daemon::start(vec![page.source()]).await;
    let first = daemon.until(|said| said.get("gpu").is_some_and(|gpu| gpu.idle_since.is_some())).await;
    let since = first["gpu"].idle_since;
    let later = daemon.until(|said| said.get("gpu").is_some_and(|gpu| gpu.last > first["gpu"].last)).await;
    assert_eq!(later["gpu"].reading, Reading::Idle);
    assert_eq!(later["gpu"].utilization_permille, Some(30));
    // Polls of 200 ms on a loaded machine may leave a gap; then the window began anew, and never earlier.
    assert!(later["gpu"].idle_since >= since);
    let (_, metrics) = get(daemon.http, "/metrics").await;
    assert!(metrics.contains(",deployment_id=\"d1\"} 0.03\n"), "{metrics}");
    let files = daemon.end().await;
    assert!(holds(&files, "train-1"), "the files were not read");
    assert!(!holds(&files, "127.0.0.1"), "an address is in the database");
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

async fn post(
    address: SocketAddr,
    deployment: &str,
    timestamp: i64,
    signature: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /heartbeat/{deployment} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Heartbeat-Timestamp: {timestamp}\r\n\
         X-Heartbeat-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

const SECRET: &str = "0f6de8a3c711b41c7d25e8025c90b7e4";

fn signature(deployment: &str, timestamp: i64, body: &str) -> String {
    let message =
        Message { deployment, timestamp: &timestamp.to_string(), signature: "", body: body.as_bytes() };
    sign(&SecretString::from(SECRET), &message).unwrap()
}

#[tokio::test]
async fn a_signed_heartbeat_counts_once_and_one_that_stays_away_is_unknown() {
    let kind = Kind::Heartbeat { secret: SecretString::from(SECRET), busy_above: 5.0 };
    let mut beats = source(kind);
    beats.watch.every = Duration::from_secs(1);
    let mut daemon = Daemon::start(vec![beats]).await;
    let silent = daemon
        .until(|said| matches!(said.get("gpu").map(|gpu| &gpu.reading), Some(Reading::Unknown(why)) if why.starts_with("no heartbeat since")))
        .await;
    assert_eq!(silent["gpu"].idle_since, None);

    let body = r#"{"utilization": 1.5}"#;
    let now = Clock::system().now().secs() + 2;
    let signed = signature("train-1", now, body);
    for (deployment, timestamp, signature, body, status) in [
        ("train-1", now, "0".repeat(64), body, 401),
        ("train-1", now, "no signature".to_owned(), body, 401),
        ("train-1", now + 1, signed.clone(), body, 401),
        ("train-1", now, signed.clone(), r#"{"busy": true}"#, 401),
        ("d1", now, signed.clone(), body, 401),
        ("train-1", now - 400, signature("train-1", now - 400, body), body, 401),
        ("train-1", now + 400, signature("train-1", now + 400, body), body, 401),
        ("train-1", now - 100, signature("train-1", now - 100, body), body, 409),
        ("train-2", now, signature("train-2", now, body), body, 404),
        ("train-1", now, signature("train-1", now, "{}"), "{}", 400),
        ("train-1", now, signature("train-1", now, &" ".repeat(2_000)), &" ".repeat(2_000), 413),
    ] {
        let (answered, text) = post(daemon.http, deployment, timestamp, &signature, body).await;
        assert_eq!(answered, status, "{deployment} {timestamp} {body:.40}: {text}");
    }
    assert_eq!(post(daemon.http, "train-1", now, &signed, body).await.0, 204);
    assert_eq!(post(daemon.http, "train-1", now, &signed, body).await.0, 409, "the same again");
    let beat = daemon.until(|said| said["gpu"].utilization_permille.is_some()).await;
    assert_eq!((&beat["gpu"].reading, beat["gpu"].utilization_permille), (&Reading::Idle, Some(15)));
    let by_id = signature("d1", now + 1, r#"{"busy": true}"#);
    assert_eq!(post(daemon.http, "d1", now + 1, &by_id, r#"{"busy": true}"#).await.0, 204);
    daemon.until(|said| said["gpu"].reading == Reading::Busy).await;
    daemon.until(|said| matches!(said["gpu"].reading, Reading::Unknown(_))).await;

    assert_eq!(get(daemon.http, "/heartbeat/d1").await.0, 405);
    daemon.end().await;
}
