//! Secrets: a table of their own, each value sealed to the nodes that need it. Never prints a value, and no value reaches
//! the document, its history or a backup.

mod form;
mod key_file;
mod reseal;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tutti_base::disk::Disk;
use tutti_base::{Clock, Kind, NodeId, Problem, Wall};
use zeroize::Zeroizing;

use crate::store::{Entry, Scan, Store, StoreError};
use crate::txn::{Check, Commit, Key, Op, Txn};

use form::Form;
pub use key_file::{KEY_FILE, KeyFile};
pub use reseal::Resealed;

/// The store's table. Whatever lists, copies or backs up tables leaves this one out.
pub const TABLE: &str = "secrets";
/// The longest value, in bytes.
pub const SECRET_MAX: usize = 64 << 10;
/// The most secrets.
pub const SECRETS_MAX: usize = 1000;
/// The longest name, in bytes.
pub const NAME_MAX: usize = 128;
/// The most nodes that one secret is sealed to.
pub const READERS_MAX: usize = 256;
/// The length of a data key and of a public sealing key, in bytes.
pub const KEY_LEN: usize = 32;

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

/// The key that one value is encrypted with. Overwritten when it is dropped.
pub type DataKey = Zeroizing<[u8; KEY_LEN]>;

/// A node that may read a secret: its id and its public sealing key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Reader {
    /// The node.
    pub node: NodeId,
    /// What boxes for it are sealed with.
    pub key: [u8; KEY_LEN],
}

/// Says who needs a secret.
pub trait ReadersOf: Send + Sync {
    /// The nodes that need the secret `name`, as of now, in any order. None: it is not known yet, and nothing is sealed.
    fn readers(&self, name: &str) -> Vec<Reader>;
}

/// Seals data keys to public keys, and opens what was sealed to this node's. The private key stays behind it.
pub trait Sealing: Send + Sync {
    /// This node.
    fn me(&self) -> Reader;
    /// A box with `key` that only `to` opens, and only for the same `context`.
    fn seal(&self, to: &Reader, context: &[u8], key: &DataKey) -> Result<Vec<u8>, SecretError>;
    /// What is in a box that was sealed to this node for `context`; none if it was not.
    fn open(&self, context: &[u8], sealed: &[u8]) -> Option<DataKey>;
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
    /// It is for other nodes.
    #[error(
        "the secret `{0}` is not sealed to this node, whose roles do not need it; ask a node that needs it"
    )]
    NotForMe(String),
    /// Nobody would be able to read it.
    #[error("no node needs the secret `{0}` now, so that nobody could read it; give a node a role that does")]
    NoReaders(String),
    /// More nodes need it than it can be sealed to.
    #[error("{0} nodes need the secret `{1}`; it can be sealed to {READERS_MAX}, take the role from some")]
    TooManyReaders(usize, String),
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
            SecretError::TooMany | SecretError::TooManyReaders(..) => Kind::Unprocessable,
            SecretError::Unknown(_) => Kind::NotFound,
            SecretError::Contended(_) => Kind::Conflict,
            SecretError::NoReaders(_) => Kind::Unavailable,
            SecretError::NotForMe(_) => Kind::Forbidden,
            SecretError::Sealed(_) | SecretError::KeyFile(_) => Kind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}

/// The secrets, as this node can read them. Cloning shares them.
#[derive(Clone)]
pub struct Secrets {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    sealing: Arc<dyn Sealing>,
    readers: Arc<dyn ReadersOf>,
    /// The key of the old form, where this node has one.
    old: Option<KeyFile>,
}

impl Secrets {
    /// Opens the secrets of a node that is alone for good: they are sealed with the key on `disk`, which is made if there
    /// are no secrets yet. Blocks.
    pub fn open(store: Arc<dyn Store>, disk: &dyn Disk, clock: Arc<dyn Clock>) -> Result<Self, SecretError> {
        let is_unused = store.range(&Scan { limit: 1, ..Scan::prefix(TABLE, b"") })?.entries.is_empty();
        let key = KeyFile::load_or_make(disk, is_unused)?;
        let alone = Arc::new(key.clone());
        Ok(Self { store, clock, sealing: Arc::<KeyFile>::clone(&alone), readers: alone, old: Some(key) })
    }

