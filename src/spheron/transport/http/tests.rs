use std::{
    net::{Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::*;
use crate::spheron::Endpoint;

const KEY: &str = "sai_pk_SECRET";

fn options(base_url: &str) -> HttpOptions {
    HttpOptions {
        base_url: base_url.to_owned(),
        api_key: SecretString::from(KEY),
        ca_file: None,
        timeout: Duration::from_secs(3),
        clock: Clock::system(),
    }
}

fn request(method: Method, path: &str) -> Request {
    Request {
        endpoint: Endpoint::Balance,
        method,
        path: path.to_owned(),
        query: Vec::new(),
        cap_bytes: 1_000,
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn only_https_or_loopback_origins_are_accepted() {
    for good in [
        "https://app.spheron.ai",
        "https://h:8443/",
        "http://127.0.0.1:9",
        "http://[::1]:9",
        "http://localhost",
    ] {
        assert!(HttpTransport::new(options(good)).is_ok(), "{good}");
    }
    for bad in [
        "http://app.spheron.ai",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
        "https://user:PASSWORD@h",
        "https://h/api",
        "https://h?x=1",
        "ftp://h",
        "h",
        "",
        "https://",
    ] {
        let error = HttpTransport::new(options(bad)).unwrap_err();
        assert!(matches!(error, BuildError::BaseUrl), "{bad}: {error}");
        assert!(!format!("{error} {error:?}").contains("PASSWORD"));
    }
}

#[test]
fn fault_23_the_transport_itself_sends_nothing_that_is_not_listed() {
    let transport = HttpTransport::new(options("http://127.0.0.1:9")).unwrap();
    for (method, path) in [
        (Method::Get, "/api/teams"),
        (Method::Get, "/api/deployments/../teams"),
        (Method::Get, "/api/deployments/%2e%2e"),
        (Method::Get, "//example.org/api/balance"),
        (Method::Delete, "/api/deployments"),
        (Method::Delete, "/api/volumes/v"),
    ] {
        let sent = run(transport.send(request(method, path)));
        assert_eq!(sent.unwrap_err(), SendError::NotAllowed, "{} {path}", method.as_str());
    }
}

#[test]
fn fault_76_no_debug_shows_the_key() {
    let options = options("https://h");
    let shown = format!("{options:?}");
    let transport = HttpTransport::new(options).unwrap();
    let shown = format!("{shown} {transport:?} {:?} {:?}", transport.client, transport.authorization);
    assert!(!shown.contains("SECRET"), "{shown}");
    assert_eq!(transport.redact(format!("bad key {KEY}!")), "bad key [the API key]!");
}

#[test]
fn a_key_that_no_header_can_carry_is_refused() {
    let error = HttpTransport::new(HttpOptions {
        api_key: SecretString::from("SECRET\nkey"),
        ..options("https://h")
    });
    let error = error.unwrap_err();
    assert!(matches!(error, BuildError::Key) && !format!("{error:?}").contains("SECRET"));
}

#[test]
fn a_ca_file_that_adds_nothing_is_an_error_that_names_it() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ca.pem");
    let build = || HttpTransport::new(HttpOptions { ca_file: Some(file.clone()), ..options("https://h") });
    let complaint = || build().unwrap_err().to_string();
    assert!(complaint().contains("ca.pem: No such file"), "{}", complaint());
    std::fs::write(&file, "no certificate").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(complaint().ends_with("ca.pem: it holds no PEM certificate"));
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(complaint().ends_with("ca.pem: it holds a certificate that cannot be a trust root"));
}

#[test]
fn fault_25_a_name_that_does_not_resolve_is_a_network_error_in_words() {
    struct NoName;
    impl Resolve for NoName {
        fn resolve(&self, _: Name) -> Resolving {
            Box::pin(async { Err::<Addrs, _>("Name or service not known".into()) })
        }
    }
    let build =
        HttpTransport::build(options("https://app.example.org"), |builder| builder.dns_resolver(NoName));
    let error = run(build.unwrap().send(request(Method::Get, "/api/balance"))).unwrap_err();
    let SendError::Network(text) = error else { panic!("{error:?}") };
    assert!(text.contains("Name or service not known"), "{text}");
    assert!(!text.contains("https://"), "{text}");
}

/// A listener whose queue is full and is never emptied: connections to it hang, as into a black hole.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _fillers: Vec<tokio::task::JoinHandle<std::io::Result<TcpStream>>>,
}

impl BlackHole {
    async fn dig(port: u16) -> Self {
        let socket = TcpSocket::new_v6().unwrap();
        socket.bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let fillers = (0..8).map(|_| tokio::spawn(TcpStream::connect(address))).collect();
        let hangs = async {
            while tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await.is_ok()
            {
            }
        };
        tokio::time::timeout(Duration::from_secs(2), hangs)
            .await
            .expect("the queue of the listener fills up");
        Self { address, _listener: listener, _fillers: fillers }
    }
}

#[test]
fn fault_29_an_ipv6_black_hole_falls_back_to_ipv4_within_three_seconds() {
    run(async {
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = live.local_addr().unwrap();
        let hole = BlackHole::dig(address.port()).await;
        let addresses = [hole.address, address];
        tokio::spawn(async move {
            let (mut stream, _) = live.accept().await.unwrap();
            let _ = stream.read(&mut [0; 2_000]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        });
        let transport =
            HttpTransport::build(options(&format!("http://localhost:{}", address.port())), |builder| {
                builder.resolve_to_addrs("localhost", &addresses)
            });
        // The deadline of this transport is three seconds.
        let response = transport.unwrap().send(request(Method::Get, "/api/balance")).await.unwrap();
        assert_eq!(&*response.body, b"ok");
    });
}
