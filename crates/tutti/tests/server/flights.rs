//! Many requests at once: equal ones share one render, distinct ones get their own.

use std::sync::Barrier;

use crate::client::{Client, ask};
use crate::engines::slow;
use crate::house::{House, eventually};
use crate::picture::Picture;

#[test]
fn a_hundred_equal_misses_at_once_are_one_render() {
    const CLIENTS: usize = 100;
    let house = House::of_samples();
    let target = "/image/unsafe/rs:fill:700:500/bl:2/plain/local:///photo02.jpg@webp";
    let ready = Barrier::new(CLIENTS);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || {
            let mut client = Client::connect(house.http()).expect("a connection");
            ready.wait();
            client.ask("GET", target, &[]).expect("an answer")
        };
        let asking: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().expect("an answer")).collect()
    });
    let first = &answers[0];
    assert_eq!(first.status, 200);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == first.body));
    assert!(answers.iter().all(|answer| answer.etag() == first.etag()));
    assert_eq!(house.renders(), 1.0);
    let made = answers.iter().filter(|answer| answer.cache_status() == "tutti; fwd=miss; stored").count();
    assert_eq!(made, 1, "one of them had it made");
    assert_eq!(Picture::read(&first.body).size(), (700, 500));
}

#[test]
fn distinct_options_give_distinct_results() {
    let house = House::shared();
    let scene = Picture::scene(300, 200, 1);
    house.put("distinct.png", &scene.png());
    let options = [
        "rs:fit:90:90",
        "rs:fill:90:90",
        "rs:force:90:90",
        "w:91",
        "h:91",
        "rs:fit:90:90/rot:90",
        "rs:fit:90:90/fl:1:0",
        "rs:fit:90:90/bl:5",
        "rs:fit:90:90/pd:4/bg:ff0000",
        "c:50:40/g:nowe",
        "c:50:40/g:soea",
        "rs:fit:90:90/dpr:2",
    ];
    let target = |options: &str| format!("/image/unsafe/{options}/plain/local:///distinct.png@png");
    let answers: Vec<_> = options.map(|options| house.image(&target(options))).into();
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(answer.cache_status(), "tutti; fwd=miss; stored", "{}", options[at]);
        let same = answers.iter().filter(|other| other.etag() == answer.etag()).count();
        assert_eq!(same, 1, "{}", options[at]);
    }
    let sizes = answers.iter().map(|answer| Picture::read(&answer.body).size());
    let wanted = [
        (90, 60),
        (90, 90),
        (90, 90),
        (91, 61),
        (137, 91),
        (60, 90),
        (90, 60),
        (90, 60),
        (98, 68),
        (50, 40),
        (50, 40),
        (180, 120),
    ];
    assert_eq!(sizes.collect::<Vec<_>>(), wanted);
    // The same wish in other words is the same result.
    let again = house.image(&target("resize:fit:90:90"));
    assert!(again.is_hit(), "{}", again.cache_status());
    assert_eq!(again.etag(), answers[0].etag());
}

#[test]
fn work_goes_on_for_those_who_still_wait_when_the_first_one_leaves() {
    let house = House::of_samples();
    let target = slow(800);
    let mut first = Client::connect(house.http()).expect("a connection");
    first.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("it is sent");
    eventually("an engine is at work", || (house.metric("tutti_worker_busy", &[]) >= 1.0).then_some(()));
    let answer = std::thread::scope(|scope| {
        let second = scope.spawn(|| ask(house.http(), "GET", &target, &[]).expect("an answer"));
        eventually("the second one waits", || {
            (house.metric("tutti_front_connections", &[]) >= 2.0 || second.is_finished()).then_some(())
        });
        drop(first);
        second.join().expect("an answer")
    });
    assert_eq!(answer.status, 200);
    assert_eq!(Picture::read(&answer.body).size(), (2300, 1200));
    assert_eq!(house.renders(), 1.0);
}
