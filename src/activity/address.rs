//! Which of the addresses that the API supplies may be asked: an IP address, and not one of ours (FAULTS 78).
//!
//! It must never resolve a name: what a name means can change between the check and the use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How near an instance may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Out in the internet.
    Public,
    /// Also in private networks and on this machine: the near end of a VPN or tunnel (`allow_private`).
    Private,
}

/// The address, or why it is not asked, for people; without the text that the API gave.
pub fn address(text: Option<&str>, reach: Reach) -> Result<IpAddr, String> {
    let text = text.ok_or("the API gives no address of the instance")?;
    let ip: IpAddr = text.parse().map_err(|_| "the API gives an address that is no IP address: not asked")?;
    let ip = innermost(ip);
    let place = match place(ip) {
        Place::Public => return Ok(ip),
        Place::Private | Place::Loopback if reach >= Reach::Private => return Ok(ip),
        Place::Private => "a private address; allow_private = true permits those",
        Place::Loopback => "a loopback address; allow_private = true permits those",
        Place::LinkLocal => "a link-local address",
        Place::Metadata => "a metadata service's address",
        Place::Unspecified => "the unspecified address",
        Place::Multicast => "a multicast address",
        Place::Reserved => "a reserved address",
    };
    Err(format!("the API gives {place}: not asked"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Public,
    Private,
    Loopback,
    LinkLocal,
    Metadata,
    Unspecified,
    Multicast,
    Reserved,
}

/// Where the packets of an IPv6 address that holds an IPv4 one would go.
fn innermost(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let last = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] // mapped
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] // NAT64
        | [0x2002, high, low, ..] => last(high, low), // 6to4
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => last(high, low), // compatible, deprecated
        _ => ip,
    }
}

fn place(ip: IpAddr) -> Place {
    match ip {
        IpAddr::V4(v4) => place_v4(v4),
        IpAddr::V6(v6) => place_v6(v6),
    }
}

fn place_v4(ip: Ipv4Addr) -> Place {
    match ip.octets() {
        [169, 254, 169, 254] | [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => {
            Place::Metadata
        }
        [127, ..] => Place::Loopback,
        [169, 254, ..] => Place::LinkLocal,
        [0, ..] => Place::Unspecified,
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => {
            Place::Private
        }
        [224..=239, ..] => Place::Multicast,
        [240..=255, ..] | [192, 0, 0, _] => Place::Reserved,
        _ => Place::Public,
    }
}

fn place_v6(ip: Ipv6Addr) -> Place {
    match ip.segments() {
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Place::Metadata,
        [0, 0, 0, 0, 0, 0, 0, 1] => Place::Loopback,
        [0, 0, 0, 0, 0, 0, 0, 0] => Place::Unspecified,
        [first, ..] if first & 0xff00 == 0xff00 => Place::Multicast,
        [first, ..] if first & 0xffc0 == 0xfe80 => Place::LinkLocal,
        [first, ..] if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 => Place::Private,
        // Global unicast is 2000::/3; Teredo (2001:0::/32) in it tunnels to an IPv4 address that is hidden in it.
        [0x2001, 0, ..] => Place::Reserved,
        [first, ..] if first & 0xe000 == 0x2000 => Place::Public,
        _ => Place::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, reach: Reach) -> String {
        address(Some(text), reach).map_or_else(|why| why, |ip| format!("asked: {ip}"))
    }

    #[test]
    fn fault_78_an_address_that_is_not_out_there_is_refused_with_its_reason() {
        for (text, why) in [
            ("127.0.0.1", "loopback"),
            ("127.8.8.8", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("2002:7f00:1::", "loopback"),
            ("::127.0.0.1", "loopback"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("::ffff:169.254.169.254", "metadata"),
            ("::ffff:a9fe:a9fe", "metadata"),
            ("fd00:ec2::254", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("100.100.100.200", "metadata"),
            ("192.0.0.192", "metadata"),
            ("168.63.129.16", "metadata"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("::", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("240.0.0.1", "reserved"),
            ("192.0.0.8", "reserved"),
            ("2001:0:53aa:64c::", "reserved"),
            ("100::1", "reserved"),
            ("10.0.0.8", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.100", "private"),
            ("100.64.0.1", "private"),
            ("198.18.0.1", "private"),
            ("fd12::1", "private"),
            ("fc00::1", "private"),
            ("fec0::1", "private"),
            ("::ffff:10.0.0.1", "private"),
            ("localhost", "no IP address"),
            ("metadata.google.internal", "no IP address"),
            ("2130706433", "no IP address"),
            ("0x7f.1", "no IP address"),
            ("0177.0.0.1", "no IP address"),
            ("127.1", "no IP address"),
            ("fe80::1%eth0", "no IP address"),
            ("203.0.113.7:22", "no IP address"),
            ("203.0.113.7/", "no IP address"),
            ("-oProxyCommand=touch /tmp/x", "no IP address"),
            (" 203.0.113.7", "no IP address"),
            ("203.0.113.7\n", "no IP address"),
            ("(too long)", "no IP address"),
            ("", "no IP address"),
        ] {
            let refused = refused(text, Reach::Public);
            assert!(refused.contains(why) && refused.ends_with("not asked"), "{text:?}: {refused}");
            assert!(text.len() < 3 || !refused.contains(text), "{refused}");
        }
    }

    #[test]
    fn fault_78_a_vpn_and_this_machine_are_reached_only_by_permission_and_metadata_never() {
        for text in ["10.0.0.8", "192.168.1.100", "100.64.0.1", "fd12::1", "127.0.0.1", "127.8.8.8", "::1"] {
            assert!(refused(text, Reach::Public).contains("allow_private"), "{text}");
            assert!(refused(text, Reach::Private).starts_with("asked"), "{text}");
        }
        for text in [
            "169.254.169.254",
            "169.254.1.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "::",
            "ff02::1",
        ] {
            let refused = refused(text, Reach::Private);
            assert!(
                refused.ends_with("not asked") && !refused.contains("allow_private"),
                "{text}: {refused}"
            );
        }
    }

    #[test]
    fn an_address_out_there_is_asked() {
        for text in
            ["203.0.113.7", "8.8.8.8", "172.32.0.1", "172.15.0.1", "100.128.0.1", "192.0.2.1", "2a01:4f8::1"]
        {
            assert_eq!(refused(text, Reach::Public), format!("asked: {text}"));
        }
        assert_eq!(refused("::ffff:203.0.113.7", Reach::Public), "asked: 203.0.113.7");
        assert!(address(None, Reach::Private).unwrap_err().contains("gives no address"));
    }
}
