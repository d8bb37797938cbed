//! The founding: the cluster's identity, its first node and the key of its authority, in one transaction. Once.

use tutti_base::envelope;
use tutti_cluster::ClusterId;
use tutti_store::{Check, Op, Secret, SecretError, Secrets};

use crate::readers::AUTHORITY;
use crate::roster::{Also, ClusterRecord, NodeRecord, Roster, RosterError, identity_key};
use tutti_store::secrets::Reader;

/// Why there is no cluster now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FoundingError {
    /// There is one already.
    #[error("the store holds a cluster already, {0}; join it instead, or start with an empty data directory")]
    Already(ClusterId),
    /// The roster could not be written.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The key of the authority could not be sealed.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Founds `cluster` with `first` as its one node, which alone can open `authority`: all of it is on stable storage, or
/// nothing is. Again with the same cluster and node it changes nothing. A node that finds [`RosterError::NoCluster`] at
/// its start founds anew, with a new authority, whatever identity it has kept.
pub async fn found(
    roster: &Roster,
    secrets: &Secrets,
    cluster: &ClusterRecord,
    first: &NodeRecord,
    authority: &Secret,
) -> Result<(), FoundingError> {
    match roster.cluster() {
        Ok(found) if found.id == cluster.id && roster.get(first.id)?.is_some() => return Ok(()),
        Ok(found) => return Err(FoundingError::Already(found.id)),
        Err(RosterError::NoCluster) => {}
        Err(error) => return Err(error.into()),
    }
    let reader = Reader { node: first.id, key: first.sealing_key };
    let sealed = secrets.sealed_for(AUTHORITY, authority, &[reader])?;
    roster
        .edit(|nodes| {
            nodes.push(first.clone());
            let identity = Op::put(identity_key(), envelope::seal(cluster));
            let checks = vec![Check::Absent(identity_key())];
            Ok::<_, FoundingError>(Also { checks, ops: vec![identity, sealed.clone()] })
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CLUSTER, House, first};

    #[tokio::test(start_paused = true)]
    async fn a_cluster_is_founded_once_and_its_first_node_holds_the_authority() {
        let house = House::new();
        assert_eq!(house.roster.cluster(), Err(RosterError::NoCluster));
        let authority = Secret::new(b"authority".to_vec());
        let cluster = house.cluster();
        for _ in 0..2 {
            found(&house.roster, &house.secrets(1), &cluster, &first(), &authority).await.unwrap();
        }
        assert_eq!(house.roster.cluster().unwrap(), cluster);
        assert_eq!(house.roster.list().unwrap(), [first()]);
        assert_eq!(house.secrets(1).get(AUTHORITY).unwrap().expose(), b"authority");
        assert!(house.secrets(2).get(AUTHORITY).is_err());
        let other = ClusterRecord { id: ClusterId(CLUSTER.0 + 1), ..cluster };
        let again = found(&house.roster, &house.secrets(1), &other, &first(), &authority).await;
        assert_eq!(again, Err(FoundingError::Already(CLUSTER)));
    }
}
