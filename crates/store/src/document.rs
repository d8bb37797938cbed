//! The cluster document: one TOML text with a bounded history, changed only by plan, validation and compare-and-swap.
//! What the keys mean is not known here. Comments of an applied file are not kept: the text is written from the values.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use tutti_base::envelope::{self, Versioned};
use tutti_base::{Clock, Kind, Problem, Wall};

use crate::edit;
pub use crate::edit::{Difference, Happened, differences, parse_value};
use crate::store::{Revision, Scan, Store, StoreError, Watch, WatchError};
use crate::txn::{Check, Commit, Key, Op, Txn};

/// The store's table.
pub const TABLE: &str = "config";
/// The longest document, in bytes of its text.
pub const DOCUMENT_MAX: usize = 512 << 10;
/// How many documents the history keeps.
pub const HISTORY_MAX: usize = 100;
/// The longest reason for a change, in bytes.
pub const WHY_MAX: usize = 1000;

const CURRENT: &[u8] = b"current";
const HISTORY: &str = "history/";
/// How often a change without `if_revision` is tried again when another got in between.
const CHANGE_TRIES: usize = 8;

/// Decides what a document means; given by the binary, which knows every key.
pub trait Validate: Send + Sync {
    /// What follows from `doc`, or everything that is wrong with it. Pure: called for dry runs too.
    fn validate(&self, doc: &Table) -> Result<Vec<Consequence>, Vec<Invalid>>;
}

/// What follows from a document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Consequence {
    /// Worth saying in the plan.
    Note {
        /// One sentence.
        text: String,
    },
    /// The key cannot change while something runs.
    Restart {
        /// The key, dotted.
        path: String,
        /// What has to be restarted.
        what: String,
    },
}

/// Something wrong with a document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invalid {
    /// The key, dotted; empty for the whole document.
    pub path: String,
    /// One sentence: what is wrong, and the way out.
    pub message: String,
}

/// A change to make.
#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    /// Sets one key.
    Set {
        /// Dotted.
        path: String,
        /// Its value.
        value: Value,
    },
    /// Removes one key, or a table.
    Unset {
        /// Dotted.
        path: String,
    },
    /// Brings in a file.
    Apply {
        /// Its text.
        text: String,
        /// What happens to keys that it does not have.
        others: Others,
    },
    /// Goes back to what the document was.
    Rollback {
        /// Its number.
        to: u64,
    },
}

/// What happens to keys that an applied file does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Others {
    /// They stay.
    Keep,
    /// They are deleted.
    Delete,
}

/// Whether a change is made or only planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Run {
    /// Made.
    #[default]
    Real,
    /// Only planned.
    Dry,
}

/// Under which terms a change is made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Who makes it, as the history shows it.
    pub who: String,
    /// Why; at most [`WHY_MAX`] bytes.
    pub why: String,
    /// Only if the document has this number.
    pub if_revision: Option<u64>,
    /// Whether it is only planned.
    pub run: Run,
    /// What to do when it cannot apply live.
    pub restart: Restart,
}

/// What to do with a change that needs a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Restart {
    /// It is refused.
    #[default]
    Refuse,
    /// It is kept, and holds from the next start on.
    Accept,
}

/// A document.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Its number; 0 is the empty document that every store begins with. Counts documents, not store revisions.
    pub revision: u64,
    /// Its text.
    pub text: String,
    /// Its values.
    pub table: Table,
    /// Who made it.
    pub who: String,
    /// Why.
    pub why: String,
    /// When.
    pub when: Wall,
}

/// A line of the history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revised {
    /// The document's number.
    pub revision: u64,
    /// Who made it.
    pub who: String,
    /// Why.
    pub why: String,
    /// When.
    pub when: Wall,
    /// How many keys differ from the document before; none for the oldest that is kept.
    pub changes: Option<usize>,
}

/// A change's plan, and whether it was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The document's number now.
    pub revision: u64,
    /// Whether it was made: false in a dry run, and when nothing changes.
    pub applied: bool,
    /// The keys that differ.
    pub changes: Vec<Difference>,
    /// What follows.
    pub consequences: Vec<Consequence>,
}

