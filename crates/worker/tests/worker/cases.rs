//! The cases.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use tutti_base::{Body, Kind};
use tutti_flow::Work;
use tutti_worker::Config;

use crate::bench::{Bench, config, input, text};

/// No case needs this long; it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for a job to begin, however busy the machine.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(15);

pub(crate) fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("a_job_is_done_and_counted", || run(a_job_is_done_and_counted())),
        ("pass_through_needs_neither_permit_nor_engine", || run(pass_through())),
        ("failures_keep_their_blame", || run(failures_keep_their_blame())),
        ("one_crash_costs_one_retry_and_two_are_a_422", || run(crashes())),
        ("a_hang_ends_at_the_deadline_and_the_next_job_works", || run(a_hang())),
        ("a_service_without_an_engine_is_held_to_its_deadline_too", || run(a_sleeper())),
        ("a_wait_for_a_permit_ends_at_the_deadline_and_the_queue_has_an_end", || run(waiting())),
        ("permits_are_given_in_the_order_of_asking", || run(fifo())),
        ("a_small_job_does_not_wait_behind_heavy_ones", || run(small())),
        ("a_dropped_job_frees_its_permit_and_kills_its_engine", || run(a_dropped_job())),
        ("an_engine_serves_one_tenant", || run(tenants())),
        ("an_engine_is_replaced_after_its_jobs", || run(jobs_max())),
        ("a_service_that_asks_twice_at_once_takes_turns", || run(twice())),
        ("an_output_or_input_over_the_limit_is_refused", || run(limits())),
        ("engines_that_do_not_start_are_not_tried_without_end", || run(ghost())),
        ("an_engine_that_died_while_it_waited_costs_no_job_its_try", || run(died_idle())),
        ("the_first_job_finds_a_warm_engine", || run(warm())),
        ("no_engine_is_left_when_the_worker_goes", || run(none_is_left())),
        ("overhead", || run(overhead())),
    ]
}

fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, case).await.expect("the case hangs") });
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE / 2, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

async fn a_job_is_done_and_counted() {
    let bench = Bench::new(&config());
    let mut task = bench.task("words", "echo", "main", LONG);
    task.inputs = vec![input(b"hello "), input(b"there")];
    let output = bench.worker.run(task).await.unwrap();
    assert_eq!((text(&output).as_str(), output.content_type.as_str()), ("hello there", "text/plain"));
    assert_eq!(output.fields, [("X-Jobs".to_owned(), "1".to_owned())]);
    assert_eq!(bench.count("tutti_render_total{service=\"words\"}"), 1.0);
    assert_eq!(bench.count("tutti_engine_jobs_total{service=\"words\",outcome=\"ok\"}"), 1.0);
    assert_eq!(bench.count("tutti_engine_restarts_total"), 0.0);
    assert_eq!(bench.count("tutti_engine_engines"), 1.0);
    assert!(bench.count("tutti_engine_rss_bytes") > 100_000.0);
    assert_eq!((bench.count("tutti_worker_busy"), bench.count("tutti_limit_worker_permits")), (0.0, 1.0));
    assert_eq!(bench.worker.capacity().permits, 1);
}

async fn pass_through() {
    let bench = Bench::new(&config());
    let mut task = bench.task("words", "crash", "main", LONG);
    task.inputs = vec![input(b"as it is")];
    task.job.pass_through = Some("image/png".into());
    let output = bench.worker.run(task).await.unwrap();
    assert_eq!(output.content_type, "image/png");
    assert!(matches!(output.body, Body::File(file) if file.len == 8));
    assert_eq!(bench.count("tutti_render_total{service=\"words\"}"), 0.0);
}

