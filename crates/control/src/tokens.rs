//! Join tokens: what lets a machine in once. Holds hashes of their secrets alone; how a token is written is `cluster`'s.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tutti_base::envelope::{self, EnvelopeError, Versioned};
use tutti_base::{Clock, Kind, NodeId, Problem, Roles, Wall};
use tutti_store::{Check, Commit, Key, Op, Scan, Store, StoreError, Txn};
use zeroize::Zeroizing;

use crate::roster::{EDIT_PAUSE, EDIT_TRIES};

/// The table.
pub const TABLE: &str = "tokens";
/// The most tokens kept, spent ones among them.
pub const TOKENS_MAX: usize = 200;
/// The shortest life of a token.
pub const LIFE_MIN: Duration = Duration::from_secs(10);
/// The longest life of a token.
pub const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The life of a token unless told otherwise.
pub const LIFE: Duration = Duration::from_secs(3600);
/// A token that lets nobody in any more is kept this long, so that the refusal can say why.
pub const SPENT_KEPT: Duration = Duration::from_secs(24 * 3600);
/// The length of a token's secret, in bytes.
pub const SECRET_LEN: usize = 16;

/// Says the domain of the hash, so that it is of no use anywhere else.
const HASH_DOMAIN: &str = "tutti 2026-11 secret of a join token";

/// What is stored of a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: u64,
    /// The hash of its secret.
    pub hash: [u8; 32],
    /// The most that a node which it lets in may do.
    pub roles: Roles,
    /// When it was made.
    pub created: Wall,
    /// When it ends.
    pub expires: Wall,
    /// How many nodes it still lets in: 1, or 0.
    pub uses_left: u8,
    /// When a person took it back.
    pub revoked: Option<Wall>,
    /// Whom it let in.
    pub used_by: Option<Use>,
}

/// Whom a token let in, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Use {
    /// The node.
    pub node: NodeId,
    /// The hash of the key that its certificate was signed for; none in records from before it was kept.
    pub key: Option<[u8; 32]>,
    /// When that was.
    pub when: Wall,
}

impl Versioned for TokenRecord {
    const KIND: u8 = 114;
    const VERSION: u16 = 2;

    fn migrate(version: u16, payload: &[u8]) -> Result<Self, EnvelopeError> {
        match version {
            1 => envelope::payload::<TokenBefore>(Self::KIND, payload).map(Self::from),
            found => Err(EnvelopeError::Version { kind: Self::KIND, found, newest: Self::VERSION }),
        }
    }
}

/// Version 1, which did not say for which key a token was spent.
#[derive(Serialize, Deserialize)]
struct TokenBefore {
    id: u64,
    hash: [u8; 32],
    roles: Roles,
    created: Wall,
    expires: Wall,
    uses_left: u8,
    revoked: Option<Wall>,
    used_by: Option<(NodeId, Wall)>,
}

impl From<TokenBefore> for TokenRecord {
    fn from(before: TokenBefore) -> Self {
        let TokenBefore { id, hash, roles, created, expires, uses_left, revoked, used_by } = before;
        let used_by = used_by.map(|(node, when)| Use { node, key: None, when });
        Self { id, hash, roles, created, expires, uses_left, revoked, used_by }
    }
}

impl TokenRecord {
    /// The word in output: valid, used, revoked or expired.
    pub fn word(&self, now: Wall) -> &'static str {
        match self.refusal(now) {
            None => "valid",
            Some(TokenError::Revoked(_)) => "revoked",
            Some(TokenError::Used(_)) => "used",
            Some(_) => "expired",
        }
    }

    /// Why it lets nobody in at `now`; none if it does.
    fn refusal(&self, now: Wall) -> Option<TokenError> {
        if self.revoked.is_some() {
            return Some(TokenError::Revoked(self.id));
        }
        if self.uses_left == 0 {
            return Some(TokenError::Used(self.id));
        }
        (now >= self.expires).then_some(TokenError::Expired(self.id))
    }

    /// Whether it let in this very node with this very key, and has not ended since: one that did not hear the answer may
    /// have it again.
    pub(crate) fn has_let_in(&self, node: NodeId, key: &[u8; 32], now: Wall) -> bool {
        let is_it = |used: &Use| used.node == node && used.key.as_ref() == Some(key);
        self.revoked.is_none() && now < self.expires && self.used_by.as_ref().is_some_and(is_it)
    }

    fn is_forgotten(&self, now: Wall) -> bool {
        let used = self.used_by.as_ref().map(|used| used.when);
        let ended = self.revoked.or(used).unwrap_or(self.expires);
        self.refusal(now).is_some() && now.since(ended) > SPENT_KEPT
    }
}

