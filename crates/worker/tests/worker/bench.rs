//! What the cases work with: a clock, a worker, tasks, and what was counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tutti_base::clock::MachineTime;
use tutti_base::{Body, BoxFuture, Clock, Context, Deadline, RequestId, TenantId, Tick, Wall};
use tutti_flow::{Task, Work};
use tutti_process::memfd;
use tutti_service::plan::Cost;
use tutti_service::{Facts, Output, OwnedInput, Refined};
use tutti_telemetry::Metrics;
use tutti_worker::{Config, Machine, Worker};

use crate::services;

struct RealClock(MachineTime);

impl Clock for RealClock {
    fn now(&self) -> Tick {
        self.0.now()
    }
    fn wall(&self) -> Wall {
        self.0.wall()
    }
    fn sleep_until(&self, until: Tick) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.0.instant(until).into()))
    }
}

pub(crate) struct Bench {
    pub(crate) worker: Arc<Worker>,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
}

/// One permit, so that what runs is what the case says.
pub(crate) fn config() -> Config {
    Config { permits: Some(1), engine_memory_bytes: 128 << 20, ..Config::default() }
}

impl Bench {
    pub(crate) fn new(config: &Config) -> Self {
        let (metrics, clock) = (Metrics::default(), Arc::new(RealClock(MachineTime::start())));
        let machine = Machine { cores: 2.0, memory: 1 << 30, bound: tutti_worker::capacity::Bound::Cores };
        let worker = Worker::new(config, services::registry(), machine, clock.clone(), &metrics).unwrap();
        Self { worker: Arc::new(worker), metrics, clock }
    }

    pub(crate) fn task(&self, service: &str, params: &'static str, tenant: &str, within: Duration) -> Task {
        let now = self.clock.now();
        Task {
            service: services::registry().find(service).expect("a service of ours").0,
            job: Refined {
                class: "any",
                params: Bytes::from_static(params.as_bytes()),
                cost: Cost::default(),
                pass_through: None,
            },
            inputs: Vec::new(),
            context: Context {
                id: RequestId(7),
                tenant: TenantId::new(tenant),
                arrived: now,
                deadline: Deadline::after(now, within),
            },
            started: Arc::default(),
        }
    }

    pub(crate) async fn run(&self, params: &'static str) -> Result<Output, tutti_base::Problem> {
        self.run_as("main", params).await
    }

    pub(crate) async fn run_as(
        &self,
        tenant: &str,
        params: &'static str,
    ) -> Result<Output, tutti_base::Problem> {
        self.worker.run(self.task("words", params, tenant, Duration::from_secs(15))).await
    }

    pub(crate) async fn pid_of(&self, tenant: &str) -> u32 {
        text(&self.run_as(tenant, "pid").await.unwrap()).parse().unwrap()
    }

    /// The value of one line of the metrics, 0 when it is not there.
    pub(crate) fn count(&self, line: &str) -> f64 {
        let text = self.metrics.text();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

pub(crate) fn input(bytes: &[u8]) -> OwnedInput {
    OwnedInput {
        file: Arc::new(memfd::sealed_bytes(bytes).unwrap()),
        len: bytes.len() as u64,
        facts: Facts::unknown(),
    }
}

pub(crate) fn text(output: &Output) -> String {
    match &output.body {
        Body::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("engines give whole bodies, not {other:?}"),
    }
}
