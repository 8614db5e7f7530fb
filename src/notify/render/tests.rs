use super::*;
use crate::model::{AlertKey, DeploymentId, EventId, Subject, TeamId};

fn html(notice: &Notice) -> String {
    Templates::built_in().html(notice).unwrap()
}

const SINCE: Time = Time::from_secs(1_795_516_200);

fn bar(label: &str, permille: u32, text: &str) -> Bar {
    Bar { label: label.into(), permille, text: text.into() }
}

fn low_balance(transition: Transition) -> Notice {
    let key = AlertKey { rule: "low-balance".into(), subject: Subject::Team { id: TeamId::new("tm_7Qx") } };
    Notice {
        id: EventId::derive(&key, Time::from_secs(1), transition, 0),
        key,
        kind: "balance".into(),
        transition,
        severity: Severity::Critical,
        title: "low balance: research has $8.20 left".into(),
        reason: "The balance of research is $8.20, below the $10.00 that rule low-balance asks for. At $1.46 an hour \
                 it lasts 5h 36m, until 2026-11-24 16:06 UTC; then Spheron ends what runs, and its disks with it."
            .into(),
        advice: "Top up at https://app.spheron.ai, or end what is not needed: train-a100 costs most.".into(),
        details: [("team", "research"), ("balance", "$8.20"), ("burn rate", "$1.46/h"), ("dearest", "train-a100, $1.20/h")]
            .map(|(name, value)| (name.into(), value.to_owned()))
            .to_vec(),
        since: SINCE,
        at: SINCE.plus(std::time::Duration::from_secs(match transition {
            Transition::Firing => 0,
            Transition::Reminder | Transition::Resolved | Transition::Event | Transition::Test => 14_400,
        })),
        receivers: vec!["ops".into()],
        bars: vec![
            bar("balance", 820, "$8.20; the threshold is $10.00"),
            bar("runway", 933, "5h 36m; the threshold is 6h"),
        ],
        together: Default::default(),
        grant: None,
        link: None,
    }
}

fn spot() -> Notice {
    let subject = Subject::Deployment { id: DeploymentId::new("dep_42"), created_at: SINCE };
    let key = AlertKey { rule: "spot-interrupted".into(), subject };
    Notice {
        id: EventId::derive(&key, Time::from_secs(1), Transition::Event, 0),
        key,
        kind: "spot_interrupted".into(),
        transition: Transition::Event,
        severity: Severity::Warning,
        title: "spot reclaimed: train-h100".into(),
        reason: "The provider took back train-h100 after 6h 10m.".into(),
        advice: String::new(),
        details: Vec::new(),
        bars: Vec::new(),
        ..low_balance(Transition::Event)
    }
}

/// Everything in it is chosen by an attacker.
fn hostile() -> Notice {
    let name = "x\r\nBcc: victim@example.org\r\n.\r\n<script>alert('1')</script>\u{1b}[2J\u{202e}gnp.exe\0\"&\u{2028}--\n";
    Notice {
        title: format!("low balance: {name} has $8.20 left"),
        reason: format!("The balance of {name} is low. {}", "long ".repeat(2_000)),
        advice: format!("Look at {name}."),
        details: vec![(name.into(), name.into()), ("10 kB".into(), "w".repeat(10_000))],
        bars: vec![bar(name, u32::MAX, name), bar("10 kB", 1, &"w".repeat(10_000))],
        key: AlertKey { rule: name.into(), subject: Subject::Team { id: TeamId::new(name) } },
        kind: name.into(),
        id: EventId::from_text(name),
        ..low_balance(Transition::Firing)
    }
}

fn flood() -> Notice {
    let details = (0..10_000).map(|n| (format!("name {n}").into(), "v".to_owned())).collect();
    Notice { details, ..low_balance(Transition::Firing) }
}

#[test]
fn a_firing_alert_reads_well_in_each_form() {
    let notice = low_balance(Transition::Firing);
    insta::assert_snapshot!("firing_text", text(&notice));
    insta::assert_snapshot!("firing_html", html(&notice));
    insta::assert_snapshot!("firing_terminal", terminal(&notice, false));
    insta::assert_snapshot!("firing_one_line", one_line(&notice));
}

