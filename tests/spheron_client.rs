//! The API client against real sockets: what a server, a portal, a forger or a broken line can do to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, SanType};
use secrecy::SecretString;
use spheron_watch::{
    clock::Clock,
    model::{DeploymentId, Failure, FailureKind, NoMeter, TeamId},
    spheron::{Client, HttpOptions, HttpTransport},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls};

const KEY: &str = "sai_pk_SECRETKEY";

/// What the server does with every request.
#[derive(Clone)]
enum Reply {
    Bytes(Vec<u8>),
    /// These bytes, then one more byte every 20 ms.
    Drip(Vec<u8>),
    Silence,
}

fn http(head: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    Reply::Bytes([head.as_bytes(), body].concat())
}

fn json(body: impl AsRef<[u8]>) -> Reply {
    http("200 OK\r\ncontent-type: application/json", body)
}

struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(reply: Reply) -> Self {
        Self::listen(reply, None).await
    }

    async fn listen(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, tls, seen) = (reply.clone(), tls.clone(), seen.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, reply, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, reply, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn client(&self) -> Client<HttpTransport> {
        client(options(&format!("http://{}", self.address)))
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    reply: Reply,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
    match reply {
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Drip(bytes) => {
            let _ = stream.write_all(&bytes).await;
            while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Reply::Silence => std::future::pending().await,
    }
}

fn options(base_url: &str) -> HttpOptions {
    HttpOptions {
        base_url: base_url.to_owned(),
        api_key: SecretString::from(KEY),
        ca_file: None,
        timeout: Duration::from_secs(10),
        clock: Clock::system(),
    }
}

fn client(options: HttpOptions) -> Client<HttpTransport> {
    Client::seeded(HttpTransport::new(options).unwrap(), None, Arc::new(NoMeter), 1)
}

fn id() -> DeploymentId {
    DeploymentId::new("65a1")
}

/// What comes of asking for the balances.
async fn balances(reply: Reply) -> Result<usize, Failure> {
    Server::start(reply).await.client().balances().await.map(|list| list.items.len())
}

const BALANCES: &str =
    r#"{"teams":[{"teamId":"t","teamName":"T","balance":25.5,"role":"owner"}],"currency":"USD"}"#;

/// `BALANCES`, packed.
const BALANCES_GZIP: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 42, 73, 77, 204, 45, 86, 178, 138, 174, 6, 179, 60, 83, 148,
    172, 148, 74, 148, 116, 192, 28, 191, 196, 220, 84, 32, 55, 4, 200, 77, 74, 204, 73, 204, 75, 6, 242,
    140, 76, 245, 76, 117, 148, 138, 242, 115, 64, 50, 249, 229, 121, 169, 69, 74, 181, 177, 58, 74, 201,
    165, 69, 69, 169, 121, 201, 149, 64, 193, 208, 96, 23, 165, 90, 0, 214, 218, 16, 50, 88, 0, 0, 0,
];

fn with_kubeconfig(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","teamId":"t","status":"running","hourlyRate":1,"totalCost":0,"createdAt":"2024-01-15T10:30:00Z",
        "kubernetesAddon":{{"kubeconfig":"apiVersion: SECRETKUBE"}},"sshCommand":"ssh SECRETSSH"}}"#
    )
}

#[tokio::test]
async fn a_request_carries_the_key_the_agent_and_nothing_unasked_for() {
    let server = Server::start(json(BALANCES)).await;
    assert_eq!(server.client().balances().await.unwrap().items.len(), 1);
    let request = server.requests()[0].to_ascii_lowercase();
    assert!(request.starts_with("get /api/balance http/1.1\r\n"), "{request}");
    for header in [
        format!("authorization: bearer {}\r\n", KEY.to_ascii_lowercase()),
        format!("user-agent: spheron-watch/{}\r\n", env!("CARGO_PKG_VERSION")),
        "accept: application/json\r\n".to_owned(),
        "accept-encoding: gzip\r\n".to_owned(),
    ] {
        assert!(request.contains(&header), "{header} in {request}");
    }
    assert!(!request.contains("referer") && !request.contains("cookie"));
}

