//! Tables and properties of the address guard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn denied(address: &str, allowed: &[&str]) -> bool {
    let allowed: Vec<Network> = allowed.iter().map(|network| network.parse().unwrap()).collect();
    check(address.parse().unwrap(), &allowed).is_err()
}

/// First and last address of every denied range, and their neighbours where those are global.
const EDGES: [(&str, &str, &str, &str); 24] = [
    ("0.0.0.0", "0.255.255.255", "", "1.0.0.0"),
    ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
    ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
    ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"),
    ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
    ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
    ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"),
    ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"),
    ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"),
    ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
    ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"),
    ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"),
    ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"),
    ("224.0.0.0", "255.255.255.255", "223.255.255.255", ""),
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "2000::"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff::", "2001:200::"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7::", "2001:db9::"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff::", "2003::"),
    ("3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffd:ffff::", ""),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "", "3fff:1000::"),
    ("4000::", "5fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:ffff::", ""),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""),
    ("fe80::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""),
];

#[test]
fn ranges_are_denied_to_their_edges_and_no_further() {
    for (first, last, before, after) in EDGES {
        for inside in [first, last] {
            assert!(denied(inside, &[]), "{inside} must be denied");
        }
        for outside in [before, after].into_iter().filter(|address| !address.is_empty()) {
            assert!(!denied(outside, &[]), "{outside} is global");
        }
    }
}

#[test]
fn addresses_in_every_disguise_are_denied() {
    for address in [
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::a00:1",
        "64:ff9b:1:ffff::",
        "100::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2002:7f00:1::",
        "2002:808:808::1",
        "5f00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2606:4700::5efe:7f00:1",
        "2606:4700::200:5efe:808:808",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
        "2001:1::1",
    ] {
        assert!(denied(address, &[]), "{address}");
    }
}

#[test]
fn well_known_public_addresses_pass() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "2606:4700:4700::1111",
        "2a00:1450:4001::200e",
        "192.31.196.1",
    ] {
        assert!(!denied(address, &[]), "{address}");
    }
}

#[test]
fn an_allowed_range_opens_itself_and_nothing_else() {
    assert!(!denied("10.1.2.3", &["10.1.0.0/16"]));
    assert!(denied("10.2.2.3", &["10.1.0.0/16"]));
    assert!(!denied("fd12::1", &["10.0.0.0/8", "fd12::/16"]));
    assert!(denied("::ffff:10.1.2.3", &["10.0.0.0/8"]), "a mapped address is not the IPv4 address");
    assert!(!denied("::1", &["::1"]));
    assert!(denied("127.0.0.2", &["127.0.0.1/32"]));
}

#[test]
fn link_local_and_metadata_open_only_one_by_one() {
    let wide = ["0.0.0.0/0", "::/0", "169.254.0.0/16", "169.254.169.254/31", "fe80::/10", "fd00::/8"];
    for address in [
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2001:0:1:1:0:0:5601:5601",
        "2606:4700::5efe:a9fe:a9fe",
    ] {
        assert!(denied(address, &wide), "{address} must not open by a range");
        assert!(!denied(address, &[address]), "{address} opens by its own name");
    }
    assert!(denied("169.254.169.254", &["169.254.169.253"]));
}

#[test]
fn the_reason_names_the_address_the_range_and_the_way_out() {
    let text = check("169.254.169.254".parse().unwrap(), &[]).unwrap_err().to_string();
    for part in ["169.254.169.254", "link-local", "allowed_networks", "the address itself"] {
        assert!(text.contains(part), "{text}");
    }
}

/// A second opinion for IPv4, written as comparisons instead of a table.
fn global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    !(a == 0
        || a == 127
        || a >= 224
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a, b, c, d) == (168, 63, 129, 16))
}

proptest! {
    #[test]
    fn every_ipv4_address_is_judged_as_a_second_opinion_does(bits: u32) {
        let address = Ipv4Addr::from_bits(bits);
        prop_assert_eq!(check(IpAddr::V4(address), &[]).is_ok(), global_v4(address));
    }

    #[test]
    fn no_ipv4_address_passes_inside_ipv6(bits: u32, site in 0x2100_u16..0x3000, group: u16) {
        let (high, low) = ((bits >> 16) as u16, bits as u16);
        for groups in [
            [0, 0, 0, 0, 0, 0, high, low],
            [0, 0, 0, 0, 0, 0xffff, high, low],
            [0, 0, 0, 0, 0xffff, 0, high, low],
            [0x64, 0xff9b, 0, 0, 0, 0, high, low],
            [0x64, 0xff9b, 1, group, group, group, high, low],
            [0x2002, high, low, group, group, group, group, group],
            [0x2001, 0, group, group, group, group, !high, !low],
            [site, group, group, group, 0, 0x5efe, high, low],
            [site, group, group, group, 0x200, 0x5efe, high, low],
        ] {
            let address = IpAddr::V6(Ipv6Addr::from(groups));
            prop_assert!(check(address, &[]).is_err(), "{}", address);
        }
    }

    #[test]
    fn an_ipv6_address_outside_global_unicast_never_passes(bits: u128) {
        let address = Ipv6Addr::from_bits(bits);
        if bits >> 125 != 1 {
            prop_assert!(check(IpAddr::V6(address), &[]).is_err());
        }
    }

    #[test]
    fn allowing_one_address_opens_no_other(allowed: u32, asked: u32) {
        let network = Network::of(IpAddr::V4(Ipv4Addr::from_bits(allowed)));
        let asked = IpAddr::V4(Ipv4Addr::from_bits(asked));
        if network.single() != Some(asked) {
            prop_assert_eq!(check(asked, &[network]).is_ok(), check(asked, &[]).is_ok());
        }
    }
}
