//! `[notify] alertmanager` and `heartbeat_url_file`: who outside hears of us beside the receivers.
//!
//! It must never let a secret stand in an address: what a dead-man switch is pinged by is one, and stands in a file.

use std::path::PathBuf;

use super::{
    node::{Node, Read},
    reader::{Located, Reader},
};

const PATH: &str = "/api/v2/alerts";

pub(super) struct Outward {
    pub(super) alertmanagers: Vec<String>,
    pub(super) heartbeat_url_file: Option<PathBuf>,
}

pub(super) fn outward(r: &mut Reader<'_>) -> Outward {
    let mut alertmanagers: Vec<String> = Vec::new();
    for Located { origin, value } in r.list("alertmanager", member).unwrap_or_default() {
        if alertmanagers.contains(&value) {
            r.complain_at(&origin, "alertmanager", "names this member twice");
        } else {
            alertmanagers.push(value);
        }
    }
    Outward { alertmanagers, heartbeat_url_file: r.read("heartbeat_url_file", Node::path) }
}

/// Plain http too: members have internal names and seldom speak TLS, and no secret is sent.
fn member(node: &Node) -> Read<String> {
    let text = node.text()?;
    let wrong = "must be a member's address, as in \"http://am-1:9093\"";
    let uri: http::Uri = text.parse().map_err(|_| wrong.to_owned())?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(wrong)?;
    if authority.as_str().contains('@') {
        return Err("must not hold a user name or password: no secret stands here".to_owned());
    }
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong.to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("must not have a query or fragment".to_owned());
    }
    let base = text.trim_end_matches('/');
    if base.ends_with(PATH) || base.ends_with("/api/v1/alerts") {
        return Err(format!("must be what the member's own pages lie under; {PATH} is added to it"));
    }
    Ok(base.to_owned())
}
