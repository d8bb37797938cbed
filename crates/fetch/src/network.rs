//! Address ranges in CIDR notation (RFC 4632, RFC 4291 §2.3). Pure; knows nothing of what is allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A range of IPv4 or IPv6 addresses. A range of one family never contains an address of the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor address/length.
    #[error("`{0}` is not an address range; write it like `10.1.0.0/16`, `fd00:1::/32` or one address")]
    Malformed(String),
    /// Bits beyond the prefix are set, so that one cannot tell what was meant.
    #[error("`{0}` has bits set beyond its prefix; did you mean `{1}`?")]
    HostBits(String, Network),
}

impl Network {
    /// The range of `prefix` leading bits of the IPv4 address `base`; `prefix` is at most 32, and no bit beyond it is set.
    pub(crate) const fn v4(base: [u8; 4], prefix: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(base[0], base[1], base[2], base[3])), prefix }
    }
    /// The range of `prefix` leading bits of the IPv6 address whose first four groups are `high`; the rest is zero.
    pub(crate) const fn v6(high: [u16; 4], prefix: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(high[0], high[1], high[2], high[3], 0, 0, 0, 0)), prefix }
    }
    /// All IPv4-mapped IPv6 addresses, `::ffff:0:0/96`.
    pub(crate) const fn v4_mapped() -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), prefix: 96 }
    }
    /// The range of this one address.
    pub const fn of(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { base: address, prefix }
    }
    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                mask(base.to_bits().into(), self.prefix, 32)
                    == mask(address.to_bits().into(), self.prefix, 32)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                mask(base.to_bits(), self.prefix, 128) == mask(address.to_bits(), self.prefix, 128)
            }
            _ => false,
        }
    }
    /// The address, where the range is exactly one.
    pub fn single(&self) -> Option<IpAddr> {
        (*self == Self::of(self.base)).then_some(self.base)
    }
}

/// Keeps the `prefix` leading ones of `width` bits.
fn mask(bits: u128, prefix: u8, width: u8) -> u128 {
    let cut = u32::from(width.saturating_sub(prefix));
    bits.checked_shr(cut).unwrap_or(0).checked_shl(cut).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| malformed())?;
        let width = Self::of(base).prefix;
        let prefix = match length {
            None => width,
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= width).ok_or_else(malformed)?
            }
            Some(_) => return Err(malformed()),
        };
        let masked = match base {
            IpAddr::V4(base) => {
                IpAddr::V4(Ipv4Addr::from_bits(mask(base.to_bits().into(), prefix, 32) as u32))
            }
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from_bits(mask(base.to_bits(), prefix, 128))),
        };
        if masked != base {
            return Err(NetworkError::HostBits(text.to_owned(), Self { base: masked, prefix }));
        }
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_its_ends_and_not_their_neighbours() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("192.168.1.7", ["192.168.1.7", "192.168.1.7"], ["192.168.1.6", "192.168.1.8"]),
            ("fd00:1::/32", ["fd00:1::", "fd00:1:ffff:ffff:ffff:ffff:ffff:ffff"], ["fd00::1", "fd00:2::"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::ffff:1.2.3.4"]),
        ] {
            let range: Network = range.parse().unwrap();
            assert!(inside.iter().all(|address| range.contains(address.parse().unwrap())), "{range}");
            assert!(!outside.iter().any(|address| range.contains(address.parse().unwrap())), "{range}");
        }
    }

    #[test]
    fn what_is_not_clearly_a_range_is_refused_with_the_way_out() {
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0.0/", "10/8", "localhost", "010.0.0.0/8"]
        {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::Malformed(_))), "{text}");
        }
        let error = "10.1.2.3/8".parse::<Network>().unwrap_err().to_string();
        assert!(error.contains("did you mean `10.0.0.0/8`"), "{error}");
    }

    #[test]
    fn only_a_whole_address_is_single() {
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().single(), Some("10.1.2.3".parse().unwrap()));
        assert_eq!("10.1.2.0/31".parse::<Network>().unwrap().single(), None);
    }
}
