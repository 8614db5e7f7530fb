use super::*;
use crate::model::{AlertKey, DeploymentId, EventId, Subject, TeamId};

const SINCE: Time = Time::from_secs(1_795_516_200);

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
        bars: Vec::new(),
        together: Default::default(),
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

#[test]
fn html_loads_nothing_from_outside() {
    let out = html(&low_balance(Transition::Firing));
    for outside in ["<img", "src=", "href=", "url(", "@import", "<link", "<script"] {
        assert!(!out.contains(outside), "{outside}");
    }
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
