//! The simulated Spheron account: a deterministic world that speaks the documented API, for the demo, tests and benches.
//!
//! It must never reach the network (`server` binds only the listener it is given), read a clock of its own, or hold a real secret.

pub mod answer;
pub mod calls;
pub mod catalogue;
pub mod event;
pub mod faults;
pub mod fleet;
pub mod json;
pub mod ledger;
pub mod resource;
pub mod routes;
pub mod script;
pub mod server;
pub mod truth;
pub mod weather;
pub mod world;

pub use answer::{Answer, Ask, Conduct, KEY};
pub use calls::{CallStats, Mutation};
pub use event::Event;
pub use faults::{BadMoney, Fault, FaultPlan, LimitBody, Window};
pub use resource::{AutoTopUp, FAKE_KUBECONFIG, Spec, VolumeSpec};
pub use routes::Endpoint;
pub use script::DEMO_SPEED;
pub use server::serve;
pub use truth::{Identity, Life, Passage, VolumeLife};
pub use world::{Terms, World};
