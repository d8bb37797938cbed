//! Answers made up for tests and examples of the front: one service below `/t/` whose paths say what is answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tutti_base::clock::MachineTime;
use tutti_base::{
    Body, BodyError, BoxFuture, Clock, ContentHash, Context, FileBody, KeptBody, Kind, Problem, ResultKey,
    StreamBody, TenantId, Tick, Wall,
};
use tutti_cache::{Binding, Entry, ResultMeta};
use tutti_flow::{Answer, CacheNote, Kept, Made, Planned, Timing, Whence};
use tutti_front::Answers;
use tutti_service::registry::ServiceId;
use tutti_service::{Action, Description, Head, Mount, Plan, Registry, Response, Service, Tenant};

/// The machine's clocks.
pub(crate) struct TestClock(pub(crate) MachineTime);

impl Clock for TestClock {
    fn now(&self) -> Tick {
        self.0.now()
    }
    fn wall(&self) -> Wall {
        self.0.wall()
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        let until = self.0.instant(until);
        Box::pin(tokio::time::sleep_until(until.into()))
    }
}

struct FakeService(Description);

impl Service for FakeService {
    fn describe(&self) -> &Description {
        &self.0
    }
    fn plan(&self, _head: &Head<'_>, _tenant: &Tenant) -> Result<Plan, Problem> {
        Err(Problem::new(Kind::Internal, "the fake plans by itself"))
    }
}

/// Answers by path.
#[derive(Clone)]
pub(crate) struct Fake(Arc<State>);

/// What tests look at and turn.
pub(crate) struct State {
    registry: Registry,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
    /// Lets `/gated` answers go, one a permit.
    pub(crate) gate: Semaphore,
    /// Answers that were begun.
    pub(crate) begun: AtomicUsize,
    /// Answers that were dropped before they were made.
    pub(crate) dropped: AtomicUsize,
    now: Wall,
}

impl std::ops::Deref for Fake {
    type Target = State;
    fn deref(&self) -> &State {
        &self.0
    }
}

/// Counts an answer that was dropped before its end.
struct Begun(Arc<State>, bool);

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Fake {
    /// A fake whose service has this deadline.
    pub(crate) fn new(deadline: Duration) -> Self {
        let service = FakeService(Description {
            name: "fake",
            summary: "",
            mounts: vec![Mount::at("/t/")],
            classes: Vec::new(),
            capabilities: Vec::new(),
            deadline,
            epoch: 1,
        });
        Self(Arc::new(State {
            registry: Registry::new(vec![Arc::new(service)]),
            entries: Mutex::default(),
            gate: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            now: MachineTime::start().wall(),
        }))
    }

    /// Keeps `body` as the answer to `path` (below the mount).
    pub(crate) fn keep(&self, path: &str, body: KeptBody, bytes: &[u8]) {
        let hash = ContentHash::of(bytes);
        let after = |secs: u64| Wall(self.now.0 + secs * 1000);
        let binding = Binding {
            result: ResultKey::of(&[path.as_bytes()]),
            originals: Vec::new(),
            stored_at: self.now,
            fresh_until: after(3600),
            revalidate_until: after(3660),
            error_until: after(4000),
            tags: Vec::new(),
            purge_seen: 0,
            degraded: None,
        };
        let meta = ResultMeta {
            content_type: "image/webp".into(),
            hash,
            len: bytes.len() as u64,
            fields: vec![("X-Of-Bytes".into(), "yes".into())],
            cpu_ms: 1.0,
            maker: path.starts_with("/of").then(|| "two".into()),
        };
        self.entries.lock().unwrap().insert(path.into(), Arc::new(Entry::new(binding, meta, body)));
    }

    /// Keeps `bytes` in memory as the answer to `path`.
    pub(crate) fn keep_bytes(&self, path: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.keep(path, KeptBody::Whole(bytes.clone()), &bytes);
    }

    fn entry(&self, path: &str) -> Option<Arc<Entry>> {
        self.entries.lock().unwrap().get(path).cloned()
    }
}

fn path_of(planned: &Planned) -> String {
    match &planned.plan.action {
        Action::Respond(response) => String::from_utf8(response.body.to_vec()).unwrap(),
        _ => unreachable!("the fake plans nothing else"),
    }
}

fn made(status: u16, body: Body) -> Answer {
    Answer::Made(Made {
        status,
        content_type: "text/plain".into(),
        fields: vec![("X-Made".into(), "yes".into())],
        body,
        storable: false,
        cache: CacheNote::Miss,
        timing: Timing(vec![("run", Duration::from_micros(1500))]),
        whence: Whence::default(),
    })
}

