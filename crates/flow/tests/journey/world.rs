//! A world for the journey: a service, an origin, caches, engines and a clock that tests hold in their hands.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write as _};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;
use tutti_base::http::{Method, Validator};
use tutti_base::{
    Body, BoxFuture, Clock, ContentHash, Context, Deadline, FileBody, KeptBody, Kind, NodeId, Nodes, Peers,
    Problem, RequestId, RequestKey, ResultKey, Source, SourceKey, StreamBody, TenantId, Tick, Wall,
};
use tutti_cache::{
    Binding, Entry, OriginalRecord, OriginalWriter, Originals, ResultMeta, Results, SealedOriginal, Stats,
};
use tutti_fetch::{Fetch, FetchRequest, Fetched, FileStamp, FolderFile, OriginAnswer};
use tutti_flow::journey::Degrade;
use tutti_flow::{
    Alone, Answer, Assets, Capacity, Config, Copies, Flow, Outside, Planned, PurgeKeeper, Spawn, Stored,
    Task, Tenants, Work, Write,
};
use tutti_service::plan::Cost;
use tutti_service::registry::ServiceId;
use tutti_service::{
    Action, CachePolicy, Description, Gather, Head, Input, JobClass, JobPlan, Lifetime, Mount, Output, Part,
    Plan, Registry, Response, Rung, Service, Tenant,
};
use tutti_telemetry::Metrics;

use crate::shelf::TestShelf;

/// The one service: `/NAME` transforms the original `http://origin/NAME`, `/folder/NAME` a folder's file; the query
/// goes into the parameters. `/gather/A,B` gathers two transforms.
pub(crate) struct Shout(Description);

impl Shout {
    fn transform(&self, path: &str, query: Option<&str>) -> Plan {
        let source = match path.strip_prefix("folder/") {
            Some(path) => Source::Local { folder: String::new(), path: path.into() },
            None => Source::Http { url: format!("http://origin/{path}") },
        };
        let job = |params: String| JobPlan {
            class: "shout",
            params: params.into(),
            inputs: vec![Input::Original(source.clone())],
            cost: Cost { cpu_ms: 10.0, bytes: 1000, features: [0.0; 4] },
        };
        let params = query.unwrap_or("").to_owned();
        let mut plan = Plan::of(Action::Job(job(params.clone())));
        plan.cache = CachePolicy {
            lifetime: Lifetime::OfOriginals { default: Duration::from_secs(100) },
            stale_while_revalidate: Duration::from_secs(50),
            stale_if_error: Duration::from_secs(1000),
            tags: vec!["loud".into()],
        };
        let mut cheap = job(format!("{params}-cheap"));
        cheap.cost.cpu_ms = 1.0;
        plan.ladder = vec![Rung::Stale, Rung::Cheaper { word: "effort", job: cheap }];
        plan
    }
}

impl Service for Shout {
    fn describe(&self) -> &Description {
        &self.0
    }
    fn plan(&self, head: &Head<'_>, _tenant: &Tenant) -> Result<Plan, Problem> {
        let path = head.path.trim_start_matches('/');
        if let Some(names) = path.strip_prefix("gather/") {
            let parts = names
                .split(',')
                .map(|name| Part { name: name.into(), plan: self.transform(name, head.query) })
                .collect();
            return Ok(Plan::of(Action::Gather(Gather {
                parts,
                within: Duration::from_secs(2),
                at_least: 1,
                content_type: "text/plain".into(),
                missing: Bytes::from_static(b"[missing]"),
            })));
        }
        if path == "now" {
            let body = Bytes::from_static(b"at once");
            return Ok(Plan::of(Action::Respond(Response {
                status: 200,
                content_type: "text/plain".into(),
                body,
            })));
        }
        Ok(self.transform(path, head.query))
    }
}

/// Time that passes when everybody waits.
pub(crate) struct PausedClock {
    began: Instant,
    /// How far its calendar is ahead of the others'.
    pub ahead_ms: AtomicU64,
}