    /// Opens the secrets of a cluster: each is sealed to those that `readers` names. `old` opens what a node that was
    /// alone has sealed ([`KeyFile::load`]); [`Self::reseal`] brings it to the new form.
    pub fn open_shared(
        store: Arc<dyn Store>,
        sealing: Arc<dyn Sealing>,
        readers: Arc<dyn ReadersOf>,
        old: Option<KeyFile>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, clock, sealing, readers, old }
    }

    /// Sets `name` to `value`, whether it exists or not. Any node can, whether it may read it or not.
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

    /// What sets `name` to `value` for exactly these readers, for a transaction of the caller's: the founding, when
    /// nobody is known to need anything yet.
    pub fn sealed_for(&self, name: &str, value: &Secret, readers: &[Reader]) -> Result<Op, SecretError> {
        check_name(name)?;
        let now = self.clock.wall();
        Ok(Op::put(Key::new(TABLE, name), form::seal(&*self.sealing, name, value, readers, (now, now))?))
    }

    /// False if another writer got in between.
    async fn try_set(&self, name: &str, value: &Secret) -> Result<bool, SecretError> {
        let now = self.clock.wall();
        let found = self.store.get(&Key::new(TABLE, name))?;
        if found.is_none() && self.list()?.len() >= SECRETS_MAX {
            return Err(SecretError::TooMany);
        }
        let old = found.as_ref().and_then(|found| Form::read(&found.value));
        let created = old.map_or(now, |old| old.times().0);
        let sealed = form::seal(&*self.sealing, name, value, &self.wanted(name)?, (created, now))?;
        self.replace(name, found.as_ref(), sealed).await
    }

    /// Writes over `found` alone; false if another writer got in between.
    async fn replace(&self, name: &str, found: Option<&Entry>, sealed: Vec<u8>) -> Result<bool, SecretError> {
        let at = Key::new(TABLE, name);
        let check = match found {
            Some(found) => Check::Modified(at.clone(), found.modified),
            None => Check::Absent(at.clone()),
        };
        let txn = Txn::of([Op::put(at, sealed)]).when(check);
        Ok(matches!(self.store.commit(txn).await?, Commit::Done(_)))
    }

    /// Who is to read `name`, in order, each once.
    fn wanted(&self, name: &str) -> Result<Vec<Reader>, SecretError> {
        let mut readers = self.readers.readers(name);
        readers.sort_unstable();
        readers.dedup();
        match readers.len() {
            0 => Err(SecretError::NoReaders(name.into())),
            some if some > READERS_MAX => Err(SecretError::TooManyReaders(some, name.into())),
            _ => Ok(readers),
        }
    }

    /// The value of `name`, for the part that needs it.
    pub fn get(&self, name: &str) -> Result<Secret, SecretError> {
        check_name(name)?;
        let unknown = || SecretError::Unknown(name.into());
        let found = self.store.get(&Key::new(TABLE, name))?.ok_or_else(unknown)?;
        self.unseal(name, &found)
    }

    fn unseal(&self, name: &str, found: &Entry) -> Result<Secret, SecretError> {
        let form = Form::read(&found.value).ok_or_else(|| SecretError::Sealed(name.into()))?;
        form.open(name, &*self.sealing, self.old.as_ref())
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
        let infos = self.records()?.into_iter().map(|(name, entry)| {
            let (created, changed) = Form::read(&entry.value).map(|form| form.times()).unwrap_or_default();
            SecretInfo { name, created, changed }
        });
        Ok(infos.collect())
    }

    /// The names that `node` can read as they are sealed now: what must be changed once it is not trusted any more.
    pub fn readable_by(&self, node: NodeId) -> Result<Vec<String>, SecretError> {
        let sealed_to = |entry: &Entry| {
            let readers = Form::read(&entry.value).map(|form| form.readers()).unwrap_or_default();
            readers.iter().any(|reader| reader.node == node)
        };
        let records = self.records()?.into_iter();
        Ok(records.filter(|(_, entry)| sealed_to(entry)).map(|(name, _)| name).collect())
    }

    fn records(&self) -> Result<Vec<(String, Entry)>, SecretError> {
        let mut records = Vec::new();
        let mut scan = Scan::prefix(TABLE, b"");
        loop {
            let page = self.store.range(&scan)?;
            scan.after = page.entries.last().map(|(last, _)| last.clone());
            let named = page.entries.into_iter();
            records.extend(named.map(|(name, entry)| (String::from_utf8_lossy(&name).into_owned(), entry)));
            if !page.more || scan.after.is_none() {
                return Ok(records);
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
