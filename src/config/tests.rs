//! Defaults, lookup, overrides and routing; what is refused stands in `tests/config/`.

use std::{collections::BTreeMap, fs, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::model::{Feed, MatchKey, Period, Rule, RuleKind, Severity, Usd};

const HOUR: Duration = Duration::from_secs(3_600);

fn env(vars: &[(&str, &str)]) -> Env {
    Env {
        vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        home: Some("/home/me".into()),
        root: false,
        system_config: "/nonexistent/config.toml".into(),
    }
}

fn good(text: &str) -> Settings {
    with_vars(text, &[]).unwrap_or_else(|e| panic!("{e}"))
}

fn with_vars(text: &str, vars: &[(&str, &str)]) -> Result<Settings, String> {
    parse(Path::new("c.toml"), text, &env(vars)).map_err(|e| e.to_string())
}

fn rule<'a>(settings: &'a Settings, name: &str) -> &'a Rule {
    settings.rules.iter().find(|rule| &*rule.name == name).unwrap()
}

fn told(settings: &Settings, name: &str) -> Vec<String> {
    rule(settings, name).receivers.iter().map(|route| route.receiver.to_string()).collect()
}

#[test]
fn that_a_receiver_fails_is_told_to_all_whoever_hears_of_what_else() {
    let text = "[[receiver]]\nname = \"slow\"\nwebhook = { url_file = \"/a\" }\n\
                [[receiver]]\nname = \"backup\"\nwebhook = { url_file = \"/b\" }\n\
                [notify]\nreceivers = [\"slow\"]\n";
    let of = |text: &str, kind: &str| -> Vec<String> {
        let settings = parse(Path::new("t"), text, &Env { root: true, ..Env::default() }).unwrap();
        let rule = settings.rules.iter().rfind(|rule| rule.kind.as_str() == kind).unwrap().clone();
        rule.receivers.iter().map(|route| route.receiver.to_string()).collect()
    };
    assert_eq!(of(text, "delivery_failing"), ["backup", "slow"]);
    assert_eq!(of(text, "balance"), ["slow"]);
    assert_eq!(of("", "delivery_failing"), ["log"]);
    let own = "[[rule]]\nname = \"d\"\nkind = \"delivery_failing\"\nreceivers = [\"slow\"]\n";
    assert_eq!(of(&format!("{text}{own}"), "delivery_failing"), ["slow"], "unless somebody says otherwise");
}

#[test]
fn without_a_file_everything_has_its_documented_default() {
    let s = load(None, &env(&[])).unwrap();
    assert_eq!(s.source, None);
    assert_eq!(s.account.base_url, "https://app.spheron.ai");
    assert_eq!(s.account.teams, [crate::model::Glob::new("*")]);
    let schedules = Feed::ALL.map(|feed| s.collect.schedule(feed).map(ToString::to_string));
    let every = |d: &str| Some(format!("every {d}"));
    assert_eq!(schedules, [every("60s"), every("60s"), None, every("1h"), every("5m"), every("30m")]);
    assert_eq!((s.collect.calls_per_15m, s.collect.timeout), (None, Duration::from_secs(20)));
    assert_eq!(s.serve.listen.unwrap().to_string(), "127.0.0.1:10977");
    assert_eq!(s.store.path, Path::new("/home/me/.local/state/spheron-watch/spheron-watch.db"));
    assert!(s.smtp.is_none() && s.receivers.is_empty());
}

