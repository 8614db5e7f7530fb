//! Sends a notice by email, one envelope per recipient, and remembers who has it already.
//!
//! It must never send a recipient the same notice twice because another one's copy failed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use sha2::{Digest, Sha256};

use super::{
    BuildError, SmtpSpec, render,
    sanitize::line,
    smtp::{Problem, Smtp},
};
use crate::model::{Delivery, EventId, Notice};

/// For one mail to one recipient, connection included. lettre's own timeout covers connecting only.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Notices whose recipients are remembered while some are still to be tried.
const MEMORY_MAX: usize = 256;
/// The last second that a mail's date can show: year 9999.
const DATE_MAX_SECS: u64 = 253_402_300_799;

pub(super) struct Email {
    smtp: Smtp,
    from: Mailbox,
    to: Vec<Mailbox>,
    templates: render::Templates,
    memory: Mutex<Memory>,
}

/// What is settled for each recipient (by position) of a notice that still waits for others.
#[derive(Default)]
struct Memory(VecDeque<(EventId, BTreeMap<usize, Settled>)>);

#[derive(Debug, Clone)]
enum Settled {
    Accepted,
    Refused(String),
}

impl Email {
    pub(super) fn new(receiver: &Arc<str>, to: &[String], spec: Arc<SmtpSpec>) -> Result<Self, BuildError> {
        let from = mailbox(&spec.from).map_err(|why| BuildError::Smtp {
            why: format!(
                "`from` {:?} is not an email address that can be used ({why})",
                line(&spec.from, 100)
            ),
        })?;
        let address = |text: &String| {
            mailbox(text).map_err(|why| BuildError::Address {
                receiver: receiver.clone(),
                address: line(text, 100),
                why,
            })
        };
        let to = to.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(BuildError::Address {
                receiver: receiver.clone(),
                address: String::new(),
                why: "`to` names nobody".to_owned(),
            });
        }
        let templates = render::Templates::built_in();
        Ok(Self { smtp: Smtp::new(spec)?, from, to, templates, memory: Mutex::default() })
    }

    /// Goes through the recipients that are not settled yet; stops when the server itself fails.
    pub(super) async fn deliver(&self, notice: &Notice, deadline: Duration) -> Delivery {
        let mail = match compose(notice, &self.templates, &self.from, &self.to) {
            Ok(mail) => mail,
            Err(error) => {
                let why = format!("the mail could not be written: {error}; please report this");
                return Delivery::Rejected { why: line(&why, 300), disable: false };
            }
        };
        let mut settled = self.memory().recall(&notice.id);
        let mut waiting = None;
        for (index, to) in self.to.iter().enumerate() {
            if settled.contains_key(&index) {
                continue;
            }
            let sent =
                tokio::time::timeout(deadline, self.smtp.send(&self.from.email, &to.email, &mail)).await;
            match sent.unwrap_or_else(|_| Err(silent(deadline))) {
                Ok(()) => {
                    settled.insert(index, Settled::Accepted);
                }
                Err(Problem::Refused(why)) => {
                    settled.insert(index, Settled::Refused(why));
                }
                Err(Problem::Later(why)) => {
                    waiting = Some((format!("{}: {why}", to.email), None));
                }
                Err(Problem::Server { why, after }) => {
                    waiting = Some((why, after));
                    break;
                }
            }
        }
        let rest = if waiting.is_some() { settled.clone() } else { BTreeMap::new() };
        self.memory().remember(&notice.id, rest);
        self.conclude(&settled, waiting)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn conclude(
        &self,
        settled: &BTreeMap<usize, Settled>,
        waiting: Option<(String, Option<Duration>)>,
    ) -> Delivery {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for (to, outcome) in self.to.iter().enumerate().filter_map(|(i, to)| Some((to, settled.get(&i)?))) {
            match outcome {
                Settled::Accepted => accepted.push(to.email.to_string()),
                Settled::Refused(why) => refused.push(format!("{}: {why}", to.email)),
            }
        }
        let refused = refused.join("; ");
        match waiting {
            Some((why, after)) if accepted.is_empty() => Delivery::Retry { why, after },
            Some((why, after)) => {
                let why = format!("{why}; {} has it already and gets no second copy", accepted.join(", "));
                Delivery::Retry { why, after }
            }
            None if accepted.is_empty() => Delivery::Rejected { why: refused, disable: false },
            None if refused.is_empty() => {
                Delivery::Delivered { detail: format!("accepted for {}", accepted.join(", ")) }
            }
            None => {
                // That recipient will not get it: somebody has to mend the address.
                tracing::warn!(
                    "a mail was refused for {refused}; the others have it: {}",
                    accepted.join(", ")
                );
                let detail = format!("accepted for {}, but refused for {refused}", accepted.join(", "));
                Delivery::Delivered { detail }
            }
        }
    }
}

impl Memory {
    fn recall(&self, id: &EventId) -> BTreeMap<usize, Settled> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, settled)| settled.clone()).unwrap_or_default()
    }

    /// Empty: nothing is left to remember.
    fn remember(&mut self, id: &EventId, settled: BTreeMap<usize, Settled>) {
        self.0.retain(|(known, _)| known != id);
        if !settled.is_empty() {
            self.0.push_back((id.clone(), settled));
        }
        while self.0.len() > MEMORY_MAX {
            self.0.pop_front();
        }
    }
}

fn silent(deadline: Duration) -> Problem {
    let secs = deadline.as_secs_f32();
    Problem::Server {
        why: format!("the mail server did not finish within {secs} s; check that [smtp] smarthost answers"),
        after: None,
    }
}

