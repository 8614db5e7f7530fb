//! Which documented endpoint a call means.
//!
//! It must never guess: what is not documented is the web app's HTML page.

/// Endpoints as faults and oracles tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    Balance,
    /// The list.
    Deployments,
    /// `GET /api/deployments/{id}`.
    Detail,
    CanTerminate,
    Delete,
    Volumes,
    Offers,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Balance,
    Deployments,
    Deployment(String),
    CanTerminate(String),
    Delete(String),
    Volumes,
    Volume(String),
    VolumePricing,
    Offers,
    Providers,
    Teams,
    /// A documented path with a method that changes something other than a deployment's life.
    Refused,
    Unknown,
}

impl Route {
    pub(super) fn of(method: &str, path: &str) -> Self {
        let parts: Vec<String> = path.trim_start_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (method, parts.as_slice()) {
            ("GET", ["api", "balance"]) => Self::Balance,
            ("GET", ["api", "deployments"]) => Self::Deployments,
            ("GET", ["api", "deployments", id]) => Self::Deployment((*id).to_owned()),
            ("GET", ["api", "deployments", id, "can-terminate"]) => Self::CanTerminate((*id).to_owned()),
            ("DELETE", ["api", "deployments", id]) => Self::Delete((*id).to_owned()),
            ("GET", ["api", "volumes"]) => Self::Volumes,
            ("GET", ["api", "volumes", "pricing"]) => Self::VolumePricing,
            ("GET", ["api", "volumes", id]) => Self::Volume((*id).to_owned()),
            ("GET", ["api", "gpu-offers"]) => Self::Offers,
            ("GET", ["api", "providers"]) => Self::Providers,
            ("GET", ["api", "teams"]) => Self::Teams,
            ("POST" | "PATCH" | "DELETE", ["api", "deployments" | "volumes" | "ssh-keys", ..]) => {
                Self::Refused
            }
            _ => Self::Unknown,
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Balance => Endpoint::Balance,
            Self::Deployments => Endpoint::Deployments,
            Self::Deployment(_) => Endpoint::Detail,
            Self::CanTerminate(_) => Endpoint::CanTerminate,
            Self::Delete(_) => Endpoint::Delete,
            Self::Volumes | Self::Volume(_) => Endpoint::Volumes,
            Self::Offers => Endpoint::Offers,
            Self::VolumePricing | Self::Providers | Self::Teams | Self::Refused | Self::Unknown => {
                Endpoint::Other
            }
        }
    }

    /// Answered without a key, too.
    pub(super) fn is_public(&self) -> bool {
        matches!(self, Self::Offers | Self::Providers | Self::Unknown)
    }
}

/// The value of a query parameter, decoded.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| decode(v))
}

/// A page or page size: at least 1, as the default where it is absent or not a number.
pub(super) fn number(query: &str, name: &str, default: usize) -> usize {
    parameter(query, name).and_then(|text| text.parse().ok()).filter(|n| *n > 0).unwrap_or(default)
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match (first, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or(&[]);
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_decoded_and_only_documented_paths_are_known() {
        let route = |method, path| Route::of(method, path);
        assert_eq!(route("GET", "/api/deployments/a%2Fb"), Route::Deployment("a/b".to_owned()));
        assert_eq!(route("GET", "/api/deployments/x/can-terminate"), Route::CanTerminate("x".to_owned()));
        assert_eq!(route("DELETE", "/api/volumes/x"), Route::Refused);
        assert_eq!(route("GET", "/api/deployments/x/console"), Route::Unknown);
        assert_eq!(route("GET", "/dashboard"), Route::Unknown);
        assert_eq!(parameter("a=1&team=x%20y+z", "team").as_deref(), Some("x y z"));
        assert_eq!([number("page=0", "page", 1), number("limit=100", "limit", 20)], [1, 100]);
    }
}
