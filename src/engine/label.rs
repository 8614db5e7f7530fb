//! The labels of an alert: what a group gathers by and a silence matches.
//!
//! It must never give an alert a label that its subject does not have: a silence of a name is not about teams.

use std::sync::Arc;

use crate::model::{Deployment, GroupKey, Label, Rule, Snapshot, Subject, TeamId};

/// The values of one label: a team has its id and its name, most have one, a label that does not apply has none.
pub fn values<'a>(
    rule: &'a Rule,
    subject: &'a Subject,
    snapshot: &'a Snapshot,
    label: Label,
) -> Vec<&'a str> {
    match label {
        Label::Rule => return vec![&rule.name],
        Label::Kind => return vec![rule.kind.as_str()],
        Label::Severity => return vec![rule.severity.as_str()],
        Label::Team
        | Label::Name
        | Label::Id
        | Label::GpuType
        | Label::Provider
        | Label::Region
        | Label::InstanceType => {}
    }
    let is = |other: Label| label == other;
    match subject {
        Subject::Account => Vec::new(),
        Subject::Team { id } | Subject::Occasion { team: id, .. } => match label {
            Label::Id => vec![id.as_str()],
            Label::Team => team(snapshot, id),
            Label::Name => team(snapshot, id).split_off(1),
            Label::Rule
            | Label::Kind
            | Label::Severity
            | Label::GpuType
            | Label::Provider
            | Label::Region
            | Label::InstanceType => Vec::new(),
        },
        Subject::Deployment { id, .. } if is(Label::Id) => vec![id.as_str()],
        Subject::Deployment { id, .. } => snapshot
            .deployments
            .get(id)
            .map_or_else(Vec::new, |t| of_deployment(&t.deployment, snapshot, label)),
        Subject::Volume { id } if is(Label::Id) => vec![id.as_str()],
        Subject::Volume { id } => match snapshot.volumes.get(id).map(|tracked| &tracked.volume) {
            Some(volume) if is(Label::Team) => team(snapshot, &volume.team),
            Some(volume) if is(Label::Name) => vec![&volume.name],
            Some(volume) if is(Label::Provider) => vec![&volume.provider],
            Some(_) | None => Vec::new(),
        },
    }
}

fn of_deployment<'a>(deployment: &'a Deployment, snapshot: &'a Snapshot, label: Label) -> Vec<&'a str> {
    match label {
        Label::Team => team(snapshot, &deployment.team),
        Label::Name => vec![&deployment.name],
        Label::GpuType => vec![&deployment.gpu_type],
        Label::Provider => vec![&deployment.provider],
        Label::Region => vec![&deployment.region],
        // As in a rule's `match`: a cluster may be bare metal.
        Label::InstanceType if deployment.instance_type.as_str() == "BARE_METAL" => {
            vec!["BARE_METAL", "CLUSTER"]
        }
        Label::InstanceType => vec![deployment.instance_type.as_str()],
        Label::Rule | Label::Kind | Label::Severity | Label::Id => Vec::new(),
    }
}

/// Its id, then its name where that is known.
fn team<'a>(snapshot: &'a Snapshot, id: &'a TeamId) -> Vec<&'a str> {
    std::iter::once(id.as_str()).chain(snapshot.teams.get(id).map(|team| &*team.name)).collect()
}

pub fn group_key(
    receiver: &Arc<str>,
    by: &[Label],
    rule: &Rule,
    subject: &Subject,
    snapshot: &Snapshot,
) -> GroupKey {
    let label = |label: &Label| {
        let value = values(rule, subject, snapshot, *label).first().copied().unwrap_or_default();
        format!("{}={value:?}", label.as_str())
    };
    let labels: Vec<String> = by.iter().map(label).collect();
    GroupKey { receiver: receiver.clone(), labels: labels.join(" ").into() }
}
