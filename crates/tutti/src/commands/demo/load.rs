//! A gentle load on the cluster address, at a steady pace however long answers take. Retries what any client would, and
//! counts everything.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tutti_base::rng::{Rng, SplitMix};
use tutti_base::{Clock, Tick};

use super::http::{self, Answer};

/// Most requests under way; above it one is not sent, and counts as failed.
pub(super) const IN_FLIGHT_MAX: usize = 1024;
/// For how long a request is retried after its first failure.
const RETRY_WITHIN: Duration = Duration::from_secs(3);
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// For how long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// For how long a connection is waited for; then it counts as refused.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Most connections that are kept for the next request.
const IDLE_MAX: usize = 16;

const SIZES: [u64; 4] = [160, 320, 480, 640];
const FORMATS: [&str; 2] = ["webp", "jpg"];
/// One request in so many is for a size that hardly anyone has asked for.
const RARE_ONE_IN: u64 = 8;

/// What is asked: a few sizes and formats of each picture over and over, and now and then a new size.
pub(super) struct Mix {
    pictures: Vec<String>,
    rng: SplitMix,
}

impl Mix {
    /// Of these files in the unnamed folder of originals.
    pub(super) fn new(pictures: Vec<String>, seed: u64) -> Self {
        Self { pictures, rng: SplitMix::new(seed) }
    }

    /// The next path.
    pub(super) fn next(&mut self) -> String {
        let pick = self.rng.below(self.pictures.len() as u64) as usize;
        let format = FORMATS[self.rng.below(FORMATS.len() as u64) as usize];
        let size = if self.rng.below(RARE_ONE_IN) == 0 {
            100 + self.rng.below(800)
        } else {
            SIZES[self.rng.below(SIZES.len() as u64) as usize]
        };
        path(&self.pictures[pick], size, format)
    }
}

/// The path of a picture on every node.
pub(super) fn path(picture: &str, size: u64, format: &str) -> String {
    format!("/image/unsafe/rs:fit:{size}:{size}/plain/local:///{picture}@{format}")
}

/// What came of the requests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct Sums {
    /// Those that have ended.
    pub requests: u64,
    /// Those whose last answer was not 200, or that had none.
    pub failed: u64,
    /// Those that were refused, reset or put off at first.
    pub retried: u64,
    /// Those answered from the render cache.
    pub hits: u64,
    /// Those that something was made for.
    pub renders: u64,
    /// Why the last one failed.
    pub last_failure: Option<String>,
}

impl Sums {
    /// Answers from the render cache, in percent of all answers.
    pub(super) fn hit_pct(&self) -> f64 {
        100.0 * self.hits as f64 / (self.requests - self.failed).max(1) as f64
    }

    fn count(&mut self, outcome: &Outcome) {
        self.requests += 1;
        self.retried += u64::from(outcome.tries > 1);
        match &outcome.result {
            Ok(cache) => {
                self.hits += u64::from(cache.contains("; hit"));
                self.renders += u64::from(cache.contains("fwd=") && !cache.contains("collapsed"));
            }
            Err(why) => {
                self.failed += 1;
                self.last_failure = Some(why.clone());
            }
        }
    }
}

/// How one request ended: its `Cache-Status`, or why it failed.
struct Outcome {
    tries: u32,
    result: Result<String, String>,
}

/// Asks one address, keeping connections for later.
pub(super) struct Client {
    address: SocketAddr,
    host: String,
    clock: Arc<dyn Clock>,
    idle: Mutex<Vec<TcpStream>>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, clock: Arc<dyn Clock>) -> Self {
        Self { address, host: address.to_string(), clock, idle: Mutex::default() }
    }

    /// One try.
    ///
    /// Errors: no connection, or it broke; `TimedOut` where it is silent for [`ANSWER_WITHIN`].
    pub(super) async fn get(&self, path: &str) -> io::Result<Answer> {
        let mut stream = match self.kept() {
            Some(stream) => stream,
            None => {
                let connect = within(&*self.clock, CONNECT_WITHIN, TcpStream::connect(self.address)).await;
                connect.ok_or(io::ErrorKind::ConnectionRefused)??
            }
        };
        let request = http::get(&self.host, path);
        let exchange = within(&*self.clock, ANSWER_WITHIN, http::exchange(&mut stream, &request)).await;
        let answer = exchange.ok_or(io::ErrorKind::TimedOut)??;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.keeps() && idle.len() < IDLE_MAX {
            idle.push(stream);
        }
        Ok(answer)
    }

    /// A connection that is still open.
    fn kept(&self) -> Option<TcpStream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let stream = idle.pop()?;
            // Nothing is owed to us, so anything but silence means that it is over.
            match stream.try_read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(stream),
                _ => {}
            }
        }
    }

    /// As a client of a cluster asks: what is refused, reset or put off is asked again for a while.
    async fn get_patiently(&self, path: &str) -> Outcome {
        let mut first_failure: Option<Tick> = None;
        let mut tries = 0;
        loop {
            tries += 1;
            let why = match self.get(path).await {
                Ok(answer) if answer.status == 200 => {
                    let cache = answer.field("cache-status").unwrap_or_default().to_owned();
                    return Outcome { tries, result: Ok(cache) };
                }
                Ok(answer) if answer.status == 503 => "status 503".to_owned(),
                Ok(answer) => {
                    return Outcome { tries, result: Err(format!("status {} for {path}", answer.status)) };
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let secs = ANSWER_WITHIN.as_secs();
                    return Outcome { tries, result: Err(format!("no answer within {secs} s for {path}")) };
                }
                Err(error) => error.to_string(),
            };
            let now = self.clock.now();
            if now.since(*first_failure.get_or_insert(now)) >= RETRY_WITHIN {
                return Outcome { tries, result: Err(format!("{why}, for {} s", RETRY_WITHIN.as_secs())) };
            }
            self.clock.sleep_until(now + RETRY_PAUSE).await;
        }
    }
}