impl Clock for PausedClock {
    fn now(&self) -> Tick {
        Tick(self.began.elapsed().as_nanos() as u64)
    }
    fn wall(&self) -> Wall {
        let passed = self.began.elapsed().as_millis() as u64;
        Wall(1_700_000_000_000 + passed + self.ahead_ms.load(Ordering::SeqCst))
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        let at = self.began + Duration::from_nanos(until.0);
        Box::pin(tokio::time::sleep_until(at))
    }
}

/// What the origin and the folder hold, and how they behave.
#[derive(Default)]
pub(crate) struct Outdoors {
    pub originals: Mutex<HashMap<String, Bytes>>,
    pub answer: Mutex<OriginAnswer>,
    pub failing: Mutex<Option<Kind>>,
    pub takes: Mutex<Duration>,
    /// How long the bytes are on their way once the origin has read them.
    pub sends: Mutex<Duration>,
    pub fetches: AtomicUsize,
    pub not_modified: AtomicUsize,
    pub stats: AtomicUsize,
}

impl Outdoors {
    pub(crate) fn put(&self, name: &str, text: &str) {
        self.originals.lock().unwrap().insert(name.into(), Bytes::from(text.to_owned()));
    }
    fn get(&self, name: &str) -> Result<Bytes, Problem> {
        let found = self.originals.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| Problem::new(Kind::OriginStatus(404), "not there"))
    }
}

impl Fetch for Outdoors {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, Problem>> {
        Box::pin(async move {
            if let Source::Local { path, .. } = &request.source {
                self.stats.fetch_add(1, Ordering::SeqCst);
                let bytes = self.get(&format!("folder/{path}"))?;
                let stamp = FileStamp {
                    device: 0,
                    inode: ContentHash::of(&bytes).prefix(),
                    len: bytes.len() as u64,
                    modified_ns: 0,
                    changed_ns: 0,
                };
                return Ok(Fetched::File(FolderFile { file: file_of(&bytes).file, stamp }));
            }
            self.fetches.fetch_add(1, Ordering::SeqCst);
            let takes = *self.takes.lock().unwrap();
            tokio::time::sleep(takes).await;
            if let Some(kind) = *self.failing.lock().unwrap() {
                return Err(Problem::new(kind, "the origin fails"));
            }
            let name = request.source.to_string().replace("http://origin/", "");
            let bytes = self.get(&name)?;
            let sends = *self.sends.lock().unwrap();
            tokio::time::sleep(sends).await;
            let etag = ContentHash::of(&bytes).hex();
            let mut answer = self.answer.lock().unwrap().clone();
            answer.validator = Validator { etag: Some(etag.clone()), last_modified: None };
            if request.validator.etag.as_ref() == Some(&etag) {
                self.not_modified.fetch_add(1, Ordering::SeqCst);
                return Ok(Fetched::NotModified(answer));
            }
            let chunks = Box::pin(futures_util::stream::iter([Ok(bytes)]));
            Ok(Fetched::Body(answer, StreamBody { len: None, hash: None, chunks }))
        })
    }
}

/// The outdoors with a folder of this node's own, where it has one.
struct Home(Arc<TestShelf>, Arc<Outdoors>);

impl Fetch for Home {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, Problem>> {
        match &request.source {
            Source::Local { path, .. } if self.0.is_open() => {
                let found = self.0.open(path).map(Fetched::File);
                let found = found.ok_or_else(|| Problem::new(Kind::NotFound, "not in the folder"));
                Box::pin(async { found })
            }
            _ => self.1.fetch(request),
        }
    }
}

/// An engine that shouts: upper case of the input, with the parameters.
#[derive(Default)]
pub(crate) struct Engine {
    pub runs: AtomicUsize,
    pub cancelled: AtomicUsize,
    pub takes: Mutex<Duration>,
    pub fails: Mutex<Option<Problem>>,
    pub panics: AtomicBool,
}

