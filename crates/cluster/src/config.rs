//! What an operator may set of the node port. Opens nothing.

use std::net::{Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The port for everything between nodes, TCP and UDP alike.
pub const NODE_PORT: u16 = 8400;
/// The most addresses that a node listens on, or that others try for it.
pub const ADDRESSES_MAX: usize = 8;

/// The settings of the node port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the node port listens, TCP and UDP: port 8400 of every interface unless set. 1 to 8 addresses.
    pub listen: Vec<SocketAddr>,
    /// Where other nodes reach this one, for machines behind address translation: the addresses that it listens on
    /// unless set. At most 8 addresses.
    pub advertise: Vec<SocketAddr>,
    /// The most connections from other nodes, joining ones among them; one more is closed. 16 to 65536.
    pub connections_max: usize,
    /// The most calls under way on one connection, each way; one more is refused. 16 to 65536.
    pub calls_max: usize,
    /// The most bytes that wait to be sent on one connection; calls wait for room. 2 MiB to 1 GiB.
    pub queue_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, NODE_PORT))],
            advertise: Vec::new(),
            connections_max: 1024,
            calls_max: 1024,
            queue_bytes_max: 8 << 20,
        }
    }
}

/// A setting of the node port that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{field}` is {value}; {way_out}")]
pub struct ConfigError {
    /// Its name.
    pub field: &'static str,
    /// What it is.
    pub value: String,
    /// What it may be.
    pub way_out: &'static str,
}

impl Config {
    /// Refuses what cannot be; names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |field, value: usize, least, most, way_out| {
            let fits = (least..=most).contains(&value);
            if fits { Ok(()) } else { Err(ConfigError { field, value: value.to_string(), way_out }) }
        };
        within("listen", self.listen.len(), 1, ADDRESSES_MAX, "give 1 to 8 addresses")?;
        within("advertise", self.advertise.len(), 0, ADDRESSES_MAX, "give at most 8 addresses")?;
        within("connections_max", self.connections_max, 16, 1 << 16, "use 16 to 65536")?;
        within("calls_max", self.calls_max, 16, 1 << 16, "use 16 to 65536")?;
        within("queue_bytes_max", self.queue_bytes_max, 2 << 20, 1 << 30, "use 2 MiB to 1 GiB")?;
        match self.advertise.iter().find(|address| address.ip().is_unspecified() || address.port() == 0) {
            None => Ok(()),
            Some(address) => Err(ConfigError {
                field: "advertise",
                value: address.to_string(),
                way_out: "give an address and a port that other machines can reach",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_unknown_keys_are_errors() {
        assert_eq!(Config::default().validate(), Ok(()));
        let read: Config = toml::from_str("listen = [\"10.0.0.1:8400\"]").expect("a valid document");
        assert_eq!(read.listen, ["10.0.0.1:8400".parse().unwrap()]);
        assert!(toml::from_str::<Config>("lisen = []").unwrap_err().to_string().contains("lisen"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name_and_value() {
        let refused = |config: Config| config.validate().unwrap_err().to_string();
        let address = "0.0.0.0:8400".parse().unwrap();
        assert!(refused(Config { advertise: vec![address], ..Config::default() }).contains("0.0.0.0:8400"));
        assert!(refused(Config { calls_max: 3, ..Config::default() }).contains("`calls_max` is 3"));
        assert!(refused(Config { listen: Vec::new(), ..Config::default() }).contains("`listen` is 0"));
    }
}
