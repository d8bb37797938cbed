//! Every limit of the front, at its edge.

use std::time::{Duration, Instant};

use tutti_front::Config;

use super::house::{config, get, start, wait_for};

#[test]
fn a_head_may_be_as_long_as_its_limit_and_no_longer() {
    let house = start(Config { head_bytes: 1024, ..config() });
    let fixed = get("/t/hit", "X: \r\n").len();
    let head = |len: usize| get("/t/hit", &format!("X: {}\r\n", "x".repeat(len - fixed)));
    assert_eq!(head(1024).len(), 1024);
    assert_eq!(house.ask(&head(1024)).status, 200);
    assert_eq!(house.ask(&head(1025)).status, 431);
    // One that never ends is refused as soon as it is too long.
    assert_eq!(house.ask(&format!("GET /t/hit HTTP/1.1\r\nX: {}", "x".repeat(1024))).status, 431);
    assert_eq!(house.metric("tutti_front_refused_total{reason=\"head-length\"}"), 2.0);
}

#[test]
fn a_head_may_have_as_many_fields_as_its_limit_and_no_more() {
    let house = start(Config { fields: 10, ..config() });
    assert_eq!(house.get("/t/hit", &"A: b\r\n".repeat(9)).status, 200);
    assert_eq!(house.get("/t/hit", &"A: b\r\n".repeat(10)).status, 431);
}

#[test]
fn a_target_may_be_as_long_as_its_limit_and_no_longer() {
    let house = start(Config { target_bytes: 100, ..config() });
    let target = |len: usize| format!("/t/hit?{}", "q".repeat(len - 7));
    assert_eq!(house.get(&target(100), "").status, 200);
    assert_eq!(house.get(&target(101), "").status, 414);
    assert_eq!(house.ask(&format!("GET /{}", "x".repeat(200))).status, 414);
}

#[test]
fn the_default_limits_are_those_of_the_documents() {
    let house = start(config());
    assert_eq!(house.get(&format!("/t/hit?{}", "q".repeat(8192 - 7)), "").status, 200);
    assert_eq!(house.get(&format!("/t/hit?{}", "q".repeat(8192 - 6)), "").status, 414);
    assert_eq!(house.get("/t/hit", &"A: b\r\n".repeat(99)).status, 200);
    assert_eq!(house.get("/t/hit", &"A: b\r\n".repeat(100)).status, 431);
    let text = house.metrics.text();
    assert!(text.contains("tutti_limit_front_head_bytes 16384"), "{text}");
}

#[test]
fn a_body_may_be_as_long_as_its_limit_and_no_longer() {
    let house = start(Config { body_bytes: 5, ..config() });
    assert_eq!(house.ask(&(get("/t/hit", "Content-Length: 5\r\n") + "abcde")).status, 200);
    assert_eq!(house.ask(&(get("/t/hit", "Content-Length: 6\r\n") + "abcdef")).status, 413);
    let chunked = get("/t/hit", "Transfer-Encoding: chunked\r\n");
    assert_eq!(house.ask(&(chunked.clone() + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).status, 200);
    assert_eq!(house.ask(&(chunked + "3\r\nabc\r\n3\r\n")).status, 413);
}

#[test]
fn a_slow_head_is_refused_even_if_it_keeps_coming() {
    use std::io::{ErrorKind, Read, Write};
    let house = start(Config { head_ms: 100, ..config() });
    let mut client = house.client();
    client.send("GET /t/hit HTTP/1.1\r\n");
    client.stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let begin = Instant::now();
    let mut input = [0; 1024];
    let read = loop {
        assert!(begin.elapsed() < super::house::PATIENCE, "never refused");
        // It may be refused between two bytes.
        let _ = client.stream.write_all(b"X");
        match client.stream.read(&mut input) {
            Ok(read) => break read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(input[..read].starts_with(b"HTTP/1.1 408 "), "{}", input[..read].escape_ascii());
    assert!(begin.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_slow_body_is_refused() {
    let house = start(Config { body_ms: 50, ..config() });
    assert_eq!(house.ask(&(get("/t/hit", "Content-Length: 5\r\n") + "abcd")).status, 408);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let house = start(Config { idle_ms: 50, ..config() });
    assert!(house.client().is_over(), "one that never asked");
    let mut client = house.client();
    client.send(get("/t/hit", ""));
    assert_eq!(client.reply().status, 200);
    assert!(client.is_over(), "one that asked before");
    assert_eq!(house.metric("tutti_front_closed_total{reason=\"idle\"}"), 2.0);
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    let house = start(Config { write_stall_ms: 100, ..config() });
    house.fake.keep_bytes("/big", vec![7; 32 << 20]);
    for path in ["/t/big", "/t/endless"] {
        let mut client = house.client();
        client.send(get(path, ""));
        client.reply_without_body();
    }
    let mut clients: Vec<_> = ["/t/big", "/t/endless"].map(|path| (house.client(), path)).into();
    for (client, path) in &mut clients {
        client.send(get(path, ""));
    }
    wait_for("both to be cut", || house.metric("tutti_front_closed_total{reason=\"write-stall\"}") == 2.0);
    wait_for("all to be gone", || house.front.as_ref().unwrap().open_connections() == 0);
}

#[test]
fn a_client_that_takes_too_little_is_cut() {
    use std::io::Read;
    let house = start(Config { write_stall_ms: 1000, write_rate: u64::MAX / 100_000, ..config() });
    let mut client = house.client();
    client.send(get("/t/endless", ""));
    let mut piece = vec![0; 64 * 1024];
    wait_for("it to be cut", || {
        // Takes a little again and again, so that it never stalls.
        let _ = client.stream.read(&mut piece);
        house.metric("tutti_front_closed_total{reason=\"write-rate\"}") == 1.0
    });
}

#[test]
fn connections_above_the_limit_are_told_so_and_closed() {
    let house = start(Config { connections: 3, ..config() });
    let mut clients: Vec<_> = (0..3).map(|_| house.client()).collect();
    for client in &mut clients {
        client.send(get("/t/hit", ""));
        assert_eq!(client.reply().status, 200);
    }
    let mut fourth = house.client();
    let reply = fourth.reply();
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    assert!(fourth.is_over());
    drop(fourth);
    clients[0].send(get("/t/hit", ""));
    assert_eq!(clients[0].reply().status, 200, "those inside do not notice");
    clients.pop();
    wait_for("room", || house.front.as_ref().unwrap().open_connections() == 2);
    assert_eq!(house.get("/t/hit", "").status, 200);
    assert_eq!(house.metric("tutti_front_refused_total{reason=\"connections\"}"), 1.0);
}

#[test]
fn a_connection_serves_as_many_requests_as_its_limit() {
    let house = start(Config { requests: 3, ..config() });
    let mut client = house.client();
    client.send(get("/t/hit", "").repeat(4));
    let closes: Vec<bool> = (0..3).map(|_| client.reply().field("connection") == Some("close")).collect();
    assert_eq!(closes, [false, false, true]);
    assert!(client.is_over());
}

#[test]
fn threads_share_the_connections() {
    let house = start(Config { threads: 3, ..config() });
    let mut clients: Vec<_> = (0..60).map(|_| house.client()).collect();
    for client in &mut clients {
        client.send(get("/t/hit", ""));
        assert_eq!(client.reply().status, 200);
    }
    assert_eq!(house.front.as_ref().unwrap().open_connections(), 60);
    drop(clients);
    wait_for("all to be gone", || house.front.as_ref().unwrap().open_connections() == 0);
}
