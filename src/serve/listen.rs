//! The accept loop: hyper's HTTP/1 with every wait bounded, which `axum::serve` leaves open (CRATES.md, "HTTP and mail").
//!
//! It must never hold more connections than its cap, lose one that waits, spin on a failing accept, or hide a panic.

use std::{io, time::Duration};

use axum::{Router, body::Body, http::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{ServeError, ServeOptions, hosts::LocalAddress, stall::Unstalled};

/// What a request line and its headers may take; more is answered with 431.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Between two tries while accepting fails: at EMFILE the waiting connection makes the listener ready all the time.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where connections come from; a listener but in tests.
pub(super) trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// With our own address at its end, where that is one of a network.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<LocalAddress>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<LocalAddress>)> {
        let (stream, _) = self.accept().await?;
        // A socket that has neither is already dead; reading from it will say so.
        let local = stream.local_addr().ok().map(|address| LocalAddress(address.ip()));
        let _ = stream.set_nodelay(true);
        Ok((stream, local))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<LocalAddress>)> {
        self.accept().await.map(|(stream, _)| (stream, None))
    }
}

/// Serves until `stop`, then lets requests in flight finish. An error is a panic in a task: the process must end (FAULTS 83).
pub(super) async fn run(
    listener: impl Accept,
    router: Router,
    options: &ServeOptions,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => check(ended)?,
            // Beyond the cap nothing is accepted: who comes next waits in the kernel's queue, and is not turned away.
            accepted = accept(&listener), if connections.len() < options.max_connections => {
                connections.spawn(connection(accepted, router.clone(), options.clone(), graceful.watcher()));
            }
        }
    }
    drop(listener);
    let drained = async {
        graceful.shutdown().await;
        while let Some(ended) = connections.join_next().await {
            check(ended)?;
        }
        Ok(())
    };
    timeout(options.drain_timeout, drained).await.unwrap_or_else(|_| {
        tracing::warn!("some HTTP connections did not finish in time and were cut");
        Ok(())
    })
}

/// The next connection, however long it takes. Cut short whenever a connection ends, which is when descriptors are free again.
async fn accept<A: Accept>(listener: &A) -> (A::Stream, Option<LocalAddress>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_peer(&error) => {
                tracing::debug!(%error, "a connection ended before it began")
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept HTTP connections; trying again in a second");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionRefused]
        .contains(&error.kind())
}

async fn connection(
    (stream, local): (impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Option<LocalAddress>),
    router: Router,
    options: ServeOptions,
    watcher: Watcher,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(local) = local {
            request.extensions_mut().insert(local);
        }
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(Unstalled::new(stream, options.stall_timeout)), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

fn check(ended: Result<(), JoinError>) -> Result<(), ServeError> {
    match ended {
        Err(error) if error.is_panic() => Err(ServeError::Panicked),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicU32, Ordering},
    };

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Fails a few times as a process without free descriptors does, then works.
    struct Exhausted {
        listener: TcpListener,
        left: AtomicU32,
    }

    impl Accept for &Exhausted {
        type Stream = TcpStream;

        async fn accept(&self) -> io::Result<(TcpStream, Option<LocalAddress>)> {
            if self.left.load(Ordering::SeqCst) > 0 {
                self.left.fetch_sub(1, Ordering::SeqCst);
                return Err(rustix::io::Errno::MFILE.into());
            }
            Accept::accept(&self.listener).await
        }
    }

    async fn ask(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn fault_83_a_panic_in_a_handler_ends_the_server_with_an_error() {
        async fn broken() -> &'static str {
            panic!("planted")
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(broken));
        let options = ServeOptions::default();
        let server = run(listener, router, &options, CancellationToken::new());
        let both = async { tokio::join!(server, ask(address)) };
        let (ended, answer) =
            timeout(Duration::from_secs(30), both).await.expect("the server ends by itself");
        assert!(matches!(ended, Err(ServeError::Panicked)));
        assert_eq!(answer, "");
    }

    #[tokio::test]
    async fn fault_85_running_out_of_descriptors_neither_spins_nor_stops_the_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let exhausted = Exhausted { listener, left: AtomicU32::new(1_000_000) };
        let router = Router::new().route("/", get(|| async { "served" }));
        let (options, stop) = (ServeOptions::default(), CancellationToken::new());
        let server = run(&exhausted, router, &options, stop.clone());
        let client = async {
            let recover = async {
                // The server is polled between these, and would have tried very often by now if it did not pause.
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                let tries = 1_000_000 - exhausted.left.swap(0, Ordering::SeqCst);
                assert!((1..=2).contains(&tries), "{tries} tries without a pause");
            };
            let (answer, ()) = tokio::join!(ask(address), recover);
            stop.cancel();
            answer
        };
        let (ended, answer) = tokio::join!(server, client);
        assert!(ended.is_ok() && answer.ends_with("served"), "{answer}");
    }
}