/// Why a change was not made.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// The path or the value does not fit.
    #[error("{0}")]
    Path(String),
    /// The document would be wrong.
    #[error("{}", list(.0))]
    Invalid(Vec<Invalid>),
    /// The document has another number.
    #[error(
        "the document is at revision {found}, not {wanted}; look at `tutti config diff --from {wanted}` and try again"
    )]
    Conflict {
        /// The number that was named.
        wanted: u64,
        /// The number that it has.
        found: u64,
    },
    /// Others kept changing it.
    #[error("the document was changed by others at the same time; try again")]
    Contended,
    /// It would need a restart.
    #[error("not applied, because {} must restart for it: {}", whats(.0), paths(.0))]
    NeedsRestart(Vec<Consequence>),
    /// No such document in the history.
    #[error("revision {0} is not in the history; `tutti config history` lists what is")]
    Unknown(u64),
    /// Something is too long.
    #[error("the {what} has {len} bytes, over the limit of {limit}")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(invalid: &[Invalid]) -> String {
    invalid.iter().map(|each| each.message.as_str()).collect::<Vec<_>>().join("; ")
}

fn restarts(list: &[Consequence]) -> impl Iterator<Item = (&str, &str)> {
    list.iter().filter_map(|each| match each {
        Consequence::Restart { path, what } => Some((path.as_str(), what.as_str())),
        Consequence::Note { .. } => None,
    })
}

fn paths(list: &[Consequence]) -> String {
    restarts(list).map(|(path, _)| format!("`{path}`")).collect::<Vec<_>>().join(", ")
}

fn whats(list: &[Consequence]) -> String {
    let mut whats: Vec<_> = restarts(list).map(|(_, what)| what).collect();
    whats.dedup();
    whats.join(", ")
}

impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Self {
        let subject = match &error {
            DocumentError::Store(store) => return store.clone().into(),
            DocumentError::Invalid(list) => list.first().map(|invalid| invalid.path.clone()),
            _ => None,
        };
        let kind = match &error {
            DocumentError::Syntax(_) | DocumentError::Path(_) | DocumentError::TooLong { .. } => {
                Kind::BadRequest
            }
            DocumentError::Invalid(_) => Kind::Unprocessable,
            DocumentError::Unknown(_) => Kind::NotFound,
            DocumentError::Conflict { .. } | DocumentError::Contended | DocumentError::NeedsRestart(_) => {
                Kind::Conflict
            }
            DocumentError::Store(_) => Kind::Internal,
        };
        let problem = Problem::new(kind, error.to_string());
        match subject {
            Some(path) if !path.is_empty() => problem.about(path),
            _ => problem,
        }
    }
}

/// A document as it is stored, under `current` and in the history.
#[derive(Serialize, Deserialize)]
struct Stored {
    revision: u64,
    text: String,
    who: String,
    why: String,
    when: Wall,
}

impl Versioned for Stored {
    const KIND: u8 = 23;
    const VERSION: u16 = 1;
}

/// The document of the cluster. Cloning shares it.
#[derive(Clone)]
pub struct Document {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rules: Arc<dyn Validate>,
}

