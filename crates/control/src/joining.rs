//! Answers machines that want in and nodes that want a new certificate. Who proves a token gets a record and a certificate,
//! in one transaction; who cannot sign here asks a voter.

pub mod messages;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tutti_base::{
    BoxFuture, Call, CallError, Clock, Kind, Lane, NodeId, NodeState, Nodes, Peers, Problem, Reply, Roles,
    Serve, Topic, Wall, envelope,
};
use tutti_cluster::authority::AuthorityError;
use tutti_cluster::identity::key_of_request;
use tutti_cluster::{Authority, Certificate};
use tutti_store::{Secret, SecretError, Secrets};

use crate::counts::Counts;
use crate::journal::Journal;
use crate::quorum::Quorum;
use crate::readers::AUTHORITY;
use crate::roster::{Also, NodeRecord, Roster, RosterError, Standing, find};
use crate::tokens::{TokenError, Tokens};

pub use messages::{Answer, Ask, JoinAnswer, JoinRequest, Member, PROTOCOL, Renewed};

/// The most asks that are answered at once; one more is refused.
pub const ASKS_MAX: usize = 32;
/// The longest ask, in bytes.
pub const ASK_MAX: usize = 64 << 10;
/// The longest certificate request, in bytes.
pub const REQUEST_MAX: usize = 16 << 10;
/// The most that one voter may take to answer what another node could not.
pub const VOTER_WITHIN: Duration = Duration::from_secs(3);

/// Why a machine is not let in, or a node gets no certificate.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum JoinError {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The name, or another part of the record.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The secrets.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate request.
    #[error("the certificate request is refused: {0}")]
    Certificate(String),
    /// The builds are too far apart.
    #[error(
        "this cluster speaks version {PROTOCOL} between nodes, the machine speaks {0}; install the same release on both"
    )]
    Protocol(u16),
    /// The node whose name is to be taken over lives.
    #[error(
        "node `{0}` still answers, so that its name cannot be taken over; stop it first, or join under another name"
    )]
    Alive(String),
    /// The name to take over is not the name to join under.
    #[error(
        "to take over `{replace}` the machine must be named so; it is named `{name}`: use `--name {replace} --replace {replace}`"
    )]
    OtherName {
        /// The name to take over.
        replace: String,
        /// The name that it gave.
        name: String,
    },
    /// The id is in use.
    #[error(
        "the id {0} belongs to another node or did once; remove the machine's `node.identity` and start it again"
    )]
    IdTaken(NodeId),
    /// The asker is not known.
    #[error("node {0} does not belong to this cluster; join it with a new token")]
    Stranger(NodeId),
    /// No voter answers.
    #[error("no voter of the cluster could be asked ({0}); try again when one is up")]
    NoVoter(String),
    /// A voter refused.
    #[error("{0}")]
    Refused(Box<Problem>),
}

impl From<JoinError> for Problem {
    fn from(error: JoinError) -> Self {
        let kind = match error {
            JoinError::Token(token) => return token.into(),
            JoinError::Roster(roster) => return roster.into(),
            JoinError::Secret(secret) => return secret.into(),
            JoinError::Refused(problem) => return *problem,
            JoinError::Certificate(_) | JoinError::Protocol(_) | JoinError::OtherName { .. } => {
                Kind::BadRequest
            }
            JoinError::Alive(_) | JoinError::IdTaken(_) => Kind::Conflict,
            JoinError::Stranger(_) => Kind::Forbidden,
            JoinError::NoVoter(_) => Kind::Unavailable,
        };
        Problem::new(kind, error.to_string())
    }
}

/// What joining acts on.
pub struct Outside {
    /// Who belongs to the cluster.
    pub roster: Arc<Roster>,
    /// What lets machines in.
    pub tokens: Tokens,
    /// Where the authority's key is.
    pub secrets: Secrets,
    /// Who votes.
    pub quorum: Arc<dyn Quorum>,
    /// Who answers.
    pub nodes: Arc<dyn Nodes>,
    /// The other nodes.
    pub peers: Arc<dyn Peers>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it is told.
    pub journal: Journal,
}

/// Joining and renewal, on every node. Share it in an `Arc`.
pub struct Joining {
    outside: Outside,
    counts: Counts,
    places: Arc<Semaphore>,
}

impl Joining {
    /// Joining over these.
    pub fn new(outside: Outside, counts: Counts) -> Arc<Self> {
        Arc::new(Self { outside, counts, places: Arc::new(Semaphore::new(ASKS_MAX)) })
    }

    /// Answers [`Topic::ROSTER`].
    pub fn service(self: &Arc<Self>) -> Arc<dyn Serve> {
        Arc::new(Service(Arc::clone(self)))
    }

