//! A clock that moves only when a test moves it, so that no test waits for a time.

use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::watch;
use tutti_base::{BoxFuture, Clock, Tick, Wall};

/// The most steps that the clock is moved for one piece of work.
const STEPS_MAX: usize = 5_000;

pub(crate) struct HandClock(watch::Sender<u64>);

impl HandClock {
    pub(crate) fn start() -> Self {
        Self(watch::Sender::new(1_000_000_000))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now += by.as_nanos() as u64);
    }

    /// Runs `work` while the clock moves by `step` whenever the work has nothing else to do for a moment.
    pub(crate) async fn hurry<T>(&self, step: Duration, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        for _ in 0..STEPS_MAX {
            let moment = std::pin::pin!(tokio::time::sleep(Duration::from_millis(2)));
            match select(work.as_mut(), moment).await {
                Either::Left((value, _)) => return value,
                Either::Right(_) => self.advance(step),
            }
        }
        panic!("the work did not end within {STEPS_MAX} steps of {step:?}");
    }
}

impl Clock for HandClock {
    fn now(&self) -> Tick {
        Tick(*self.0.borrow())
    }
    fn wall(&self) -> Wall {
        Wall(1_795_521_600_000 + *self.0.borrow() / 1_000_000)
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| *now >= until.0).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