/// Why a token was not made, or lets nobody in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// There is none of this id.
    #[error("there is no token {0:016x}; make one with `tutti token create`")]
    Unknown(u64),
    /// It was meant for somebody, but the secret is another.
    #[error(
        "the secret of token {0:016x} does not match; paste the whole line that `tutti token create` printed"
    )]
    Secret(u64),
    /// Its time is over.
    #[error("token {0:016x} has expired; make another with `tutti token create`")]
    Expired(u64),
    /// It was taken back.
    #[error("token {0:016x} was revoked; make another with `tutti token create`")]
    Revoked(u64),
    /// It has let a node in already.
    #[error("token {0:016x} has let a node in already; make another with `tutti token create`")]
    Used(u64),
    /// It does not allow what was asked.
    #[error(
        "token {token:016x} allows the roles {allowed}, not {asked}; make another with `tutti token create --roles {asked}`"
    )]
    Roles {
        /// The token.
        token: u64,
        /// What it allows.
        allowed: Roles,
        /// What was asked for.
        asked: Roles,
    },
    /// It would allow nothing.
    #[error("a token needs a role; roles are front, worker, voter and cache")]
    NoRoles,
    /// Its life does not fit.
    #[error("a token lives for 10 s to 7 days, not for {0:?}")]
    Life(Duration),
    /// There are as many as there may be.
    #[error("there are {TOKENS_MAX} tokens already; revoke some, they are forgotten a day later")]
    TooMany,
    /// Others kept changing it.
    #[error("token {0:016x} was changed by others at the same time; try again")]
    Contended(u64),
    /// The kernel gave no random bytes.
    #[error("no random bytes for a token: {0}")]
    Random(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let kind = match &error {
            TokenError::Store(store) => return store.clone().into(),
            TokenError::Unknown(_) => Kind::NotFound,
            TokenError::Secret(_) | TokenError::Roles { .. } => Kind::Forbidden,
            TokenError::Expired(_) | TokenError::Revoked(_) | TokenError::Used(_) => Kind::Forbidden,
            TokenError::NoRoles | TokenError::Life(_) => Kind::BadRequest,
            TokenError::TooMany => Kind::Unprocessable,
            TokenError::Contended(_) => Kind::Conflict,
            TokenError::Random(_) => Kind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}

/// A token just made: the one time that its secret is known.
pub struct Minted {
    /// What is stored of it.
    pub record: TokenRecord,
    /// Its secret, overwritten when this is dropped.
    pub secret: Zeroizing<[u8; SECRET_LEN]>,
}

/// The tokens in the store. Cloning shares them.
#[derive(Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Tokens {
    /// The tokens in `store`.
    pub fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Makes a token that lets one node in, with at most `roles`, within `life` ([`LIFE_MIN`] to [`LIFE_MAX`]). Forgets
    /// old ones by the way.
    pub async fn create(&self, roles: Roles, life: Duration) -> Result<Minted, TokenError> {
        if roles == Roles::default() {
            return Err(TokenError::NoRoles);
        }
        if !(LIFE_MIN..=LIFE_MAX).contains(&life) {
            return Err(TokenError::Life(life));
        }
        let created = self.clock.wall();
        let (old, kept): (Vec<_>, Vec<_>) =
            self.list()?.into_iter().partition(|token| token.is_forgotten(created));
        if kept.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let (mut id, mut secret) = ([0; 8], Zeroizing::new([0; SECRET_LEN]));
        let random = |into: &mut [u8]| getrandom::fill(into).map_err(|e| TokenError::Random(e.to_string()));
        random(&mut id)?;
        random(&mut *secret)?;
        let id = u64::from_be_bytes(id);
        let hash = hash(&*secret);
        let expires = created + life;
        let record =
            TokenRecord { id, hash, roles, created, expires, uses_left: 1, revoked: None, used_by: None };
        let forget = old.iter().take(TOKENS_MAX / 4).map(|token| Op::delete(at(token.id)));
        let put = Op::put(at(id), envelope::seal(&record));
        self.store.commit(Txn::of(forget.chain([put]))).await?;
        Ok(Minted { record, secret })
    }

    /// All tokens kept, the newest first.
    pub fn list(&self) -> Result<Vec<TokenRecord>, TokenError> {
        let page = self.store.range(&Scan::prefix(TABLE, b""))?;
        let readable = page.entries.iter().filter_map(|(_, entry)| envelope::open(&entry.value).ok());
        let mut tokens: Vec<TokenRecord> = readable.collect();
        tokens.sort_by_key(|token| std::cmp::Reverse((token.created, token.id)));
        Ok(tokens)
    }

    /// Takes `id` back. One that has let a node in already is an error; that node stays.
    pub async fn revoke(&self, id: u64) -> Result<(), TokenError> {
        for tried in 0..EDIT_TRIES {
            let (record, modified) = self.find(id)?;
            if record.revoked.is_some() {
                return Ok(());
            }
            if record.uses_left == 0 {
                return Err(TokenError::Used(id));
            }
            let revoked = TokenRecord { revoked: Some(self.clock.wall()), ..record };
            let put = Op::put(at(id), envelope::seal(&revoked));
            let txn = Txn::of([put]).when(Check::Modified(at(id), modified));
            // It fails only because the token was used or revoked meanwhile, which the next turn finds.
            if let Commit::Done(_) = self.store.commit(txn).await? {
                return Ok(());
            }
            self.clock.sleep_until(self.clock.now() + EDIT_PAUSE * (tried + 1)).await;
        }
        Err(TokenError::Contended(id))
    }

    /// What a transaction needs to spend the token `id` on `node` with the key of this hash: the condition that nobody else
    /// has, and the record afterwards. An error if it lets nobody in, or not with `roles`.
    pub(crate) fn spend(
        &self,
        id: u64,
        secret: &[u8],
        roles: Roles,
        (node, key): (NodeId, [u8; 32]),
    ) -> Result<(Check, Op), TokenError> {
        let now = self.clock.wall();
        let (record, modified) = self.find(id)?;
        check_secret(&record, secret)?;
        if let Some(refusal) = record.refusal(now) {
            return Err(refusal);
        }
        if !record.roles.has(roles) {
            return Err(TokenError::Roles { token: id, allowed: record.roles, asked: roles });
        }
        let used = Use { node, key: Some(key), when: now };
        let spent = TokenRecord { uses_left: 0, used_by: Some(used), ..record };
        Ok((Check::Modified(at(id), modified), Op::put(at(id), envelope::seal(&spent))))
    }

    /// The token `id`, if `secret` is its own; whether it still lets anybody in is another question.
    pub(crate) fn proven(&self, id: u64, secret: &[u8]) -> Result<TokenRecord, TokenError> {
        let (record, _) = self.find(id)?;
        check_secret(&record, secret)?;
        Ok(record)
    }

    fn find(&self, id: u64) -> Result<(TokenRecord, tutti_store::Revision), TokenError> {
        let found = self.store.get(&at(id))?.ok_or(TokenError::Unknown(id))?;
        let record = envelope::open(&found.value).map_err(|_| TokenError::Unknown(id))?;
        Ok((record, found.modified))
    }
}

