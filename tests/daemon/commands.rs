//! The commands beside `run`: what they print, where, and with which exit code.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Output, Stdio},
};

use spheron_watch::sim;

use crate::lab::{Hook, Lab, URL_SECRET};

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn check_config_prints_schedule_calls_receivers_rules_and_activity_sources() {
    let lab = Lab::quiet();
    let more =
        "[collect]\nbalance = \"every 30s\"\n[[activity]]\nname = \"disk\"\nkind = \"volume_growth\"\n";
    lab.config(&[("hook", &Hook::new())], more);
    let output = lab.output(&["check-config"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    for part in [
        "every 30s",
        "calls per 15 min",
        "hook",
        "webhook, format standard",
        "low-balance",
        "any growth",
        "\nok\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(err(&output).is_empty() && !text.contains('\u{1b}'), "{text}{}", err(&output));
    assert!(!lab.database().exists() && lab.world().calls().is_empty(), "it changes nothing and asks nobody");
}

#[test]
fn check_config_shows_the_effective_cadence_beside_the_configured_one_where_they_differ() {
    let lab = Lab::quiet();
    let often = "[collect]\nbalance = \"every 10s\"\ndeployments = \"every 10s\"\n";
    lab.config(&[("hook", &Hook::new())], often);
    let text = out(&lab.output(&["check-config"]));
    for feed in ["balance", "deployments"] {
        let named = |line: &&str| line.contains(feed) && line.contains("every 10s");
        let line = text.lines().find(named).unwrap_or_else(|| panic!("{feed}: {text}"));
        assert_eq!(line.matches("every ").count(), 2, "{text}");
    }
    assert!(text.contains("the schedule is stretched"), "{text}");
}

#[test]
fn check_config_says_every_error_at_once_and_exits_1() {
    let lab = Lab::quiet();
    let path = lab.file(
        "config.toml",
        "[collect]\ntimeout = 20\n[notify]\nreceivers = [\"ops\"]\n[serv]\nlisten = \"x\"\n",
    );
    let output = lab.output(&["check-config"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = err(&output);
    for place in ["2:11: collect.timeout: ", "4:", "5:2: "] {
        assert!(errors.contains(&format!("{}:{place}", path.display())), "{place}: {errors}");
    }
    assert!(errors.lines().count() >= 3 && out(&output).is_empty(), "{errors}");
}

#[test]
fn check_config_online_tries_the_key_and_every_receiver() {
    let lab = Lab::quiet();
    let hook = Hook::new();
    lab.config(&[("hook", &hook)], "");
    let output = lab.output(&["check-config", "--online"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert!(out(&output).contains("API key: works; teams: research"), "{}", out(&output));
    assert_eq!(hook.sent().len(), 1);
    let mut command = lab.configured(&["check-config", "--online"]);
    let output = command.env("SPHERON_API_KEY", "sai_pk_wrong").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(err(&output).contains("API key: "), "{}", err(&output));
}

#[test]
fn test_notify_shows_what_each_receiver_answered() {
    let lab = Lab::quiet();
    let (hook, gone) = (Hook::new(), Hook::answering(|_, _| 404));
    lab.config(&[("hook", &hook), ("gone", &gone)], "");
    let unreachable = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = lab.output(&["test-notify", "hook"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("hook") && out(&output).contains("delivered"), "{}", out(&output));
    assert_eq!(hook.sent()[0].what(), "test");

    lab.file("gone.url", &format!("http://{unreachable}/x"));
    let output = lab.output(&["test-notify"]);
    assert_eq!(output.status.code(), Some(1));
    let table = out(&output);
    assert!(table.contains("RECEIVER") && table.contains("failed, would be tried again"), "{table}");
    assert!(table.contains("could not connect to the webhook"), "{table}");
    assert_eq!(hook.sent().len(), 2, "the others are tried all the same");
    let output = lab.output(&["test-notify", "hok"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("there are: hook, gone, log"), "{}", err(&output));
    assert!(!lab.database().exists(), "a test is no alert");
}

#[test]
fn test_notify_speaks_each_format() {
    let lab = Lab::quiet();
    let hook = Hook::new();
    let (url, key) = (lab.file("url", &hook.url()), lab.file("key", "R0UT1NGK3Y\n"));
    let telegram = lab.file("telegram", &format!("{}/sendMessage", hook.url()));
    let mut config = String::new();
    for format in ["standard", "alertmanager", "slack", "discord", "teams", "pagerduty", "ntfy", "telegram"] {
        let (url, more) = match format {
            "telegram" => (&telegram, ", chat_id = \"@gpu\"".to_owned()),
            "pagerduty" | "ntfy" => (&url, format!(", secret_file = {key:?}")),
            _ => (&url, String::new()),
        };
        config += &format!(
            "[[receiver]]\nname = {format:?}\nwebhook = {{ url_file = {url:?}, format = {format:?}{more} }}\n"
        );
    }
    lab.file("config.toml", &config);
    let output = lab.output(&["test-notify"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    let shown = out(&output) + &err(&output) + &out(&lab.output(&["check-config"]));
    for text in
        ["Slack answered 200", "PagerDuty answered 200", "Telegram answered 200", "webhook, format ntfy"]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(!shown.contains("R0UT1NGK3Y") && !shown.contains(URL_SECRET), "{shown}");
    let bodies: Vec<String> = hook.sent().iter().map(|sent| sent.body.to_string()).collect();
    assert_eq!(bodies.len(), 9, "PagerDuty's incident is opened and closed");
    for body in bodies.iter().filter(|body| !body.contains("resolve")) {
        assert!(body.contains("test of spheron-watch"), "{body}");
    }
}

#[test]
fn health_asks_the_daemon_where_the_configuration_says_it_is() {
    let lab = Lab::quiet();
    let output = lab.output(&["health"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(&format!("no daemon answers at {}", lab.listen)), "{}", err(&output));
    let mut daemon = lab.start();
    daemon.wait_until_ready();
    let output = lab.output(&["health"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "ok\n"), "{}", err(&output));
}

#[test]
fn demo_shows_the_forgotten_instance_and_leaves_nothing_behind() {
    let lab = Lab::quiet();
    let mut command = lab.command(&["demo", "--for", "8s"]);
    // A demo needs no key, and nothing of the environment changes it.
    command.env_remove("SPHERON_API_KEY").env("SPHERON_WATCH_COLLECT__BALANCE", "nonsense");
    let output = command.output().unwrap();
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", err(&output));
    assert!(text.contains("dev-ana") && text.contains("✉  mail to") && text.contains("→ "), "{text}");
    assert!(
        err(&output).is_empty() && !text.contains('\u{1b}') && !text.contains(sim::KEY),
        "{}",
        err(&output)
    );
    assert_eq!(fs::read_dir(lab.path("tmp")).unwrap().count(), 0, "its folder is gone");
    assert!(!lab.database().exists() && lab.world().calls().is_empty());
    let heading = text.rsplit('"').nth(1).unwrap();
    assert!(include_str!("../../README.md").contains(&format!("\n## {heading}\n")), "it points to {heading}");
}

#[test]
fn output_into_a_closed_pipe_ends_quietly() {
    let lab = Lab::quiet();
    for arguments in [vec!["check-config"], vec!["--help"], vec!["test-notify"], vec!["demo", "--for", "1s"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = lab.command(&arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {:?}", output.status);
        assert!(!err(&output).contains("panicked"), "{}", err(&output));
    }
    // As `| head -1` does it.
    let mut child =
        lab.command(&["demo", "--for", "1s"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(first, "spheron-watch demo\n");
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}

#[test]
fn wrong_usage_exits_2() {
    let lab = Lab::quiet();
    for arguments in [vec![], vec!["runn"], vec!["run", "--fast"], vec!["demo", "--for", "8"]] {
        let output = lab.command(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!err(&output).is_empty() && out(&output).is_empty(), "{arguments:?}");
    }
}
