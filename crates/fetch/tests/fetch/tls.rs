//! TLS to origins: authorities of one's own, names, broken handshakes.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;
use tutti_base::Kind;

use crate::house::{FakeNames, House, cause};
use crate::stage::{Stage, ok};

/// An authority made for one test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn make() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn house(port: u16, host: &str, roots: &[&std::path::Path]) -> House {
    let settings = format!(
        "extra_roots = {roots:?}\n[sources.a]\nprefix = \"https://{host}:{port}/\"\nallowed_networks = [\"127.0.0.1\"]\n"
    );
    House::of(&settings, Arc::new(|_, _| true), FakeNames::knowing("shop.example", &[&["127.0.0.1"]]))
}

#[tokio::test]
async fn an_origin_is_trusted_by_its_authority_and_its_name() {
    let authority = Authority::make();
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("roots.pem");
    std::fs::write(&pem, authority.0.pem()).unwrap();
    let stage = Stage::at("127.0.0.1", |_| ok(b"photo"), Some(authority.acceptor(&["shop.example"]))).await;
    let url = format!("https://shop.example:{}/", stage.port);

    let trusting = house(stage.port, "shop.example", &[&pem]);
    assert_eq!(trusting.body(&url).await.unwrap(), b"photo");
    assert_eq!(trusting.body(&url).await.unwrap(), b"photo");
    assert_eq!(stage.accepted(), 1, "kept alive");

    let strange = house(stage.port, "shop.example", &[]);
    let problem = strange.problem(&url).await;
    assert_eq!(problem.kind, Kind::OriginBroken);
    assert!(cause(&problem).contains("TLS"), "{problem:?}");
    assert_eq!(strange.metric("fetch_origin_errors_total{kind=\"tls\"}"), 1);
    assert_eq!(strange.metric("fetch_origin_total"), 0);

    let misnamed = house(stage.port, "127.0.0.1", &[&pem]);
    let problem = misnamed.problem(&format!("https://127.0.0.1:{}/", stage.port)).await;
    assert!(cause(&problem).contains("TLS"), "{problem:?}");
    assert_eq!(stage.requests(), 2);
}

#[tokio::test]
async fn a_certificate_for_an_address_will_do_for_that_address() {
    let authority = Authority::make();
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("roots.pem");
    std::fs::write(&pem, authority.0.pem()).unwrap();
    let stage = Stage::at("127.0.0.1", |_| ok(b"photo"), Some(authority.acceptor(&["127.0.0.1"]))).await;
    let house = house(stage.port, "127.0.0.1", &[&pem]);
    assert_eq!(house.body(&format!("https://127.0.0.1:{}/", stage.port)).await.unwrap(), b"photo");
}

#[tokio::test]
async fn an_origin_that_speaks_no_tls_is_broken() {
    let stage = Stage::open(|_| ok(b"photo")).await;
    let house = house(stage.port, "127.0.0.1", &[]);
    // A plain server waits for a request head that never ends; the handshake's time-out ends it.
    let url = format!("https://127.0.0.1:{}/", stage.port);
    let step = std::time::Duration::from_millis(100);
    let problem = house.clock.hurry(step, house.problem(&url)).await;
    assert_eq!(problem.kind, Kind::OriginTimeout, "{problem:?}");
    assert_eq!(house.metric("fetch_origin_errors_total{kind=\"timeout_connect\"}"), 1);
}

#[test]
fn roots_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing here").unwrap();
    for path in [folder.path().join("missing.pem"), empty] {
        let config = tutti_fetch::Config { extra_roots: vec![path.clone()], ..Default::default() };
        let built = tutti_fetch::Outside::new(
            config,
            tutti_fetch::FolderPaths::new(),
            Arc::new(|_, _| true),
            Arc::new(crate::hand_clock::HandClock::start()),
            &tutti_telemetry::Metrics::default(),
        );
        let error = built.err().unwrap().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
