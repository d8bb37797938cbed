//! Tokens, nodes, promotion, the journal and backups, as people ask for them on any node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tutti_admin::console::{
    NewToken, NodeAction, NodeDone, NodeOrder, Promoted, RestoreDone, TokenInfo, TokenTerms,
};
use tutti_base::{Body, BodyError, Kind, Problem, Roles, StreamBody};
use tutti_cluster::Token;
use tutti_control::NodeRecord;
use tutti_control::leaving::Force;
use tutti_store::replicated::Sealed;

use crate::build::{House, Member};

/// The longest backup that is taken in.
const BACKUP_BYTES_MAX: usize = 512 << 20;

/// Makes a token that names the nodes which can be reached.
pub(super) async fn token_create(member: &Member, terms: TokenTerms) -> Result<NewToken, Problem> {
    let minted = member.tokens.create(terms.roles, terms.expires).await?;
    let mut addresses = terms.addresses;
    if addresses.is_empty() {
        addresses = tutti_control::entry::doors(&member.roster.nodes(), &member.quorum.status());
    }
    addresses.truncate(tutti_control::entry::DOORS_MAX);
    let cluster = member.roster.cluster()?;
    let authority = cluster.authorities.first().ok_or_else(|| internal("the cluster has no authority"))?;
    let token = Token::of(addresses, authority, minted.record.id, *minted.secret);
    let line = token.line().map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))?;
    member
        .journal
        .note(format!("the token {:016x} was made", minted.record.id), format!("asked for by {}", terms.who));
    Ok(NewToken::new(format!("{:016x}", minted.record.id), line.to_string(), minted.record.expires))
}

/// The tokens, without what is secret of them.
pub(super) fn tokens(house: &House) -> Result<Vec<TokenInfo>, Problem> {
    let now = house.clock.wall();
    let member = &house.member;
    let name = |id| {
        let nodes = member.roster.nodes();
        nodes.iter().find(|node| node.id == id).map_or_else(|| id.to_string(), |node| node.name.clone())
    };
    let info = |token: tutti_control::TokenRecord| TokenInfo {
        id: format!("{:016x}", token.id),
        roles: token.roles.words().map(Into::into).collect(),
        created: token.created,
        expires: token.expires,
        state: token.word(now).into(),
        used_by: token.used_by.map(|used| name(used.node)),
    };
    Ok(member.tokens.list()?.into_iter().map(info).collect())
}

/// Makes a token worthless.
pub(super) async fn token_revoke(member: &Member, id: String) -> Result<(), Problem> {
    let number = u64::from_str_radix(&id, 16)
        .map_err(|_| Problem::new(Kind::NotFound, format!("`{id}` is not the id of a token")))?;
    member.tokens.revoke(number).await?;
    member.journal.note(format!("the token {id} was revoked"), "");
    Ok(())
}

/// Drains, resumes, removes a node, or changes its roles.
pub(super) async fn node(member: &Member, order: NodeOrder) -> Result<NodeDone, Problem> {
    let NodeOrder { name, action, who } = order;
    let by_id = name.parse().ok().and_then(|id| member.roster.get(id).ok().flatten()).map(|node| node.name);
    let name = by_id.unwrap_or(name);
    let (text, rotate) = match action {
        NodeAction::Drain { why } => {
            let why = if why.is_empty() { format!("asked for by {who}") } else { why };
            member.leaving.drain(&name, &why).await?;
            (format!("`{name}` finishes what it has and takes nothing new"), Vec::new())
        }
        NodeAction::Resume {} => {
            member.leaving.resume(&name, &format!("asked for by {who}")).await?;
            (format!("`{name}` takes work again"), Vec::new())
        }
        NodeAction::Remove { force } => {
            let force = if force { Force::Yes } else { Force::No };
            let removal = member.leaving.remove(&name, force, &format!("asked for by {who}")).await?;
            (format!("`{name}` was removed; its certificate is refused from now on"), removal.rotate)
        }
        NodeAction::Roles { roles } => {
            let roles =
                roles.join(",").parse().map_err(|error: String| Problem::new(Kind::BadRequest, error))?;
            member.roster.set_roles(&name, roles).await?;
            member.journal.note(format!("`{name}` has the roles {roles}"), format!("asked for by {who}"));
            (format!("`{name}` has the roles {roles}"), Vec::new())
        }
    };
    Ok(NodeDone { name, text, rotate })
}

/// Makes this node the one voter: once it has begun it goes on, even where the one who asked has gone. Refused under another
/// node's name, without the role voter, whose word the others would not believe, and while a majority of the voters answers.
pub(super) async fn promote_here(member: &Member, name: String, who: String) -> Result<Promoted, Problem> {
    let mine = member.roster.get(member.quorum.status().me)?;
    may_promote(mine.as_ref(), &name)?;
    let (store, journal, promoted) = (Arc::clone(&member.store), member.journal.clone(), name.clone());
    let promoting = tokio::spawn(async move {
        store.promote_alone().await?;
        let epoch = store.status().borrow().epoch;
        journal.note(
            format!("`{promoted}` is the one voter, under epoch {epoch}"),
            format!("asked for by {who}"),
        );
        Ok::<_, tutti_store::StoreError>(epoch)
    });
    let epoch = promoting.await.map_err(|error| internal("the promotion broke off").because(error))??;
    let text = format!(
        "`{name}` is the one voter now, under epoch {epoch}. The old voter is refused; should it return, it lists what \
         it wrote since in `{}` in its data directory and joins as a learner. Nothing of that is merged.",
        // Named after the epoch in which the old voter still believes.
        tutti_store::replicated::late_file(epoch.saturating_sub(1))
    );
    Ok(Promoted { name, epoch, text })
}