    /// A new certificate for this node: signed here if it can, else by a voter. For the half-life of the old one.
    /// Cancel-safe.
    pub async fn renew(&self, request: Vec<u8>) -> Result<Renewed, JoinError> {
        let me = self.outside.quorum.status().me;
        if let Some(authority) = self.authority()? {
            return self.renew_for(me, &request, &authority);
        }
        match self.ask_a_voter(&Ask::Renew { request }).await? {
            Answer::Renewed(renewed) => Ok(renewed),
            Answer::Joined(_) => Err(JoinError::NoVoter("it answered something else".into())),
        }
    }

    async fn answer(&self, from: NodeId, ask: Ask) -> Result<Answer, JoinError> {
        let authority = self.authority()?;
        match (ask, authority) {
            (Ask::Join(ask), Some(authority)) => self.admit(&ask, &authority).await.map(Answer::Joined),
            // A token proves itself, so that it may be passed on; once, so that nobody passes it round.
            (Ask::Join(ask), None) if from == NodeId(0) => self.ask_a_voter(&Ask::Join(ask)).await,
            (Ask::Renew { request }, Some(authority)) => {
                self.renew_for(from, &request, &authority).map(Answer::Renewed)
            }
            // Only the link proves who asks for a renewal: another node's word for it would not.
            (Ask::Join(_) | Ask::Renew { .. }, None) => {
                Err(JoinError::NoVoter("this one does not hold the authority's key".into()))
            }
        }
    }

