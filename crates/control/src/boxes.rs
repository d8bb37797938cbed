//! Sealed boxes: a data key sealed to one node's public key, anonymously. Knows neither secrets nor who may read them.
//!
//! A box is an ephemeral X25519 public key and the data key under XChaCha20-Poly1305. Its key is BLAKE3 (mode derive_key)
//! of the shared secret and both public keys, and so is used once; the nonce is therefore zero. The idea is that of
//! `crypto_box_seal` (libsodium) and of RFC 9180, base mode.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key as CipherKey, XChaCha20Poly1305, XNonce};
use tutti_base::NodeId;
use tutti_cluster::Identity;
use tutti_store::SecretError;
use tutti_store::secrets::{DataKey, KEY_LEN, Reader, Sealing};
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

const DOMAIN: &str = "tutti 2026-11 box for a data key, x25519 xchacha20-poly1305";
const NONCE: [u8; 24] = [0; 24];

/// The sealing key of this node. The private half stays inside, and is overwritten when it is dropped.
pub struct SealingKey {
    node: NodeId,
    private: StaticSecret,
}

impl SealingKey {
    /// The key `private` of `node`.
    pub fn new(node: NodeId, private: StaticSecret) -> Self {
        Self { node, private }
    }

    /// The key of the node that `identity` is.
    pub fn of(identity: &Identity) -> Self {
        Self::new(identity.node(), identity.sealing_key())
    }

    /// The public half: what others seal to.
    pub fn public(&self) -> [u8; KEY_LEN] {
        PublicKey::from(&self.private).to_bytes()
    }
}

impl Sealing for SealingKey {
    fn me(&self) -> Reader {
        Reader { node: self.node, key: self.public() }
    }

    fn seal(&self, to: &Reader, context: &[u8], key: &DataKey) -> Result<Vec<u8>, SecretError> {
        let mut random = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(&mut *random)
            .map_err(|error| SecretError::KeyFile(format!("no random bytes: {error}")))?;
        let ephemeral = StaticSecret::from(*random);
        let (public, theirs) = (PublicKey::from(&ephemeral), PublicKey::from(to.key));
        let shared = ephemeral.diffie_hellman(&theirs);
        if !shared.was_contributory() {
            return Err(SecretError::KeyFile(format!(
                "the public sealing key of node {} is not one; remove the node and join it again",
                to.node
            )));
        }
        let payload = Payload { msg: &**key, aad: context };
        let sealed = cipher(&shared, &public, &theirs)
            .encrypt(&XNonce::from(NONCE), payload)
            .expect("a data key is within the cipher's limit of 256 GiB");
        Ok([public.as_bytes(), sealed.as_slice()].concat())
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Option<DataKey> {
        let (ephemeral, sealed) = sealed.split_first_chunk::<KEY_LEN>()?;
        let public = PublicKey::from(*ephemeral);
        let shared = self.private.diffie_hellman(&public);
        if !shared.was_contributory() {
            return None;
        }
        let payload = Payload { msg: sealed, aad: context };
        let cipher = cipher(&shared, &public, &PublicKey::from(&self.private));
        let opened = Zeroizing::new(cipher.decrypt(&XNonce::from(NONCE), payload).ok()?);
        <[u8; KEY_LEN]>::try_from(opened.as_slice()).ok().map(Zeroizing::new)
    }
}

fn cipher(shared: &SharedSecret, ephemeral: &PublicKey, reader: &PublicKey) -> XChaCha20Poly1305 {
    let mut derive = blake3::Hasher::new_derive_key(DOMAIN);
    for part in [shared.as_bytes(), ephemeral.as_bytes(), reader.as_bytes()] {
        derive.update(part);
    }
    let key = Zeroizing::new(*derive.finalize().as_bytes());
    XChaCha20Poly1305::new(&CipherKey::from(*key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sealing_key;

    #[test]
    fn a_box_opens_with_its_key_and_context_and_with_no_other() {
        let (one, two) = (sealing_key(1), sealing_key(2));
        let key = Zeroizing::new([7; KEY_LEN]);
        let sealed = two.seal(&one.me(), b"img", &key).unwrap();
        assert_eq!(one.open(b"img", &sealed), Some(key.clone()));
        assert_eq!(two.open(b"img", &sealed), None, "who sealed it cannot open it");
        assert_eq!(one.open(b"other", &sealed), None);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(one.open(b"img", &damaged), None, "byte {at}");
        }
        assert_eq!(one.open(b"img", &sealed[..40]), None);
        assert_ne!(sealed, two.seal(&one.me(), b"img", &key).unwrap(), "no two boxes are alike");
    }

    #[test]
    fn a_public_key_of_small_order_is_refused() {
        let zero = Reader { node: NodeId(9), key: [0; KEY_LEN] };
        let refused = sealing_key(1).seal(&zero, b"", &Zeroizing::new([7; KEY_LEN]));
        assert!(matches!(refused, Err(SecretError::KeyFile(text)) if text.contains("0000000000000009")));
    }
}
