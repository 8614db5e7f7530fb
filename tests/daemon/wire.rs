//! Between the daemon and the account: every call passes, and is noted in order as it arrives, answered or not.
//!
//! It must never let a call pass that it did not note before.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use spheron_watch::{
    clock::Clock,
    model::{DeploymentId, Time},
};

#[derive(Debug, Clone)]
pub struct Call {
    pub at: Time,
    pub method: String,
    pub path: String,
}

type Calls = Arc<Mutex<Vec<Call>>>;

pub struct Wire {
    pub address: SocketAddr,
    calls: Calls,
}

impl Wire {
    pub fn to(account: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        let noted = calls.clone();
        // Ends with the process: its listener is of no use to anybody else.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let noted = noted.clone();
                // A connection that breaks is the affair of the two ends.
                std::thread::spawn(move || carry(&stream, account, &noted));
            }
        });
        Self { address, calls }
    }

    /// In the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// How many calls of this method went to this deployment itself.
    pub fn count(&self, method: &str, id: &DeploymentId) -> usize {
        let path = path_of(id);
        self.calls().iter().filter(|call| call.method == method && call.path == path).count()
    }
}

pub fn path_of(id: &DeploymentId) -> String {
    format!("/api/deployments/{id}")
}

fn carry(from: &TcpStream, account: SocketAddr, noted: &Mutex<Vec<Call>>) -> io::Result<()> {
    let to = TcpStream::connect(account)?;
    let (mut answers, mut back) = (to.try_clone()?, from.try_clone()?);
    std::thread::spawn(move || {
        // However it ended, the daemon sees the connection close.
        let _broken = io::copy(&mut answers, &mut back);
        let _closed = back.shutdown(Shutdown::Both);
    });
    let asked = ask(from, &to, noted);
    let _closed = to.shutdown(Shutdown::Both);
    asked
}

/// No request that the daemon sends has a body, so that each ends with its head.
fn ask(mut from: &TcpStream, mut to: &TcpStream, noted: &Mutex<Vec<Call>>) -> io::Result<()> {
    let (mut head, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&chunk[..read]);
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let line = String::from_utf8_lossy(&head[..end]).into_owned();
            let mut words = line.split([' ', '?']).map(str::to_owned);
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            noted.lock().unwrap().push(Call { at: Clock::system().now(), method, path });
            head.drain(..end + 4);
        }
        to.write_all(&chunk[..read])?;
    }
}
