//! The way from readers to whoever can say why nothing is told: reasons are made when somebody asks, not at each step.
//!
//! It must never make a reader wait for long: who asks gives up in time.

use std::{fmt, pin::Pin, sync::Arc};

use super::Held;

/// `None`: nobody answers any more.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Option<Arc<Vec<Held>>>> + Send + 'a>>;

pub trait Reasons: Send + Sync + fmt::Debug {
    /// Every rule and subject that tells nothing now, with the reason.
    fn held(&self) -> Answer<'_>;
}
