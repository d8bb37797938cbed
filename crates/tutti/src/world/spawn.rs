//! Background work on the runtime.

use tokio::runtime::Handle;
use tutti_base::BoxFuture;
use tutti_flow::Spawn;

/// Spawns on one runtime.
pub(crate) struct OnRuntime(pub Handle);

impl Spawn for OnRuntime {
    fn spawn(&self, name: &'static str, work: BoxFuture<'static, ()>) {
        let span = tracing::debug_span!("background", name);
        self.0.spawn(tracing::Instrument::instrument(work, span));
    }
}
