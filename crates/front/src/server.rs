//! The front as a whole: starts its threads, tells them of new routes, drains them.

use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tutti_base::Clock;
use tutti_service::Registry;
use tutti_telemetry::Metrics;

use crate::access::{LogBuffer, start_writer};
use crate::answers::Answers;
use crate::config::{Config, ConfigError, ExtraMount};
use crate::doors::{DoorTable, Doors, OpenDoor};
use crate::mailbox::{Letter, Mailbox};
use crate::metrics::{FrontMetrics, Tally};
use crate::router::{Router, RouterError};
use crate::turn::{Parts, SWEEP, Turn};

/// What the front is given of the world.
pub struct Outside {
    /// Where answers that are no hits are made.
    pub runtime: Handle,
    /// The clock that the journey uses too.
    pub clock: Arc<dyn Clock>,
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// Where the access log goes; none: nowhere.
    pub log: Option<Box<dyn Write + Send>>,
}

/// Why the front did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A mount.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// A thread, a listener or a descriptor.
    #[error("the front door cannot start: {0}")]
    Io(#[from] io::Error),
}

/// What all threads share.
pub(crate) struct House {
    pub(crate) config: Config,
    pub(crate) connection_limit: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Handle,
    pub(crate) metrics: FrontMetrics,
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    /// Open connections by thread, those on their way to it included.
    pub(crate) loads: Vec<AtomicUsize>,
    /// Open connections of all threads.
    pub(crate) open: AtomicUsize,
    /// Whether `/readyz` says so.
    pub(crate) ready: AtomicBool,
    pub(crate) doors: DoorTable,
}

impl House {
    /// Counts a connection out.
    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections.dec();
    }
}

/// Closes a thread's mailbox when the thread ends, however it does: no order waits for it.
struct Ending(Arc<Mailbox>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Wakes every thread once a sweep, as long as the house stands.
fn start_ticker(house: &Arc<House>) -> io::Result<()> {
    let house = Arc::downgrade(house);
    let tick = move || {
        while let Some(house) = house.upgrade() {
            house.mailboxes.iter().for_each(|mailbox| mailbox.ring());
            drop(house);
            std::thread::sleep(SWEEP);
        }
    };
    std::thread::Builder::new().name("front-ticker".into()).spawn(tick).map(drop)
}

/// A running front door. Dropping it stops it at once; [`Front::drain`] stops it gently.
pub struct Front {
    house: Arc<House>,
    registry: Registry,
    addresses: Vec<SocketAddr>,
    threads: Vec<(JoinHandle<()>, oneshot::Receiver<()>)>,
    log: Option<JoinHandle<()>>,
}

/// How a drain went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drained {
    /// Connections that were open when it began.
    pub open: usize,
    /// Connections that were cut at the deadline.
    pub cut: usize,
}

impl Front {
    /// Starts to answer on `listeners`. `/readyz` says "not ready" until [`Front::mark_ready`].
    ///
    /// Errors: invalid settings or mounts; no thread or descriptor to be had.
    pub fn start<A: Answers>(
        config: Config,
        listeners: Vec<TcpListener>,
        answers: A,
        outside: Outside,
    ) -> Result<Self, StartError> {
        config.validate()?;
        config.register(&outside.metrics);
        let registry = answers.registry().clone();
        let router = Arc::new(Router::new(&registry, &config.mounts)?);
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let (sender, log) = match outside.log {
            Some(out) => {
                start_writer(&config.log, out).map(|(sender, writer)| (Some(sender), Some(writer)))?
            }
            None => (None, None),
        };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let count = config.thread_count(cores);
        let house = Arc::new(House {
            connection_limit: config.connection_limit(),
            config,
            clock: outside.clock,
            runtime: outside.runtime,
            metrics: FrontMetrics::register(&outside.metrics),
            mailboxes: (0..count).map(|_| Mailbox::new().map(Arc::new)).collect::<Result<_, _>>()?,
            loads: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            open: AtomicUsize::new(0),
            ready: AtomicBool::new(false),
            doors: DoorTable::register(&outside.metrics),
        });
        let mut front = Self { house, registry, addresses, threads: Vec::new(), log };
        start_ticker(&front.house)?;
        let add = |listener| front.house.doors.add(listener, |_| {});
        let doors = listeners.into_iter().map(add).collect::<Result<Vec<_>, _>>()?;
        for index in 0..count {
            let thread = front.start_thread(index, &answers, &router, &doors, sender.as_ref())?;
            front.threads.push(thread);
        }
        Ok(front)
    }

