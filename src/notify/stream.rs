//! The TCP stream under an SMTP connection that begins in clear.
//!
//! It must never let more than one line of clear text wait when TLS begins: replies that someone on the way adds before
//! the handshake would be taken for the server's own after it (the STARTTLS injection of CVE-2011-0411). Nor may a server
//! that has not shown its certificate fill our memory.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What one connection may send us in its life; a mail's replies take less than 1 kB.
const READ_MAX_BYTES: usize = 1024 * 1024;
/// A TLS record of the handshake begins with it, an SMTP command never.
const TLS_HANDSHAKE: u8 = 0x16;

#[derive(Debug)]
pub(super) struct Guarded {
    inner: TcpStream,
    /// No handshake has begun: bytes are handed out one by one, so that no buffer above reads ahead of a line.
    clear: bool,
    left_bytes: usize,
}

impl Guarded {
    /// Each address has `timeout`, so that a dead IPv6 route falls back in time (FAULTS 29).
    pub(super) async fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host((host, port)).await? {
            match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
                Ok(Ok(inner)) => {
                    inner.set_nodelay(true)?;
                    return Ok(Self { inner, clear: true, left_bytes: READ_MAX_BYTES });
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

impl AsyncTokioStream for Guarded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left_bytes == 0 {
            return Poll::Ready(Err(io::Error::other("the mail server sent more than 1 MiB of replies")));
        }
        let before = buf.filled().len();
        if self.clear && buf.remaining() > 0 {
            let mut byte = [0];
            let mut one = ReadBuf::new(&mut byte);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut one))?;
            buf.put_slice(one.filled());
        } else {
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        }
        let read = buf.filled().len().saturating_sub(before);
        self.left_bytes = self.left_bytes.saturating_sub(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            self.clear = false;
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
