//! A cap on how many things exist at once, which may change while they do.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out at most so many permits at once, in the order of asking.
pub(crate) struct Cap {
    permits: Arc<Semaphore>,
    size: Mutex<Size>,
}

struct Size {
    /// Permits that exist, in hands or not.
    granted: usize,
    /// Permits that should exist.
    wanted: usize,
}

impl Cap {
    pub(crate) fn new(wanted: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(wanted)), size: Mutex::new(Size { granted: wanted, wanted }) }
    }

    /// Changes the cap. Permits in hands beyond a smaller one stay valid; they are not handed out again.
    pub(crate) fn resize(&self, wanted: usize) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        size.wanted = wanted;
        if wanted > size.granted {
            self.permits.add_permits(wanted - size.granted);
            size.granted = wanted;
        } else {
            size.granted -= self.permits.forget_permits(size.granted - wanted);
        }
    }

    /// A permit, at once or not at all.
    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            let permit = self.permits.clone().try_acquire_owned().ok()?;
            match self.keep(permit) {
                Some(permit) => return Some(permit),
                None => continue,
            }
        }
    }

    /// A permit, when there is one. Cancel-safe: a dropped wait only loses its place.
    pub(crate) async fn acquire(&self) -> OwnedSemaphorePermit {
        loop {
            let permit = self.permits.clone().acquire_owned().await.expect("this semaphore is never closed");
            if let Some(permit) = self.keep(permit) {
                return permit;
            }
        }
    }

    /// Destroys the permit when there are more than wanted.
    fn keep(&self, permit: OwnedSemaphorePermit) -> Option<OwnedSemaphorePermit> {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if size.granted <= size.wanted {
            return Some(permit);
        }
        size.granted -= 1;
        permit.forget();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_cap_holds_once_permits_come_back() {
        let cap = Cap::new(3);
        let mut held: Vec<_> = std::iter::from_fn(|| cap.try_acquire()).collect();
        assert_eq!(held.len(), 3);
        cap.resize(1);
        held.pop();
        assert!(cap.try_acquire().is_none(), "two are still out");
        held.clear();
        let held: Vec<_> = std::iter::from_fn(|| cap.try_acquire()).collect();
        assert_eq!(held.len(), 1);
        cap.resize(4);
        assert_eq!(std::iter::from_fn(|| cap.try_acquire()).collect::<Vec<_>>().len(), 3);
    }
}