async fn failures_keep_their_blame() {
    let bench = Bench::new(&config());
    let malformed = bench.run("malformed").await.unwrap_err();
    assert_eq!((malformed.kind, malformed.detail.as_ref()), (Kind::Unprocessable, "no: malformed"));
    assert!(malformed.of_input && malformed.subject.as_deref() == Some("words"));
    let too_wide = bench.run("too wide").await.unwrap_err();
    assert!(too_wide.kind == Kind::Unprocessable && !too_wide.of_input);
    let defect = bench.run("defect").await.unwrap_err();
    assert!(defect.kind == Kind::Internal && !defect.detail.contains("defect\n"));
    assert_eq!(bench.count("tutti_render_total{service=\"words\"}"), 0.0, "nothing was made");
    assert_eq!(bench.count("tutti_engine_restarts_total"), 0.0, "and no engine was harmed");
}

async fn crashes() {
    let bench = Bench::new(&config());
    bench.run("pid").await.unwrap();
    assert_eq!(text(&bench.run("fragile").await.unwrap()), "whole", "on a fresh engine");
    assert_eq!(bench.count("tutti_engine_retries_total"), 1.0);
    assert_eq!(bench.count("tutti_engine_restarts_total"), 1.0);
    let twice = bench.run("crash").await.unwrap_err();
    assert!(twice.kind == Kind::Unprocessable && !twice.of_input, "{twice:?}");
    assert!(twice.cause.unwrap().contains("SIGABRT"));
    assert_eq!(bench.count("tutti_engine_restarts_total"), 3.0);
    assert_eq!(bench.count("tutti_engine_kills_total{reason=\"crash\"}"), 3.0);
    // A reply that cannot be used is as bad as a crash.
    assert_eq!(bench.run("untyped").await.unwrap_err().kind, Kind::Unprocessable);
    assert_eq!(bench.count("tutti_engine_kills_total{reason=\"protocol\"}"), 2.0);
    bench.run("pid").await.expect("the service goes on");
}

async fn a_hang() {
    let bench = Bench::new(&config());
    let pid = bench.pid_of("main").await;
    let task = bench.task("words", "spin", "main", SHORT);
    let started = task.started.clone();
    let late = bench.worker.run(task).await.unwrap_err();
    assert!(started.load(Ordering::Acquire), "it is the job that was late, and not the queue");
    assert!(late.kind == Kind::Timeout && late.retry_after.is_some(), "{late:?}");
    assert_eq!(bench.count("tutti_engine_kills_total{reason=\"deadline\"}"), 1.0);
    until("the engine is gone", || !alive(pid)).await;
    assert_ne!(bench.pid_of("main").await, pid);
}

async fn a_sleeper() {
    let bench = Bench::new(&config());
    let late = bench.worker.run(bench.task("sleeper", "for ever", "main", SHORT)).await.unwrap_err();
    assert_eq!(late.kind, Kind::Timeout);
    let none = bench.worker.run(bench.task("sleeper", "pid", "main", LONG)).await.unwrap_err();
    assert_eq!(none.kind, Kind::Internal, "it has not asked for an engine");
}

async fn waiting() {
    let bench = Bench::new(&Config { waiting_max: 1, ..config() });
    let holder = tokio::spawn({
        let (worker, task) = (bench.worker.clone(), bench.task("sleeper", "for ever", "main", LONG));
        async move { worker.run(task).await }
    });
    until("the permit is taken", || bench.count("tutti_worker_busy") == 1.0).await;
    let waiter = tokio::spawn({
        let (worker, task) = (bench.worker.clone(), bench.task("words", "pid", "main", SHORT));
        async move {
            let started = task.started.clone();
            (worker.run(task).await, started.load(Ordering::Acquire))
        }
    });
    until("one waits", || bench.count("tutti_worker_waiting") == 1.0 || waiter.is_finished()).await;
    if !waiter.is_finished() {
        let over = bench.worker.run(bench.task("words", "pid", "main", LONG)).await.unwrap_err();
        assert_eq!(over.kind, Kind::Overloaded, "the queue is full");
        assert_eq!(bench.count("tutti_worker_refused_total{reason=\"full\"}"), 1.0);
    }
    let (late, started) = waiter.await.unwrap();
    let late = late.unwrap_err();
    assert!(!started, "no engine has begun with it");
    assert!(late.kind == Kind::Overloaded && late.retry_after.is_some(), "{late:?}");
    assert_eq!(bench.count("tutti_worker_refused_total{reason=\"late\"}"), 1.0);
    assert_eq!(bench.count("tutti_worker_waiting"), 0.0);
    let passed = bench.worker.run(bench.task("words", "pid", "main", Duration::ZERO)).await.unwrap_err();
    assert_eq!(passed.kind, Kind::Overloaded, "time that passed in a queue is no time-out of the work");
    holder.abort();
    assert!(holder.await.unwrap_err().is_cancelled());
    bench.run("pid").await.expect("the permit is free again");
}

