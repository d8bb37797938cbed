//! Takes over the listening sockets that this process was started with. The one place in the front with unsafe code.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// The first inherited descriptor (sd_listen_fds(3)).
pub const FIRST_INHERITED: RawFd = 3;

/// Takes over `count` listening sockets that begin at descriptor `first`, and keeps them from child processes.
/// Call it once, at the start of the process, before it opens anything.
///
/// Errors: a descriptor that is not open or is no listening stream socket; it is named.
pub fn adopt(first: RawFd, count: usize) -> io::Result<Vec<TcpListener>> {
    (first..).take(count).map(adopt_one).collect()
}

fn adopt_one(number: RawFd) -> io::Result<TcpListener> {
    let wrong = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("descriptor {number} was inherited, but is no listening socket: {error}"),
        )
    };
    // `from_raw_fd` may only be called on an open descriptor: /proc shows whether it is.
    std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).map_err(wrong)?;
    #[expect(unsafe_code, reason = "a descriptor that the parent process left to us has no owner yet")]
    // SAFETY: it is open (just checked), and by the protocol it belongs to this process alone, which calls this once
    // for it before anything else.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let listens =
        rustix::net::sockopt::socket_acceptconn(socket.as_fd()).map_err(|errno| wrong(errno.into()))?;
    if !listens {
        return Err(wrong(io::ErrorKind::InvalidInput.into()));
    }
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn a_listening_socket_is_taken_over_and_answers_at_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let adopted = adopt(listener.into_raw_fd(), 1).expect("a listening socket");
        assert_eq!(adopted[0].local_addr().unwrap(), address);
        std::net::TcpStream::connect(address).expect("it still listens");
    }

    #[test]
    fn what_is_no_listening_socket_is_refused_by_name() {
        let file = std::fs::File::open("/proc/self/stat").unwrap().into_raw_fd();
        let error = adopt(file, 1).unwrap_err();
        assert!(error.to_string().contains(&format!("descriptor {file}")), "{error}");
        assert!(adopt(1 << 19, 1).is_err());
    }
}
