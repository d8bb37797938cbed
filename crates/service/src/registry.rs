//! The list of services in this binary. Taking one out is one line where the list is made.

use std::sync::Arc;

use crate::{Mount, Service};

/// All services, in a fixed order.
#[derive(Clone, Default)]
pub struct Registry {
    services: Vec<Arc<dyn Service>>,
}

/// A service's place in the registry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServiceId(pub u16);

impl Registry {
    /// A registry of these services.
    ///
    /// # Panics
    /// When two have one name: that is a mistake in the binary's list.
    pub fn new(services: Vec<Arc<dyn Service>>) -> Self {
        let mut names: Vec<_> = services.iter().map(|service| service.describe().name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two services share a name: {names:?}");
        Self { services }
    }
    /// The service at `id`, which came from this registry.
    pub fn get(&self, id: ServiceId) -> &Arc<dyn Service> {
        &self.services[usize::from(id.0)]
    }
    /// The service called `name`.
    pub fn find(&self, name: &str) -> Option<(ServiceId, &Arc<dyn Service>)> {
        self.iter().find(|(_, service)| service.describe().name == name)
    }
    /// All services.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceId, &Arc<dyn Service>)> {
        self.services.iter().enumerate().map(|(at, service)| (ServiceId(at as u16), service))
    }
    /// Every service's default mounts.
    pub fn mounts(&self) -> impl Iterator<Item = (Mount, ServiceId)> {
        self.iter()
            .flat_map(|(id, service)| service.describe().mounts.iter().map(move |mount| (mount.clone(), id)))
    }
}