async fn small() {
    let bench = Bench::new(&config());
    let holder = tokio::spawn({
        let (worker, task) = (bench.worker.clone(), bench.task("sleeper", "for ever", "main", LONG));
        async move { worker.run(task).await }
    });
    until("the permit is taken", || bench.count("tutti_worker_busy") == 1.0).await;
    let mut task = bench.task("words", "pid", "main", LONG);
    task.job.cost.cpu_ms = 5.0;
    bench.worker.run(task).await.expect("it has a permit of its own");
    holder.abort();
    assert!(holder.await.unwrap_err().is_cancelled());
}

async fn fifo() {
    let bench = Bench::new(&config());
    let holder = tokio::spawn({
        let (worker, task) = (bench.worker.clone(), bench.task("sleeper", "for ever", "main", LONG));
        async move { worker.run(task).await }
    });
    until("the permit is taken", || bench.count("tutti_worker_busy") == 1.0).await;
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for at in 0..5 {
        let (worker, task, order) =
            (bench.worker.clone(), bench.task("words", "pid", "main", LONG), order.clone());
        waiters.push(tokio::spawn(async move {
            worker.run(task).await.unwrap();
            order.lock().unwrap().push(at);
        }));
        until("it waits", || bench.count("tutti_worker_waiting") == f64::from(at + 1)).await;
    }
    holder.abort();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
}

async fn a_dropped_job() {
    let bench = Bench::new(&config());
    let pid = bench.pid_of("main").await;
    let (worker, task) = (bench.worker.clone(), bench.task("words", "spin", "main", LONG));
    let started = task.started.clone();
    let job = tokio::spawn(async move { worker.run(task).await });
    until("the engine works", || started.load(Ordering::Acquire)).await;
    job.abort();
    assert!(job.await.unwrap_err().is_cancelled());
    until("the engine is gone", || !alive(pid)).await;
    assert_eq!(bench.count("tutti_engine_kills_total{reason=\"cancelled\"}"), 1.0);
    assert_ne!(bench.pid_of("main").await, pid);
}

async fn tenants() {
    let bench = Bench::new(&Config { engines_max: Some(2), ..config() });
    let (a, b) = (bench.pid_of("a").await, bench.pid_of("b").await);
    assert_ne!(a, b, "never one engine for two");
    assert_eq!((bench.pid_of("a").await, bench.pid_of("b").await), (a, b), "and each waits for its own");
    let c = bench.pid_of("c").await;
    assert!(c != a && c != b);
    until("the one that waited longest made room", || !alive(a)).await;
    assert_eq!(bench.count("tutti_engine_kills_total{reason=\"tenant\"}"), 1.0);
    assert_eq!(bench.pid_of("b").await, b);
    assert_eq!(bench.count("tutti_engine_engines"), 2.0);
}

async fn jobs_max() {
    let bench = Bench::new(&Config { engine_jobs_max: 3, ..config() });
    let mut pids = Vec::new();
    for _ in 0..6 {
        pids.push(bench.pid_of("main").await);
    }
    assert!(
        pids[..3].iter().all(|pid| *pid == pids[0]) && pids[3..].iter().all(|pid| *pid == pids[3]),
        "{pids:?}"
    );
    assert_ne!(pids[0], pids[3]);
    assert_eq!(bench.count("tutti_engine_kills_total{reason=\"jobs\"}"), 2.0);
}

