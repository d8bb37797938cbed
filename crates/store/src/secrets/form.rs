//! How a secret is stored: the value under a data key, and that key in one box a reader; the old form is read only. Knows
//! no store.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key as CipherKey, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use tutti_base::Wall;
use tutti_base::envelope::{self, Versioned};
use zeroize::Zeroizing;

use super::{DataKey, KEY_LEN, KeyFile, Reader, Sealing, Secret, SecretError, random};

pub(super) const NONCE_LEN: usize = 24;

/// The old form, of a node alone: XChaCha20-Poly1305 of the value with the key file's key, with the name as associated
/// data.
#[derive(Serialize, Deserialize)]
pub(super) struct Single {
    pub(super) nonce: [u8; NONCE_LEN],
    pub(super) ciphertext: Vec<u8>,
    pub(super) created: Wall,
    pub(super) changed: Wall,
}

impl Versioned for Single {
    const KIND: u8 = 22;
    const VERSION: u16 = 1;
}

/// The form of a cluster: XChaCha20-Poly1305 of the value with a data key of its own, with the name as associated data.
#[derive(Serialize, Deserialize)]
pub(super) struct Shared {
    nonce: [u8; NONCE_LEN],
    ciphertext: Vec<u8>,
    created: Wall,
    changed: Wall,
    /// The data key, once for each reader; in the order of the readers.
    boxes: Vec<(Reader, Vec<u8>)>,
}

impl Versioned for Shared {
    const KIND: u8 = 110;
    const VERSION: u16 = 1;
}

impl Shared {
    fn sealed_to(&self, reader: Reader) -> Option<&[u8]> {
        self.boxes.iter().find(|(other, _)| *other == reader).map(|(_, sealed)| sealed.as_slice())
    }
}

/// A stored secret of either form.
pub(super) enum Form {
    Single(Single),
    Shared(Shared),
}

impl Form {
    /// None if it is neither.
    pub(super) fn read(bytes: &[u8]) -> Option<Form> {
        match bytes.first() {
            Some(&Single::KIND) => envelope::open(bytes).ok().map(Form::Single),
            _ => envelope::open(bytes).ok().map(Form::Shared),
        }
    }

    /// When it was first and last set.
    pub(super) fn times(&self) -> (Wall, Wall) {
        match self {
            Form::Single(old) => (old.created, old.changed),
            Form::Shared(new) => (new.created, new.changed),
        }
    }

    /// Who can read it; of the old form nobody is named.
    pub(super) fn readers(&self) -> Vec<Reader> {
        match self {
            Form::Single(_) => Vec::new(),
            Form::Shared(new) => new.boxes.iter().map(|(reader, _)| *reader).collect(),
        }
    }

    /// The value, if this node can read it.
    pub(super) fn open(
        &self,
        name: &str,
        sealing: &dyn Sealing,
        old: Option<&KeyFile>,
    ) -> Result<Secret, SecretError> {
        let broken = || SecretError::Sealed(name.into());
        match self {
            Form::Single(single) => {
                let key = old.ok_or_else(broken)?;
                decrypt(key.key(), &single.nonce, name, &single.ciphertext).ok_or_else(broken)
            }
            Form::Shared(shared) => {
                let keys = [Some(sealing), old.map(|old| old as &dyn Sealing)];
                let mine =
                    keys.into_iter().flatten().find_map(|key| Some((key, shared.sealed_to(key.me())?)));
                let (opener, sealed) = mine.ok_or_else(|| SecretError::NotForMe(name.into()))?;
                let key = opener.open(&context(name, &shared.nonce), sealed).ok_or_else(broken)?;
                decrypt(&key, &shared.nonce, name, &shared.ciphertext).ok_or_else(broken)
            }
        }
    }
}

/// Seals `value` under a new data key to `readers`, as it is stored. `times`: when it was first and last set.
pub(super) fn seal(
    sealing: &dyn Sealing,
    name: &str,
    value: &Secret,
    readers: &[Reader],
    (created, changed): (Wall, Wall),
) -> Result<Vec<u8>, SecretError> {
    let mut nonce = [0; NONCE_LEN];
    let mut key: DataKey = Zeroizing::new([0; KEY_LEN]);
    random(&mut nonce)?;
    random(&mut *key)?;
    let context = context(name, &nonce);
    let in_box = |reader: &Reader| Ok((*reader, sealing.seal(reader, &context, &key)?));
    let boxes = readers.iter().map(in_box).collect::<Result<_, SecretError>>()?;
    let ciphertext = encrypt(&key, &nonce, name.as_bytes(), value.expose());
    Ok(envelope::seal(&Shared { nonce, ciphertext, created, changed, boxes }))
}

/// A box belongs to one secret and one time of sealing it: the name and the nonce of the value.
fn context(name: &str, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    [nonce, name.as_bytes()].concat()
}

pub(super) fn encrypt(key: &DataKey, nonce: &[u8; NONCE_LEN], aad: &[u8], value: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: value, aad };
    let cipher = XChaCha20Poly1305::new(&CipherKey::from(**key));
    cipher
        .encrypt(&XNonce::from(*nonce), payload)
        .expect("a value within SECRET_MAX is within the cipher's limit of 256 GiB")
}

pub(super) fn decrypt(key: &DataKey, nonce: &[u8; NONCE_LEN], name: &str, sealed: &[u8]) -> Option<Secret> {
    let payload = Payload { msg: sealed, aad: name.as_bytes() };
    let cipher = XChaCha20Poly1305::new(&CipherKey::from(**key));
    cipher.decrypt(&XNonce::from(*nonce), payload).ok().map(Secret::new)
}
