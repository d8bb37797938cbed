//! Processes that end without a word: whatever is found afterwards is whole.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::world::{World, eventually};

const FOLDER: &str = "TUTTI_CACHE_TEST_FOLDER";
const LEN: usize = 3000;
const ROUNDS: u64 = 3;

#[test]
fn after_kill_9_what_is_found_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::writes_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let kept = said.map_while(Result::ok).any(|line| line.contains("KEPT ENOUGH"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(kept, "the child kept something before it was killed");
        let world = World::at(folder.path(), |_| {});
        let found = (0..5000).filter(|number| world.finds(*number, LEN)).count();
        assert!(found >= 100, "{found} were found in round {round}");
        assert!(world.stats().disk_ok);
    }
}

/// The child of the test above; does nothing unless that one started it.
#[test]
fn writes_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let world = World::at(Path::new(&folder), |config| config.durable_after_ms = 0);
    // Each batch is durable before the next is written, and none has more than 256.
    for number in (0..5000).cycle() {
        world.put(number, LEN);
        if number % 7 == 3 {
            world.caches.results.forget(&crate::world::key(number - 1));
        }
        if world.stats().kept >= 1000 {
            println!("KEPT ENOUGH");
        }
    }
}

#[test]
fn a_folder_copied_while_it_is_written_holds_only_whole_entries() {
    let world = World::new(|_| {});
    for number in 0..100 {
        world.put(number, LEN);
    }
    let world = world.restart();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let number = next.fetch_add(1, Ordering::SeqCst);
                world.put(1000 + number % 300, LEN);
                world.caches.results.forget(&crate::world::key(1000 + (number + 150) % 300));
                if number % 50 == 0 {
                    world.wait_until_idle();
                }
            }
        });
        for _ in 0..4 {
            let from = next.load(Ordering::SeqCst);
            eventually("writing goes on", || next.load(Ordering::SeqCst) > from + 100);
            let copy = tempfile::tempdir().unwrap();
            copy_folder(&world.dir, copy.path());
            let copied = World::at(copy.path(), |_| {});
            // What was durable before the copying began is there; whatever else is, is whole.
            assert_eq!((0..100).filter(|number| copied.finds(*number, LEN)).count(), 100);
            for number in 1000..1300 {
                copied.finds(number, LEN);
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            // What has been renamed meanwhile is not copied.
            let _ = fs::copy(path, to);
        }
    }
}
