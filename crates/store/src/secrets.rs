//! Secrets: a table of their own, sealed with a key that never leaves this node's disk. Never prints a value, and no value
//! reaches the document, its history or a backup.

use std::io;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key as CipherKey, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use tutti_base::disk::{Disk, DiskFile};
use tutti_base::envelope::{self, Versioned};
use tutti_base::{Clock, Kind, Problem, Wall};
use zeroize::Zeroizing;

use crate::store::{Scan, Store, StoreError};
use crate::txn::{Check, Commit, Key, Op, Txn};

/// The store's table. Whatever lists, copies or backs up tables leaves this one out.
pub const TABLE: &str = "secrets";
/// The file of the sealing key.
pub const KEY_FILE: &str = "secret.key";
/// The longest value, in bytes.
pub const SECRET_MAX: usize = 64 << 10;
/// The most secrets.
pub const SECRETS_MAX: usize = 1000;
/// The longest name, in bytes.
pub const NAME_MAX: usize = 128;

const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 24;
/// How often a change that another writer got in between is tried again.
const SET_TRIES: usize = 8;

/// A secret's value. It has neither `Debug` nor `Serialize`, and is overwritten when it is dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a value over.
    pub fn new(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }
    /// The value, for the one place that uses it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// What may be shown of a secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SecretInfo {
    /// Its name; documents refer to it as `secret:NAME`.
    pub name: String,
    /// When it was first set.
    pub created: Wall,
    /// When it was last set.
    pub changed: Wall,
}

/// Why a secret could not be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// The name does not fit.
    #[error("`{0}` cannot name a secret; use up to 128 letters, digits, `.`, `_` and `-`")]
    Name(String),
    /// The value does not fit.
    #[error("a secret has 1 to {SECRET_MAX} bytes, this one has {0}")]
    Length(usize),
    /// There are as many as there may be.
    #[error("there are {SECRETS_MAX} secrets already; remove one with `tutti secret rm NAME`")]
    TooMany,
    /// There is none of this name.
    #[error("there is no secret `{0}`; set it with `tutti secret set {0}`")]
    Unknown(String),
    /// It was sealed with another key, or is damaged.
    #[error("the secret `{0}` does not open with this node's key; set it again with `tutti secret set {0}`")]
    Sealed(String),
    /// The key file cannot be used.
    #[error("the key of the secrets cannot be used: {0}")]
    KeyFile(String),
    /// Others kept changing it.
    #[error("the secret `{0}` was changed by others at the same time; try again")]
    Contended(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        let kind = match &error {
            SecretError::Store(store) => return store.clone().into(),
            SecretError::Name(_) | SecretError::Length(_) => Kind::BadRequest,
            SecretError::TooMany => Kind::Unprocessable,
            SecretError::Unknown(_) => Kind::NotFound,
            SecretError::Contended(_) => Kind::Conflict,
            SecretError::Sealed(_) | SecretError::KeyFile(_) => Kind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}

/// A value as it is stored.
#[derive(Serialize, Deserialize)]
struct Sealed {
    nonce: [u8; NONCE_LEN],
    /// XChaCha20-Poly1305 of the value, with the name as associated data.
    ciphertext: Vec<u8>,
    created: Wall,
    changed: Wall,
}

impl Versioned for Sealed {
    const KIND: u8 = 22;
    const VERSION: u16 = 1;
}

/// The secrets of this node. Cloning shares them.
#[derive(Clone)]
pub struct Secrets {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    key: Arc<Zeroizing<[u8; KEY_LEN]>>,
}

impl Secrets {
    /// Opens the secrets in `store` with the key on `disk`; makes the key if there are no secrets yet. Blocks.
    pub fn open(store: Arc<dyn Store>, disk: &dyn Disk, clock: Arc<dyn Clock>) -> Result<Self, SecretError> {
        let is_unused = store.range(&Scan { limit: 1, ..Scan::prefix(TABLE, b"") })?.entries.is_empty();
        let key = load_key(disk, is_unused)?;
        Ok(Self { store, clock, key: Arc::new(key) })
    }

    /// Sets `name` to `value`, whether it exists or not.
    pub async fn set(&self, name: &str, value: &Secret) -> Result<(), SecretError> {
        check_name(name)?;
        if value.expose().is_empty() || value.expose().len() > SECRET_MAX {
            return Err(SecretError::Length(value.expose().len()));
        }
        for _ in 0..SET_TRIES {
            if self.try_set(name, value).await? {
                return Ok(());
            }
        }
        Err(SecretError::Contended(name.into()))
    }

    /// False if another writer got in between.
    async fn try_set(&self, name: &str, value: &Secret) -> Result<bool, SecretError> {
        let at = Key::new(TABLE, name);
        let now = self.clock.wall();
        let found = self.store.get(&at)?;
        if found.is_none() && self.list()?.len() >= SECRETS_MAX {
            return Err(SecretError::TooMany);
        }
        let old = found.as_ref().and_then(|found| envelope::open::<Sealed>(&found.value).ok());
        let created = old.map_or(now, |old| old.created);
        let sealed = self.seal(name, value, created, now)?;
        let check = match &found {
            Some(found) => Check::Modified(at.clone(), found.modified),
            None => Check::Absent(at.clone()),
        };
        let txn = Txn::of([Op::put(at, envelope::seal(&sealed))]).when(check);
        Ok(matches!(self.store.commit(txn).await?, Commit::Done(_)))
    }

    /// The value of `name`, for the part that needs it.
    pub fn get(&self, name: &str) -> Result<Secret, SecretError> {
        check_name(name)?;
        let unknown = || SecretError::Unknown(name.into());
        let found = self.store.get(&Key::new(TABLE, name))?.ok_or_else(unknown)?;
        let broken = || SecretError::Sealed(name.into());
        let sealed: Sealed = envelope::open(&found.value).map_err(|_| broken())?;
        let payload = Payload { msg: &sealed.ciphertext, aad: name.as_bytes() };
        let opened = self.cipher().decrypt(&XNonce::from(sealed.nonce), payload).map_err(|_| broken())?;
        Ok(Secret::new(opened))
    }

    /// The value that a configuration text stands for: of `secret:NAME` the secret's, otherwise the text itself.
    pub fn resolve(&self, text: &str) -> Result<Secret, SecretError> {
        match text.strip_prefix("secret:") {
            Some(name) => self.get(name),
            None => Ok(Secret::new(text.as_bytes().to_vec())),
        }
    }

    /// All names in order. A damaged record is listed with its times as 0.
    pub fn list(&self) -> Result<Vec<SecretInfo>, SecretError> {
        let mut infos = Vec::new();
        let mut scan = Scan::prefix(TABLE, b"");
        loop {
            let page = self.store.range(&scan)?;
            for (name, entry) in &page.entries {
                let times =
                    envelope::open::<Sealed>(&entry.value).map(|sealed| (sealed.created, sealed.changed));
                let (created, changed) = times.unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                infos.push(SecretInfo { name, created, changed });
            }
            match page.entries.last() {
                Some((last, _)) if page.more => scan.after = Some(last.clone()),
                _ => return Ok(infos),
            }
        }
    }

    /// Removes `name`.
    pub async fn remove(&self, name: &str) -> Result<(), SecretError> {
        check_name(name)?;
        let at = Key::new(TABLE, name);
        let txn = Txn::of([Op::delete(at.clone())]).when(Check::Exists(at));
        match self.store.commit(txn).await? {
            Commit::Done(_) => Ok(()),
            Commit::Failed { .. } => Err(SecretError::Unknown(name.into())),
        }
    }

    fn seal(&self, name: &str, value: &Secret, created: Wall, changed: Wall) -> Result<Sealed, SecretError> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let payload = Payload { msg: value.expose(), aad: name.as_bytes() };
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a value within SECRET_MAX is within the cipher's limit of 256 GiB");
        Ok(Sealed { nonce, ciphertext, created, changed })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&CipherKey::from(**self.key))
    }
}

