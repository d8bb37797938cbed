//! The limits: bytes on disk, the part of the volume that stays free, the queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tutti_cache::FileOp;

use crate::world::{ENOSPC, VOLUME_BYTES, World, eventually, key, now};

const LEN: usize = 30_000;
const MIB: u64 = 1 << 20;

fn small_disk() -> World {
    World::new(|config| {
        config.disk_bytes = 4 * MIB;
        config.originals_percent = 50;
    })
}

#[test]
fn the_oldest_goes_at_the_limit_but_not_what_is_used() {
    let world = small_disk();
    for number in 0..300 {
        world.put(number, LEN);
        world.wait_until_idle();
        assert!(world.finds(0, LEN), "the one that is used is there after {number}");
        let stats = world.stats();
        assert!(stats.kept_bytes <= stats.disk_limit, "{stats:?}");
    }
    assert_eq!(world.stats().disk_limit, 2 * MIB);
    let on_disk: u64 = world.files("results").iter().map(|(_, len)| len.div_ceil(4096) * 4096).sum();
    assert!((MIB..=2 * MIB).contains(&on_disk), "{on_disk} bytes are on disk");
    assert!(world.finds(299, LEN) && world.find(1).is_none());
    let kept = world.stats().kept;
    assert_eq!(world.metric("tutti_cache_evictions_total{tier=\"results\"}"), 300 - kept);
    assert_eq!(world.metric("tutti_cache_disk_bytes{kind=\"results\"}"), world.stats().kept_bytes);
    let world = world.restart();
    assert_eq!(world.stats().kept, kept, "a survey at start counts the same");
    assert!(world.finds(299, LEN));
}

#[test]
fn what_memory_holds_is_spared_on_disk() {
    let world = small_disk();
    world.put(0, 10_000);
    for number in 1..300 {
        world.put(number, LEN);
        world.wait_until_idle();
    }
    assert!(world.caches.results.resident(&key(0)).is_some());
    assert!(world.restart().finds(0, 10_000), "though the disk was never asked for it");
}

#[test]
fn what_is_larger_than_the_limit_is_not_kept_and_evicts_nothing() {
    let world = small_disk();
    world.put_on_disk(1, LEN);
    world.put(2, 3 * MIB as usize);
    world.wait_until_idle();
    assert_eq!(world.metric("tutti_cache_disk_dropped_writes_total{kind=\"results\",reason=\"space\"}"), 1);
    assert!(world.finds(1, LEN) && world.find(2).is_none());
}

#[test]
fn the_caches_shrink_when_others_fill_the_volume_and_grow_again() {
    let world = World::new(|_| {});
    for number in 0..50 {
        world.put_on_disk(number, LEN);
    }
    let full = world.stats().kept_bytes;
    // 5 % are to stay free; half of what we take is lacking.
    world.volume.free.store(VOLUME_BYTES / 20 - full / 2, Ordering::SeqCst);
    eventually("half is evicted", || world.stats().kept_bytes <= full / 2);
    assert!(world.stats().disk_ok && world.stats().disk_limit > full, "the limit itself is as it was");
    world.volume.free.store(VOLUME_BYTES / 2, Ordering::SeqCst);
    world.put_on_disk(100, LEN);
    assert!(world.finds(100, LEN));
}

#[test]
fn on_a_full_volume_answers_are_served_without_being_stored() {
    let world = World::new(|_| {});
    world.volume.free.store(0, Ordering::SeqCst);
    let entry = world.put(1, LEN);
    assert_eq!(entry.meta.len, LEN as u64);
    world.wait_until_idle();
    assert_eq!((world.stats().kept, world.stats().disk_ok), (0, true));
    assert_eq!(world.metric("tutti_cache_disk_dropped_writes_total{kind=\"results\",reason=\"space\"}"), 1);
}

#[test]
fn a_volume_that_is_full_in_spite_of_the_limits_costs_the_oldest() {
    let world = World::new(|_| {});
    for number in 0..40 {
        world.put_on_disk(number, LEN);
    }
    world.faults.fail(FileOp::Write, ENOSPC);
    world.put(100, LEN);
    world.wait_until_idle();
    assert!(world.stats().kept < 40 && world.stats().kept > 30, "{:?}", world.stats());
    assert!(world.find(0).is_none() && world.finds(39, LEN) && world.find(100).is_none());
    world.faults.heal();
    world.put_on_disk(101, LEN);
    assert!(world.finds(101, LEN) && world.stats().disk_ok);
}

#[test]
fn what_the_disk_cannot_keep_up_with_is_dropped_and_counted() {
    let world = World::new(|config| config.queue_entries = 10);
    world.faults.hold(FileOp::Create);
    for number in 0..25 {
        world.put(number, 1000);
    }
    assert_eq!(world.metric("tutti_cache_disk_dropped_writes_total{kind=\"results\",reason=\"queue\"}"), 15);
    assert!(world.finds(24, 1000), "memory has it");
    world.faults.heal();
    world.wait_until_idle();
    assert_eq!(world.stats().kept, 10);
}

