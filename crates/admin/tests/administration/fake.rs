//! A console that keeps what it is told in memory.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Mutex;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::Notify;
use tutti_admin::console::{
    Answer, Asset, AssetDone, AssetName, AssetPage, AssetQuery, CacheStats, ClusterAddress, DoctorCheck,
    DoctorReport, Event, EventPage, EventQuery, Explanation, NewToken, NodeAction, NodeDone, NodeOrder,
    NodeStatus, PortList, Promoted, PurgeReport, PurgeRequest, RestoreDone, Status, TokenInfo, TokenTerms,
    UrlAnswer, UrlRequest, Verdict,
};
use tutti_admin::{Console, Readiness};
use tutti_base::{Body, Kind, Problem, StreamBody, Wall};
use tutti_store::Revision;

/// The longest original here, in bytes.
pub(crate) const ASSET_MAX: u64 = 1 << 20;
/// Pieces of a backup here, and how long each is.
pub(crate) const BACKUP: (usize, usize) = (20, 100_000);

pub(crate) struct Fake {
    pub(crate) readiness: Mutex<Readiness>,
    pub(crate) orders: Mutex<Vec<NodeOrder>>,
    pub(crate) tokens: Mutex<Vec<TokenTerms>>,
    pub(crate) assets: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) linearized: Mutex<u32>,
    events: Mutex<Vec<Event>>,
    happened: Notify,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            readiness: Mutex::new(Readiness::Ready),
            orders: Mutex::default(),
            tokens: Mutex::default(),
            assets: Mutex::default(),
            linearized: Mutex::default(),
            events: Mutex::default(),
            happened: Notify::new(),
        }
    }
}

impl Fake {
    pub(crate) fn happen(&self, what: &str) {
        let event = Event { when: Wall(1), node: "one".into(), what: what.into(), why: "a test".into() };
        self.events.lock().expect("no panic").push(event);
        self.happened.notify_waiters();
    }

    fn events_after(&self, query: &EventQuery) -> EventPage {
        let events = self.events.lock().expect("no panic");
        let from = match &query.after {
            Some(after) => after.parse().unwrap_or(0),
            None => events.len().saturating_sub(query.limit),
        };
        let events: Vec<_> = events.iter().skip(from).take(query.limit).cloned().collect();
        EventPage { cursor: (from + events.len()).to_string(), events, missed: false }
    }
}

fn ok<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(async move { Ok(value) })
}

fn missing<'a, T: Send + 'a>(what: &str) -> Answer<'a, T> {
    let problem = Problem::new(Kind::NotFound, format!("there is no {what}"));
    Box::pin(async move { Err(problem) })
}

async fn collect(body: Body) -> Result<Vec<u8>, Problem> {
    let Body::Stream(mut body) = body else { panic!("bodies arrive as streams") };
    let mut all = Vec::new();
    while let Some(piece) = body.chunks.next().await {
        let broken = |error: tutti_base::BodyError| Problem::new(Kind::Unprocessable, error.to_string());
        all.extend_from_slice(&piece.map_err(broken)?);
    }
    Ok(all)
}

