//! What this version refuses by name: keys of the contract that it does not implement yet, and secrets.
//!
//! It must never let a key of either list pass in silence: a key that is ignored, or one that is logged, costs money.

/// Keys of the contract (PRODUCT §4) that this version lacks.
const UNSUPPORTED: [&str; 2] = ["serve.token_file", "store.ballast"];

/// Keys that would hold a secret, wherever they stand.
const SECRETS: [&str; 6] = ["api_key", "heartbeat_url", "password", "secret", "token", "url"];

/// Why a key that no section asked for is refused by name, if it is. `siblings` are the keys known beside it.
pub(super) fn refusal(path: &str, siblings: &[&str]) -> Option<String> {
    let key = path.rsplit('.').next().unwrap_or(path);
    if UNSUPPORTED.contains(&path) {
        return Some(format!("`{key}` is not supported by this version; remove it"));
    }
    if !SECRETS.contains(&key) {
        return None;
    }
    let own = format!("{key}_file");
    let exact = siblings.iter().find(|sibling| **sibling == own);
    let any = || siblings.iter().find(|sibling| sibling.ends_with("_file") && **sibling != "ca_file");
    Some(match exact.or_else(any) {
        Some(file) => format!("a secret never stands here; put it into a file and name it in `{file}`"),
        None => "a secret never stands here; remove it".to_owned(),
    })
}
