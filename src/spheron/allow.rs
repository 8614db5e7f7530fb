//! The allow-list: every method and path that this program can ask of the API, and how an id becomes one path segment.
//!
//! It must never hold a POST, a PATCH or `/api/teams` (whose GET creates a team, FAULTS 23).

/// The two methods there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    Get,
    Delete,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Delete => "DELETE",
        }
    }
}

/// Everything that may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    Balance,
    Deployments,
    Deployment,
    CanTerminate,
    Terminate,
    Volumes,
    Volume,
    Offers,
}

impl Endpoint {
    pub const ALL: [Self; 8] = [
        Self::Balance,
        Self::Deployments,
        Self::Deployment,
        Self::CanTerminate,
        Self::Terminate,
        Self::Volumes,
        Self::Volume,
        Self::Offers,
    ];

    pub fn method(self) -> Method {
        match self {
            Self::Terminate => Method::Delete,
            Self::Balance
            | Self::Deployments
            | Self::Deployment
            | Self::CanTerminate
            | Self::Volumes
            | Self::Volume
            | Self::Offers => Method::Get,
        }
    }

    /// The documented path with its placeholder: the label in metrics and errors.
    pub fn template(self) -> &'static str {
        match self {
            Self::Balance => "/api/balance",
            Self::Deployments => "/api/deployments",
            Self::Deployment | Self::Terminate => "/api/deployments/{id}",
            Self::CanTerminate => "/api/deployments/{id}/can-terminate",
            Self::Volumes => "/api/volumes",
            Self::Volume => "/api/volumes/{id}",
            Self::Offers => "/api/gpu-offers",
        }
    }

    /// The path to ask, with the id as exactly one segment. Endpoints without a placeholder ignore the id.
    pub fn path(self, id: &str) -> Result<String, PathError> {
        let template = self.template();
        if !template.contains("{id}") {
            return Ok(template.to_owned());
        }
        // A URL parser resolves `.` and `..` as steps of the path, encoded or not.
        if matches!(id, "" | "." | "..") || id.len() > ID_BYTES_MAX {
            return Err(PathError);
        }
        Ok(template.replace("{id}", &encode(id)))
    }
}

/// 200 characters of four bytes each.
const ID_BYTES_MAX: usize = 800;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id that is empty, a dot, two dots or absurdly long cannot be asked for")]
pub struct PathError;

/// Whether a method and an encoded path are on the list; the transport asks again, right before sending.
pub fn permits(method: Method, path: &str) -> bool {
    Endpoint::ALL.into_iter().any(|endpoint| endpoint.method() == method && fits(endpoint.template(), path))
}

fn fits(template: &str, path: &str) -> bool {
    let Some((before, after)) = template.split_once("{id}") else { return template == path };
    path.strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .is_some_and(|id| !matches!(id, "" | "." | "..") && id.bytes().all(|b| is_plain(b) || b == b'%'))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn encode(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_23_only_the_listed_methods_and_paths_are_permitted() {
        for endpoint in Endpoint::ALL {
            let path = endpoint.path("65a1f0c2").unwrap();
            assert!(permits(endpoint.method(), &path), "{path}");
            assert!(!path.contains("teams"));
        }
        let deletable: Vec<_> = Endpoint::ALL.into_iter().filter(|e| e.method() == Method::Delete).collect();
        assert_eq!(deletable, [Endpoint::Terminate]);
        for (method, path) in [
            (Method::Get, "/api/teams"),
            (Method::Get, "/api/teams/details/x"),
            (Method::Get, "/api/deployments/"),
            (Method::Get, "/api/deployments/.."),
            (Method::Get, "/api/deployments/../teams"),
            (Method::Get, "/api/deployments/x?y"),
            (Method::Get, "/api/ssh-keys"),
            (Method::Delete, "/api/deployments"),
            (Method::Delete, "/api/deployments/x/can-terminate"),
            (Method::Delete, "/api/volumes/x"),
        ] {
            assert!(!permits(method, path), "{} {path}", method.as_str());
        }
    }

    #[test]
    fn fault_23_an_id_is_one_segment_whatever_it_holds() {
        let path = |id| Endpoint::CanTerminate.path(id);
        assert_eq!(
            path("../teams?a#b%2e c/ä").unwrap(),
            "/api/deployments/..%2Fteams%3Fa%23b%252e%20c%2F%C3%A4/can-terminate"
        );
        for id in ["", ".", "..", &"x".repeat(801)] {
            assert_eq!(path(id), Err(PathError));
        }
    }
}