#[test]
fn the_default_rules_are_those_of_the_contract_and_tell_the_log() {
    use RuleKind as K;
    use Severity::{Critical, Info, Warning};
    let s = good("");
    let expected = [
        (
            "low-balance",
            K::Balance { below: Usd::from_cents(1_000), clear_above: Usd::from_cents(1_200) },
            Critical,
        ),
        ("runway-warning", K::Runway { below: HOUR * 24 }, Warning),
        ("runway-critical", K::Runway { below: HOUR * 6 }, Critical),
        ("running-long", K::RunningLong { longer_than: HOUR * 24 }, Warning),
        ("idle", K::Idle { longer_than: HOUR }, Warning),
        ("spot-interrupted", K::SpotInterrupted, Critical),
        ("provider-stopped", K::ProviderStopped, Critical),
        ("failed", K::Failed, Warning),
        ("stuck", K::Stuck { longer_than: HOUR / 2 }, Warning),
        ("unattached-volume", K::UnattachedVolume { longer_than: HOUR * 72 }, Info),
        ("volume-full", K::VolumeFull { above_permille: 900 }, Warning),
        ("rate-changed", K::RateChanged, Warning),
        ("unexplained-spend", K::UnexplainedSpend { above: Usd::from_cents(100) }, Warning),
        ("balance-jump", K::BalanceJump, Info),
        ("balance-unknown", K::BalanceUnknown, Critical),
        ("fleet-shrunk", K::FleetShrunk, Warning),
        ("blind", K::Blind { longer_than: Duration::from_secs(300) }, Critical),
        ("key-rejected", K::KeyRejected, Critical),
        ("config-invalid", K::ConfigInvalid, Critical),
        ("not-confirmed", K::NotConfirmed, Critical),
        ("delivery-failing", K::DeliveryFailing, Critical),
        ("disk-low", K::DiskLow, Critical),
    ];
    let found: Vec<_> = s.rules.iter().map(|r| (&*r.name, r.kind.clone(), r.severity)).collect();
    assert_eq!(found, expected);
    for rule in &s.rules {
        assert_eq!(told(&s, &rule.name), ["log"], "{}", rule.name);
        let repeat = match rule.severity {
            _ if rule.kind.is_event() => None,
            Severity::Critical => Some(HOUR * 4),
            Severity::Warning => Some(HOUR * 24),
            Severity::Info => None,
        };
        assert_eq!(rule.repeat_interval, repeat, "{}", rule.name);
        assert_eq!((rule.for_, rule.keep_firing_for), (Duration::ZERO, Duration::ZERO));
    }
}

#[test]
fn a_rule_of_a_default_rules_name_replaces_it_and_another_stands_beside_it() {
    let s = good(
        "[[rule]]\nname = 'low-balance'\nkind = 'balance'\nbelow = 25\nmatch = { team = ['Research*'] }\n\
         [[rule]]\nname = 'very-long'\nkind = 'running_long'\nlonger_than = '3d'\nseverity = 'critical'\nfor = '5m'",
    );
    assert_eq!(s.rules.len(), good("").rules.len() + 1);
    let low = rule(&s, "low-balance");
    assert_eq!(
        low.kind,
        RuleKind::Balance { below: Usd::from_cents(2_500), clear_above: Usd::from_cents(3_000) }
    );
    assert_eq!(low.matcher.globs.keys().copied().collect::<Vec<_>>(), [MatchKey::Team]);
    let long = rule(&s, "very-long");
    assert_eq!(long.kind, RuleKind::RunningLong { longer_than: HOUR * 72 });
    assert_eq!(
        (long.severity, long.for_, long.repeat_interval),
        (Severity::Critical, HOUR / 12, Some(HOUR * 4))
    );

    let s = good("[alerts]\ndefaults = false\n[[rule]]\nname = 'x'\nkind = 'blind'");
    assert_eq!(s.rules.iter().map(|r| &*r.name).collect::<Vec<_>>(), ["x"]);
}