    fn start_thread<A: Answers>(
        &self,
        index: usize,
        answers: &A,
        router: &Arc<Router>,
        doors: &[OpenDoor],
        log: Option<&SyncSender<Vec<u8>>>,
    ) -> io::Result<(JoinHandle<()>, oneshot::Receiver<()>)> {
        let house = Arc::clone(&self.house);
        let (answers, router, doors) = (answers.clone(), Arc::clone(router), doors.to_vec());
        let services = self.registry.iter().map(|(_, service)| service.describe().name).collect();
        let tally = Tally::new(house.metrics.clone(), services);
        let log = LogBuffer::new(house.config.log.clone(), log.cloned(), house.metrics.log_dropped.clone());
        let mailbox = Arc::clone(&house.mailboxes[index]);
        // The standard library seeds its hashers from the kernel.
        let seed = std::hash::RandomState::new().build_hasher().finish();
        let (done, ended) = oneshot::channel();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            let _ending = Ending(Arc::clone(&mailbox));
            let parts = Parts { answers, router, mailbox, doors, tally, log, seed };
            match Turn::new(house, index, parts) {
                Ok(turn) => {
                    // Whoever starts us waits for this word.
                    let _ = started.send(Ok(()));
                    turn.run();
                }
                Err(error) => drop(started.send(Err(error))),
            }
            // Nobody waits any more where the front was dropped.
            let _ = done.send(());
        };
        let thread = std::thread::Builder::new().name(format!("front-{index}")).spawn(run)?;
        start.recv().map_err(io::Error::other)??;
        Ok((thread, ended))
    }

    /// Where it answers since its start; [`Doors::addresses`] has what was opened and closed meanwhile.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Opens and closes doors while it runs.
    pub fn doors(&self) -> Doors {
        Doors { house: Arc::clone(&self.house) }
    }

    /// As [`Doors::open`].
    pub fn open(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        self.doors().open(listener)
    }

    /// As [`Doors::close`].
    pub async fn close(&self, address: SocketAddr) -> io::Result<()> {
        self.doors().close(address).await
    }

    /// Open client connections.
    pub fn open_connections(&self) -> usize {
        self.house.open.load(Ordering::Relaxed)
    }

    /// From now on `/readyz` says "ready".
    pub fn mark_ready(&self) {
        self.house.ready.store(true, Ordering::Relaxed);
    }

    /// From now on `/readyz` says "not ready".
    pub fn mark_unready(&self) {
        self.house.ready.store(false, Ordering::Relaxed);
    }

    /// Changes the mounts; requests that were routed already go where they went.
    ///
    /// Errors: as [`Router::new`]; the old mounts stay.
    pub fn set_mounts(&self, mounts: &[ExtraMount]) -> Result<(), RouterError> {
        let router = Arc::new(Router::new(&self.registry, mounts)?);
        self.house.mailboxes.iter().for_each(|mailbox| mailbox.post(Letter::Routes(Arc::clone(&router))));
        Ok(())
    }

    /// Stops accepting, answers what was asked, closes what is idle, and cuts what is left after `within`. Returns when
    /// all threads have ended and the access log is written.
    pub async fn drain(mut self, within: Duration) -> Drained {
        self.mark_unready();
        let open = self.open_connections();
        let cut_before = self.house.metrics.closed_count("drain");
        self.order_end(within);
        let threads = std::mem::take(&mut self.threads);
        let mut handles = Vec::with_capacity(threads.len());
        for (handle, ended) in threads {
            // An error means that the thread ended without a word, by a panic; joining tells.
            let _ = ended.await;
            handles.push(handle);
        }
        handles.extend(self.log.take());
        let joined = self
            .house
            .runtime
            .spawn_blocking(move || handles.into_iter().filter_map(|handle| handle.join().err()).count());
        if let Ok(1..) = joined.await {
            tracing::error!("a front thread ended by a panic");
        }
        let cut = self.house.metrics.closed_count("drain") - cut_before;
        Drained { open, cut: cut as usize }
    }

    fn order_end(&self, within: Duration) {
        self.house.doors.end();
        let deadline = self.house.clock.now() + within;
        self.house.mailboxes.iter().for_each(|mailbox| mailbox.post(Letter::Drain(deadline)));
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.order_end(Duration::ZERO);
        }
    }
}