/// Whether the node of the record `mine` may be made the one voter as `name`.
fn may_promote(mine: Option<&NodeRecord>, name: &str) -> Result<(), Problem> {
    let mine = mine.filter(|node| node.name == name && node.standing.stays());
    let Some(mine) = mine else {
        return Err(Problem::new(
            Kind::Conflict,
            format!("this node is not `{name}`, or is being removed; `tutti nodes` lists them"),
        ));
    };
    if mine.roles.has(Roles::VOTER) {
        return Ok(());
    }
    let detail = format!(
        "`{name}` has the roles {}; only a node with the role voter can be made the one voter",
        mine.roles
    );
    Err(Problem::new(Kind::Unprocessable, detail))
}

/// Notes every change of a member's state in the journal, for ever.
pub(crate) async fn note_members(house: Arc<House>) {
    let mut changes = house.member.nodes.events();
    loop {
        match changes.recv().await {
            Ok(change) => {
                let nodes = house.member.roster.nodes();
                let name = nodes.iter().find(|node| node.id == change.node);
                let name = name.map_or_else(|| change.node.to_string(), |node| node.name.clone());
                let word =
                    |state: Option<tutti_base::NodeState>| state.map_or("no member", |state| state.word());
                let what = format!("node `{name}` is {}, was {}", word(change.to), word(change.from));
                house.member.journal.note(what, change.why.words());
            }
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// The small state at one moment, without secrets.
pub(super) async fn backup(member: &Member) -> Result<Body, Problem> {
    let (to, pieces) = tokio::sync::mpsc::channel::<Bytes>(8);
    let store = Arc::clone(&member.store);
    let writing = tokio::spawn(async move { store.backup(Box::new(Pieces(to)), Sealed::LeftOut).await });
    let pieces =
        futures_util::stream::unfold((pieces, Some(writing)), |(mut pieces, mut writing)| async move {
            if let Some(piece) = pieces.recv().await {
                return Some((Ok(piece), (pieces, writing)));
            }
            let outcome = match writing.take()?.await {
                Ok(Ok(_)) => return None,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            Some((Err(BodyError::Broken(outcome)), (pieces, None)))
        });
    Ok(Body::Stream(StreamBody { len: None, hash: None, chunks: Box::pin(pieces) }))
}

/// Hands what is written to it on in pieces.
struct Pieces(tokio::sync::mpsc::Sender<Bytes>);

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone =
            |_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, "nobody takes the backup any more");
        self.0.blocking_send(Bytes::copy_from_slice(bytes)).map_err(gone)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Makes a backup the state.
pub(super) async fn restore(member: &Member, body: Body, who: String) -> Result<RestoreDone, Problem> {
    let bytes = all_of(body).await?;
    let mut from = VecDeque::from(Vec::from(bytes));
    let restored = member.store.restore(&mut from).await?;
    let text = format!(
        "the state is that of revision {} of the backup: {} values written, {} removed; who belongs to the cluster, its tokens \
         and secrets stay as they were",
        restored.of, restored.written, restored.removed
    );
    member.journal.note("a backup was restored", format!("asked for by {who}"));
    let revision = tutti_store::Store::revision(&*member.store).0;
    Ok(RestoreDone { entries: restored.written as u64, revision, text })
}

async fn all_of(body: Body) -> Result<Bytes, Problem> {
    let too_long = || {
        let detail = format!("a backup has at most {BACKUP_BYTES_MAX} bytes");
        Problem::new(Kind::Unprocessable, detail).about("backup_bytes")
    };
    match body {
        Body::Whole(bytes) => Ok(bytes),
        Body::File(_) => Err(internal("a backup came as a file")),
        Body::Stream(mut stream) => {
            let mut all = Vec::new();
            while let Some(piece) = stream.chunks.next().await {
                let piece = piece.map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))?;
                all.extend_from_slice(&piece);
                if all.len() > BACKUP_BYTES_MAX {
                    return Err(too_long());
                }
            }
            Ok(all.into())
        }
    }
}

fn internal(detail: &'static str) -> Problem {
    Problem::new(Kind::Internal, detail)
}

/// Acknowledged writes are shown by reads after this.
pub(super) async fn linearize(member: &Member) -> Result<tutti_store::Revision, Problem> {
    let within = Duration::from_secs(5);
    let late = || {
        Problem::new(Kind::Unavailable, "no leader confirmed the read in time; read without --linearizable")
    };
    tokio::time::timeout(within, member.store.linearize()).await.map_err(|_| late())?.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use tutti_base::{NodeId, Wall};
    use tutti_control::Standing;

    use super::*;

    fn record(name: &str, roles: Roles, standing: Standing) -> NodeRecord {
        NodeRecord {
            id: NodeId(1),
            name: name.into(),
            roles,
            addresses: Vec::new(),
            sealing_key: [0; 32],
            standing,
            joined: Wall(0),
            labels: Default::default(),
        }
    }

    #[test]
    fn a_node_is_promoted_under_its_own_name_and_with_the_role_voter_alone() {
        let may = |roles, standing, name| {
            may_promote(Some(&record("two", roles, standing)), name).map_err(|problem| problem.kind)
        };
        assert_eq!(may(Roles::ALL, Standing::Active, "two"), Ok(()));
        assert_eq!(may(Roles::ALL, Standing::Active, "three"), Err(Kind::Conflict));
        assert_eq!(may(Roles::WORKER, Standing::Active, "two"), Err(Kind::Unprocessable));
        assert_eq!(may(Roles::ALL, Standing::Removed { since: Wall(1) }, "two"), Err(Kind::Conflict));
        assert!(may_promote(None, "two").is_err());
    }
}
