//! The simulated account behind a socket: HTTP/1.1 on the listener it is given, slowness and broken connections included.
//!
//! It must never bind anything itself, and it must never outlive `stop`: every connection ends with it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet, time::Sleep};
use tokio_util::sync::CancellationToken;

use super::{Answer, Ask, Conduct, World};
use crate::clock::Clock;

const CONNECTIONS_MAX: usize = 256;
const FLUSH: Duration = Duration::from_millis(20);

/// Serves until `stop`; when it returns, all connections have ended.
pub async fn serve(world: Arc<Mutex<World>>, clock: Clock, listener: TcpListener, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of descriptors, mostly: some connection has to end first.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let (world, clock) = (Arc::clone(&world), clock.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| respond(Arc::clone(&world), clock.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the client's affair, or the very fault that was asked for.
            let _ended = connection.await;
        });
    }
    connections.shutdown().await;
}

async fn respond(
    world: Arc<Mutex<World>>,
    clock: Clock,
    request: Request<Incoming>,
) -> Result<Response<Paced>, io::Error> {
    let answer = {
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let ask = Ask {
            method: request.method().as_str(),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or(""),
            authorization,
        };
        // Time is read under the lock, so that calls reach the world in order.
        let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.now();
        world.answer(&ask, now)
    };
    match answer.conduct {
        Conduct::Whole | Conduct::Drip { .. } | Conduct::Cut => {}
        Conduct::Delay(length) => tokio::time::sleep(length).await,
        Conduct::Hang => match std::future::pending::<Infallible>().await {},
        Conduct::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(Paced::new(answer)).map_err(io::Error::other)
}

/// A body that comes whole, in drops, or not to its end.
struct Paced {
    chunks: VecDeque<Bytes>,
    left: u64,
    every: Duration,
    wait: Option<Pin<Box<Sleep>>>,
    breaks: bool,
}

impl Paced {
    fn new(answer: Answer) -> Self {
        let (left, mut rest) =
            (u64::try_from(answer.body.len()).unwrap_or(u64::MAX), Bytes::from(answer.body));
        let (mut chunks, mut every, mut breaks) = (VecDeque::new(), Duration::ZERO, false);
        match answer.conduct {
            Conduct::Drip { bytes, every: pace } => {
                every = pace;
                while rest.len() > bytes.max(1) {
                    chunks.push_back(rest.split_to(bytes.max(1)));
                }
            }
            Conduct::Cut => {
                breaks = true;
                rest.truncate(rest.len() / 2);
            }
            Conduct::Whole | Conduct::Delay(_) | Conduct::Hang | Conduct::Reset => {}
        }
        chunks.push_back(rest);
        Self { chunks, left, every, wait: None, breaks }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        // Before it breaks off, what was sent gets the time to leave: hyper drops what it has not flushed.
        let every = if self.chunks.is_empty() && self.breaks { FLUSH } else { self.every };
        if every > Duration::ZERO {
            let wait = self.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(every)));
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        match self.chunks.pop_front() {
            Some(chunk) => {
                self.left = self.left.saturating_sub(u64::try_from(chunk.len()).unwrap_or(0));
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            None if self.breaks => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