#[test]
fn every_kind_takes_its_parameters_and_has_a_severity_of_its_own() {
    let kind = |body: &str| {
        let text = format!("[alerts]\ndefaults = false\n[[rule]]\nname = 'x'\n{body}");
        let settings = good(&text);
        let rule = rule(&settings, "x");
        (rule.kind.clone(), rule.severity, rule.repeat_interval)
    };
    let (info, warning, day) = (Severity::Info, Severity::Warning, Some(HOUR * 24));
    let usd = Usd::from_cents;
    let month = |at: &[u16]| RuleKind::Budget { amount: usd(50_000), period: Period::Month, at: at.to_vec() };
    for (body, expected) in [
        ("kind = 'runway'", (RuleKind::Runway { below: HOUR * 24 }, warning, day)),
        ("kind = 'runway'\nbelow = '90m'", (RuleKind::Runway { below: HOUR * 3 / 2 }, warning, day)),
        ("kind = 'burn_rate'\nabove = 12.5", (RuleKind::BurnRate { above: usd(1_250) }, warning, day)),
        ("kind = 'budget'\namount = 500\nperiod = 'month'", (month(&[50, 80, 100]), warning, day)),
        (
            "kind = 'budget'\namount = 500\nperiod = 'month'\nat = [120, 90, 120]",
            (month(&[90, 120]), warning, day),
        ),
        ("kind = 'idle'\nlonger_than = '2h'", (RuleKind::Idle { longer_than: HOUR * 2 }, warning, day)),
        ("kind = 'stuck'\nlonger_than = '1h'", (RuleKind::Stuck { longer_than: HOUR }, warning, day)),
        ("kind = 'failed'", (RuleKind::Failed, warning, None)),
        ("kind = 'new_deployment'", (RuleKind::NewDeployment, info, None)),
        (
            "kind = 'unattached_volume'\nlonger_than = '1w'",
            (RuleKind::UnattachedVolume { longer_than: HOUR * 168 }, info, None),
        ),
        ("kind = 'volume_full'\nabove = 0.955", (RuleKind::VolumeFull { above_permille: 955 }, warning, day)),
        ("kind = 'rate_changed'", (RuleKind::RateChanged, warning, None)),
        ("kind = 'overpaying'\npercent = 15", (RuleKind::Overpaying { percent: 15 }, info, None)),
        (
            "kind = 'unexplained_spend'\nabove = 0.5",
            (RuleKind::UnexplainedSpend { above: usd(50) }, warning, day),
        ),
        ("kind = 'balance_jump'", (RuleKind::BalanceJump, info, None)),
    ] {
        assert_eq!(kind(body), expected, "{body}");
    }
}

