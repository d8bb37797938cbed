//! The server: the socket, the TCP address, limits, and secrets that are shown nowhere.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tutti_admin::client::{ApplyCall, CallTerms, RollbackCall, SetCall, UnsetCall};
use tutti_admin::console::{PurgeRequest, Verdict};
use tutti_admin::{Client, ClientError, Config, ListenError, Listeners, Readiness};
use tutti_store::Secret;

use crate::house::{
    House, head, house, house_with, on_any_port, over_socket, over_tcp, set, status_of, terms,
};

/// A path of the description with its parameters filled in.
fn filled(path: &str, name: &str) -> String {
    path.replace("{name}", name).replace("{id}", "7").replace("{folder}", "-").replace("{path}", "absent.jpg")
}

#[tokio::test]
async fn the_command_reads_and_changes_the_document_over_the_socket() {
    let house = house().await;
    let client = &house.client;
    let plan = client.config_set(&set("image.quality", "80")).await.unwrap();
    assert_eq!((plan.revision, plan.applied, plan.changes.len()), (1, true, 1));
    let dry = CallTerms { dry_run: true, ..terms() };
    let call = ApplyCall { text: "[image]\nformat = 'webp'".into(), replace: true, terms: dry };
    let plan = client.config_apply(&call).await.unwrap();
    assert_eq!((plan.applied, plan.changes.len()), (false, 2));
    let late = CallTerms { if_revision: Some(0), ..terms() };
    let refused = client.config_set(&SetCall { terms: late, ..set("image.quality", "1") }).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(problem) if problem.status == 409), "{refused}");
    let value = client.config(Some("image.quality")).await.unwrap();
    assert_eq!((value.text.as_str(), value.value), ("80", Value::from(80)));
    assert_eq!(client.config(None).await.unwrap().text, "[image]\nquality = 80\n");
    let unset = UnsetCall { path: "image.quality".into(), terms: terms() };
    assert!(client.config_unset(&unset).await.unwrap().applied);
    assert_eq!(client.config_diff(Some(1), None).await.unwrap()[0].path, "image.quality");
    assert!(client.config_rollback(&RollbackCall { to: 1, terms: terms() }).await.unwrap().applied);
    let history = client.config_history().await.unwrap();
    assert_eq!(history.iter().map(|line| line.revision).collect::<Vec<_>>(), [3, 2, 1]);
    let own = rustix::process::geteuid().as_raw();
    let who = if own == 0 { "root".into() } else { format!("uid {own}") };
    assert_eq!((&history[0].who, history[0].why.as_str()), (&who, "because"));
    let missing = client.config(Some("image.nothing")).await.unwrap_err();
    assert!(missing.to_string().contains("`image.nothing` is not set"), "{missing}");
    let unknown = client.config_set(&set("imgae", "1")).await.unwrap_err();
    let ClientError::Refused(problem) = unknown else { panic!("{unknown}") };
    assert_eq!((problem.status, problem.subject.as_deref()), (422, Some("imgae")));
}

#[tokio::test]
async fn the_console_is_reached_and_its_refusals_keep_their_causes() {
    let house = house().await;
    let client = &house.client;
    assert_eq!(client.status().await.unwrap().node, "<b>node</b>");
    let url = "/image/unsafe/rs:fit:5:5/plain/local:///a b&c?d=e#f@webp";
    assert_eq!(client.explain(url).await.unwrap().url, url);
    for (request, shown) in [
        (PurgeRequest::Url("/x".into()), "Url(\"/x\")"),
        (PurgeRequest::Source("local:///x".into()), "Source(\"local:///x\")"),
        (PurgeRequest::Tag("t".into()), "Tag(\"t\")"),
        (PurgeRequest::All(true), "All(true)"),
    ] {
        let report = client.cache_purge(&request).await.unwrap();
        assert_eq!(report.text, shown);
        assert_eq!((report.reached, report.not_reached), (vec!["one".to_owned()], vec!["two".to_owned()]));
    }
    for request in [PurgeRequest::All(false), PurgeRequest::Tag(String::new())] {
        let refused = client.cache_purge(&request).await.unwrap_err();
        assert!(matches!(&refused, ClientError::Refused(problem) if problem.status == 400), "{refused}");
    }
    assert_eq!(client.doctor().await.unwrap().checks[0].verdict, Verdict::Warning);
    for url in ["broken", "panic"] {
        let refused = client.explain(url).await.unwrap_err();
        let ClientError::Refused(problem) = refused else { panic!("{refused}") };
        assert_eq!(problem.status, 500);
        assert!(!problem.detail.contains("inner cause") && !problem.detail.contains("defect"), "{problem:?}");
    }
    client.status().await.expect("a panic in one call leaves the others alone");
}

