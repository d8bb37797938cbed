//! The cases: each a real engine, and a condition that is waited for.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags};
use tutti_process::memfd;
use tutti_process::{CallError, Death, Engine, EngineLimits, EngineSpec, Identity, Layer, Wear};

use crate::privilege;

const MIB: u64 = 1 << 20;

/// No case needs this long; it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("a_job_goes_in_and_its_output_comes_back", || run(a_job_goes_in_and_its_output_comes_back())),
        ("every_layer_that_this_kernel_has_is_in_force", || run(every_layer_is_in_force())),
        ("many_inputs_and_large_outputs_pass_up_to_the_limits", || run(limits_are_limits())),
        ("an_engine_is_worn_after_its_jobs_and_when_it_has_grown", || run(wear())),
        ("crashes_are_told_apart_and_leave_no_zombie", || run(crashes())),
        ("forbidden_calls_kill_the_engine", || run(forbidden_calls())),
        ("an_engine_that_hangs_is_killed_at_the_deadline", || run(a_hang())),
        ("an_end_while_it_waits_is_seen", || run(an_early_end())),
        ("an_engine_that_allocates_over_its_limit_dies_of_it", || run(a_balloon())),
        ("a_dropped_call_kills_the_job", || run(a_dropped_call())),
        ("an_engine_that_lies_is_killed", || run(lies())),
        ("a_job_that_breaks_the_rules_is_rejected_unseen", || run(rejections())),
        ("descriptors_do_not_leak", || run(no_leak())),
        ("an_engine_dies_with_its_server", || run(dies_with_its_server())),
        ("a_missing_program_is_a_spawn_error", || run(missing_program())),
        ("a_server_that_gave_up_root_still_starts_engines", privilege::a_dropped_server_still_starts_engines),
        ("folders_are_handed_over_and_foreign_ones_refused", privilege::folders_are_handed_over),
        ("overhead", || run(overhead())),
    ]
}

pub(crate) fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, case).await.expect("the case hangs") });
}

pub(crate) fn spec(args: &[&str]) -> EngineSpec {
    EngineSpec {
        program: "/proc/self/exe".into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        limits: EngineLimits {
            memory_bytes: 128 * MIB,
            output_bytes: 4 * MIB,
            input_bytes: 16 * MIB,
            grown_bytes: 48 * MIB,
            jobs_max: 1000,
        },
        identity: Identity::Server,
        nice: 5,
    }
}

async fn engine() -> Engine {
    Engine::spawn(&spec(&["engine"])).await.unwrap()
}

