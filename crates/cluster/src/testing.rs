//! What this package's own tests use: a disk in memory that fails on demand, a clock over the runtime's timer.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tutti_base::disk::{Disk, DiskFile};
use tutti_base::{BoxFuture, Clock, Tick, Wall};

/// One file in memory, whatever its name. After [`MemoryDisk::cut_after`] it fails, having written a part.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Bytes, lengths and syncs that still succeed; 0 is without end.
    left: Arc<AtomicUsize>,
}

const CUT: usize = 1;

impl MemoryDisk {
    /// Power is cut after `steps` more bytes.
    pub(crate) fn cut_after(&self, steps: usize) {
        self.left.store(steps + 2, Ordering::Relaxed);
    }
    /// Power is back.
    pub(crate) fn mend(&self) {
        self.left.store(0, Ordering::Relaxed);
    }
    /// Damages the byte at `at`.
    pub(crate) fn flip(&self, at: usize) {
        self.bytes.lock().unwrap()[at] ^= 0x55;
    }
    fn step(&self) -> io::Result<()> {
        match self.left.load(Ordering::Relaxed) {
            0 => Ok(()),
            CUT => Err(io::Error::other("power cut")),
            left => {
                self.left.store(left - 1, Ordering::Relaxed);
                if left - 1 == CUT { Err(io::Error::other("power cut")) } else { Ok(()) }
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn open(&self, _name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(self.clone()))
    }
}

impl DiskFile for MemoryDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let from = bytes.get(offset as usize..offset as usize + into.len());
        into.copy_from_slice(from.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (at, byte) in bytes.iter().enumerate() {
            self.step()?;
            self.bytes.lock().unwrap()[offset as usize + at] = *byte;
        }
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        self.step()
    }
}

/// The runtime's own clock; 2027 on the calendar.
pub(crate) struct TestClock(tokio::time::Instant);

impl TestClock {
    /// Starts counting now.
    pub(crate) fn shared() -> Arc<dyn Clock> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Tick {
        Tick(self.0.elapsed().as_nanos() as u64)
    }
    fn wall(&self) -> Wall {
        Wall(1_800_000_000_000 + self.now().0 / 1_000_000)
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        let at = self.0 + std::time::Duration::from_nanos(until.0);
        Box::pin(tokio::time::sleep_until(at))
    }
}
