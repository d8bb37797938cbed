//! What the administration asks of the server, and the values it shows. The binary implements [`Console`].

mod assets;
mod explain;
mod machine;
mod nodes;
mod purge;
mod status;
mod tokens;

use tutti_base::{Body, BoxFuture, Kind, Problem};
use tutti_store::Revision;

pub(crate) use assets::check_folder;
pub use assets::{Asset, AssetDone, AssetName, AssetPage, AssetQuery, UNNAMED_FOLDER};
pub use explain::{Candidate, Explanation, Step};
pub use machine::{
    CacheHoldings, CacheStats, DoctorCheck, DoctorReport, Port, PortList, UrlAnswer, UrlRequest, Verdict,
};
pub use nodes::{
    EVENTS_MAX, Event, EventPage, EventQuery, NodeAction, NodeDone, NodeOrder, PromoteCall, Promoted,
    RestoreDone,
};
pub use purge::{PurgeReport, PurgeRequest};
pub use status::{Choice, ClusterAddress, NodeStatus, ServiceStatus, Status};
pub use tokens::{NewToken, TOKEN_EXPIRES_MAX, TOKEN_EXPIRES_MIN, TokenCall, TokenInfo, TokenTerms};

/// An answer of the console, later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Problem>>;

/// The server as its administration sees it. Any node answers for the whole cluster: an implementation forwards what
/// another node must do. Every method is cancel-safe except those that change something: they are done once begun.
pub trait Console: Send + Sync {
    /// Whether the server takes requests.
    fn readiness(&self) -> Readiness;
    /// How the server and its cluster are.
    fn status(&self) -> Answer<'_, Status>;
    /// What the caches hold.
    fn cache_stats(&self) -> Answer<'_, CacheStats>;
    /// Forgets what matches. Acknowledged once nothing of it is served any more by the nodes that it names as reached.
    fn purge(&self, request: PurgeRequest) -> Answer<'_, PurgeReport>;
    /// What would happen to a request for `url` and why, without doing it.
    fn explain(&self, url: String) -> Answer<'_, Explanation>;
    /// An image URL, signed where the server has a key.
    fn url(&self, request: UrlRequest) -> Answer<'_, UrlAnswer>;
    /// Checks of this machine.
    fn doctor(&self) -> Answer<'_, DoctorReport>;
    /// What listens where.
    fn ports(&self) -> Answer<'_, PortList>;

    /// Makes a token with which one machine may join.
    fn token_create(&self, _terms: TokenTerms) -> Answer<'_, NewToken> {
        unavailable("tokens")
    }
    /// The tokens that were made and are not forgotten; never what is secret of them.
    fn tokens(&self) -> Answer<'_, Vec<TokenInfo>> {
        unavailable("tokens")
    }
    /// Makes a token worthless. `NotFound` if there is none of this id.
    fn token_revoke(&self, _id: String) -> Answer<'_, ()> {
        unavailable("tokens")
    }
    /// Drains, resumes, removes a node, or changes its roles.
    fn node(&self, _order: NodeOrder) -> Answer<'_, NodeDone> {
        unavailable("nodes")
    }
    /// Makes a node the one voter under a new epoch, where the old voter is lost. The caller has confirmed it.
    fn promote(&self, _name: String, _who: String) -> Answer<'_, Promoted> {
        unavailable("promotion")
    }
    /// The journal after a cursor. Answers at once where there is something, else waits for up to `query.wait`.
    fn events(&self, _query: EventQuery) -> Answer<'_, EventPage> {
        unavailable("the journal")
    }
    /// A page of the originals that folders hold, with the nodes that hold them.
    fn assets(&self, _query: AssetQuery) -> Answer<'_, AssetPage> {
        unavailable("the list of originals")
    }
    /// The longest original, in bytes.
    fn asset_bytes_max(&self) -> u64 {
        64 << 20
    }
    /// Writes an original. `body` ends with an error where it is over [`Self::asset_bytes_max`]; then nothing is written.
    fn asset_put(&self, _name: AssetName, _body: Body) -> Answer<'_, AssetDone> {
        unavailable("writing originals")
    }
    /// Removes an original on every node that holds it, for good. `NotFound` if no node has it.
    fn asset_remove(&self, _name: AssetName) -> Answer<'_, AssetDone> {
        unavailable("removing originals")
    }
    /// Reads of the store after this show every write that was acknowledged before.
    fn linearize(&self) -> Answer<'_, Revision> {
        unavailable("a linearizable read")
    }
    /// The small state of the cluster at one moment, without secrets.
    fn backup(&self) -> Answer<'_, Body> {
        unavailable("backup")
    }
    /// Makes a backup the state. Nothing is changed where it is damaged.
    fn restore(&self, _body: Body, _who: String) -> Answer<'_, RestoreDone> {
        unavailable("restore")
    }
}

fn unavailable<'a, T: Send + 'a>(what: &'static str) -> Answer<'a, T> {
    let problem = Problem::new(Kind::Unavailable, format!("this server does not offer {what}"));
    Box::pin(async move { Err(problem) })
}

/// Whether the server takes requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, for this reason.
    Not(String),
}