#[tokio::test]
async fn a_team_and_an_id_are_encoded_on_the_wire() {
    let server = Server::start(json("[]")).await;
    let client = server.client();
    client.deployments(Some(&TeamId::new("t&all=1")), true, false).await.unwrap();
    let _ = client.deployment(&DeploymentId::new("../teams?x#y")).await;
    let paths: Vec<_> = server.requests().iter().map(|r| r.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(
        paths,
        ["/api/deployments?teamId=t%26all%3D1&status=active", "/api/deployments/..%2Fteams%3Fx%23y"]
    );
}

#[tokio::test]
async fn a_packed_answer_is_read() {
    let packed = http("200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip", BALANCES_GZIP);
    assert_eq!(balances(packed).await, Ok(1));
}

#[tokio::test]
async fn fault_01_what_is_no_whole_documented_answer_is_a_failed_poll() {
    let half = |body: &str| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Reply::Bytes([head.as_bytes(), &body.as_bytes()[..body.len() / 2]].concat())
    };
    for (name, reply, kind) in [
        ("HTML", http("200 OK\r\ncontent-type: text/html", "<html>Sign in</html>"), FailureKind::Malformed),
        ("HTML called JSON", json("<html>Sign in</html>"), FailureKind::Malformed),
        ("JSON called text", http("200 OK\r\ncontent-type: text/plain", BALANCES), FailureKind::Malformed),
        ("no type at all", http("200 OK", BALANCES), FailureKind::Malformed),
        ("empty", json(""), FailureKind::Malformed),
        ("no content", http("204 No Content", ""), FailureKind::Malformed),
        ("null", json("null"), FailureKind::Malformed),
        ("truncated JSON", json(&BALANCES[..60]), FailureKind::Malformed),
        ("cut off on the way", half(BALANCES), FailureKind::Network),
        ("not HTTP", Reply::Bytes(b"SSH-2.0-OpenSSH\r\n".to_vec()), FailureKind::Network),
        ("closed at once", Reply::Bytes(Vec::new()), FailureKind::Network),
    ] {
        assert_eq!(balances(reply).await.map_err(|failure| failure.kind), Err(kind), "{name}");
    }
}

#[tokio::test]
async fn fault_01_an_answer_over_the_cap_is_not_read_on() {
    const CAP: usize = 8 * 1024 * 1024;
    let announced = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n[";
    let endless =
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec(), vec![b' '; CAP + 1]].concat();
    let bomb =
        http("200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip", gzip_bomb(CAP + 258));
    for (name, reply) in [
        ("announced", Reply::Bytes(announced.into())),
        ("endless", Reply::Bytes(endless)),
        ("a gzip bomb", bomb),
    ] {
        let failure = Server::start(reply).await.client().deployment(&id()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Malformed, "{name}: {failure}");
        assert!(failure.message.contains("larger than 8388608 bytes"), "{name}: {failure}");
    }
}

/// A gzip stream of NULs, 13 bits for each 258 of them: fixed Huffman codes, one literal, then only the longest match.
fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    let msb_first = |bits: &mut Vec<bool>, code: u32, length: u32| {
        bits.extend((0..length).rev().map(|i| code >> i & 1 == 1))
    };
    msb_first(&mut bits, 0b0011_0000, 8);
    for _ in 0..size / 258 {
        msb_first(&mut bits, 0b1100_0101, 8);
        msb_first(&mut bits, 0, 5);
    }
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(
        bits.chunks(8)
            .map(|byte| byte.iter().enumerate().fold(0_u8, |sum, (i, bit)| sum | u8::from(*bit) << i)),
    );
    out
}

#[tokio::test]
async fn fault_12_a_429_on_the_wire_holds_the_next_call_back() {
    let body = r#"{"error":"Too many requests","message":"Too many requests from this IP","retryAfter":900}"#;
    let server = Server::start(http("429 Too Many Requests\r\ncontent-type: application/json", body)).await;
    let client = server.client();
    assert_eq!(client.balances().await.unwrap_err().kind, FailureKind::RateLimited);
    assert_eq!(client.balances().await.unwrap_err().kind, FailureKind::Held);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn fault_15_a_dripping_body_and_a_silent_server_end_at_the_deadline() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[".to_vec();
    for (name, reply) in [
        ("body", Reply::Drip(head)),
        ("head", Reply::Drip(b"HTTP/1.1 200".to_vec())),
        ("silence", Reply::Silence),
    ] {
        let server = Server::start(reply).await;
        let short = HttpOptions {
            timeout: Duration::from_millis(250),
            ..options(&format!("http://{}", server.address))
        };
        let ended = tokio::time::timeout(Duration::from_secs(2), client(short).balances()).await;
        let failure = ended.unwrap_or_else(|_| panic!("{name}: outlasts its deadline")).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout, "{name}: {failure}");
    }
}

#[tokio::test]
async fn fault_25_a_captive_portal_is_a_failed_poll() {
    let portal = http(
        "200 OK\r\ncontent-type: text/html; charset=utf-8",
        "<html><form>Accept the terms</form></html>",
    );
    let failure = balances(portal).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Malformed);
    assert!(failure.message.contains("login page"), "{failure}");
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failure = client(options(&format!("http://{refused}"))).balances().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network);
    assert!(failure.message.contains("refused"), "{failure}");
}

#[tokio::test]
async fn fault_26_redirects_are_not_followed() {
    let elsewhere = Server::start(json(BALANCES)).await;
    for status in [301, 302, 303, 307, 308] {
        let target = format!("{status} X\r\nlocation: http://{}/api/balance?token=SECRET", elsewhere.address);
        let failure = balances(http(&target, "")).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Malformed);
        assert!(failure.message.contains("points to 127.0.0.1;"), "{failure}");
        assert!(!failure.message.contains("SECRET"), "{failure}");
    }
    assert!(elsewhere.requests().is_empty(), "the key went nowhere else");
}

