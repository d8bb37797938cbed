//! A disk that fails at any operation: served without storing, counted, tried again, and never an error.

use std::sync::Arc;
use std::time::Duration;

use tutti_cache::FileOp;

use crate::world::{EIO, EROFS, HandFaults, World, eventually, key};

const SMALL: usize = 2000;
const LARGE: usize = 100_000;
const RETRY: Duration = Duration::from_secs(6);

const WRITING: [FileOp; 5] =
    [FileOp::Create, FileOp::Write, FileOp::Rename, FileOp::IndexWrite, FileOp::IndexSync];

#[test]
fn a_disk_that_fails_while_in_use_is_left_alone_and_taken_up_again() {
    for op in WRITING {
        for errno in [EIO, EROFS] {
            check_failure_in_use(op, errno);
        }
    }
}

fn check_failure_in_use(op: FileOp, errno: i32) {
    // Changes are synced at once, so that a sync that fails shows.
    let world = World::new(|config| config.durable_after_ms = 0);
    world.put_on_disk(1, LARGE);
    world.faults.fail(op, errno);
    assert_eq!(world.put(2, SMALL).meta.len, SMALL as u64);
    eventually("the failure is noticed", || !world.stats().disk_ok);
    assert!(world.metric("tutti_cache_disk_errors_total") > 0, "{op:?}");
    assert_eq!(world.metric("tutti_cache_disk_ok{kind=\"results\"}"), 0);
    assert!(world.finds(2, SMALL), "{op:?}: memory has it");
    world.put(3, SMALL);
    world.caches.results.forget(&key(1));
    assert!(world.find(1).is_none());
    assert!(world.metric("tutti_cache_disk_dropped_writes_total{kind=\"results\",reason=\"failed\"}") > 0);

    world.faults.heal();
    eventually("it is tried again", || {
        world.clock.advance(RETRY);
        world.stats().disk_ok
    });
    world.wait_until_idle();
    world.put_on_disk(4, LARGE);
    let world = world.restart();
    assert!(world.finds(4, LARGE), "{op:?}");
    assert!(world.find(1).is_none(), "{op:?}: what was forgotten while it failed does not come back");
}

#[test]
fn while_files_cannot_be_written_they_are_still_read() {
    let world = World::new(|_| {});
    world.put_on_disk(1, LARGE);
    for op in [FileOp::Create, FileOp::Write, FileOp::Rename, FileOp::MakeFolder] {
        world.faults.fail(op, EROFS);
    }
    world.put(2, LARGE);
    eventually("the failure is noticed", || !world.stats().disk_ok);
    assert!(world.finds(1, LARGE));
    assert!(world.find(2).is_none());
}

#[test]
fn a_disk_that_fails_at_the_start_is_used_once_it_works() {
    for op in [
        FileOp::MakeFolder,
        FileOp::Open,
        FileOp::Create,
        FileOp::IndexRead,
        FileOp::IndexWrite,
        FileOp::List,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let before = World::at(folder.path(), |_| {});
        before.put(1, LARGE);
        drop(before);
        let faults = Arc::new(HandFaults::default());
        faults.fail(op, EIO);
        let world = World::with_faults(folder.path(), faults, |_| {});
        assert!(!world.stats().disk_ok, "{op:?}");
        world.put(2, SMALL);
        assert!(world.finds(2, SMALL) && world.find(1).is_none());
        world.faults.heal();
        eventually("it is in use", || {
            world.clock.advance(RETRY);
            world.stats().disk_ok
        });
        assert!(world.finds(1, LARGE), "{op:?}: with what was on it");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_found_and_replaced_by_the_next_put() {
    for len in [SMALL, LARGE] {
        let world = World::new(|_| {});
        world.put_on_disk(1, len);
        let world = world.restart();
        world.faults.fail(FileOp::Read, EIO);
        assert!(world.find(1).is_none());
        assert!(world.metric("tutti_cache_disk_errors_total{kind=\"results\",op=\"read\"}") > 0);
        world.faults.heal();
        world.wait_until_idle();
        assert!(world.stats().disk_ok, "one bad file is not a bad disk");
        assert_eq!(world.stats().kept, 0);
        world.put_on_disk(1, len);
        assert!(world.restart().finds(1, len));
    }
}

#[test]
fn an_index_that_cannot_be_read_is_opened_again() {
    let world = World::new(|config| config.durable_after_ms = 0);
    for number in 0..3000 {
        world.put(number, 10);
        if number % 500 == 0 {
            world.wait_until_idle();
        }
    }
    let world = world.restart();
    world.faults.fail(FileOp::IndexWrite, EIO);
    world.put(5000, 10);
    eventually("the failure is noticed", || !world.stats().disk_ok);
    assert!(world.find(17).is_none(), "without its index nothing is found");
    world.faults.heal();
    eventually("it is in use", || {
        world.clock.advance(RETRY);
        world.stats().disk_ok
    });
    assert!(world.finds(17, 10));
}

#[test]
fn originals_go_to_memory_files_while_the_disk_fails() {
    let world = World::new(|_| {});
    world.faults.fail(FileOp::Write, EIO);
    let content = vec![3; 10_000];
    world.keep_original(1, &content);
    assert!(world.metric("tutti_cache_unnamed_originals_total") > 0);
    world.faults.heal();
    assert!(world.find_original(1).is_none(), "it was served, and not kept");
}
