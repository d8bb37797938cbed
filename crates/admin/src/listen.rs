//! The administration's listeners: a socket file of mode 0600, a TCP address, a metrics address. Accepts nothing itself.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::config::{Config, SOCKET_NAME};

/// The longest path of a socket file: `sun_path` of Linux holds 108 bytes with its final zero.
const SOCKET_PATH_MAX: usize = 107;
/// The socket is made under this name and then renamed, so that it never stands there with wider permissions.
const SOCKET_NEW: &str = "admin.new";

/// Why the administration cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket's path is too long for the kernel.
    #[error("the path {} has {len} bytes, a socket's may have {SOCKET_PATH_MAX}; use a shorter --data", .path.display())]
    Long {
        /// The path.
        path: PathBuf,
        /// Its length.
        len: usize,
    },
    /// Another server answers on the socket.
    #[error("another server runs with this data directory: it answers on {}", .0.display())]
    Taken(PathBuf),
    /// The socket cannot be made.
    #[error("the socket {} cannot be made: {error}", .path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A TCP address cannot be opened.
    #[error("{what} cannot listen on {address}: {error}; choose another with {flag} ADDR")]
    Address {
        /// Which.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The flag that chooses it.
        flag: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// Where a TCP listener comes from.
pub enum Tcp {
    /// It is opened here.
    Address(SocketAddr),
    /// It is handed over by the process before, or by the service manager.
    Inherited(std::net::TcpListener),
}

/// Open listeners. Dropping them removes the socket file.
pub struct Listeners {
    pub(crate) socket: UnixListener,
    pub(crate) admin: Option<TcpListener>,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) file: SocketFile,
}

impl Listeners {
    /// Opens the socket in `folder` and the TCP listeners of `config`. Call inside the runtime.
    pub async fn open(folder: &Path, config: &Config) -> Result<Self, ListenError> {
        let admin = config.address.map(Tcp::Address);
        let metrics = config.metrics.map(Tcp::Address);
        Self::with(folder, admin, metrics).await
    }

    /// As [`Self::open`], with TCP listeners that may be inherited.
    pub async fn with(folder: &Path, admin: Option<Tcp>, metrics: Option<Tcp>) -> Result<Self, ListenError> {
        let (socket, file) = open_socket(folder).await?;
        let admin = open_tcp("the administration", "--admin", admin).await?;
        let metrics = open_tcp("/metrics", "--metrics", metrics).await?;
        Ok(Self { socket, admin, metrics, file })
    }

    /// The socket file.
    pub fn socket_path(&self) -> &Path {
        &self.file.path
    }
    /// The TCP address, with its real port.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|listener| listener.local_addr().ok())
    }
    /// The metrics address, with its real port.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

/// The socket's file, removed when this is dropped, unless another has taken its place.
pub(crate) struct SocketFile {
    pub(crate) path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn at(path: PathBuf) -> Self {
        let identity = identity(&path);
        Self { path, identity }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn open_socket(folder: &Path) -> Result<(UnixListener, SocketFile), ListenError> {
    let path = folder.join(SOCKET_NAME);
    let len = path.as_os_str().len();
    if len > SOCKET_PATH_MAX {
        return Err(ListenError::Long { path, len });
    }
    if tokio::net::UnixStream::connect(&path).await.is_ok() {
        return Err(ListenError::Taken(path));
    }
    let new = folder.join(SOCKET_NEW);
    let make = || -> io::Result<UnixListener> {
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let socket = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, &path)?;
        Ok(socket)
    };
    match make() {
        Ok(socket) => Ok((socket, SocketFile::at(path))),
        Err(error) => Err(ListenError::Socket { path, error }),
    }
}

async fn open_tcp(
    what: &'static str,
    flag: &'static str,
    tcp: Option<Tcp>,
) -> Result<Option<TcpListener>, ListenError> {
    match tcp {
        None => Ok(None),
        Some(Tcp::Address(address)) => {
            let opened = TcpListener::bind(address).await;
            opened.map(Some).map_err(|error| ListenError::Address { what, address, flag, error })
        }
        Some(Tcp::Inherited(listener)) => {
            let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
            let opened = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
            opened.map(Some).map_err(|error| ListenError::Address { what, address, flag, error })
        }
    }
}
