//! Listening sockets: bound here, or inherited from whoever started us, so that no connection is refused in between.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind as bind_socket, ipproto, listen, socket_with, sockopt,
};

pub use crate::inherit::{FIRST_INHERITED, adopt};

/// Connections that may wait to be accepted; the kernel has a limit of its own (`net.core.somaxconn`).
pub const BACKLOG: i32 = 4096;

/// Binds `address` and listens on it. Port 0 takes any free port. Never shared (`SO_REUSEPORT` is off): of two processes
/// that want one address the kernel refuses the second.
///
/// Errors: the address is taken, is not of this machine, or needs a permission; the message names it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let try_bind = || -> io::Result<TcpListener> {
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind_socket(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    try_bind().map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "something else listens there; choose another address or port".to_owned()
            }
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {reason}"))
    })
}

/// Readies a socket from wherever it came. Accepted sockets inherit "no delay" from it (tcp(7)).
pub(crate) fn prepare(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    sockopt::set_tcp_nodelay(listener, true)?;
    Ok(())
}

/// How many listening sockets were passed to the process `pid`, by the values of `LISTEN_PID` and `LISTEN_FDS`
/// (sd_listen_fds(3)); they begin at descriptor [`FIRST_INHERITED`]. The binary reads the environment.
pub fn inherited_count(pid: u32, listen_pid: Option<&str>, listen_fds: Option<&str>) -> usize {
    let ours = listen_pid.and_then(|text| text.parse().ok()) == Some(pid);
    let count = listen_fds.and_then(|text| text.parse().ok()).unwrap_or(0);
    if ours { count } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_meant_for_this_process_is_inherited() {
        assert_eq!(inherited_count(7, Some("7"), Some("2")), 2);
        assert_eq!(inherited_count(7, Some("8"), Some("2")), 0);
        assert_eq!(inherited_count(7, None, Some("2")), 0);
        assert_eq!(inherited_count(7, Some("7"), Some("x")), 0);
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn an_address_that_is_not_there_is_named() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let error = bind(SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("192.0.2.1"), "{error}");
    }
}