#[test]
fn bytes_that_wait_are_bounded_too() {
    let world = World::new(|config| config.queue_bytes = MIB);
    world.faults.hold(FileOp::Create);
    for number in 0..100 {
        world.put(number, 100_000);
    }
    assert!(world.metric("tutti_cache_queue_bytes") <= MIB);
    assert_eq!(world.metric("tutti_cache_disk_dropped_writes_total{kind=\"results\",reason=\"queue\"}"), 90);
    world.faults.heal();
    world.wait_until_idle();
    assert_eq!(world.stats().kept, 10);
}

#[test]
fn a_replacement_that_is_dropped_takes_what_it_replaces_along() {
    let world = World::new(|config| config.queue_entries = 2);
    world.put_on_disk(1, LEN);
    world.faults.hold(FileOp::Create);
    world.put(2, LEN);
    world.put(3, LEN);
    world.put_as(1, 11, LEN);
    world.faults.heal();
    world.wait_until_idle();
    assert!(world.find(1).is_none(), "neither the new one nor the old one");
    assert!(world.finds(2, LEN) && world.finds(3, LEN));
}

#[test]
fn look_ups_that_find_no_thread_are_not_found_and_counted() {
    let world = World::new(|config| config.read_queue = 1);
    for number in 0..8 {
        world.put_on_disk(number, LEN);
    }
    world.faults.hold(FileOp::Open);
    let results = world.caches.results.clone();
    let keys: Vec<_> = (0..8).map(key).collect();
    let finding: Vec<_> = keys.iter().map(|key| results.find(key)).collect();
    world.faults.heal();
    let found = finding.into_iter().map(now).filter(Option::is_some).count() as u64;
    let dropped = world.metric("tutti_cache_disk_dropped_reads_total");
    // Two threads and one place: how many the threads had taken already is theirs to know.
    assert!((1..=3).contains(&found), "{found} were found");
    assert_eq!(found + dropped, 8);
}

#[test]
fn a_small_real_volume_means_eviction_and_no_error() {
    let Some(mount) = Mount::tmpfs("size=16m") else { return };
    let world = World::at(mount.path(), |config| {
        config.disk_bytes = 1 << 30;
        config.originals_percent = 1;
        config.keep_free_percent = 0;
    });
    for number in 0..800 {
        world.put(number, LEN);
        if number % 50 == 0 {
            world.wait_until_idle();
        }
    }
    world.wait_until_idle();
    assert!(
        world.metric("tutti_cache_disk_errors_total{kind=\"results\",op=\"full\"}") > 0,
        "the volume was full"
    );
    eventually("it is in use", || {
        world.clock.advance(std::time::Duration::from_secs(6));
        world.stats().disk_ok
    });
    assert!(world.stats().kept > 50, "{:?}", world.stats());
    world.put_on_disk(1000, LEN);
    assert!(world.finds(1000, LEN));
    drop(world);
    // And with the rule that keeps a part free, it never gets that far.
    let world = World::at(mount.path(), |config| {
        config.disk_bytes = 0;
        config.keep_free_percent = 20;
    });
    drop(world);
    let machine = Arc::new(tutti_cache::MachineVolume);
    let space = tutti_cache::Volume::space(&*machine, mount.path()).unwrap();
    assert_eq!(space.total, 16 * MIB);
}

#[test]
fn a_folder_that_is_read_only_is_not_used_until_it_can_be_written() {
    let Some(mount) = Mount::tmpfs("size=16m") else { return };
    let world = World::at(mount.path(), |_| {});
    world.put(1, LEN);
    drop(world);
    mount.remount("ro");
    let world = World::at(mount.path(), |_| {});
    assert!(!world.stats().disk_ok);
    world.put(2, 1000);
    assert!(world.finds(2, 1000), "memory works");
    let original = world.original(b"an original");
    assert_eq!(crate::world::file_bytes(&original.body), &b"an original"[..]);
    mount.remount("rw");
    eventually("it is in use again", || {
        world.clock.advance(std::time::Duration::from_secs(6));
        world.stats().disk_ok
    });
    assert!(world.finds(1, LEN), "with what was on it");
    world.put_on_disk(3, LEN);
}

/// A file system of its own, unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tutti-test"]).arg(folder.path());
        if mount.output().is_ok_and(|done| done.status.success()) {
            return Some(Self(folder));
        }
        println!("SKIPPED: needs root (mounting a tmpfs)");
        None
    }
    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
    fn remount(&self, how: &str) {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(self.path());
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.path()).status();
    }
}
