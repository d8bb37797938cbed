//! An `Outside` as tests use it, and what they ask of it.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tutti_base::http::Validator;
use tutti_base::{BodyError, BoxFuture, Clock, Deadline, Problem, Source, TenantId};
use tutti_fetch::{AllowUrl, Config, Fetch, FetchRequest, Fetched, FolderPaths, Names, Outside};
use tutti_telemetry::Metrics;

use crate::hand_clock::HandClock;
use crate::stage::Stage;

pub(crate) struct House {
    pub(crate) outside: Outside,
    pub(crate) clock: Arc<HandClock>,
    metrics: Metrics,
}

impl House {
    /// Settings beside the defaults, with the test's own server open to it.
    pub(crate) fn with(stage: &Stage, settings: &str) -> Self {
        Self::of(&config(stage, settings), Arc::new(|_, _| true), FakeNames::default())
    }

    pub(crate) fn for_stage(stage: &Stage) -> Self {
        Self::with(stage, "")
    }

    pub(crate) fn of(settings: &str, allow: AllowUrl, names: FakeNames) -> Self {
        Self::build(settings, FolderPaths::new(), allow, Arc::new(names))
    }

    pub(crate) fn build(
        settings: &str,
        folders: FolderPaths,
        allow: AllowUrl,
        names: Arc<dyn Names>,
    ) -> Self {
        let (clock, metrics) = (Arc::new(HandClock::start()), Metrics::default());
        let config: Config = toml::from_str(settings).unwrap();
        let outside = Outside::with_names(config, folders, allow, names, clock.clone(), &metrics).unwrap();
        Self { outside, clock, metrics }
    }

    pub(crate) fn request(&self, url: &str) -> FetchRequest {
        FetchRequest {
            source: Source::Http { url: url.into() },
            tenant: TenantId::default(),
            validator: Validator::default(),
            deadline: Deadline::after(self.clock.now(), Duration::from_secs(60)),
        }
    }

    pub(crate) async fn get(&self, url: &str) -> Result<Fetched, Problem> {
        self.outside.fetch(&self.request(url)).await
    }

    /// The body of a 200.
    pub(crate) async fn body(&self, url: &str) -> Result<Vec<u8>, BodyError> {
        match self.get(url).await {
            Ok(fetched) => whole(fetched).await,
            Err(problem) => panic!("{url}: {problem:?}"),
        }
    }

    pub(crate) async fn problem(&self, url: &str) -> Problem {
        match self.get(url).await {
            Ok(_) => panic!("{url} was answered"),
            Err(problem) => problem,
        }
    }

    /// The value of a metric line such as `fetch_refused_total{reason="scheme"}`; 0 where there is none.
    pub(crate) fn metric(&self, name: &str) -> i64 {
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("tutti_{name} ")));
        line.map_or(0, |value| value.parse().unwrap())
    }
}

pub(crate) fn config(stage: &Stage, settings: &str) -> String {
    format!(
        "{settings}\n[sources.stage]\nprefix = \"{}\"\nallowed_networks = [\"127.0.0.1\"]\n",
        stage.url("/")
    )
}

pub(crate) async fn whole(fetched: Fetched) -> Result<Vec<u8>, BodyError> {
    let Fetched::Body(_, mut body) = fetched else { panic!("no body") };
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

pub(crate) fn cause(problem: &Problem) -> &str {
    problem.cause.as_deref().unwrap_or_default()
}

/// A wait that is in vain ends here, so that a defect fails a test instead of hanging it.
const IN_VAIN: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(IN_VAIN, holds).await.expect("the condition came to hold");
}

/// Names that a test makes up. Each look-up takes the next list of addresses; the last one stays.
#[derive(Clone, Default)]
pub(crate) struct FakeNames {
    known: HashMap<String, Vec<Vec<IpAddr>>>,
    pub(crate) lookups: Arc<AtomicUsize>,
}

impl FakeNames {
    pub(crate) fn knowing(name: &str, answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        let known = HashMap::from([(name.to_owned(), answers.iter().map(parse).collect())]);
        Self { known, lookups: Arc::default() }
    }
}

impl Names for FakeNames {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let number = self.lookups.fetch_add(1, Ordering::SeqCst);
            let answers = self.known.get(name).ok_or_else(|| io::Error::other("no such name"))?;
            Ok(answers[number.min(answers.len() - 1)].clone())
        })
    }
}
