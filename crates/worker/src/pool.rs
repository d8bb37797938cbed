//! The engines of one service: taken for one job, given back, replaced when they are worn or another tenant's.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tutti_base::{Clock, TenantId};
use tutti_process::{CallError, Engine, EngineSpec, Identity, RestartPolicy, Restarts, SandboxReport, Wear};

use crate::count::{Counts, End};

/// How many user ids engines are given in turn: far more than there are engines.
const UIDS: u32 = 1000;

/// The engines of one service.
pub(crate) struct Pool {
    pub(crate) service: &'static str,
    pub(crate) spec: EngineSpec,
    pub(crate) counts: Counts,
    clock: Arc<dyn Clock>,
    uid_first: Option<u32>,
    started: AtomicU32,
    most: usize,
    taken: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
    failures: Mutex<Restarts>,
}

/// An engine that waits for a job. None has served it yet, or this tenant and no other.
struct Idle {
    engine: Engine,
    tenant: Option<TenantId>,
}

/// Which engine will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// One that has served this tenant, or nobody.
    Any,
    /// One that has served nobody: for the second try of a job that killed its first.
    Unused,
}

/// Why there is no engine.
#[derive(Debug)]
pub(crate) struct NoEngine {
    pub(crate) reason: String,
    pub(crate) wait: Duration,
}

impl Pool {
    pub(crate) fn new(
        service: &'static str,
        spec: EngineSpec,
        uid_first: Option<u32>,
        most: usize,
        counts: Counts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            service,
            spec,
            counts,
            clock,
            uid_first,
            started: AtomicU32::new(0),
            most,
            taken: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            failures: Mutex::new(Restarts::new(RestartPolicy::default())),
        }
    }

    /// An engine that has served nobody but `tenant`: the one used last, so that the others grow cold and are swapped
    /// or replaced; else one that has served nobody; else a new one. Cancel-safe.
    pub(crate) async fn take(self: &Arc<Self>, tenant: &TenantId, which: Which) -> Result<Lease, NoEngine> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let mut lease = Lease { pool: self.clone(), tenant: tenant.clone(), engine: None, end: None };
        lease.engine = match self.take_idle(tenant, which) {
            Some(engine) => Some(engine),
            None => Some(self.start().await?),
        };
        Ok(lease)
    }

    /// Starts engines until `count` wait, at least one; which layers hold them.
    pub(crate) async fn warm(&self, count: usize) -> Result<SandboxReport, NoEngine> {
        loop {
            let (waiting, report) = {
                let idle = self.idle();
                (idle.len(), idle.last().map(|idle| idle.engine.report().clone()))
            };
            if let Some(report) = report
                && waiting >= count.min(self.most)
            {
                return Ok(report);
            }
            let engine = self.start().await?;
            self.idle().push(Idle { engine, tenant: None });
        }
    }

    fn take_idle(&self, tenant: &TenantId, which: Which) -> Option<Engine> {
        let mut idle = self.idle();
        idle.retain(|idle| {
            let ended = idle.engine.has_ended();
            if ended {
                self.counts.ended(End::Crash, idle.engine.rss_bytes());
            }
            !ended
        });
        let tenants: Vec<_> = idle.iter().map(|idle| idle.tenant.as_ref()).collect();
        if let Some(at) = choose(&tenants, tenant, which) {
            return Some(idle.remove(at).engine);
        }
        // A new one is needed; the one that has waited longest makes room for it.
        let all = idle.len() + self.taken.load(Ordering::Relaxed);
        if all > self.most && !idle.is_empty() {
            let oldest = idle.remove(0);
            self.counts.ended(End::Tenant, oldest.engine.rss_bytes());
        }
        None
    }

    async fn start(&self) -> Result<Engine, NoEngine> {
        let wait = self.failures().wait(self.clock.now());
        if !wait.is_zero() {
            return Err(NoEngine { reason: "starting engines failed a moment ago".into(), wait });
        }
        match Engine::spawn(&self.next_spec()).await {
            Ok(engine) => {
                self.failures().succeeded();
                self.counts.engines.inc();
                self.counts.starts.get_or_create(&[("service", self.service), ("outcome", "ok")]).inc();
                Ok(engine)
            }
            Err(error) => Err(self.start_failed(&error)),
        }
    }

    fn start_failed(&self, error: &CallError) -> NoEngine {
        let wait = self.failures().failed(self.clock.now());
        self.counts.starts.get_or_create(&[("service", self.service), ("outcome", "failed")]).inc();
        tracing::error!(service = self.service, %error, ?wait, "cannot start an engine");
        NoEngine { reason: error.to_string(), wait }
    }

    fn next_spec(&self) -> EngineSpec {
        let mut spec = self.spec.clone();
        if let Some(first) = self.uid_first {
            let uid = first + self.started.fetch_add(1, Ordering::Relaxed) % UIDS;
            spec.identity = Identity::Own { uid, gid: uid };
        }
        spec
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, Restarts> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for idle in self.idle().drain(..) {
            self.counts.forget(idle.engine.rss_bytes());
        }
    }
}

/// Which of the waiting engines, the last used at the end, fits `tenant`.
fn choose(waiting: &[Option<&TenantId>], tenant: &TenantId, which: Which) -> Option<usize> {
    let own = match which {
        Which::Any => waiting.iter().rposition(|of| *of == Some(tenant)),
        Which::Unused => None,
    };
    own.or_else(|| waiting.iter().rposition(Option::is_none))
}

/// An engine in use. Dropped, it goes back to its pool, or ends if it is worn or its job was broken off.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    tenant: TenantId,
    engine: Option<Engine>,
    end: Option<End>,
}

impl Lease {
    pub(crate) fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("a lease that was handed out has its engine until it is dropped")
    }
    /// Says why the engine, which is dead or must not be used again, ends.
    pub(crate) fn ends_by(&mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let pool = &self.pool;
        pool.taken.fetch_sub(1, Ordering::Relaxed);
        let Some(engine) = self.engine.take() else { return };
        let end = self.end.or(match engine.wear() {
            None => None,
            Some(Wear::Dead) => Some(End::Cancelled),
            Some(Wear::Jobs) => Some(End::Jobs),
            Some(Wear::Grown) => Some(End::Grown),
        });
        match end {
            None => pool.idle().push(Idle { engine, tenant: Some(self.tenant.clone()) }),
            Some(end) => pool.counts.ended(end, engine.rss_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_own_engine_comes_first_then_an_unused_one_and_never_anothers() {
        let (a, b, c) = (TenantId::new("a"), TenantId::new("b"), TenantId::new("c"));
        let waiting = [Some(&a), None, Some(&b), Some(&a), None];
        assert_eq!(choose(&waiting, &a, Which::Any), Some(3), "its own, used last");
        assert_eq!(choose(&waiting, &b, Which::Any), Some(2));
        assert_eq!(choose(&waiting, &c, Which::Any), Some(4), "an unused one");
        assert_eq!(choose(&[Some(&a)], &c, Which::Any), None);
        assert_eq!(choose(&waiting, &a, Which::Unused), Some(4), "not even its own");
    }
}
