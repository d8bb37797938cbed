//! The end of a server: what is under way is answered, nothing is left behind, and the next one takes over unnoticed.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{self, Client};
use crate::engines::{slow, while_busy};
use crate::house::{House, Setup, eventually};
use crate::picture::Picture;
use crate::procfs;

#[test]
fn a_request_under_way_is_answered_before_the_server_ends_and_no_child_is_left() {
    let mut house = House::of_samples();
    let mut idle = Client::connect(house.http()).expect("a connection");
    assert_eq!(idle.ask("GET", "/healthz", &[]).expect("an answer").status, 200);
    let (answer, engines) = while_busy(&house, &slow(500), || {
        let engines = house.engines();
        house.signal(house.pid(), Signal::TERM);
        engines
    });
    assert_eq!(answer.status, 200);
    assert_eq!(Picture::read(&answer.body).size(), (2000, 1200));
    assert!(idle.is_closed(), "an idle connection holds nobody up");
    let since = Instant::now();
    assert!(house.wait().success());
    assert!(since.elapsed() < Duration::from_secs(10), "with nothing under way it ends at once");
    assert!(!engines.is_empty());
    eventually("no engine is left", || engines.iter().all(|engine| !procfs::lives(*engine)).then_some(()));
    assert!(!house.data().join("admin.sock").exists(), "the socket is taken away");
}

#[test]
fn engines_end_when_their_server_is_killed() {
    let mut house = House::of_samples();
    house.image("/image/unsafe/w:50/plain/local:///photo01.jpg@webp");
    let engines = house.engines();
    assert!(!engines.is_empty());
    house.kill();
    eventually("no engine is left", || engines.iter().all(|engine| !procfs::lives(*engine)).then_some(()));
}

#[test]
fn an_inherited_socket_refuses_nobody_while_the_server_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let mut house = House::with(Setup { inherited: Some(listener), ..Setup::default() });
    assert_eq!(house.http(), address);
    house.put("scene.png", &Picture::scene(60, 40, 1).png());
    let target = "/image/unsafe/w:30/plain/local:///scene.png@png";
    house.image(target);
    let (answered, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let answer = client::ask(address, "GET", target, &[]);
                let answer = answer.unwrap_or_else(|error| panic!("a client was let down: {error}"));
                assert_eq!(answer.status, 200);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
        let goes_on = || {
            let before = answered.load(Ordering::SeqCst);
            eventually("clients are answered", || {
                (asking.is_finished() || answered.load(Ordering::SeqCst) > before + 20).then_some(())
            });
        };
        goes_on();
        for _ in 0..2 {
            assert!(house.terminate().success());
            house.start_again();
            goes_on();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(answered.into_inner() > 60);
}

#[test]
fn two_servers_do_not_share_a_data_directory() {
    let house = House::start();
    let words =
        ["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--node", "127.0.0.1:0", "--data"]
            .map(String::from);
    let words: Vec<String> = words.into_iter().chain([house.data().display().to_string()]).collect();
    let second = crate::house::tutti(&words, "");
    assert_eq!(second.code, 1);
    assert!(second.err.contains("in use"), "{}", second.err);
    assert_eq!(house.get("/readyz").status, 200);
}

#[test]
fn the_word_to_stop_is_heard_from_the_first_moment() {
    let mut house = House::start();
    for _ in 0..3 {
        assert!(house.terminate().success());
        assert!(!house.data().join("admin.sock").exists());
        house.start_again();
    }
}
