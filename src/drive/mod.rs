//! Loops round one `step()`: live against the API, and simulated against an account in memory.
//!
//! It must never decide anything itself: the engine does, here facts and decisions are only carried. Nothing else joins the
//! engine and the effects.

mod act;
mod activity;
mod alertmanager;
mod circuit;
pub mod core;
pub mod dead_man;
pub mod heartbeats;
pub mod live;
pub mod observe;
pub mod outbox;
pub mod outward;
pub mod poller;
pub mod questions;
pub mod round;
pub mod simulate;
mod wishes;

pub use self::{
    activity::Activity,
    alertmanager::Member,
    core::Core,
    heartbeats::Heartbeats,
    live::{Control, Heart, Live, LiveError, Reload},
    outbox::{Deliver, LOG},
    outward::Outward,
    poller::Cadence,
    questions::{Asker, Questions},
};
