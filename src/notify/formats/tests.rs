use secrecy::SecretString;
use serde_json::Value;

use super::*;
use crate::model::{AlertKey, DeploymentId, EventId, Severity, Subject, TeamId, Together, Transition};

const SINCE: Time = Time::from_secs(1_795_516_200);
/// Emoji, right-to-left, CRLF, NUL, ANSI, mentions of every service, markup of every service, and an end of a script.
const NAME: &str = "🎉🏳️‍🌈 \u{202e}gnp.exe\u{2066} مرحبا\r\nBcc: x@y.z\0\u{1b}[31mred\u{1b}[0m <!channel> <@U123> @everyone @here <at>all</at> \
                    </script> *b* _i_ ~s~ `c` ||s|| [l](https://evil.example) \"q\" \\ & <b>";

fn low_balance(transition: Transition) -> Notice {
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new("tm_7Qx") } };
    Notice {
        bars: Vec::new(),
        id: EventId::derive(&key, SINCE, transition, 0),
        key,
        kind: "balance".into(),
        transition,
        severity: Severity::Critical,
        title: "low balance: research has $8.20 left".into(),
        reason:
            "The balance of research is $8.20; the threshold is $10.00. At $1.46/h it lasts 5h 36m, until \
                 2026-11-24T16:06:00Z. At zero the platform ends every instance, disks included."
                .into(),
        advice: "Top up at https://app.spheron.ai, or end what is not needed.".into(),
        details: [("team", "research (tm_7Qx)"), ("balance", "$8.20"), ("burn rate", "$1.46/h")]
            .map(|(name, value)| (name.into(), value.to_owned()))
            .to_vec(),
        since: SINCE,
        at: SINCE.plus(std::time::Duration::from_secs(match transition {
            Transition::Resolved | Transition::Reminder => 14_400,
            Transition::Firing | Transition::Event | Transition::Test => 0,
        })),
        receivers: vec!["ops".into()],
        together: Together::default(),
        grant: None,
        link: None,
    }
}

fn deployment(name: &str, transition: Transition) -> Notice {
    let subject = Subject::Deployment { id: DeploymentId::new(format!("dep_{name}")), created_at: SINCE };
    let key = AlertKey { rule: "running-long".into(), subject };
    Notice {
        id: EventId::derive(&key, SINCE, transition, 0),
        key,
        kind: "running_long".into(),
        severity: Severity::Warning,
        title: format!("running long: {name} for 1d"),
        reason: format!("{name} has been running for 1d, longer than 1d. It costs $0.50/h, $12.00 a day."),
        advice: "If it is forgotten, save its data and end it; ending deletes its disk.".into(),
        details: vec![("deployment".into(), name.to_owned()), ("rate".into(), "$0.50/h".to_owned())],
        ..low_balance(transition)
    }
}

fn group() -> Notice {
    let spot = Notice {
        key: AlertKey { rule: "spot-interrupted".into(), ..deployment("train-7b", Transition::Event).key },
        kind: "spot_interrupted".into(),
        severity: Severity::Critical,
        title: "spot interrupted: train-7b after 6h".into(),
        reason: "The provider took train-7b back after 6h.".into(),
        ..deployment("train-7b", Transition::Event)
    };
    let members =
        vec![spot, deployment("dev-ana", Transition::Firing), deployment("dev-bob", Transition::Resolved)];
    Notice {
        id: EventId::from_text("evt_00112233445566778899aabbccddeeff"),
        key: AlertKey { rule: "several".into(), subject: Subject::Team { id: TeamId::new("tm_7Qx") } },
        kind: "several".into(),
        title: "3 alerts in research: 1 firing, 1 happened, 1 resolved".into(),
        reason: "They belong to one group and came close together, so they are told at once.".into(),
        advice: "Each alert below says what to do.".into(),
        details: Vec::new(),
        together: Together { members, ..Together::default() },
        ..low_balance(Transition::Firing)
    }
}

/// More than any notice that the engine makes: 200 named, 300 counted.
fn digest(member: &dyn Fn(usize) -> Notice) -> Notice {
    let members = (0..200).map(member).collect();
    let details = (0..40).map(|n| (format!("running-long in team {n}").into(), "12".to_owned())).collect();
    Notice {
        title: "500 alerts at once: 500 firing".into(),
        together: Together { members, more: 300, ..Together::default() },
        grant: None,
        link: None,
        details,
        ..group()
    }
}