/// Pieces `0` to `count` of `size` bytes, each of its own digit; an error at the end where `broken`.
fn pieces(count: u8, size: usize, broken: bool) -> Vec<Result<Bytes, BodyError>> {
    let mut pieces: Vec<_> = (0..count).map(|at| Ok(Bytes::from(vec![b'0' + at % 10; size]))).collect();
    if broken {
        pieces.push(Err(BodyError::Broken("as ordered".into())));
    }
    pieces
}

async fn make(state: Arc<State>, path: String) -> Answer {
    let stream = |len, pieces: Vec<_>| {
        let chunks = Box::pin(futures_util::stream::iter(pieces));
        made(200, Body::Stream(StreamBody { len, hash: None, chunks }))
    };
    match path.as_str() {
        "/gated" => {
            state.gate.acquire().await.unwrap().forget();
            made(200, Body::Whole(Bytes::from_static(b"gated")))
        }
        "/made" => made(200, Body::Whole(Bytes::from_static(b"made"))),
        "/empty" => made(204, Body::empty()),
        "/chunks" => stream(None, pieces(3, 4, false)),
        "/broken" => stream(None, pieces(2, 4, true)),
        "/sized" => stream(Some(12), pieces(3, 4, false)),
        "/short" => stream(Some(13), pieces(3, 4, false)),
        "/long" => stream(Some(11), pieces(3, 4, false)),
        "/endless" => {
            let piece = Bytes::from(vec![b'e'; 64 * 1024]);
            let chunks = Box::pin(futures_util::stream::repeat_with(move || Ok(piece.clone())));
            made(200, Body::Stream(StreamBody { len: None, hash: None, chunks }))
        }
        "/panics" => panic!("as ordered"),
        "/full" => {
            let problem = Problem::new(Kind::Overloaded, "no capacity").because("secret");
            Answer::Problem(problem, CacheNote::Miss, Timing::default())
        }
        _ => {
            Answer::Problem(Problem::new(Kind::NotFound, "no such path"), CacheNote::Miss, Timing::default())
        }
    }
}

impl Answers for Fake {
    type Memo = HashMap<String, Arc<Planned>>;

    fn memo(&self, _entries: usize) -> Self::Memo {
        HashMap::new()
    }
    fn registry(&self) -> &Registry {
        &self.registry
    }
    fn plan(
        &self,
        memo: &mut Self::Memo,
        service: ServiceId,
        head: &Head<'_>,
    ) -> Result<Arc<Planned>, Problem> {
        match head.path {
            "/forbidden" => {
                return Err(Problem::new(Kind::Forbidden, "the signature is wrong").about("signature"));
            }
            "/plan-panics" => panic!("as ordered"),
            _ => {}
        }
        if let Some(planned) = memo.get(head.path) {
            return Ok(planned.clone());
        }
        let body = Bytes::copy_from_slice(head.path.as_bytes());
        let mut plan = Plan::of(Action::Respond(Response { status: 200, content_type: String::new(), body }));
        plan.vary = Some("Accept");
        let planned = Arc::new(Planned::new(service, "fake", TenantId::default(), plan));
        memo.insert(head.path.to_owned(), planned.clone());
        Ok(planned)
    }
    fn resident(&self, planned: &Planned, _now: Wall) -> Option<Arc<Entry>> {
        let path = path_of(planned);
        if path.starts_with("/stored") { None } else { self.entry(&path) }
    }
    fn answer(&self, planned: Arc<Planned>, _context: Context) -> BoxFuture<'static, Answer> {
        let state = self.0.clone();
        let entry = self.entry(&path_of(&planned));
        Box::pin(async move {
            state.begun.fetch_add(1, Ordering::SeqCst);
            let mut begun = Begun(state.clone(), false);
            let answer = match entry {
                Some(entry) => {
                    let timing = Timing(vec![("run", Duration::from_millis(2))]);
                    let whence = Whence {
                        maker: Some("two".into()),
                        why: Some("fastest: \"12 ms\"".into()),
                        through: Some("three".into()),
                    };
                    Answer::Kept(Kept { entry, planned, cache: CacheNote::Stored, timing, whence })
                }
                None => make(state, path_of(&planned)).await,
            };
            begun.1 = true;
            answer
        })
    }
}

/// The body of a file with these bytes.
pub(crate) fn file_body(bytes: &[u8]) -> FileBody {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    FileBody { file: Arc::new(file), offset: 0, len: bytes.len() as u64 }
}
