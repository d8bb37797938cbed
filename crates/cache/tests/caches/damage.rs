//! Files that are not what was written: cut, changed, gone; and an index that is not one any more.

use std::fs;
use std::path::Path;

use crate::world::{World, body, eventually, files};

/// What is done to an index.
type IndexDamage = fn(&mut Vec<u8>);
/// What is done to a blob's file.
type FileDamage = fn(&Path);

const SMALL: usize = 2000;
const LARGE: usize = 400_000;

#[test]
fn a_damaged_file_is_dropped_and_not_served() {
    let damages: [(&str, FileDamage); 4] = [
        ("cut", |path| fs::write(path, &fs::read(path).unwrap()[..1500]).unwrap()),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("changed", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("gone", |path| fs::remove_file(path).unwrap()),
    ];
    for len in [SMALL, LARGE] {
        for (what, damage) in damages {
            let world = World::new(|_| {});
            world.put(1, len);
            world.put(2, len);
            let mut world = world.restart();
            damage(&world.file_of(1, len));
            assert!(world.find(1).is_none(), "{what}, {len} bytes");
            world.wait_until_idle();
            assert_eq!(world.stats().kept, 1, "{what}, {len} bytes: its entry is dropped");
            assert_eq!(world.metric("tutti_cache_disk_damaged_total"), 1);
            assert!(world.finds(2, len));
            world.put_on_disk(1, len);
            world = world.restart();
            assert!(world.finds(1, len), "{what}, {len} bytes: it can be kept again");
        }
    }
}

#[test]
fn a_damaged_index_is_moved_aside_and_the_cache_begins_empty() {
    let damages: [(&str, IndexDamage); 6] = [
        ("empty of sense", |bytes| bytes.fill(0xa5)),
        ("zeroed", |bytes| bytes.fill(0)),
        ("cut", |bytes| bytes.truncate(bytes.len() / 3)),
        ("cut short", |bytes| bytes.truncate(100)),
        ("text", |bytes| *bytes = b"this is not a database".repeat(1000)),
        ("its head changed", |bytes| bytes[..64].fill(0xff)),
    ];
    for (what, damage) in damages {
        let world = World::new(|_| {});
        for number in 0..50 {
            world.put(number, SMALL);
        }
        assert!(world.caches.close());
        let path = world.dir.join("results/index.redb");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let world = world.restart();
        assert_eq!((world.stats().kept, world.stats().disk_ok), (0, true), "{what}");
        assert!(world.dir.join("results/index.damaged").exists(), "{what}");
        assert!(world.find(1).is_none());
        eventually("files without an entry are swept", || world.files("results").is_empty());
        world.put_on_disk(1, SMALL);
        assert!(world.restart().finds(1, SMALL), "{what}");
    }
}

#[test]
fn bits_flipped_anywhere_in_the_index_never_serve_wrong_bytes() {
    let world = World::new(|_| {});
    for number in 0..200 {
        world.put(number, SMALL);
    }
    assert!(world.caches.close());
    let path = world.dir.join("results/index.redb");
    let whole = fs::read(&path).unwrap();
    let blobs: Vec<_> =
        world.files("results").into_iter().map(|(path, _)| (fs::read(&path).unwrap(), path)).collect();
    let mut emptied = 0;
    let mut world = world;
    for round in 0..12 {
        let mut bytes = whole.clone();
        for at in (round * 997 + 64..bytes.len()).step_by(bytes.len() / 40) {
            bytes[at] ^= 1 << (round % 8);
        }
        assert!(world.caches.close());
        fs::write(&path, bytes).unwrap();
        for (bytes, path) in &blobs {
            fs::write(path, bytes).unwrap();
        }
        world = world.restart();
        // Each that is found is right: that is what `finds` asserts.
        let found = (0..200).filter(|number| world.finds(*number, SMALL)).count();
        emptied += usize::from(found == 0);
        eventually("it works", || world.stats().disk_ok);
    }
    assert!(emptied > 0, "some of the damage was noticed");
}

#[test]
fn files_that_no_entry_knows_are_swept_in_the_background() {
    let world = World::new(|_| {});
    world.put_on_disk(1, SMALL);
    let stray = world.file_of(2, SMALL);
    assert!(world.caches.close());
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, body(2, SMALL)).unwrap();
    fs::write(world.dir.join("results/incoming/99-1"), b"unfinished").unwrap();
    let world = world.restart();
    eventually("the stray file is swept", || !stray.exists());
    assert_eq!(world.metric("tutti_cache_disk_orphans_total{kind=\"results\"}"), 1);
    assert!(files(&world.dir.join("results/incoming")).is_empty());
    assert!(world.finds(1, SMALL), "the other file stays");
}
