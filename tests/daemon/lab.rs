//! What a test of the real binary needs: a simulated account on loopback, a webhook's other end, the process itself.
//!
//! It must never leave a process behind: every child ends with its guard, by its own id.
#![allow(dead_code, reason = "several test programs share it, and none needs all of it")]

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::OpenOptionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use spheron_watch::{
    clock::Clock,
    model::{DeploymentId, TeamId, Time, Usd},
    sim::{self, Event, Spec, World},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// For what takes milliseconds on an idle machine, or a `group_wait`, and longer on a busy one.
pub const SOON: Duration = Duration::from_secs(60);

/// How long it is since it was made, in real time.
pub fn stopwatch() -> impl Fn() -> Duration {
    let clock = Clock::system();
    let began = clock.monotonic();
    move || clock.monotonic().saturating_sub(began)
}

/// Waits for something to become so, and says what did not.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(SOON, what, look)
}

/// The same for what takes its time.
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = stopwatch();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An account behind a socket, and a folder for everything that a daemon needs.
pub struct Lab {
    pub api: SocketAddr,
    pub listen: SocketAddr,
    pub runtime: Runtime,
    world: Arc<Mutex<World>>,
    stop: CancellationToken,
    dir: tempfile::TempDir,
    started: AtomicUsize,
}

impl Lab {
    /// `fill` gets an empty account of which nobody is poor, and the time.
    pub fn new(fill: impl FnOnce(&mut World, Time)) -> Self {
        let clock = Clock::system();
        let start = clock.now();
        let mut world = World::new(7, start.minus(Duration::from_secs(2 * 86_400)));
        world.terms.limit = 1_000_000;
        fill(&mut world, start);
        world.advance(start);
        let world = Arc::new(Mutex::new(world));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let api = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        runtime.spawn(sim::serve(world.clone(), clock, listener, stop.clone()));
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "tmp", "state"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { api, listen: own_address(), world, runtime, stop, dir, started: AtomicUsize::new(0) }
    }

    /// One team with enough money and one instance that is not old.
    pub fn quiet() -> Self {
        Self::new(|world, now| {
            let team = world.add_team("research", "owner", Usd::from_cents(100_000));
            world.deploy(now.minus(Duration::from_secs(3_600)), Spec::new(&team, "train"));
        })
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Happens before the next call is answered.
    pub fn happens(&self, event: Event) {
        self.world().at(Clock::system().now(), event);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn database(&self) -> PathBuf {
        self.path("state/watch.db")
    }

    /// Writes a file that nobody else can read, and gives its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        write_secret(&self.path(name), text)
    }

    /// `config.toml` with these receivers added, each a webhook, told of everything that is critical or a warning.
    pub fn config(&self, hooks: &[(&str, &Hook)], more: &str) -> PathBuf {
        let mut text = String::new();
        for (name, hook) in hooks {
            let url = self.file(&format!("{name}.url"), &hook.url());
            text += &format!("[[receiver]]\nname = {name:?}\nwebhook = {{ url_file = {url:?} }}\n");
        }
        let names: Vec<&str> = hooks.iter().map(|(name, _)| *name).collect();
        text += &format!("[notify]\nreceivers = {names:?}\n{more}\n");
        self.file("config.toml", &text)
    }

    /// The program with an environment of its own, and no configuration yet but the key and where the API is.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spheron-watch"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("SPHERON_API_KEY", sim::KEY)
            .env("SPHERON_WATCH_ACCOUNT__BASE_URL", format!("http://{}", self.api))
            .env("SPHERON_WATCH_STORE__PATH", self.database())
            .env("SPHERON_WATCH_SERVE__SOCKET", self.path("control.sock"))
            .env("SPHERON_WATCH_SERVE__LISTEN", self.listen.to_string())
            .stdin(Stdio::null());
        command
    }

    /// The same with `config.toml`, if it was written.
    pub fn configured(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        let config = self.path("config.toml");
        if config.exists() {
            command.arg("-c").arg(config);
        }
        command
    }

