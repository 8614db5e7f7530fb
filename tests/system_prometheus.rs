//! What `config/` ships for Prometheus and Grafana, asked of Debian's real Prometheus, which scrapes the demo and a daemon.
//!
//! It must never be skipped silently: without the program it fails and says how to get it.
#![cfg(feature = "system-tests")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "daemon/lab.rs"]
mod lab;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use lab::{Hook, Lab, SOON, own_address, stopwatch, until, within};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use spheron_watch::{
    model::Usd,
    sim::{Event, Spec},
};

fn shipped(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name).display().to_string()
}

/// The server on a loopback address of its own, alone, in a folder of its own; it is ended by its id when this goes.
struct Prometheus {
    server: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(address: SocketAddr, targets: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let targets: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n- job_name: spheron-watch\n  static_configs:\n  - targets: [{}]\n",
            shipped("prometheus-rules.yml"),
            targets.join(", ")
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let server = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("no Prometheus: install prometheus");
        let mut server = Self { server, address, folder };
        until("Prometheus answers", || {
            assert!(server.server.try_wait().unwrap().is_none(), "it ended: {}", server.log());
            server.get("/-/ready").map(drop)
        });
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The body of what it answers with 200. `None` while nobody listens.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        // As 1.0, so that no answer comes in chunks.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        (head.split(' ').nth(1) == Some("200")).then(|| body.to_owned())
    }

    fn json(&self, path: &str) -> Value {
        let body = self.get(path).unwrap_or_else(|| panic!("{path} is refused"));
        serde_json::from_str(&body).unwrap()
    }

    /// How many series an expression gives now; one that cannot be read fails.
    fn count(&self, expression: &str) -> usize {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let Some(body) = self.get(&format!("/api/v1/query?query={query}")) else {
            panic!("Prometheus refuses {expression}");
        };
        let answer: Value = serde_json::from_str(&body).unwrap();
        let values = answer["data"]["result"].as_array().unwrap();
        // NaN is what a quantile or a ratio of nothing gives.
        let known = values.iter().filter(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"));
        known.count()
    }

    /// Waits until each of these gives something.
    fn all_find_data(&self, expressions: BTreeSet<String>) {
        let began = stopwatch();
        let mut missing = expressions;
        loop {
            missing.retain(|expression| self.count(expression) == 0);
            if missing.is_empty() {
                return;
            }
            assert!(began() < SOON, "no data within {SOON:?}: {missing:#?}");
            // Scrapes are a second apart.
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// All rules, evaluated at least once.
    fn rules(&self) -> Vec<Value> {
        let rules = || -> Vec<Value> {
            let groups = self.json("/api/v1/rules")["data"]["groups"].as_array().unwrap().clone();
            groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
        };
        until("every rule is evaluated", || {
            let rules = rules();
            rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
        })
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The queries of every panel, as Grafana sends them.
fn queries_of_the_dashboard() -> BTreeSet<String> {
    let text = fs::read_to_string(shipped("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "1m"));
    queries.collect()
}

/// Each metric with its labels, as an expression asks for it.
fn selectors(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for (at, _) in expression.match_indices("spheron_") {
        if expression[..at].ends_with(is_name) {
            continue;
        }
        let rest = &expression[at..];
        let name = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let labels = if rest[name..].starts_with('{') { rest[name..].find('}').unwrap() + 1 } else { 0 };
        found.insert(rest[..name + labels].to_owned());
    }
    found
}

#[test]
fn the_selectors_of_an_expression_are_found() {
    let expression = "abs(time() - spheron_a{x=~\"b|c\"}) > 3 * spheron_b[5m] and deployment:spheron_c:info";
    let expected = ["spheron_a{x=~\"b|c\"}".to_owned(), "spheron_b".to_owned()];
    assert_eq!(selectors(expression), BTreeSet::from(expected));
}

/// What runs on an instance and tells how much its GPU works.
fn exporter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the process: its listener is of no use to anybody else.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let body = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 42\n";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            let _ = stream.read(&mut [0; 4_096]);
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

/// For a daemon that has what the demo lacks: a budget, a GPU load, a receiver that takes nothing.
fn configure(lab: &Lab, hook: &Hook) {
    let more = format!(
        "[collect]\nbalance = \"every 10s\"\n\
         [[rule]]\nname = \"monthly\"\nkind = \"budget\"\namount = 10.0\nperiod = \"month\"\n\
         [[activity]]\nname = \"dcgm\"\nkind = \"prometheus\"\nurl = \"http://{{ip}}:{}/metrics\"\n\
         metric = \"DCGM_FI_DEV_GPU_UTIL\"\nbusy_above = 5.0\nevery = \"10s\"\nallow_private = true\n\
         match = {{ name = [\"train\"] }}\n",
        exporter()
    );
    lab.config(&[("deaf", hook)], &more);
}

#[test]
fn every_query_that_is_shipped_finds_data_and_a_real_alert_fires() {
    let (mut spot, own) = (None, own_address());
    let lab = Lab::new(|world, now| {
        let team = world.add_team("research", "owner", Usd::from_cents(820));
        let begin = now.minus(Duration::from_secs(3_600));
        world.deploy(begin, Spec::new(&team, "train").at("127.0.0.1"));
        world.deploy(now, Spec::new(&team, "slow").boot(Duration::from_secs(3_600)));
        spot = Some(world.deploy(begin, Spec::new(&team, "spot").kind("SPOT")));
    });
    let hook = Hook::answering(|_, _| 500);
    configure(&lab, &hook);
    let demo_address = own_address();
    let prometheus = Prometheus::start(own, &[lab.listen, demo_address]);
    let listen = demo_address.to_string();
    let _demo = lab.launch(lab.command(&["demo", "--speed", "600", "--listen", &listen]));
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    lab.happens(Event::Reclaim(spot.unwrap()));
    daemon.reload();

    let queries = queries_of_the_dashboard();
    assert!(queries.len() > 30, "{queries:#?}");
    prometheus.all_find_data(queries);

    let rules = prometheus.rules();
    let of_kind = |kind: &str| rules.iter().filter(|rule| rule["type"] == kind).count();
    assert!(of_kind("alerting") > 20 && of_kind("recording") == 7, "{rules:#?}");
    let asked = rules.iter().flat_map(|rule| selectors(rule["query"].as_str().unwrap()));
    // What was there for a moment counts: an end is shown for a quarter of an hour, in the demo's time.
    let asked: BTreeSet<String> = asked.map(|selector| format!("last_over_time({selector}[10m])")).collect();
    assert!(asked.len() > 25, "{asked:#?}");
    prometheus.all_find_data(asked);
    let recorded = rules.iter().filter(|rule| rule["type"] == "recording");
    prometheus.all_find_data(recorded.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect());

    let low = within(SOON, "the alert", || {
        let alerts = prometheus.json("/api/v1/alerts")["data"]["alerts"].as_array().unwrap().clone();
        alerts.into_iter().find(|alert| alert["labels"]["alertname"] == "SpheronBalanceLow")
    });
    let summary = low["annotations"]["summary"].as_str().unwrap();
    assert!(summary.ends_with(" are left on the balance of research"), "{summary}");
    let again = prometheus.rules();
    for rule in &again {
        assert_eq!((&rule["health"], &rule["lastError"]), (&"ok".into(), &Value::Null), "{rule:#}");
    }
    assert_eq!(daemon.terminate().code(), Some(0), "{}", daemon.log());
}
