//! Which calls a poll of a feed takes, and what one of them gave.
//!
//! It must never interpret what it sees; a failed call is a failed scope, not an empty one.

use crate::{
    model::{DeploymentId, Facts, Failure, Feed, Listing, Scope, Snapshot, TeamId},
    spheron::{Client, Transport},
};

/// What a feed has to ask, by what is known so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub feed: Feed,
    pub scopes: Vec<Scope>,
}

impl Plan {
    /// Teams are known from the balance; before it has spoken, lists are asked for unscoped.
    pub fn new(feed: Feed, snapshot: &Snapshot) -> Self {
        let teams = || snapshot.teams.keys().cloned().map(Scope::Team);
        let scopes = match feed {
            Feed::Balance | Feed::Offers => vec![Scope::Unscoped],
            Feed::Deployments if snapshot.unscoped_covers || snapshot.teams.is_empty() => {
                vec![Scope::Unscoped]
            }
            Feed::Deployments => teams().collect(),
            Feed::Inventory => std::iter::once(Scope::Unscoped).chain(teams()).collect(),
            Feed::Volumes if snapshot.teams.is_empty() => vec![Scope::Unscoped],
            Feed::Volumes => teams().collect(),
            // Whose turn it is depends on who was asked before: see `Turns`.
            Feed::Detail => Vec::new(),
        };
        Self { feed, scopes }
    }
}

/// One call, as a fact or as the reason why there is none.
pub async fn ask<T: Transport>(client: &Client<T>, feed: Feed, scope: &Scope) -> Result<Facts, Failure> {
    let team: Option<&TeamId> = match scope {
        Scope::Team(id) => Some(id),
        Scope::Unscoped | Scope::One(_) => None,
    };
    match feed {
        Feed::Balance => client.balances().await.map(Facts::Balances),
        Feed::Deployments => client.deployments(team, true, false).await.map(Facts::Deployments),
        Feed::Inventory => client.deployments(team, false, true).await.map(Facts::Deployments),
        Feed::Volumes => client.volumes(team).await.map(Facts::Volumes),
        Feed::Offers => client.offers().await.map(Facts::Offers),
        Feed::Detail => match scope {
            Scope::One(id) => detail(client, id).await,
            Scope::Unscoped | Scope::Team(_) => Ok(Facts::Deployments(nothing())),
        },
    }
}

async fn detail<T: Transport>(client: &Client<T>, id: &DeploymentId) -> Result<Facts, Failure> {
    Ok(Facts::Deployment(client.deployment(id).await?.map(Box::new)))
}

fn nothing<T>() -> Listing<T> {
    Listing { items: Vec::new(), unreadable: Vec::new(), suspect: None }
}
