//! The floor under every HTTP server: an epoll loop that reads whatever comes and answers with one vectored write.
//!
//! `floor ADDRESS [BYTES]`. It parses nothing and is no server.

use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll;
use rustix::net::{SocketFlags, accept_with};
use tutti_front::listeners;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let address = arguments.get(1).map_or("127.0.0.1:8091", String::as_str).parse().expect("an address");
    let bytes = arguments.get(2).map_or(8192, |text| text.parse().expect("a number of bytes"));
    let listener = listeners::bind(address)?;
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    // As long as the head of a real hit.
    let padding = "x".repeat(420);
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nX-Padding: {padding}\r\n\r\n").into_bytes();
    let body = vec![b'x'; bytes];
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let watch = |fd: &OwnedFd| {
        let data = epoll::EventData::new_u64(fd.as_raw_fd() as u64);
        epoll::add(&epoll, fd, data, epoll::EventFlags::IN | epoll::EventFlags::ET)
    };
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN)?;
    let mut connections: HashMap<u64, OwnedFd> = HashMap::new();
    let mut room = vec![0; 65536];
    let mut events = Vec::with_capacity(256);
    loop {
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let key = event.data.u64();
            if key == u64::MAX {
                let socket = accept_with(&listener, SocketFlags::NONBLOCK)?;
                watch(&socket)?;
                connections.insert(socket.as_raw_fd() as u64, socket);
                continue;
            }
            let Some(socket) = connections.get(&key) else { continue };
            match rustix::io::read(socket, &mut room) {
                Ok(1..) => {
                    rustix::io::writev(socket, &[IoSlice::new(&head), IoSlice::new(&body)])?;
                }
                Ok(0) => drop(connections.remove(&key)),
                Err(rustix::io::Errno::AGAIN) => {}
                Err(_) => drop(connections.remove(&key)),
            }
        }
    }
}