#[test]
fn an_event_without_figures_and_advice_has_no_empty_headings() {
    insta::assert_snapshot!("event_text", text(&spot()));
    insta::assert_snapshot!("event_html", html(&spot()));
    insta::assert_snapshot!("event_terminal", terminal(&spot(), false));
    assert!(!html(&spot()).contains("What to do"));
}

#[test]
fn a_subject_says_at_once_how_bad_it_is() {
    for (transition, expected) in [
        (Transition::Firing, "[CRITICAL] low balance: research has $8.20 left"),
        (Transition::Reminder, "[CRITICAL] still: low balance: research has $8.20 left"),
        (Transition::Resolved, "[RESOLVED] low balance: research has $8.20 left"),
        (Transition::Event, "[CRITICAL] low balance: research has $8.20 left"),
        (Transition::Test, "[TEST] low balance: research has $8.20 left"),
    ] {
        assert_eq!(subject(&low_balance(transition)), expected, "{transition:?}");
    }
}

#[test]
fn every_transition_says_when() {
    let whens =
        [Transition::Firing, Transition::Reminder, Transition::Resolved, Transition::Event, Transition::Test]
            .map(|transition| Sheet::of(&low_balance(transition)).when);
    assert_eq!(
        whens,
        [
            "Since 2026-11-24 10:30 UTC.",
            "Since 2026-11-24 10:30 UTC, 4h before this was sent.",
            "Resolved 2026-11-24 14:30 UTC, after 4h.",
            "Seen 2026-11-24 14:30 UTC.",
            "Seen 2026-11-24 14:30 UTC.",
        ]
    );
}

#[test]
fn colour_is_only_there_when_asked_for_and_always_ends() {
    let notice = low_balance(Transition::Firing);
    let colored = terminal(&notice, true);
    assert!(!terminal(&notice, false).contains('\u{1b}'));
    for line in colored.lines() {
        assert_eq!(
            line.matches("\u{1b}[").count() % 2,
            0,
            "each colour is put back on its own line: {line:?}"
        );
    }
    let mut plain = colored;
    for code in ["31", "1;7;31", "1", "2", "0"] {
        plain = plain.replace(&format!("\u{1b}[{code}m"), "");
    }
    assert_eq!(plain, terminal(&notice, false), "colour adds nothing else");
}

#[test]
fn fault_77_a_hostile_name_stays_text_in_every_form() {
    let notice = hostile();
    insta::assert_snapshot!("hostile_text", text(&notice));
    insta::assert_snapshot!("hostile_html", html(&notice));
    let bad = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202e}' | '\u{2028}'));
    for (form, out) in [
        ("subject", subject(&notice)),
        ("one line", one_line(&notice)),
        ("text", text(&notice)),
        ("html", html(&notice)),
        ("terminal", terminal(&notice, false)),
    ] {
        assert!(!out.contains(bad), "{form}: {out:?}");
        assert!(out.len() < 12_000, "{form} is bounded: {}", out.len());
        assert!(!out.lines().any(|l| l.starts_with("Bcc:") || l.trim() == "."), "{form}: {out}");
    }
    for form in [subject(&notice), one_line(&notice)] {
        assert_eq!(form.lines().count(), 1, "{form}");
    }
    assert!(!html(&notice).contains("<script"));
}

#[test]
fn ten_thousand_figures_are_cut_and_the_cut_shows() {
    let out = text(&flood());
    assert!(out.contains("and 9960 more") && out.lines().count() < 70, "{out}");
}

#[test]
fn an_instant_beyond_the_calendar_does_no_harm() {
    let notice = Notice {
        since: Time::from_millis(i64::MIN),
        at: Time::from_millis(i64::MAX),
        ..low_balance(Transition::Resolved)
    };
    assert!(text(&notice).contains("Resolved"));
}

/// One of each kind of mail.
fn mails() -> [Notice; 8] {
    let [firing, reminder, resolved, event] =
        [Transition::Firing, Transition::Reminder, Transition::Resolved, Transition::Event].map(low_balance);
    [firing, reminder, resolved, event, group(), digest(), test(), hostile()]
}

