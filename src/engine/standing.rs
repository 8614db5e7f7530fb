//! An alert as it stands now, for those outside who keep a picture of their own: its labels, and what it says.
//!
//! It must never depend on whom we told: silences and groups are theirs to have.

use std::{sync::Arc, time::Duration};

use super::{
    label,
    words::{self, Telling},
};
use crate::model::{AlertKey, Label, Labels, Rule, Snapshot, Subject, Time, Transition, View};

/// An event has no end, so it is shown for this long: longer than others gather before they tell, and soon over.
pub const EVENT_STANDS: Duration = Duration::from_secs(600);

/// What is said of an alert.
pub struct Said {
    pub title: String,
    pub reason: String,
    pub advice: String,
}

fn rule<'a>(view: &'a View, name: &Arc<str>) -> Option<&'a Rule> {
    view.rules.iter().find(|rule| rule.name == *name)
}

/// `None` where the rule is gone. A label that has no value is left out.
pub fn labels(view: &View, key: &AlertKey) -> Option<Labels> {
    let rule = rule(view, &key.rule)?;
    let (subject, snapshot) = (&key.subject, &*view.snapshot);
    let value = |label: Label| first(rule, subject, snapshot, label);
    let team = label::values(rule, subject, snapshot, Label::Team);
    let id = value(Label::Id);
    let mut labels: Labels = vec![
        ("alertname", rule.name.to_string()),
        ("kind", rule.kind.as_str().to_owned()),
        ("severity", rule.severity.as_str().to_owned()),
        ("subject", subject.kind().to_owned()),
        ("team_id", team.first().copied().unwrap_or_default().to_owned()),
        ("team", team.last().copied().unwrap_or_default().to_owned()),
    ];
    match subject {
        // Of a team the id and the name are there already.
        Subject::Account | Subject::Team { .. } => {}
        // Two of one team are two alerts.
        Subject::Occasion { at, .. } => labels.push(("occasion", at.to_string())),
        Subject::Deployment { .. } => {
            let own = [
                ("deployment_id", id),
                ("name", value(Label::Name)),
                ("gpu_type", value(Label::GpuType)),
                ("provider", value(Label::Provider)),
                ("region", value(Label::Region)),
                ("instance_type", value(Label::InstanceType)),
            ];
            labels.extend(own);
        }
        Subject::Volume { .. } => {
            labels.extend([
                ("volume_id", id),
                ("name", value(Label::Name)),
                ("provider", value(Label::Provider)),
            ]);
        }
    }
    labels.retain(|(_, value)| !value.trim().is_empty());
    Some(labels)
}

fn first(rule: &Rule, subject: &Subject, snapshot: &Snapshot, label: Label) -> String {
    label::values(rule, subject, snapshot, label).first().copied().unwrap_or_default().to_owned()
}

/// The words of a notice, said at this time.
pub fn say(view: &View, key: &AlertKey, transition: Transition, since: Time, now: Time) -> Said {
    let Some(rule) = rule(view, &key.rule) else {
        return Said {
            title: format!("{}: {}", key.rule, key.subject),
            reason: "Its rule is no longer in force.".to_owned(),
            advice: "Nothing to do.".to_owned(),
        };
    };
    let telling = Telling {
        rule,
        subject: &key.subject,
        snapshot: &view.snapshot,
        forecasts: &view.forecasts,
        actions: &view.actions,
        now,
    };
    let words = words::compose(&telling, transition, since);
    Said { title: words.title, reason: words.reason, advice: words.advice }
}