    /// The authority's key, where this node holds it.
    fn authority(&self) -> Result<Option<Secret>, JoinError> {
        match self.outside.secrets.get(AUTHORITY) {
            Ok(secret) => Ok(Some(secret)),
            Err(SecretError::NotForMe(_) | SecretError::Unknown(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the leader, then the other voters.
    async fn ask_a_voter(&self, ask: &Ask) -> Result<Answer, JoinError> {
        let status = self.outside.quorum.status();
        let rest = status.voters.iter().copied().filter(|id| Some(*id) != status.leader);
        let mut last = "none is known".to_owned();
        for voter in status.leader.into_iter().chain(rest).filter(|id| *id != status.me) {
            let call = Call {
                topic: Topic::ROSTER,
                lane: Lane::Control,
                head: envelope::seal(ask).into(),
                body: bytes::Bytes::new(),
                within: VOTER_WITHIN,
            };
            match self.outside.peers.call(voter, call).await {
                Ok(reply) => match envelope::open(&reply.head) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = error.to_string(),
                },
                Err(CallError::Refused(_, problem)) if problem.kind != Kind::Unavailable => {
                    return Err(JoinError::Refused(problem));
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(JoinError::NoVoter(last))
    }

    fn renew_for(&self, node: NodeId, request: &[u8], authority: &Secret) -> Result<Renewed, JoinError> {
        let found = self.outside.roster.get(node)?.ok_or(JoinError::Stranger(node))?;
        if found.standing.is_removed() {
            return Err(RosterError::Removed(found.name).into());
        }
        let certificate = self.sign(authority, request, node, &found.name)?;
        Ok(Renewed { certificate, authorities: self.outside.roster.cluster()?.authorities })
    }

    fn sign(
        &self,
        authority: &Secret,
        request: &[u8],
        node: NodeId,
        name: &str,
    ) -> Result<Certificate, JoinError> {
        if request.len() > REQUEST_MAX {
            return Err(JoinError::Certificate(format!("it is longer than {REQUEST_MAX} bytes")));
        }
        let refused = |error: AuthorityError| JoinError::Certificate(error.to_string());
        let authority = Authority::from_secret(authority.expose()).map_err(refused)?;
        authority.sign(request, node, name, self.outside.clock.wall()).map_err(refused)
    }

    /// Lets a machine in.
    async fn admit(&self, ask: &JoinRequest, authority: &Secret) -> Result<JoinAnswer, JoinError> {
        if ask.protocol.abs_diff(PROTOCOL) > 1 {
            return Err(JoinError::Protocol(ask.protocol));
        }
        let token = self.outside.tokens.proven(ask.token, &ask.secret)?;
        // Signed before anything is written: a request that cannot be signed must not spend the token.
        let certificate = self.sign(authority, &ask.request, ask.node, &ask.name)?;
        let key = key_of_request(&ask.request).map_err(|error| JoinError::Certificate(error.to_string()))?;
        // All else that a node is known by is public: only its key shows that it is the one that was let in.
        let was_let_in = token.has_let_in(ask.node, &key, self.outside.clock.wall());
        let is_again = was_let_in && self.is_in(ask)?;
        if !is_again {
            self.write(ask, ask.roles.unwrap_or(token.roles), key).await?;
            let why = format!("it showed the token {:016x}; it runs {}", ask.token, ask.version);
            self.outside.journal.note(format!("node `{}` joined the cluster", ask.name), why);
            self.reseal().await;
        }
        self.welcome(ask.node, certificate)
    }

    /// Whether the machine was let in already and only did not hear of it.
    fn is_in(&self, ask: &JoinRequest) -> Result<bool, JoinError> {
        let found = self.outside.roster.get(ask.node)?;
        Ok(found.is_some_and(|node| {
            !node.standing.is_removed() && node.name == ask.name && node.sealing_key == ask.sealing_key
        }))
    }

    /// The new record, the old one that it takes over from, and the spent token: all or nothing.
    async fn write(&self, ask: &JoinRequest, roles: Roles, key: [u8; 32]) -> Result<(), JoinError> {
        let now = self.outside.clock.wall();
        let edit = |nodes: &mut Vec<NodeRecord>| {
            let by = (ask.node, key);
            let (check, op) = self.outside.tokens.spend(ask.token, &ask.secret, roles, by)?;
            if nodes.iter().any(|node| node.id == ask.node) {
                return Err(JoinError::IdTaken(ask.node));
            }
            if let Some(replace) = &ask.replace {
                self.take_over(nodes, replace, &ask.name, now)?;
            }
            nodes.push(NodeRecord {
                id: ask.node,
                name: ask.name.clone(),
                roles,
                addresses: ask.addresses.clone(),
                sealing_key: ask.sealing_key,
                standing: Standing::Active,
                joined: now,
                labels: ask.labels.clone(),
            });
            Ok(Also { checks: vec![check], ops: vec![op] })
        };
        self.outside.roster.edit(edit).await.map(|_| ())
    }

    /// A rebuilt machine takes the name of a node that is down: that one becomes a removed one. Where it was removed
    /// already there is nothing to do.
    fn take_over(
        &self,
        nodes: &mut [NodeRecord],
        replace: &str,
        name: &str,
        since: Wall,
    ) -> Result<(), JoinError> {
        if replace != name {
            return Err(JoinError::OtherName { replace: replace.into(), name: name.into() });
        }
        let id = match find(nodes, replace) {
            Ok(found) => found.id,
            Err(RosterError::Removed(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let view = self.outside.nodes.view();
        let is_down = view.get(id).is_none_or(|member| member.state == NodeState::Down);
        if id == view.me || !is_down {
            return Err(JoinError::Alive(replace.into()));
        }
        for node in nodes.iter_mut().filter(|node| node.id == id) {
            node.standing = Standing::Removed { since };
        }
        Ok(())
    }

    /// So that the new node can serve at once. What fails here is done by `resealing`.
    async fn reseal(&self) {
        if let Err(error) = self.outside.secrets.reseal().await {
            tracing::warn!(%error, "the secrets are not sealed to the new node yet; it is tried again");
        }
    }

    fn welcome(&self, node: NodeId, certificate: Certificate) -> Result<JoinAnswer, JoinError> {
        let cluster = self.outside.roster.cluster()?;
        let nodes = self.outside.roster.list()?;
        let there = nodes.into_iter().filter(|other| !other.standing.is_removed() && other.id != node);
        let member =
            |other: NodeRecord| Member { id: other.id, name: other.name, addresses: other.addresses };
        let members = there.map(member).collect();
        Ok(JoinAnswer { cluster: cluster.id, node, certificate, authorities: cluster.authorities, members })
    }
}

struct Service(Arc<Joining>);

impl Serve for Service {
    fn serve(&self, from: NodeId, call: Call) -> BoxFuture<'static, Result<Reply, Problem>> {
        let joining = Arc::clone(&self.0);
        Box::pin(async move {
            let full = || {
                Problem::new(
                    Kind::Overloaded,
                    format!("{ASKS_MAX} machines are asking already; try again in a moment"),
                )
                .retry_after(Duration::from_secs(1))
            };
            let _place = joining.places.clone().try_acquire_owned().map_err(|_| full())?;
            let ask = read(&call)?;
            let _asking = Asking::begin(&joining.counts);
            let answer = joining.answer(from, ask).await.map_err(Problem::from);
            joining.counts.ask(answer.as_ref().map_or_else(|problem| problem.kind.word(), |_| "done"));
            answer.map(|answer| Reply::of(envelope::seal(&answer)))
        })
    }
}

/// An ask that is being answered, until it is dropped.
struct Asking(Counts);

impl Asking {
    fn begin(counts: &Counts) -> Self {
        counts.asking.inc();
        Self(counts.clone())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking.dec();
    }
}

fn read(call: &Call) -> Result<Ask, Problem> {
    if call.head.len() > ASK_MAX {
        return Err(Problem::new(Kind::BadRequest, format!("an ask has {ASK_MAX} bytes at most")));
    }
    envelope::open(&call.head).map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))
}
