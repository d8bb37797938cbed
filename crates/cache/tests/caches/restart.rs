//! What is there after a start, and what putting, rebinding, forgetting and sharing bytes mean.

use std::sync::Arc;
use std::time::Duration;

use tutti_base::{Body, KeptBody};
use tutti_cache::{CacheConfig, Caches};

use crate::world::{World, binding, body, bytes, eventually, key, meta, now, result};

const SMALL: usize = 5000;
const LARGE: usize = 100_000;

#[test]
fn results_are_warm_after_a_restart() {
    let world = World::new(|_| {});
    assert!(matches!(world.put(1, SMALL).body, KeptBody::Whole(_)));
    world.put(2, LARGE);
    let world = world.restart();
    assert_eq!((world.stats().kept, world.stats().resident, world.stats().disk_ok), (2, 0, true));
    assert!(world.caches.results.resident(&key(1)).is_none());
    let small = world.find(1).unwrap();
    assert_eq!(small.binding, binding(1));
    assert_eq!(small.meta, meta(&body(1, SMALL)));
    assert_eq!(bytes(&small.body), body(1, SMALL));
    assert!(world.caches.results.resident(&key(1)).is_some(), "a small one found on disk becomes resident");
    let large = world.find(2).unwrap();
    assert!(matches!(large.body, KeptBody::File(_)), "a large one is served from its file");
    assert_eq!(bytes(&large.body), body(2, LARGE));
    assert!(world.caches.results.resident(&key(2)).is_none());
    assert!(world.find(3).is_none());
}

#[test]
fn dropping_closes_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::at(folder.path(), |_| {});
    world.put(1, SMALL);
    drop(world);
    assert!(World::at(folder.path(), |_| {}).finds(1, SMALL));
}

#[test]
fn what_waits_for_the_disk_is_found_though_it_is_too_large_for_memory() {
    let world = World::new(|_| {});
    world.faults.hold(tutti_cache::FileOp::Create);
    world.put(1, LARGE);
    assert!(world.caches.results.resident(&key(1)).is_none());
    assert!(world.finds(1, LARGE));
    world.faults.heal();
    world.wait_until_idle();
    assert!(matches!(world.find(1).unwrap().body, KeptBody::File(_)));
    assert!(world.finds(1, LARGE));
}

#[test]
fn a_degraded_result_is_kept_in_memory_only() {
    let world = World::new(|_| {});
    let body = body(1, SMALL);
    let degraded = tutti_cache::Binding { degraded: Some("quality".into()), ..binding(1) };
    world.caches.results.put(key(1), degraded, meta(&body), body);
    world.put(2, SMALL);
    assert!(world.caches.results.resident(&key(1)).is_some());
    let world = world.restart();
    assert!(world.finds(2, SMALL) && world.find(1).is_none());
}

#[test]
fn without_a_folder_results_live_in_memory() {
    let config = CacheConfig { memory_bytes: 4 << 20, ..CacheConfig::default() };
    let caches =
        Caches::open(config, Arc::new(crate::world::HandClock::default()), &Default::default()).unwrap();
    let body = body(1, SMALL);
    caches.results.put(key(1), binding(1), meta(&body), body.clone());
    assert_eq!(bytes(&now(caches.results.find(&key(1))).unwrap().body), body);
    assert!(now(caches.results.find_result(&result(1))).is_some());
    assert!(now(caches.results.rebind(key(2), binding(1))).is_some());
    assert!(now(caches.results.rebind(key(3), binding(3))).is_none());
    caches.results.forget(&key(1));
    assert!(now(caches.results.find(&key(1))).is_none());
    assert!(caches.close());
}

