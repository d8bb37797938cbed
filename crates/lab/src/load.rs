//! A load at a steady pace, whoever is slow: each request has its time, and what it took counts from there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tutti_base::Tick;
use tutti_base::clock::MachineTime;

use crate::http::Client;

/// Clients; each has one request under way at most.
const CLIENTS: u64 = 48;
/// The deadline of every request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const PHOTOS: [&str; 6] = ["photo01", "photo02", "photo03", "photo04", "photo07", "photo09"];

/// What came of one request.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// When it was due.
    pub(crate) due: Tick,
    pub(crate) took: Duration,
    /// The front that was asked first.
    pub(crate) front: usize,
    /// Why it failed at the first front.
    pub(crate) failed: Option<String>,
    /// Why it failed at another front too, where it was tried there.
    pub(crate) failed_again: Option<String>,
}

struct Shared {
    fronts: Vec<SocketAddr>,
    time: MachineTime,
    begun: Tick,
    every: Duration,
    next: AtomicU64,
    stop: AtomicBool,
    done: Mutex<Vec<Done>>,
}

/// A load; it ends when it is dropped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// `rate` requests a second, spread over `fronts`; the first picture has this `serial` number.
    pub(crate) fn start(fronts: Vec<SocketAddr>, rate: f64, serial: u64, time: MachineTime) -> Self {
        let every = Duration::from_secs_f64(1.0 / rate.max(0.1));
        let begun = time.now();
        let (next, stop, done) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { fronts, time, begun, every, next, stop, done });
        let clients = (0..CLIENTS).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.run(serial))
        });
        let clients = clients.collect();
        Self { shared, clients }
    }

    /// Ends it: every request ends, at its deadline at the latest. What came of each.
    pub(crate) fn end(mut self) -> Vec<Done> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            // One that has panicked has told so already.
            let _ = client.join();
        }
        std::mem::take(&mut self.shared.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn run(&self, serial: u64) {
        let mut kept: Vec<Option<Client>> = self.fronts.iter().map(|_| None).collect();
        while !self.stop.load(Ordering::SeqCst) {
            let turn = self.next.fetch_add(1, Ordering::SeqCst);
            let due = self.begun + self.every.saturating_mul(u32::try_from(turn).unwrap_or(u32::MAX));
            std::thread::sleep(due.since(self.time.now()));
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let front = (turn % self.fronts.len() as u64) as usize;
            let target = target(serial + turn);
            let failed = self.attempt(&mut kept, front, &target).err();
            let other = (front + 1) % self.fronts.len();
            let failed_again = failed.as_ref().and_then(|_| self.attempt(&mut kept, other, &target).err());
            let took = self.time.now().since(due);
            let done = Done { due, took, front, failed, failed_again };
            self.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        }
    }

    fn attempt(&self, kept: &mut [Option<Client>], front: usize, target: &str) -> Result<(), String> {
        let mut client = match kept[front].take() {
            Some(client) => client,
            None => Client::connect(self.fronts[front], ANSWER_WITHIN).map_err(|error| error.to_string())?,
        };
        let answer = client.get(target).map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
        }
        kept[front] = Some(client);
        Ok(())
    }
}

/// A picture that nobody has asked for before: 100,000, each of another size.
pub(crate) fn target(serial: u64) -> String {
    let photo = PHOTOS[(serial % PHOTOS.len() as u64) as usize];
    let (width, height) = (40 + serial % 200, 60 + serial / 200 % 500);
    format!("/image/unsafe/rs:force:{width}:{height}/plain/local:///{photo}.jpg@jpg")
}

/// The 99th percentile of what those took that were due from `from` until `until`; zero of none.
pub(crate) fn p99(done: &[Done], from: Tick, until: Tick) -> Duration {
    let mut took: Vec<Duration> =
        done.iter().filter(|one| one.due >= from && one.due < until).map(|one| one.took).collect();
    took.sort_unstable();
    let rank = (took.len() * 99).div_ceil(100).saturating_sub(1);
    took.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_of_those_that_were_due_in_the_span() {
        let one = |due: u64, ms: u64| Done {
            due: Tick(due),
            took: Duration::from_millis(ms),
            front: 0,
            failed: None,
            failed_again: None,
        };
        let mut done: Vec<Done> = (0..100).map(|at| one(at, at)).collect();
        done.push(one(1000, 9999));
        assert_eq!(p99(&done, Tick(0), Tick(100)), Duration::from_millis(98));
        assert_eq!(p99(&done, Tick(500), Tick(600)), Duration::ZERO);
    }
}
