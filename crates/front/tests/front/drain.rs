//! Stopping gently, and handing the listening socket on.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tutti_base::clock::MachineTime;
use tutti_front::{Drained, Front, Outside, listeners};
use tutti_telemetry::Metrics;

use super::fake::{Fake, TestClock};
use super::house::{config, get, start, wait_for};

#[test]
fn a_drain_answers_what_was_asked_and_closes_what_is_idle() {
    let mut house = start(config());
    let (mut idle, mut busy) = (house.client(), house.client());
    idle.send(get("/t/hit", ""));
    idle.reply();
    busy.send(get("/t/gated", ""));
    wait_for("the work to begin", || house.fake.begun.load(Ordering::SeqCst) == 1);
    let fake = house.fake.clone();
    let answered = std::thread::spawn(move || {
        assert!(idle.is_over(), "the idle one is closed at once");
        fake.gate.add_permits(1);
        let reply = busy.reply();
        (reply.text().to_owned(), reply.field("connection").map(str::to_owned), busy.is_over())
    });
    let drained = house.drain(Duration::from_secs(20));
    assert_eq!(answered.join().unwrap(), ("gated".into(), Some("close".into()), true));
    assert_eq!(drained, Drained { open: 2, cut: 0 });
    assert!(TcpStream::connect(house.address).is_err(), "nobody listens any more");
}

#[test]
fn a_connection_that_has_asked_nothing_yet_gets_a_moment_to() {
    let mut house = start(config());
    let (mut idle, mut fresh, mut silent) = (house.client(), house.client(), house.client());
    idle.send(get("/t/hit", ""));
    idle.reply();
    wait_for("all to be let in", || house.front.as_ref().unwrap().open_connections() == 3);
    let asked = std::thread::spawn(move || {
        assert!(idle.is_over(), "the drain has begun");
        fresh.send(get("/t/hit", ""));
        let reply = fresh.reply();
        (reply.text().to_owned(), reply.field("connection").map(str::to_owned), silent.is_over())
    });
    assert_eq!(house.drain(Duration::from_secs(20)), Drained { open: 3, cut: 0 });
    assert_eq!(asked.join().unwrap(), ("0123456789".into(), Some("close".into()), true));
}

#[test]
fn what_is_left_at_the_deadline_is_cut() {
    let mut house = start(config());
    let mut busy = house.client();
    busy.send(get("/t/gated", ""));
    wait_for("the work to begin", || house.fake.begun.load(Ordering::SeqCst) == 1);
    assert_eq!(house.drain(Duration::from_millis(50)), Drained { open: 1, cut: 1 });
    assert!(busy.is_over());
    wait_for("the work to stop", || house.fake.dropped.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_successor_on_the_same_socket_misses_no_connection() {
    let mut house = start(config());
    let listener = listeners::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = house.runtime.handle().clone();
    let front = move |listener, text: &'static str| {
        let fake = Fake::new(Duration::from_secs(1));
        fake.keep_bytes("/hit", text);
        let clock = Arc::new(TestClock(MachineTime::start()));
        let outside = Outside { runtime: runtime.clone(), clock, metrics: Metrics::default(), log: None };
        Front::start(config(), vec![listener], fake, outside).unwrap()
    };
    let old = front(listener.try_clone().unwrap(), "old");
    house.address = address;
    assert_eq!(house.get("/t/hit", "").text(), "old");
    let new = front(listener, "new");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut last = String::new();
            while !stop.load(Ordering::SeqCst) {
                last = house.get("/t/hit", "").text().to_owned();
            }
            (house, last)
        }
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(old.drain(Duration::from_secs(20)));
    stop.store(true, Ordering::SeqCst);
    let (house, last) = asking.join().expect("every request was answered");
    assert!(last == "old" || last == "new");
    assert_eq!(house.get("/t/hit", "").text(), "new");
    drop(new);
}
