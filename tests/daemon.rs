//! The real program, with real sockets on loopback, against the simulated account: from its start to its end, killed amid
//! its work and at each stage of an end, armed and stopped by a person, misconfigured, reloaded, and searched for secrets.
//!
//! It must never need a network beyond loopback, nor leave a process behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may panic, and measures real time"
)]

#[path = "daemon/bench.rs"]
mod bench;
#[path = "daemon/commands.rs"]
mod commands;
#[path = "daemon/delivery.rs"]
mod delivery;
#[path = "daemon/ends.rs"]
mod ends;
#[path = "daemon/fickle.rs"]
mod fickle;
#[path = "daemon/kill.rs"]
mod kill;
#[path = "daemon/lab.rs"]
mod lab;
#[path = "daemon/orders.rs"]
mod orders;
#[path = "daemon/policies.rs"]
mod policies;
#[path = "daemon/refuse.rs"]
mod refuse;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/run.rs"]
mod run;
#[path = "daemon/secrets.rs"]
mod secrets;
#[path = "notify/smtp.rs"]
#[allow(dead_code, reason = "the mail tests use the rest")]
mod smtp;
#[path = "daemon/supervised.rs"]
mod supervised;
#[path = "daemon/wire.rs"]
mod wire;
