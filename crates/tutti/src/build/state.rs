//! Small and strong state: the store, the document in it, the secrets, and the tenants made of both.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tutti_base::{Clock, TenantId};
use tutti_store::document::Validate;
use tutti_store::{Document, RealDisk, RedbStore, SecretError, Secrets, Store, StoreError};
use tutti_telemetry::Metrics;

use crate::cluster::{Cluster, Rules};
use crate::settings::Settings;
use crate::tenancy::TenantTable;

/// A server that is just stopping still has the store; a new one waits this long for it.
const STORE_WITHIN: Duration = Duration::from_secs(20);

/// A node that has joined waits this long for the keys that its role needs.
const KEYS_WITHIN: Duration = Duration::from_secs(15);
/// The file of what a node keeps for itself.
const LOCAL_FILE: &str = "local.redb";

/// Store, document, secrets and tenants.
pub(crate) struct State {
    /// The store of the cluster.
    pub store: Arc<dyn Store>,
    /// What this node keeps for itself, without a quorum.
    pub local: Arc<dyn Store>,
    /// The cluster document.
    pub document: Document,
    /// What documents are checked with.
    pub rules: Arc<Rules>,
    /// The secrets.
    pub secrets: Secrets,
    /// The tenants in force.
    pub tenants: Arc<TenantTable>,
    /// The document that the server was started with.
    pub cluster: Arc<Cluster>,
}

impl State {
    /// Reads what is in `store`; what belongs to this node alone is in the data directory.
    pub(crate) async fn open(
        settings: &Settings,
        store: Arc<dyn Store>,
        secrets: Secrets,
        needs: Keys,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let disk = RealDisk::at(&settings.data);
        let mine = patiently(clock, || async {
            // The metrics of the store are the replicated one's.
            RedbStore::open_named(
                &disk,
                LOCAL_FILE,
                Arc::clone(clock),
                &Metrics::default(),
                &Default::default(),
            )
        });
        let local = mine.await.context("the local store in the data directory could not be opened")?;
        let rules = Rules::beside(Arc::default());
        let checks: Arc<dyn Validate> = Arc::<Rules>::clone(&rules);
        let document = Document::open(Arc::clone(&store), Arc::clone(clock), checks);
        let cluster = Cluster::read(&document.current()?.table).map_err(|wrong| {
            let wrong: Vec<String> = wrong.into_iter().map(|invalid| invalid.message).collect();
            anyhow::anyhow!("the cluster document cannot be used by this version: {}", wrong.join("; "))
        })?;
        let cluster = Arc::new(cluster);
        rules.follow(Arc::clone(&cluster));
        if needs == Keys::Needed {
            wait_for_keys(&cluster, &secrets, clock).await;
        }
        let tenants = Arc::new(TenantTable::new(main_tenant(&cluster, &secrets)?));
        Ok(Self { store, local, document, rules, secrets, tenants, cluster })
    }
}

/// The tenant `main` of a document.
pub(crate) fn main_tenant(cluster: &Cluster, secrets: &Secrets) -> anyhow::Result<tutti_service::Tenant> {
    let section = cluster.tenants.get(TenantId::MAIN).cloned().unwrap_or_default();
    match section.resolve(TenantId::MAIN, secrets) {
        Err(error) if is_not_for_me(&error) => section.sealed_off(TenantId::MAIN),
        outcome => outcome,
    }
    .context("[tenants.main]")
}

/// Whether this node's roles need the tenants' keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keys {
    /// It checks signatures.
    Needed,
    /// It does not.
    NotNeeded,
}

/// A node that has just joined gets its keys from the others within a moment.
async fn wait_for_keys(cluster: &Cluster, secrets: &Secrets, clock: &Arc<dyn Clock>) {
    let until = clock.now() + KEYS_WITHIN;
    let section = cluster.tenants.get(TenantId::MAIN).cloned().unwrap_or_default();
    while matches!(section.resolve(TenantId::MAIN, secrets), Err(error) if is_not_for_me(&error)) {
        if clock.now() >= until {
            tracing::warn!(
                "the keys of URLs have not come from the other nodes yet; signed URLs are refused until they have"
            );
            return;
        }
        clock.sleep_until(clock.now() + Duration::from_millis(50)).await;
    }
}

/// Whether a secret is sealed to other nodes: this one has not the role, or joined a moment ago.
fn is_not_for_me(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SecretError::NotForMe(_)))
}

/// Opens a store that a server which is just stopping may still have.
pub(crate) async fn patiently<T, F>(clock: &Arc<dyn Clock>, open: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let until = clock.now() + STORE_WITHIN;
    loop {
        match open().await {
            Err(StoreError::Open(reason)) if reason.contains("in use") && clock.now() < until => {
                clock.sleep_until(clock.now() + Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}
