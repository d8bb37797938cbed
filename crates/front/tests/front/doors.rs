//! Doors that open and close while the front runs, and connections on their way between threads as it ends.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tutti_front::{Config, DOORS_MAX, listeners};

use super::house::{Client, House, client_at, config, get, start, wait_for};

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn open(house: &House, address: impl Into<SocketAddr>) -> SocketAddr {
    house.front.as_ref().unwrap().open(listeners::bind(address.into()).unwrap()).unwrap()
}

fn close(house: &House, address: SocketAddr) {
    let doors = house.front.as_ref().unwrap().doors();
    house.runtime.block_on(doors.close(address)).unwrap();
}

/// A client that has been answered once and keeps its connection.
fn idle_at(address: SocketAddr) -> Client {
    let mut client = client_at(address);
    client.send(get("/t/hit", ""));
    assert_eq!(client.reply().text(), "0123456789");
    client
}

#[test]
fn a_door_opened_while_it_runs_answers_like_the_first() {
    let house = start(Config { threads: 3, ..config() });
    let address = open(&house, ANY);
    for _ in 0..20 {
        idle_at(address);
    }
    idle_at(house.address);
    let mut addresses = house.front.as_ref().unwrap().doors().addresses();
    addresses.sort();
    let mut expected = [house.address, address];
    expected.sort();
    assert_eq!(addresses, expected);
    assert_eq!(house.metric("tutti_front_doors "), 2.0);
}

#[test]
fn a_closed_door_leaves_its_address_to_whoever_binds_it_next() {
    let house = start(Config { threads: 4, ..config() });
    let address = open(&house, ANY);
    for _ in 0..30 {
        let kept = [idle_at(address), idle_at(address), client_at(address)];
        assert_eq!(
            listeners::bind(address).unwrap_err().kind(),
            ErrorKind::AddrInUse,
            "a second bind is refused"
        );
        close(&house, address);
        let other = listeners::bind(address).expect("the address is free as soon as the door is closed");
        drop(other);
        assert_eq!(open(&house, address), address);
        drop(kept);
    }
    idle_at(address);
}

#[test]
fn closing_a_door_ends_its_own_connections_after_what_they_asked_and_no_others() {
    let house = start(Config { threads: 2, ..config() });
    let address = open(&house, ANY);
    let (mut idle, mut busy, mut silent) = (idle_at(address), client_at(address), client_at(address));
    let (mut elsewhere, mut partial) = (idle_at(house.address), client_at(address));
    let request = get("/t/hit", "");
    partial.send(&request[..20]);
    busy.send(get("/t/gated", ""));
    wait_for("all to be let in", || house.front.as_ref().unwrap().open_connections() == 5);
    wait_for("the work to begin", || house.fake.begun.load(Ordering::SeqCst) == 1);
    close(&house, address);
    assert!(idle.is_over(), "the idle one is closed");
    assert!(TcpStream::connect(address).is_err(), "nobody listens there");
    house.fake.gate.add_permits(1);
    partial.send(&request[20..]);
    for (client, text) in [(&mut busy, "gated"), (&mut partial, "0123456789")] {
        let reply = client.reply();
        assert_eq!((reply.text(), reply.field("connection")), (text, Some("close")));
        assert!(client.is_over());
    }
    assert!(silent.is_over(), "one that asks nothing is closed after a moment");
    elsewhere.send(get("/t/hit", ""));
    let reply = elsewhere.reply();
    assert_eq!((reply.status, reply.field("connection")), (200, None), "other doors notice nothing");
}

#[test]
fn doors_have_a_limit_and_an_unknown_one_is_named() {
    let house = start(config());
    let opened: Vec<_> = (1..DOORS_MAX).map(|_| open(&house, ANY)).collect();
    let front = house.front.as_ref().unwrap();
    let error = front.open(listeners::bind(ANY.into()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("64 addresses are open"), "{error}");
    assert_eq!(house.metric("tutti_front_doors "), DOORS_MAX as f64);
    close(&house, opened[0]);
    idle_at(open(&house, ANY));
    let error = house.runtime.block_on(front.close(opened[0])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&opened[0].to_string()), "{error}");
}

#[test]
fn a_front_that_ends_opens_no_door_and_closes_none() {
    let mut house = start(config());
    let doors = house.front.as_ref().unwrap().doors();
    house.drain(Duration::from_secs(20));
    let error = doors.open(listeners::bind(ANY.into()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("stopping"), "{error}");
    assert!(house.runtime.block_on(doors.close(house.address)).is_err());
}

#[test]
fn no_connection_is_lost_between_threads_as_they_end() {
    for _ in 0..4 {
        let mut house = start(Config { threads: 4, ..config() });
        let address = house.address;
        let burst = std::thread::spawn(move || {
            // Some are refused or cut short once nobody listens; none may stay counted.
            let connect = |_| {
                TcpStream::connect(address)
                    .and_then(|mut stream| stream.write_all(get("/t/hit", "").as_bytes()).map(|()| stream))
            };
            (0..200).filter_map(|at| connect(at).ok()).collect::<Vec<_>>()
        });
        wait_for("the burst", || house.front.as_ref().unwrap().open_connections() > 20);
        house.drain(Duration::from_secs(20));
        drop(burst.join().unwrap());
        assert_eq!(house.metric("tutti_front_connections "), 0.0);
    }
}
