//! The address guard: which addresses an origin may have. Pure; denies every range that is not global unicast.
//!
//! Ranges are those of the IANA special-purpose registries (RFC 6890 and what was added since) and addresses that cloud
//! providers answer metadata on. An IPv6 address that carries an IPv4 address is judged by what it carries as well.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Network;

/// Why an address is denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// The address.
    pub address: IpAddr,
    /// What it is, such as `private (RFC 1918)`.
    pub what: &'static str,
    /// Whether only naming this very address opens it.
    pub opens: Opens,
}

/// What opens a denied address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opens {
    /// A range in `allowed_networks` that contains it.
    ByRange,
    /// Only the address itself in `allowed_networks`: link-local and metadata addresses.
    OneByOne,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.opens {
            Opens::ByRange => "a range that contains it",
            Opens::OneByOne => "the address itself (a range does not open it)",
        };
        write!(
            f,
            "address {} is {}; to allow it, list {way} in `allowed_networks` of its source",
            self.address, self.what
        )
    }
}

/// Whether an origin may be reached at `address`, for a source with these `allowed` networks.
pub fn check(address: IpAddr, allowed: &[Network]) -> Result<(), Denied> {
    let Some(denied) = judge(address) else { return Ok(()) };
    let open = match denied.opens {
        Opens::ByRange => allowed.iter().any(|network| network.contains(address)),
        Opens::OneByOne => allowed.iter().any(|network| network.single() == Some(address)),
    };
    if open { Ok(()) } else { Err(denied) }
}

/// Why `address` is denied where no network is allowed; none when it is global unicast.
fn judge(address: IpAddr) -> Option<Denied> {
    let carried = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(carried_v4(address)),
    };
    let forms = || std::iter::once(address).chain(carried.into_iter().flatten().flatten().map(IpAddr::V4));
    let one_by_one = forms().find_map(|form| find(form, &ONE_BY_ONE));
    let (what, opens) = match one_by_one {
        Some(what) => (what, Opens::OneByOne),
        None => (find(address, &NOT_GLOBAL).or_else(|| unlisted(address))?, Opens::ByRange),
    };
    Some(Denied { address, what, opens })
}