impl Work for Engine {
    fn run(&self, task: Task) -> BoxFuture<'_, Result<Output, Problem>> {
        Box::pin(async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            task.started.store(true, Ordering::Release);
            assert!(!self.panics.swap(false, Ordering::SeqCst), "the maker dies");
            let left = Left(&self.cancelled, true);
            let takes = *self.takes.lock().unwrap();
            tokio::time::sleep(takes).await;
            let mut left = left;
            left.1 = false;
            if let Some(problem) = self.fails.lock().unwrap().clone() {
                return Err(problem);
            }
            let input = &task.inputs[0];
            let mut bytes = vec![0; input.len as usize];
            input.file.read_exact_at(&mut bytes, 0).expect("the input can be read");
            let text = String::from_utf8(bytes).expect("text").to_uppercase();
            let params = String::from_utf8(task.job.params.to_vec()).expect("text");
            let body = Body::Whole(Bytes::from(format!("{text}!{params}")));
            Ok(Output { content_type: "text/plain".into(), body, fields: Vec::new(), cpu_ms: 10.0 })
        })
    }
    fn capacity(&self) -> Capacity {
        Capacity { permits: 1, cpu: 1.0, bytes: 1_000_000 }
    }
}

/// Counts a run that was dropped before its end.
struct Left<'a>(&'a AtomicUsize, bool);
impl Drop for Left<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[derive(Default)]
pub(crate) struct Kept {
    pub entries: Mutex<HashMap<RequestKey, Arc<Entry>>>,
    results: Mutex<HashMap<ResultKey, (ResultMeta, Bytes)>>,
}

impl Results for Kept {
    fn resident(&self, key: &RequestKey) -> Option<Arc<Entry>> {
        self.entries.lock().unwrap().get(key).cloned()
    }
    fn find<'a>(&'a self, key: &'a RequestKey) -> BoxFuture<'a, Option<Arc<Entry>>> {
        Box::pin(async move { self.resident(key) })
    }
    fn find_result<'a>(&'a self, result: &'a ResultKey) -> BoxFuture<'a, Option<(ResultMeta, Body)>> {
        let found = self.results.lock().unwrap().get(result).cloned();
        Box::pin(async move { found.map(|(meta, bytes)| (meta, Body::Whole(bytes))) })
    }
    fn put(&self, key: RequestKey, binding: Binding, meta: ResultMeta, body: Bytes) -> Arc<Entry> {
        self.results.lock().unwrap().insert(binding.result, (meta.clone(), body.clone()));
        let entry = Arc::new(Entry::new(binding, meta, KeptBody::Whole(body)));
        self.entries.lock().unwrap().insert(key, Arc::clone(&entry));
        entry
    }
    fn rebind<'a>(&'a self, key: RequestKey, binding: Binding) -> BoxFuture<'a, Option<Arc<Entry>>> {
        let found = self.results.lock().unwrap().get(&binding.result).cloned();
        Box::pin(async move { found.map(|(meta, bytes)| self.put(key, binding, meta, bytes)) })
    }
    fn forget(&self, key: &RequestKey) {
        self.entries.lock().unwrap().remove(key);
    }
    fn clear(&self) {
        self.entries.lock().unwrap().clear();
        self.results.lock().unwrap().clear();
    }
    fn stats(&self) -> Stats {
        Stats::default()
    }
}

type Records = Arc<Mutex<HashMap<SourceKey, (OriginalRecord, FileBody)>>>;

#[derive(Default)]
pub(crate) struct KeptOriginals(Records);

impl Originals for KeptOriginals {
    fn find<'a>(&'a self, source: &'a SourceKey) -> BoxFuture<'a, Option<(OriginalRecord, FileBody)>> {
        let found = self.0.lock().unwrap().get(source).cloned();
        Box::pin(async move { found })
    }
    fn writer(&self) -> Box<dyn OriginalWriter> {
        Box::new(Writing(Vec::new(), Arc::clone(&self.0)))
    }
    fn update<'a>(&'a self, source: &'a SourceKey, record: OriginalRecord) -> BoxFuture<'a, bool> {
        let mut records = self.0.lock().unwrap();
        let found = records.get_mut(source).map(|kept| kept.0 = record).is_some();
        Box::pin(async move { found })
    }
    fn forget(&self, source: &SourceKey) {
        self.0.lock().unwrap().remove(source);
    }
    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
    fn stats(&self) -> Stats {
        Stats::default()
    }
}

