//! What the real daemon takes (PRODUCT §12): memory and CPU with polls and scrapes every 10 s, and the time from its start to its
//! first complete observation. `cargo bench --bench load -- SECONDS DEPLOYMENTS`, 120 and 1,000 unless said otherwise.
#![allow(clippy::print_stdout, reason = "figures are its output")]

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use spheron_watch::{
    clock::Clock,
    sim::{KEY, World, serve},
};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(10);
/// As the kernel counts CPU time.
const TICKS_PER_SEC: f64 = 100.0;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(()); // `cargo test --all-targets` has no two minutes to spare.
    }
    let mut numbers = args.iter().filter_map(|arg| arg.parse::<u64>().ok());
    let seconds = numbers.next().unwrap_or(120);
    let deployments = numbers.next().and_then(|n| usize::try_from(n).ok()).unwrap_or(1_000);

    let clock = Clock::system();
    let mut world = World::fleet(1, deployments, clock.now());
    world.terms.limit = 100_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let api = listener.local_addr()?;
    let stop = CancellationToken::new();
    runtime.spawn(serve(Arc::new(Mutex::new(world)), clock.clone(), listener, stop.clone()));

    let folder = tempfile::tempdir()?;
    let listen = free_address()?;
    let begun = clock.monotonic();
    let mut daemon = Daemon(start(folder.path(), api, listen)?);
    while !get(listen, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
        if let Some(status) = daemon.0.try_wait()? {
            return Err(io::Error::other(format!("the daemon ended with {status}")));
        }
        thread::sleep(Duration::from_millis(2));
    }
    let ready = clock.monotonic().saturating_sub(begun);
    println!("{deployments} deployments: first complete observation after {} ms", ready.as_millis());

    let (began, used) = (clock.monotonic(), cpu_seconds(daemon.0.id())?);
    let mut page = 0;
    for round in 1..=seconds.div_ceil(EVERY.as_secs()) {
        let due = began + EVERY * u32::try_from(round).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_sub(clock.monotonic()));
        page = get(listen, "/metrics")?.len();
    }
    let length = clock.monotonic().saturating_sub(began).as_secs_f64();
    let used = cpu_seconds(daemon.0.id())? - used;
    println!("after {length:.0} s, scrapes of {page} bytes:");
    println!("  CPU: {used:.2} s, {:.2} s per 300 s", used / length * 300.0);
    for (name, kib) in memory(daemon.0.id())? {
        println!("  {name}: {:.1} MiB", kib / 1024.0);
    }
    stop.cancel();
    Ok(())
}

/// Ended with this program.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn start(folder: &Path, api: SocketAddr, listen: SocketAddr) -> io::Result<Child> {
    let config = folder.join("config.toml");
    let text = format!(
        "[account]\nbase_url = \"http://{api}\"\n[collect]\nbalance = \"every 10s\"\ndeployments = \"every 10s\"\n\
         calls_per_15m = 50000\n[store]\npath = \"{}\"\n[serve]\nlisten = \"{listen}\"\n",
        folder.join("state.db").display()
    );
    fs::write(&config, text)?;
    Command::new(env!("CARGO_BIN_EXE_spheron-watch"))
        .args([Path::new("--config"), &config, Path::new("run")])
        .env("SPHERON_API_KEY", KEY)
        .stderr(Stdio::null())
        .spawn()
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn get(from: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(from)?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th after it.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / TICKS_PER_SEC)
}

fn memory(pid: u32) -> io::Result<Vec<(String, f64)>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    let wanted = lines.filter(|(name, _)| ["VmHWM", "VmRSS", "RssAnon", "RssFile"].contains(name));
    let kib = |value: &str| value.trim().trim_end_matches(" kB").parse::<f64>().ok();
    Ok(wanted.filter_map(|(name, value)| Some((name.to_owned(), kib(value)?))).collect())
}
