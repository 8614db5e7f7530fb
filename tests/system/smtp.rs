//! The real SMTP server (aiosmtpd) that `.ci/install-smtp.sh` installs, for tests.
//!
//! It must never be skipped silently: without the server a test fails and says how to get it.
#![allow(dead_code, reason = "several test programs share it, and none needs all of it")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

/// Of the user `watch`.
pub const PASSWORD: &str = "c0rrect-horse";

pub struct Server {
    pub port: u16,
    /// The certificate that it shows.
    pub ca_file: PathBuf,
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Server {
    /// A mode of `tests/system/smtp_server.py`: `required`, `implicit`, `stripped` or `silent`.
    pub fn start(mode: &str) -> Self {
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

    /// What it saw so far.
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    /// Everything it saw; the server has ended then.
    pub fn stop(mut self) -> Vec<Value> {
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