#[tokio::test]
async fn every_described_route_answers_and_everything_else_is_a_problem() {
    let house = house().await;
    let description: Value = house.client.get("/api/v1/openapi.json").await.unwrap();
    let mut seen = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let at = filled(path, "absent");
            let answer = over_socket(&house, &head(&method.to_uppercase(), &at, "localhost", 0)).await;
            let status = status_of(&answer);
            let is_routed = !answer.contains("openapi.json lists") && status != 405 && status != 0;
            assert!(is_routed, "{method} {path}: {answer}");
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen}");
    for (method, path, status) in
        [("GET", "/nothing", 404), ("DELETE", "/api/v1/status", 405), ("POST", "/api/v1/config/set", 400)]
    {
        let answer = over_socket(&house, &head(method, path, "localhost", 0)).await;
        assert_eq!(status_of(&answer), status, "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_server() {
    let House { folder, stop, running, client, .. } = house().await;
    let socket = folder.path().join("admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = Listeners::open(folder.path(), &on_any_port()).await.err().expect("one server a directory");
    assert!(matches!(second, ListenError::Taken(_)), "{second}");
    client.status().await.expect("the second did not disturb the first");
    stop.send(()).unwrap();
    running.await.unwrap();
    assert!(!socket.exists());
    let gone = client.status().await.unwrap_err();
    assert!(matches!(gone, ClientError::NoServer(_)), "{gone}");
    let text = gone.to_string();
    assert!(text.contains(&folder.path().display().to_string()) && text.contains("`tutti serve`"), "{text}");
}

#[tokio::test]
async fn a_socket_left_by_a_killed_server_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let refused = Client::new(folder.path()).status().await.unwrap_err();
    assert!(matches!(refused, ClientError::NoServer(_)), "{refused}");
    let listeners = Listeners::open(folder.path(), &on_any_port()).await.unwrap();
    assert!(UnixStream::connect(&socket).await.is_ok());
    drop(listeners);
    let deep = folder.path().join("d".repeat(120));
    let refused = Listeners::open(&deep, &on_any_port()).await.err().unwrap();
    assert!(refused.to_string().contains("shorter --data"), "{refused}");
}

#[tokio::test]
async fn a_user_who_may_not_is_refused_by_the_kernels_word() {
    let stranger = rustix::process::geteuid().as_raw() + 12345;
    let house = house_with(on_any_port(), Some(vec![stranger])).await;
    let refused = house.client.status().await.unwrap_err();
    let ClientError::Refused(problem) = &refused else { panic!("{refused}") };
    assert_eq!(problem.status, 403);
    assert!(problem.detail.contains(&stranger.to_string()), "{problem:?}");
    let refused = house.client.config_set(&set("image.quality", "1")).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(problem) if problem.status == 403));
    assert!(
        house.metrics.text().contains("tutti_admin_refused_total{lane=\"socket\",reason=\"forbidden\"} 2")
    );
}

