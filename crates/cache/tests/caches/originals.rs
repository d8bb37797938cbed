//! Originals: written once, kept under a name, readable as long as anybody reads.

use std::fs;
use std::os::unix::fs::FileExt;

use tutti_base::{ContentHash, Wall};
use tutti_cache::{FileOp, OriginalRecord};

use crate::world::{EIO, World, eventually, file_bytes, files, now, record, source};

fn content(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ seed).collect()
}

#[test]
fn an_original_is_found_at_once_and_after_a_restart() {
    let world = World::new(|_| {});
    let bytes = content(1, 123_457);
    let sealed = world.original(&bytes);
    assert_eq!(sealed.hash, ContentHash::of(&bytes));
    assert_eq!(file_bytes(&sealed.body), bytes);
    assert!(sealed.body.file.write_at(b"x", 0).is_err(), "its descriptor is for reading");
    assert!(world.find_original(1).is_none(), "it has no name yet");
    let said = record(sealed.hash, bytes.len());
    (sealed.keep)(source(1), said.clone());
    let check = |world: &World| {
        let (record, body) = world.find_original(1).unwrap();
        assert_eq!((record, file_bytes(&body)), (said.clone(), bytes.clone().into()));
        assert!(body.file.write_at(b"x", 0).is_err());
    };
    check(&world);
    eventually("it is entered", || world.caches.originals.stats().kept == 1);
    check(&world);
    check(&world.restart());
}

#[test]
fn an_empty_original_is_an_original() {
    let world = World::new(|_| {});
    world.keep_original(1, b"");
    let world = world.restart();
    assert_eq!(world.find_original(1).unwrap().1.len, 0);
}

#[test]
fn a_record_is_changed_whether_it_waits_or_is_on_disk() {
    let world = World::new(|_| {});
    world.faults.hold(FileOp::Rename);
    world.keep_original(1, b"the bytes");
    let hash = ContentHash::of(b"the bytes");
    let until = |at| OriginalRecord { fresh_until: Wall(at), ..record(hash, 9) };
    let update = |world: &World, record| now(world.caches.originals.update(&source(1), record));
    assert!(update(&world, until(5000)));
    assert_eq!(world.find_original(1).unwrap().0, until(5000));
    world.faults.heal();
    world.wait_until_idle();
    assert_eq!(world.find_original(1).unwrap().0, until(5000));
    assert!(update(&world, until(6000)));
    let world = world.restart();
    assert_eq!(world.find_original(1).unwrap().0, until(6000));
    assert!(!update(&world, record(ContentHash::of(b"other"), 5)), "these are not the bytes that are kept");
    world.caches.originals.forget(&source(1));
    assert!(!update(&world, until(7000)));
    assert!(world.restart().find_original(1).is_none());
}

#[test]
fn a_reader_outlives_eviction() {
    let world = World::new(|config| {
        config.disk_bytes = 2 << 20;
        config.originals_percent = 50;
    });
    let first = content(1, 100_000);
    world.keep_original(0, &first);
    world.wait_until_idle();
    let (_, reader) = world.find_original(0).unwrap();
    for number in 1..60_u8 {
        world.keep_original(number.into(), &content(number + 1, 100_000));
        world.wait_until_idle();
    }
    let stats = world.caches.originals.stats();
    assert!(stats.kept_bytes <= 1 << 20 && stats.kept > 5, "{stats:?}");
    assert!(world.find_original(0).is_none());
    assert_eq!(file_bytes(&reader), first);
    assert!(world.find_original(59).is_some());
    assert!(files(&world.dir.join("originals/incoming")).is_empty());
}

#[test]
fn equal_originals_share_a_file() {
    let world = World::new(|_| {});
    world.keep_original(1, b"same");
    world.keep_original(2, b"same");
    world.wait_until_idle();
    assert_eq!(world.files("originals").len(), 1);
    world.caches.originals.forget(&source(1));
    world.wait_until_idle();
    assert!(world.find_original(1).is_none());
    assert_eq!(file_bytes(&world.find_original(2).unwrap().1), &b"same"[..]);
    world.caches.originals.clear();
    assert!(world.find_original(2).is_none());
    eventually("its file is gone", || world.files("originals").is_empty());
}

#[test]
fn what_is_not_finished_or_not_kept_leaves_nothing() {
    let world = World::new(|_| {});
    let mut writer = world.caches.originals.writer();
    writer.write(b"half").unwrap();
    assert_eq!(files(&world.dir.join("originals/incoming")).len(), 1);
    drop(writer);
    let sealed = world.original(b"whole");
    let body = sealed.body.clone();
    drop(sealed);
    assert!(files(&world.dir.join("originals/incoming")).is_empty());
    assert_eq!(file_bytes(&body), &b"whole"[..], "its reader still reads");
    let private = world.original(b"private");
    let said = OriginalRecord { shared: false, ..record(private.hash, 7) };
    (private.keep)(source(1), said);
    assert!(world.find_original(1).is_none());
    assert!(files(&world.dir.join("originals")).iter().all(|(path, _)| path.ends_with("index.redb")));
}

#[test]
fn without_a_folder_an_original_lives_in_a_sealed_memory_file() {
    let world = World::new(|config| config.dir = None);
    let bytes = content(4, 50_000);
    let sealed = world.original(&bytes);
    assert_eq!((sealed.hash, file_bytes(&sealed.body)), (ContentHash::of(&bytes), bytes.into()));
    assert!(sealed.body.file.write_at(b"x", 0).is_err());
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&*sealed.body.file));
    let writable = fs::OpenOptions::new().write(true).open(again);
    assert!(
        writable.is_err() || writable.unwrap().write_at(b"x", 0).is_err(),
        "whoever opens it anew cannot write"
    );
    let said = record(sealed.hash, 50_000);
    (sealed.keep)(source(1), said);
    assert!(world.find_original(1).is_none());
}

#[test]
fn an_original_goes_on_in_memory_when_the_disk_fails_in_the_middle() {
    let world = World::new(|_| {});
    let bytes = content(5, 700_000);
    let mut writer = world.caches.originals.writer();
    writer.write(&bytes[..600_000]).unwrap();
    world.faults.fail(FileOp::Write, EIO);
    writer.write(&bytes[600_000..650_000]).unwrap();
    writer.write(&bytes[650_000..]).unwrap();
    let sealed = writer.seal().unwrap();
    assert_eq!((sealed.hash, file_bytes(&sealed.body)), (ContentHash::of(&bytes), bytes.into()));
    assert!(files(&world.dir.join("originals/incoming")).is_empty(), "what was on disk is removed");
}

#[test]
fn a_damaged_original_is_not_served() {
    let world = World::new(|_| {});
    world.keep_original(1, &content(1, 90_000));
    let world = world.restart();
    let path = world.files("originals")[0].0.clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[70_000] ^= 4;
    fs::write(&path, bytes).unwrap();
    assert!(world.find_original(1).is_none());
    eventually("it is dropped", || world.caches.originals.stats().kept == 0 && !path.exists());
}
