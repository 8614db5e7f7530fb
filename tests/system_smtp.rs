//! Mail against a real SMTP server (aiosmtpd), which `.ci/install-smtp.sh` installs.
//!
//! It must never be skipped silently: without the server it fails and says how to get it.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use secrecy::SecretString;
use serde_json::Value;
use spheron_watch::{
    clock::Clock,
    model::{AlertKey, Delivery, EventId, Notice, Severity, Subject, TeamId, Time, Transition},
    notify::{Receiver, ReceiverKind, ReceiverSpec, SmtpSpec, SmtpTls},
};

const PASSWORD: &str = "c0rrect-horse";

struct Server {
    child: Child,
    port: u16,
    ca_file: PathBuf,
    events: Arc<Mutex<Vec<Value>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(mode: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (ca_file, key_file) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&ca_file, made.cert.pem()).unwrap();
        std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let venv =
            std::env::var_os("SPHERON_WATCH_SMTP_VENV").map_or("target/smtp-venv".into(), PathBuf::from);
        let mut child = Command::new(root.join(venv).join("bin/python"))
            .arg(root.join("tests/system/smtp_server.py"))
            .args([&ca_file, &key_file])
            .args([mode, "watch", PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("no aiosmtpd: run .ci/install-smtp.sh first");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("the server did not start: run .ci/install-smtp.sh").unwrap();
        let port = serde_json::from_str::<Value>(&first).unwrap()["port"].as_u64().unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = events.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                seen.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let port = u16::try_from(port).unwrap();
        Self { child, port, ca_file, events, reader: Some(reader), _directory: directory }
    }

    fn receiver(&self, password: &str, to: &[&str]) -> Receiver {
        let smtp = SmtpSpec {
            host: "localhost".into(),
            port: self.port,
            tls: SmtpTls::StartTls,
            from: "Spheron Watch <watch@example.org>".into(),
            username: Some("watch".into()),
            password: Some(SecretString::from(password)),
            ca_file: Some(self.ca_file.clone()),
        };
        let to = to.iter().map(|&to| to.to_owned()).collect();
        let kind = ReceiverKind::Email { to, smtp: Arc::new(smtp) };
        Receiver::build(ReceiverSpec { name: "ops".into(), kind }, Clock::system()).unwrap()
    }

    /// Everything it saw; the server has ended then.
    fn stop(mut self) -> Vec<Value> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn notice() -> Notice {
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new("tm_7Qx") } };
    Notice {
        id: EventId::derive(&key, Time::from_secs(1), Transition::Firing, 0),
        key,
        kind: "balance".into(),
        transition: Transition::Firing,
        severity: Severity::Critical,
        title: "low balance: Größe\r\nBcc: victim@example.org has $8.20 left".into(),
        reason: "The balance of research is $8.20, below $10.00.\r\n.\r\n".into(),
        advice: "Top up at https://app.spheron.ai.".into(),
        details: vec![("balance".into(), "$8.20".into())],
        since: Time::from_secs(1_795_516_200),
        at: Time::from_secs(1_795_516_260),
        receivers: vec!["ops".into()],
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["event"].as_str().unwrap()).collect()
}

/// `=XX` and soft line breaks undone.
fn unquote(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        match (
            first,
            tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()),
        ) {
            (b'=', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn a_mail_arrives_encrypted_and_logged_in_and_holds_what_it_should() {
    let server = Server::start("required");
    let receiver = server.receiver(PASSWORD, &["ops@example.org", "gone@example.org"]);
    let delivery = receiver.deliver(&notice()).await;
    drop(receiver);
    let events = server.stop();
    let Delivery::Delivered { detail } = delivery else { panic!("{delivery:?}") };
    assert!(detail.starts_with("accepted for ops@example.org, but refused for gone@example.org"), "{detail}");
    assert!(detail.contains("no such user here"), "{detail}");
    assert!(events.iter().all(|e| e["event"] == "ehlo" || e["encrypted"] == true), "{events:?}");
    let mails: Vec<_> = events.iter().filter(|e| e["event"] == "data").collect();
    assert_eq!(mails.len(), 1, "{events:?}");
    assert_eq!(mails[0]["login"], "watch");
    assert_eq!(mails[0]["sender"], "watch@example.org");
    assert_eq!(mails[0]["to"], serde_json::json!(["ops@example.org"]));
    let content = mails[0]["content"].as_str().unwrap();
    let (head, body) = content.split_once("\r\n\r\n").unwrap();
    let id = format!("Message-ID: <{}@example.org>", notice().id);
    for header in [id.as_str(), "Auto-Submitted: auto-generated", "Date: Tue, 24 Nov 2026 10:31:00 +0000"] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert!(!head.lines().any(|l| l.starts_with("Bcc:")), "{head}");
    let body = unquote(body);
    assert!(body.contains("low balance: Größe Bcc: victim@example.org has $8.20 left"), "{body}");
    assert!(body.contains("below $10.00. .") && body.contains("  balance  $8.20"), "{body}");
    assert!(body.contains("text/html") && body.contains("</html>"), "the second part is whole: {body}");
}

#[tokio::test]
async fn fault_60_a_wrong_password_keeps_the_mail() {
    let server = Server::start("required");
    let delivery = server.receiver("wrong-horse", &["ops@example.org"]).deliver(&notice()).await;
    let events = server.stop();
    let Delivery::Retry { why, .. } = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("refused the login (535)") && why.contains("check [smtp] username"), "{why}");
    assert!(kinds(&events).contains(&"auth") && !kinds(&events).contains(&"mail"), "{events:?}");
}

#[tokio::test]
async fn fault_61_a_server_whose_starttls_was_stripped_is_refused() {
    let server = Server::start("stripped");
    let delivery = server.receiver(PASSWORD, &["ops@example.org"]).deliver(&notice()).await;
    let events = server.stop();
    let Delivery::Retry { why, .. } = delivery else { panic!("{delivery:?}") };
    assert!(why.contains("does not offer STARTTLS"), "{why}");
    assert_eq!(kinds(&events), ["ehlo"], "nothing but a greeting went over the line");
}
