//! An alert as somebody else keeps it: labels that name it, words about it, and until when it stands.
//!
//! It must never be taken for a notice: it is what is, said again and again, and has no id and no receipt.

use super::Time;

/// Name and value; the names are valid in Prometheus, the values may be hostile.
pub type Labels = Vec<(&'static str, String)>;

/// Texts may be hostile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    pub labels: Labels,
    pub summary: String,
    pub description: String,
    pub advice: String,
    pub starts: Time,
    /// In the future while it stands: who hears nothing until then takes it for over.
    pub ends: Time,
}
