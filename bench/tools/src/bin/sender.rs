//! An open-loop sender: requests at a constant rate, whatever the answers do. Knows HTTP/1 just well enough to tell answers apart.
//!
//! `sender ADDR RATE SECONDS CONNECTIONS PREFIX SUFFIX…`: request n is `PREFIX` n `SUFFIX[n % len]`. A request takes an
//! idle connection or opens one, up to CONNECTIONS; when there is none it waits, and its time counts from when it was sent.
//! Prints one JSON object. A rate of 0 keeps CONNECTIONS busy instead: that measures the peak.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// After the last request was due, answers are waited for this long.
const GRACE: Duration = Duration::from_secs(30);

struct Options {
    address: String,
    rate: f64,
    seconds: f64,
    connections: usize,
    prefix: String,
    suffixes: Vec<String>,
}

/// What is counted. Times in microseconds from the last byte of the request to the first byte of the answer.
#[derive(Default)]
struct Tally {
    idle: RefCell<Vec<TcpStream>>,
    open: Cell<usize>,
    first_byte: RefCell<BTreeMap<String, Vec<u32>>>,
    failures: RefCell<BTreeMap<String, u64>>,
    not_sent: Cell<u64>,
    in_time: Cell<u64>,
    bytes: Cell<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options().ok_or("usage: sender ADDR RATE SECONDS CONNECTIONS PREFIX SUFFIX...")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = Rc::new(Tally::default());
    let began = Instant::now();
    LocalSet::new().block_on(&runtime, send_all(Rc::new(options), tally.clone(), began));
    print_json(&tally, began.elapsed());
    Ok(())
}

fn options() -> Option<Options> {
    let mut args = std::env::args().skip(1);
    Some(Options {
        address: args.next()?,
        rate: args.next()?.parse().ok()?,
        seconds: args.next()?.parse().ok()?,
        connections: args.next()?.parse().ok()?,
        prefix: args.next()?,
        suffixes: Some(args.collect::<Vec<_>>()).filter(|s| !s.is_empty())?,
    })
}

async fn send_all(options: Rc<Options>, tally: Rc<Tally>, began: Instant) {
    let end = began + Duration::from_secs_f64(options.seconds);
    let mut tasks = Vec::new();
    if options.rate == 0.0 {
        let next = Rc::new(Cell::new(0u64));
        for _ in 0..options.connections {
            tasks.push(tokio::task::spawn_local(keep_busy(
                options.clone(),
                tally.clone(),
                next.clone(),
                end,
            )));
        }
    } else {
        let total = (options.rate * options.seconds) as u64;
        for n in 0..total {
            let due = began + Duration::from_secs_f64(n as f64 / options.rate);
            tokio::time::sleep_until(due.into()).await;
            tasks.push(tokio::task::spawn_local(one(options.clone(), tally.clone(), n, end)));
        }
    }
    let all = async {
        for task in tasks {
            drop(task.await);
        }
    };
    if tokio::time::timeout_at((end + GRACE).into(), all).await.is_err() {
        count(&tally, "no answer in time");
    }
}

async fn keep_busy(options: Rc<Options>, tally: Rc<Tally>, next: Rc<Cell<u64>>, end: Instant) {
    while Instant::now() < end {
        let n = next.get();
        next.set(n + 1);
        one(options.clone(), tally.clone(), n, end).await;
    }
}

/// One request on one connection; the connection goes back when the answer was whole.
async fn one(options: Rc<Options>, tally: Rc<Tally>, n: u64, end: Instant) {
    let Some(stream) = connection(&options, &tally).await else { return };
    let suffix = &options.suffixes[(n % options.suffixes.len() as u64) as usize];
    let target = format!("{}{n}{suffix}", options.prefix);
    match exchange(stream, &target, &tally, end).await {
        Ok(Some(stream)) => tally.idle.borrow_mut().push(stream),
        Ok(None) => tally.open.set(tally.open.get() - 1),
        Err(error) => {
            tally.open.set(tally.open.get() - 1);
            count(&tally, &error.to_string());
        }
    }
}

