//! The one client of the daemon's socket: a request, an answer, or why there is none.
//!
//! It must never wait without an end, nor read more than an answer may hold.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::serve::api::{Problem, ROOT};

/// Between two bytes. The daemon answers a change within 8 s.
const PATIENCE: Duration = Duration::from_secs(12);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no daemon answers at {path} ({source}); start it: systemctl start spheron-watch, or spheron-watch run"
    )]
    NoDaemon { path: PathBuf, source: io::Error },
    #[error("{path} is not for you; run this as root, or join the group of that socket")]
    Denied { path: PathBuf },
    #[error("the daemon at {path} does not answer as it should: {what}; see its log")]
    Broken { path: PathBuf, what: String },
    #[error(
        "there is no socket to ask: `[serve] socket` is \"off\", or has no default without XDG_RUNTIME_DIR"
    )]
    Off,
    /// It answered, and refused.
    #[error("{0}")]
    Refused(Problem),
}

#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// `socket` as the configuration gives it.
    pub fn new(socket: Option<&Path>) -> Result<Self, ClientError> {
        socket.map(|path| Self { path: path.to_owned() }).ok_or(ClientError::Off)
    }

    pub fn get(&self, path: &str) -> Result<String, ClientError> {
        self.send("GET", path, "")
    }

    /// `path` is below the API's root, percent-encoded, with its query.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Result<String, ClientError> {
        let request = format!(
            "{method} {ROOT}/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = UnixStream::connect(&self.path).map_err(|source| self.unreachable(source))?;
        let answer = exchange(&mut stream, &request).map_err(|error| self.broken(error.to_string()))?;
        let (status, body) = parse(&answer).map_err(|what| self.broken(what))?;
        if (200..300).contains(&status) {
            return Ok(body.to_owned());
        }
        let problem = serde_json::from_str(body);
        Err(problem.map_or_else(|_| self.broken(format!("status {status}")), ClientError::Refused))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        if source.kind() == io::ErrorKind::PermissionDenied {
            return ClientError::Denied { path };
        }
        ClientError::NoDaemon { path, source }
    }

    fn broken(&self, what: impl Into<String>) -> ClientError {
        ClientError::Broken { path: self.path.clone(), what: what.into() }
    }
}

fn exchange(stream: &mut UnixStream, request: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer);
    read.map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            return io::Error::other(format!("nothing came for {}s", PATIENCE.as_secs()));
        }
        error
    })?;
    Ok(answer)
}

/// Status and body. The length must be told and kept, so that half an answer is none.
fn parse(answer: &str) -> Result<(u16, &str), String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("it closed the connection")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| status.parse().ok()).ok_or("that is no HTTP")?;
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())
    });
    match length {
        Some(Some(length)) if length == body.len() => Ok((status, body)),
        None if status == 204 => Ok((status, "")),
        Some(_) | None => Err("its answer is not whole".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn half_an_answer_is_none() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Ok((200, "{}"))),
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, ""))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", Err("its answer is not whole")),
            ("HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n{}", Err("its answer is not whole")),
            ("HTTP/1.1 200 OK\r\n\r\n{}", Err("its answer is not whole")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", Err("it closed the connection")),
            ("SSH-2.0-x\r\n\r\n", Err("that is no HTTP")),
            ("HTTP/1.1 ä00\r\n\r\n", Err("that is no HTTP")),
            ("", Err("it closed the connection")),
        ] {
            assert_eq!(parse(answer), expected.map_err(str::to_owned), "{answer:?}");
        }
    }

    #[test]
    fn who_does_not_answer_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let client = Client::new(Some(&path)).unwrap();
        let missing = client.get("status").unwrap_err().to_string();
        assert!(
            missing.contains("control.sock") && missing.contains("systemctl start spheron-watch"),
            "{missing}"
        );
        drop(UnixListener::bind(&path).unwrap());
        assert!(
            matches!(client.get("status"), Err(ClientError::NoDaemon { .. })),
            "left behind by a dead one"
        );
        assert!(matches!(Client::new(None), Err(ClientError::Off)));
    }
}
