//! The cluster's part: tokens, nodes, promotion, the journal, originals, backup.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tutti_admin::ClientError;
use tutti_admin::console::{
    AssetName, AssetQuery, Console, NodeAction, PromoteCall, TokenCall, TokenInfo, UNNAMED_FOLDER,
};
use tutti_base::Roles;

use crate::fake::{ASSET_MAX, BACKUP};
use crate::house::{head, house, over_socket, over_tcp, status_of, talk};

fn refused(error: ClientError) -> (u16, String) {
    let ClientError::Refused(problem) = error else { panic!("{error}") };
    (problem.status, problem.detail)
}

#[tokio::test]
async fn a_token_is_made_listed_and_revoked_and_shown_once() {
    let house = house().await;
    let call = TokenCall { roles: vec!["front".into()], expires_s: Some(60), ..TokenCall::default() };
    let token = house.client.token_create(&call).await.unwrap();
    assert_eq!(token.command, "tutti serve --join token-4711");
    let terms = house.console.tokens.lock().unwrap()[0].clone();
    assert_eq!((terms.roles, terms.expires), (Roles::FRONT, Duration::from_secs(60)));
    let plain = house.client.post::<Value>("/api/v1/tokens", &serde_json::json!({})).await.unwrap();
    assert!(plain["token"].is_string() && plain["command"].is_string() && plain["id"].is_string(), "{plain}");
    let list: Vec<TokenInfo> = house.client.tokens().await.unwrap();
    assert_eq!(list[0].id, "7");
    for answer in [
        over_tcp(house.admin, &head("GET", "/api/v1/tokens", "localhost", 0)).await,
        over_tcp(house.admin, &head("POST", "/api/v1/tokens", "localhost", 0)).await,
    ] {
        assert!(!answer.contains("token-4711"), "{answer}");
    }
    house.client.token_revoke("7").await.unwrap();
    assert_eq!(
        refused(house.client.token_revoke("a/b").await.unwrap_err()),
        (404, "there is no token `a/b`".into())
    );
    let wrong = TokenCall { roles: vec!["fornt".into()], ..TokenCall::default() };
    let (status, text) = refused(house.client.token_create(&wrong).await.unwrap_err());
    assert!(status == 400 && text.contains("`fornt`"), "{text}");
}

#[tokio::test]
async fn nodes_are_drained_resumed_removed_and_given_roles() {
    let house = house().await;
    let drain = NodeAction::Drain { why: "new disk".into() };
    let roles = NodeAction::Roles { roles: vec!["front".into(), "cache".into()] };
    for action in [&drain, &NodeAction::Resume {}, &roles] {
        let done = house.client.node("two", action).await.unwrap();
        assert!(done.rotate.is_empty(), "{done:?}");
    }
    let removed = house.client.node("two", &NodeAction::Remove { force: true }).await.unwrap();
    assert_eq!(removed.rotate, ["img.key"], "what to rotate is said");
    let orders = house.console.orders.lock().unwrap().clone();
    assert_eq!(orders.len(), 4);
    assert_eq!((&orders[0].action, orders[0].name.as_str()), (&drain, "two"));
    assert_eq!(orders[2].action.roles(), Some(Roles::FRONT.with(Roles::CACHE)));
    let none = NodeAction::Roles { roles: vec![] };
    assert_eq!(refused(house.client.node("two", &none).await.unwrap_err()).0, 400);
    assert_eq!(house.console.orders.lock().unwrap().len(), 4, "a wrong order reaches nobody");
}

#[tokio::test]
async fn promotion_needs_the_name_twice() {
    let house = house().await;
    let call = |name: &str, confirm: &str| PromoteCall { name: name.into(), confirm: confirm.into() };
    for wrong in [call("two", "one"), call("two", ""), call("", "")] {
        let (status, text) = refused(house.client.promote(&wrong).await.unwrap_err());
        assert!(status == 400 && text.contains("not confirmed"), "{text}");
    }
    assert_eq!(house.client.promote(&call("two", "two")).await.unwrap().epoch, 2);
}