/// Plain ASCII addresses only: others need an extension that few servers offer.
fn mailbox(text: &str) -> Result<Mailbox, String> {
    let mailbox: Mailbox =
        text.trim().parse().map_err(|error: lettre::address::AddressError| error.to_string())?;
    let address: &Address = &mailbox.email;
    if !AsRef::<str>::as_ref(address).is_ascii() {
        return Err("write a non-ASCII domain in its xn-- form".to_owned());
    }
    Ok(mailbox)
}

/// The same bytes at each attempt: ids, date and MIME boundary come from the notice.
fn compose(
    notice: &Notice,
    templates: &render::Templates,
    from: &Mailbox,
    to: &[Mailbox],
) -> Result<Vec<u8>, lettre::error::Error> {
    let domain = from.email.domain();
    let body = body(notice, templates);
    let thread =
        hash(&[&notice.key.rule, &notice.key.subject.to_string(), &notice.since.millis().to_string()]);
    let seconds = u64::try_from(notice.at.secs()).unwrap_or(0).min(DATE_MAX_SECS);
    let date: SystemTime = UNIX_EPOCH + Duration::from_secs(seconds);
    let mut builder = Message::builder().from(from.clone());
    for mailbox in to {
        builder = builder.to(mailbox.clone());
    }
    // A root that is never sent: it gathers an alert, its reminders and its end in one thread.
    let thread = format!("<{thread}@{domain}>");
    let message = builder
        .subject(render::subject(notice))
        .date(date)
        .message_id(Some(format!("<{}@{domain}>", message_id(&notice.id))))
        .in_reply_to(thread.clone())
        .references(thread)
        .raw_header(header(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .raw_header(header(
            HeaderName::new_from_ascii_str("List-Id"),
            format!("spheron-watch alerts <spheron-watch.{domain}>"),
        ))
        .multipart(body)?;
    Ok(message.formatted())
}

/// The text part says all; the HTML part is left out when it cannot be written.
fn body(notice: &Notice, templates: &render::Templates) -> MultiPart {
    let text = render::text(notice);
    let html = templates.html(notice).unwrap_or_else(|error| {
        tracing::error!(id = %notice.id, %error, "the HTML part of a mail cannot be written, so it goes out as text alone; please report this");
        String::new()
    });
    let parts = MultiPart::alternative().boundary(format!("=_{}", hash(&[&text, &html])));
    let parts = parts.singlepart(SinglePart::plain(text));
    if html.is_empty() { parts } else { parts.singlepart(SinglePart::html(html)) }
}

fn header(name: HeaderName, value: String) -> HeaderValue {
    HeaderValue::new(name, value)
}

/// Our ids are safe in a header as they are; an id from elsewhere is not trusted to be.
fn message_id(id: &EventId) -> String {
    let id = id.as_str();
    let safe = id.len() <= 64 && !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if safe { id.to_owned() } else { hash(&[id]) }
}

fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AlertKey, Severity, Subject, Time, Transition};

    fn notice(transition: Transition) -> Notice {
        Notice {
            id: EventId::from_text("evt_1"),
            key: AlertKey { rule: "blind".into(), subject: Subject::Account },
            kind: "blind".into(),
            transition,
            severity: Severity::Critical,
            title: "blind: no fresh data".into(),
            reason: "The last complete poll was 10m ago.".into(),
            advice: "Look yourself.".into(),
            details: vec![("last balance".into(), "10m ago".into())],
            bars: Vec::new(),
            since: Time::from_secs(1),
            at: Time::from_secs(2),
            receivers: Vec::new(),
            together: Default::default(),
            grant: None,
            link: None,
        }
    }

    #[test]
    fn a_template_that_fails_leaves_a_mail_whose_text_says_all() {
        let from = mailbox("watch@example.org").unwrap();
        let mail = |transition, templates: &render::Templates| {
            let mail = compose(&notice(transition), templates, &from, std::slice::from_ref(&from)).unwrap();
            String::from_utf8(mail).unwrap()
        };
        let whole = mail(Transition::Firing, &render::Templates::built_in());
        assert!(whole.contains("text/html") && whole.contains("</html>"), "{whole}");
        // An undefined name, one that cannot be parsed, one that is not there.
        for transition in [Transition::Firing, Transition::Event, Transition::Test] {
            let mail = mail(transition, &render::Templates::broken());
            assert!(!mail.contains("text/html") && !mail.contains("<p>"), "{mail}");
            for part in
                ["blind: no fresh data", "10m ago", "Look yourself.", "multipart/alternative", "--\r\n"]
            {
                assert!(mail.contains(part), "{part} in {mail}");
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_is_forgotten() {
        let id = |n: usize| EventId::from_text(format!("evt_{n}"));
        let settled = BTreeMap::from([(0, Settled::Accepted)]);
        let mut memory = Memory::default();
        for n in 0..=MEMORY_MAX {
            memory.remember(&id(n), settled.clone());
            memory.remember(&id(n), settled.clone());
        }
        assert_eq!(memory.0.len(), MEMORY_MAX);
        assert!(memory.recall(&id(0)).is_empty(), "sent twice rather than not at all");
        assert_eq!(memory.recall(&id(MEMORY_MAX)).len(), 1);
        memory.remember(&id(MEMORY_MAX), BTreeMap::new());
        assert_eq!(memory.0.len(), MEMORY_MAX - 1, "done: forgotten");
    }
}
