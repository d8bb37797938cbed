//! The side of the machine that wants in: where to knock, what to show, what to keep of the answer. Opens no socket itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tutti_base::{Clock, envelope};
use tutti_cluster::identity::IdentityError;
use tutti_cluster::join::{self, JoinError};
use tutti_cluster::{Identity, KnownPeer, Token};

use crate::joining::{Answer, Ask, JoinAnswer, JoinRequest, PROTOCOL};
use crate::quorum::QuorumStatus;
use crate::roster::NodeRecord;

/// The most addresses in a token.
pub const DOORS_MAX: usize = 8;

/// Why the machine is not in.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Asked(#[from] JoinError),
    /// Its answer is none.
    #[error("the cluster's answer cannot be read ({0}); install the same release on both")]
    Answer(String),
}

/// Where a machine with a token should knock, best first: at the voters, so that its secret is shown to those alone that
/// can let it in; then at the others, one address each.
pub fn doors(nodes: &[NodeRecord], status: &QuorumStatus) -> Vec<SocketAddr> {
    let mut open: Vec<&NodeRecord> = nodes.iter().filter(|node| node.standing.stays()).collect();
    open.sort_by_key(|node| (!status.voters.contains(&node.id), Some(node.id) != status.leader, node.id));
    open.iter().filter_map(|node| node.addresses.first().copied()).take(DOORS_MAX).collect()
}

/// What the machine `identity` shows with `token`: it wants all roles that the token allows. Set the rest as wanted.
pub fn request(identity: &Identity, token: &Token, version: &str) -> Result<JoinRequest, IdentityError> {
    Ok(JoinRequest {
        protocol: PROTOCOL,
        version: version.into(),
        token: token.id,
        secret: token.secret().to_vec(),
        node: identity.node(),
        name: identity.name().into(),
        replace: None,
        roles: None,
        addresses: Vec::new(),
        request: identity.request()?,
        sealing_key: identity.sealing_public(),
        labels: BTreeMap::new(),
    })
}

/// Knocks, and hands back the welcome. The cluster proves itself before the token's secret is shown. May be asked again
/// with the same identity and token when the answer was lost. Cancel-safe in that sense.
pub async fn enter(
    clock: &Arc<dyn Clock>,
    token: &Token,
    request: JoinRequest,
    within: Duration,
) -> Result<JoinAnswer, EnterError> {
    let head = envelope::seal(&Ask::Join(request)).into();
    let answer = join::ask(clock, token, head, within).await?;
    match envelope::open(&answer) {
        Ok(Answer::Joined(answer)) => Ok(answer),
        Ok(Answer::Renewed(_)) => Err(EnterError::Answer("it answers something else".into())),
        Err(error) => Err(EnterError::Answer(error.to_string())),
    }
}

/// Makes `identity` the node that it was let in as. Save it then.
pub fn admit(identity: &mut Identity, answer: JoinAnswer) {
    identity.admit(answer.cluster, answer.certificate, answer.authorities);
    let known = answer.members.into_iter();
    let known = known.map(|peer| KnownPeer { id: peer.id, name: peer.name, addresses: peer.addresses });
    identity.set_peers(known.collect());
}

#[cfg(test)]
mod tests {
    use tutti_base::{NodeId, Roles, Wall};

    use super::*;
    use crate::roster::Standing;
    use crate::testing::{identity, record, voters};

    #[test]
    fn machines_knock_at_the_leader_then_at_voters_then_at_others() {
        let mut nodes: Vec<_> = (1..=DOORS_MAX as u64 + 2).map(|id| record(id, Roles::ALL)).collect();
        nodes[3].standing = Standing::Removed { since: Wall(1) };
        let mut status = voters(&[2, 5]);
        status.leader = Some(NodeId(5));
        let ports: Vec<u16> = doors(&nodes, &status).iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [5, 2, 1, 3, 6, 7, 8, 9]);
    }

    #[test]
    fn a_machine_shows_its_identity_and_the_tokens_secret() {
        let machine = identity(7, "seven");
        let token = Token::of(vec![([127, 0, 0, 1], 1).into()], b"certificate", 9, [3; 16]);
        let request = request(&machine, &token, "0.1.0").unwrap();
        assert_eq!((request.node, request.name.as_str(), request.token), (NodeId(7), "seven", 9));
        assert_eq!(
            (request.secret.as_slice(), request.sealing_key),
            (&[3; 16][..], machine.sealing_public())
        );
    }
}