fn hostile() -> Notice {
    let long = format!("{NAME}{}", "🎉\"&<*_\\é".repeat(1_100));
    let subject = Subject::Deployment { id: DeploymentId::new(long.as_str()), created_at: SINCE };
    let key = AlertKey { rule: long.as_str().into(), subject };
    Notice {
        id: EventId::from_text(long.as_str()),
        key,
        kind: long.as_str().into(),
        title: format!("running long: {long}"),
        reason: format!("{long} runs."),
        advice: format!("Look at {long}."),
        details: (0..60).map(|_| (long.as_str().into(), long.clone())).collect(),
        ..low_balance(Transition::Firing)
    }
}

/// What is left of a notice whose every text is nothing that can be shown.
/// With the longest link that is sent.
fn announcement() -> Notice {
    let token = "0123456789-_cdef".repeat(60);
    Notice {
        kind: "policy".into(),
        title: "will be ended: dev-ana in 30m".into(),
        link: Some(format!("https://watch.example.org/keep/{token}").into()),
        ..deployment("dev-ana", Transition::Event)
    }
}

fn empty() -> Notice {
    let nothing = "\0\u{202e}\u{200b}\r\n";
    Notice {
        title: nothing.into(),
        reason: nothing.into(),
        advice: String::new(),
        details: vec![(nothing.into(), nothing.into()), ("".into(), String::new())],
        at: Time::from_millis(i64::MAX),
        since: Time::from_millis(i64::MIN),
        ..low_balance(Transition::Firing)
    }
}

fn services() -> Vec<(&'static str, Service)> {
    vec![
        ("standard", Service::Standard { key: None }),
        ("alertmanager", Service::Alertmanager { receiver: "chat".into() }),
        ("slack", Service::Slack),
        ("discord", Service::Discord),
        ("teams", Service::Teams),
        (
            "pagerduty",
            Service::Pagerduty { routing_key: SecretString::from("R0UTINGKEY0123456789012345678901\n") },
        ),
        ("ntfy", Service::Ntfy { topic: "gpu-alerts".into() }),
        ("telegram", Service::Telegram { chat: Chat::Id(-1_001_234_567_890) }),
    ]
}

fn texts(service: &Service, notice: &Notice) -> Vec<String> {
    let bodies = service.bodies(notice).unwrap();
    bodies.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
}

fn values(service: &Service, notice: &Notice) -> Vec<Value> {
    texts(service, notice).iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// As it goes out, but with line breaks.
fn shown(service: &Service, notice: &Notice) -> String {
    let pretty = |text: &String| {
        let raw: &serde_json::value::RawValue = serde_json::from_str(text).unwrap();
        indented(raw.get())
    };
    texts(service, notice).iter().map(pretty).collect::<Vec<_>>().join("\n")
}

/// JSON with each member on a line of its own, in the order in which it stands.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut within, mut escaped) = (String::new(), 0_usize, false, false);
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    while let Some(c) = chars.next() {
        if within {
            out.push(c);
            within = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                within = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => out.push(c),
        }
    }
    out
}