#[test]
fn a_result_is_found_by_its_own_key_in_memory_and_on_disk() {
    let world = World::new(|_| {});
    world.put_as(1, 100, SMALL);
    let found = |world: &World| now(world.caches.results.find_result(&result(100)));
    assert_eq!(found(&world).unwrap().0, meta(&body(100, SMALL)));
    let world = world.restart();
    let (said, Body::Whole(bytes)) = found(&world).unwrap() else { panic!("a small one is whole") };
    assert_eq!((said, bytes), (meta(&body(100, SMALL)), body(100, SMALL)));
    assert!(now(world.caches.results.find_result(&result(101))).is_none());
}

#[test]
fn a_binding_is_renewed_and_another_request_bound_without_the_bytes() {
    for len in [SMALL, LARGE] {
        let world = World::new(|_| {});
        world.put(1, len);
        world.wait_until_idle();
        let world = world.restart();
        let renewed = tutti_cache::Binding { purge_seen: 99, ..binding(1) };
        let entry = now(world.caches.results.rebind(key(1), renewed.clone())).unwrap();
        assert_eq!((entry.binding.clone(), bytes(&entry.body)), (renewed.clone(), body(1, len)));
        assert!(now(world.caches.results.rebind(key(2), binding(1))).is_some());
        assert!(now(world.caches.results.rebind(key(3), binding(3))).is_none(), "its bytes are not kept");
        let world = world.restart();
        assert_eq!(world.find(1).unwrap().binding, renewed);
        assert_eq!(bytes(&world.find(2).unwrap().body), body(1, len));
        assert!(world.find(3).is_none());
        assert_eq!(world.files("results").len(), 1, "there is one file for both");
    }
}

#[test]
fn equal_bytes_share_a_file_that_goes_with_the_last_of_them() {
    let world = World::new(|_| {});
    let body = body(9, LARGE);
    for number in 1..=2 {
        world.caches.results.put(key(number), binding(number), meta(&body), body.clone());
    }
    world.put_as(3, 9, LARGE);
    world.wait_until_idle();
    assert_eq!((world.stats().kept, world.files("results").len()), (3, 1));
    for number in 1..=3 {
        assert_eq!(bytes(&world.find(number).unwrap().body), body, "{number} is there until it is forgotten");
        world.caches.results.forget(&key(number));
        world.wait_until_idle();
    }
    assert_eq!((world.stats().kept, world.stats().kept_bytes, world.files("results").len()), (0, 0, 0));
}

#[test]
fn what_is_replaced_leaves_no_file() {
    let world = World::new(|_| {});
    for result in 1..=5 {
        world.put_as(1, result, LARGE);
        world.wait_until_idle();
    }
    assert_eq!((world.stats().kept, world.files("results").len()), (1, 1));
    assert_eq!(bytes(&world.find(1).unwrap().body), body(5, LARGE));
}

#[test]
fn what_is_forgotten_stays_so_after_a_restart() {
    let world = World::new(|_| {});
    for number in 0..20 {
        world.put(number, SMALL);
    }
    world.wait_until_idle();
    world.caches.results.forget(&key(7));
    assert!(world.find(7).is_none(), "at once");
    let world = world.restart();
    assert!(world.find(7).is_none());
    assert!(world.finds(8, SMALL));
    world.caches.results.clear();
    assert!(world.find(8).is_none(), "at once");
    world.put(30, SMALL);
    let world = world.restart();
    assert_eq!((world.stats().kept, world.files("results").len()), (1, 1));
    assert!(world.finds(30, SMALL) && world.find(8).is_none());
}

#[test]
fn a_folder_that_another_process_uses_is_taken_over_when_it_is_free() {
    let first = World::new(|_| {});
    first.put(1, SMALL);
    let second = World::at(&first.dir, |_| {});
    assert!(!second.stats().disk_ok);
    assert_eq!(second.find(1).map(|_| ()), None);
    second.put(2, SMALL);
    assert!(second.finds(2, SMALL), "memory works meanwhile");
    assert!(first.caches.close());
    eventually("the second has it", || {
        second.clock.advance(Duration::from_secs(6));
        second.stats().disk_ok
    });
    assert!(second.finds(1, SMALL));
}
