//! The breaker at work on a failing origin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tutti_base::Kind;

use crate::house::{House, cause};
use crate::stage::{Act, Stage, answer, ok};

#[tokio::test]
async fn an_origin_that_keeps_failing_is_left_alone_until_a_probe_succeeds() {
    let well = Arc::new(AtomicBool::new(false));
    let now_well = well.clone();
    let stage =
        Stage::open(move |_| if now_well.load(Ordering::SeqCst) { ok(b"photo") } else { vec![Act::Close] })
            .await;
    let house = House::for_stage(&stage);
    let url = stage.url("/");
    for _ in 0..5 {
        assert_eq!(house.problem(&url).await.kind, Kind::OriginBroken);
    }
    assert_eq!((stage.requests(), house.metric("fetch_breakers_open")), (5, 1));

    let refused = house.problem(&url).await;
    assert_eq!((refused.kind, refused.retry_after), (Kind::OriginBroken, Some(Duration::from_secs(1))));
    assert!(cause(&refused).contains("breaker"), "{refused:?}");
    assert_eq!((stage.requests(), house.metric("fetch_refused_total{reason=\"breaker\"}")), (5, 1));

    house.clock.advance(Duration::from_secs(1));
    house.problem(&url).await;
    assert_eq!(stage.requests(), 6, "one probe");
    assert_eq!(house.problem(&url).await.retry_after, Some(Duration::from_secs(2)));

    well.store(true, Ordering::SeqCst);
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(house.body(&url).await.unwrap(), b"photo");
    assert_eq!(house.body(&url).await.unwrap(), b"photo");
    assert_eq!((house.metric("fetch_breakers_open"), house.metric("fetch_breaker_opened_total")), (0, 1));
}

#[tokio::test]
async fn statuses_that_speak_of_one_url_do_not_open_it() {
    let stage = Stage::open(|asked| answer(&format!("{} X", &asked.path()[1..]), &[], b"")).await;
    let house = House::for_stage(&stage);
    for status in ["404", "500"] {
        for _ in 0..10 {
            house.problem(&stage.url(&format!("/{status}"))).await;
        }
    }
    assert_eq!(stage.requests(), 20);
    for _ in 0..10 {
        house.problem(&stage.url("/503")).await;
    }
    assert_eq!(stage.requests(), 25, "503 speaks for the origin");
}

#[tokio::test]
async fn a_probe_that_is_given_up_leaves_the_way_free() {
    let mode = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let now = mode.clone();
    let stage = Stage::open(move |_| match now.load(Ordering::SeqCst) {
        0 => vec![Act::Close],
        1 => vec![Act::Hold],
        _ => ok(b"photo"),
    })
    .await;
    let house = House::for_stage(&stage);
    let url = stage.url("/");
    for _ in 0..5 {
        house.problem(&url).await;
    }
    mode.store(1, Ordering::SeqCst);
    house.clock.advance(Duration::from_secs(1));
    tokio::select! {
        _ = house.get(&url) => panic!("a silent origin answered"),
        () = crate::house::until(|| stage.requests() == 6) => {}
    }
    mode.store(2, Ordering::SeqCst);
    assert_eq!(house.body(&url).await.unwrap(), b"photo");
}

#[tokio::test]
async fn a_refused_connection_counts_as_a_failure() {
    let stage = Stage::open(|_| ok(b"photo")).await;
    let house = House::for_stage(&stage);
    let url = stage.url("/");
    // Bound and not listening: the port is ours, and every connection to it is refused.
    drop(stage);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    let port = url.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    while socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        let problem = house.problem(&url).await;
        assert_eq!(problem.kind, Kind::OriginBroken);
        assert!(cause(&problem).contains("no connection"), "{problem:?}");
    }
    assert!(cause(&house.problem(&url).await).contains("breaker"));
    assert_eq!(house.metric("fetch_origin_total"), 0);
}
