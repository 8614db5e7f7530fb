//! A mail server's stand-in on loopback: STARTTLS, implicit TLS, login, scripted replies; it keeps what it was sent.
//!
//! It must never be more polite than a real one: commands out of order are refused.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    None,
    Upgrade,
    /// Supports STARTTLS as the one above, but adds replies to all that will follow, in clear, before the handshake.
    Injected,
    Implicit,
}

#[derive(Debug, Clone)]
pub struct Script {
    pub tls: Tls,
    pub login: Option<(&'static str, &'static str)>,
    /// Replies to MAIL, one per mail; then 250.
    pub mail: Vec<&'static str>,
    /// Replies per recipient, one per mail; then 250.
    pub rcpt: BTreeMap<&'static str, Vec<&'static str>>,
    /// Replies to the content, one per mail; then 250. `""`: silence.
    pub content: Vec<&'static str>,
    /// Close the connection after this many mails.
    pub close_after: Option<usize>,
}

impl Script {
    pub fn new(tls: Tls) -> Self {
        Self {
            tls,
            login: None,
            mail: Vec::new(),
            rcpt: BTreeMap::new(),
            content: Vec::new(),
            close_after: None,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub connections: usize,
    /// All that came before encryption, or without any.
    pub clear: Vec<String>,
    pub logins: usize,
    pub mails: Vec<Mail>,
}

#[derive(Debug, Clone)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// Dots taken off again, lines with CRLF.
    pub content: String,
}

impl Mail {
    /// Unfolded header lines.
    pub fn headers(&self) -> Vec<String> {
        let head = self.content.split("\r\n\r\n").next().unwrap();
        head.replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n").map(str::to_owned).collect()
    }

    pub fn header(&self, name: &str) -> String {
        let prefix = format!("{name}: ");
        let found: Vec<_> =
            self.headers().into_iter().filter_map(|h| h.strip_prefix(&prefix).map(str::to_owned)).collect();
        assert_eq!(found.len(), 1, "{name} in {:?}", self.headers());
        found[0].clone()
    }
}

pub struct Server {
    pub port: u16,
    /// The certificate that it shows, for `ca_file`.
    pub ca_file: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

pub async fn server(directory: &Path, script: Script) -> Server {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let ca_file = directory.join("ca.pem");
    std::fs::write(&ca_file, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let session = Session { script: Arc::new(Mutex::new(script)), seen: seen.clone(), acceptor };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            session.seen.lock().unwrap().connections += 1;
            let session = session.clone();
            tokio::spawn(async move { session.run(stream).await });
        }
    });
    Server { port, ca_file, seen }
}

#[derive(Clone)]
struct Session {
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Seen>>,
    acceptor: TlsAcceptor,
}

enum End {
    Closed,
    StartTls,
}