/// Every string in it, with the path that leads there.
fn strings(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(items) => items.iter().for_each(|item| strings(item, path, found)),
        Value::Object(map) => {
            for (name, item) in map {
                strings(item, &format!("{path}.{name}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn all_strings(service: &Service, notice: &Notice) -> Vec<(String, String)> {
    let mut found = Vec::new();
    values(service, notice).iter().for_each(|value| strings(value, "", &mut found));
    found
}

fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

#[test]
fn each_format_is_the_one_that_is_shown() {
    for (name, service) in services() {
        insta::assert_snapshot!(format!("{name}_firing"), shown(&service, &low_balance(Transition::Firing)));
        insta::assert_snapshot!(
            format!("{name}_resolved"),
            shown(&service, &low_balance(Transition::Resolved))
        );
        insta::assert_snapshot!(format!("{name}_group"), shown(&service, &group()));
    }
}

/// Whole and unescaped, or people cannot keep what they are told of.
#[test]
fn a_signed_link_is_whole_in_every_format_and_alone_where_it_could_be_cut() {
    let notice = announcement();
    let link = notice.link.as_deref().unwrap();
    for (name, service) in services() {
        assert!(
            all_strings(&service, &notice).iter().any(|(_, text)| text.contains(link)),
            "{name}: {}",
            shown(&service, &notice)
        );
        let without = Notice { link: None, ..announcement() };
        assert!(!shown(&service, &without).contains("/keep/"), "{name}");
        if let Service::Standard { .. } | Service::Alertmanager { .. } = service {
            continue;
        }
        for foul in ["javascript:alert(1)", "https://x/keep/a b", "https://x/keep/a>b", "https://x/keep/(a)"]
        {
            let foul = Notice { link: Some(foul.into()), ..announcement() };
            assert_eq!(shown(&service, &foul), shown(&service, &without), "{name}");
        }
    }
}

#[test]
fn fault_77_a_hostile_name_as_each_format_shows_it() {
    let short = Notice {
        title: format!("running long: {NAME}"),
        reason: format!("{NAME} runs."),
        advice: String::new(),
        details: vec![(NAME.into(), NAME.into())],
        ..deployment("x", Transition::Firing)
    };
    for (name, service) in services() {
        insta::assert_snapshot!(format!("{name}_hostile"), shown(&service, &short));
    }
}

fn the_worst() -> Vec<(&'static str, Notice)> {
    let quotes =
        |n: usize| Notice { title: "\"".repeat(10_000), ..deployment(&format!("\\{n}"), Transition::Firing) };
    vec![
        ("hostile", hostile()),
        ("hostile members", Notice { together: digest(&|_| hostile()).together, ..hostile() }),
        ("a digest", digest(&|n| deployment(&format!("dev-{n}"), Transition::Firing))),
        ("quotes", digest(&quotes)),
        ("nothing", empty()),
        ("members of nothing", digest(&|_| empty())),
        ("a group", group()),
        ("an announcement", Notice { key: hostile().key, details: hostile().details, ..announcement() }),
        ("one", low_balance(Transition::Firing)),
    ]
}

#[test]
fn fault_77_no_body_is_larger_than_its_service_takes() {
    for (case, notice) in the_worst() {
        for (name, service) in services() {
            for body in texts(&service, &notice) {
                let max = match &service {
                    Service::Standard { .. } | Service::Alertmanager { .. } => 4_000_000,
                    Service::Slack => 100_000,
                    Service::Discord => 40_000,
                    Service::Teams => 28 * 1024,
                    Service::Pagerduty { .. } => 512 * 1024,
                    Service::Ntfy { .. } => 8_192,
                    Service::Telegram { .. } => 40_000,
                };
                assert!(body.len() <= max, "{name}, {case}: {} bytes", body.len());
            }
        }
    }
}

#[test]
fn fault_77_slack_gets_no_markup_no_mention_and_nothing_too_long() {
    for (case, notice) in the_worst() {
        let value = &values(&Service::Slack, &notice)[0];
        let blocks = value["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50, "{case}");
        let mut total = 0;
        for block in blocks {
            let (text, max) = match block["type"].as_str().unwrap() {
                "header" => (&block["text"], 150),
                "section" => (&block["text"], 3_000),
                "context" => (&block["elements"][0], 2_000),
                "actions" => (&block["elements"][0]["text"], 75),
                other => panic!("{other}"),
            };
            assert_eq!(text["type"], "plain_text");
            let text = text["text"].as_str().unwrap();
            assert!((1..=max).contains(&utf16(text)), "{case}: {}", utf16(text));
            total += utf16(text);
        }
        assert!(total <= 13_000, "{case}: {total}");
        assert!(utf16(value["text"].as_str().unwrap()) <= 4_000, "{case}");
        for (path, text) in all_strings(&Service::Slack, &notice) {
            assert!(!text.contains(['<', '>']), "{path}: {text}");
            let left = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
            assert!(!left.contains('&'), "no escape is cut in half: {text}");
            assert!(!text.contains("@everyone") && !text.contains("@here"), "{text}");
        }
    }
}

#[test]
fn fault_77_discord_mentions_nobody_and_stays_within_every_limit() {
    for (case, notice) in the_worst() {
        let value = &values(&Service::Discord, &notice)[0];
        assert_eq!(value["allowed_mentions"], serde_json::json!({ "parse": [] }));
        let embed = &value["embeds"][0];
        let of = |value: &Value| utf16(value.as_str().unwrap());
        let fields = embed["fields"].as_array().unwrap();
        assert!(fields.len() <= 25, "{case}");
        let mut total = of(&embed["title"]) + of(&embed["description"]) + of(&embed["footer"]["text"]);
        assert!((1..=256).contains(&of(&embed["title"])), "{case}");
        assert!(of(&embed["description"]) <= 4_096, "{case}");
        assert!(of(&embed["footer"]["text"]) <= 2_048, "{case}");
        for field in fields {
            let (name, value) = (of(&field["name"]), of(&field["value"]));
            assert!((1..=256).contains(&name) && (1..=1_024).contains(&value), "{case}: {name} {value}");
            total += name + value;
        }
        assert!(total <= 6_000, "{case}: {total}");
        for (path, text) in all_strings(&Service::Discord, &notice) {
            if path.ends_with("footer.text") {
                continue;
            }
            let own = notice.link.as_ref().map(|link| format!("[Keep it]({link})")).unwrap_or_default();
            let mut rest = text.replace("**", "").replace(&own, "");
            for sign in
                ["\\\\", "\\*", "\\_", "\\~", "\\`", "\\|", "\\<", "\\@", "\\]", "\\:", "\\>", "\\-", "\\#"]
            {
                rest = rest.replace(sign, "");
            }
            assert!(!rest.contains(['*', '_', '`', '|', '<', '@', '\\']), "{path}: {rest}");
            for markup in ["](", "://", "# ", "> ", "- "] {
                assert!(!rest.contains(markup), "{markup} in {path}: {rest}");
            }
        }
    }
}

#[test]
fn fault_77_teams_gets_runs_alone_for_they_read_no_markdown() {
    for (case, notice) in the_worst() {
        let value = &values(&Service::Teams, &notice)[0];
        for block in value["attachments"][0]["content"]["body"].as_array().unwrap() {
            assert_eq!(block["type"], "RichTextBlock", "{case}");
            for run in block["inlines"].as_array().unwrap() {
                assert_eq!(run["type"], "TextRun");
                assert_ne!(run["text"], "", "{case}");
            }
        }
    }
}

#[test]
fn fault_77_ntfy_and_telegram_get_one_message_that_fits() {
    for (case, notice) in the_worst() {
        let ntfy = &values(&Service::Ntfy { topic: "t".into() }, &notice)[0];
        let message = ntfy["message"].as_str().unwrap();
        assert!((1..=4_096).contains(&message.len()), "{case}: {}", message.len());
        let telegram = &values(&Service::Telegram { chat: Chat::Name("@gpu".into()) }, &notice)[0];
        let text = telegram["text"].as_str().unwrap();
        assert!((1..=4_096).contains(&utf16(text)), "{case}: {}", utf16(text));
        assert!(!text.contains("@everyone") && !text.contains("@y"), "{text}");
        assert!(telegram.get("parse_mode").is_none(), "nothing in it is markup");
        let bold = usize::try_from(telegram["entities"][0]["length"].as_u64().unwrap()).unwrap();
        let first: String = text.split("\n\n").next().unwrap().into();
        assert_eq!(bold, utf16(&first), "{case}: the first line, counted as Telegram counts");
        assert_eq!(telegram["link_preview_options"]["is_disabled"], true);
    }
}

#[test]
fn fault_77_people_see_no_control_character_and_no_override_anywhere() {
    let bad = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202e}' | '\u{2066}' | '\u{2028}'));
    for (case, notice) in the_worst() {
        for (name, service) in services() {
            if matches!(service, Service::Standard { .. } | Service::Alertmanager { .. }) {
                continue;
            }
            for (path, text) in all_strings(&service, &notice) {
                assert!(!text.contains(bad), "{name}, {case}, {path}: {text:?}");
            }
        }
    }
}

#[test]
fn what_is_cut_off_shows() {
    for (name, service) in services().into_iter().skip(2) {
        let all: String = all_strings(&service, &hostile()).into_iter().map(|(_, text)| text).collect();
        assert!(all.contains('…'), "{name}");
    }
}

#[test]
fn a_group_names_each_of_its_alerts_and_says_how_many_it_does_not_name() {
    for (name, service) in services() {
        let all: String = texts(&service, &group()).concat().replace('\\', "");
        for wanted in ["train-7b", "dev-ana", "dev-bob"] {
            if name != "pagerduty" {
                assert!(all.contains(wanted), "{name}: {wanted}");
            }
        }
        let digest = digest(&|n| deployment(&format!("dev{n}x"), Transition::Firing));
        let all = texts(&service, &digest).concat();
        for n in 0..20 {
            assert!(all.contains(&format!("dev{n}x")), "{name}: {n}");
        }
        let counted = if name == "pagerduty" { "300 alerts that have no incident" } else { "480" };
        assert!(all.contains(counted), "{name}");
    }
}

#[test]
fn an_alertmanager_body_has_the_fields_of_version_4_and_no_others() {
    let service = Service::Alertmanager { receiver: "chat".into() };
    let value = &values(&service, &group())[0];
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(value),
        "alerts commonAnnotations commonLabels externalURL groupKey groupLabels receiver status truncatedAlerts version"
    );
    for alert in value["alerts"].as_array().unwrap() {
        assert_eq!(names(alert), "annotations endsAt fingerprint generatorURL labels startsAt status");
    }
    let ends: Vec<&str> =
        value["alerts"].as_array().unwrap().iter().map(|a| a["endsAt"].as_str().unwrap()).collect();
    assert_eq!(ends, ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-11-24T14:30:00Z"]);
    assert_eq!(value["status"], "firing", "one of them fires");
    let alert = |transition| values(&service, &low_balance(transition))[0]["alerts"][0].clone();
    let (firing, over) = (alert(Transition::Firing), alert(Transition::Resolved));
    assert_eq!(firing["labels"], over["labels"]);
    assert_eq!(firing["fingerprint"], over["fingerprint"]);
    assert_eq!(firing["startsAt"], over["startsAt"]);
}

#[test]
fn the_end_of_an_episode_closes_what_its_beginning_opened_at_pagerduty() {
    let service = Service::Pagerduty { routing_key: "key".into() };
    let one = |notice: &Notice| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        values(&service, notice).iter().map(|e| (text(&e["event_action"]), text(&e["dedup_key"]))).collect()
    };
    let actions = |notice: &Notice| one(notice).into_iter().map(|(action, _)| action).collect::<Vec<_>>();
    let firing = one(&low_balance(Transition::Firing));
    let key = &firing[0].1;
    assert_eq!(firing, [("trigger".to_owned(), key.clone())]);
    assert_eq!(one(&low_balance(Transition::Reminder)), firing, "one incident, however often it reminds");
    assert_eq!(one(&low_balance(Transition::Resolved)), [("resolve".to_owned(), key.clone())]);
    let later =
        Notice { since: SINCE.plus(std::time::Duration::from_secs(1)), ..low_balance(Transition::Firing) };
    assert_ne!(&one(&later)[0].1, key, "another episode is another incident");
    assert_ne!(&one(&deployment("a", Transition::Firing))[0].1, key);

    let event = |severity| Notice { severity, ..deployment("a", Transition::Event) };
    assert_eq!(actions(&event(Severity::Critical)), ["trigger"], "a person closes it");
    assert_eq!(actions(&event(Severity::Info)), ["trigger", "resolve"], "nobody needs to");
    assert_eq!(actions(&low_balance(Transition::Test)), ["trigger", "resolve"]);
    assert_eq!(actions(&group()), ["trigger", "trigger", "resolve"], "of a group one each");

    let ended = vec![(low_balance(Transition::Firing).key, SINCE)];
    let digest_of_ends = Notice { together: Together { more: 4, ended, ..group().together }, ..group() };
    let closed = one(&digest_of_ends);
    assert!(
        closed.contains(&("resolve".to_owned(), key.clone())),
        "also what is over and not named: {closed:?}"
    );
    let opened = &values(&service, &digest_of_ends).pop().unwrap()["payload"]["summary"];
    assert!(opened.as_str().unwrap().contains("3 alerts that have no incident"), "{opened}");
    let over = Notice { transition: Transition::Resolved, ..digest(&|_| low_balance(Transition::Resolved)) };
    assert!(actions(&over).iter().all(|action| action == "resolve"), "what ended opens nothing");
    for event in values(&service, &hostile()) {
        let payload = &event["payload"];
        assert!(utf16(payload["summary"].as_str().unwrap()) <= 1_024);
        assert!(!payload["source"].as_str().unwrap().is_empty());
        assert!(event["dedup_key"].as_str().unwrap().len() <= 255);
    }
}

#[test]
fn an_instant_beyond_the_calendar_is_left_out_rather_than_refused() {
    for (name, service) in services().into_iter().skip(1) {
        let text = texts(&service, &empty()).concat();
        assert!(!text.contains("ms\""), "{name}: {text}");
    }
}