fn check_name(name: &str) -> Result<(), SecretError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(fits) {
        return Err(SecretError::Name(name.chars().take(NAME_MAX).collect()));
    }
    Ok(())
}

fn random(into: &mut [u8]) -> Result<(), SecretError> {
    getrandom::fill(into).map_err(|error| SecretError::KeyFile(format!("no random bytes: {error}")))
}

fn key_file(error: &io::Error) -> SecretError {
    SecretError::KeyFile(error.to_string())
}

/// The key file is the key and its CRC-32. One that was never finished (a power cut at the first start) is made anew, as
/// long as nothing was sealed with it.
fn load_key(disk: &dyn Disk, is_unused: bool) -> Result<Zeroizing<[u8; KEY_LEN]>, SecretError> {
    let file = disk.open(KEY_FILE).map_err(|error| key_file(&error))?;
    if let Some(key) = read_key(&*file).map_err(|error| key_file(&error))? {
        return Ok(key);
    }
    if !is_unused {
        return Err(SecretError::KeyFile(format!(
            "{KEY_FILE} is missing or damaged, but there are secrets sealed with it; restore the file, or start \
             with an empty store and set them again"
        )));
    }
    let mut bytes = Zeroizing::new([0; KEY_LEN + 4]);
    random(&mut bytes[..KEY_LEN])?;
    let crc = crc32fast::hash(&bytes[..KEY_LEN]);
    bytes[KEY_LEN..].copy_from_slice(&crc.to_le_bytes());
    let made = file.set_len(0).and_then(|()| file.write_at(0, &*bytes)).and_then(|()| file.sync());
    made.map_err(|error| key_file(&error))?;
    let key = read_key(&*file).map_err(|error| key_file(&error))?;
    key.ok_or_else(|| SecretError::KeyFile(format!("{KEY_FILE} does not keep what is written to it")))
}

fn read_key(file: &dyn DiskFile) -> io::Result<Option<Zeroizing<[u8; KEY_LEN]>>> {
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
