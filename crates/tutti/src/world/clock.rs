//! The machine's clock, with sleeping on the runtime.

use tutti_base::clock::MachineTime;
use tutti_base::{BoxFuture, Clock, Tick, Wall};

/// The machine's clocks.
pub(crate) struct MachineClock(MachineTime);

impl MachineClock {
    /// Starts the monotonic count now.
    pub(crate) fn start() -> Self {
        Self(MachineTime::start())
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Tick {
        self.0.now()
    }
    fn wall(&self) -> Wall {
        self.0.wall()
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.0.instant(until).into()))
    }
}
