//! What telling takes: from a commit to the webhook's POST, and how a long queue is worked off, in time and memory. A real database
//! with its fsync, the real pump, HTTP over loopback. `cargo bench --bench delivery -- COMMITS QUEUED`, 300 and 10,000 unless said
//! otherwise.
#![allow(clippy::print_stdout, reason = "figures are its output")]

use std::{
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use spheron_watch::{
    clock::Clock,
    drive::outbox::Pumps,
    model::{AlertKey, EventId, NoMeter, Notice, Severity, StepRecord, Subject, TeamId, Time, Transition},
    notify::{Format, Receiver, ReceiverKind, ReceiverSpec},
    store::Store,
};
use tokio::{
    runtime::Runtime,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

type Failed = Box<dyn Error>;

/// So many notices go into one commit where it is not commits that are measured.
const TOGETHER: usize = 100;
const AT_ONCE: usize = 1_000;

fn main() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(()); // `cargo test --all-targets` has no minutes to spare.
    }
    let mut numbers = args.iter().filter_map(|arg| arg.parse::<usize>().ok());
    let (commits, queued) = (numbers.next().unwrap_or(300), numbers.next().unwrap_or(10_000));
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "there is a TLS provider already")?;
    latency(commits)?;
    for queued in [AT_ONCE, queued] {
        drain(queued)?;
    }
    Ok(())
}

/// Commits one notice at a time, and waits for it at the webhook.
fn latency(commits: usize) -> Result<(), Failed> {
    let rig = Rig::new()?;
    let pump = rig.pump()?;
    let mut committed = Vec::new();
    let mut told = Vec::new();
    for nth in 0..=commits {
        let begun = rig.clock.monotonic();
        rig.commit(nth..nth + 1)?;
        committed.push(rig.clock.monotonic().saturating_sub(begun));
        rig.bell.notify_waiters();
        rig.arrived.recv()?;
        told.push(rig.clock.monotonic().saturating_sub(begun));
        // Until the receipt is in the database.
        rig.wait_for_empty()?;
    }
    // The first one makes the connection, and all statements.
    println!("first alert: commit → POST after {:.2?}", told.remove(0));
    println!("{commits} alerts, one by one, commit included:");
    for (name, mut times) in [("commit", committed.split_off(1)), ("commit → POST", told)] {
        times.sort();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        println!("  {name}: median {:.2?}, p95 {:.2?}, most {:.2?}", at(50), at(95), at(99).max(at(100)));
    }
    rig.end(pump)
}

/// Lets a queue grow while nothing is sent, then sends it.
fn drain(queued: usize) -> Result<(), Failed> {
    let rig = Rig::new()?;
    println!("{queued} queued:");
    println!("  resident with none queued: {}", resident("VmRSS")?);
    for from in (0..queued).step_by(TOGETHER) {
        rig.commit(from..(from + TOGETHER).min(queued))?;
    }
    println!("  resident with all of them queued: {}", resident("VmRSS")?);
    // From here on the high water counts.
    fs::write("/proc/self/clear_refs", "5")?;
    let begun = rig.clock.monotonic();
    let pump = rig.pump()?;
    for _ in 0..queued {
        rig.arrived.recv()?;
    }
    rig.wait_for_empty()?;
    let took = rig.clock.monotonic().saturating_sub(begun).as_secs_f64();
    println!("  resident at most while they are sent: {}", resident("VmHWM")?);
    println!("  sent in {took:.1} s, {:.0} a second", queued as f64 / took);
    rig.end(pump)
}

