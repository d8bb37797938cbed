//! A steady load in the background: each client asks one address for one new picture after the other, and all that comes
//! of it is counted. A client may try again, as browsers do, what was refused or reset.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::node::eventually;

/// A client rests this long after an answer: two cores bear everything that tests do at once.
const REST: Duration = Duration::from_millis(60);
/// For how long a client tries again what was refused, reset or put off.
const RETRY_WITHIN: Duration = Duration::from_secs(3);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// An answer that takes longer has missed its deadline, whatever it says.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);
const PHOTOS: [&str; 6] = ["photo01", "photo02", "photo03", "photo04", "photo07", "photo09"];

/// What a client does with a connection that is refused or breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It counts as failed.
    None,
    /// It is tried again for three seconds: the rule of the demo.
    Demo,
}

#[derive(Default)]
struct Sums {
    answered: AtomicU64,
    retried: AtomicU64,
    failures: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
    serial: AtomicU64,
    stop: AtomicBool,
}

/// The load; it ends when it is dropped.
pub(crate) struct Load {
    sums: Arc<Sums>,
    clients: Vec<JoinHandle<()>>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    pub(crate) retried: u64,
    pub(crate) failures: Vec<String>,
    pub(crate) slowest: Duration,
}

impl Load {
    /// A client for each of `fronts`.
    pub(crate) fn on(fronts: &[SocketAddr], patience: Patience) -> Self {
        let sums = Arc::new(Sums::default());
        let clients = fronts.iter().map(|front| {
            let (front, sums) = (*front, Arc::clone(&sums));
            std::thread::spawn(move || sums.run(front, patience))
        });
        let clients = clients.collect();
        Self { sums, clients }
    }

    /// Waits until `more` further requests have ended.
    #[track_caller]
    pub(crate) fn go_on(&self, more: u64) {
        let until = self.ended() + more;
        eventually("the load goes on", || (self.ended() >= until).then_some(()));
    }

    fn ended(&self) -> u64 {
        let failures = self.sums.failures.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.sums.answered.load(Ordering::SeqCst) + failures as u64
    }

    /// Ends it; what came of it.
    pub(crate) fn end(mut self) -> Outcome {
        self.halt();
        Outcome {
            answered: self.sums.answered.load(Ordering::SeqCst),
            retried: self.sums.retried.load(Ordering::SeqCst),
            failures: std::mem::take(&mut self.sums.failures.lock().unwrap_or_else(PoisonError::into_inner)),
            slowest: *self.sums.slowest.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn halt(&mut self) {
        self.sums.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            client.join().expect("a client");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.sums.stop.store(true, Ordering::SeqCst);
    }
}

impl Sums {
    fn run(&self, front: SocketAddr, patience: Patience) {
        let mut connection = None;
        while !self.stop.load(Ordering::SeqCst) {
            let serial = self.serial.fetch_add(1, Ordering::SeqCst);
            self.ask(front, &mut connection, &target(serial), patience);
            std::thread::sleep(REST);
        }
    }

    fn ask(&self, front: SocketAddr, connection: &mut Option<Client>, target: &str, patience: Patience) {
        let begun = Instant::now();
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            let tried = attempt(front, connection, target);
            let may_retry = patience == Patience::Demo && begun.elapsed() < RETRY_WITHIN;
            match tried {
                Err(Miss::ForNow(_)) if may_retry => std::thread::sleep(RETRY_PAUSE),
                other => break other,
            }
        };
        let took = begun.elapsed();
        self.retried.fetch_add(u64::from(tries > 1), Ordering::SeqCst);
        let mut slowest = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        *slowest = took.max(*slowest);
        match outcome {
            Ok(()) if took <= ANSWER_WITHIN + RETRY_WITHIN => {
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            Ok(()) => self.fail(format!("{target} of {front}: an answer after {took:?}")),
            Err(Miss::ForNow(why) | Miss::ForGood(why)) => {
                self.fail(format!("{target} of {front}: {why} after {tries} tries in {took:?}"));
            }
        }
    }

    fn fail(&self, why: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(why);
    }
}

/// Why there is no picture.
enum Miss {
    /// Refused, reset or put off.
    ForNow(String),
    ForGood(String),
}

/// One try, on the kept connection where there is one.
fn attempt(front: SocketAddr, connection: &mut Option<Client>, target: &str) -> Result<(), Miss> {
    let broken = |error: std::io::Error| Miss::ForNow(error.to_string());
    let mut client = match connection.take() {
        Some(client) => client,
        None => Client::connect(front).map_err(broken)?,
    };
    let answer = client.ask("GET", target, &[]).map_err(broken)?;
    let why = || format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    match answer.status {
        200 => {
            *connection = Some(client);
            Ok(())
        }
        503 => Err(Miss::ForNow(why())),
        _ => Err(Miss::ForGood(why())),
    }
}

/// A picture that nobody has asked for before.
fn target(serial: u64) -> String {
    let photo = PHOTOS[serial as usize % PHOTOS.len()];
    // Sizes differ: what differs in less may come to the same result, which is made once.
    let (width, height) = (40 + serial % 200, 60 + serial / 200);
    format!("/image/unsafe/rs:force:{width}:{height}/plain/local:///{photo}.jpg@jpg")
}
