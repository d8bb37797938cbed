//! What the child processes do: the good, the bad and the liars.
#![expect(unsafe_code, reason = "engines that misbehave as compromised C code would")]

use std::io::IoSlice;
use std::process::ExitCode;
use std::sync::Mutex;

use rustix::net::{SendAncillaryBuffer, SendFlags};
use tutti_process::frame::{self, FromChild};
use tutti_process::{Layer, SandboxReport};

static HOARD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// The program in every honest engine: the parameters are a word and a number.
pub(crate) fn run(params: &[u8], inputs: &[&[u8]], out: &mut Vec<u8>) -> Vec<u8> {
    let text = std::str::from_utf8(params).expect("parameters are text here");
    let (word, number) = text.split_once(' ').unwrap_or((text, "0"));
    let number: usize = number.parse().expect("a number");
    match word {
        "echo" => inputs.iter().for_each(|input| out.extend_from_slice(input)),
        "none" => {}
        "fill" => out.resize(number, 7),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "burn" => burn(number),
        "hoard" => hoard(number),
        "panic" => panic!("the program gives up on {number}"),
        "abort" => std::process::abort(),
        word => misbehave(word, number),
    }
    format!("done {text}").into_bytes()
}

/// Work whose amount does not depend on the clock.
fn burn(millions: usize) {
    let mut value = 1_u64;
    for _ in 0..millions * 1_000_000 {
        value = std::hint::black_box(value.wrapping_mul(3));
    }
}

fn hoard(bytes: usize) {
    let mut more = vec![0_u8; bytes];
    more.iter_mut().step_by(512).for_each(|byte| *byte = 1);
    HOARD.lock().expect("engines have one thread").push(more);
}

fn misbehave(word: &str, number: usize) {
    match word {
        "open" => drop(std::fs::File::open("/etc/passwd")),
        "socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
        "thread" => drop(std::thread::spawn(|| ()).join()),
        "exec" => drop(std::process::Command::new("/bin/true").status()),
        // SAFETY: the calls are forbidden, and end this process before they do anything.
        "fork" => drop(unsafe { libc::fork() }),
        // SAFETY: as above.
        "kill" => drop(unsafe { libc::kill(libc::getppid(), libc::SIGTERM) }),
        // SAFETY: as above.
        "code" => drop(unsafe { executable_memory() }),
        // SAFETY: it is meant to fail; that is the test.
        "segv" => unsafe { std::ptr::null_mut::<u8>().add(number).write_volatile(1) },
        other => panic!("no such word: {other}"),
    }
}

unsafe fn executable_memory() -> usize {
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh anonymous mapping touches nothing.
    unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) as usize }
}

/// An engine that has been taken over: it speaks the protocol, and lies.
pub(crate) fn lie(how: &str) -> ExitCode {
    if how == "mute" {
        loop {
            std::thread::park();
        }
    }
    receive();
    let full = SandboxReport {
        seccomp: Layer::Full,
        landlock: Layer::Full,
        netns: true,
        uid: 0,
        own_uid: true,
        nice: 0,
    };
    match how {
        "silent-end" => return ExitCode::SUCCESS,
        "garbage-greeting" => send_raw(b"hello, I am an engine"),
        _ => send(&FromChild::Ready(full.clone())),
    }
    while receive() > 0 {
        let done = |output_len, cpu_us| FromChild::Done { output_len, cpu_us, rss_bytes: 0, header: b"h" };
        match how {
            "too-long" => send(&done(u64::MAX, 1)),
            "long-past" => send(&done(8, u64::MAX)),
            "greets-twice" => send(&FromChild::Ready(full.clone())),
            "garbage" => send_raw(&[0xff; 64]),
            "huge" => send_raw(&vec![0; frame::FRAME_MAX + 100]),
            "hangs-up" => {
                rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null").expect("null")).expect("dup");
                loop {
                    std::thread::park();
                }
            }
            other => panic!("no such lie: {other}"),
        }
    }
    ExitCode::SUCCESS
}

fn receive() -> usize {
    let mut frame = vec![0; frame::FRAME_MAX];
    let flags = rustix::net::RecvFlags::empty();
    rustix::net::recv(rustix::stdio::stdin(), &mut frame[..], flags).map_or(0, |(len, _)| len)
}

fn send(message: &FromChild<'_>) {
    let mut frame = Vec::new();
    frame::encode(message, &mut frame).expect("it fits");
    send_raw(&frame);
}

fn send_raw(bytes: &[u8]) {
    let mut none = SendAncillaryBuffer::default();
    rustix::net::sendmsg(rustix::stdio::stdin(), &[IoSlice::new(bytes)], &mut none, SendFlags::NOSIGNAL)
        .expect("the server listens");
}
