//! Redirects: followed by us, each hop judged like the first.

use std::sync::Arc;

use tutti_base::Kind;

use crate::house::{FakeNames, House, cause, config};
use crate::stage::{Stage, answer, ok};

fn onward(location: &str) -> Vec<crate::stage::Act> {
    answer("302 Found", &[&format!("Location: {location}")], b"")
}

#[tokio::test]
async fn up_to_five_redirects_are_followed() {
    let stage = Stage::open(|asked| match asked.path()[1..].parse::<u32>() {
        Ok(0) => ok(b"photo"),
        Ok(left) => onward(&format!("/{}", left - 1)),
        Err(_) => onward("loop"),
    })
    .await;
    let house = House::for_stage(&stage);
    assert_eq!(house.body(&stage.url("/5")).await.unwrap(), b"photo");
    assert_eq!((stage.requests(), house.metric("fetch_redirects_total")), (6, 5));
    let problem = house.problem(&stage.url("/6")).await;
    assert_eq!(problem.kind, Kind::OriginBroken);
    assert_eq!(stage.requests(), 12);
    let problem = house.problem(&stage.url("/loop")).await;
    assert_eq!(problem.kind, Kind::OriginBroken);
    assert!(problem.detail.contains("more than 5 times"), "{problem:?}");
    assert_eq!(house.metric("fetch_origin_errors_total{kind=\"redirects\"}"), 2);
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_refused_and_never_connected_to() {
    let secret = Stage::at("127.0.0.2", |_| ok(b"secret"), None).await;
    let port = secret.port;
    let stage = Stage::open(move |asked| {
        let host = asked.path()[1..].to_owned();
        onward(&format!("http://{host}:{port}/"))
    })
    .await;
    let house = House::for_stage(&stage);
    for host in [
        "127.0.0.2",
        "0x7f.0.0.2",
        "2130706434",
        "0177.0.0.2",
        "127.2",
        "[::ffff:127.0.0.2]",
        "[::127.0.0.2]",
        "10.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:2]",
        "[2002:7f00:2::]",
    ] {
        let problem = house.problem(&stage.url(&format!("/{host}"))).await;
        assert_eq!(problem.kind, Kind::NotFound, "{host}");
        assert!(cause(&problem).contains("allowed_networks"), "{problem:?}");
        assert!(!problem.detail.contains("127.0.0.2"), "a client learns nothing of the hop: {problem:?}");
    }
    assert_eq!((secret.accepted(), house.metric("fetch_refused_total{reason=\"address\"}")), (0, 13));
}

#[tokio::test]
async fn a_redirect_to_another_scheme_or_no_url_is_refused() {
    let stage = Stage::open(|asked| {
        onward(match asked.path() {
            "/file" => "file:///etc/passwd",
            "/gopher" => "gopher://127.0.0.1/",
            "/user" => "http://user:word@example.com/",
            _ => "http://[::1/",
        })
    })
    .await;
    let house = House::for_stage(&stage);
    for path in ["/file", "/gopher", "/user", "/broken"] {
        let problem = house.problem(&stage.url(path)).await;
        assert_eq!(problem.kind, Kind::NotFound, "{path}: {problem:?}");
    }
    assert_eq!(house.metric("fetch_refused_total{reason=\"scheme\"}"), 2);
    assert_eq!(house.metric("fetch_refused_total{reason=\"url\"}"), 2);
}

#[tokio::test]
async fn the_rules_of_the_tenant_are_asked_for_every_hop() {
    let stage = Stage::open(|asked| if asked.path() == "/a" { onward("/b") } else { ok(b"photo") }).await;
    let house = House::of(
        &config(&stage, ""),
        Arc::new(|tenant, url| tenant.as_str() == "main" && !url.ends_with("/b")),
        FakeNames::default(),
    );
    let problem = house.problem(&stage.url("/a")).await;
    assert_eq!(problem.kind, Kind::NotFound);
    assert!(cause(&problem).contains("/b: the allowed sources do not cover it"), "{problem:?}");
    assert_eq!((stage.requests(), house.metric("fetch_refused_total{reason=\"not_allowed\"}")), (1, 1));
    assert_eq!(house.body(&stage.url("/c")).await.unwrap(), b"photo");
}

#[tokio::test]
async fn a_redirect_does_not_enter_another_sources_networks() {
    let inner = Stage::open(|_| ok(b"inner")).await;
    let location = inner.url("/");
    let outer = Stage::open(move |_| onward(&location)).await;
    let both = config(&outer, "") + &config(&inner, "").replace("sources.stage", "sources.inner");
    let house = House::of(&both, Arc::new(|_, _| true), FakeNames::default());
    assert_eq!(house.body(&inner.url("/")).await.unwrap(), b"inner");
    assert_eq!(house.problem(&outer.url("/")).await.kind, Kind::NotFound);
    assert_eq!(inner.requests(), 1, "not even over the connection that stands");
}
