//! Engines that crash, hang, grow or grow old: the request is answered, the server is unharmed, and it is counted.

use rustix::process::Signal;

use crate::client::{self, Response};
use crate::house::{House, eventually};
use crate::picture::Picture;

/// A picture that takes an engine some tenths of a second, so that it is done within its deadline on a machine that is
/// ten times as busy; each number is another.
pub(crate) fn slow(number: u32) -> String {
    format!("/image/unsafe/rs:force:{}:1200/el:1/plain/local:///photo02.jpg@webp", 1500 + number)
}

/// One that takes about a second.
pub(crate) fn slower(number: u32) -> String {
    format!("/image/unsafe/rs:force:{}:2200/el:1/plain/local:///photo02.jpg@webp", 3000 + number)
}

/// Asks for `target` from another thread, and does `meanwhile` once an engine is at work.
pub(crate) fn while_busy<T>(house: &House, target: &str, meanwhile: impl FnOnce() -> T) -> (Response, T) {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client::ask(house.http(), "GET", target, &[]).expect("an answer"));
        eventually("an engine is at work", || {
            (house.metric("tutti_worker_busy", &[]) >= 1.0 || asking.is_finished()).then_some(())
        });
        let found = meanwhile();
        (asking.join().expect("an answer"), found)
    })
}

fn restarts(house: &House) -> f64 {
    house.metric("tutti_engine_restarts_total", &[])
}

fn kills(house: &House, reason: &str) -> f64 {
    house.metric("tutti_engine_kills_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn an_engine_that_died_while_idle_is_replaced_by_the_next_request() {
    let house = House::of_samples();
    let engines = house.engines();
    assert!(!engines.is_empty(), "one was started ahead");
    engines.iter().for_each(|engine| house.signal(*engine, Signal::KILL));
    let answer = house.image("/image/unsafe/w:50/plain/local:///photo01.jpg@webp");
    assert_eq!(Picture::read(&answer.body).width, 50);
    assert!(restarts(&house) >= 1.0);
    assert!(house.engines().iter().all(|engine| !engines.contains(engine)));
    assert_eq!(house.get("/readyz").status, 200);
}

#[test]
fn an_engine_that_is_killed_at_work_costs_one_retry_and_no_answer() {
    let house = House::of_samples();
    let mut number = 0;
    eventually("an engine was hit at work", || {
        number += 1;
        let hit = || house.engines().iter().for_each(|engine| house.signal(*engine, Signal::KILL));
        let (answer, ()) = while_busy(&house, &slow(number), hit);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(Picture::read(&answer.body).size(), (1500 + number, 1200));
        (house.metric("tutti_engine_retries_total", &[]) >= 1.0).then_some(())
    });
    assert!(restarts(&house) >= 1.0);
    assert!(kills(&house, "crash") >= 1.0);
    assert!(house.image(&slow(number)).is_hit());
}

#[test]
fn an_engine_that_hangs_is_killed_at_the_deadline_and_the_answer_says_try_again() {
    let house = House::of_samples();
    house.engines().iter().for_each(|engine| house.signal(*engine, Signal::STOP));
    let target = "/image/unsafe/w:51/plain/local:///photo01.jpg@webp";
    let answer = house.get(target);
    assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
    assert!(
        answer.field("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|it| it >= 1))
    );
    assert_eq!(
        house.image(target).cache_status(),
        "tutti; fwd=miss; stored",
        "a first time-out is not remembered"
    );
    assert!(kills(&house, "deadline") + kills(&house, "cancelled") >= 1.0);
    assert!(restarts(&house) >= 1.0);
}

#[test]
fn a_second_time_out_of_the_same_work_is_remembered() {
    let house = House::of_samples();
    let target = "/image/unsafe/w:52/plain/local:///photo01.jpg@webp";
    for (round, statuses) in [&[503][..], &[503, 422]].iter().enumerate() {
        // Something else starts the engine that this work then meets.
        house.image(&format!("/image/unsafe/w:{}/plain/local:///photo01.jpg@webp", 60 + round));
        house.engines().iter().for_each(|engine| house.signal(*engine, Signal::STOP));
        let status = house.get(target).status;
        assert!(statuses.contains(&status), "time-out {}: {status}", round + 1);
    }
    house.image("/image/unsafe/w:70/plain/local:///photo01.jpg@webp");
    let jobs = house.metric("tutti_engine_jobs_total", &[]);
    let answer = house.get(target);
    assert_eq!(answer.status, 422);
    assert!(answer.detail().contains("deadline"), "{}", answer.detail());
    assert_eq!(house.metric("tutti_engine_jobs_total", &[]), jobs, "no engine is spent on it again");
}

#[test]
fn engines_that_grew_or_did_their_number_of_jobs_are_replaced() {
    let mut house = House::under("[worker]\nengine_grown_bytes = 16777216\n");
    house.put("large.png", &Picture::scene(3000, 2500, 1).png());
    house.put("small.png", &Picture::scene(30, 20, 1).png());
    house.image("/image/unsafe/w:2900/plain/local:///large.png@jpg");
    eventually("the engine that grew is replaced", || (kills(&house, "grown") >= 1.0).then_some(()));
    house.image("/image/unsafe/w:10/plain/local:///small.png@jpg");

    house.restart_under("[worker]\nengine_grown_bytes = 201326592\nengine_jobs_max = 3\n");
    for width in 11..21 {
        house.image(&format!("/image/unsafe/w:{width}/plain/local:///small.png@jpg"));
    }
    eventually("engines are replaced after their jobs", || (kills(&house, "jobs") >= 3.0).then_some(()));
    assert_eq!(house.renders(), 10.0);
    assert_eq!(kills(&house, "crash"), 0.0);
}

#[test]
fn work_that_nobody_waits_for_any_more_is_ended() {
    let house = House::of_samples();
    let mut client = client::Client::connect(house.http()).expect("a connection");
    client.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", slow(700)).as_bytes()).expect("it is sent");
    eventually("an engine is at work", || (house.metric("tutti_worker_busy", &[]) >= 1.0).then_some(()));
    drop(client);
    eventually("the engine is ended", || (kills(&house, "cancelled") >= 1.0).then_some(()));
    eventually("its permit is free", || (house.metric("tutti_worker_busy", &[]) == 0.0).then_some(()));
    assert_eq!(house.renders(), 0.0);
    house.image("/image/unsafe/w:50/plain/local:///photo01.jpg@webp");
}

#[test]
fn work_that_is_too_much_for_two_engines_is_refused_and_remembered() {
    let house = House::under("[worker]\nengine_memory_bytes = 50331648\n");
    house.put("large.png", &Picture::scene(4000, 3000, 1).png());
    house.put("small.png", &Picture::scene(30, 20, 1).png());
    let target = "/image/unsafe/w:3900/bl:1/plain/local:///large.png@webp";
    let answer = house.get(target);
    assert_eq!(answer.status, 422, "{}", String::from_utf8_lossy(&answer.body));
    let jobs = || house.metric("tutti_engine_jobs_total", &[]);
    let before = jobs();
    assert!((1.0..=2.0).contains(&before), "one retry at most: {before}");
    assert_eq!(house.get(target).status, 422);
    assert_eq!(jobs(), before, "no engine is spent on it again");
    house.image("/image/unsafe/w:10/plain/local:///small.png@webp");
}