struct Writing(Vec<u8>, Records);

impl OriginalWriter for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn seal(self: Box<Self>) -> io::Result<SealedOriginal> {
        let (body, records) = (file_of(&self.0), self.1);
        let kept = body.clone();
        let keep = Box::new(move |key, record| {
            records.lock().unwrap().insert(key, (record, kept));
        });
        Ok(SealedOriginal { hash: ContentHash::of(&self.0), body, keep })
    }
}

pub(crate) struct TestCopies;

impl Copies for TestCopies {
    fn freeze<'a>(
        &'a self,
        file: &'a FolderFile,
        _: u64,
    ) -> BoxFuture<'a, io::Result<(FileBody, ContentHash)>> {
        let mut bytes = vec![0; file.stamp.len as usize];
        let read = file.file.read_exact_at(&mut bytes, 0);
        Box::pin(async move { read.map(|()| (file_of(&bytes), ContentHash::of(&bytes))) })
    }
    fn file(&self, bytes: Bytes) -> BoxFuture<'_, io::Result<FileBody>> {
        Box::pin(async move { Ok(file_of(&bytes)) })
    }
    fn read(&self, body: Body, _: u64) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            match body {
                Body::Whole(bytes) => Ok(bytes),
                Body::File(file) => {
                    let mut bytes = vec![0; file.len as usize];
                    file.file.read_exact_at(&mut bytes, file.offset).map(|()| bytes.into())
                }
                Body::Stream(_) => Err(io::Error::other("no streams here")),
            }
        })
    }
}

pub(crate) fn file_of(bytes: &[u8]) -> FileBody {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).and_then(|()| file.seek(SeekFrom::Start(0))).expect("written");
    FileBody { file: Arc::<File>::new(file), offset: 0, len: bytes.len() as u64 }
}

struct OnTokio;
impl Spawn for OnTokio {
    fn spawn(&self, _name: &'static str, work: BoxFuture<'static, ()>) {
        tokio::spawn(work);
    }
}

#[derive(Default)]
struct NoKeeper;
impl PurgeKeeper for NoKeeper {
    fn load(&self) -> Stored {
        Stored::default()
    }
    fn write<'a>(&'a self, _: &'a Write) -> BoxFuture<'a, Result<(), Problem>> {
        async { Ok(()) }.boxed()
    }
}

struct OneTenant(Arc<Tenant>);
impl Tenants for OneTenant {
    fn get(&self, _: &TenantId) -> Arc<Tenant> {
        Arc::clone(&self.0)
    }
    fn generation(&self) -> u64 {
        0
    }
}

pub(crate) struct World {
    pub flow: Arc<Flow>,
    pub assets: Assets,
    pub outdoors: Arc<Outdoors>,
    pub shelf: Arc<TestShelf>,
    pub engine: Arc<Engine>,
    pub kept: Arc<Kept>,
    pub originals: Arc<KeptOriginals>,
    pub clock: Arc<PausedClock>,
    pub metrics: Metrics,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn refusing() -> Self {
        Self::with(Config { degrade: Degrade::RefuseOnly, ..Config::default() })
    }

    pub(crate) fn with(config: Config) -> Self {
        let alone = Arc::new(Alone::new(NodeId(1)));
        let outdoors = Arc::<Outdoors>::default();
        Self::at(config, outdoors, Arc::<Alone>::clone(&alone), alone, "one")
    }

