//! Follows the document and the secrets: what can change live does, as soon as it is written.

use std::sync::Arc;
use std::time::Duration;

use tutti_store::{Scan, Snapshot, secrets};

use crate::build::House;
use crate::build::state::main_tenant;
use crate::cluster::Cluster;

/// A store that is made anew from a peer is closed meanwhile; it is looked at again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Applies every change for as long as the server runs; it is aborted then.
pub(crate) async fn follow_document(house: Arc<House>) {
    loop {
        if let Err(error) = follow(&house).await {
            tracing::warn!(%error, "changes of the document are not followed for now");
        }
        house.clock.sleep_until(house.clock.now() + AGAIN_AFTER).await;
    }
}

async fn follow(house: &House) -> anyhow::Result<()> {
    let mut documents = house.state.document.follow()?;
    let now = house.state.store.range(&Scan { limit: 1, ..Scan::prefix(secrets::TABLE, b"") })?;
    let mut sealed = house.state.store.watch(secrets::TABLE, b"", now.revision)?;
    // What was written before the watches began.
    take(house, &house.state.document.current()?)?;
    loop {
        let snapshot = tokio::select! {
            document = documents.next() => match document {
                Some(document) => document?,
                None => return Ok(()),
            },
            changed = sealed.next() => match changed {
                Ok(_) | Err(tutti_store::WatchError::Behind { .. }) => house.state.document.current()?,
                Err(tutti_store::WatchError::Closed) => return Ok(()),
            },
        };
        take(house, &snapshot)?;
    }
}

/// Puts the document in force, unless the copy of the store is just being made anew: without its document a node would
/// serve what the document forbids.
fn take(house: &House, snapshot: &Snapshot) -> anyhow::Result<()> {
    if house.member.roster.list()?.is_empty() {
        return Ok(());
    }
    let revision = snapshot.revision;
    match apply(house, snapshot) {
        Ok(()) => tracing::info!(revision, "the cluster document is in force"),
        Err(error) => tracing::error!(revision, %error, "the cluster document could not be applied"),
    }
    Ok(())
}

fn apply(house: &House, snapshot: &Snapshot) -> anyhow::Result<()> {
    let cluster = Cluster::read(&snapshot.table).map_err(|wrong| {
        let words: Vec<String> = wrong.into_iter().map(|invalid| invalid.message).collect();
        anyhow::anyhow!(words.join("; "))
    })?;
    let tenant = main_tenant(&cluster, &house.state.secrets)?;
    house.services.reconfigure(&cluster).map_err(anyhow::Error::msg)?;
    house.sources.reconfigure(cluster.fetch.clone()).map_err(|error| anyhow::anyhow!("[fetch]: {error}"))?;
    house.state.tenants.swap(tenant);
    house.flow.set_dispatching(cluster.dispatch.dispatching());
    house.flow.configuration_changed();
    house.state.rules.follow(Arc::new(cluster.running_as(&house.cluster)));
    Ok(())
}
