//! The journey itself.

use std::sync::Arc;

use tutti_base::{BoxFuture, Context, Problem, Wall};
use tutti_cache::Entry;
use tutti_service::registry::ServiceId;
use tutti_service::{Head, Registry};

use crate::{Answer, Planned};

/// Carries requests from their plan to their answer.
pub struct Flow {
    registry: Registry,
}

impl Flow {
    /// The services it knows.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Plans a request, without the memo.
    pub fn plan(&self, _service: ServiceId, _head: &Head<'_>) -> Result<Arc<Planned>, Problem> {
        Err(Problem::new(tutti_base::Kind::Internal, "not built yet"))
    }

    /// The fresh resident answer to `planned`, if there is one: the path of a hit. Never blocks. The URL's own expiry
    /// and all purges have been checked.
    pub fn resident(&self, _planned: &Planned, _now: Wall) -> Option<Arc<Entry>> {
        None
    }

    /// Answers `planned`, whatever it takes. The work goes on for other waiters, and to warm the cache where it is
    /// nearly done, when this future is dropped.
    pub fn answer(self: &Arc<Self>, _planned: Arc<Planned>, _context: Context) -> BoxFuture<'static, Answer> {
        let problem = Problem::new(tutti_base::Kind::Internal, "not built yet");
        Box::pin(async { Answer::Problem(problem, crate::CacheNote::Bypass, crate::Timing::default()) })
    }
}
