//! URL signatures: HMAC-SHA256 over salt and path, as imgproxy makes them. Compares in constant time; keeps no keys.

use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tutti_base::{Kind, Problem};
use tutti_service::{KeyPair, Tenant};

use super::known::shorten;

/// Length of a whole signature in bytes.
pub const SIGNATURE_BYTES: usize = 32;

/// Unpadded URL-safe base64 that takes any trailing bits, as Go's `RawURLEncoding` does.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// The signature of `path` (options and source, with or without the slash before them) in base64url without padding.
pub fn sign(key: &[u8], salt: &[u8], path: &str) -> String {
    sign_truncated(key, salt, path, SIGNATURE_BYTES)
}

/// As [`sign`], of the first `bytes` bytes: what a tenant's `signature_len` says.
pub fn sign_truncated(key: &[u8], salt: &[u8], path: &str, bytes: usize) -> String {
    let whole = mac(key, salt, path.strip_prefix('/').unwrap_or(path)).finalize().into_bytes();
    URL_SAFE_NO_PAD.encode(&whole[..length(bytes)])
}

/// Lets `signature` pass for `rest`, or says why not.
pub(super) fn verify(signature: &str, rest: &str, tenant: &Tenant) -> Result<(), Problem> {
    if tenant.keys.is_empty() {
        return unsigned(signature);
    }
    if tenant.trusted_signatures.iter().any(|trusted| trusted == signature) {
        return Ok(());
    }
    let wanted = length(tenant.signature_len);
    let given = LENIENT.decode(signature).map_err(|_| forged("is not base64url"))?;
    if given.len() != wanted {
        return Err(forged("has the wrong length"));
    }
    // Every pair is tried, so that the time taken does not tell which one fits.
    let fits = |pair: &KeyPair| mac(&pair.key, &pair.salt, rest).verify_truncated_left(&given).is_ok();
    match tenant.keys.iter().fold(false, |any, pair| any | fits(pair)) {
        true => Ok(()),
        false => Err(forged("does not fit this path and any of the keys")),
    }
}

fn unsigned(signature: &str) -> Result<(), Problem> {
    if !signature.contains(':') {
        return Ok(());
    }
    let signature = shorten(signature);
    let detail = format!(
        "`{signature}` stands where the signature belongs; without keys, write `unsafe` before the options"
    );
    Err(Problem::new(Kind::Forbidden, detail).about("signature"))
}

fn forged(why: &str) -> Problem {
    Problem::new(Kind::Forbidden, format!("the signature {why}; sign the path with `tutti url`"))
        .about("signature")
}

/// A length that no setting can make so short that it checks nothing; 0 is what an unset tenant has.
fn length(bytes: usize) -> usize {
    if bytes == 0 { SIGNATURE_BYTES } else { bytes.min(SIGNATURE_BYTES) }
}

fn mac(key: &[u8], salt: &[u8], rest: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(salt);
    mac.update(b"/");
    mac.update(rest.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(pairs: &[(&str, &str)]) -> Tenant {
        let pair =
            |(key, salt): &(&str, &str)| KeyPair { key: key.as_bytes().into(), salt: salt.as_bytes().into() };
        Tenant { keys: pairs.iter().map(pair).collect(), ..Tenant::main() }
    }

    #[track_caller]
    fn check(tenant: &Tenant, signature: &str, rest: &str, passes: bool) {
        let found = verify(signature, rest, tenant);
        assert_eq!(found.is_ok(), passes, "{signature}: {found:?}");
        assert!(found.is_ok() || found.unwrap_err().kind == Kind::Forbidden);
    }

    // The three signatures of `/asd` are those that imgproxy's own tests expect of these keys and salts.
    const FIRST: &str = "oWaL7QoW5TsgbuiS9-5-DI8S3Ibbo1gdB2SteJh3a20";
    const SECOND: &str = "jYz1UZ7j1BCdSzH3pZhaYf0iuz0vusoOTdqJsUT6WXI";
    const FIRST_8: &str = "oWaL7QoW5Ts";

    #[test]
    fn signatures_are_those_of_imgproxy() {
        assert_eq!(sign(b"test-key", b"test-salt", "/asd"), FIRST);
        assert_eq!(sign(b"test-key", b"test-salt", "asd"), FIRST);
        assert_eq!(sign_truncated(b"test-key", b"test-salt", "/asd", 8), FIRST_8);
    }

    #[test]
    fn any_of_several_pairs_may_sign() {
        let tenant = tenant(&[("test-key", "test-salt"), ("test-key2", "test-salt2")]);
        check(&tenant, FIRST, "asd", true);
        check(&tenant, SECOND, "asd", true);
        check(&tenant, FIRST, "asd2", false);
        check(&tenant, "dtLwhdnPPis", "asd", false);
    }

    #[test]
    fn a_truncated_signature_passes_only_where_it_is_asked_for() {
        let whole = tenant(&[("test-key", "test-salt")]);
        let short = Tenant { signature_len: 8, ..whole.clone() };
        check(&short, FIRST_8, "asd", true);
        check(&short, FIRST, "asd", false);
        check(&whole, FIRST_8, "asd", false);
        check(&Tenant { signature_len: 0, ..whole.clone() }, FIRST, "asd", true);
        check(&Tenant { signature_len: 0, ..whole.clone() }, "", "asd", false);
        check(&Tenant { signature_len: 99, ..whole }, FIRST, "asd", true);
    }

    #[test]
    fn with_keys_nothing_else_passes_but_what_is_trusted() {
        let mut tenant = tenant(&[("test-key", "test-salt")]);
        let padded = format!("{FIRST}=");
        for forged in ["unsafe", "insecure", "", "a:b", "*", &FIRST[1..], &padded] {
            check(&tenant, forged, "asd", false);
        }
        tenant.trusted_signatures.push("trusted".into());
        check(&tenant, "trusted", "asd", true);
        check(&tenant, "untrusted", "asd", false);
    }

    #[test]
    fn without_keys_any_text_passes_that_is_no_option() {
        let tenant = Tenant::main();
        check(&tenant, "unsafe", "asd", true);
        check(&tenant, "whatever", "asd", true);
        check(&tenant, "rs:fit:1:1", "asd", false);
    }
}