impl Document {
    /// The document in `store`, under `rules`.
    pub fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>, rules: Arc<dyn Validate>) -> Self {
        Self { store, clock, rules }
    }

    /// The document as it is.
    pub fn current(&self) -> Result<Snapshot, DocumentError> {
        Ok(self.read(&current_key())?.map_or_else(empty, |(snapshot, _)| snapshot))
    }

    /// The value at a dotted path; none if there is none.
    pub fn get(&self, path: &str) -> Result<Option<Value>, DocumentError> {
        let path = edit::parse_path(path).map_err(DocumentError::Path)?;
        Ok(edit::find(&self.current()?.table, &path).cloned())
    }

    /// A document of the history.
    pub fn at(&self, revision: u64) -> Result<Snapshot, DocumentError> {
        if revision == 0 {
            return Ok(empty());
        }
        let found = self.read(&history_key(revision))?;
        found.map(|(snapshot, _)| snapshot).ok_or(DocumentError::Unknown(revision))
    }

    /// The history, newest first, at most [`HISTORY_MAX`].
    pub fn history(&self) -> Result<Vec<Revised>, DocumentError> {
        let mut snapshots = Vec::new();
        let mut scan = Scan::prefix(TABLE, HISTORY);
        loop {
            let page = self.store.range(&scan)?;
            for (key, entry) in &page.entries {
                snapshots.push(parse(&Key::new(TABLE, key), &entry.value)?);
            }
            match page.entries.last() {
                Some((last, _)) if page.more => scan.after = Some(last.clone()),
                _ => break,
            }
        }
        let mut before = if snapshots.first().is_some_and(|first| first.revision == 1) {
            Some(Table::new())
        } else {
            None
        };
        let mut lines = Vec::with_capacity(snapshots.len());
        for Snapshot { revision, table, who, why, when, .. } in snapshots {
            let changes = before.map(|before| differences(&before, &table).len());
            lines.push(Revised { revision, who, why, when, changes });
            before = Some(table);
        }
        lines.reverse();
        Ok(lines)
    }

    /// What differs from one document to another: from the one before the newer unless given, to the current one unless
    /// given.
    pub fn diff(&self, from: Option<u64>, to: Option<u64>) -> Result<Vec<Difference>, DocumentError> {
        let to = to.map_or_else(|| self.current(), |revision| self.at(revision))?;
        let from = self.at(from.unwrap_or(to.revision.saturating_sub(1)))?;
        Ok(differences(&from.table, &to.table))
    }

    /// Plans a change and, unless it is a dry run, makes it: validated, swapped against the document that the plan was
    /// made for, and kept in the history. Not cancel-safe: a dropped future leaves open whether it is made.
    pub async fn change(&self, edit: &Edit, terms: &Terms) -> Result<Plan, DocumentError> {
        within("reason", terms.why.len(), WHY_MAX)?;
        for _ in 0..CHANGE_TRIES {
            if let Some(plan) = self.try_change(edit, terms).await? {
                return Ok(plan);
            }
        }
        Err(DocumentError::Contended)
    }

    /// None if another change got in between.
    async fn try_change(&self, edit: &Edit, terms: &Terms) -> Result<Option<Plan>, DocumentError> {
        let at = current_key();
        let (now, written) = match self.read(&at)? {
            Some((snapshot, revision)) => (snapshot, Some(revision)),
            None => (empty(), None),
        };
        if let Some(wanted) = terms.if_revision.filter(|wanted| *wanted != now.revision) {
            return Err(DocumentError::Conflict { wanted, found: now.revision });
        }
        let table = self.edited(&now.table, edit)?;
        let text = to_text(&table)?;
        let consequences = self.rules.validate(&table).map_err(DocumentError::Invalid)?;
        let changes = differences(&now.table, &table);
        let plan = Plan { revision: now.revision, applied: false, changes, consequences };
        if plan.changes.is_empty() || terms.run == Run::Dry {
            return Ok(Some(plan));
        }
        if terms.restart == Restart::Refuse && restarts(&plan.consequences).next().is_some() {
            return Err(DocumentError::NeedsRestart(plan.consequences));
        }
        let check = match written {
            Some(revision) => Check::Modified(at, revision),
            None => Check::Absent(at),
        };
        let revision = now.revision + 1;
        match self.store.commit(self.txn(revision, text, terms).when(check)).await? {
            Commit::Done(_) => Ok(Some(Plan { revision, applied: true, ..plan })),
            Commit::Failed { .. } => Ok(None),
        }
    }

    fn txn(&self, revision: u64, text: String, terms: &Terms) -> Txn {
        let (who, why) = (terms.who.clone(), terms.why.clone());
        let bytes = envelope::seal(&Stored { revision, text, who, why, when: self.clock.wall() });
        let mut ops = vec![Op::put(current_key(), bytes.clone()), Op::put(history_key(revision), bytes)];
        if let Some(old) = revision.checked_sub(HISTORY_MAX as u64).filter(|old| *old > 0) {
            ops.push(Op::delete(history_key(old)));
        }
        Txn::of(ops)
    }

    fn edited(&self, now: &Table, edit: &Edit) -> Result<Table, DocumentError> {
        let mut table = now.clone();
        match edit {
            Edit::Set { path, value } => {
                let path = edit::parse_path(path).map_err(DocumentError::Path)?;
                edit::put(&mut table, &path, value.clone()).map_err(DocumentError::Path)?;
            }
            Edit::Unset { path } => {
                let segments = edit::parse_path(path).map_err(DocumentError::Path)?;
                if !edit::remove(&mut table, &segments) {
                    return Err(DocumentError::Path(format!("`{path}` is not set")));
                }
            }
            Edit::Apply { text, others } => {
                within("document", text.len(), DOCUMENT_MAX)?;
                let file: Table = text.parse().map_err(|error| syntax(&error))?;
                match others {
                    Others::Keep => edit::merge(&mut table, file),
                    Others::Delete => table = file,
                }
            }
            Edit::Rollback { to } => table = self.at(*to)?.table,
        }
        Ok(table)
    }

    /// Follows the document: the first call of [`Followed::next`] waits for a change after this moment.
    pub fn follow(&self) -> Result<Followed, DocumentError> {
        let now = self.store.range(&Scan { limit: 1, ..Scan::prefix(TABLE, CURRENT) })?;
        let watch = self.store.watch(TABLE, CURRENT, now.revision)?;
        Ok(Followed { document: self.clone(), watch })
    }

    fn read(&self, at: &Key) -> Result<Option<(Snapshot, Revision)>, DocumentError> {
        match self.store.get(at)? {
            Some(entry) => Ok(Some((parse(at, &entry.value)?, entry.modified))),
            None => Ok(None),
        }
    }
}

