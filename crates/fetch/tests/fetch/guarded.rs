//! The address guard at work: names, rebinding, tenants.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tutti_base::{Kind, TenantId};
use tutti_fetch::names::SystemNames;
use tutti_fetch::{Fetch, FolderPaths};

use crate::house::{FakeNames, House, cause, whole};
use crate::stage::{Act, Stage, answer, ok, raw};

fn source(host: &str, port: u16, network: &str) -> String {
    format!("[sources.a]\nprefix = \"http://{host}:{port}/\"\nallowed_networks = [\"{network}\"]\n")
}

#[tokio::test]
async fn a_name_that_resolves_to_loopback_needs_its_network() {
    let stage = Stage::open(|_| ok(b"photo")).await;
    let url = format!("http://localhost:{}/", stage.port);
    let build = |settings: &str| {
        House::build(settings, FolderPaths::new(), Arc::new(|_, _| true), Arc::new(SystemNames::default()))
    };
    let closed = build("");
    let problem = closed.problem(&url).await;
    assert_eq!(problem.kind, Kind::NotFound);
    assert!(cause(&problem).contains("loopback"), "{problem:?}");
    assert_eq!(stage.accepted(), 0);
    let open = build(&source("localhost", stage.port, "127.0.0.0/8"));
    assert_eq!(open.body(&url).await.unwrap(), b"photo");
}

#[tokio::test]
async fn every_spelling_of_a_private_address_is_refused() {
    let stage = Stage::open(|_| ok(b"secret")).await;
    let house = House::of("", Arc::new(|_, _| true), FakeNames::default());
    for host in ["127.0.0.1", "127.0.0.1.", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:7f00:1]", "[::1]"]
    {
        let problem = house.problem(&format!("http://{host}:{}/", stage.port)).await;
        assert_eq!(problem.kind, Kind::NotFound, "{host}");
    }
    for url in ["ftp://example.com/", "http://a@example.com/", "http:///", "http://1.2.3.4.5/", "nonsense"] {
        assert_eq!(house.problem(url).await.kind, Kind::NotFound, "{url}");
    }
    assert_eq!(stage.accepted(), 0);
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_connected_to() {
    let stage = Stage::open(|_| ok(b"photo")).await;
    let names = FakeNames::knowing("shop.example", &[&["127.0.0.2", "10.0.0.1", "127.0.0.1"]]);
    let lookups = names.lookups.clone();
    let settings = source("shop.example", stage.port, "127.0.0.1");
    let house = House::of(&settings, Arc::new(|_, _| true), names);
    let url = format!("http://shop.example:{}/", stage.port);
    assert_eq!(house.body(&url).await.unwrap(), b"photo");
    assert_eq!(house.body(&url).await.unwrap(), b"photo");
    assert_eq!((lookups.load(Ordering::SeqCst), stage.accepted()), (1, 1));
    assert!(stage.seen.heads.lock().unwrap()[0].contains(&format!("host: shop.example:{}", stage.port)));
}

#[tokio::test]
async fn a_name_that_is_bound_to_another_address_later_is_checked_again() {
    let stage = Stage::open(|_| {
        let mut acts = vec![raw("200 OK", &["Connection: close", "Content-Length: 1"], b"x")];
        acts.push(Act::Close);
        acts
    })
    .await;
    let names = FakeNames::knowing("shop.example", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let house = House::of(&source("shop.example", stage.port, "127.0.0.1"), Arc::new(|_, _| true), names);
    let url = format!("http://shop.example:{}/", stage.port);
    assert_eq!(house.body(&url).await.unwrap(), b"x");
    assert_eq!(house.problem(&url).await.kind, Kind::NotFound);
    assert_eq!(stage.accepted(), 1);
}

#[tokio::test]
async fn one_tenants_connection_is_no_way_in_for_another() {
    let stage = Stage::open(|_| answer("200 OK", &[], b"photo")).await;
    let house = House::for_stage(&stage);
    house.body(&stage.url("/")).await.unwrap();
    let mut request = house.request(&stage.url("/"));
    request.tenant = TenantId::new("other");
    assert_eq!(house.outside.fetch(&request).await.err().unwrap().kind, Kind::NotFound);
    assert_eq!(stage.requests(), 1, "the resting connection leads to an address it may not reach");
    request.tenant = TenantId::default();
    assert_eq!(whole(house.outside.fetch(&request).await.ok().unwrap()).await.unwrap(), b"photo");
    assert_eq!(stage.accepted(), 1);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_broken_origin() {
    let house = House::of("", Arc::new(|_, _| true), FakeNames::default());
    let problem = house.problem("http://nowhere.example/").await;
    assert_eq!(problem.kind, Kind::OriginBroken);
    assert_eq!(house.metric("fetch_origin_errors_total{kind=\"name\"}"), 1);
    assert_eq!(house.metric("fetch_origin_total"), 0);
}

#[tokio::test]
async fn an_address_that_refuses_gives_way_to_the_next() {
    let stage = Stage::open(|_| ok(b"photo")).await;
    let names = FakeNames::knowing("shop.example", &[&["127.0.0.3", "127.0.0.1"]]);
    let house = House::of(&source("shop.example", stage.port, "127.0.0.0/8"), Arc::new(|_, _| true), names);
    assert_eq!(house.body(&format!("http://shop.example:{}/", stage.port)).await.unwrap(), b"photo");
}
