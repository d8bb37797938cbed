//! The list of services in this binary. One line each: taking one out is taking its line out.

use std::sync::Arc;

use tutti_service::{Registry, Service};
use tutti_service_echo::EchoService;
use tutti_service_gallery::{GalleryService, Picture, SIZE};
use tutti_service_image::ImageService;

use crate::cluster::Cluster;

/// All services, and those that take new settings live.
pub(crate) struct Services {
    /// All of them.
    pub registry: Registry,
    image: Arc<ImageService>,
}

impl Services {
    /// The services under `cluster`; `pictures` of the unnamed folder for the demo's page.
    pub(crate) fn new(cluster: &Cluster, pictures: Vec<String>) -> anyhow::Result<Self> {
        let image = Arc::new(ImageService::new(cluster.image.clone()).map_err(anyhow::Error::msg)?);
        let list: Vec<Arc<dyn Service>> = vec![
            Arc::<ImageService>::clone(&image),
            Arc::new(EchoService::new()),
            Arc::new(GalleryService::new(pictures.into_iter().map(picture).collect())),
        ];
        Ok(Self { registry: Registry::new(list), image })
    }

    /// Gives each service its new settings.
    pub(crate) fn reconfigure(&self, cluster: &Cluster) -> Result<(), String> {
        self.image.reconfigure(cluster.image.clone())
    }

    /// The service `name`, for an engine process.
    pub(crate) fn find(name: &str) -> Option<Arc<dyn Service>> {
        let services = Self::new(&Cluster::default(), Vec::new()).ok()?;
        services.registry.find(name).map(|(_, service)| Arc::clone(service))
    }
}

/// A file of the unnamed folder as the page asks for it.
fn picture(name: String) -> Picture {
    let title = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem).to_owned();
    Picture { title, path: format!("/image/unsafe/rs:fit:{SIZE}:{SIZE}/plain/local:///{name}@webp") }
}