#[tokio::test]
async fn the_tcp_address_reads_and_never_writes() {
    let house = house().await;
    for path in
        ["/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/config", "/api/v1/secrets"]
    {
        for method in ["GET", "HEAD"] {
            let answer = over_tcp(house.admin, &head(method, path, "localhost:8401", 0)).await;
            assert_eq!(status_of(&answer), 200, "{method} {path}: {answer}");
            assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
        }
    }
    let page = over_tcp(house.admin, &head("GET", "/", "localhost", 0)).await;
    assert!(page.contains("&lt;b&gt;node") && !page.contains("<b>node"), "{page}");
    let body = r#"{"path":"image.quality","value":"1"}"#;
    for (method, path) in [
        ("POST", "/api/v1/config/set"),
        ("PUT", "/api/v1/secrets/x"),
        ("DELETE", "/api/v1/secrets/x"),
        ("POST", "/api/v1/cache/purge"),
        ("OPTIONS", "/api/v1/status"),
        ("PATCH", "/nothing"),
    ] {
        let request = head(method, path, "localhost", body.len()) + body;
        let answer = over_tcp(house.admin, &request).await;
        assert_eq!(status_of(&answer), 403, "{method} {path}: {answer}");
        assert!(answer.contains("application/problem+json") && answer.contains("admin.sock"), "{answer}");
    }
    assert_eq!(house.client.config(None).await.unwrap().revision, 0, "nothing was changed");
    assert_eq!(house.client.secrets().await.unwrap(), []);
}

#[tokio::test]
async fn a_page_under_a_foreign_name_gets_nothing() {
    let config = Config { hosts: vec!["admin.example".into()], ..on_any_port() };
    let house = house_with(config, None).await;
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:8401", 200),
        ("[::1]:8401", 200),
        ("admin.example", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("10.1.2.3", 403),
    ] {
        let answer = over_tcp(house.admin, &head("GET", "/api/v1/config", host, 0)).await;
        assert_eq!(status_of(&answer), status, "{host}: {answer}");
    }
    let none = "GET /api/v1/config HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&over_tcp(house.admin, none).await), 400);
    let twice = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&over_tcp(house.admin, twice).await), 400);
    let absolute = head("GET", "http://evil.example/api/v1/config", "localhost", 0);
    assert_eq!(status_of(&over_tcp(house.admin, &absolute).await), 403);
}