async fn twice() {
    let bench = Bench::new(&config());
    bench.run("twice").await.unwrap();
    assert_eq!(bench.count("tutti_engine_starts_total{service=\"words\",outcome=\"ok\"}"), 1.0);
}

async fn limits() {
    let bench = Bench::new(&Config { engine_output_bytes: 4096, engine_input_bytes: 4096, ..config() });
    let long = bench.run("fill").await.unwrap_err();
    assert!(long.kind == Kind::Unprocessable && !long.of_input, "{long:?}");
    assert_eq!(long.subject.as_deref(), Some("engine_output_bytes"));
    for (len, outcome) in [(4096, None), (4097, Some(Kind::Unprocessable))] {
        let mut task = bench.task("words", "echo", "main", LONG);
        task.inputs = vec![input(&vec![b'x'; len])];
        let problem = bench.worker.run(task).await.err();
        assert_eq!(problem.as_ref().map(|problem| problem.kind), outcome, "{len} bytes");
        assert!(problem.is_none_or(|problem| problem.of_input));
    }
}

async fn ghost() {
    let bench = Bench::new(&config());
    let ask = || bench.worker.run(bench.task("ghost", "pid", "main", LONG));
    for _ in 0..100 {
        let none = ask().await.unwrap_err();
        assert!(none.kind == Kind::Internal && none.retry_after.is_some(), "{none:?}");
    }
    let tried = bench.count("tutti_engine_starts_total{service=\"ghost\",outcome=\"failed\"}");
    assert!((1.0..50.0).contains(&tried), "{tried} starts for 100 jobs in a row");
    assert_eq!(bench.count("tutti_engine_engines"), 0.0);
}

async fn died_idle() {
    let bench = Bench::new(&config());
    let pid = bench.pid_of("main").await;
    let killed = Pid::from_raw(pid as i32).unwrap();
    let pidfd = rustix::process::pidfd_open(killed, PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    until("it has ended", || {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    })
    .await;
    assert_ne!(bench.pid_of("main").await, pid);
    assert_eq!(bench.count("tutti_engine_retries_total"), 0.0, "no job was given to a dead engine");
    assert_eq!(bench.count("tutti_engine_kills_total{reason=\"crash\"}"), 1.0);
}

async fn warm() {
    let bench = Bench::new(&config());
    let warmed = bench.worker.warm().await;
    let names: Vec<_> = warmed.iter().map(|warmed| (warmed.service, warmed.engines.is_ok())).collect();
    assert_eq!(names, [("words", true), ("ghost", false)]);
    bench.run("pid").await.unwrap();
    assert_eq!(bench.count("tutti_engine_starts_total{service=\"words\",outcome=\"ok\"}"), 1.0);
}

async fn none_is_left() {
    let bench = Bench::new(&Config { permits: Some(2), ..config() });
    let pid = bench.pid_of("main").await;
    let task = bench.task("words", "spin", "main", LONG);
    let worker = bench.worker.clone();
    let spinning = tokio::spawn(async move { worker.run(task).await });
    until("it works", || bench.count("tutti_worker_busy") == 1.0).await;
    spinning.abort();
    assert!(spinning.await.unwrap_err().is_cancelled());
    drop(bench);
    until("the engine is gone", || !alive(pid)).await;
}

/// Prints what a job costs beside its work; fails only when it is out of all proportion.
async fn overhead() {
    let bench = Bench::new(&config());
    let mut times = Vec::new();
    for _ in 0..900 {
        let start = Instant::now();
        bench.run("pid").await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    println!("median: empty job through the worker {:?}", times[times.len() / 2]);
    assert!(times[times.len() / 2] < Duration::from_millis(10));
}
