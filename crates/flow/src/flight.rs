//! Single flight: one maker a key, however many wait. Each waiter has its own deadline; the work is cancelled when the
//! last of them has gone, and begun anew by the next when its maker died.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{Either, Shared, WeakShared, select};
use tutti_base::{BoxFuture, Clock, Deadline, Kind, Problem, Tick};

/// How often a waiter takes over the lead from a maker that died.
const HAND_OVERS_MAX: usize = 1;

/// What a flight ends with; none when its maker died.
type Landing<T> = Option<Result<T, Problem>>;

struct Aloft<T> {
    landing: WeakShared<BoxFuture<'static, Landing<T>>>,
    until: Until,
}

/// The latest deadline of all who wait for a flight.
#[derive(Clone, Debug)]
pub struct Until(Arc<AtomicU64>);

impl Until {
    fn new(deadline: Deadline) -> Self {
        Self(Arc::new(AtomicU64::new(deadline.0.0)))
    }
    /// A deadline that nobody extends.
    pub fn fixed(deadline: Deadline) -> Self {
        Self::new(deadline)
    }
    fn extend(&self, deadline: Deadline) {
        self.0.fetch_max(deadline.0.0, Ordering::AcqRel);
    }
    /// The last waiter's deadline as of now.
    pub fn deadline(&self) -> Deadline {
        Deadline(Tick(self.0.load(Ordering::Acquire)))
    }
}

/// How a waiter came to its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seat {
    /// It began the flight.
    Lead,
    /// It joined one.
    Follower,
}

/// The flights under way, by key.
pub struct Flights<K, T: Clone> {
    aloft: Arc<Mutex<HashMap<K, Aloft<T>>>>,
    clock: Arc<dyn Clock>,
}

impl<K, T> Flights<K, T>
where
    K: Copy + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// None under way.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { aloft: Arc::default(), clock }
    }

    /// Joins the flight of `key`, or begins it with `make`. Ends at `deadline` at the latest. Cancel-safe: the flight
    /// goes on for others.
    pub async fn fly(
        &self,
        key: K,
        deadline: Deadline,
        make: impl Fn(Until) -> BoxFuture<'static, Result<T, Problem>>,
    ) -> (Result<T, Problem>, Seat) {
        for _ in 0..=HAND_OVERS_MAX {
            let (flight, seat) = self.board(key, deadline, &make);
            match select(flight, self.clock.sleep_until(deadline.0)).await {
                Either::Left((Some(outcome), _)) => return (outcome, seat),
                Either::Left((None, _)) => {}
                Either::Right(_) => {
                    let detail = "the answer was not ready before its deadline; try again later";
                    let problem = Problem::new(Kind::Timeout, detail).about("deadline");
                    return (Err(problem.retry_after(std::time::Duration::from_secs(1))), seat);
                }
            }
        }
        (
            Err(Problem::new(Kind::Internal, "making the answer failed").because("the maker died twice")),
            Seat::Lead,
        )
    }

    /// Whether one of `key` is under way, for those who need not wait for it.
    pub(crate) fn is_under_way(&self, key: &K) -> bool {
        let aloft = self.aloft.lock().unwrap_or_else(PoisonError::into_inner);
        aloft.get(key).is_some_and(|found| found.landing.upgrade().is_some())
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.aloft.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn board(
        &self,
        key: K,
        deadline: Deadline,
        make: &impl Fn(Until) -> BoxFuture<'static, Result<T, Problem>>,
    ) -> (Shared<BoxFuture<'static, Landing<T>>>, Seat) {
        let mut aloft = self.aloft.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = aloft.get(&key)
            && let Some(landing) = found.landing.upgrade()
            && !matches!(landing.peek(), Some(None))
        {
            found.until.extend(deadline);
            return (landing, Seat::Follower);
        }
        let until = Until::new(deadline);
        let grounding = Grounding { aloft: Arc::clone(&self.aloft), key, until: until.clone() };
        let made = make(until.clone());
        let flight: BoxFuture<'static, Landing<T>> = Box::pin(async move {
            let _grounding = grounding;
            AssertUnwindSafe(made).catch_unwind().await.ok()
        });
        let landing = flight.shared();
        if let Some(weak) = landing.downgrade() {
            aloft.insert(key, Aloft { landing: weak, until });
        }
        (landing, Seat::Lead)
    }
}

/// Takes a flight off the list when it lands or is cancelled, unless another has taken its place.
struct Grounding<K: Eq + Hash, T: Clone> {
    aloft: Arc<Mutex<HashMap<K, Aloft<T>>>>,
    key: K,
    until: Until,
}

impl<K: Eq + Hash, T: Clone> Drop for Grounding<K, T> {
    fn drop(&mut self) {
        let mut aloft = self.aloft.lock().unwrap_or_else(PoisonError::into_inner);
        if aloft.get(&self.key).is_some_and(|found| Arc::ptr_eq(&found.until.0, &self.until.0)) {
            aloft.remove(&self.key);
        }
    }
}
