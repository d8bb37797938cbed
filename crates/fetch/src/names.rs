//! Resolving host names: one bounded look-up a connection, whose answer is then checked and connected to.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tutti_base::BoxFuture;

/// The most look-ups at once. Each holds a thread until the resolver answers, even when nobody waits for it any more.
pub const LOOKUPS_AT_ONCE: usize = 32;
/// The most addresses of one name that are looked at.
pub const ADDRESSES_MAX: usize = 16;

/// Resolves host names.
pub trait Names: Send + Sync {
    /// The addresses of `name`, best first, at most [`ADDRESSES_MAX`]. Cancel-safe.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The machine's own resolver (getaddrinfo: hosts file, DNS and what else is set up there).
pub struct SystemNames {
    slots: Arc<Semaphore>,
}

impl Default for SystemNames {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)) }
    }
}

impl Names for SystemNames {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let slot = self.slots.clone().acquire_owned().await.map_err(io::Error::other)?;
            let name = name.to_owned();
            // In a task of its own: its thread cannot be taken back, so the slot goes back when the thread is free.
            let lookup = tokio::spawn(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await;
                drop(slot);
                found.map(|found| found.map(|address| address.ip()).take(ADDRESSES_MAX).collect())
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn look_ups_that_nobody_waits_for_keep_their_slot_until_they_end() {
        let names = SystemNames::default();
        let held = names.slots.clone().acquire_many_owned(LOOKUPS_AT_ONCE as u32).await.unwrap();
        let mut waiting = names.resolve("localhost");
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        let addresses = waiting.await.unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback) && !addresses.is_empty(), "{addresses:?}");
    }
}
