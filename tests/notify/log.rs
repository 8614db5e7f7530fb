//! The log receiver.

use spheron_watch::{
    clock::Clock,
    model::{Delivery, Notice, Severity, Transition},
    notify::{Receiver, ReceiverKind, ReceiverSpec},
};

use crate::{Logged, hostile, notice};

async fn logged(notice: &Notice) -> String {
    let log = Logged::start();
    let receiver =
        Receiver::build(ReceiverSpec { name: "log".into(), kind: ReceiverKind::Log }, Clock::system())
            .unwrap();
    let delivery = receiver.deliver(notice).await;
    assert_eq!(delivery, Delivery::Delivered { detail: "written to the log".into() });
    log.text()
}

#[tokio::test]
async fn fault_77_a_hostile_name_is_one_clean_line_in_the_log() {
    let out = logged(&hostile()).await;
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(
        !out.trim_end().contains(|c: char| c.is_control() || c == '\u{202e}' || c == '\u{2028}'),
        "{out:?}"
    );
    assert!(out.len() < 6_000, "bounded: {}", out.len());
}

#[tokio::test]
async fn what_needs_someone_is_a_warning_and_the_rest_is_not() {
    for (severity, transition, level) in [
        (Severity::Critical, Transition::Firing, "WARN"),
        (Severity::Warning, Transition::Reminder, "WARN"),
        (Severity::Critical, Transition::Event, "WARN"),
        (Severity::Info, Transition::Firing, "INFO"),
        (Severity::Critical, Transition::Resolved, "INFO"),
        (Severity::Critical, Transition::Test, "INFO"),
    ] {
        let out = logged(&Notice { severity, transition, ..notice(0) }).await;
        assert!(out.trim_start().starts_with(level), "{severity} {transition:?}: {out}");
        assert!(out.contains("low balance: research has $8.20 left"), "{out}");
    }
}