#[test]
fn a_rules_own_receivers_come_before_its_severitys_and_those_before_everybodys() {
    let text = "
        [smtp]
        smarthost = '[::1]:25'
        from = 'Watch <watch@example.org>'
        tls = 'none'
        [[receiver]]
        name = 'ops'
        email = { to = ['ops@example.org'] }
        send_resolved = false
        [[receiver]]
        name = 'hook'
        webhook = { url_file = '/url' }
        [notify]
        receivers = ['ops']
        severity = { critical = ['hook', 'log'] }
        repeat_interval = '2h'
        [[rule]]
        name = 'blind'
        kind = 'blind'
        receivers = ['ops']
    ";
    let s = good(text);
    assert_eq!(told(&s, "blind"), ["ops"]);
    assert_eq!(told(&s, "low-balance"), ["hook", "log"]);
    assert_eq!(told(&s, "running-long"), ["ops"]);
    assert_eq!(
        rule(&s, "low-balance").receivers.iter().map(|r| r.send_resolved).collect::<Vec<_>>(),
        [true, true]
    );
    assert!(!rule(&s, "running-long").receivers[0].send_resolved);
    assert_eq!(rule(&s, "running-long").repeat_interval, Some(HOUR * 2));
    assert_eq!(s.smtp.unwrap().smarthost, HostPort { host: "::1".to_owned(), port: 25 });
    let url_file = "/url".into();
    let webhook = ReceiverKind::Webhook { url_file, format: WebhookFormat::Standard { secret_file: None } };
    assert_eq!(s.receivers[1].kind, webhook);
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "[account]\nteams = ['a']\n[collect]\ntimeout = '5s'\n[notify]\nrepeat_interval = '1h'";
    let s = with_vars(
        text,
        &[
            ("SPHERON_WATCH_ACCOUNT__BASE_URL", "http://127.0.0.1:8080/"),
            ("SPHERON_WATCH_ACCOUNT__TEAMS", "b*, c"),
            ("SPHERON_WATCH_COLLECT__TIMEOUT", "7s"),
            ("SPHERON_WATCH_COLLECT__CALLS_PER_15M", "40"),
            ("SPHERON_WATCH_COLLECT__OFFERS", "off"),
            ("SPHERON_WATCH_SERVE__HOSTS", "['Watch.example.org']"),
            ("SPHERON_WATCH_ALERTS__DEFAULTS", "true"),
            ("SPHERON_WATCH_NOTIFY__REPEAT_INTERVAL__CRITICAL", "off"),
            ("SPHERON_WATCH_SMTP_PASSWORD", "hunter2"),
            ("SPHERON_API_KEY", "hunter2"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(s.account.base_url, "http://127.0.0.1:8080");
    assert_eq!(s.account.teams, [crate::model::Glob::new("b*"), crate::model::Glob::new("c")]);
    assert_eq!((s.collect.timeout, s.collect.calls_per_15m), (Duration::from_secs(7), Some(40)));
    assert!(s.collect.offers.is_none());
    assert_eq!(s.serve.hosts, ["watch.example.org"]);
    assert_eq!(rule(&s, "blind").repeat_interval, None);
}

#[test]
fn an_error_in_the_environment_names_the_variable_and_shows_no_value() {
    for (name, value, message) in [
        (
            "SPHERON_WATCH_COLLECT__TIMEOUT",
            "20",
            "collect.timeout: a duration needs a unit: s, m, h, d or w, as in \"30m\"",
        ),
        ("SPHERON_WATCH_COLLECT__TIMEUOT", "20s", "collect.timeuot: unknown key; did you mean `timeout`?"),
        ("SPHERON_WATCH_COLECT__TIMEOUT", "20s", "colect: unknown key; did you mean `collect`?"),
        (
            "SPHERON_WATCH_COLLECT_TIMEOUT",
            "20s",
            "unknown variable; overrides are named SPHERON_WATCH_SECTION__KEY; did you mean `SPHERON_WATCH_COLLECT__TIMEOUT`?",
        ),
        (
            "SPHERON_WATCH_A__B__C__D",
            "hunter2",
            "unknown variable; overrides are named SPHERON_WATCH_SECTION__KEY",
        ),
        (
            "SPHERON_WATCH_ACCOUNT__API_KEY",
            "hunter2",
            "account.api_key: a secret never stands here; put it into a file and name it in `api_key_file`",
        ),
        (
            "SPHERON_WATCH_ACCOUNT__TEAMS",
            "",
            "account.teams: must not be blank; give a value or remove the key",
        ),
        (
            "SPHERON_WATCH_ACCOUNT__TEAMS",
            "[]",
            "account.teams: must not be empty; name one at least or remove the key",
        ),
        (
            "SPHERON_WATCH_ACCOUNT__TEAMS",
            "['hunter2",
            "account.teams: must be a TOML list or table, or items separated by commas",
        ),
        ("SPHERON_WATCH_RULE__NAME", "x", "rule: [[rule]] is set in the file alone"),
        ("SPHERON_WATCH_POLICY__NAME", "x", "policy: [[policy]] is set in the file alone"),
        ("SPHERON_WATCH_SERVE__PUBLIC", "yes", "serve.public: must be true or false, without quotes"),
    ] {
        assert_eq!(
            with_vars("", &[(name, value)]).map(|_| ()),
            Err(format!("{name}: {message}")),
            "{name}={value}"
        );
    }
    assert!(!format!("{:?}", env(&[("SPHERON_API_KEY", "hunter2")])).contains("hunter2"));
}

#[test]
fn an_override_does_not_hide_that_its_section_is_broken() {
    let found = with_vars("collect = 1", &[("SPHERON_WATCH_COLLECT__TIMEOUT", "20s")]);
    assert_eq!(found.map(|_| ()), Err("c.toml:1:11: collect: must be a section, [collect]".to_owned()));
}

#[test]
fn the_state_lies_where_the_service_root_or_the_user_has_it() {
    let path = |root: bool, home: Option<&str>, vars: &[(&str, &str)]| {
        let env = Env { root, home: home.map(PathBuf::from), ..env(vars) };
        parse(Path::new("c"), "", &env).map(|s| s.store.path.display().to_string()).map_err(|e| e.to_string())
    };
    let service = [("STATE_DIRECTORY", "/var/lib/private/sw:/other"), ("XDG_STATE_HOME", "/state")];
    assert_eq!(path(false, None, &service), Ok("/var/lib/private/sw/spheron-watch.db".to_owned()));
    assert_eq!(path(true, Some("/root"), &[]), Ok("/var/lib/spheron-watch/spheron-watch.db".to_owned()));
    let xdg = [("XDG_STATE_HOME", "/state")];
    assert_eq!(path(false, Some("/home/me"), &xdg), Ok("/state/spheron-watch/spheron-watch.db".to_owned()));
    let relative = [("XDG_STATE_HOME", "state"), ("STATE_DIRECTORY", "")];
    assert_eq!(
        path(false, Some("/home/me"), &relative),
        Ok("/home/me/.local/state/spheron-watch/spheron-watch.db".to_owned())
    );
    assert_eq!(
        path(false, None, &[]),
        Err("default: store.path: has no default without HOME, XDG_STATE_HOME or STATE_DIRECTORY; give one"
            .to_owned())
    );
}

#[test]
fn the_first_file_that_is_there_is_read_and_a_named_one_must_be() {
    let directory = tempfile::tempdir().unwrap();
    let system = directory.path().join("system.toml");
    let user = directory.path().join("spheron-watch/config.toml");
    let config_home = directory.path().to_str().unwrap();
    let env = Env { system_config: system.clone(), ..env(&[("XDG_CONFIG_HOME", config_home)]) };
    let timeout = |path: Option<&Path>| load(path, &env).map(|s| (s.source, s.collect.timeout.as_secs()));

    assert_eq!(timeout(None), Ok((None, 20)));
    fs::create_dir(user.parent().unwrap()).unwrap();
    fs::write(&user, "[collect]\ntimeout = '2s'").unwrap();
    assert_eq!(timeout(None), Ok((Some(user.clone()), 2)));
    fs::write(&system, "[collect]\ntimeout = '1s'").unwrap();
    assert_eq!(timeout(None), Ok((Some(system), 1)));
    assert_eq!(timeout(Some(&user)), Ok((Some(user.clone()), 2)));

    let absent = directory.path().join("absent.toml");
    let message = timeout(Some(&absent)).unwrap_err().to_string();
    assert_eq!(
        message,
        format!("{}: cannot be read: No such file or directory (os error 2)", absent.display())
    );
    fs::write(&user, b"[collect]\n\xff").unwrap();
    let message = timeout(Some(&user)).unwrap_err().to_string();
    assert_eq!(message, format!("{}: cannot be read: it is not UTF-8 at byte 11", user.display()));
    fs::write(&user, vec![b'#'; (1 << 20) + 1]).unwrap();
    let message = timeout(Some(&user)).unwrap_err().to_string();
    assert_eq!(message, format!("{}: cannot be read: it is larger than 1 MiB", user.display()));
}

#[test]
fn fault_53_a_bad_file_gives_its_errors_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    fs::write(&path, "[collect]\ntimeout = '1s'\nbalance = 'every 1s'\n").unwrap();
    let errors = load(Some(&path), &env(&[])).unwrap_err();
    assert_eq!(errors.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["collect.balance"]);
    fs::write(&path, "[collect]\ntimeout = '1s'\nbalance = 'every 10s'\n").unwrap();
    assert!(load(Some(&path), &env(&[])).is_ok(), "the same file, mended");
}

#[test]
fn fault_52_unknown_duplicate_blank_and_unitless_are_all_refused_at_once() {
    let text = "[collect]\ntimeout = 20\ntimeout = 20\nbalnce = ''\nbalance = ' '\n[[rule]]\nname='x'\nkind='blind'\n\
                [[rule]]\nname='y'\nkind='running_long'\nmatch={}";
    let found = with_vars(text, &[]).unwrap_err();
    let places: Vec<&str> = found.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["c.toml:2:11", "c.toml:3:1", "c.toml:4:1", "c.toml:5:11", "c.toml:12:7"], "{found}");
}

#[test]
fn places_are_right_after_crlf_a_byte_order_mark_and_wide_characters() {
    let text = "\u{feff}[account]\r\n# ünïcödé\r\nteams = ['é', 7]\r\n";
    assert_eq!(
        with_vars(text, &[]).map(|_| ()),
        Err("c.toml:3:15: account.teams: must be a string in quotes".to_owned())
    );
}

#[test]
fn planned_calls_count_every_list_of_every_team() {
    let s = good("");
    let plan: BTreeMap<_, _> =
        s.collect.plan(3).into_iter().map(|p| (p.feed.as_str(), p.calls_per_poll)).collect();
    let expected = [("balance", 1), ("deployments", 3), ("inventory", 4), ("offers", 1), ("volumes", 3)];
    assert_eq!(plan, BTreeMap::from(expected));
    // 15 + 45 + 4/4 + 9 + 1/2
    assert!((s.collect.planned_calls_per_15m(3) - 70.5).abs() < 1e-9);
    assert_eq!(s.collect.plan(0).iter().map(|p| p.calls_per_poll).min(), Some(1));
}

/// Lines like those that people write, and damage to them.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "api_key",
        "base_url",
        "teams",
        "timeout",
        "listen",
        "to",
        "name",
        "kind",
        "below",
        "match",
        "webhook",
        "from",
        "repeat_interval",
        "severity",
        "password",
        "hosts",
        "balance",
        "smarthost",
        "email",
        "for",
    ]);
    let value = prop::sample::select(vec![
        "'SECRET'",
        "\"SECRET",
        "SECRET",
        "['SECRET']",
        "{ url = 'SECRET' }",
        "{ to = ['SECRET'",
        "12SECRET",
        "'balance'",
        "1.5",
        "-1",
        "'https://SECRET@x'",
        "'every SECRET'",
        "2020-01-01SECRET",
        "\"\\SECRET\"",
        "[[[]]]",
        "{ a = { b = { c = 'SECRET' } } }",
        "'''SECRET",
        "0xSECRET",
        "'SECRET:587'",
        "9999999999999999999999",
    ]);
    let header = prop::sample::select(vec![
        "[account]",
        "[collect]",
        "[serve]",
        "[smtp]",
        "[[receiver]]",
        "[[rule]]",
        "[notify]",
        "[alerts]",
        "[store]",
        "[receiver]",
        "[rule.match]",
        "[[policy]]",
    ]);
    prop_oneof![
        1 => header.prop_map(str::to_owned),
        3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => "[ -~]{0,20}".prop_filter("no secret of its own", |text: &String| !text.contains("SECRET")),
    ]
}

