//! Serves one resident entry through the real loop, on one thread, to measure what a hit costs.
//!
//! `hit ADDRESS [BYTES] [off|all]`: the address, the size of the body, and the access log (to /dev/null).

#[path = "../tests/support/fake.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use more of it and may fail")]
mod fake;

use std::sync::Arc;
use std::time::Duration;

use tutti_base::clock::MachineTime;
use tutti_front::{Config, Front, LogConfig, LogMode, Outside, listeners};
use tutti_telemetry::Metrics;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let address = arguments.get(1).map_or("127.0.0.1:8090", String::as_str).parse().expect("an address");
    let bytes = arguments.get(2).map_or(8192, |text| text.parse().expect("a number of bytes"));
    let mode = if arguments.get(3).is_some_and(|text| text == "all") { LogMode::All } else { LogMode::Off };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let fake = fake::Fake::new(Duration::from_secs(10));
    fake.keep_bytes("/hit", vec![b'x'; bytes]);
    let outside = Outside {
        runtime: runtime.handle().clone(),
        clock: Arc::new(fake::TestClock(MachineTime::start())),
        metrics: Metrics::default(),
        log: Some(Box::new(std::fs::File::create("/dev/null").expect("/dev/null"))),
    };
    let config = Config { threads: 1, log: LogConfig { mode, ..LogConfig::default() }, ..Config::default() };
    let listener = listeners::bind(address).expect("a free address");
    let front = Front::start(config, vec![listener], fake, outside).expect("a front");
    println!("http://{}/t/hit", front.addresses()[0]);
    loop {
        std::thread::park();
    }
}
