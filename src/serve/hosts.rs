//! The names by which this server may be asked: a web page that points its own name at our address reads nothing (FAULTS 79).
//!
//! It must never take a name from the network into the list, nor answer a request that does not say whom it asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::{Request, header::HOST, uri::Authority};

/// Our own address at the end of one connection, put into each request's extensions by the accept loop.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddress(pub IpAddr);

/// The allow-list.
#[derive(Debug)]
pub struct Hosts(Vec<Allowed>);

#[derive(Debug, PartialEq, Eq)]
struct Allowed {
    name: Name,
    /// `None`: at any port. A tunnel or a proxy may have its own.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Name {
    Address(IpAddr),
    /// In lower case.
    Dns(String),
}

/// An entry of `[serve] hosts` that is no host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`[serve] hosts` has an entry that is not a host name or address with an optional port: {0:?}")]
pub struct BadHost(pub String);

/// Whether `[serve] hosts` can be used, without a listener.
pub fn check_hosts(further: &[String]) -> Result<(), BadHost> {
    Hosts::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), further).map(drop)
}

impl Hosts {
    /// The loopback names and the listen address always hold, and so does the address that a connection came to.
    pub fn new(listen: SocketAddr, further: &[String]) -> Result<Self, BadHost> {
        let own = [
            Name::Dns("localhost".to_owned()),
            Name::Address(Ipv4Addr::LOCALHOST.into()),
            Name::Address(Ipv6Addr::LOCALHOST.into()),
            Name::Address(listen.ip().to_canonical()),
        ];
        let mut allowed: Vec<Allowed> = own.into_iter().map(|name| Allowed { name, port: None }).collect();
        for text in further {
            let (name, port) = parse(text).ok_or_else(|| BadHost(text.clone()))?;
            allowed.push(Allowed { name, port });
        }
        Ok(Self(allowed))
    }

    /// Whether the request asks for us by a name of ours: exactly one Host header, and in an absolute target the same.
    pub fn allow<B>(&self, request: &Request<B>) -> bool {
        let local = request.extensions().get::<LocalAddress>().map(|local| local.0.to_canonical());
        let mut headers = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (headers.next(), headers.next()) else { return false };
        let asked_in_header = host.to_str().is_ok_and(|host| self.knows(host, local));
        asked_in_header
            && request.uri().authority().is_none_or(|authority| self.knows(authority.as_str(), local))
    }

    fn knows(&self, host: &str, local: Option<IpAddr>) -> bool {
        let Some((name, port)) = parse(host) else { return false };
        // An address cannot be rebound as a name can, so the one that the connection came to is as good as a listed one.
        let is_local = local.is_some_and(|local| name == Name::Address(local));
        is_local || self.0.iter().any(|own| own.name == name && own.port.is_none_or(|own| Some(own) == port))
    }
}

/// `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`.
fn parse(text: &str) -> Option<(Name, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    // What is neither host nor a port number is a user name, or no port.
    let whole = host.len() + authority.port().map_or(0, |port| port.as_str().len() + 1);
    if host.is_empty() || whole != text.len() {
        return None;
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = bare.parse::<IpAddr>().map_or_else(
        |_| Name::Dns(bare.to_ascii_lowercase()),
        |address| Name::Address(address.to_canonical()),
    );
    Some((name, authority.port_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(further: &[&str]) -> Hosts {
        let further: Vec<String> = further.iter().map(|&text| text.to_owned()).collect();
        Hosts::new("192.0.2.7:10977".parse().unwrap(), &further).unwrap()
    }

    fn asked(hosts: &Hosts, target: &str, headers: &[&str]) -> bool {
        let mut request = Request::get(target);
        for host in headers {
            request = request.header(HOST, *host);
        }
        hosts.allow(&request.body(()).unwrap())
    }

    #[test]
    fn fault_79_only_own_and_listed_names_are_answered() {
        let hosts = hosts(&["watch.example.org", "proxy.example.org:8443"]);
        for (host, allowed) in [
            ("localhost", true),
            ("LOCALHOST:10977", true),
            ("127.0.0.1:10977", true),
            ("[::1]", true),
            ("[::1]:9", true),
            ("[::ffff:127.0.0.1]", true),
            ("192.0.2.7:10977", true),
            ("Watch.Example.org", true),
            ("watch.example.org:443", true),
            ("proxy.example.org:8443", true),
            ("proxy.example.org", false),
            ("proxy.example.org:84", false),
            ("evil.example", false),
            ("192.0.2.8", false),
            ("localhost.evil.example", false),
            ("evil@localhost", false),
            ("localhost@evil.example", false),
            ("localhost:evil", false),
            ("localhost:99999", false),
            ("localhost/x", false),
            ("::1", false),
            ("", false),
        ] {
            assert_eq!(asked(&hosts, "/metrics", &[host]), allowed, "{host:?}");
        }
    }

    #[test]
    fn fault_79_none_two_or_contradicting_hosts_are_refused() {
        let hosts = hosts(&[]);
        assert!(!asked(&hosts, "/metrics", &[]), "no Host header");
        assert!(!asked(&hosts, "/metrics", &["localhost", "localhost"]), "two Host headers");
        assert!(
            !asked(&hosts, "http://evil.example/metrics", &["localhost"]),
            "an absolute target wins over Host"
        );
        assert!(asked(&hosts, "http://localhost/metrics", &["localhost"]));
    }

    #[test]
    fn the_address_that_a_connection_came_to_holds_for_it_alone() {
        let hosts = Hosts::new("0.0.0.0:10977".parse().unwrap(), &[]).unwrap();
        let mut request = Request::get("/").header(HOST, "10.1.2.3:10977").body(()).unwrap();
        assert!(!hosts.allow(&request));
        request.extensions_mut().insert(LocalAddress("::ffff:10.1.2.3".parse().unwrap()));
        assert!(hosts.allow(&request));
        request.extensions_mut().insert(LocalAddress("10.1.2.4".parse().unwrap()));
        assert!(!hosts.allow(&request));
    }

    #[test]
    fn a_listed_host_that_is_none_is_said_at_start() {
        for text in ["https://watch.example.org/", ":8080", "", "watch.example.org:http", "two names"] {
            let bad = Hosts::new("127.0.0.1:1".parse().unwrap(), &[text.to_owned()]);
            assert_eq!(bad.unwrap_err(), BadHost(text.to_owned()));
        }
    }
}
