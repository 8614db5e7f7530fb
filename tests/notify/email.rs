//! The email receiver.

use std::{path::Path, sync::Arc, time::Duration};

use secrecy::SecretString;
use spheron_watch::{
    clock::Clock,
    model::{Delivery, EventId, Notice},
    notify::{BuildError, Receiver, ReceiverKind, ReceiverSpec, SmtpSpec, SmtpTls},
};
use tokio::io::AsyncWriteExt;

use crate::{
    Logged, hostile, notice,
    smtp::{Script, Server, Tls, server},
};

const PASSWORD: &str = "c0rrect-horse";
const LOGIN: Option<(&str, &str)> = Some(("watch", PASSWORD));

fn spec(server: &Server, tls: SmtpTls) -> SmtpSpec {
    SmtpSpec {
        host: "localhost".into(),
        port: server.port,
        tls,
        from: "Spheron Watch <watch@example.org>".into(),
        username: None,
        password: None,
        ca_file: Some(server.ca_file.clone()),
    }
}

fn with_login(mut spec: SmtpSpec, password: &str) -> SmtpSpec {
    spec.username = Some("watch".into());
    spec.password = Some(SecretString::from(password));
    spec
}

fn build(spec: SmtpSpec, to: &[&str]) -> Result<Receiver, BuildError> {
    let to = to.iter().map(|&to| to.to_owned()).collect();
    let kind = ReceiverKind::Email { to, smtp: Arc::new(spec) };
    Receiver::build(ReceiverSpec { name: "ops".into(), kind }, Clock::system())
}

/// A stand-in without TLS, and a receiver for it.
async fn plain(directory: &Path, script: Script, to: &[&str]) -> (Server, Receiver) {
    let server = server(directory, script).await;
    let receiver = build(spec(&server, SmtpTls::None), to).unwrap();
    (server, receiver)
}

fn tmp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[track_caller]
fn retry(delivery: Delivery) -> (String, Option<Duration>) {
    match delivery {
        Delivery::Retry { why, after } => (why, after),
        Delivery::Delivered { .. } | Delivery::Rejected { .. } => panic!("{delivery:?}"),
    }
}

#[track_caller]
fn delivered(delivery: Delivery) -> String {
    match delivery {
        Delivery::Delivered { detail } => detail,
        Delivery::Retry { .. } | Delivery::Rejected { .. } => panic!("{delivery:?}"),
    }
}

#[track_caller]
fn rejected(delivery: Delivery) -> String {
    match delivery {
        Delivery::Rejected { why, disable: false } => why,
        Delivery::Retry { .. } | Delivery::Delivered { .. } | Delivery::Rejected { .. } => {
            panic!("{delivery:?}")
        }
    }
}

#[tokio::test]
async fn a_mail_goes_out_encrypted_and_logged_in_with_both_bodies_and_its_headers() {
    for (offered, wanted) in [(Tls::Upgrade, SmtpTls::StartTls), (Tls::Implicit, SmtpTls::Implicit)] {
        let directory = tmp();
        let server = server(directory.path(), Script { login: LOGIN, ..Script::new(offered) }).await;
        let receiver =
            build(with_login(spec(&server, wanted), PASSWORD), &["Ops <ops@example.org>"]).unwrap();
        assert_eq!(delivered(receiver.deliver(&notice(0)).await), "accepted for ops@example.org");
        let seen = server.seen();
        assert!(seen.clear.iter().all(|l| l.starts_with("EHLO") || l == "STARTTLS"), "{:?}", seen.clear);
        let mail = &seen.mails[0];
        assert_eq!(
            (mail.from.as_str(), mail.to.as_slice()),
            ("watch@example.org", &["ops@example.org".to_owned()][..])
        );
        for (header, expected) in [
            ("Subject", "[CRITICAL] low balance: research has $8.20 left"),
            ("Date", "Tue, 24 Nov 2026 10:31:00 +0000"),
            ("Message-ID", &format!("<{}@example.org>", notice(0).id)),
            ("Auto-Submitted", "auto-generated"),
            ("List-Id", "spheron-watch alerts <spheron-watch.example.org>"),
        ] {
            assert_eq!(mail.header(header), expected);
        }
        assert!(mail.header("Content-Type").starts_with("multipart/alternative"));
        assert!(mail.content.contains("text/plain") && mail.content.contains("text/html"));
        assert!(mail.content.contains("\r\n  balance  $8.20\r\n"), "{}", mail.content);
        assert!(mail.content.is_ascii(), "needs no extension of the server's");
    }
}