fn at(id: u64) -> Key {
    Key::new(TABLE, id.to_be_bytes())
}

fn hash(secret: &[u8]) -> [u8; 32] {
    blake3::derive_key(HASH_DOMAIN, secret)
}

/// Compares in constant time.
fn check_secret(record: &TokenRecord, secret: &[u8]) -> Result<(), TokenError> {
    let is_its_own = blake3::Hash::from(hash(secret)) == blake3::Hash::from(record.hash);
    if is_its_own { Ok(()) } else { Err(TokenError::Secret(record.id)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{House, worker};

    impl Versioned for TokenBefore {
        const KIND: u8 = TokenRecord::KIND;
        const VERSION: u16 = 1;
    }

    fn house() -> (House, Tokens) {
        let house = House::new();
        let tokens = Tokens::open(house.store.clone(), house.clock.clone());
        (house, tokens)
    }

    fn by(node: u64) -> (NodeId, [u8; 32]) {
        (NodeId(node), [node as u8; 32])
    }

    async fn spend(tokens: &Tokens, minted: &Minted, node: u64) -> Result<bool, TokenError> {
        let (check, op) = tokens.spend(minted.record.id, &*minted.secret, Roles::WORKER, by(node))?;
        Ok(matches!(tokens.store.commit(Txn::of([op]).when(check)).await?, Commit::Done(_)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_spent_once_even_by_two_at_the_same_time() {
        let (_, tokens) = house();
        let minted = tokens.create(Roles::ALL, LIFE).await.unwrap();
        let (id, secret) = (minted.record.id, &*minted.secret);
        let both = [1, 2].map(|node| tokens.spend(id, secret, worker(), by(node)).unwrap());
        let mut won = 0;
        for (check, op) in both {
            won += u32::from(tokens.store.commit(Txn::of([op]).when(check)).await.unwrap().done().is_some());
        }
        assert_eq!(won, 1);
        assert_eq!(spend(&tokens, &minted, 3).await, Err(TokenError::Used(id)));
        assert_eq!(tokens.revoke(id).await, Err(TokenError::Used(id)));
        assert_eq!(tokens.list().unwrap()[0].word(Wall(0)), "used");
    }

    #[test]
    fn a_token_of_the_version_before_is_read_and_its_answer_is_not_given_again() {
        let used_by = Some((NodeId(2), Wall(5)));
        let (hash, roles, expires) = ([1; 32], Roles::ALL, Wall(9));
        let before = TokenBefore {
            id: 7,
            hash,
            roles,
            created: Wall(1),
            expires,
            uses_left: 0,
            revoked: None,
            used_by,
        };
        let read: TokenRecord = envelope::open(&envelope::seal(&before)).unwrap();
        assert_eq!((read.id, read.uses_left, read.word(Wall(6))), (7, 0, "used"));
        assert_eq!(read.used_by, Some(Use { node: NodeId(2), key: None, when: Wall(5) }));
        assert!(!read.has_let_in(NodeId(2), &[0; 32], Wall(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_lets_nobody_in_says_why() {
        let (house, tokens) = house();
        let minted = tokens.create(Roles::WORKER, Duration::from_secs(60)).await.unwrap();
        let id = minted.record.id;
        assert_eq!(tokens.spend(id, &[0; 16], worker(), by(1)).err(), Some(TokenError::Secret(id)));
        assert_eq!(tokens.spend(id ^ 1, &[0; 16], worker(), by(1)).err(), Some(TokenError::Unknown(id ^ 1)));
        let asked = Roles::WORKER.with(Roles::VOTER);
        let over = tokens.spend(id, &*minted.secret, asked, by(1)).err();
        assert_eq!(over, Some(TokenError::Roles { token: id, allowed: Roles::WORKER, asked }));
        house.pass(Duration::from_secs(60)).await;
        assert_eq!(spend(&tokens, &minted, 1).await, Err(TokenError::Expired(id)));
        let other = tokens.create(Roles::WORKER, LIFE).await.unwrap();
        tokens.revoke(other.record.id).await.unwrap();
        tokens.revoke(other.record.id).await.expect("twice is as good as once");
        assert_eq!(spend(&tokens, &other, 1).await, Err(TokenError::Revoked(other.record.id)));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_tokens_as_allowed_and_spent_ones_are_forgotten_after_a_day() {
        let (house, tokens) = house();
        assert_eq!(tokens.create(Roles::default(), LIFE).await.err(), Some(TokenError::NoRoles));
        let long = LIFE_MAX + Duration::from_secs(1);
        assert_eq!(tokens.create(Roles::ALL, long).await.err(), Some(TokenError::Life(long)));
        for _ in 0..TOKENS_MAX {
            tokens.create(Roles::ALL, LIFE).await.unwrap();
        }
        assert_eq!(tokens.create(Roles::ALL, LIFE).await.err(), Some(TokenError::TooMany));
        house.pass(LIFE + SPENT_KEPT + Duration::from_secs(1)).await;
        tokens.create(Roles::ALL, LIFE).await.expect("old ones make room");
        assert!(tokens.list().unwrap().len() < TOKENS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_holds_no_secret_of_a_token() {
        let (_, tokens) = house();
        let minted = tokens.create(Roles::ALL, LIFE).await.unwrap();
        let stored = tokens.store.get(&at(minted.record.id)).unwrap().unwrap().value;
        assert!(!stored.windows(SECRET_LEN).any(|window| window == &minted.secret[..]));
    }
}
