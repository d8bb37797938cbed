//! Who may do what: by the way they came in. Decides from values alone.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri, header};
use tutti_base::{Kind, Problem};

/// The way a connection came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// The socket: read and write.
    Socket {
        /// The peer's user id, as the kernel says.
        uid: u32,
    },
    /// The TCP address: reading, from pages that are ours.
    Tcp {
        /// The address of ours that it came to.
        local: IpAddr,
    },
    /// The metrics address.
    Metrics,
}

impl Lane {
    /// The label in metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Lane::Socket { .. } => "socket",
            Lane::Tcp { .. } => "tcp",
            Lane::Metrics => "metrics",
        }
    }

    /// How the history names who did it.
    pub(crate) fn who(&self) -> String {
        match self {
            Lane::Socket { uid: 0 } => "root".into(),
            Lane::Socket { uid } => format!("uid {uid}"),
            Lane::Tcp { .. } | Lane::Metrics => "nobody".into(),
        }
    }
}

/// What only the socket shows: paths that begin with these.
const PRIVATE: [&str; 2] = ["/api/v1/store", "/api/v1/backup"];

/// The rules of every lane.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Users that may use the socket.
    pub(crate) uids: Vec<u32>,
    /// Host names allowed beside the loopback ones.
    pub(crate) hosts: Vec<String>,
    /// Where the socket is, for the way out.
    pub(crate) socket: String,
}

impl Rules {
    /// Whether a request may go on.
    pub(crate) fn check(
        &self,
        lane: &Lane,
        method: &Method,
        uri: &Uri,
        fields: &HeaderMap,
    ) -> Result<(), Problem> {
        match lane {
            Lane::Socket { uid } => self.check_uid(*uid),
            Lane::Tcp { local } => {
                self.check_host(*local, uri, fields)?;
                self.check_reads(method)?;
                self.check_public(uri.path())
            }
            Lane::Metrics => {
                self.check_reads(method)?;
                if !["/metrics", "/healthz"].contains(&uri.path()) {
                    let text =
                        "this address has /metrics and /healthz only; the rest is on the admin address";
                    return Err(Problem::new(Kind::NotFound, text));
                }
                Ok(())
            }
        }
    }

    fn check_uid(&self, uid: u32) -> Result<(), Problem> {
        if self.uids.contains(&uid) {
            return Ok(());
        }
        let users: Vec<_> = self.uids.iter().map(ToString::to_string).collect();
        let text = format!(
            "user id {uid} may not administer this server; run the command as user id {}",
            users.join(" or ")
        );
        Err(Problem::new(Kind::Forbidden, text))
    }

    fn check_reads(&self, method: &Method) -> Result<(), Problem> {
        if method == Method::GET || method == Method::HEAD {
            return Ok(());
        }
        let text = format!(
            "this address is read-only until administrators have passwords; use the `tutti` command on the \
             machine itself, which calls the socket {}",
            self.socket
        );
        Err(Problem::new(Kind::Forbidden, text))
    }

    /// The users' values and backups are for administrators, and who comes over TCP is nobody yet.
    fn check_public(&self, path: &str) -> Result<(), Problem> {
        if !PRIVATE.iter().any(|start| path.starts_with(start)) {
            return Ok(());
        }
        let text = format!(
            "`{path}` is not shown on this address until administrators have passwords; use the `tutti` command \
             on the machine itself, which calls the socket {}",
            self.socket
        );
        Err(Problem::new(Kind::Forbidden, text))
    }

