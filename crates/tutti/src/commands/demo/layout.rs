//! Who listens where and which words start it: names, addresses, folders and command lines of the demo. Starts nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::bail;

/// Most nodes of a demo.
pub(super) const NODES_MAX: usize = 9;

const NAMES: [&str; NODES_MAX + 1] =
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
const HTTP: u16 = 8080;
const NODE: u16 = 8400;
const ADMIN: u16 = 8401;

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The cluster address; node k has the k-th address after it.
    base: Ipv4Addr,
    /// How many nodes there are.
    pub nodes: usize,
    /// The folder of all nodes.
    pub folder: PathBuf,
    /// The originals of all nodes.
    pub originals: PathBuf,
}

impl Layout {
    /// Errors: too many nodes, or addresses that are not on loopback.
    pub(super) fn new(base: Ipv4Addr, nodes: usize, folder: &Path, originals: &Path) -> anyhow::Result<Self> {
        if !(1..=NODES_MAX).contains(&nodes) {
            bail!("--nodes {nodes}: the demo has 1 to {NODES_MAX} nodes");
        }
        // One more, for the machine that is added by hand.
        let last = u32::from(base).checked_add(nodes as u32 + 1).map(Ipv4Addr::from);
        if !base.is_loopback() || !last.is_some_and(|last| last.is_loopback()) {
            bail!("--base {base}: it and the {} addresses behind it must be in 127.0.0.0/8", nodes + 1);
        }
        Ok(Self { base, nodes, folder: folder.into(), originals: originals.into() })
    }

    /// The address that clients use.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.base, HTTP))
    }

    /// The page of pictures.
    pub(super) fn page(&self) -> String {
        format!("http://{}/", self.address())
    }

    /// The name of node `at`, from 0 on.
    pub(super) fn name(&self, at: usize) -> &'static str {
        NAMES.get(at).copied().unwrap_or("another")
    }

    /// The data directory of node `at`.
    pub(super) fn data(&self, at: usize) -> PathBuf {
        self.folder.join(self.name(at))
    }

    /// The administration's socket of node `at`.
    pub(super) fn socket(&self, at: usize) -> PathBuf {
        self.data(at).join(tutti_admin::SOCKET_NAME)
    }

    /// The file that always has the ids of all processes of the master.
    pub(super) fn master_file(&self) -> PathBuf {
        self.folder.join("master.pids")
    }

    fn host(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + at as u32 + 1)
    }

    /// What node `at` is started with; a token where it is to join.
    pub(super) fn words(&self, at: usize, token: Option<&str>) -> Vec<String> {
        let host = self.host(at);
        let mut words: Vec<String> = vec!["serve".into()];
        for (flag, value) in [
            ("--name", self.name(at).to_owned()),
            ("--http", format!("{host}:{HTTP}")),
            ("--node", format!("{host}:{NODE}")),
            ("--admin", format!("{host}:{ADMIN}")),
            ("--data", self.data(at).display().to_string()),
            ("--originals", self.originals.display().to_string()),
            ("--cluster-address", self.address().to_string()),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        words.push("--gallery".into());
        words.extend(token.into_iter().flat_map(|token| ["--join".to_owned(), token.to_owned()]));
        words
    }

    /// Finds out whether every address can be had.
    ///
    /// Errors: the first that is taken, and how to choose others.
    pub(super) fn check_ports(&self) -> anyhow::Result<()> {
        let base = IpAddr::V4(self.base);
        let try_all = || -> std::io::Result<()> {
            try_tcp(SocketAddr::new(base, HTTP))?;
            for at in 0..self.nodes {
                let host = IpAddr::V4(self.host(at));
                for port in [HTTP, NODE, ADMIN] {
                    try_tcp(SocketAddr::new(host, port))?;
                }
                let node = SocketAddr::new(host, NODE);
                UdpSocket::bind(node).map_err(|error| named(node, "udp", &error))?;
            }
            Ok(())
        };
        try_all().map_err(|error| {
            anyhow::anyhow!(
                "{error}; another demo may run: stop it, or choose other addresses, such as --base 127.0.1.0"
            )
        })
    }
}

fn try_tcp(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop).map_err(|error| named(address, "tcp", &error))
}

fn named(address: SocketAddr, kind: &str, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{address} ({kind}) cannot be had: {error}"))
}

/// `word` as a shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(base: [u8; 4], nodes: usize) -> anyhow::Result<Layout> {
        Layout::new(base.into(), nodes, Path::new("d"), Path::new("samples"))
    }

    #[test]
    fn every_node_has_an_address_of_its_own_behind_the_shared_one() {
        let layout = layout([127, 0, 0, 10], 3).unwrap();
        assert_eq!(layout.page(), "http://127.0.0.10:8080/");
        let words = layout.words(1, Some("T")).join(" ");
        assert_eq!(
            words,
            "serve --name two --http 127.0.0.12:8080 --node 127.0.0.12:8400 --admin 127.0.0.12:8401 \
             --data d/two --originals samples --cluster-address 127.0.0.10:8080 --gallery --join T"
        );
        assert!(!layout.words(0, None).contains(&"--join".to_owned()));
    }

    #[test]
    fn what_does_not_fit_on_loopback_is_refused() {
        assert!(layout([127, 0, 0, 10], 0).is_err());
        assert!(layout([127, 0, 0, 10], NODES_MAX).is_ok());
        assert!(layout([127, 0, 0, 10], NODES_MAX + 1).is_err());
        assert!(layout([192, 0, 2, 1], 3).is_err());
        assert!(layout([127, 255, 255, 253], 3).is_err());
    }

    #[test]
    fn a_taken_port_is_named_with_the_way_out() {
        // Addresses of this test run alone.
        let run = std::process::id();
        let layout = layout([127, 64 | (run >> 8) as u8 & 63, run as u8, 10], 1).unwrap();
        let address = SocketAddr::new(layout.host(0).into(), ADMIN);
        let taken = TcpListener::bind(address).unwrap();
        let error = layout.check_ports().unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--base"), "{error}");
        drop(taken);
        layout.check_ports().unwrap();
    }

    #[test]
    fn words_reach_the_shell_whole() {
        assert_eq!(quoted("local:///a.jpg"), "local:///a.jpg");
        assert_eq!(quoted("a b'c"), r"'a b'\''c'");
        assert_eq!(quoted(""), "''");
    }
}
