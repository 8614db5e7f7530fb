//! `health`: asks the running daemon over its own HTTP address whether it lives.
//!
//! It must never wait longer than a health check may.

use std::{net::SocketAddr, path::Path, process::ExitCode, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::output;
use crate::config::{self, Env};

const DEADLINE: Duration = Duration::from_secs(5);

pub fn health(config: Option<&Path>, env: &Env) -> ExitCode {
    let settings = match config::load(config, env) {
        Ok(settings) => settings,
        Err(errors) => return super::failed(&errors.to_string()),
    };
    let Some(address) = settings.serve.listen else {
        return super::failed("`[serve] listen` is \"off\": there is no HTTP address to ask");
    };
    let asked = super::runtime()
        .map(|runtime| runtime.block_on(async { tokio::time::timeout(DEADLINE, ask(address)).await }));
    match asked {
        Ok(Ok(Ok(status))) if status.starts_with("HTTP/1.1 200") => {
            output::data("ok");
            ExitCode::SUCCESS
        }
        Ok(Ok(Ok(status))) => {
            super::failed(&format!("the daemon at {address} answered {status:?}; see its log"))
        }
        Ok(Ok(Err(error))) => super::failed(&format!(
            "no daemon answers at {address} ({error}); start it: systemctl start spheron-watch, or spheron-watch run"
        )),
        Ok(Err(_)) => {
            super::failed(&format!("the daemon at {address} did not answer within 5s; see its log"))
        }
        Err(error) => super::failed(&format!("cannot start: {error}")),
    }
}

/// The status line of `GET /healthz`. An unspecified listen address is asked on loopback.
async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    let mut stream = TcpStream::connect((ip, address.port())).await?;
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        SocketAddr::new(ip, address.port())
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4_096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}