impl Session {
    async fn run(&self, stream: TcpStream) {
        let tls = self.script.lock().unwrap().tls;
        if tls == Tls::Implicit {
            if let Ok(stream) = self.acceptor.accept(stream).await {
                self.converse(&mut BufReader::new(stream), true, true).await;
            }
            return;
        }
        let mut stream = BufReader::new(stream);
        if let Some(End::StartTls) = self.converse(&mut stream, false, true).await {
            let stream = stream.into_inner();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                self.converse(&mut BufReader::new(stream), true, false).await;
            }
        }
    }

    async fn converse<S>(&self, stream: &mut BufReader<S>, encrypted: bool, greet: bool) -> Option<End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let script = self.script.lock().unwrap().clone();
        if greet {
            say(stream, "220 localhost ESMTP stand-in").await?;
        }
        let (mut logged_in, mut from, mut to) = (script.login.is_none(), None, Vec::new());
        let mut mails = 0;
        loop {
            let line = self.read(stream, encrypted).await?;
            let verb = line.split([' ', ':']).next().unwrap().to_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    let starttls = matches!(script.tls, Tls::Upgrade | Tls::Injected) && !encrypted;
                    say(stream, "250-localhost").await?;
                    if starttls {
                        say(stream, "250-STARTTLS").await?;
                    }
                    if script.login.is_some() {
                        say(stream, "250-AUTH PLAIN LOGIN").await?;
                    }
                    say(stream, "250 8BITMIME").await?;
                }
                "STARTTLS" => {
                    // In one write: the client's buffer holds both when it begins its handshake.
                    let more = if script.tls == Tls::Injected {
                        "\r\n250 hello\r\n250 from\r\n250 to\r\n354 go on\r\n250 taken"
                    } else {
                        ""
                    };
                    say(stream, &format!("220 go ahead{more}")).await?;
                    return Some(End::StartTls);
                }
                "AUTH" => {
                    self.seen.lock().unwrap().logins += 1;
                    let (user, pass) = script.login.unwrap();
                    let right = STANDARD.encode(format!("\0{user}\0{pass}"));
                    logged_in = line.strip_prefix("AUTH PLAIN ") == Some(right.as_str());
                    // Some servers echo what they refuse.
                    let reply =
                        if logged_in { "235 welcome".to_owned() } else { format!("535 5.7.8 no: {line}") };
                    say(stream, &reply).await?;
                }
                "RSET" => {
                    (from, to) = (None, Vec::new());
                    say(stream, "250 reset").await?;
                }
                "MAIL" if !logged_in => say(stream, "530 5.7.0 authentication required").await?,
                "MAIL" if from.is_none() => {
                    let reply = self.next(|script| &mut script.mail);
                    if reply.starts_with('2') {
                        from = Some(address(&line));
                    }
                    say(stream, &reply).await?;
                }
                "RCPT" if from.is_some() => {
                    let who = address(&line);
                    let reply = {
                        let mut script = self.script.lock().unwrap();
                        take(script.rcpt.get_mut(who.as_str()))
                    };
                    if reply.starts_with('2') {
                        to.push(who);
                    }
                    say(stream, &reply).await?;
                }
                "DATA" if !to.is_empty() => {
                    say(stream, "354 go on").await?;
                    let content = self.content(stream, encrypted).await?;
                    let reply = self.next(|script| &mut script.content);
                    if reply.starts_with('2') {
                        let mail = Mail { from: from.take().unwrap(), to: std::mem::take(&mut to), content };
                        self.seen.lock().unwrap().mails.push(mail);
                    }
                    (from, to) = (None, Vec::new());
                    if reply.is_empty() {
                        // Silent: never answers, reads on until the client leaves.
                        while self.read(stream, encrypted).await.is_some() {}
                        return None;
                    }
                    say(stream, &reply).await?;
                    mails += 1;
                    if script.close_after == Some(mails) {
                        return Some(End::Closed);
                    }
                }
                "QUIT" => {
                    say(stream, "221 bye").await?;
                    return Some(End::Closed);
                }
                _ => say(stream, "503 5.5.1 out of order").await?,
            }
        }
    }

    fn next(&self, part: impl Fn(&mut Script) -> &mut Vec<&'static str>) -> String {
        take(Some(part(&mut self.script.lock().unwrap())))
    }

    async fn read<S: AsyncRead + Unpin>(&self, stream: &mut BufReader<S>, encrypted: bool) -> Option<String> {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        assert!(line.ends_with("\r\n"), "a bare line feed or a cut line: {line:?}");
        assert!(line.len() <= 1_000, "a line longer than SMTP allows");
        line.truncate(line.len() - 2);
        if !encrypted {
            self.seen.lock().unwrap().clear.push(line.clone());
        }
        Some(line)
    }

    async fn content<S: AsyncRead + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        encrypted: bool,
    ) -> Option<String> {
        let mut content = String::new();
        loop {
            let line = self.read(stream, encrypted).await?;
            if line == "." {
                return Some(content);
            }
            content.push_str(line.strip_prefix('.').unwrap_or(&line));
            content.push_str("\r\n");
        }
    }
}

fn take(replies: Option<&mut Vec<&'static str>>) -> String {
    match replies {
        Some(replies) if !replies.is_empty() => replies.remove(0).to_owned(),
        Some(_) | None => "250 2.0.0 fine".to_owned(),
    }
}

fn address(line: &str) -> String {
    line.split(['<', '>']).nth(1).unwrap().to_owned()
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, line: &str) -> Option<()> {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
    stream.get_mut().flush().await.ok()
}