#[tokio::test]
async fn addresses_of_nodes_are_shown_on_the_socket_alone() {
    let house = house().await;
    let status = house.client.status().await.unwrap();
    assert_eq!(status.nodes[0].addresses, ["10.9.8.7:8400"]);
    let json: Value = house.client.get("/api/v1/status").await.unwrap();
    assert_eq!(json["nodes"][0]["state"], "up");
    assert_eq!(json["cluster_address"]["holder"], "two");
    for path in ["/api/v1/status", "/"] {
        let answer = over_tcp(house.admin, &head("GET", path, "localhost", 0)).await;
        assert!(answer.contains("two") && !answer.contains("10.9.8.7"), "{answer}");
    }
}

#[tokio::test]
async fn the_journal_is_read_followed_and_not_waited_for_without_being_asked() {
    let house = house().await;
    let wait = Duration::from_secs(30);
    let first = house.client.events(None, 10, Duration::ZERO).await.unwrap();
    assert!(first.events.is_empty());
    let follow = house.client.events(Some(&first.cursor), 10, wait);
    let happen = async {
        tokio::task::yield_now().await;
        house.console.happen("node two joined");
    };
    let (page, ()) = tokio::join!(follow, happen);
    let page = page.unwrap();
    assert_eq!(page.events[0].what, "node two joined");
    house.console.happen("leader is two");
    house.console.happen("leader is one");
    let page = house.client.events(Some(&page.cursor), 1, wait).await.unwrap();
    assert_eq!(page.events.len(), 1);
    let page = house.client.events(Some(&page.cursor), 9, wait).await.unwrap();
    assert_eq!(page.events[0].what, "leader is one");
    let newest = house.client.events(None, 2, Duration::ZERO).await.unwrap();
    assert_eq!(newest.events.len(), 2);
}

#[tokio::test]
async fn who_waits_for_news_does_not_hold_up_the_end() {
    let house = house().await;
    let client = house.client.clone();
    let waiting = tokio::spawn(async move { client.events(Some("0"), 10, Duration::from_secs(30)).await });
    let request = head("GET", "/api/v1/events?after=0&wait_ms=30000", "localhost", 0);
    let stream = TcpStream::connect(house.admin).await.unwrap();
    let over_tcp = tokio::spawn(async move { talk(stream, request.as_bytes()).await });
    while !house.metrics.text().contains("tutti_admin_connections_open 2") {
        tokio::task::yield_now().await;
    }
    house.stop.send(()).unwrap();
    // Both are answered as if nothing had happened, long before their wait is over.
    let page = waiting.await.unwrap();
    assert!(page.is_ok_and(|page| page.events.is_empty()));
    assert_eq!(status_of(&over_tcp.await.unwrap()), 200);
    house.running.await.unwrap();
}

fn name(url: &str) -> AssetName {
    AssetName::parse(url).expect("a name")
}

fn query(folder: &str, prefix: &str, limit: usize) -> AssetQuery {
    AssetQuery { folder: folder.into(), prefix: prefix.into(), after: String::new(), limit }
}

#[tokio::test]
async fn originals_are_written_listed_by_pages_and_removed() {
    let house = house().await;
    let file = house.folder.path().join("picture");
    let bytes: Vec<u8> = (0..700_000u32).map(|at| (at * 7) as u8).collect();
    std::fs::write(&file, &bytes).unwrap();
    for url in ["local:///a b/ü&?#.jpg", "local:///c.jpg", "local:///d.jpg", "local://photos/x.jpg"] {
        let done = house.client.asset_put(&name(url), &file).await.unwrap();
        assert_eq!((done.url.as_str(), done.bytes), (url, 700_000));
    }
    assert!(house.console.assets.lock().unwrap()["local:///a b/ü&?#.jpg"] == bytes);
    let page = house.client.assets(&query("", "", 2)).await.unwrap();
    assert_eq!(
        page.assets.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(),
        ["a b/ü&?#.jpg", "c.jpg"]
    );
    assert!(page.more);
    let rest = AssetQuery { after: "c.jpg".into(), ..query("", "", 2) };
    let page = house.client.assets(&rest).await.unwrap();
    assert_eq!((page.assets.len(), page.more), (1, false));
    assert_eq!(house.client.assets(&query("photos", "x", 9)).await.unwrap().assets.len(), 1);
    house.client.asset_remove(&name("local://photos/x.jpg")).await.unwrap();
    let gone = house.client.asset_remove(&name("local://photos/x.jpg")).await.unwrap_err();
    assert_eq!(refused(gone).0, 404);
    assert_eq!(refused(house.client.assets(&query(UNNAMED_FOLDER, "", 9)).await.unwrap_err()).0, 400);
    let absent = house.client.asset_put(&name("local:///n.jpg"), &house.folder.path().join("none")).await;
    assert!(matches!(&absent, Err(ClientError::File { path, .. }) if path.ends_with("none")), "{absent:?}");
}