proptest! {
    #[test]
    fn any_text_gives_settings_or_errors_with_places_and_never_a_panic(text in "\\PC{0,200}") {
        if let Err(errors) = with_vars(&text, &[]) {
            prop_assert!(errors.starts_with("c.toml:"), "{}", errors);
        }
    }

    #[test]
    fn no_error_ever_shows_a_value(lines in prop::collection::vec(line(), 0..12)) {
        if let Err(errors) = with_vars(&lines.join("\n"), &[]) {
            prop_assert!(!errors.contains("SECRET"), "{}", errors);
            prop_assert!(errors.lines().all(|line| line.starts_with("c.toml:")), "{}", errors);
        }
    }

    #[test]
    fn any_variable_is_an_override_or_an_error_and_never_a_panic(name in "[A-Z_]{0,30}", value in "\\PC{0,40}") {
        let name = format!("SPHERON_WATCH_{name}");
        if let Err(errors) = with_vars("", &[(&name, &value)]) {
            prop_assert!(errors.starts_with(&name), "{}", errors);
        }
    }
}

#[test]
fn grouping_has_the_defaults_of_the_contract_and_can_be_set() {
    use crate::model::{Grouping, Label};
    let secs = Duration::from_secs;
    let by = vec![Label::Rule, Label::Team];
    assert_eq!(good("").grouping, Grouping { by, wait: secs(30), interval: secs(300) });
    let text = "[notify]\ngroup_by = ['severity', 'id']\ngroup_wait = '0s'\ngroup_interval = '1h'";
    let by = vec![Label::Severity, Label::Id];
    assert_eq!(good(text).grouping, Grouping { by, wait: Duration::ZERO, interval: HOUR });
    assert_eq!(good("[notify]\ngroup_by = []").grouping.by, []);
}

