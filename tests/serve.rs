//! The HTTP server as its clients meet it: over real loopback sockets, one request typed by hand at a time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod fleet;
mod fleet_series;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use spheron_watch::{
    clock::Clock,
    model::{Feed, FeedHealth, Meter as _, Severity, Snapshot, Time, View},
    serve::{SelfMetrics, ServeError, ServeOptions, serve},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Long enough never to be the reason that a test passes.
const LONG: Duration = Duration::from_secs(60);
const START: Time = Time::from_secs(1_790_000_000);

struct Server {
    address: SocketAddr,
    views: watch::Sender<Arc<View>>,
    metrics: Arc<SelfMetrics>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start(options: ServeOptions, view: View) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (views, receiver) = watch::channel(Arc::new(view));
        let (metrics, stop) = (Arc::new(SelfMetrics::new().unwrap()), CancellationToken::new());
        let task = tokio::spawn(serve(
            listener,
            options,
            receiver,
            Arc::clone(&metrics),
            Clock::system(),
            stop.clone(),
        ));
        Self { address, views, metrics, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request that asks for the connection to be closed, and reads all that comes.
    async fn send(&self, request_line: &str, headers: &str) -> Answer {
        let mut stream = self.connect().await;
        let request = format!("{request_line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "Host: localhost\r\n").await
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

async fn read(stream: &mut TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    answer(&text)
}

fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head[9..12].parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[tokio::test]
async fn the_whole_page_of_a_small_account() {
    let server = Server::start(ServeOptions::default(), View::default()).await;
    server.views.send_replace(Arc::new(fleet::small(START, Clock::system().now())));
    let rules = [("low-balance", Severity::Critical), ("blind", Severity::Critical)];
    server
        .metrics
        .declare(rules.map(|(rule, severity)| (rule.into(), severity)), ["ops".into(), "log".into()]);
    server.metrics.api_call("/api/balance", "GET", "200", Duration::from_millis(80));
    server.metrics.api_call("/api/balance", "GET", "error", Duration::from_secs(20));
    server.metrics.rate_limit(100, 93, Some(START));
    server.metrics.notification("ops", true);
    server.metrics.notification("ops", false);
    server.metrics.poll(Feed::Balance, true, Duration::from_millis(90), START);
    let page = server.get("/metrics").await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    insta::with_settings!({filters => vec![(r#"version="\d+\.\d+\.\d+""#, r#"version="[version]""#)]}, {
        insta::assert_snapshot!(page.body);
    });
    server.end().await;
}

/// What others build on: PRODUCT §9, and the interval of each feed.
const CONTRACT: [&str; 43] = [
    "spheron_up",
    "spheron_balance_usd",
    "spheron_balance_depletion_timestamp_seconds",
    "spheron_team_info",
    "spheron_burn_rate_usd_per_hour",
    "spheron_cost_usd_total",
    "spheron_balance_topups_usd_total",
    "spheron_balance_unexplained_usd_total",
    "spheron_deployment_info",
    "spheron_deployment_status",
    "spheron_deployment_price_usd_per_hour",
    "spheron_deployment_cost_usd",
    "spheron_deployment_start_time_seconds",
    "spheron_deployment_gpus",
    "spheron_deployment_gpu_utilization_ratio",
    "spheron_deployments",
    "spheron_volume_price_usd_per_hour",
    "spheron_volume_size_bytes",
    "spheron_volume_used_bytes",
    "spheron_volume_attached",
    "spheron_budget_limit_usd",
    "spheron_budget_spent_ratio",
    "spheron_watch_build_info",
    "spheron_watch_collector_duration_seconds",
    "spheron_watch_collector_success",
    "spheron_watch_collector_last_success_timestamp_seconds",
    "spheron_watch_api_requests_total",
    "spheron_watch_api_request_duration_seconds",
    "spheron_watch_api_rate_limit_limit",
    "spheron_watch_api_rate_limit_remaining",
    "spheron_watch_api_rate_limit_reset_timestamp_seconds",
    "spheron_watch_alerts_firing",
    "spheron_watch_outbox_messages",
    "spheron_watch_outbox_oldest_message_timestamp_seconds",
    "spheron_watch_notifications_total",
    "spheron_watch_notifications_failed_total",
    "spheron_watch_policy_decisions_total",
    "spheron_watch_policies_armed",
    "spheron_watch_terminations_total",
    "spheron_watch_saved_usd_total",
    "spheron_watch_config_last_reload_successful",
    "spheron_watch_database_size_bytes",
    "spheron_watch_feed_interval_seconds",
];

/// What the help of a metric says of its unit, by how its name ends.
fn unit(name: &str) -> &'static [&'static str] {
    let ends: [(&str, &[&str]); 8] = [
        ("_usd_per_hour", &["US dollars per hour"]),
        ("_usd", &["US dollars"]),
        ("_usd_total", &["US dollars"]),
        ("_timestamp_seconds", &["seconds since 1970"]),
        ("_seconds", &["seconds"]),
        ("_bytes", &["bytes"]),
        ("_ratio", &["ratio", "0 to 1"]),
        ("_info", &["Always 1"]),
    ];
    let counts: &[&str] = &["Number of", "Calls", "1 if", "1 for"];
    ends.into_iter().find(|(end, _)| name.ends_with(end)).map_or(counts, |(_, words)| words)
}

#[tokio::test]
async fn every_metric_of_the_contract_is_served_once_and_its_help_says_its_unit() {
    let server = Server::start(ServeOptions::default(), View::default()).await;
    server.metrics.api_call("/api/balance", "GET", "200", Duration::from_millis(80));
    server.metrics.rate_limit(100, 93, Some(START));
    server.metrics.notification("ops", true);
    server.metrics.poll(Feed::Balance, true, Duration::from_millis(90), START);
    let page = server.get("/metrics").await.body;
    server.end().await;
    let helps: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    for name in CONTRACT {
        let said: Vec<&str> = helps.iter().filter(|(of, _)| *of == name).map(|(_, help)| *help).collect();
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(unit(name).iter().any(|word| said[0].contains(word)), "{name} says no unit: {}", said[0]);
    }
    let more: Vec<&&str> =
        helps.iter().map(|(name, _)| name).filter(|name| !CONTRACT.contains(name)).collect();
    assert!(more.is_empty(), "served, and promised to nobody: {more:?}");
}

#[tokio::test]
async fn a_page_is_rendered_anew_for_each_view() {
    let now = Clock::system().now();
    let server = Server::start(ServeOptions::default(), fleet::small(START, now)).await;
    assert!(server.get("/metrics").await.body.contains(r#"status="running"} 1"#));
    let empty = fleet::view(fleet::snapshot([], [], [], now), now);
    server.views.send_replace(Arc::new(View { generation: 2, ..empty }));
    let page = server.get("/metrics").await.body;
    assert!(
        !page.contains("spheron_deployment_status{"),
        "what vanished from the view vanishes from the page: {page}"
    );
    assert!(page.contains("\nspheron_up 1\n"), "{page}");
    server.end().await;
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let server = Server::start(ServeOptions::default(), fleet::small(START, Clock::system().now())).await;
    let get = server.get("/metrics").await;
    let head = server.send("HEAD /metrics", "Host: localhost\r\n").await;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert!(head.head.contains(&format!("content-length: {}", get.body.len())), "{}", head.head);
    server.end().await;
}

#[tokio::test]
async fn health_is_of_the_process_and_readiness_of_the_data() {
    let now = Clock::system().now();
    let server = Server::start(ServeOptions::default(), fleet::small(START, now)).await;
    assert_eq!((server.get("/healthz").await.status, server.get("/readyz").await.status), (200, 200));

    let mut late = FeedHealth::new(Duration::from_secs(60), START);
    late.last_complete = Some(now.minus(Duration::from_secs(600)));
    late.trouble = Some("the API answered 503\r\nX-Injected: 1".into());
    let mut snapshot = Snapshot::clone(&fleet::small(START, now).snapshot);
    snapshot.feeds.insert(Feed::Deployments, late);
    server.views.send_replace(Arc::new(fleet::view(snapshot, now)));
    let ready = server.get("/readyz").await;
    assert_eq!((server.get("/healthz").await.status, ready.status), (200, 503));
    assert_eq!(ready.body.lines().count(), 1, "{}", ready.body);
    assert!(ready.body.starts_with("deployments: no complete answer since "), "{}", ready.body);
    assert!(ready.body.ends_with("ago): the API answered 503\\u{d}\\u{a}X-Injected: 1\n"), "{}", ready.body);
    server.end().await;
}

#[tokio::test]
async fn every_answer_disarms_browsers_and_errors_say_what_is_right() {
    let server = Server::start(ServeOptions::default(), View::default()).await;
    let host = "Host: localhost\r\n";
    for (request, headers, status, says) in [
        ("GET /", host, 200, "/metrics"),
        ("GET /healthz", host, 200, "ok"),
        ("GET /readyz", host, 503, "balance: not asked yet"),
        ("GET /metrics", host, 200, "spheron_up 0"),
        ("GET /nothing", host, 404, "/readyz"),
        ("GET /%2e%2e/etc/passwd", host, 404, "/readyz"),
        ("POST /metrics", host, 405, "GET and HEAD"),
        ("DELETE /healthz", host, 405, "GET and HEAD"),
        ("GET /metrics", "Host: evil.example\r\n", 421, "`hosts` of `[serve]`"),
    ] {
        let answer = server.send(request, headers).await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert!(answer.body.contains(says), "{request}: {answer:?}");
        for header in [
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'none'",
            "cache-control: no-store",
            "x-frame-options: deny",
            "content-type: text/plain",
        ] {
            assert_eq!(answer.head.matches(header).count(), 1, "{request} lacks {header}: {answer:?}");
        }
        assert_eq!(answer.head.matches("allow: get, head").count(), usize::from(status == 405), "{answer:?}");
        assert_eq!(answer.head.matches("\r\nallow:").count(), usize::from(status == 405), "{answer:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn fault_79_a_foreign_or_missing_host_reads_nothing() {
    let options = ServeOptions { hosts: vec!["watch.example.org".to_owned()], ..ServeOptions::default() };
    let server = Server::start(options, fleet::small(START, Clock::system().now())).await;
    let port = server.address.port();
    for (headers, status) in [
        (format!("Host: 127.0.0.1:{port}\r\n"), 200),
        (format!("Host: [::1]:{port}\r\n"), 200),
        ("Host: watch.example.org\r\n".to_owned(), 200),
        ("Host: rebound.example\r\n".to_owned(), 421),
        (format!("Host: rebound.example:{port}\r\n"), 421),
        ("Host: localhost\r\nHost: rebound.example\r\n".to_owned(), 421),
        ("Host: localhost@rebound.example\r\n".to_owned(), 421),
        (String::new(), 421),
    ] {
        for path in ["/metrics", "/healthz", "/nothing"] {
            let answer = server.send(&format!("GET {path}"), &headers).await;
            let expected = if status == 200 && path == "/nothing" { 404 } else { status };
            assert_eq!(answer.status, expected, "{headers}: {answer:?}");
            assert!(status == 200 || !answer.body.contains("spheron_up"), "{answer:?}");
        }
    }
    server.end().await;
}

#[tokio::test]
async fn a_host_entry_that_is_none_is_an_error_at_start() {
    let options = ServeOptions { hosts: vec!["not a host".to_owned()], ..ServeOptions::default() };
    let server = Server::start(options, View::default()).await;
    assert!(matches!(server.task.await.unwrap(), Err(ServeError::Host(_))));
}

#[tokio::test]
async fn fault_85_beyond_the_cap_the_next_connection_waits_and_none_is_lost() {
    let options = ServeOptions { max_connections: 3, header_timeout: LONG, ..ServeOptions::default() };
    let server = Server::start(options, View::default()).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        // An answer on each proves that it was accepted, and keep-alive holds it.
        let mut stream = server.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        held.push(stream);
    }
    let mut waiting: Vec<_> = (0..20)
        .map(|_| {
            let address = server.address;
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                stream.write_all(request).await.unwrap();
                read(&mut stream).await.status
            })
        })
        .collect();
    let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting[0]).await;
    assert!(early.is_err(), "answered beyond the cap");
    drop(held);
    for client in waiting {
        assert_eq!(client.await.unwrap(), 200);
    }
    server.end().await;
}

#[tokio::test]
async fn fault_85_dribbled_headers_silence_and_idling_end_at_the_timeout() {
    let options = ServeOptions { header_timeout: Duration::from_millis(200), ..ServeOptions::default() };
    let server = Server::start(options, View::default()).await;
    let mut silent = server.connect().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut dribbling = server.connect().await;
    dribbling.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let dribble = async {
        let (mut reading, mut writing) = dribbling.split();
        let (mut answered, mut byte) = (Vec::new(), tokio::time::interval(Duration::from_millis(20)));
        loop {
            tokio::select! {
                read = reading.read_buf(&mut answered) => if read.is_err() || read.is_ok_and(|n| n == 0) { break },
                _ = byte.tick() => if writing.write_all(b"X").await.is_err() { break },
            }
        }
        String::from_utf8(answered).unwrap()
    };
    let (mut nothing, mut one) = (String::new(), String::new());
    let all =
        async { tokio::join!(dribble, silent.read_to_string(&mut nothing), idle.read_to_string(&mut one)) };
    let (dribbled, _, _) = tokio::time::timeout(LONG, all).await.expect("all three are closed");
    assert!(dribbled.is_empty() || answer(&dribbled).status == 408, "{dribbled:?}");
    assert!(nothing.is_empty() || answer(&nothing).status == 408, "{nothing:?}");
    assert_eq!(answer(&one).status, 200);
    server.end().await;
}

#[tokio::test]
async fn fault_85_large_headers_and_bodies_are_refused() {
    let server = Server::start(ServeOptions::default(), View::default()).await;
    let large = format!("Host: localhost\r\nX-Large: {}\r\n", "x".repeat(40_000));
    let mut stream = server.connect().await;
    // It is refused while still being sent, so that the end of it may meet a closed connection.
    let _ = stream.write_all(format!("GET /healthz HTTP/1.1\r\n{large}\r\n").as_bytes()).await;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 431");
    let answer = server.send("GET /healthz", "Host: localhost\r\nContent-Length: 65537\r\n").await;
    assert_eq!(answer.status, 413, "{answer:?}");
    server.end().await;
}

#[tokio::test]
async fn fault_85_a_body_that_never_comes_holds_nothing() {
    let options = ServeOptions { header_timeout: LONG, request_timeout: LONG, ..ServeOptions::default() };
    let server = Server::start(options, View::default()).await;
    for method in ["GET", "POST"] {
        let mut stream = server.connect().await;
        let request =
            format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n{{");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(LONG / 2, read(&mut stream)).await.expect("answered and closed");
        assert_eq!(answer.status, if method == "GET" { 200 } else { 405 }, "{answer:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn fault_85_a_peer_that_stops_reading_gives_its_place_back() {
    let options = ServeOptions {
        max_connections: 1,
        stall_timeout: Duration::from_millis(200),
        ..ServeOptions::default()
    };
    // More than both sockets' buffers hold.
    let server = Server::start(options, fleet::standard(10_000, Clock::system().now())).await;
    let mut stalled = server.connect().await;
    stalled.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let next =
        tokio::time::timeout(LONG, server.get("/healthz")).await.expect("the only place is free again");
    assert_eq!(next.status, 200);
    drop(stalled);
    server.end().await;
}

#[tokio::test]
async fn a_request_in_flight_finishes_at_shutdown_and_idle_connections_do_not_delay_it() {
    let options = ServeOptions { drain_timeout: LONG, header_timeout: LONG, ..ServeOptions::default() };
    let server = Server::start(options, fleet::standard(10_000, Clock::system().now())).await;
    let silent = server.connect().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 12]).await.unwrap();
    let mut stream = server.connect().await;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    // The page is far larger than what the sockets hold, so the answer is under way now.
    server.stop.cancel();
    let mut rest = String::new();
    let reading = tokio::time::timeout(LONG / 2, stream.read_to_string(&mut rest)).await;
    reading.expect("the answer comes and its connection is closed").unwrap();
    let page = answer(&format!("HTTP/1.1 200{rest}"));
    assert!(page.body.len() > 5_000_000, "{} bytes", page.body.len());
    assert!(page.head.contains(&format!("content-length: {}\r", page.body.len())), "cut: {}", page.head);
    let ended = tokio::time::timeout(LONG / 2, server.task).await.expect("nothing else holds it up");
    assert!(ended.unwrap().is_ok());
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    drop((silent, idle));
}

#[tokio::test]
async fn who_does_not_finish_is_cut_when_the_drain_ends() {
    let options = ServeOptions {
        drain_timeout: Duration::from_millis(200),
        header_timeout: LONG,
        stall_timeout: LONG,
        ..ServeOptions::default()
    };
    let server = Server::start(options, fleet::standard(10_000, Clock::system().now())).await;
    let mut stalled = server.connect().await;
    stalled.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stalled.read_exact(&mut [0; 12]).await.unwrap();
    tokio::time::timeout(LONG / 2, server.end()).await.expect("it ends all the same");
}