impl Console for Fake {
    fn readiness(&self) -> Readiness {
        self.readiness.lock().expect("no panic").clone()
    }
    fn status(&self) -> Answer<'_, Status> {
        let node = |name: &str, used| NodeStatus {
            name: name.into(),
            used_pct: used,
            free_pct: 100 - used,
            roles: vec!["front".into(), "worker".into()],
            addresses: vec!["10.9.8.7:8400".into()],
            voter: "voter".into(),
            ..NodeStatus::default()
        };
        let me = NodeStatus { is_me: true, leader: true, ..node("one", 41) };
        ok(Status {
            node: "<b>node</b>".into(),
            nodes: vec![me, NodeStatus { holds_address: true, ..node("two", 7) }],
            leader: Some("one".into()),
            quorum: "Two machines: one voter, one learner.".into(),
            cluster_address: Some(ClusterAddress {
                address: "127.0.0.10:8080".into(),
                holder: Some("two".into()),
            }),
            alerts: vec!["folder photos differs".into()],
            ..Status::default()
        })
    }
    fn cache_stats(&self) -> Answer<'_, CacheStats> {
        ok(CacheStats::default())
    }
    fn purge(&self, request: PurgeRequest) -> Answer<'_, PurgeReport> {
        let (reached, not_reached) = (vec!["one".into()], vec!["two".into()]);
        ok(PurgeReport { sequence: 7, text: format!("{request:?}"), reached, not_reached })
    }
    fn url(&self, request: UrlRequest) -> Answer<'_, UrlAnswer> {
        ok(UrlAnswer { url: format!("http://test/{}", request.source), signed: false })
    }
    fn explain(&self, url: String) -> Answer<'_, Explanation> {
        Box::pin(async move {
            match url.as_str() {
                "slow" => pending().await,
                "panic" => panic!("a defect in explain"),
                "broken" => Err(Problem::new(Kind::Internal, "it broke").because("the inner cause")),
                _ => Ok(Explanation { url, ..Explanation::default() }),
            }
        })
    }
    fn doctor(&self) -> Answer<'_, DoctorReport> {
        let check = DoctorCheck { name: "kernel".into(), verdict: Verdict::Warning, text: "old".into() };
        ok(DoctorReport { checks: vec![check] })
    }
    fn ports(&self) -> Answer<'_, PortList> {
        ok(PortList::default())
    }

    fn token_create(&self, terms: TokenTerms) -> Answer<'_, NewToken> {
        self.tokens.lock().expect("no panic").push(terms);
        ok(NewToken::new("7".into(), "token-4711".into(), Wall(9)))
    }
    fn tokens(&self) -> Answer<'_, Vec<TokenInfo>> {
        ok(vec![TokenInfo { id: "7".into(), state: "open".into(), ..TokenInfo::default() }])
    }
    fn token_revoke(&self, id: String) -> Answer<'_, ()> {
        if id == "7" { ok(()) } else { missing(&format!("token `{id}`")) }
    }
    fn node(&self, order: NodeOrder) -> Answer<'_, NodeDone> {
        let rotate = match order.action {
            NodeAction::Remove { .. } => vec!["img.key".to_owned()],
            _ => Vec::new(),
        };
        let done = NodeDone { name: order.name.clone(), text: format!("{:?}", order.action), rotate };
        self.orders.lock().expect("no panic").push(order);
        ok(done)
    }
    fn promote(&self, name: String, who: String) -> Answer<'_, Promoted> {
        ok(Promoted { name, epoch: 2, text: format!("done by {who}") })
    }
    fn events(&self, query: EventQuery) -> Answer<'_, EventPage> {
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + query.wait;
            loop {
                let news = self.happened.notified();
                let page = self.events_after(&query);
                if !page.events.is_empty() || tokio::time::timeout_at(deadline, news).await.is_err() {
                    return Ok(page);
                }
            }
        })
    }
    fn assets(&self, query: AssetQuery) -> Answer<'_, AssetPage> {
        let start = AssetName { folder: query.folder.clone(), path: query.prefix.clone() }.to_string();
        let cut = AssetName { folder: query.folder.clone(), path: String::new() }.to_string().len();
        let assets = self.assets.lock().expect("no panic");
        let fit = assets.iter().filter(|(url, _)| url.starts_with(&start) && url[cut..] > *query.after);
        let mut fit: Vec<Asset> = fit
            .map(|(url, bytes)| Asset {
                path: url[cut..].into(),
                bytes: bytes.len() as u64,
                ..Asset::default()
            })
            .collect();
        let more = fit.len() > query.limit;
        fit.truncate(query.limit);
        ok(AssetPage { folder: query.folder, assets: fit, more, absent: vec![] })
    }
    fn asset_bytes_max(&self) -> u64 {
        ASSET_MAX
    }
    fn asset_put(&self, name: AssetName, body: Body) -> Answer<'_, AssetDone> {
        Box::pin(async move {
            let bytes = collect(body).await?;
            let done = AssetDone { url: name.to_string(), bytes: bytes.len() as u64, ..AssetDone::default() };
            self.assets.lock().expect("no panic").insert(done.url.clone(), bytes);
            Ok(done)
        })
    }
    fn asset_remove(&self, name: AssetName) -> Answer<'_, AssetDone> {
        let url = name.to_string();
        match self.assets.lock().expect("no panic").remove(&url) {
            Some(_) => ok(AssetDone { url, ..AssetDone::default() }),
            None => missing(&url),
        }
    }
    fn linearize(&self) -> Answer<'_, Revision> {
        *self.linearized.lock().expect("no panic") += 1;
        ok(Revision(1))
    }
    fn backup(&self) -> Answer<'_, Body> {
        let pieces = (0..BACKUP.0).map(|at| Ok(vec![at as u8; BACKUP.1].into()));
        ok(Body::Stream(StreamBody { len: None, hash: None, chunks: Box::pin(stream::iter(pieces)) }))
    }
    fn restore(&self, body: Body, who: String) -> Answer<'_, RestoreDone> {
        Box::pin(async move {
            let entries = collect(body).await?.len() as u64;
            Ok(RestoreDone { entries, revision: 3, text: who })
        })
    }
}