struct Rig {
    runtime: Runtime,
    clock: Clock,
    store: Store,
    bell: Arc<Notify>,
    hook: SocketAddr,
    /// One for each POST, once it is there as a whole.
    arrived: mpsc::Receiver<()>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

type Pump = JoinHandle<Result<(), spheron_watch::store::StoreError>>;

impl Rig {
    fn new() -> Result<Self, Failed> {
        // On a disk: what lies in memory syncs for free.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (store, _) = Store::open(&folder.path().join("watch.db"))?;
        let (hook, arrived) = hook()?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            clock: Clock::system(),
            store,
            bell: Arc::new(Notify::new()),
            hook,
            arrived,
            stop: CancellationToken::new(),
            _folder: folder,
        })
    }

    fn pump(&self) -> Result<Pump, Failed> {
        let url = format!("http://{}/hook", self.hook);
        let secret = Some(SECRET.to_owned().into());
        let kind = ReceiverKind::Webhook { url: url.into(), format: Format::Standard { secret } };
        let spec = ReceiverSpec { name: "hook".into(), kind };
        let pumps = Pumps {
            store: self.store.clone(),
            clock: self.clock.clone(),
            meter: Arc::new(NoMeter),
            bell: self.bell.clone(),
            heard: Arc::default(),
            names: Arc::new(vec!["hook".into()]),
            links: None,
            money_ends: watch::channel(None).1,
        };
        let receiver = Arc::new(Receiver::build(spec, self.clock.clone())?);
        Ok(self.runtime.spawn(pumps.run(receiver, self.stop.clone())))
    }

    fn commit(&self, which: std::ops::Range<usize>) -> Result<(), Failed> {
        let at = self.clock.now();
        let notices = which.map(|nth| notice(nth, at)).collect();
        let record = StepRecord { at, notices, ..StepRecord::default() };
        Ok(self.runtime.block_on(self.store.commit(Arc::new(record)))?)
    }

    fn wait_for_empty(&self) -> Result<(), Failed> {
        while self.runtime.block_on(self.store.outbox())?.values().any(|depth| depth.waiting > 0) {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn end(self, pump: Pump) -> Result<(), Failed> {
        self.stop.cancel();
        self.runtime.block_on(pump)??;
        self.runtime.block_on(self.store.close());
        Ok(())
    }
}

const SECRET: &str = "whsec_bm90LXRvLWJlLXNlZW4tYW55d2hlcmUtYXQtYWxs";

/// Each about a team of its own, so that none waits for another.
fn notice(nth: usize, at: Time) -> Notice {
    let team = TeamId::new(format!("67a{nth:021}"));
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: team } };
    Notice {
        id: EventId::derive(&key, at, Transition::Firing, 0),
        key,
        kind: "balance".into(),
        transition: Transition::Firing,
        severity: Severity::Critical,
        title: format!("low balance: team-{nth} has $8.20 left"),
        reason:
            "The balance of the team is $8.20, below the limit of $10.00. At $1.46/h it lasts 5 h 37 min. "
                .repeat(3),
        advice: "Top the balance up, or end what is not needed: https://app.spheron.ai/billing".into(),
        details: (0..6)
            .map(|n| (format!("figure {n}").into(), "$1.46/h since this morning".to_owned()))
            .collect(),
        bars: Vec::new(),
        since: at,
        at,
        receivers: vec!["hook".into()],
        together: Default::default(),
        grant: None,
        link: None,
    }
}

fn resident(field: &str) -> Result<String, Failed> {
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: f64 = line.ok_or("no such field")?.trim().trim_end_matches(" kB").parse()?;
    Ok(format!("{:.1} MiB", kib / 1024.0))
}

/// Takes everything, on connections that stay, and keeps nothing.
fn hook() -> io::Result<(SocketAddr, mpsc::Receiver<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (sender, arrived) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            thread::spawn(move || converse(stream, &sender));
        }
    });
    Ok((address, arrived))
}

fn converse(mut stream: TcpStream, arrived: &mpsc::Sender<()>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream.try_clone()?);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().to_lowercase().split_once(": ") {
                Some(("content-length", number)) => length = number.parse().unwrap_or(0),
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        body.resize(length, 0);
        from.read_exact(&mut body)?;
        if arrived.send(()).is_err() {
            return Ok(());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