/// The result of `work`; none when it takes longer than `limit`.
pub(super) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let end = clock.sleep_until(clock.now() + limit);
    tokio::select! {
        biased;
        done = work => Some(done),
        () = end => None,
    }
}

/// The load.
pub(super) struct Load {
    client: Arc<Client>,
    clock: Arc<dyn Clock>,
    every: Duration,
    sums: Arc<Mutex<Sums>>,
    places: Arc<Semaphore>,
}

impl Load {
    /// `rate` requests a second.
    pub(super) fn new(address: SocketAddr, rate: f64, clock: Arc<dyn Clock>) -> Self {
        Self {
            client: Arc::new(Client::new(address, Arc::clone(&clock))),
            clock,
            every: Duration::from_secs_f64(1.0 / rate),
            sums: Arc::default(),
            places: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        }
    }

    /// What came of it so far.
    pub(super) fn sums(&self) -> Sums {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks until it is dropped; what is under way goes on. A pace that was missed is not made up for.
    pub(super) async fn run(&self, mut mix: Mix) {
        let mut next = self.clock.now();
        loop {
            self.clock.sleep_until(next).await;
            next = (next + self.every).max(self.clock.now());
            self.begin(mix.next());
        }
    }

    fn begin(&self, path: String) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let result = Err(format!("{IN_FLIGHT_MAX} requests are under way already"));
            self.sums.lock().unwrap_or_else(PoisonError::into_inner).count(&Outcome { tries: 1, result });
            return;
        };
        let (client, sums) = (Arc::clone(&self.client), Arc::clone(&self.sums));
        tokio::spawn(async move {
            let outcome = client.get_patiently(&path).await;
            sums.lock().unwrap_or_else(PoisonError::into_inner).count(&outcome);
            drop(place);
        });
    }

    /// Waits until nothing is under way: at most as long as a request may take.
    pub(super) async fn rest(&self) {
        let all = self.places.acquire_many(IN_FLIGHT_MAX as u32);
        // Whatever is left then is left out of the sums.
        let _ = within(&*self.clock, RETRY_WITHIN + ANSWER_WITHIN, all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_repeats_most_paths_and_brings_new_ones() {
        let mut mix = Mix::new(vec!["a.jpg".into(), "b.jpg".into()], 7);
        let paths: Vec<String> = (0..2000).map(|_| mix.next()).collect();
        let usual = |path: &&String| SIZES.iter().any(|size| path.contains(&format!(":{size}:")));
        let rare = paths.len() - paths.iter().filter(usual).count();
        assert!((150..350).contains(&rare), "{rare} of 2000");
        assert!(paths.iter().any(|path| path.ends_with("b.jpg@webp")));
    }

    #[test]
    fn sums_tell_hits_renders_retries_and_failures_apart() {
        let mut sums = Sums::default();
        for (tries, result) in [
            (1, Ok("tutti; hit; ttl=5")),
            (2, Ok("tutti; fwd=miss; stored")),
            (1, Ok("tutti; fwd=miss; collapsed")),
            (9, Err("reset")),
        ] {
            sums.count(&Outcome { tries, result: result.map(str::to_owned).map_err(str::to_owned) });
        }
        let expected = Sums {
            requests: 4,
            failed: 1,
            retried: 2,
            hits: 1,
            renders: 1,
            last_failure: Some("reset".into()),
        };
        assert_eq!(sums, expected);
        assert_eq!(sums.hit_pct().round(), 33.0);
    }
}
