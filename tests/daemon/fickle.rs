//! A webhook's other end that fails half of the time, in every way, by a seed; and a record of what it was sent and what it said.
//!
//! It must never lose the order of what arrived: one conversation at a time.

use std::{
    io::Read as _,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
};

use crate::lab::header;

/// What a request got for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Taken,
    Error,
    /// The connection was reset, after the whole request had come.
    Reset,
    /// Nothing, until the sender left.
    Nothing,
}

#[derive(Debug, Clone)]
pub struct Got {
    pub id: String,
    pub body: String,
    pub said: Said,
    /// In which of the sender's lives it came.
    pub life: usize,
}

/// A notice fails so often at most, which leaves its sender an attempt.
const FAILURES_MAX: usize = 6;

pub struct Fickle {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Fickle {
    pub fn new(runtime: &Runtime, seed: u64, life: Arc<AtomicUsize>) -> Self {
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = got.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _left = converse(stream, seed, &life, &kept).await;
            }
        });
        Self { address, got }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// All that senders which are dead by now have sent: this waits for its turn behind them.
    pub fn got(&self) -> Vec<Got> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "nothing was asked");
        self.got.lock().unwrap().clone()
    }
}

/// `None`: the sender broke off.
async fn converse(
    mut stream: tokio::net::TcpStream,
    seed: u64,
    life: &AtomicUsize,
    kept: &Mutex<Vec<Got>>,
) -> Option<()> {
    let (id, body) = request(&mut stream).await?;
    // Long enough to be killed before the answer is there: then it was taken, and no receipt will say so.
    let delay = Duration::from_millis(fastrand::u64(0..25));
    let said = {
        let mut got = kept.lock().unwrap();
        let again = got.iter().filter(|earlier| earlier.id == id).count();
        let said = fate(seed, &id, again);
        got.push(Got { id, body, said, life: life.load(Ordering::SeqCst) });
        said
    };
    tokio::time::sleep(delay).await;
    match said {
        Said::Taken => stream.write_all(answer("200 OK").as_bytes()).await.ok(),
        Said::Error => stream.write_all(answer("500 Oh").as_bytes()).await.ok(),
        Said::Reset => stream.set_zero_linger().ok(),
        Said::Nothing => stream.read(&mut [0]).await.ok().map(|_| ()),
    }
}

async fn request(stream: &mut tokio::net::TcpStream) -> Option<(String, String)> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let text = str::from_utf8(&bytes).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length: usize = header(&head, "content-length")?.parse().ok()?;
        if body.len() == length {
            return Some((header(&head, "webhook-id")?, body.to_owned()));
        }
    }
}

fn answer(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/// Whatever the order in which notices come.
fn fate(seed: u64, id: &str, again: usize) -> Said {
    let mixed = id.bytes().fold(seed, |mixed, byte| mixed.rotate_left(5) ^ u64::from(byte));
    let mut chance = Rng::with_seed(mixed ^ (again as u64) << 32);
    if again >= FAILURES_MAX || chance.bool() {
        return Said::Taken;
    }
    match chance.u8(0..10) {
        0..5 => Said::Error,
        5..9 => Said::Reset,
        _ => Said::Nothing,
    }
}