fn input(bytes: &[u8]) -> (Arc<File>, u64) {
    (Arc::new(memfd::sealed_bytes(bytes).unwrap()), bytes.len() as u64)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE / 2, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn gone(pid: u32) {
    assert!(pid > 1, "a real process id");
    until("the process is gone, not even a zombie", || !Path::new(&format!("/proc/{pid}")).exists()).await;
}

async fn a_job_goes_in_and_its_output_comes_back() {
    let mut engine = engine().await;
    let inputs = [input(b"two "), input(b""), input(b"parts")];
    let reply = engine.call(b"echo", &inputs, None).await.unwrap();
    assert_eq!((&reply.output[..], &reply.header[..]), (&b"two parts"[..], &b"done echo"[..]));
    assert!(reply.rss_bytes > 100_000, "{}", reply.rss_bytes);
    let reply = engine.call(b"burn 20", &[], None).await.unwrap();
    assert!(reply.cpu_ms > 1.0 && reply.cpu_ms < 2000.0, "{} ms", reply.cpu_ms);
    // A cached file works as well as a memfd, and only its first bytes are shown.
    let file = Arc::new(File::open("/proc/self/exe").unwrap());
    let reply = engine.call(b"echo", &[(file, 4)], None).await.unwrap();
    assert_eq!(&reply.output[..], b"\x7fELF");
}

async fn every_layer_is_in_force() {
    let engine = engine().await;
    let report = engine.report();
    assert_eq!(report.seccomp, Layer::Full, "{report:?}");
    assert_ne!(report.landlock, Layer::Absent, "{report:?}");
    assert_eq!(report.nice, 5 + rustix::process::nice(0).unwrap(), "{report:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
    for line in [
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "Threads:\t1",
    ] {
        assert!(status.contains(line), "{line} is missing in {status}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", engine.pid())).unwrap();
    assert!(limits.contains(&format!("Max data size             {}", 128 * MIB)), "{limits}");
    if rustix::process::geteuid().is_root() {
        assert!(report.netns, "root can take the network away: {report:?}");
        assert_eq!(std::fs::read(format!("/proc/{}/environ", engine.pid())).unwrap(), b"");
        let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", engine.pid())).unwrap().collect();
        assert_eq!(open.len(), 6, "null, null, null, socket, arena, statm: {open:?}");
    } else {
        println!("SKIPPED: descriptors, environment and namespace of an engine need root to be seen");
    }
}

async fn limits_are_limits() {
    let mut engine = engine().await;
    let one = input(b"x");
    let reply = engine.call(b"echo", &vec![one; 64], None).await.unwrap();
    assert_eq!(reply.output.len(), 64);
    let reply = engine.call(format!("fill {}", 4 * MIB).as_bytes(), &[], None).await.unwrap();
    assert!(reply.output.len() as u64 == 4 * MIB && reply.output.iter().all(|&byte| byte == 7));
    let over = engine.call(format!("fill {}", 4 * MIB + 1).as_bytes(), &[], None).await.unwrap_err();
    assert_eq!(over, CallError::OutputTooLong { len: 4 * MIB + 1, limit: 4 * MIB });
    let reply = engine.call(b"fill 3", &[], None).await.unwrap();
    assert_eq!(&reply.output[..], &[7, 7, 7], "it lives on, and shows nothing of the job before");
}

async fn wear() {
    let mut spec = spec(&["engine"]);
    spec.limits.jobs_max = 50;
    let mut engine = Engine::spawn(&spec).await.unwrap();
    for done in 0..50 {
        assert_eq!(engine.wear(), None, "after {done} jobs");
        engine.call(b"echo", &[], None).await.unwrap();
    }
    assert_eq!(engine.wear(), Some(Wear::Jobs));
    let mut engine = Engine::spawn(&spec).await.unwrap();
    engine.call(format!("hoard {}", 60 * MIB).as_bytes(), &[], None).await.unwrap();
    assert_eq!(engine.wear(), Some(Wear::Grown), "{} bytes", engine.rss_bytes());
}

async fn crashes() {
    for (word, death) in [
        ("abort", Death::Signal(libc::SIGABRT)),
        ("segv 8", Death::Signal(libc::SIGSEGV)),
        ("panic 3", Death::Panicked),
    ] {
        let mut engine = engine().await;
        let pid = engine.pid();
        let error = engine.call(word.as_bytes(), &[], None).await.unwrap_err();
        let CallError::Crashed { death: was, note } = error else { panic!("{word}: {error:?}") };
        assert_eq!(was, death, "{word}");
        assert_eq!(note.is_some_and(|note| note.contains("gives up on 3")), word == "panic 3", "{word}");
        assert_eq!(engine.wear(), Some(Wear::Dead));
        assert!(matches!(engine.call(b"echo", &[], None).await, Err(CallError::Rejected(_))));
        gone(pid).await;
    }
}

async fn forbidden_calls() {
    for word in ["open", "socket", "thread", "exec", "fork", "kill", "code"] {
        let mut engine = engine().await;
        let pid = engine.pid();
        let error = engine.call(word.as_bytes(), &[], None).await.unwrap_err();
        assert_eq!(error, CallError::Crashed { death: Death::Signal(libc::SIGSYS), note: None }, "{word}");
        gone(pid).await;
    }
}

async fn a_hang() {
    let mut engine = engine().await;
    let pid = engine.pid();
    let deadline = Instant::now() + Duration::from_millis(50);
    assert_eq!(engine.call(b"spin", &[], Some(deadline)).await.unwrap_err(), CallError::TimedOut);
    assert!(Instant::now() >= deadline);
    assert_eq!(engine.wear(), Some(Wear::Dead));
    gone(pid).await;
}

async fn an_early_end() {
    let engine = engine().await;
    assert!(!engine.has_ended());
    let pid = Pid::from_raw(engine.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("its end is seen", || engine.has_ended()).await;
}

async fn a_balloon() {
    let mut engine = engine().await;
    let pid = engine.pid();
    engine.call(format!("hoard {}", 100 * MIB).as_bytes(), &[], None).await.unwrap();
    let error = engine.call(format!("hoard {}", 100 * MIB).as_bytes(), &[], None).await.unwrap_err();
    assert!(matches!(error, CallError::Crashed { death: Death::Signal(libc::SIGABRT), .. }), "{error:?}");
    gone(pid).await;
}

async fn a_dropped_call() {
    let mut engine = engine().await;
    let pid = engine.pid();
    {
        let call = engine.call(b"spin", &[], None);
        let started = tokio::time::timeout(Duration::from_millis(20), call).await;
        assert!(started.is_err(), "it spins");
    }
    assert_eq!(engine.wear(), Some(Wear::Dead));
    gone(pid).await;
    // A start that is dropped leaves no process either.
    let before = children();
    drop(tokio::time::timeout(Duration::from_micros(200), Engine::spawn(&spec(&["engine"]))).await);
    until("no child is left", || children() <= before).await;
}

fn children() -> usize {
    let me = std::process::id();
    let list = std::fs::read_dir(format!("/proc/{me}/task")).unwrap();
    let of =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    list.map(|task| of(task.unwrap()).split_whitespace().count()).sum()
}

async fn lies() {
    for lie in ["silent-end", "garbage-greeting"] {
        let error = Engine::spawn(&spec(&["liar", lie])).await.unwrap_err();
        assert!(matches!(error, CallError::Spawn(_)), "{lie}: {error:?}");
    }
    for lie in ["too-long", "greets-twice", "garbage", "huge", "hangs-up"] {
        let mut engine = Engine::spawn(&spec(&["liar", lie])).await.unwrap();
        let pid = engine.pid();
        let error = engine.call(b"echo", &[], None).await.unwrap_err();
        assert!(matches!(error, CallError::Protocol(_)) == (lie != "hangs-up"), "{lie}: {error:?}");
        assert_eq!(engine.wear(), Some(Wear::Dead), "{lie}");
        gone(pid).await;
    }
    let mut engine = Engine::spawn(&spec(&["liar", "long-past"])).await.unwrap();
    let start = Instant::now();
    let reply = engine.call(b"echo", &[], None).await.unwrap();
    assert!(reply.cpu_ms <= start.elapsed().as_secs_f32() * 1000.0, "no more CPU time than has passed");
}

async fn rejections() {
    let mut engine = engine().await;
    let writable = Arc::new(tempfile::tempfile().unwrap());
    let big = Arc::new(File::open("/proc/self/exe").unwrap());
    for (params, inputs) in [
        (vec![b'x'; tutti_process::frame::TEXT_MAX + 1], vec![]),
        (b"echo".to_vec(), vec![input(b"x"); 65]),
        (b"echo".to_vec(), vec![(big, 16 * MIB + 1)]),
        (b"echo".to_vec(), vec![(writable, 0)]),
    ] {
        let error = engine.call(&params, &inputs, None).await.unwrap_err();
        assert!(matches!(error, CallError::Rejected(_)), "{error:?}");
    }
    engine.call(b"echo", &[], None).await.expect("the engine lives on");
    assert_eq!(engine.jobs(), 1, "and has seen none of them");
}

async fn no_leak() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut warm = engine().await;
    warm.call(b"echo", &[input(b"x")], None).await.unwrap();
    let before = open();
    for _ in 0..200 {
        warm.call(b"echo", &[input(b"in"), input(b"put")], None).await.unwrap();
    }
    assert_eq!(open(), before, "after 200 jobs");
    for round in 0..10 {
        let mut engine = engine().await;
        let word: &[u8] = if round % 2 == 0 { b"abort" } else { b"echo" };
        let _ = engine.call(word, &[input(b"x")], None).await;
    }
    until("all descriptors of dead engines are closed", || open() == before).await;
    until("the living engine is the only child", || children() == 1).await;
}

/// The process that is killed in [`dies_with_its_server`].
pub(crate) fn be_a_parent() -> ExitCode {
    run(async {
        let mut engine = engine().await;
        println!("{}", engine.pid());
        let _ = engine.call(b"spin", &[], None).await;
    });
    ExitCode::FAILURE
}

async fn dies_with_its_server() {
    let mut server = Command::new("/proc/self/exe").arg("parent").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let engine: i32 = line.trim().parse().unwrap();
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(engine).unwrap(), PidfdFlags::empty()).unwrap();
    assert!(!has_ended(&pidfd), "the engine works");
    server.kill().unwrap();
    server.wait().unwrap();
    until("the engine has ended", || has_ended(&pidfd)).await;
}

fn has_ended(pidfd: &std::os::fd::OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

async fn missing_program() {
    let mut spec = spec(&[]);
    spec.program = "/nonexistent/program".into();
    let error = Engine::spawn(&spec).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/program"), "{error}");
}

/// Prints what starting an engine and a job cost; fails only when they are out of all proportion.
async fn overhead() {
    let mut starts = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        drop(engine().await);
        starts.push(start.elapsed());
    }
    let mut engine = engine().await;
    let (mut jobs, image) = (Vec::new(), input(&vec![1; 100_000]));
    for _ in 0..900 {
        let start = Instant::now();
        engine.call(b"none", &[], None).await.unwrap_or_else(|_| unreachable!("none is a word"));
        jobs.push(start.elapsed());
    }
    let start = Instant::now();
    for _ in 0..90 {
        engine.call(b"echo", std::slice::from_ref(&image), None).await.unwrap();
    }
    let echo = start.elapsed() / 90;
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (start, job) = (median(&mut starts), median(&mut jobs));
    println!("median: start {start:?}, empty job {job:?}, 100 kB in and out {echo:?}");
    assert!(start < Duration::from_millis(200) && job < Duration::from_millis(10));
}
