//! Small and strong state: conditional transactions, watches, leases, sealed secrets and the cluster document. Knows no
//! service and no route; reaches the disk and the clock only through the seams of `base`.

pub mod contract;
pub mod disk;
pub mod document;
pub mod nearest;
pub mod replicated;
pub mod secrets;
pub mod simulated;
pub mod store;
pub mod txn;

mod backend;
mod change_log;
mod counts;
mod edit;
mod leases;
mod reading;
mod record;
mod redb_store;
mod work;
mod writer;

pub use disk::RealDisk;
pub use document::{Document, DocumentError, Edit, Snapshot, Terms, Validate};
pub use redb_store::{Config, FILE, RedbStore};
pub use replicated::{Outside, RaftConfig, RaftRole, RaftStatus, ReplicaHealth, ReplicatedStore};
pub use secrets::{Secret, SecretError, SecretInfo, Secrets};
pub use store::{Change, Entry, Lease, LeaseId, Page, Revision, Scan, Store, StoreError, Watch, WatchError};
pub use txn::{Check, Commit, Key, Op, Txn};
