//! A few threads on which blocking look-ups run, so that no asynchronous thread waits for a disk. Knows nothing of caches.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

/// Threads for look-ups: what is small is served from the page cache, what is not waits for a disk.
const THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// The threads and their bounded queue. They end when this is dropped and what is queued is done.
pub(crate) struct Readers {
    jobs: SyncSender<Job>,
}

/// The queue of look-ups is full.
#[derive(Debug)]
pub(crate) struct Busy;

impl Readers {
    /// Starts the threads; `queue` look-ups may wait.
    pub(crate) fn start(queue: usize) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..THREADS {
            let waiting = waiting.clone();
            thread::Builder::new().name(format!("cache-read-{number}")).spawn(move || run(&waiting))?;
        }
        Ok(Self { jobs })
    }

    /// Queues `job`. Its answer comes through the receiver, which fails should the job panic; dropping the receiver
    /// does not keep the job from running.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Busy> {
        let (answer, receiver) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody waits any more: then the answer is not needed.
            let _ = answer.send(job());
        });
        self.jobs.try_send(job).map_err(|_| Busy)?;
        Ok(receiver)
    }
}

fn run(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
            tracing::error!(target: "cache", "a look-up on disk panicked and counts as not found");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_full_queue_refuses_and_what_was_queued_is_answered() {
        let readers = Readers::start(1).unwrap();
        let (busy, go) = (Arc::new(Barrier::new(THREADS + 1)), Arc::new(Barrier::new(THREADS + 1)));
        let mut answers = vec![];
        for _ in 0..THREADS {
            let (busy, go) = (busy.clone(), go.clone());
            // Each of these is taken at once or waits in the one place, so at first the queue may look full.
            answers.push(submitted(&readers, move || {
                busy.wait();
                go.wait();
                7
            }));
        }
        busy.wait();
        answers.push(readers.submit(|| 7).expect("one may wait"));
        assert!(readers.submit(|| 7).is_err(), "a second may not");
        go.wait();
        assert!(answers.into_iter().all(|answer| answer.blocking_recv() == Ok(7)));
    }

    #[test]
    fn a_panic_is_an_answer_that_fails_and_the_thread_lives() {
        let readers = Readers::start(8).unwrap();
        for _ in 0..2 * THREADS {
            let answer = readers.submit(|| panic!("on purpose")).unwrap();
            let answer: Result<(), _> = answer.blocking_recv();
            assert!(answer.is_err());
        }
        assert_eq!(readers.submit(|| 7).unwrap().blocking_recv(), Ok(7));
    }

    fn submitted(
        readers: &Readers,
        job: impl Fn() -> i32 + Send + Clone + 'static,
    ) -> oneshot::Receiver<i32> {
        loop {
            if let Ok(answer) = readers.submit(job.clone()) {
                return answer;
            }
            thread::yield_now();
        }
    }
}
