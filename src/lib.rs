//! spheron-watch guards what people spend on GPUs rented from Spheron AI.
//!
//! **One pure function decides; everything else carries facts to it and decisions away from it.** See `ARCHITECTURE.md` for
//! the map, the invariants and what is deliberately absent.
//!
//! It must never end anything, tell anything untrue, or lose an alert that was committed.

pub mod activity;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod drive;
pub mod engine;
pub mod model;
pub mod notify;
pub mod schedule;
pub mod serve;
pub mod signals;
pub mod sim;
pub mod spheron;
pub mod store;
