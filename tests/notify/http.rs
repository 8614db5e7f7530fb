//! A webhook's other end on loopback: answers each connection from a script and keeps what it was sent.
//!
//! It must never answer by itself: what is not in the script is a refused test.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

#[derive(Debug, Clone)]
pub enum Answer {
    /// Sent as it stands, then an orderly close.
    Raw(String),
    /// Sent, then the connection is reset while more was promised.
    ThenReset(String),
    /// Sent, then `chunk` again and again until the client leaves.
    ThenForever(String, Vec<u8>, Duration),
    /// The request is read; nothing is ever said.
    Silent,
    /// The request is read and the connection closed.
    Cut,
}

pub fn status(code: u16, headers: &str, body: &str) -> Answer {
    Answer::Raw(format!(
        "HTTP/1.1 {code} Some Reason\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}

#[derive(Debug, Clone)]
pub struct Request {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub struct Hook {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Hook {
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// The last answer is repeated.
pub async fn hook(path: &str, answers: Vec<Answer>) -> Hook {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut last = None;
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answers.next().or_else(|| last.clone()).unwrap();
            last = Some(answer.clone());
            tokio::spawn(converse(stream, answer, seen.clone()));
        }
    });
    Hook { url, requests }
}

async fn converse(stream: TcpStream, answer: Answer, seen: Arc<Mutex<Vec<Request>>>) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: BTreeMap<_, _> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    seen.lock().unwrap().push(Request { line: lines[0].clone(), headers, body });
    let mut stream = stream.into_inner();
    match answer {
        Answer::Raw(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Answer::ThenReset(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.flush().await;
            let _ = stream.set_zero_linger();
        }
        Answer::ThenForever(text, chunk, pause) => {
            let _ = stream.write_all(text.as_bytes()).await;
            while stream.write_all(&chunk).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        }
        Answer::Silent => {
            let _ = stream.read(&mut [0]).await;
        }
        Answer::Cut => {}
    }
}