fn test() -> Notice {
    Notice {
        key: AlertKey { rule: "test".into(), subject: Subject::Account },
        kind: "test".into(),
        severity: Severity::Info,
        title: "test of spheron-watch".into(),
        reason: "Somebody ran `spheron-watch test-notify`. Nothing is wrong.".into(),
        advice: "Nothing to do: alerts will reach you here.".into(),
        details: vec![("receiver".into(), "ops".into())],
        bars: Vec::new(),
        ..low_balance(Transition::Test)
    }
}

#[test]
fn an_end_and_a_test_read_well() {
    let resolved = low_balance(Transition::Resolved);
    let resolved = Notice {
        reason: "No longer so after 4h. Now: the balance of research is $58.20; the threshold is $10.00."
            .into(),
        advice: "Nothing to do.".into(),
        bars: vec![bar("balance", 5_820, "$58.20; the threshold is $10.00")],
        ..resolved
    };
    insta::assert_snapshot!("resolved_text", text(&resolved));
    insta::assert_snapshot!("resolved_html", html(&resolved));
    insta::assert_snapshot!("test_text", text(&test()));
    insta::assert_snapshot!("test_html", html(&test()));
}

#[test]
fn an_announcement_has_its_signed_link_in_every_form_but_the_log() {
    let link = "https://watch.example.org/keep/0a1b2c";
    let notice = Notice { link: Some(link.into()), ..spot() };
    insta::assert_snapshot!("announcement_text", text(&notice));
    insta::assert_snapshot!("announcement_html", html(&notice));
    insta::assert_snapshot!("announcement_terminal", terminal(&notice, false));
    let href = format!("<a href=\"{}\"", link.replace('/', "&#x2f;"));
    assert!(html(&notice).contains(&href));
    assert!(!one_line(&notice).contains("/keep/"), "a log is read by others");
}

#[test]
fn html_loads_nothing_from_outside() {
    for notice in mails() {
        let out = html(&notice);
        for outside in ["<img", "src=", "href=", "url(", "@import", "<link", "<script"] {
            assert!(!out.contains(outside), "{outside}");
        }
    }
}

#[test]
fn every_mail_is_whole_and_its_text_says_as_much_as_its_html() {
    for notice in mails() {
        let (html, text) = (html(&notice), text(&notice));
        assert!(html.ends_with("</html>"), "{html}");
        for tag in ["table", "tr", "td", "th", "div", "span", "code", "b", "style", "title", "body"] {
            let opened =
                html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag} in {html}");
        }
        let unbroken = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for bar in notice.bars.iter().map(Drawn::of) {
            assert!(text.contains(&format!("] {}", bar.text)), "{} in {text}", bar.text);
        }
        for part in [line(&notice.reason, 60), line(&notice.advice, 60)] {
            assert!(unbroken.contains(part.trim_end_matches('…')), "{part} in {text}");
        }
    }
}

#[test]
fn a_bar_shows_what_is_more_than_nothing_and_is_full_only_when_it_is() {
    let drawn = |permille| {
        let drawn = Drawn::of(&bar("b", permille, ""));
        format!("{} {}", drawn.percent, drawn.drawn('#', '-'))
    };
    assert_eq!(drawn(0), "0 [--------------------] ");
    assert_eq!(drawn(1), "1 [#-------------------] ");
    assert_eq!(drawn(820), "82 [################----] ");
    assert_eq!(drawn(999), "99 [###################-] ");
    assert_eq!(drawn(1_000), "100 [####################] ");
    assert_eq!(drawn(u32::MAX), "100 [####################] ");
    let of =
        |permille| html(&Notice { bars: vec![bar("b", permille, "")], ..low_balance(Transition::Firing) });
    assert!(!of(0).contains("width:0%") && !of(1_000).contains("class=\"rest\""), "no empty cell");
}

