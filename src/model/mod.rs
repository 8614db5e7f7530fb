//! Plain values that every room speaks in: money, time, resources, observations, the snapshot, rules, alerts, decisions.
//!
//! It must never import anything of ours, read a clock, or do I/O.

pub mod action;
pub mod activity;
pub mod alert;
pub mod audit;
pub mod cancel;
pub mod decision;
pub mod forecast;
pub mod group;
pub mod hold;
pub mod hours;
pub mod keep;
pub mod ledger;
pub mod meter;
pub mod money;
pub mod observation;
pub mod outbox;
pub mod policy;
pub mod push;
pub mod query;
pub mod reasons;
pub mod resource;
pub mod rule;
pub mod silence;
pub mod snapshot;
pub mod time;
pub mod view;
pub mod wish;

pub use action::{
    Act, ActReceipt, Action, ActionId, Came, Check, Deed, DeleteAnswer, FinalRead, Proof, Shift, Slot, Stage,
    StageName, Target, Withheld,
};
pub use activity::{Activity, ActivitySample, ActivitySource, Reading, SourceActivity, Unit};
pub use alert::{
    AlertKey, AlertState, Bar, EventId, Grant, Links, Mark, Notice, Severity, Subject, Together, Transition,
};
pub use audit::{Audit, AuditRow, Order, Restored};
pub use cancel::{Cancel, CancelError};
pub use decision::{Decisions, Held, HeldReason, PolicyVerdict, PollRow, StepRecord, Wake};
pub use forecast::{Finding, Forecast, Spend};
pub use group::{Entry, Group, GroupKey, Grouping, Label};
pub use hold::{Hold, Why};
pub use hours::Hours;
pub use keep::{Keep, WishError};
pub use ledger::{Books, Charge, ChargeKind, Cost, CostBy, Line, Purse};
pub use meter::{Meter, NoMeter};
pub use money::Usd;
pub use observation::{Facts, Failure, FailureKind, Feed, Listing, Observation, Outcome, Scope, Unreadable};
pub use outbox::{DeliveriesAsk, Delivery, Dispatch, Heard, OutboxRow, Progress, Receipt, Told};
pub use policy::{ArmError, Arming, Candidate, Condition, Policies, Policy, Preview, Safety};
pub use push::{Labels, Push};
pub use query::{Placeholder, Query};
pub use reasons::{Answer, PolicyAnswer, PolicyReasons, Reasons};
pub use resource::{
    Access, Balance, CanTerminate, Deployment, DeploymentId, InstanceType, Offer, Status, TeamId, Volume,
    VolumeId, VolumeStatus,
};
pub use rule::{Glob, MatchKey, Matcher, Period, Route, Rule, RuleKind};
pub use silence::{Silence, SilenceError};
pub use snapshot::{
    Account, Change, FeedHealth, Presence, Shrunk, Snapshot, Tracked, TrackedTeam, TrackedVolume, Unknown,
};
pub use time::{Time, humanize};
pub use view::{BudgetView, Ends, OutboxDepth, Tally, Trouble, View};
pub use wish::{Wish, wishes};
