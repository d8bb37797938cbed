//! The one word that lets a machine join: where the cluster is, how to know it, and a secret. Decides nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

use crate::config::ADDRESSES_MAX;
use crate::identity::{IdentityError, random};

/// How a token begins; the digit is its version.
const PREFIX: &str = "tutti1-";
/// Bytes of the secret.
pub const SECRET_BYTES: usize = 16;
/// The longest token that is looked at, in characters.
pub const TOKEN_MAX: usize = 512;

/// The first 16 bytes of the BLAKE3 hash of an authority's certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityHash([u8; 16]);

impl AuthorityHash {
    /// Of this certificate.
    pub fn of(certificate: &[u8]) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(certificate).as_bytes()[..16]);
        Self(hash)
    }
}

impl fmt::Debug for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a machine needs to join. Printing it for debugging shows no secret; [`Token::line`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Where nodes of the cluster are reached: 1 to 8.
    pub addresses: Vec<SocketAddr>,
    /// Which authority they must show before anything is told to them.
    pub authority: AuthorityHash,
    /// Which token it is: the cluster knows expiry, roles and use by it.
    pub id: u64,
    secret: [u8; SECRET_BYTES],
}

/// Why a word is not a token.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like one.
    #[error("a token begins with `{PREFIX}`; paste the whole line that `tutti token create` printed")]
    Prefix,
    /// It has a character that no token has.
    #[error("the token has a character at position {0} that no token has; paste it again")]
    Character(usize),
    /// Some of it is missing or was changed.
    #[error(
        "the token is not whole: {0} characters were pasted, and its checksum does not match; paste it again"
    )]
    Damaged(usize),
    /// It is longer than any token.
    #[error("{0} characters are more than any token has ({TOKEN_MAX})")]
    TooLong(usize),
    /// Too few or too many addresses.
    #[error("a token holds 1 to {ADDRESSES_MAX} addresses, not {0}")]
    Addresses(usize),
}

impl Token {
    /// A fresh token for a cluster that is reached at `addresses` and whose authority has this certificate.
    pub fn create(addresses: Vec<SocketAddr>, authority: &[u8]) -> Result<Self, IdentityError> {
        let (mut secret, mut id) = ([0; SECRET_BYTES], [0; 8]);
        random(&mut secret)?;
        random(&mut id)?;
        let id = u64::from_le_bytes(id);
        Ok(Self { addresses, authority: AuthorityHash::of(authority), id, secret })
    }

    /// The token `id` with this secret, as the cluster made it.
    pub fn of(addresses: Vec<SocketAddr>, authority: &[u8], id: u64, secret: [u8; SECRET_BYTES]) -> Self {
        Self { addresses, authority: AuthorityHash::of(authority), id, secret }
    }

    /// The word to paste: a secret.
    pub fn line(&self) -> Result<Zeroizing<String>, TokenError> {
        if !(1..=ADDRESSES_MAX).contains(&self.addresses.len()) {
            return Err(TokenError::Addresses(self.addresses.len()));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(TOKEN_MAX));
        bytes.extend_from_slice(&self.authority.0);
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.secret);
        for address in &self.addresses {
            write_address(&mut bytes, address);
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice()))))
    }

    /// The secret that is shown to the cluster, once it has proven itself.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
    /// What the cluster keeps of the secret.
    pub fn secret_hash(&self) -> [u8; 32] {
        secret_hash(&self.secret)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:016x} of {:?} at {:?})", self.id, self.authority, self.addresses)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if let Some(at) = body.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'-' || b == b'_')) {
            return Err(TokenError::Character(PREFIX.len() + at + 1));
        }
        let damaged = TokenError::Damaged(text.chars().count());
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| damaged.clone())?);
        let (bytes, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged.clone())?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*crc) {
            return Err(damaged);
        }
        read(bytes).ok_or(damaged)
    }
}

fn read(bytes: &[u8]) -> Option<Token> {
    let (authority, rest) = bytes.split_first_chunk::<16>()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (secret, mut rest) = rest.split_first_chunk::<SECRET_BYTES>()?;
    let mut addresses = Vec::new();
    while !rest.is_empty() && addresses.len() < ADDRESSES_MAX {
        let (address, after) = read_address(rest)?;
        addresses.push(address);
        rest = after;
    }
    let whole = rest.is_empty() && !addresses.is_empty();
    let authority = AuthorityHash(*authority);
    whole.then(|| Token { addresses, authority, id: u64::from_le_bytes(*id), secret: *secret })
}

/// One byte 4 or 6, the address, the port (big endian).
fn write_address(out: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

fn read_address(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (family, rest) = bytes.split_first()?;
    let (ip, rest): (IpAddr, &[u8]) = match family {
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| ((*ip).into(), rest))?,
        6 => rest.split_first_chunk::<16>().map(|(ip, rest)| ((*ip).into(), rest))?,
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

/// What is kept of a token's secret: it cannot be turned back.
pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
    blake3::derive_key("tutti 2026-11 secret of a join token", secret)
}

/// Whether `secret` is the one of which `hash` was kept. Takes the same time wherever they differ.
pub fn secret_matches(hash: &[u8; 32], secret: &[u8]) -> bool {
    blake3::Hash::from_bytes(secret_hash(secret)) == blake3::Hash::from_bytes(*hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let addresses = vec!["10.1.2.3:8400".parse().unwrap(), "[2001:db8::1]:9000".parse().unwrap()];
        Token::create(addresses, b"a certificate").unwrap()
    }

    #[test]
    fn a_token_is_one_word_and_is_read_as_it_was_printed() {
        let (made, other) = (token(), token());
        let line = made.line().unwrap();
        assert!(!line.contains(char::is_whitespace) && line.len() <= 120, "{}", line.as_str());
        assert_eq!(format!(" {}\n", line.as_str()).parse(), Ok(made.clone()));
        assert_ne!(made, other);
    }

    #[test]
    fn every_slip_in_pasting_is_told() {
        let line = token().line().unwrap().to_string();
        for at in PREFIX.len()..line.len() {
            let cut = line[..at].parse::<Token>();
            assert!(matches!(cut, Err(TokenError::Damaged(_))), "cut at {at}: {cut:?}");
            let mut changed = line.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(matches!(
                String::from_utf8(changed).unwrap().parse::<Token>(),
                Err(TokenError::Damaged(_))
            ));
        }
        assert_eq!(line[1..].parse::<Token>(), Err(TokenError::Prefix));
        assert_eq!(format!("{PREFIX}ab cd").parse::<Token>(), Err(TokenError::Character(10)));
        assert_eq!("x".repeat(TOKEN_MAX + 1).parse::<Token>(), Err(TokenError::TooLong(TOKEN_MAX + 1)));
    }

    #[test]
    fn a_token_holds_one_to_eight_addresses() {
        let of = |count: u16| {
            let addresses = (0..count).map(|port| SocketAddr::from(([1, 2, 3, 4], port))).collect();
            Token::create(addresses, b"c").unwrap()
        };
        assert_eq!(of(0).line(), Err(TokenError::Addresses(0)));
        let most = of(8);
        assert_eq!(most.line().unwrap().parse(), Ok(most));
        assert_eq!(of(9).line(), Err(TokenError::Addresses(9)));
    }

    #[test]
    fn a_secret_is_known_by_its_hash_and_never_printed() {
        let made = token();
        assert!(secret_matches(&made.secret_hash(), made.secret()));
        assert!(!secret_matches(&made.secret_hash(), token().secret()));
        let shown = format!("{made:?}");
        assert!(!shown.contains(&URL_SAFE_NO_PAD.encode(made.secret())), "{shown}");
    }
}