/// An authority, and a server certificate of its making.
struct Forge {
    ca_pem: String,
    acceptor: TlsAcceptor,
}

fn forge(adjust: impl FnOnce(&mut CertificateParams)) -> Forge {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    adjust(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    Forge { ca_pem: ca.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
}

async fn over_tls(forge: &Forge, trusted: bool) -> (Result<usize, Failure>, usize) {
    let server = Server::listen(json(BALANCES), Some(forge.acceptor.clone())).await;
    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(forge.ca_pem.as_bytes()).unwrap();
    let ca_file = trusted.then(|| ca_file.path().to_owned());
    let client = client(HttpOptions { ca_file, ..options(&format!("https://{}", server.address)) });
    let result = client.balances().await.map(|list| list.items.len());
    (result, server.requests().len())
}

#[tokio::test]
async fn fault_27_forged_certificates_are_refused_before_the_key_is_sent() {
    let good = forge(|_| {});
    assert_eq!(over_tls(&good, true).await, (Ok(1), 1), "an authority named in ca_file is trusted");
    let expired = forge(|params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let other_host =
        forge(|params| params.subject_alt_names = vec![SanType::DnsName("example.org".try_into().unwrap())]);
    for (name, forge, trusted, cause) in [
        ("unknown authority", &good, false, "UnknownIssuer"),
        ("expired", &expired, true, "certificate expired"),
        ("wrong host", &other_host, true, "not valid for name"),
    ] {
        let (result, requests) = over_tls(forge, trusted).await;
        let failure = result.expect_err(name);
        assert_eq!((failure.kind, requests), (FailureKind::Network, 0), "{name}: {failure}");
        assert!(failure.message.contains(cause), "{name}: {failure}");
    }
}

#[tokio::test]
async fn fault_30_proxy_variables_are_ignored() {
    let (server, proxy) = (Server::start(json(BALANCES)).await, Server::start(json(BALANCES)).await);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "fault_30_the_child_that_a_proxy_is_forced_upon"])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, format!("http://{}", proxy.address));
    }
    child.env(TARGET, format!("http://{}", server.address));
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((server.requests().len(), proxy.requests().len()), (1, 0));
}

const TARGET: &str = "SPHERON_WATCH_TEST_TARGET";

/// Does its work only as the child of the test above, which counts the calls: the environment of a running process is not to be changed.
#[tokio::test]
async fn fault_30_the_child_that_a_proxy_is_forced_upon() {
    if let Ok(target) = std::env::var(TARGET) {
        assert_eq!(client(options(&target)).balances().await.unwrap().items.len(), 1);
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn fault_76_neither_key_nor_kubeconfig_is_in_any_log_error_or_debug() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let hundred: Vec<_> = (0..100).map(|n| with_kubeconfig(&n.to_string())).collect();
    let bad = with_kubeconfig("bad").replace("\"hourlyRate\":1", "\"hourlyRate\":\"SECRETKUBE\"");
    let quoted =
        format!(r#"{{"error":"Invalid API key {KEY}","code":"UNAUTHORIZED","details":"SECRETKUBE"}}"#);
    let mut shown = String::new();
    for reply in [
        json(format!("[{}]", hundred.join(","))),
        json(format!("[{bad}]")),
        json(format!("[{bad}")),
        json(with_kubeconfig("65a1")),
        http("401 Unauthorized\r\ncontent-type: application/json", &quoted),
        http("500 Internal\r\ncontent-type: application/json", &quoted),
        http(&format!("302 Found\r\nlocation: https://h/?key={KEY}"), ""),
        http(
            &format!("200 OK\r\ncontent-type: application/json\r\nx-echo: {KEY}\r\nx-ratelimit-reset: {KEY}"),
            "SECRETKUBE",
        ),
        Reply::Bytes(format!("HTTP/1.1 999999 {KEY}\r\n\r\n").into_bytes()),
    ] {
        let server = Server::start(reply).await;
        let options = options(&format!("http://{}", server.address));
        shown += &format!("{options:?}");
        let transport = HttpTransport::new(options).unwrap();
        shown += &format!("{transport:?}");
        let client = Client::seeded(transport, None, Arc::new(NoMeter), 1);
        shown += &format!("{:?}", client.deployments(None, true, false).await);
        shown += &format!("{:?}", client.deployment(&id()).await);
        shown += &format!(
            "{:?}",
            client.delete(&id(), spheron_watch::model::Time::from_secs(i64::from(u32::MAX))).await
        );
        assert!(server.requests()[0].contains(KEY), "the key was in play");
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("round length") && log.contains("TRACE"), "the log is captured: {log}");
    for secret in ["SECRETKEY", "SECRETKUBE", "SECRETSSH"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
        assert!(!log.contains(secret), "{secret} in the log {log}");
    }
}
