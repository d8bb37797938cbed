//! Words and the world: ids, time, context, errors, bodies and the seams to the outside. Decides nothing, touches nothing.

pub mod body;
pub mod clock;
pub mod context;
pub mod disk;
pub mod envelope;
pub mod html;
pub mod http;
pub mod id;
pub mod net;
pub mod node;
pub mod problem;
pub mod rng;
pub mod source;

pub use body::{Body, BodyError, FileBody, KeptBody, StreamBody};
pub use clock::{Clock, Tick, Wall};
pub use context::{Context, Deadline, RequestId};
pub use id::{ContentHash, RequestKey, ResultKey, SourceKey, TenantId};
pub use net::{Call, CallError, Lane, Peers, Reply, Serve, Topic};
pub use node::{Evidence, Load, Member, NodeId, NodeState, Nodes, Report, Roles, View};
pub use problem::{Fault, Kind, Problem};
pub use source::Source;

/// A boxed future, the shape of every asynchronous method on a seam.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
