//! The way from readers to whoever can say why nothing is told: reasons are made when somebody asks, not at each step.
//!
//! It must never make a reader wait for long: who asks gives up in time.

use std::{fmt, pin::Pin, sync::Arc};

use super::{Held, PolicyVerdict, Preview};

/// `None`: nobody answers any more.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Option<Arc<Vec<Held>>>> + Send + 'a>>;

pub type PolicyAnswer<'a> = Pin<Box<dyn Future<Output = Option<Arc<PolicyReasons>>> + Send + 'a>>;

/// Where every policy stands, at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyReasons {
    /// One for each policy.
    pub previews: Vec<Preview>,
    /// One for each policy and deployment.
    pub verdicts: Vec<PolicyVerdict>,
}

pub trait Reasons: Send + Sync + fmt::Debug {
    /// Every rule and subject that tells nothing now, with the reason.
    fn held(&self) -> Answer<'_>;
    /// What each policy would end now, and why not the rest.
    fn policies(&self) -> PolicyAnswer<'_>;
}