#[test]
fn the_command_to_silence_is_there_while_it_fires_and_only_with_plain_names() {
    let command = |notice: &Notice| silence::command(notice).unwrap_or_default();
    let firing = low_balance(Transition::Firing);
    let expected = "spheron-watch silence add --match rule=low-balance id=tm_7Qx --for 4h";
    assert_eq!(command(&firing), expected);
    assert_eq!(command(&low_balance(Transition::Reminder)), expected);
    for form in [text(&firing), html(&firing)] {
        assert!(form.contains(expected), "{form}");
    }
    for over in [Transition::Resolved, Transition::Event, Transition::Test] {
        assert_eq!(command(&low_balance(over)), "", "{over:?}");
    }
    let about =
        |rule: &str, subject| Notice { key: AlertKey { rule: rule.into(), subject }, ..firing.clone() };
    assert_eq!(
        command(&about("blind", Subject::Account)),
        "spheron-watch silence add --match rule=blind --for 4h"
    );
    for id in ["$(reboot)", "a b", "a*", "a;b", "`x`", "a'", "a\nb", "", "é", &"x".repeat(81)] {
        let team = Subject::Team { id: TeamId::new(id) };
        assert_eq!(command(&about("low-balance", team)), "", "{id}: to be typed, not pasted");
    }
    assert_eq!(command(&about("my rule", Subject::Account)), "");
    assert_eq!(command(&group()), "", "of several rules");
    let same = Notice { together: Together { members: vec![firing.clone()], ..group().together }, ..group() };
    assert_eq!(command(&same), "spheron-watch silence add --match rule=low-balance team=tm_7Qx --for 4h");
}

#[test]
fn no_template_says_what_is_not_there() {
    assert!(Templates::broken().html(&low_balance(Transition::Firing)).is_err(), "undefined");
    assert!(Templates::broken().html(&low_balance(Transition::Event)).is_err(), "cannot be parsed");
    assert!(Templates::broken().html(&group()).is_err(), "not there");
}

fn group() -> Notice {
    let members = vec![
        Notice { severity: Severity::Warning, ..low_balance(Transition::Firing) },
        spot(),
        low_balance(Transition::Resolved),
    ];
    Notice {
        title: "3 alerts in research: 1 firing, 1 happened, 1 resolved".into(),
        reason: "They belong to one group and came close together, so they are told at once.".into(),
        advice: "Each alert below says what to do.".into(),
        details: Vec::new(),
        bars: Vec::new(),
        severity: Severity::Warning,
        together: Together { members, lanes: vec!["= team=\"tm_7Qx\"".into()], ..Together::default() },
        ..low_balance(Transition::Firing)
    }
}

fn digest() -> Notice {
    let more = 497;
    let together = Together { more, ..group().together };
    Notice {
        title: "500 alerts at once: 480 firing, 20 resolved".into(),
        reason: "More than 20 alerts came at once, so they are counted by rule and team; 3 are told in full."
            .into(),
        advice: "Look for one cause first: so many alerts at once rarely have as many.".into(),
        details: vec![
            ("running-long in research".into(), "480".into()),
            ("spot-interrupted in ml".into(), "20".into()),
        ],
        together,
        ..group()
    }
}

#[test]
fn a_group_reads_well_in_each_form() {
    insta::assert_snapshot!("group_text", text(&group()));
    insta::assert_snapshot!("group_html", html(&group()));
    insta::assert_snapshot!("group_terminal", terminal(&group(), false));
    insta::assert_snapshot!("group_one_line", one_line(&group()));
    assert_eq!(subject(&group()), "[WARNING] 3 alerts in research: 1 firing, 1 happened, 1 resolved");
}

#[test]
fn a_digest_says_how_many_and_names_the_first() {
    insta::assert_snapshot!("digest_text", text(&digest()));
    insta::assert_snapshot!("digest_html", html(&digest()));
    insta::assert_snapshot!("digest_terminal", terminal(&digest(), false));
    assert!(html(&digest()).contains("And 497 more"));
}

#[test]
fn fault_77_hostile_members_stay_text_and_a_group_of_them_is_bounded() {
    let members = vec![hostile(); 1_000];
    let notice = Notice { together: Together { members, ..Together::default() }, ..hostile() };
    let bad = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202e}' | '\u{2028}'));
    for (form, out) in [
        ("one line", one_line(&notice)),
        ("text", text(&notice)),
        ("html", html(&notice)),
        ("terminal", terminal(&notice, false)),
    ] {
        assert!(!out.contains(bad), "{form}: {out:?}");
        assert!(out.len() < 80_000, "{form} is bounded: {}", out.len());
        assert!(!out.lines().any(|l| l.starts_with("Bcc:") || l.trim() == "."), "{form}: {out}");
    }
    assert_eq!(one_line(&notice).lines().count(), 1);
    assert!(!html(&notice).contains("<script"));
}
