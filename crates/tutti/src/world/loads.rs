//! What this node says of itself in its hints: its capacity, what it has accepted, how busy the machine is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tutti_base::{Clock, Load, Tick};
use tutti_flow::{Capacity, Flow};
use tutti_store::Store;

/// The machine's use of its CPUs is taken over this long.
const USE_OVER: Duration = Duration::from_millis(500);

/// Reads this node's load. Cheap enough for twenty times a second.
pub(crate) struct Loads {
    flow: Arc<Flow>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    capacity: Capacity,
    cache_mib: u32,
    folders: Vec<String>,
    epoch: u32,
    sequence: AtomicU64,
    cpu: Mutex<CpuUse>,
    answered: Arc<Answered>,
}

/// What the front has answered, as it was counted last.
#[derive(Default)]
pub(crate) struct Answered {
    /// Requests since the start.
    pub requests: AtomicU64,
    /// Of these, from the caches.
    pub hits: AtomicU64,
    /// The share of hits among the newest, 0 to 100.
    pub hit_pct: AtomicU64,
}

/// The machine's CPUs between two readings.
#[derive(Default)]
struct CpuUse {
    read: Tick,
    busy: u64,
    total: u64,
    pct: u8,
}

impl Loads {
    /// Of these parts.
    pub(crate) fn new(
        flow: Arc<Flow>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        capacity: Capacity,
        cache_mib: u32,
        folders: Vec<String>,
        answered: Arc<Answered>,
    ) -> Self {
        let epoch = flow.registry().iter().map(|(_, service)| service.describe().epoch).max().unwrap_or(0);
        let (sequence, cpu) = (AtomicU64::new(0), Mutex::default());
        Self { flow, store, clock, capacity, cache_mib, folders, epoch, sequence, cpu, answered }
    }

    /// The load as of now.
    pub(crate) fn read(&self) -> Load {
        let accepted = self.flow.accepted();
        Load {
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            cpu: (self.capacity.cpu * 1000.0) as u32,
            permits: self.capacity.permits.min(usize::from(u16::MAX)) as u16,
            jobs: accepted.jobs().min(usize::from(u16::MAX)) as u16,
            backlog_ms: accepted.backlog_ms as u32,
            used_pct: self.used_pct(),
            hit_pct: self.answered.hit_pct.load(Ordering::Relaxed).min(100) as u8,
            requests: self.answered.requests.load(Ordering::Relaxed),
            cache_mib: self.cache_mib.max(1),
            purge: self.flow.own_purges(),
            revision: self.store.revision().0,
            epoch: self.epoch,
            folders: self.folders.clone(),
        }
    }

    fn used_pct(&self) -> u8 {
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if now.since(cpu.read) < USE_OVER {
            return cpu.pct;
        }
        let Some((busy, total)) = machine_ticks() else { return cpu.pct };
        let (busy_now, total_now) = (busy.saturating_sub(cpu.busy), total.saturating_sub(cpu.total));
        let pct = (busy_now * 100).checked_div(total_now).map_or(cpu.pct, |pct| pct.min(100) as u8);
        *cpu = CpuUse { read: now, busy, total, pct };
        pct
    }
}

/// Ticks of all CPUs since the machine started: busy, and all (proc(5), the first line of `/proc/stat`).
fn machine_ticks() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let idle = fields.get(3)? + fields.get(4)?;
    let total: u64 = fields.iter().take(8).sum();
    Some((total.saturating_sub(idle), total))
}
