//! What is said of keeps, and how the command is used.

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;

fn keep(name: &str, until: Value, state: &str) -> Value {
    json!({
        "id": "kp_0123456789abcdef", "state": state, "deployment": {"id": "68d0a1b2c3d4e5f6a7b8c9d0", "name": name},
        "until": until, "by": "ann", "reason": "the demo on Friday", "at": "2026-09-21T14:13:20Z",
        "price_per_hour": (state == "active").then_some("0.73"), "warning": null,
    })
}

#[test]
fn a_keep_says_until_when_that_it_costs_and_how_to_end_it() {
    let said = |value| super::said(&serde_json::from_value(value).unwrap());
    insta::assert_snapshot!("said", said(keep("dev-ana\u{1b}[2J", json!("2026-09-22T14:13:20Z"), "active")));
    let late = Value::Object({
        let mut late = keep("dev-ana", Value::Null, "active").as_object().unwrap().clone();
        late.insert("warning".into(), json!("its end was requested already"));
        late
    });
    let late = said(late);
    assert!(late.contains("too late") && !late.contains("no policy ends it"), "{late}");
    let forever = said(keep("", Value::Null, "ended"));
    assert!(forever.starts_with("68d0a1b2c3d4e5f6a7b8c9d0 is kept until the keep is ended"), "{forever}");
    assert!(forever.contains("costs as before"), "{forever}");
}

#[test]
fn the_list_at_80_columns_and_in_csv() {
    let items = [
        keep("dev-ana", json!("2026-09-22T14:13:20Z"), "active"),
        keep("=cmd()", Value::Null, "active"),
        keep("a-very-long-name-for-a-node-without-any-gpu", json!("2026-09-20T14:13:20Z"), "ended"),
    ];
    let page: Page<Keep> = serde_json::from_value(json!({
        "schema": 1, "at": "2026-09-21T14:13:20Z", "source": "daemon", "total": 3, "offset": 0, "limit": 1_000,
        "next_offset": null, "items": items,
    }))
    .unwrap();
    let table = text(&page, Format::Table, Some(80));
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    insta::assert_snapshot!("list_at_80", table);
    let csv = text(&page, Format::Csv, None);
    assert!(csv.contains(",'=cmd(),,0.73,ann,the demo on Friday,2026-09-21T14:13:20Z\r\n"), "{csv}");
}

#[derive(Debug, clap::Parser)]
struct Line {
    #[arg(short, global = true)]
    output: Option<String>,
    #[command(subcommand)]
    command: Whole,
}

#[derive(Debug, clap::Subcommand)]
enum Whole {
    Keep(KeepArgs),
}

fn parse(arguments: &[&str]) -> Result<KeepArgs, clap::Error> {
    let line = Line::try_parse_from([&["spheron-watch", "keep"], arguments].concat())?;
    let Whole::Keep(args) = line.command;
    Ok(args)
}

#[test]
fn exactly_one_length_is_given_and_list_and_end_are_commands() {
    for arguments in [
        &["dev-ana", "--for", "1d"][..],
        &["dev-ana", "--forever", "-r", "why"],
        &["--until", "2026-12-24T18:00:00Z", "dev-ana"],
        &["--for", "1d", "--", "list"],
        &["--for", "1d", "--", "-x"],
    ] {
        let args = parse(arguments).unwrap();
        assert!(args.command.is_none() && args.deployment.is_some(), "{arguments:?}: {args:?}");
    }
    for arguments in [&["list"][..], &["list", "--all"], &["-o", "json", "list"], &["end", "kp_1"]] {
        let args = parse(arguments).unwrap();
        assert!(args.command.is_some() && !args.is_for_one(), "{arguments:?}: {args:?}");
    }
    for arguments in [
        &[][..],
        &["dev-ana"],
        &["--forever"],
        &["dev-ana", "--for", "1d", "--forever"],
        &["dev-ana", "--for", "soon"],
        &["dev-ana", "--until", "tomorrow"],
        &["end"],
    ] {
        assert_eq!(parse(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
    }
    for arguments in [&["--for", "1d", "list"][..], &["dev-ana", "--for", "1d", "list"]] {
        let args = parse(arguments).unwrap();
        let code = super::keep(&args, None, &Env::default(), Format::Table);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)), "{arguments:?}");
    }
}
