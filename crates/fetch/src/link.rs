//! One HTTP/1.1 connection to an origin, and the task that drives it until it is dropped, closed or idle for too long.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::Empty;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tracing::Instrument;
use tutti_base::{Clock, Tick};
use tutti_telemetry::Gauge;

use crate::Config;
use crate::dial::Wire;
use crate::failure::Failure;

/// A connection is not used again after this long, so that a changed DNS answer is seen.
const LIFE: Duration = Duration::from_secs(300);
/// The most that is read from a connection ahead of who takes it, in bytes.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// One connection. Dropping it closes it.
pub(crate) struct Link {
    /// Sends requests over it, one at a time.
    pub(crate) sender: SendRequest<Empty<Bytes>>,
    /// The address that was checked and connected to.
    pub(crate) peer: IpAddr,
    /// Under which settings it was made.
    pub(crate) era: u64,
    opened: Tick,
    rest: Arc<Rest>,
    driver: JoinHandle<()>,
}

/// The place of one connection under its origin's cap: free again when the connection is really gone.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Slot {
    pub(crate) fn new(permit: OwnedSemaphorePermit, open: Gauge) -> Self {
        open.inc();
        Self { _permit: permit, open }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Since when a connection rests; [`Rest::BUSY`] while it is used.
struct Rest(AtomicU64);

impl Rest {
    const BUSY: u64 = u64::MAX;

    fn since(&self) -> Option<Tick> {
        Some(self.0.load(Ordering::Acquire)).filter(|tick| *tick != Self::BUSY).map(Tick)
    }
}

impl Link {
    /// Makes an HTTP connection of `wire`. It counts as used.
    pub(crate) async fn open(
        wire: Box<dyn Wire>,
        peer: IpAddr,
        slot: Slot,
        clock: &Arc<dyn Clock>,
        config: &Config,
        era: u64,
    ) -> Result<Self, Failure> {
        let shaken = http1::Builder::new()
            .max_buf_size(READ_AHEAD_BYTES.max(config.head_bytes))
            .max_header_size(config.head_bytes)
            .max_headers(config.head_fields)
            .handshake(TokioIo::new(wire))
            .await;
        let (sender, connection) = shaken.map_err(|error| Failure::Broken(error.to_string()))?;
        let rest = Arc::new(Rest(AtomicU64::new(Rest::BUSY)));
        let work = drive(slot, connection, rest.clone(), clock.clone(), config.idle_timeout());
        let driver = tokio::spawn(work.instrument(tracing::debug_span!("origin connection", %peer)));
        Ok(Self { sender, peer, era, opened: clock.now(), rest, driver })
    }

    /// Marks it as resting; it closes by itself when nobody wants it for long.
    pub(crate) fn rest(&self, now: Tick) {
        self.rest.0.store(now.0, Ordering::Release);
    }
    /// Marks it as used.
    pub(crate) fn wake(&self) {
        self.rest.0.store(Rest::BUSY, Ordering::Release);
    }
    /// Whether it may serve another request at `now` under the settings of `era`.
    pub(crate) fn usable(&self, now: Tick, era: u64) -> bool {
        !self.sender.is_closed() && self.era == era && now.since(self.opened) < LIFE
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Moves the bytes. The parameters' order matters: the connection is dropped, and its socket closed, before the slot.
async fn drive(
    slot: Slot,
    connection: impl Future<Output = hyper::Result<()>>,
    rest: Arc<Rest>,
    clock: Arc<dyn Clock>,
    idle_timeout: Duration,
) {
    {
        let mut connection = pin!(connection);
        loop {
            let until = rest.since().unwrap_or_else(|| clock.now()) + idle_timeout;
            match select(connection.as_mut(), clock.sleep_until(until)).await {
                Either::Left((Ok(()), _)) => break,
                Either::Left((Err(error), _)) => {
                    tracing::debug!(%error, "an origin's connection broke");
                    break;
                }
                Either::Right(_) if rest.since().is_some_and(|since| clock.now() >= since + idle_timeout) => {
                    break;
                }
                Either::Right(_) => {}
            }
        }
    }
    drop(slot);
}