    /// A page of another site that got a name of its own to point here (DNS rebinding) still says that name.
    fn check_host(&self, local: IpAddr, uri: &Uri, fields: &HeaderMap) -> Result<(), Problem> {
        let mut hosts = fields.get_all(header::HOST).iter();
        let named = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            _ => None,
        };
        let Some(named) = named else {
            return Err(Problem::new(Kind::BadRequest, "the request must have one Host field").about("Host"));
        };
        let target = uri.authority().map(Authority::as_str);
        for host in [Some(named), target].into_iter().flatten() {
            if !self.is_ours(host, local) {
                let shown: String = host.chars().take(100).collect();
                let text = format!(
                    "`{shown}` is not a name of this server's admin address; use `localhost`, or add the name to \
                     admin.hosts"
                );
                return Err(Problem::new(Kind::Forbidden, text).about("Host"));
            }
        }
        Ok(())
    }

    fn is_ours(&self, authority: &str, local: IpAddr) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host().trim_end_matches('.');
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            Ok(address) => address.is_loopback() || address == local,
            Err(_) => {
                host.eq_ignore_ascii_case("localhost")
                    || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn rules() -> Rules {
        Rules { uids: vec![0, 7], hosts: vec!["admin.example".into()], socket: "/x/admin.sock".into() }
    }

    #[test]
    fn only_names_of_this_machine_pass_the_tcp_address() {
        let local: IpAddr = [10, 0, 0, 1].into();
        for (host, passes) in [
            ("localhost", true),
            ("LOCALHOST:8401", true),
            ("localhost.", true),
            ("127.0.0.1:8401", true),
            ("127.8.8.8", true),
            ("[::1]:8401", true),
            ("10.0.0.1", true),
            ("admin.example:99", true),
            ("10.0.0.2", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("admin.example@evil.example", false),
            ("localhost@evil.example", false),
            ("", false),
            ("a b", false),
        ] {
            let fields = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
            let checked = rules().check(&Lane::Tcp { local }, &Method::GET, &Uri::from_static("/"), &fields);
            assert_eq!(checked.is_ok(), passes, "{host:?}");
            let uri = format!("http://{host}/").parse::<Uri>();
            if let (false, Ok(uri)) = (passes, uri) {
                let fields = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
                let checked = rules().check(&Lane::Tcp { local }, &Method::GET, &uri, &fields);
                assert!(checked.is_err(), "as an absolute target: {host:?}");
            }
        }
        let none = HeaderMap::new();
        assert!(rules().check(&Lane::Tcp { local }, &Method::GET, &Uri::from_static("/"), &none).is_err());
    }

    #[test]
    fn the_socket_is_for_its_users_and_writing_for_the_socket() {
        let (uri, none) = (Uri::from_static("/api/v1/config/set"), HeaderMap::new());
        for (uid, passes) in [(0, true), (7, true), (8, false)] {
            let checked = rules().check(&Lane::Socket { uid }, &Method::POST, &uri, &none);
            assert_eq!(checked.is_ok(), passes, "{uid}");
        }
        let host = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
        let local = [127, 0, 0, 1].into();
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let problem = rules().check(&Lane::Tcp { local }, &method, &uri, &host).unwrap_err();
            assert_eq!(problem.kind, Kind::Forbidden);
            assert!(problem.detail.contains("/x/admin.sock"), "{}", problem.detail);
        }
    }

    #[test]
    fn users_values_and_backups_are_for_the_socket_alone() {
        let host = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
        let local = [127, 0, 0, 1].into();
        for path in ["/api/v1/store?key=a", "/api/v1/store/watch", "/api/v1/backup"] {
            let uri: Uri = path.parse().unwrap();
            let refused = rules().check(&Lane::Tcp { local }, &Method::GET, &uri, &host).unwrap_err();
            assert_eq!(refused.kind, Kind::Forbidden, "{path}");
            assert!(rules().check(&Lane::Socket { uid: 7 }, &Method::GET, &uri, &host).is_ok());
        }
    }

    #[test]
    fn the_metrics_address_has_metrics_and_nothing_else() {
        let none = HeaderMap::new();
        for (path, passes) in
            [("/metrics", true), ("/healthz", true), ("/", false), ("/api/v1/config", false)]
        {
            let checked = rules().check(&Lane::Metrics, &Method::GET, &path.parse().unwrap(), &none);
            assert_eq!(checked.is_ok(), passes, "{path}");
        }
    }
}