#[tokio::test]
async fn a_connection_is_kept_between_mails_and_replaced_when_it_has_died() {
    for (close_after, connections) in [(None, 1), (Some(1), 3)] {
        let directory = tmp();
        let script = Script { close_after, ..Script::new(Tls::None) };
        let (server, receiver) = plain(directory.path(), script, &["ops@example.org"]).await;
        for nth in 0..3 {
            delivered(receiver.deliver(&notice(nth)).await);
        }
        let seen = server.seen();
        assert_eq!((seen.mails.len(), seen.connections), (3, connections));
    }
}

#[tokio::test]
async fn fault_59_a_second_attempt_is_byte_for_byte_the_same_mail() {
    let directory = tmp();
    let (server, receiver) = plain(directory.path(), Script::new(Tls::None), &["ops@example.org"]).await;
    for nth in [0, 0, 1] {
        delivered(receiver.deliver(&notice(nth)).await);
    }
    let mails = server.seen().mails;
    assert_eq!(mails[0].content, mails[1].content);
    assert_ne!(mails[1].header("Message-ID"), mails[2].header("Message-ID"));
    for mail in &mails {
        assert_eq!(mail.header("References"), mails[0].header("References"), "one thread for one episode");
        assert_eq!(mail.header("In-Reply-To"), mail.header("References"));
    }
}