    /// Runs a command to its end.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.configured(arguments).output().unwrap()
    }

    pub fn start(&self) -> Daemon {
        self.launch(self.configured(&["run"]))
    }

    pub fn launch(&self, mut command: Command) -> Daemon {
        let nth = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("log-{nth}"));
        let both = File::create(&log).unwrap();
        let child = command.stdout(both.try_clone().unwrap()).stderr(both).spawn().unwrap();
        Daemon { child, log, listen: self.listen }
    }

    /// What the API on the control socket answers: a status, and JSON or nothing.
    pub fn ask(&self, request: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let length = body.len();
        let text =
            format!("{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// Changes the database behind the daemon's back, alive or dead. What is in its WAL stays the daemon's to move.
    pub fn tamper(&self, sql: &str) {
        let conn = Connection::open(self.database()).unwrap();
        conn.busy_timeout(SOON).unwrap();
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        conn.execute_batch(sql).unwrap();
    }

    /// The database as others may read it, beside the daemon or without one.
    pub fn reader(&self) -> Connection {
        reader(&self.database())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn reader(path: &Path) -> Connection {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    conn.busy_timeout(SOON).unwrap();
    conn
}

pub fn write_secret(path: &Path, text: &str) -> PathBuf {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path.to_owned()
}

/// A loopback address of its own with the usual port: free, and free to be taken again by the next process.
pub fn own_address() -> SocketAddr {
    let [a, b] = fastrand::u16(..).to_be_bytes();
    SocketAddr::from(([127, 83, a, b.clamp(1, 254)], 10_977))
}

/// A rich team with instances that have run for an hour: `spots` SPOT ones and as many others, by id.
pub fn fleet(world: &mut World, now: Time, spots: usize) -> (TeamId, Vec<DeploymentId>) {
    let team = world.add_team("research", "owner", Usd::from_cents(10_000_000));
    let begin = now.minus(Duration::from_secs(3_600));
    let ids = (0..spots)
        .map(|nth| {
            world.deploy(begin, Spec::new(&team, &format!("keep-{nth}")));
            world.deploy(begin, Spec::new(&team, &format!("spot-{nth}")).kind("SPOT"))
        })
        .collect();
    (team, ids)
}

/// The running program; it is killed when this goes.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    listen: SocketAddr,
}

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Everything on stdout and stderr so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let (child, log) = (&mut self.child, &self.log);
        let began = stopwatch();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(began() < SOON, "it does not end: {}", fs::read_to_string(log).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `None` while nobody listens.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.listen).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.listen);
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The values of a metric by its labels; empty while there are none.
    pub fn metric(&self, name: &str) -> BTreeMap<String, f64> {
        let page = self.get("/metrics").map(|(_, page)| page).unwrap_or_default();
        let lines = page.lines().filter_map(|line| line.strip_prefix(name));
        let labelled = lines.filter(|rest| rest.starts_with([' ', '{']));
        labelled
            .filter_map(|rest| rest.rsplit_once(' '))
            .map(|(labels, value)| (labels.to_owned(), value.parse().unwrap()))
            .collect()
    }

    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Until balance and deployments were seen whole.
    pub fn wait_until_ready(&mut self) {
        until("ready", || {
            assert!(self.is_alive(), "it ended: {}", self.log());
            self.is_ready().then_some(())
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail if it has ended already, and then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a webhook was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// When all of it had arrived.
    pub at: Time,
    pub id: String,
    pub head: String,
    pub body: Value,
}

impl Sent {
    /// `alert.firing`, `alert.resolved`, …
    pub fn what(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    pub fn rule(&self) -> &str {
        self.body["data"]["rule"].as_str().unwrap()
    }

    pub fn subject(&self) -> &str {
        self.body["data"]["subject"]["id"].as_str().unwrap_or_default()
    }
}

/// The other end of a webhook: answers each request as it is told, and keeps what it was sent.
pub struct Hook {
    address: SocketAddr,
    secret_path: String,
    sent: Arc<Mutex<Vec<Sent>>>,
}

/// What stands in the URL of every hook, as the tokens of chat services do.
pub const URL_SECRET: &str = "T0SECRETxB0SECRETx9f2c7ab1";

impl Hook {
    pub fn new() -> Self {
        Self::answering(|_, _| 200)
    }

    /// By how many requests came before, and how many of them with the same id. It may block: the answer waits for it.
    pub fn answering(status: impl Fn(usize, usize) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (seen, status) = (sent.clone(), Arc::new(status));
        // Ends with the process: its listener is of no use to anybody else.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, status) = (seen.clone(), status.clone());
                std::thread::spawn(move || converse(stream, &seen, &*status));
            }
        });
        Self { address, secret_path: format!("/services/{URL_SECRET}"), sent }
    }

    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.secret_path)
    }

    /// In the order of arrival, whatever was answered.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// Until something of this rule and type arrives.
    pub fn wait_for(&self, rule: &str, what: &str) -> Sent {
        let found = || self.sent().into_iter().find(|sent| sent.rule() == rule && sent.what() == what);
        until(&format!("{what} of {rule} at the webhook"), found)
    }
}

/// A request that breaks off, as those of a killed process do, was not sent.
fn converse(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Sent>>,
    status: &dyn Fn(usize, usize) -> u16,
) -> Option<()> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
    let (head, body) = loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length: usize = header(&head, "content-length")?.parse().ok()?;
        if bytes.len() >= end + 4 + length {
            break (head, bytes[end + 4..].to_vec());
        }
    };
    // Only Standard Webhooks have an id there.
    let id = header(&head, "webhook-id").unwrap_or_default();
    let sent = Sent { at: Clock::system().now(), id, body: serde_json::from_slice(&body).ok()?, head };
    let (nth, again) = {
        let mut seen = seen.lock().unwrap();
        let again = seen.iter().filter(|earlier| earlier.id == sent.id).count();
        seen.push(sent);
        (seen.len() - 1, again)
    };
    let status = status(nth, again);
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()
}

/// `head` is in lower case.
pub fn header(head: &str, name: &str) -> Option<String> {
    let prefix = format!("{name}: ");
    head.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}