fn find(address: IpAddr, table: &[(Network, &'static str)]) -> Option<&'static str> {
    table.iter().find(|(network, _)| network.contains(address)).map(|(_, what)| *what)
}

/// What tables of prefixes cannot say: ISATAP lies in the lower half, and only 2000::/3 is global unicast (RFC 4291 §2.4).
fn unlisted(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) if isatap(address) => Some("ISATAP (RFC 5214)"),
        IpAddr::V6(address) if address.segments()[0] >> 13 != 1 => Some("not IPv6 global unicast (RFC 4291)"),
        IpAddr::V6(_) => None,
    }
}

/// Whether the interface identifier is ISATAP's: `[02]00:5efe` and an IPv4 address.
fn isatap(address: Ipv6Addr) -> bool {
    let [.., high, low, _, _] = address.segments();
    low == 0x5efe && high & !0x0200 == 0
}

/// The IPv4 addresses that `address` may carry: at its end (mapped, compatible, NAT64, ISATAP), after 2002: (6to4), or
/// as server and inverted client (Teredo, RFC 4380 §4).
fn carried_v4(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let [first, second, third, fourth, .., seventh, eighth] = address.segments();
    let pair = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    let ends_in_v4 = ENDS_IN_V4.iter().any(|network| network.contains(IpAddr::V6(address)));
    match (first, second) {
        (0x2002, _) => [pair(second, third), None],
        (0x2001, 0) => [pair(third, fourth), pair(!seventh, !eighth)],
        _ if ends_in_v4 || isatap(address) => [pair(seventh, eighth), None],
        _ => [None, None],
    }
}

/// IPv4-compatible and -mapped addresses lie in ::/80, translated ones (RFC 2765, `::ffff:0:a.b.c.d`) and NAT64 beside.
const ENDS_IN_V4: [Network; 3] = [
    Network::v6([0, 0, 0, 0], 64),
    Network::v6([0x64, 0xff9b, 0, 0], 96),
    Network::v6([0x64, 0xff9b, 1, 0], 48),
];

const LINK_LOCAL: &str = "link-local, where clouds keep metadata and credentials";
const METADATA: &str = "a cloud's metadata address";

/// Opened only by naming the address itself.
const ONE_BY_ONE: [(Network, &str); 7] = [
    (Network::v4([169, 254, 0, 0], 16), LINK_LOCAL),
    (Network::v6([0xfe80, 0, 0, 0], 10), LINK_LOCAL),
    (Network::v6([0xfd00, 0x0ec2, 0, 0], 32), METADATA),
    (Network::v6([0xfd20, 0x00ce, 0, 0], 32), METADATA),
    (Network::v4([100, 100, 100, 200], 32), METADATA),
    (Network::v4([168, 63, 129, 16], 32), METADATA),
    (Network::v4([192, 0, 0, 192], 32), METADATA),
];

/// Not global unicast. The order is that of the numbers; the first that fits names the reason.
const NOT_GLOBAL: [(Network, &str); 34] = [
    (Network::v4([0, 0, 0, 0], 8), "this network (RFC 791)"),
    (Network::v4([10, 0, 0, 0], 8), "private (RFC 1918)"),
    (Network::v4([100, 64, 0, 0], 10), "shared by carriers (RFC 6598)"),
    (Network::v4([127, 0, 0, 0], 8), "loopback"),
    (Network::v4([169, 254, 0, 0], 16), LINK_LOCAL),
    (Network::v4([172, 16, 0, 0], 12), "private (RFC 1918)"),
    (Network::v4([192, 0, 0, 0], 24), "for protocols (RFC 6890)"),
    (Network::v4([192, 0, 2, 0], 24), "for documentation (RFC 5737)"),
    (Network::v4([192, 88, 99, 0], 24), "the 6to4 relay (RFC 7526)"),
    (Network::v4([192, 168, 0, 0], 16), "private (RFC 1918)"),
    (Network::v4([198, 18, 0, 0], 15), "for benchmarks (RFC 2544)"),
    (Network::v4([198, 51, 100, 0], 24), "for documentation (RFC 5737)"),
    (Network::v4([203, 0, 113, 0], 24), "for documentation (RFC 5737)"),
    (Network::v4([224, 0, 0, 0], 4), "multicast"),
    (Network::v4([240, 0, 0, 0], 4), "reserved or broadcast"),
    (Network::of(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), "unspecified"),
    (Network::of(IpAddr::V6(Ipv6Addr::LOCALHOST)), "loopback"),
    (MAPPED, "IPv4-mapped; name the IPv4 address itself"),
    (Network::v6([0, 0, 0, 0], 96), "IPv4-compatible (RFC 4291)"),
    (Network::v6([0, 0, 0, 0], 8), "reserved (RFC 4291)"),
    (Network::v6([0x64, 0xff9b, 0, 0], 96), "translated IPv4 (RFC 6052)"),
    (Network::v6([0x64, 0xff9b, 1, 0], 48), "translated IPv4 (RFC 8215)"),
    (Network::v6([0x100, 0, 0, 0], 64), "discarded (RFC 6666)"),
    (Network::v6([0x2001, 0, 0, 0], 32), "Teredo (RFC 4380)"),
    (Network::v6([0x2001, 0, 0, 0], 23), "for protocols (RFC 2928)"),
    (Network::v6([0x2001, 0x0db8, 0, 0], 32), "for documentation (RFC 3849)"),
    (Network::v6([0x2002, 0, 0, 0], 16), "6to4 (RFC 3056)"),
    (Network::v6([0x3ffe, 0, 0, 0], 16), "the former 6bone (RFC 3701)"),
    (Network::v6([0x3fff, 0, 0, 0], 20), "for documentation (RFC 9637)"),
    (Network::v6([0x5f00, 0, 0, 0], 16), "segment routing (RFC 9602)"),
    (Network::v6([0xfc00, 0, 0, 0], 7), "private (RFC 4193)"),
    (Network::v6([0xfe80, 0, 0, 0], 10), LINK_LOCAL),
    (Network::v6([0xfec0, 0, 0, 0], 10), "site-local (RFC 3879)"),
    (Network::v6([0xff00, 0, 0, 0], 8), "multicast"),
];

/// `::ffff:0:0/96`.
const MAPPED: Network = Network::v4_mapped();

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
