//! Host and longest path prefix to a service. Built from the registry's mounts and the configured ones; decodes nothing.

use tutti_service::registry::ServiceId;
use tutti_service::{Mount, Registry};

use crate::config::ExtraMount;
use crate::target::without_port;

/// Why mounts were refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouterError {
    /// A prefix that is none.
    #[error("mount `{0}` must begin and end with `/`")]
    Prefix(String),
    /// Two services at one place.
    #[error("two services are mounted at `{prefix}` on {host}; give one of them another prefix or host")]
    Taken {
        /// The prefix.
        prefix: String,
        /// The host, or `every host`.
        host: String,
    },
    /// A configured mount of a service that is not there.
    #[error("[front.mounts] names the service `{0}`, which this server does not have")]
    Unknown(String),
}

/// The table of mounts.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// By claimed host in lower case.
    hosts: Vec<(String, Prefixes)>,
    /// On every other host.
    default: Prefixes,
}

/// Prefixes, the longest first.
type Prefixes = Vec<(String, ServiceId)>;

/// Where a request belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route<'p> {
    /// To a service, with the path below its mount.
    Service(ServiceId, &'p str),
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/`
    Home,
    /// Nowhere.
    Nowhere,
}

impl Router {
    /// The registry's default mounts and `extra` ones.
    ///
    /// Errors: a prefix that does not begin and end with `/`, two services at one place, an unknown service.
    pub fn new(registry: &Registry, extra: &[ExtraMount]) -> Result<Self, RouterError> {
        let mut router = Self::default();
        for (mount, service) in registry.mounts() {
            router.add(mount, service)?;
        }
        for mount in extra {
            let (service, _) =
                registry.find(&mount.service).ok_or_else(|| RouterError::Unknown(mount.service.clone()))?;
            router.add(Mount { prefix: mount.prefix.clone(), host: mount.host.clone() }, service)?;
        }
        Ok(router)
    }

    fn add(&mut self, mount: Mount, service: ServiceId) -> Result<(), RouterError> {
        let Mount { prefix, host } = mount;
        if !prefix.starts_with('/') || !prefix.ends_with('/') {
            return Err(RouterError::Prefix(prefix));
        }
        let prefixes = match &host {
            None => &mut self.default,
            Some(host) => self.claimed(&host.to_ascii_lowercase()),
        };
        if prefixes.iter().any(|(taken, by)| *taken == prefix && *by != service) {
            return Err(RouterError::Taken { prefix, host: host.unwrap_or_else(|| "every host".into()) });
        }
        prefixes.push((prefix, service));
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(())
    }

    fn claimed(&mut self, host: &str) -> &mut Prefixes {
        let at = self.hosts.iter().position(|(name, _)| name == host).unwrap_or_else(|| {
            self.hosts.push((host.to_owned(), Prefixes::new()));
            self.hosts.len() - 1
        });
        &mut self.hosts[at].1
    }

    /// The service that answers `path` on `host` (in lower case), and the path below its mount; for explaining and purging.
    pub fn service<'p>(&self, host: &str, path: &'p str) -> Option<(ServiceId, &'p str)> {
        match self.route(host, path) {
            Route::Service(service, below) => Some((service, below)),
            Route::Health | Route::Ready | Route::Home | Route::Nowhere => None,
        }
    }

    /// Where `path` on `host` (in lower case, perhaps with a port) belongs. The front's own paths and the default
    /// mounts answer only on hosts that nothing has claimed.
    pub(crate) fn route<'p>(&self, host: &str, path: &'p str) -> Route<'p> {
        if !self.hosts.is_empty() {
            let host = without_port(host);
            if let Some((_, prefixes)) = self.hosts.iter().find(|(name, _)| name == host) {
                return find(prefixes, path).unwrap_or(Route::Nowhere);
            }
        }
        match path {
            "/healthz" => Route::Health,
            "/readyz" => Route::Ready,
            _ => find(&self.default, path).unwrap_or(if path == "/" { Route::Home } else { Route::Nowhere }),
        }
    }
}

fn find<'p>(prefixes: &Prefixes, path: &'p str) -> Option<Route<'p>> {
    let (prefix, service) = prefixes.iter().find(|(prefix, _)| path.starts_with(prefix.as_str()))?;
    Some(Route::Service(*service, &path[prefix.len() - 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let mut router = Router::default();
        router.add(Mount::at("/image/"), ServiceId(0)).unwrap();
        router.add(Mount::at("/image/deep/"), ServiceId(1)).unwrap();
        router.add(Mount { prefix: "/".into(), host: Some("Img.Example".into()) }, ServiceId(0)).unwrap();
        router
    }

    #[test]
    fn the_longest_prefix_wins_and_the_path_keeps_its_slash() {
        let router = router();
        assert_eq!(router.route("x", "/image/a/b"), Route::Service(ServiceId(0), "/a/b"));
        assert_eq!(router.route("x", "/image/deep/b"), Route::Service(ServiceId(1), "/b"));
        assert_eq!(router.route("x", "/image"), Route::Nowhere);
        assert_eq!(router.route("", "/"), Route::Home);
        assert_eq!(router.route("x", "/readyz"), Route::Ready);
    }

    #[test]
    fn a_claimed_host_is_its_owners_alone() {
        let router = router();
        assert_eq!(router.route("img.example:8080", "/healthz"), Route::Service(ServiceId(0), "/healthz"));
        assert_eq!(router.route("img.example", "/image/a"), Route::Service(ServiceId(0), "/image/a"));
    }

    #[test]
    fn two_services_at_one_place_are_refused() {
        let taken = router().add(Mount::at("/image/"), ServiceId(1)).unwrap_err();
        assert!(taken.to_string().contains("`/image/` on every host"), "{taken}");
        assert!(matches!(router().add(Mount::at("x"), ServiceId(1)), Err(RouterError::Prefix(_))));
    }
}