#[tokio::test]
async fn an_original_at_the_limit_is_written_and_one_over_it_is_refused() {
    let house = house().await;
    let file = house.folder.path().join("picture");
    std::fs::write(&file, vec![7; ASSET_MAX as usize]).unwrap();
    house.client.asset_put(&name("local:///fits.jpg"), &file).await.unwrap();
    let over = ASSET_MAX + 1;
    let announced = head("PUT", "/api/v1/assets/-/over.jpg", "localhost", over as usize);
    let answer = over_socket(&house, &announced).await;
    assert!(status_of(&answer) == 422 && answer.contains("1048577 bytes"), "{answer}");
    let chunk = format!("{over:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(over as usize));
    let chunked = "PUT /api/v1/assets/-/over.jpg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    let answer = over_socket(&house, &format!("{chunked}{chunk}")).await;
    assert!(status_of(&answer) == 422 && answer.contains("1048576"), "{answer}");
    assert_eq!(house.console.assets.lock().unwrap().len(), 1);
    for path in ["/api/v1/assets/-/a/../b", "/api/v1/assets/-/a%2F..%2Fb", "/api/v1/assets/a%20b/c"] {
        let answer = over_socket(&house, &head("PUT", path, "localhost", 0)).await;
        assert_eq!(status_of(&answer), 400, "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_backup_is_written_to_a_file_and_restored_from_it() {
    let house = house().await;
    let path = house.folder.path().join("backup");
    let mut file = tokio::fs::File::create(&path).await.unwrap();
    let len = house.client.backup(&mut file).await.unwrap();
    let (pieces, piece) = BACKUP;
    assert_eq!(len, (pieces * piece) as u64);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.chunks(piece).enumerate().all(|(at, chunk)| chunk.iter().all(|byte| *byte == at as u8)));
    let done = house.client.restore(&path).await.unwrap();
    assert_eq!((done.entries, done.revision), (len, 3));
    let answer = over_tcp(house.admin, &head("GET", "/api/v1/backup", "localhost", 0)).await;
    assert!(status_of(&answer) == 403 && answer.contains("admin.sock"), "{answer}");
}

/// A console as it was before the cluster.
struct Old(crate::fake::Fake);

impl Console for Old {
    fn readiness(&self) -> tutti_admin::Readiness {
        self.0.readiness()
    }
    fn status(&self) -> tutti_admin::console::Answer<'_, tutti_admin::console::Status> {
        self.0.status()
    }
    fn cache_stats(&self) -> tutti_admin::console::Answer<'_, tutti_admin::console::CacheStats> {
        self.0.cache_stats()
    }
    fn purge(
        &self,
        request: tutti_admin::console::PurgeRequest,
    ) -> tutti_admin::console::Answer<'_, tutti_admin::console::PurgeReport> {
        self.0.purge(request)
    }
    fn explain(&self, url: String) -> tutti_admin::console::Answer<'_, tutti_admin::console::Explanation> {
        self.0.explain(url)
    }
    fn url(
        &self,
        request: tutti_admin::console::UrlRequest,
    ) -> tutti_admin::console::Answer<'_, tutti_admin::console::UrlAnswer> {
        self.0.url(request)
    }
    fn doctor(&self) -> tutti_admin::console::Answer<'_, tutti_admin::console::DoctorReport> {
        self.0.doctor()
    }
    fn ports(&self) -> tutti_admin::console::Answer<'_, tutti_admin::console::PortList> {
        self.0.ports()
    }
}

#[tokio::test]
async fn what_a_console_does_not_offer_is_said_to_be_unavailable() {
    let old = Old(crate::fake::Fake::default());
    let problem = old.tokens().await.unwrap_err();
    assert!(problem.kind == tutti_base::Kind::Unavailable && problem.detail.contains("tokens"), "{problem}");
}
