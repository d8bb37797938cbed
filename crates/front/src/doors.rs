//! Doors: listening sockets that open and close while the front runs. Binds nothing and accepts nothing.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tutti_telemetry::{Gauge, Metrics};

use crate::listeners::prepare;
use crate::mailbox::Letter;
use crate::server::House;

/// Most doors that are open at once, those of the start included.
pub const DOORS_MAX: usize = 64;

/// Where a connection came in, as the connection remembers it. Does not hold the socket.
pub(crate) struct Door {
    /// Never used again for another door.
    pub(crate) id: u32,
    address: SocketAddr,
    shut: AtomicBool,
}

impl Door {
    /// Whether what came in through it is to end: it answers what was asked, and takes no more.
    pub(crate) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }
}

/// A door with its socket, as each front thread holds it. The socket is closed when the last thread lets go.
#[derive(Clone)]
pub(crate) struct OpenDoor {
    pub(crate) door: Arc<Door>,
    pub(crate) listener: Arc<TcpListener>,
}

/// The doors that are open.
pub(crate) struct DoorTable {
    rows: Mutex<Rows>,
    open: Gauge,
}

struct Rows {
    doors: Vec<Arc<Door>>,
    next: u32,
    /// Whether the front has begun to end: nothing is opened any more.
    ending: bool,
}

impl DoorTable {
    /// An empty one, with its limit shown as a metric.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        metrics.limit("front_doors", "Most listening sockets", DOORS_MAX as u64);
        Self {
            rows: Mutex::new(Rows { doors: Vec::new(), next: 0, ending: false }),
            open: metrics.gauge("front_doors", "Open listening sockets"),
        }
    }

    /// Readies `listener` and enters it; `tell` hears of it before any other door can be opened or closed.
    pub(crate) fn add(&self, listener: TcpListener, tell: impl FnOnce(&OpenDoor)) -> io::Result<OpenDoor> {
        prepare(&listener)?;
        let address = listener.local_addr()?;
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.ending {
            let text = format!("cannot listen on {address}: the server is stopping");
            return Err(io::Error::new(io::ErrorKind::NotConnected, text));
        }
        if rows.doors.len() >= DOORS_MAX {
            let text = format!(
                "cannot listen on {address}: {DOORS_MAX} addresses are open already, close one of them first"
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
        }
        let door = Arc::new(Door { id: rows.next, address, shut: AtomicBool::new(false) });
        rows.next = rows.next.wrapping_add(1);
        rows.doors.push(Arc::clone(&door));
        self.open.set(rows.doors.len() as i64);
        let opened = OpenDoor { door, listener: Arc::new(listener) };
        tell(&opened);
        Ok(opened)
    }

    /// Takes the door at `address` out and marks it; `tell` as for [`DoorTable::add`].
    fn remove(&self, address: SocketAddr, tell: impl FnOnce(&Arc<Door>)) -> io::Result<()> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let at = rows.doors.iter().position(|door| door.address == address).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("nothing here listens on {address}"))
        })?;
        let door = rows.doors.swap_remove(at);
        self.open.set(rows.doors.len() as i64);
        door.shut.store(true, Ordering::Relaxed);
        tell(&door);
        Ok(())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.doors.iter().map(|door| door.address).collect()
    }

    /// From now on nothing is opened.
    pub(crate) fn end(&self) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.ending = true;
        rows.doors.clear();
        self.open.set(0);
    }
}

/// Opens and closes doors of a running front. Clones are the same; outliving the front is harmless.
#[derive(Clone)]
pub struct Doors {
    pub(crate) house: Arc<House>,
}

impl Doors {
    /// All threads begin to accept on `listener`; gives its address. Connections that came before the call wait in the
    /// kernel and lose nothing.
    ///
    /// Errors: [`DOORS_MAX`] doors are open, the front is ending, or the socket is none that listens; the address is
    /// named. Whether the address is free is told by [`crate::listeners::bind`].
    pub fn open(&self, listener: TcpListener) -> io::Result<SocketAddr> {
        let mailboxes = &self.house.mailboxes;
        let tell = |opened: &OpenDoor| {
            mailboxes.iter().for_each(|mailbox| mailbox.post(Letter::Open(opened.clone())));
        };
        Ok(self.house.doors.add(listener, tell)?.door.address)
    }

    /// Closes the door at `address`. When this returns the socket is closed, so that another process can bind the
    /// address at once. Who waited to be accepted is let in first. Connections that came in through it get the answer
    /// to what they have asked, with `Connection: close`, and end; idle ones end at once, and one that has asked nothing
    /// yet within a second. Other connections notice nothing.
    ///
    /// Cancel-safe: the order is given at the first poll and is carried out in any case.
    ///
    /// Errors: no door has this address; nothing is closed.
    pub async fn close(&self, address: SocketAddr) -> io::Result<()> {
        let (held, mut let_go) = mpsc::channel::<Infallible>(1);
        let mailboxes = &self.house.mailboxes;
        self.house.doors.remove(address, |door| {
            let letter = || Letter::Shut(Arc::clone(door), held.clone());
            mailboxes.iter().for_each(|mailbox| mailbox.post(letter()));
        })?;
        drop(held);
        // Nothing is ever sent: the channel ends when the last thread has let go of the socket.
        let _ = let_go.recv().await;
        Ok(())
    }

    /// The addresses of all doors that are open.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.house.doors.addresses()
    }
}