/// The document's changes, as they come.
pub struct Followed {
    document: Document,
    watch: Box<dyn Watch>,
}

impl Followed {
    /// The document after the next change. Several changes may have become one. Cancel-safe. None: the store was closed.
    pub async fn next(&mut self) -> Option<Result<Snapshot, DocumentError>> {
        match self.watch.next().await {
            Ok(_) | Err(WatchError::Behind { .. }) => Some(self.document.current()),
            Err(WatchError::Closed) => None,
        }
    }
}

fn within(what: &'static str, len: usize, limit: usize) -> Result<(), DocumentError> {
    if len > limit { Err(DocumentError::TooLong { what, len, limit }) } else { Ok(()) }
}

fn syntax(error: &toml::de::Error) -> DocumentError {
    DocumentError::Syntax(error.to_string().trim().to_owned())
}

fn to_text(table: &Table) -> Result<String, DocumentError> {
    let text = toml::to_string_pretty(table).map_err(|error| DocumentError::Path(error.to_string()))?;
    within("document", text.len(), DOCUMENT_MAX)?;
    Ok(text)
}

fn empty() -> Snapshot {
    let (text, who, why) = (String::new(), String::new(), String::new());
    Snapshot { revision: 0, text, table: Table::new(), who, why, when: Wall(0) }
}

fn current_key() -> Key {
    Key::new(TABLE, CURRENT)
}

fn history_key(revision: u64) -> Key {
    // Twenty digits hold every u64, so that bytewise order is numeric order.
    Key::new(TABLE, format!("{HISTORY}{revision:020}"))
}

fn parse(at: &Key, bytes: &[u8]) -> Result<Snapshot, DocumentError> {
    let damaged = |reason: String| StoreError::Damaged { at: at.clone(), reason };
    let stored: Stored = envelope::open(bytes).map_err(|error| damaged(error.to_string()))?;
    let Stored { revision, text, who, why, when } = stored;
    let table = text.parse().map_err(|error: toml::de::Error| damaged(error.to_string()))?;
    Ok(Snapshot { revision, text, table, who, why, when })
}
