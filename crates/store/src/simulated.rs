//! A simulated disk and clock for the lab and the contract: a disk that loses what was not synced, time that moves by hand.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tutti_base::disk::{Disk, DiskFile};
use tutti_base::rng::{Rng, SplitMix};
use tutti_base::{BoxFuture, Clock, Tick, Wall};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// What a power cut takes of the writes that were not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// All of them.
    All,
    /// Each sector of them with probability one half, so that writes tear and change their order.
    Some,
}

/// A disk in memory whose power can be cut. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: HashMap<String, SimFile>,
    /// Counts power cuts; a handle of an older one is dead.
    boot: u64,
    /// How many more writes and syncs succeed.
    operations_left: Option<u64>,
}

#[derive(Default)]
struct SimFile {
    durable: Vec<u8>,
    visible: Vec<u8>,
    pending: Vec<Pending>,
}

enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl SimDisk {
    /// From now on `operations` writes and syncs succeed; then every operation fails until [`Self::cut_power`].
    pub fn fail_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    /// Cuts the power and restores it: open handles are dead, and what was not synced is lost as `loss` says.
    pub fn cut_power(&self, loss: Loss, rng: &mut dyn Rng) {
        let mut state = self.state();
        state.boot += 1;
        state.operations_left = None;
        for file in state.files.values_mut() {
            // What is lost does not hang on the order of the writes, which redb draws anew in every run.
            let drawn = rng.next();
            for pending in std::mem::take(&mut file.pending) {
                if loss == Loss::Some {
                    pending.apply_some(&mut file.durable, drawn);
                }
            }
            file.visible = file.durable.clone();
        }
    }

    /// Ends the process that uses it: open handles are dead, and what was written stays, synced or not.
    pub fn kill(&self) {
        let mut state = self.state();
        state.boot += 1;
        state.operations_left = None;
    }

    /// Flips a bit of the file `name`, as a failing disk does.
    pub fn damage(&self, name: &str, offset: usize) {
        let mut state = self.state();
        let file = state.files.get_mut(name).expect("the file to damage exists");
        file.durable[offset] ^= 1;
        file.visible[offset] ^= 1;
    }

    /// What is on stable storage of the file `name`.
    pub fn durable(&self, name: &str) -> Vec<u8> {
        self.state().files.get(name).map(|file| file.durable.clone()).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.files.entry(name.into()).or_default();
        Ok(Box::new(Handle { disk: self.clone(), name: name.into(), boot: state.boot }))
    }
}

impl Pending {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Pending::Write { offset, bytes } => write(to, *offset, bytes),
            Pending::Len(len) => to.resize(*len, 0),
        }
    }

    fn apply_some(&self, to: &mut Vec<u8>, drawn: u64) {
        let is_kept = |what: u64| SplitMix::new(drawn ^ what.wrapping_mul(0x9e37_79b9)).below(2) == 0;
        match self {
            Pending::Write { offset, bytes } => {
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    let at = offset + index * SECTOR;
                    let what = at as u64 ^ (u64::from(crc32fast::hash(sector)) << 32);
                    if is_kept(what) {
                        write(to, at, sector);
                    }
                }
            }
            Pending::Len(len) if is_kept(*len as u64) => self.apply(to),
            Pending::Len(_) => {}
        }
    }
}

fn write(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}

struct Handle {
    disk: SimDisk,
    name: String,
    boot: u64,
}

impl Handle {
    /// Runs `act` on the file if the power is on.
    fn with<T>(&self, costs: u64, act: impl FnOnce(&mut SimFile) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        let is_gone = state.boot != self.boot || state.operations_left == Some(0);
        if is_gone {
            return Err(io::Error::other("the power is gone"));
        }
        if let Some(left) = &mut state.operations_left {
            *left -= costs;
        }
        act(state.files.get_mut(&self.name).expect("an open handle's file exists"))
    }

    fn change(&self, pending: Pending) -> io::Result<()> {
        self.with(1, |file| {
            pending.apply(&mut file.visible);
            file.pending.push(pending);
            Ok(())
        })
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        self.with(0, |file| Ok(file.visible.len() as u64))
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.with(0, |file| {
            let start = offset as usize;
            let from = file.visible.get(start..start + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            into.copy_from_slice(from);
            Ok(())
        })
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Pending::Write { offset: offset as usize, bytes: bytes.to_vec() })
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Pending::Len(len as usize))
    }
    fn sync(&self) -> io::Result<()> {
        self.with(1, |file| {
            for pending in std::mem::take(&mut file.pending) {
                pending.apply(&mut file.durable);
            }
            Ok(())
        })
    }
}

/// A clock that stands until it is moved.
#[derive(Default)]
pub struct ManualClock(Mutex<Time>);

#[derive(Default)]
struct Time {
    now: Tick,
    sleepers: Vec<(Tick, oneshot::Sender<()>)>,
}

impl ManualClock {
    /// The calendar when the clock is made: 2026-01-01 in ms.
    pub const WALL_START: Wall = Wall(1_767_225_600_000);

    /// Moves time on and wakes whoever slept until then.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time();
        time.now = time.now + by;
        let now = time.now;
        let (due, later) =
            std::mem::take(&mut time.sleepers).into_iter().partition(|(until, _)| *until <= now);
        time.sleepers = later;
        drop(time);
        let due: Vec<(Tick, oneshot::Sender<()>)> = due;
        for (_, sleeper) in due {
            let _ = sleeper.send(());
        }
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Tick {
        self.time().now
    }
    fn wall(&self) -> Wall {
        Self::WALL_START + self.time().now.since(Tick(0))
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        let mut time = self.time();
        if until <= time.now {
            return Box::pin(async {});
        }
        let (wake, woken) = oneshot::channel();
        time.sleepers.push((until, wake));
        Box::pin(async move {
            let _ = woken.await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_nothing_else() {
        let disk = SimDisk::default();
        let file = disk.open("f").unwrap();
        file.write_at(0, b"kept").unwrap();
        file.sync().unwrap();
        file.write_at(0, b"lost").unwrap();
        disk.cut_power(Loss::All, &mut SplitMix::new(1));
        assert_eq!(disk.durable("f"), b"kept");
        assert!(file.len().is_err(), "a handle from before the cut is dead");
    }
}
