//! Words about the watcher itself.
//!
//! It must never be silent about silence.

use std::{sync::Arc, time::Duration};

use super::{CONSOLE, Telling, Words, label};
use crate::{
    engine::rules,
    model::{Action, Feed, Usd, humanize},
};

pub fn key_rejected(telling: &Telling<'_>) -> Words {
    let reason = match telling.snapshot.key_rejected_since {
        Some(since) => {
            format!(
                "The Spheron API has answered 401 since {since}: nothing is being watched until the key works again."
            )
        }
        None => "The Spheron API accepts the key.".to_owned(),
    };
    let advice = format!(
        "Only one API key is active at a time, so creating another revokes this one. Make a key at \
         {CONSOLE}/settings?tab=api, put it where the daemon reads it, and restart it."
    );
    Words { title: "API key rejected".into(), reason, advice, details: feed_details(telling) }
}

pub fn config_invalid(telling: &Telling<'_>) -> Words {
    let reason = match &telling.snapshot.config_error {
        Some(error) => format!("The old configuration stays in force. {error}"),
        None => "The configuration is loaded.".to_owned(),
    };
    Words {
        title: "configuration could not be reloaded".into(),
        reason,
        advice: "Run `spheron-watch check-config`, mend what it names, and reload.".into(),
        details: feed_details(telling),
    }
}

pub fn delivery_failing(telling: &Telling<'_>) -> Words {
    let troubles = telling.snapshot.deliveries.iter();
    let failing: Vec<_> = troubles.filter(|(_, trouble)| rules::is_failing(trouble, telling.now)).collect();
    let Some((first, _)) = failing.first() else {
        return Words {
            title: "every receiver takes notices again".into(),
            reason: "What waited was delivered, or went to another receiver.".into(),
            advice: "Nothing to do.".into(),
            details: Vec::new(),
        };
    };
    let names: Vec<&str> = failing.iter().map(|(name, _)| &***name).collect();
    let details = failing.iter().map(|(name, trouble)| {
        let age = humanize(telling.now.since(trouble.since));
        let what = match trouble.dead {
            true => format!("gave up on a notice {age} ago"),
            false => format!("has taken nothing for {age}"),
        };
        ((*name).clone(), format!("{what}: {}", trouble.why))
    });
    Words {
        title: format!("delivery failing: {}", names.join(", ")),
        reason: "Notices do not arrive there. What waits is kept and tried again; what was given up went to another \
                 receiver, or to the log."
            .into(),
        advice: format!("Mend what it says, then try it with `spheron-watch test-notify {first}`."),
        details: details.collect(),
    }
}

pub fn not_confirmed(telling: &Telling<'_>) -> Words {
    let late = |action: &&Action| action.to_confirm_by().is_some_and(|at| at <= telling.now);
    let late: Vec<&Action> = telling.actions.iter().filter(late).collect();
    let Some(first) = late.first() else {
        return Words {
            title: "no end is unconfirmed any more".into(),
            reason: "What became of each end that was requested is known, and was told.".into(),
            advice: "Nothing to do.".into(),
            details: Vec::new(),
        };
    };
    let name = |action: &Action| label(&action.name, &action.target.id);
    let title = match late.len() {
        1 => format!("not confirmed: the end of {}", name(first)),
        many => format!("not confirmed: the end of {} and {} more", name(first), many - 1),
    };
    let rate: Usd = late.iter().map(|action| action.rate).sum();
    let details = late.iter().map(|action| {
        let asked = action.requests.last().map_or(String::new(), |at| format!(", requested at {at}"));
        (
            name(action).into(),
            format!("{} by policy {}{asked}, {}/h", action.target.id, action.policy, action.rate),
        )
    });
    Words {
        title,
        reason: format!(
            "A policy asked for it, and ten minutes later no read shows that it has ended. It may still cost {rate}/h."
        ),
        advice: format!(
            "Look at it at {CONSOLE}, and end it there if it runs. It is read again every five minutes; no second request is sent."
        ),
        details: details.collect(),
    }
}

pub fn disk_low(telling: &Telling<'_>) -> Words {
    const MIB: u64 = 1 << 20;
    let (free, low) = (telling.snapshot.disk_free_bytes.unwrap_or(0), rules::DISK_LOW_BYTES);
    let title = if free < low { "disk low" } else { "disk" };
    let left = free / MIB;
    Words {
        title: format!("{title}: {left} MiB left for the database"),
        reason: format!(
            "The file system of the database has {left} MiB left; the threshold is {} MiB. On a full disk nothing can be \
             recorded, and so no alert be sent.",
            low / MIB
        ),
        advice: "Make room there, or move the database: `[store] path`.".into(),
        details: Vec::new(),
    }
}

pub fn blind(telling: &Telling<'_>) -> Words {
    let (snapshot, now) = (telling.snapshot, telling.now);
    let feeds = rules::VITAL.iter().filter_map(|feed| snapshot.feeds.get(feed).map(|health| (feed, health)));
    let worst = feeds.max_by_key(|(_, health)| now.since(health.last_usable.unwrap_or(health.watched_since)));
    let (what, age, why) = match worst {
        Some((feed, health)) => (
            feed.as_str(),
            now.since(health.last_usable.unwrap_or(health.watched_since)),
            match (&health.trouble, health.last_attempt) {
                (Some(trouble), _) => trouble,
                (None, Some(_)) => "it worked",
                (None, None) => "no attempt was made",
            },
        ),
        None => ("account", Duration::ZERO, "no attempt was made"),
    };
    let mut reason =
        format!("The last complete poll of {what} was {} ago. The last attempt: {why}.", humanize(age));
    let burn: Usd = snapshot.teams.keys().map(|team| snapshot.burn_per_hour(team)).sum();
    if burn > Usd::ZERO {
        reason.push_str(&format!(" When last seen, the account spent {burn}/h."));
    }
    let advice = format!(
        "Until it is back, look at {CONSOLE} yourself: instances go on billing while nobody watches."
    );
    Words {
        title: "blind: no fresh data from Spheron".into(),
        reason,
        advice,
        details: feed_details(telling),
    }
}

fn feed_details(telling: &Telling<'_>) -> Vec<(Arc<str>, String)> {
    let line = |feed: &Feed| {
        let health = telling.snapshot.feeds.get(feed)?;
        let age = health
            .last_usable
            .map_or("never".to_owned(), |at| format!("{} ago", humanize(telling.now.since(at))));
        Some((Arc::from(format!("last {feed}")), age))
    };
    rules::VITAL.iter().filter_map(line).collect()
}
