//! Waiting with an end, on the clock seam.

use std::pin::pin;

use futures_util::future::{Either, select};
use tutti_base::{Clock, Tick};

/// What `work` gives, or none when `moment` comes first. Dropped work is cancelled. Cancel-safe where `work` is.
pub(crate) async fn until<T>(clock: &dyn Clock, moment: Tick, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), clock.sleep_until(moment)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}
