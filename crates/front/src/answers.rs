//! What the front needs of the journey: plans, hits, answers. Implemented by the flow, and by fakes in tests.

use std::sync::Arc;

use tutti_base::{BoxFuture, Context, Problem, Wall};
use tutti_cache::Entry;
use tutti_flow::{Answer, Flow, Memo, Planned};
use tutti_service::registry::ServiceId;
use tutti_service::{Head, Registry};

/// Gives answers. Static dispatch keeps the path of a hit in one piece.
pub trait Answers: Clone + Send + Sync + 'static {
    /// What one front thread remembers.
    type Memo: 'static;

    /// A memory of at most `entries` plans, for one thread.
    fn memo(&self, entries: usize) -> Self::Memo;
    /// The services.
    fn registry(&self) -> &Registry;
    /// The plan of a request, made now or remembered. Never blocks.
    fn plan(
        &self,
        memo: &mut Self::Memo,
        service: ServiceId,
        head: &Head<'_>,
    ) -> Result<Arc<Planned>, Problem>;
    /// The fresh resident answer, if there is one. Never blocks.
    fn resident(&self, planned: &Planned, now: Wall) -> Option<Arc<Entry>>;
    /// The answer, whatever it takes. Cancel-safe.
    fn answer(&self, planned: Arc<Planned>, context: Context) -> BoxFuture<'static, Answer>;
}

impl Answers for Arc<Flow> {
    type Memo = Memo;

    fn memo(&self, entries: usize) -> Memo {
        Memo::new(entries)
    }
    fn registry(&self) -> &Registry {
        Flow::registry(self)
    }
    fn plan(&self, memo: &mut Memo, service: ServiceId, head: &Head<'_>) -> Result<Arc<Planned>, Problem> {
        memo.plan(self, service, head)
    }
    fn resident(&self, planned: &Planned, now: Wall) -> Option<Arc<Entry>> {
        Flow::resident(self, planned, now)
    }
    fn answer(&self, planned: Arc<Planned>, context: Context) -> BoxFuture<'static, Answer> {
        Flow::answer(self, planned, context)
    }
}