#[test]
fn the_socket_lies_with_the_service_root_or_the_session_and_can_be_off() {
    let socket = |text: &str, vars: &[(&str, &str)], root: bool| {
        let env = Env { root, ..env(vars) };
        parse(Path::new("c.toml"), text, &env).unwrap().serve.socket.map(|path| path.display().to_string())
    };
    let session = ("XDG_RUNTIME_DIR", "/run/user/7");
    for (text, vars, root, expected) in [
        ("", &[][..], false, None),
        ("", &[session], false, Some("/run/user/7/spheron-watch/control.sock")),
        ("", &[session], true, Some("/run/spheron-watch/control.sock")),
        ("", &[("RUNTIME_DIRECTORY", "/run/a:/run/b"), session], true, Some("/run/a/control.sock")),
        ("", &[("RUNTIME_DIRECTORY", "a"), ("XDG_RUNTIME_DIR", "b")], false, None),
        ("[serve]\nsocket = \"off\"", &[session], false, None),
        ("[serve]\nsocket = \"/x/y.sock\"", &[session], true, Some("/x/y.sock")),
    ] {
        assert_eq!(socket(text, vars, root).as_deref(), expected, "{text} {vars:?} {root}");
    }
}

#[test]
fn a_policy_is_read_with_its_defaults_and_every_condition() {
    let s = good(
        "[collect]\ntimezone = \"Europe/Berlin\"\n[[activity]]\nname = \"d\"\nkind = \"volume_growth\"\n\
         [[policy]]\nname = \"a\"\nmatch = { name = [\"dev-*\"], instance_type = [\"SPOT\"] }\n\
         when = { outside = \"Mon-Fri 08:00-20:00\", idle_for = \"2h\", running_for = \"12h\", runway_below = \"6h\", spend_above = 50 }",
    );
    let policy = &s.policies[0];
    let conditions: Vec<String> = policy.when.iter().map(ToString::to_string).collect();
    assert_eq!(
        conditions,
        [
            "idle for 2h",
            "running for 12h",
            "runway below 6h",
            "spend above $50.00",
            "outside Mon-Fri 08:00-20:00"
        ]
    );
    assert_eq!((policy.grace.as_secs(), policy.require_volume), (1_800, false));
    assert_eq!(policy.receivers, ["log".into()]);
    assert_eq!(policy.matching.globs.len(), 2);
    assert_eq!(s.safety, crate::model::Safety::default());
}

#[test]
fn a_key_of_protect_that_is_not_given_keeps_its_default_and_an_empty_list_protects_nothing() {
    let keys = |text: &str| good(text).safety.protect.into_keys().collect::<Vec<_>>();
    assert_eq!(keys(""), [MatchKey::Name, MatchKey::InstanceType]);
    assert_eq!(keys("[safety]\nprotect = { name = [] }"), [MatchKey::InstanceType]);
    let both = "[safety]\nprotect = { team = [\"vault\"] }";
    assert_eq!(keys(both), [MatchKey::Name, MatchKey::Team, MatchKey::InstanceType]);
}
