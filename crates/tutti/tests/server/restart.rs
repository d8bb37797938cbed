//! The caches over restarts: warm after an orderly one and after a kill, and never with half a file.

use std::time::{Duration, Instant};

use crate::house::{House, eventually};
use crate::picture::Picture;

/// Waits until files of folders are looked at again before what is kept of them is served.
fn past_the_look(since: Instant) {
    eventually("a second has passed", || (since.elapsed() > Duration::from_millis(1100)).then_some(()));
}

fn target(width: u32) -> String {
    format!("/image/unsafe/w:{width}/plain/local:///scene.png@webp")
}

#[test]
fn results_are_hits_after_a_restart_without_a_render() {
    let mut house = House::start();
    house.put("scene.png", &Picture::scene(400, 300, 2).png());
    let before = house.image(&target(200));
    house.wait_for_kept(1);
    assert!(house.terminate().success());
    past_the_look(Instant::now());
    house.start_again();
    let after = house.image(&target(200));
    assert!(after.is_hit(), "{}", after.cache_status());
    assert_eq!((after.etag(), &after.body), (before.etag(), &before.body));
    assert_eq!(house.renders(), 0.0);
    let head = house.ask("GET", &target(200), &[("If-None-Match", before.etag())]);
    assert_eq!(head.status, 304, "a client's copy outlives the restart as well");
}

#[test]
fn after_kill_9_results_are_whole_and_the_durable_ones_are_hits() {
    let mut house = House::under("[cache]\ndurable_after_ms = 0\n");
    house.put("scene.png", &Picture::scene(400, 300, 2).png());
    let early: Vec<_> = (100..110).map(|width| (width, house.image(&target(width)))).collect();
    house.wait_for_kept(early.len() as u64);
    // The index makes one batch durable before it takes the next.
    let late: Vec<_> = (110..140).map(|width| (width, house.image(&target(width)))).collect();
    house.wait_for_kept(early.len() as u64 + 1);
    house.kill();
    past_the_look(Instant::now());
    house.start_again();
    for (width, before) in &early {
        let after = house.image(&target(*width));
        assert!(after.is_hit(), "{width}: {}", after.cache_status());
        assert_eq!(after.body, before.body);
    }
    assert_eq!(house.renders(), 0.0);
    for (width, before) in &late {
        let after = house.image(&target(*width));
        assert_eq!((after.etag(), &after.body), (before.etag(), &before.body), "{width}");
    }
}

#[test]
fn a_file_of_the_cache_that_was_cut_is_made_again() {
    let mut house = House::start();
    house.put("scene.png", &Picture::scene(600, 400, 2).png());
    let before = house.image(&target(500));
    house.wait_for_kept(1);
    house.terminate();
    let mut cut = 0;
    let mut folders = vec![house.data().join("cache")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).is_ok_and(|bytes| bytes == before.body) {
                std::fs::write(&path, &before.body[..before.body.len() / 2]).expect("a file");
                cut += 1;
            }
        }
    }
    assert_eq!(cut, 1, "the result lies in one file of its own");
    house.start_again();
    let after = house.image(&target(500));
    assert_eq!(after.body, before.body);
    assert_eq!(house.renders(), 1.0);
}

#[test]
fn an_original_that_changed_while_the_server_was_down_is_seen() {
    let mut house = House::start();
    house.put("scene.png", &Picture::scene(400, 300, 2).png());
    house.image(&target(200));
    house.wait_for_kept(1);
    house.terminate();
    let other = Picture::plain(400, 300, [10, 200, 10]);
    house.put("scene.png", &other.png());
    past_the_look(Instant::now());
    house.start_again();
    other.scaled(200, 150).assert_shown_by(&house.image(&target(200)).body);
}