    /// A node among others: its caches and engines are its own, the outdoors are everyone's.
    pub(crate) fn at(
        config: Config,
        outdoors: Arc<Outdoors>,
        peers: Arc<dyn Peers>,
        nodes: Arc<dyn Nodes>,
        me: &str,
    ) -> Self {
        let metrics = Metrics::default();
        let (engine, kept) = (Arc::<Engine>::default(), Arc::<Kept>::default());
        let originals = Arc::<KeptOriginals>::default();
        outdoors.answer.lock().unwrap().shared = true;
        let clock = Arc::new(PausedClock { began: Instant::now(), ahead_ms: AtomicU64::new(0) });
        let shelf = Arc::<TestShelf>::default();
        let description = Description {
            name: "shout",
            summary: "upper case",
            mounts: vec![Mount::at("/shout/")],
            classes: vec![JobClass { name: "shout", features: &[] }],
            capabilities: Vec::new(),
            deadline: Duration::from_secs(10),
            epoch: 1,
        };
        let outside = Outside {
            results: Arc::<Kept>::clone(&kept),
            originals: Arc::<KeptOriginals>::clone(&originals),
            fetch: Arc::new(Home(Arc::clone(&shelf), Arc::clone(&outdoors))),
            copies: Arc::new(TestCopies),
            work: Arc::<Engine>::clone(&engine),
            spawn: Arc::new(OnTokio),
            clock: Arc::<PausedClock>::clone(&clock),
            tenants: Arc::new(OneTenant(Arc::new(Tenant::main()))),
            purges: Arc::new(NoKeeper),
            shelf: Arc::<TestShelf>::clone(&shelf),
            seed: nodes.view().me.0,
            me: me.into(),
            peers,
            nodes,
        };
        let registry = Registry::new(vec![Arc::new(Shout(description))]);
        let flow = Arc::new(Flow::new(registry, outside, config, &metrics));
        let assets = Assets::new(Arc::clone(&flow), &metrics);
        Self { flow, assets, outdoors, shelf, engine, kept, originals, clock, metrics }
    }

    pub(crate) fn plan(&self, url: &str) -> Arc<Planned> {
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let head = Head { method: Method::Get, host: "test", path, query, fields: &() };
        self.flow.plan(ServiceId(0), &head).expect("it can be planned")
    }

    /// Asks for `url`, to be answered within `within`.
    pub(crate) async fn ask_within(&self, url: &str, within: Duration) -> Said {
        let now = self.clock.now();
        let deadline = Deadline::after(now, within);
        let context = Context { id: RequestId(1), tenant: TenantId::default(), arrived: now, deadline };
        Said::of(self.flow.answer(self.plan(url), context).await)
    }

    pub(crate) async fn ask(&self, url: &str) -> Said {
        self.ask_within(url, Duration::from_secs(10)).await
    }

    pub(crate) fn runs(&self) -> usize {
        self.engine.runs.load(Ordering::SeqCst)
    }

    pub(crate) fn fetches(&self) -> usize {
        self.outdoors.fetches.load(Ordering::SeqCst)
    }

    /// Whether the path of a hit has a fresh answer.
    pub(crate) fn hits(&self, url: &str) -> bool {
        self.flow.resident(&self.plan(url), self.clock.wall()).is_some()
    }

    pub(crate) async fn pass(&self, secs: f64) {
        tokio::time::sleep(Duration::from_secs_f64(secs)).await;
    }
}

/// An answer in short: (status, `Cache-Status` word, body or detail).
#[derive(Debug, PartialEq, Clone)]
pub(crate) struct Said(pub u16, pub &'static str, pub String);

impl Said {
    fn of(answer: Answer) -> Self {
        match answer {
            Answer::Kept(kept) => match &kept.entry.body {
                KeptBody::Whole(bytes) => Said(200, kept.cache.word(), text(bytes)),
                KeptBody::File(_) => panic!("these are small"),
            },
            Answer::Made(made) => match &made.body {
                Body::Whole(bytes) => Said(made.status, made.cache.word(), text(bytes)),
                _ => panic!("these are small"),
            },
            Answer::Problem(problem, note, _) => {
                Said(problem.kind.status(), note.word(), problem.detail.into())
            }
        }
    }
    pub(crate) fn ok(&self) -> (&'static str, &str) {
        assert_eq!(self.0, 200, "{self:?}");
        (self.1, &self.2)
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