async fn connection(options: &Options, tally: &Tally) -> Option<TcpStream> {
    let idle = tally.idle.borrow_mut().pop();
    if idle.is_some() {
        return idle;
    }
    if tally.open.get() >= options.connections {
        tally.not_sent.set(tally.not_sent.get() + 1);
        return None;
    }
    tally.open.set(tally.open.get() + 1);
    match TcpStream::connect(&options.address).await {
        Ok(stream) => {
            drop(stream.set_nodelay(true));
            Some(stream)
        }
        Err(error) => {
            tally.open.set(tally.open.get() - 1);
            count(tally, &format!("connect: {error}"));
            None
        }
    }
}

/// Sends, notes the time to the first byte, reads the whole answer. Gives the connection back where it may be kept.
async fn exchange(
    mut stream: TcpStream,
    target: &str,
    tally: &Tally,
    end: Instant,
) -> Result<Option<TcpStream>, Box<dyn Error>> {
    let head = format!("GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let sent = Instant::now();
    let mut answer = vec![0u8; 16 << 10];
    let mut filled = stream.read(&mut answer).await?;
    let first = sent.elapsed();
    while find_head(&answer[..filled]).is_none() {
        let read = stream.read(&mut answer[filled..]).await?;
        if read == 0 {
            return Err("closed before the head was whole".into());
        }
        filled += read;
    }
    let head_end = find_head(&answer[..filled]).ok_or("no head")?;
    let head = String::from_utf8_lossy(&answer[..head_end]).to_ascii_lowercase();
    let length: usize = field(&head, "content-length").and_then(|v| v.parse().ok()).ok_or("no length")?;
    let mut left = (head_end + length).saturating_sub(filled);
    while left > 0 {
        let room = left.min(answer.len());
        let read = stream.read(&mut answer[..room]).await?;
        if read == 0 {
            return Err("closed before the body was whole".into());
        }
        left -= read;
    }
    note(tally, &head, first, length, end);
    Ok((field(&head, "connection").as_deref() != Some("close")).then_some(stream))
}

/// Counts an answer under its status, and `degraded` where `Cache-Status` says so.
fn note(tally: &Tally, head: &str, first: Duration, length: usize, end: Instant) {
    let status = head.split(' ').nth(1).unwrap_or("?");
    let degraded = field(head, "cache-status").is_some_and(|v| v.contains("degraded") || v.contains("stale"));
    let class = if degraded { format!("{status} degraded") } else { status.to_owned() };
    tally.first_byte.borrow_mut().entry(class).or_default().push(first.as_micros() as u32);
    tally.bytes.set(tally.bytes.get() + length as u64);
    if status == "200" && Instant::now() <= end {
        tally.in_time.set(tally.in_time.get() + 1);
    }
}

fn find_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a field of a head in lower case.
fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|l| l.split_once(':'));
    lines.filter(|(n, _)| *n == name).map(|(_, v)| v.trim().to_owned()).next()
}

fn count(tally: &Tally, failure: &str) {
    *tally.failures.borrow_mut().entry(failure.to_owned()).or_default() += 1;
}

fn print_json(tally: &Tally, took: Duration) {
    let classes: Vec<String> = tally
        .first_byte
        .borrow_mut()
        .iter_mut()
        .map(|(class, times)| {
            times.sort_unstable();
            let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
            format!(
                "\"{class}\": {{\"count\": {}, \"p50_us\": {}, \"p99_us\": {}, \"max_us\": {}}}",
                times.len(),
                at(0.5),
                at(0.99),
                at(1.0)
            )
        })
        .collect();
    let failures: Vec<String> = tally.failures.borrow().iter().map(|(f, c)| format!("{f:?}: {c}")).collect();
    println!(
        "{{\"seconds\": {:.3}, \"in_time\": {}, \"not_sent\": {}, \"bytes\": {}, \"answers\": {{{}}}, \"failures\": {{{}}}}}",
        took.as_secs_f64(),
        tally.in_time.get(),
        tally.not_sent.get(),
        tally.bytes.get(),
        classes.join(", "),
        failures.join(", ")
    );
}
