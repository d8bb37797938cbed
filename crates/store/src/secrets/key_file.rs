//! The key file of a node alone: what secrets were sealed with before there was a cluster. Never written again once made.

use std::io;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key as CipherKey, XChaCha20Poly1305, XNonce};
use tutti_base::NodeId;
use tutti_base::disk::{Disk, DiskFile};
use zeroize::Zeroizing;

use super::form::{NONCE_LEN, encrypt};
use super::{DataKey, KEY_LEN, Reader, ReadersOf, Sealing, SecretError, random};

/// The file of the sealing key.
pub const KEY_FILE: &str = "secret.key";

/// The one reader of a node alone. Its public key stands for the file, not for a key of anybody.
const ALONE: Reader = Reader { node: NodeId(0), key: [0; KEY_LEN] };

/// The key of a node alone. Cloning copies it; every copy is overwritten when it is dropped.
#[derive(Clone)]
pub struct KeyFile(DataKey);

impl KeyFile {
    /// The key on `disk`; none if there is no file of that name, or an unfinished one. Blocks.
    pub fn load(disk: &dyn Disk) -> Result<Option<Self>, SecretError> {
        let file = disk.open(KEY_FILE).map_err(|error| key_file(&error))?;
        Ok(read_key(&*file).map_err(|error| key_file(&error))?.map(Self))
    }

    /// The file is the key and its CRC-32. One that was never finished (a power cut at the first start) is made anew, as
    /// long as nothing was sealed with it.
    pub(super) fn load_or_make(disk: &dyn Disk, is_unused: bool) -> Result<Self, SecretError> {
        if let Some(found) = Self::load(disk)? {
            return Ok(found);
        }
        if !is_unused {
            return Err(SecretError::KeyFile(format!(
                "{KEY_FILE} is missing or damaged, but there are secrets sealed with it; restore the file, or start \
                 with an empty store and set them again"
            )));
        }
        let file = disk.open(KEY_FILE).map_err(|error| key_file(&error))?;
        let mut bytes = Zeroizing::new([0; KEY_LEN + 4]);
        random(&mut bytes[..KEY_LEN])?;
        let crc = crc32fast::hash(&bytes[..KEY_LEN]);
        bytes[KEY_LEN..].copy_from_slice(&crc.to_le_bytes());
        let made = file.set_len(0).and_then(|()| file.write_at(0, &*bytes)).and_then(|()| file.sync());
        made.map_err(|error| key_file(&error))?;
        let key = read_key(&*file).map_err(|error| key_file(&error))?;
        let lost = || SecretError::KeyFile(format!("{KEY_FILE} does not keep what is written to it"));
        key.map(Self).ok_or_else(lost)
    }

    pub(super) fn key(&self) -> &DataKey {
        &self.0
    }
}

impl ReadersOf for KeyFile {
    fn readers(&self, _name: &str) -> Vec<Reader> {
        vec![ALONE]
    }
}

impl Sealing for KeyFile {
    fn me(&self) -> Reader {
        ALONE
    }

    fn seal(&self, _to: &Reader, context: &[u8], key: &DataKey) -> Result<Vec<u8>, SecretError> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        Ok([&nonce[..], &encrypt(&self.0, &nonce, context, &**key)].concat())
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Option<DataKey> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let payload = Payload { msg: ciphertext, aad: context };
        let cipher = XChaCha20Poly1305::new(&CipherKey::from(*self.0));
        let opened = Zeroizing::new(cipher.decrypt(&XNonce::from(*nonce), payload).ok()?);
        <[u8; KEY_LEN]>::try_from(opened.as_slice()).ok().map(Zeroizing::new)
    }
}

fn key_file(error: &io::Error) -> SecretError {
    SecretError::KeyFile(error.to_string())
}

fn read_key(file: &dyn DiskFile) -> io::Result<Option<DataKey>> {
    let mut bytes = Zeroizing::new([0; KEY_LEN + 4]);
    if file.len()? != bytes.len() as u64 {
        return Ok(None);
    }
    file.read_at(0, &mut *bytes)?;
    let (key, crc) = bytes.split_at(KEY_LEN);
    if crc32fast::hash(key).to_le_bytes() != crc {
        return Ok(None);
    }
    let mut out = Zeroizing::new([0; KEY_LEN]);
    out.copy_from_slice(key);
    Ok(Some(out))
}
