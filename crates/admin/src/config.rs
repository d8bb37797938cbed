//! What an operator may set of the administration, and its fixed limits.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "admin.sock";
/// The longest body of a request, in bytes.
pub(crate) const BODY_MAX: usize = 1 << 20;
/// The longest body of a write to the users' store, in bytes: a whole transaction as base64 in JSON.
pub(crate) const STORE_BODY_MAX: usize = 6 << 20;
/// How long a call may take whose body is a file.
pub(crate) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a call may wait for news, at most; half of the time of a call where that is shorter.
pub(crate) const NEWS_WAIT_MAX: Duration = Duration::from_secs(20);
/// The longest head of a request, in bytes.
pub(crate) const HEAD_MAX: usize = 16 << 10;
/// How long a connection may live; then it is closed after its answer.
pub(crate) const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// How long a connection may take to end when it is told to.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// The administration's configuration: keys of one machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The TCP address for reading; none for no TCP. Loopback only, until administrators have passwords.
    pub address: Option<SocketAddr>,
    /// An address for `/metrics` and `/healthz` alone, for a scraper on another machine.
    pub metrics: Option<SocketAddr>,
    /// Host names beside the loopback ones that requests to the TCP address may carry (a tunnel's or a proxy's).
    pub hosts: Vec<String>,
    /// The most connections of each listener at once, 1 to 10000; more are closed.
    pub connections: usize,
    /// How long the head of a request may take, in ms, 100 to 60000; an idle connection is closed after it too.
    pub head_timeout_ms: u64,
    /// How long a call may take, its body included, in ms, 100 to 40000.
    pub call_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 8401)));
        Self {
            address,
            metrics: None,
            hosts: Vec::new(),
            connections: 64,
            head_timeout_ms: 10_000,
            call_timeout_ms: 30_000,
        }
    }
}

impl Config {
    /// Whether the values make sense.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(address) = self.address.filter(|address| !address.ip().is_loopback()) {
            return Err(format!(
                "admin.address is {address}; it must be a loopback address until administrators have passwords. \
                 Use a tunnel, or admin.metrics for metrics alone"
            ));
        }
        if !(1..=10_000).contains(&self.connections) {
            return Err(format!("admin.connections is {}; it must be 1 to 10000", self.connections));
        }
        for (name, value, most) in [
            ("head_timeout_ms", self.head_timeout_ms, 60_000),
            ("call_timeout_ms", self.call_timeout_ms, 40_000),
        ] {
            if !(100..=most).contains(&value) {
                return Err(format!("admin.{name} is {value}; it must be 100 to {most}"));
            }
        }
        match self.hosts.iter().find(|host| host.is_empty() || host.contains(['/', ':', '@', ' '])) {
            Some(host) => Err(format!("admin.hosts has `{host}`; write a host name without scheme and port")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_and_nonsense_are_refused_with_the_way_out() {
        assert_eq!(Config::default().validate(), Ok(()));
        let public = Config { address: "0.0.0.0:8401".parse().ok(), ..Config::default() };
        assert!(public.validate().unwrap_err().contains("admin.metrics"));
        let none = Config { connections: 0, ..Config::default() };
        assert!(none.validate().unwrap_err().contains("admin.connections"));
        let hasty = Config { call_timeout_ms: 99, ..Config::default() };
        assert!(hasty.validate().unwrap_err().contains("admin.call_timeout_ms"));
        let url = Config { hosts: vec!["http://x".into()], ..Config::default() };
        assert!(url.validate().unwrap_err().contains("`http://x`"));
    }
}
