//! Tokio as openraft wants it, with its randomness given from outside. Draws nothing by itself.

use std::cell::Cell;
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend, TokioInstant, TokioRuntime};
use tutti_base::rng::{Rng, SplitMix};

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// Sets what openraft draws on this thread next. It draws once, when a `Raft` is made: its election time-out. Call it
/// right before, without an await between.
pub(crate) fn seed(seed: u64) {
    SEED.set(seed);
}

/// Randomness of a seed, as openraft takes it.
pub(crate) struct Drawn(SplitMix);

impl rand_core_06::RngCore for Drawn {
    fn next_u32(&mut self) -> u32 {
        (self.0.next() >> 32) as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0.next()
    }
    fn fill_bytes(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.next().to_le_bytes()[..chunk.len()]);
        }
    }
    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.fill_bytes(into);
        Ok(())
    }
}

/// Tokio with [`Drawn`] randomness.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Runtime;

type Base = TokioRuntime;

impl AsyncRuntime for Runtime {
    type JoinError = <Base as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Base as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Base as AsyncRuntime>::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <Base as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Base as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Drawn;
    type OneshotSender<T: OptionalSend> = <Base as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <Base as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <Base as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Base::spawn(future)
    }
    fn sleep(duration: Duration) -> Self::Sleep {
        Base::sleep(duration)
    }
    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Base::sleep_until(deadline)
    }
    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Base::timeout(duration, future)
    }
    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Base::timeout_at(deadline, future)
    }
    fn is_panic(join_error: &Self::JoinError) -> bool {
        Base::is_panic(join_error)
    }
    fn thread_rng() -> Self::ThreadLocalRng {
        let mut next = SplitMix::new(SEED.get());
        SEED.set(next.next());
        Drawn(next)
    }
    fn oneshot<T: OptionalSend>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        Base::oneshot()
    }
}

#[cfg(test)]
mod tests {
    use rand_core_06::RngCore;

    use super::*;

    #[test]
    fn what_openraft_draws_comes_from_the_seed() {
        let drawn = |from| {
            seed(from);
            [Runtime::thread_rng().next_u64(), Runtime::thread_rng().next_u64()]
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert_ne!(drawn(7)[0], drawn(7)[1]);
    }
}