#[tokio::test]
async fn fault_60_a_4yz_reply_is_tried_again_wherever_it_comes() {
    for (name, script) in [
        ("MAIL", Script { mail: vec!["451 4.3.0 busy"], ..Script::new(Tls::None) }),
        (
            "RCPT",
            Script {
                rcpt: [("ops@example.org", vec!["450 4.2.0 greylisted"])].into(),
                ..Script::new(Tls::None)
            },
        ),
        ("content", Script { content: vec!["452 4.3.1 full"], ..Script::new(Tls::None) }),
        ("421", Script { content: vec!["421 4.3.2 going down"], ..Script::new(Tls::None) }),
    ] {
        let directory = tmp();
        let (server, receiver) = plain(directory.path(), script, &["ops@example.org"]).await;
        let (why, _) = retry(receiver.deliver(&notice(0)).await);
        assert!(why.contains("(4"), "{name}: {why}");
        delivered(receiver.deliver(&notice(0)).await);
        assert_eq!(server.seen().mails.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn fault_60_a_5yz_reply_is_final_and_says_why() {
    for (script, expected) in [
        (Script { mail: vec!["550 5.7.1 not you"], ..Script::new(Tls::None) }, "check [smtp] from"),
        (
            Script {
                rcpt: [("ops@example.org", vec!["550 5.1.1 no such user"])].into(),
                ..Script::new(Tls::None)
            },
            "no such user",
        ),
        (Script { content: vec!["554 5.6.0 spam\u{1b}[2J"], ..Script::new(Tls::None) }, "5.6.0 spam)"),
    ] {
        let directory = tmp();
        let (server, receiver) = plain(directory.path(), script, &["ops@example.org"]).await;
        let why = rejected(receiver.deliver(&notice(0)).await);
        assert!(format!("{why})").contains(expected) && !why.contains('\u{1b}'), "{why}");
        assert!(server.seen().mails.is_empty());
        delivered(receiver.deliver(&notice(1)).await);
        assert_eq!(server.seen().connections, 1, "a refusal does not cost the connection");
    }
}

#[tokio::test]
async fn fault_60_a_refused_login_keeps_the_mail_and_names_the_setting() {
    let directory = tmp();
    let server = server(directory.path(), Script { login: LOGIN, ..Script::new(Tls::Upgrade) }).await;
    let receiver =
        build(with_login(spec(&server, SmtpTls::StartTls), "wrong-horse"), &["a@x.org", "b@x.org"]).unwrap();
    let (why, after) = retry(receiver.deliver(&notice(0)).await);
    assert!(why.contains("check [smtp] username and password_file"), "{why}");
    assert_eq!(after, Some(Duration::from_secs(300)), "an account is not hammered into its lock");
    assert_eq!(server.seen().logins, 1, "not once per recipient");
    let receiver = build(spec(&server, SmtpTls::StartTls), &["a@x.org"]).unwrap();
    let (why, _) = retry(receiver.deliver(&notice(0)).await);
    assert!(why.contains("wants a login (530)") && why.contains("set [smtp] username"), "{why}");
    assert!(server.seen().mails.is_empty());
}

#[tokio::test]
async fn fault_60_each_recipient_has_its_own_outcome() {
    let directory = tmp();
    let script = Script {
        rcpt: [("gone@x.org", vec!["550 5.1.1 no such user"]), ("late@x.org", vec!["450 4.2.0 greylisted"])]
            .into(),
        ..Script::new(Tls::None)
    };
    let (server, receiver) =
        plain(directory.path(), script, &["gone@x.org", "late@x.org", "good@x.org"]).await;
    let (why, _) = retry(receiver.deliver(&notice(0)).await);
    assert!(why.contains("late@x.org") && why.contains("good@x.org has it already"), "{why}");
    let detail = delivered(receiver.deliver(&notice(0)).await);
    assert!(
        detail.starts_with("accepted for late@x.org, good@x.org, but refused for gone@x.org"),
        "{detail}"
    );
    assert!(detail.contains("no such user"), "the first attempt's reply is remembered: {detail}");
    let to: Vec<_> = server.seen().mails.iter().map(|m| m.to.join(",")).collect();
    assert_eq!(to, ["good@x.org", "late@x.org"], "nobody gets a second copy");
}

#[tokio::test]
async fn fault_60_all_refused_is_rejected_with_each_reason() {
    let directory = tmp();
    let script = Script {
        rcpt: [("a@x.org", vec!["550 5.1.1 no such user"]), ("b@x.org", vec!["552 5.2.2 mailbox full"])]
            .into(),
        ..Script::new(Tls::None)
    };
    let (_server, receiver) = plain(directory.path(), script, &["a@x.org", "b@x.org"]).await;
    let why = rejected(receiver.deliver(&notice(0)).await);
    assert!(why.contains("a@x.org") && why.contains("mailbox full"), "{why}");
}

#[tokio::test]
async fn fault_61_a_server_without_starttls_gets_neither_login_nor_mail() {
    let directory = tmp();
    let server = server(directory.path(), Script { login: LOGIN, ..Script::new(Tls::None) }).await;
    let receiver =
        build(with_login(spec(&server, SmtpTls::StartTls), PASSWORD), &["ops@example.org"]).unwrap();
    let (why, _) = retry(receiver.deliver(&notice(0)).await);
    assert!(why.contains("does not offer STARTTLS") && why.contains("nothing was sent"), "{why}");
    let seen = server.seen();
    assert!(seen.clear.iter().all(|line| line.starts_with("EHLO")), "{:?}", seen.clear);
    assert_eq!((seen.logins, seen.mails.len()), (0, 0));
}

#[tokio::test]
async fn fault_61_a_reply_injected_before_tls_cannot_make_a_mail_look_accepted() {
    let directory = tmp();
    let server = server(directory.path(), Script::new(Tls::Injected)).await;
    let receiver = build(spec(&server, SmtpTls::StartTls), &["ops@example.org"])
        .unwrap()
        .with_deadline(Duration::from_millis(1_500));
    retry(receiver.deliver(&notice(0)).await);
    assert!(server.seen().mails.is_empty());
}

#[tokio::test]
async fn fault_27_a_certificate_that_nobody_vouches_for_gets_nothing() {
    for (offered, wanted) in [(Tls::Upgrade, SmtpTls::StartTls), (Tls::Implicit, SmtpTls::Implicit)] {
        let directory = tmp();
        let server = server(directory.path(), Script { login: LOGIN, ..Script::new(offered) }).await;
        let untrusted = SmtpSpec { ca_file: None, ..with_login(spec(&server, wanted), PASSWORD) };
        let wrong_name = SmtpSpec { host: "127.0.0.1".into(), ..with_login(spec(&server, wanted), PASSWORD) };
        for spec in [untrusted, wrong_name] {
            let (why, _) = retry(build(spec, &["ops@example.org"]).unwrap().deliver(&notice(0)).await);
            assert!(why.contains("certificate"), "{why}");
        }
        let seen = server.seen();
        assert_eq!((seen.logins, seen.mails.len()), (0, 0));
    }
}

#[tokio::test]
async fn a_server_silent_after_data_is_tried_again_on_a_new_connection() {
    let directory = tmp();
    let script = Script { content: vec!["", "550 5.6.0 refused"], ..Script::new(Tls::None) };
    let (server, receiver) = plain(directory.path(), script, &["a@x.org", "b@x.org"]).await;
    let receiver = receiver.with_deadline(Duration::from_millis(400));
    let (why, _) = retry(receiver.deliver(&notice(0)).await);
    assert!(why.contains("did not finish within 0.4 s"), "{why}");
    assert_eq!(server.seen().connections, 1, "the next recipient does not wait in vain too");
    let detail = delivered(receiver.deliver(&notice(0)).await);
    assert!(
        detail.starts_with("accepted for b@x.org, but refused for a@x.org"),
        "each reply is its own: {detail}"
    );
    assert_eq!(server.seen().connections, 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let directory = tmp();
    let server = server(directory.path(), Script::new(Tls::None)).await;
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let receiver = build(SmtpSpec { port, ..spec(&server, SmtpTls::None) }, &["ops@example.org"]).unwrap();
    let (why, _) = retry(receiver.deliver(&notice(0)).await);
    assert!(why.contains("check [smtp] smarthost") && why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_greeting_without_end_is_cut_off_before_it_fills_memory() {
    let directory = tmp();
    let server = server(directory.path(), Script::new(Tls::None)).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(&[b'2'; 60_000]).await.is_ok() {}
    });
    let receiver =
        build(SmtpSpec { port, ..spec(&server, SmtpTls::StartTls) }, &["ops@example.org"]).unwrap();
    let (why, _) = retry(receiver.deliver(&notice(0)).await);
    assert!(why.contains("more than 1 MiB of replies"), "{why}");
}

#[tokio::test]
async fn fault_77_a_hostile_name_adds_no_header_no_line_and_no_markup_to_a_mail() {
    let directory = tmp();
    let (server, receiver) = plain(directory.path(), Script::new(Tls::None), &["ops@example.org"]).await;
    let id = EventId::from_text(crate::HOSTILE);
    delivered(receiver.deliver(&Notice { id, ..hostile() }).await);
    delivered(receiver.deliver(&notice(1)).await);
    let mails = server.seen().mails;
    assert_eq!(mails.len(), 2, "no lone dot ended the mail early");
    let mail = &mails[0];
    let mut names: Vec<_> = mail.headers().iter().map(|h| h.split(':').next().unwrap().to_owned()).collect();
    names.sort();
    let expected = [
        "Auto-Submitted",
        "Content-Type",
        "Date",
        "From",
        "In-Reply-To",
        "List-Id",
        "MIME-Version",
        "Message-ID",
        "References",
        "Subject",
        "To",
    ];
    assert_eq!(names, expected);
    assert_eq!(mail.to, ["ops@example.org"]);
    assert!(mail.header("Message-ID").ends_with("@example.org>") && mail.header("Message-ID").len() < 80);
    let html = mail.content.split("Content-Type: text/html").nth(1).unwrap();
    assert!(!html.contains("<script") && html.contains("&lt;script"), "{html}");
    assert!(!mail.content.contains(|c: char| c.is_control() && c != '\r' && c != '\n'));
}

#[tokio::test]
async fn fault_76_the_smtp_password_shows_nowhere() {
    let log = Logged::start();
    let directory = tmp();
    let script = Script { login: Some(("watch", "another")), ..Script::new(Tls::Upgrade) };
    let refusing = server(directory.path(), script).await;
    let other = tmp();
    let script = Script {
        login: LOGIN,
        rcpt: [("ops@example.org", vec!["550 5.1.1 c0rrect-horse AHdhdGNoAGMwcnJlY3QtaG9yc2U="])].into(),
        ..Script::new(Tls::Upgrade)
    };
    let echoing = server(other.path(), script).await;
    let mut shown = String::new();
    for server in [&refusing, &echoing] {
        let spec = with_login(spec(server, SmtpTls::StartTls), PASSWORD);
        shown.push_str(&format!("{spec:?}\n"));
        let receiver = build(spec, &["ops@example.org"]).unwrap();
        shown.push_str(&format!("{:?}\n{receiver:?}\n", receiver.deliver(&notice(0)).await));
    }
    shown.push_str(&log.text());
    assert!(
        shown.contains("refused the login (535)") && shown.contains("5.1.1 [hidden] [hidden]"),
        "{shown}"
    );
    for secret in [PASSWORD, "AHdhdGNoAGMwcnJlY3QtaG9yc2U=", "YzBycmVjdC1ob3JzZQ=="] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_what_to_change() {
    let directory = tmp();
    let server = server(directory.path(), Script::new(Tls::None)).await;
    let good = || spec(&server, SmtpTls::StartTls);
    let nothing = directory.path().join("nothing.pem");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "hello").unwrap();
    for (spec, to, expected) in [
        (
            SmtpSpec { host: "mail.example.org".into(), tls: SmtpTls::None, ..good() },
            "a@x.org",
            "loopback hosts alone",
        ),
        (
            SmtpSpec { username: Some("watch".into()), ..good() },
            "a@x.org",
            "`username` needs `password_file`",
        ),
        (SmtpSpec { password: Some("x".into()), ..good() }, "a@x.org", "`password_file` needs `username`"),
        (SmtpSpec { from: "nobody".into(), ..good() }, "a@x.org", "`from`"),
        (SmtpSpec { from: "a@x.org\r\nBcc: b@x.org".into(), ..good() }, "a@x.org", "`from`"),
        (SmtpSpec { ca_file: Some(nothing), ..good() }, "a@x.org", "nothing.pem: cannot be read"),
        (SmtpSpec { ca_file: Some(empty), ..good() }, "a@x.org", "holds no certificate"),
        (good(), "a@x.org\r\nBcc: b@x.org", "is not an email address"),
        (good(), "a@münchen.example", "xn-- form"),
        (good(), "a@x.org, b@x.org", "is not an email address"),
    ] {
        let error = build(spec, &[to]).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(build(good(), &[]).unwrap_err().to_string().contains("names nobody"));
}
