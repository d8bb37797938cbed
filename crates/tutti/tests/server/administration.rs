//! The addresses of the administration: reading alone over TCP, from this machine's names, and metrics apart.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::client::ask;
use crate::house::{House, Setup};
use crate::procfs;

#[test]
fn the_tcp_address_is_for_reading_and_for_names_of_this_machine() {
    let house = House::shared();
    let admin = house.admin();
    for path in
        ["/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/openapi.json", "/api/v1/config"]
    {
        assert_eq!(ask(admin, "GET", path, &[]).expect("an answer").status, 200, "{path}");
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            let answer = ask(admin, "GET", path, &[("Host", host)]).expect("an answer");
            assert_eq!(answer.status, 403, "{path} as {host}");
        }
    }
    for (method, path) in [
        ("POST", "/api/v1/config/set"),
        ("POST", "/api/v1/config/apply"),
        ("POST", "/api/v1/config/rollback"),
        ("POST", "/api/v1/cache/purge"),
        ("POST", "/api/v1/url"),
        ("PUT", "/api/v1/secrets/a"),
        ("DELETE", "/api/v1/secrets/a"),
    ] {
        let answer = ask(admin, method, path, &[("Content-Length", "0")]).expect("an answer");
        assert_eq!(answer.status, 403, "{method} {path}");
        assert!(answer.detail().contains("admin.sock"), "the way out: {}", answer.detail());
    }
    assert_eq!(house.json(&["config", "show"])["revision"], 0);
}

#[test]
fn the_metrics_address_serves_metrics_and_health_alone() {
    let words = vec!["--metrics".into(), "127.0.0.1:0".into()];
    let house = House::with(Setup { words, ..Setup::default() });
    let ports = house.json(&["ports"]);
    let metrics = ports["ports"].as_array().expect("ports").iter().find(|port| port["name"] == "metrics");
    let metrics: SocketAddr =
        metrics.and_then(|port| port["address"].as_str()?.parse().ok()).expect("an address");
    let scraped = ask(metrics, "GET", "/metrics", &[("Host", "scraper.example")]).expect("an answer");
    assert_eq!(scraped.status, 200);
    let text = String::from_utf8(scraped.body).expect("text");
    assert!(text.contains("tutti_engine_engines") && text.trim_end().ends_with("# EOF"));
    assert_eq!(ask(metrics, "GET", "/healthz", &[]).expect("an answer").status, 200);
    for path in ["/", "/api/v1/status", "/api/v1/config", "/image/unsafe/w:1/plain/local:///a.png"] {
        assert_eq!(ask(metrics, "GET", path, &[]).expect("an answer").status, 404, "{path}");
    }
    assert_eq!(ask(metrics, "POST", "/metrics", &[("Content-Length", "0")]).expect("an answer").status, 403);
}

#[test]
fn ports_lists_what_the_process_listens_on_and_nothing_else() {
    let words = ["--metrics", "127.0.0.1:0", "--http", "127.0.0.1:0"].map(String::from).to_vec();
    let house = House::with(Setup { words, ..Setup::default() });
    let ports = house.json(&["ports"]);
    let listed = ports["ports"].as_array().expect("ports").iter();
    let addresses = listed.filter_map(|port| port["address"].as_str()?.parse::<SocketAddr>().ok());
    let listed: BTreeSet<u16> = addresses.map(|address| address.port()).collect();
    assert_eq!(listed.len(), 5, "two for clients, one for administrators, for metrics, for nodes: {ports}");
    match procfs::listening(house.pid()) {
        Some(open) => assert_eq!(listed, open),
        None => eprintln!("skipped in part: the server's descriptors may not be looked at"),
    }
    assert!(ports.to_string().contains("admin.sock"));
}

#[test]
fn a_public_admin_address_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = ["serve", "--http", "127.0.0.1:0", "--admin", "0.0.0.0:0", "--node", "127.0.0.1:0", "--data"]
        .map(String::from);
    let data = folder.path().join("data").display().to_string();
    let done = crate::house::tutti(&words.into_iter().chain([data]).collect::<Vec<_>>(), "");
    assert_eq!(done.code, 1);
    assert!(done.err.contains("loopback"), "{}", done.err);
}