#[tokio::test]
async fn the_metrics_address_has_metrics_alone() {
    let house = house().await;
    let answer = over_tcp(house.scrape, &head("GET", "/metrics", "any.name:9100", 0)).await;
    assert_eq!(status_of(&answer), 200);
    assert!(
        answer.contains("application/openmetrics-text")
            && answer.contains("tutti_limit_admin_body_bytes 1048576")
    );
    for (method, path, status) in [
        ("GET", "/healthz", 200),
        ("GET", "/api/v1/config", 404),
        ("GET", "/", 404),
        ("POST", "/metrics", 403),
    ] {
        let answer = over_tcp(house.scrape, &head(method, path, "any.name", 0)).await;
        assert_eq!(status_of(&answer), status, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn readiness_says_why_not() {
    let house = house().await;
    *house.console.readiness.lock().unwrap() = Readiness::Not("it is draining".into());
    let answer = over_tcp(house.admin, &head("GET", "/readyz", "localhost", 0)).await;
    assert_eq!(status_of(&answer), 503);
    assert!(answer.contains("it is draining"), "{answer}");
    assert_eq!(status_of(&over_tcp(house.admin, &head("GET", "/healthz", "localhost", 0)).await), 200);
}

#[tokio::test]
async fn a_body_at_the_limit_is_read_and_one_over_it_is_refused() {
    let house = house().await;
    let frame = r#"{"path":"image.quality","value":"1","why":""}"#;
    for (len, status) in [(1 << 20, 200), ((1 << 20) + 1, 400)] {
        let pad = " ".repeat(len - frame.len());
        let request = head("POST", "/api/v1/config/set", "localhost", len) + frame + &pad;
        let answer = over_socket(&house, &request).await;
        assert_eq!(status_of(&answer), status, "{len}: {answer}");
    }
    let at = tutti_store::secrets::SECRET_MAX;
    house.client.secret_set("fits", &Secret::new(vec![b'x'; at])).await.unwrap();
    let refused = house.client.secret_set("over", &Secret::new(vec![b'x'; at + 1])).await.unwrap_err();
    assert!(refused.to_string().contains("65536 bytes"), "{refused}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000));
    assert_eq!(status_of(&over_socket(&house, &long).await), 431, "a head over 16 KiB");
}

#[tokio::test]
async fn slow_heads_and_slow_calls_are_ended() {
    let config = Config { head_timeout_ms: 300, call_timeout_ms: 300, ..on_any_port() };
    let house = house_with(config, None).await;
    let slow = over_tcp(house.admin, "GET / HTTP/1.1\r\nHost: loc").await;
    assert!(status_of(&slow) == 0 || status_of(&slow) == 408, "closed: {slow}");
    let idle = over_tcp(house.admin, "").await;
    assert_eq!(idle, "");
    let unsent = head("POST", "/api/v1/config/set", "localhost", 100) + "{";
    assert_eq!(status_of(&over_socket(&house, &unsent).await), 503, "a body that never comes");
    let refused = house.client.explain("slow").await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(problem) if problem.status == 503), "{refused}");
    assert!(house.metrics.text().contains("tutti_admin_refused_total{lane=\"socket\",reason=\"timeout\"} 2"));
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_and_counted() {
    let config = Config { connections: 2, ..on_any_port() };
    let house = house_with(config, None).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(house.admin).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        kept.push(stream);
    }
    assert_eq!(over_tcp(house.admin, &head("GET", "/healthz", "localhost", 0)).await, "");
    assert!(
        house.metrics.text().contains("tutti_admin_refused_total{lane=\"tcp\",reason=\"connections\"} 1")
    );
    house.client.status().await.expect("the socket has connections of its own");
    kept.pop();
    let patience = tokio::time::timeout(Duration::from_secs(30), async {
        while status_of(&over_tcp(house.admin, &head("GET", "/healthz", "localhost", 0)).await) != 200 {
            tokio::task::yield_now().await;
        }
    });
    patience.await.expect("a place that became free is given away");
}

/// A place for log lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_secret_is_in_no_answer_no_log_no_history_and_not_on_the_disk() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For the whole process: what another test's thread reaches first would otherwise never be logged for this one.
    tracing::subscriber::set_global_default(subscriber).expect("no other test here sets one");
    let house = house().await;
    let needle = "needle-4711";
    house.client.secret_set("img.key", &Secret::new(needle.into())).await.unwrap();
    house.client.config_set(&set("image.key", "secret:img.key")).await.unwrap();
    house.client.secret_set("img.key", &Secret::new(format!("{needle}-b").into_bytes())).await.unwrap();
    let refused = house.client.secret_set("bad name", &Secret::new(needle.into())).await.unwrap_err();
    assert!(!refused.to_string().contains(needle), "{refused}");
    let infos = house.client.secrets().await.unwrap();
    assert_eq!(infos[0].name, "img.key");
    let description: Value = house.client.get("/api/v1/openapi.json").await.unwrap();
    let mut answers = 0;
    for path in description["paths"].as_object().unwrap().keys() {
        let at = filled(path, "img.key");
        for at in [at.clone(), format!("{at}?url=/x&path=image&from=0&prefix=")] {
            for answer in [
                over_socket(&house, &head("GET", &at, "localhost", 0)).await,
                over_tcp(house.admin, &head("GET", &at, "localhost", 0)).await,
            ] {
                assert!(!answer.contains(needle), "{at}: {answer}");
                answers += usize::from(status_of(&answer) == 200);
            }
        }
    }
    assert!(answers > 30, "the routes must answer for this to mean anything: {answers}");
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("secret set") && logged.contains("img.key"), "{logged}");
    assert!(!logged.contains(needle), "{logged}");
    assert!(house.client.config_history().await.unwrap().iter().all(|line| !line.why.contains(needle)));
    for file in ["store.redb", "secret.key"] {
        let bytes = house.disk.durable(file);
        assert!(!bytes.is_empty() && !bytes.windows(needle.len()).any(|window| window == needle.as_bytes()));
    }
    house.client.secret_remove("img.key").await.unwrap();
    let gone = house.client.secret_remove("img.key").await.unwrap_err();
    assert!(matches!(&gone, ClientError::Refused(problem) if problem.status == 404), "{gone}");
}
