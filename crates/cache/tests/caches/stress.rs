//! Many threads at once: nothing wrong is ever found, and what was forgotten is gone.

use tutti_base::rng::{Rng, SplitMix};

use crate::world::{World, body, bytes, key, now, result};

const THREADS: u64 = 4;
const KEYS: u64 = 60;
const TURNS: u64 = 3000;

#[test]
fn puts_finds_and_forgets_of_many_threads_do_not_mix() {
    // Little memory and little disk, so that all tiers evict all the time.
    let world = World::new(|config| {
        config.memory_bytes = 256 << 10;
        config.disk_bytes = 1 << 20;
        config.durable_after_ms = 0;
        config.queue_entries = 32;
    });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let world = &world;
            scope.spawn(move || turns(world, SplitMix::new(thread)));
        }
    });
    assert!(world.metric("tutti_cache_evictions_total{tier=\"memory\"}") > 0);
    assert!(world.metric("tutti_cache_evictions_total{tier=\"results\"}") > 0);
    for number in 0..KEYS {
        world.caches.results.forget(&key(number));
        assert!(world.find(number).is_none());
    }
    world.wait_until_idle();
    let stats = world.stats();
    assert_eq!((stats.resident, stats.kept, stats.kept_bytes, stats.disk_ok), (0, 0, 0, true));
    assert!(world.files("results").is_empty());
    let world = world.restart();
    assert!((0..KEYS).all(|number| world.find(number).is_none()));
}

fn turns(world: &World, mut rng: SplitMix) {
    for _ in 0..TURNS {
        let number = rng.below(KEYS);
        let len = len_of(number);
        match rng.below(10) {
            0..=3 => drop(world.put(number, len)),
            4 => world.caches.results.forget(&key(number)),
            5 => {
                let rebound = now(world.caches.results.rebind(key(number), crate::world::binding(number)));
                assert!(rebound.is_none_or(|entry| bytes(&entry.body) == body(number, len)));
            }
            6 => {
                let found = now(world.caches.results.find_result(&result(number)));
                assert!(found.is_none_or(|(meta, _)| meta.len == len as u64));
            }
            _ => drop(world.finds(number, len)),
        }
    }
}

fn len_of(number: u64) -> usize {
    // Some small enough for memory, some not.
    500 + usize::try_from(number).unwrap() * 700
}

#[test]
fn what_was_forgotten_is_not_found_by_a_look_up_that_was_on_its_way() {
    let world = World::new(|_| {});
    for turn in 0..200 {
        world.put_on_disk(turn, 1000);
    }
    let world = world.restart();
    std::thread::scope(|scope| {
        let world = &world;
        for turn in 0..200 {
            let finder = scope.spawn(move || drop(world.find(turn)));
            world.caches.results.forget(&key(turn));
            assert!(world.find(turn).is_none());
            finder.join().unwrap();
            assert!(world.caches.results.resident(&key(turn)).is_none(), "turn {turn}");
        }
    });
}
