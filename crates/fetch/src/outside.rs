//! Everything that originals come from, as the one thing that implements [`Fetch`].

use std::sync::Arc;

use tutti_base::{BoxFuture, Clock, Problem, Source};
use tutti_telemetry::Metrics;

use crate::count::Counts;
use crate::folders::{FolderPaths, Folders};
use crate::names::{Names, SystemNames};
use crate::origin::{AllowUrl, Origins};
use crate::{Config, ConfigError, Fetch, FetchRequest, Fetched, FolderReport, Shelf};

/// Folders and origins.
pub struct Outside {
    folders: Arc<Folders>,
    shelf: Arc<Shelf>,
    origins: Origins,
}

impl Outside {
    /// The outside under `config`, with these folders. `allow` is asked for each URL and each redirect. Reads the files
    /// of `extra_roots`, opens nothing else; registers the metrics, so call it once a process.
    pub fn new(
        config: Config,
        folders: FolderPaths,
        allow: AllowUrl,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        Self::with_names(config, folders, allow, Arc::new(SystemNames::default()), clock, metrics)
    }

    /// The same with a resolver of one's own.
    pub fn with_names(
        config: Config,
        folders: FolderPaths,
        allow: AllowUrl,
        names: Arc<dyn Names>,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        let counts = Arc::new(Counts::register(metrics));
        let folders = Arc::new(Folders::new(folders, clock.clone(), counts.clone()));
        let shelf = Arc::new(Shelf::new(folders.clone(), clock.clone(), metrics));
        let origins = Origins::new(config, names, allow, clock, counts)?;
        Ok(Self { folders, shelf, origins })
    }

    /// Applies new settings to what is fetched from now on; on an error everything stays as it was.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        self.origins.reconfigure(config)
    }

    /// Uses other folders from now on.
    pub fn use_folders(&self, folders: FolderPaths) {
        self.folders.reconfigure(folders);
    }

    /// The folders where they may be changed.
    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    /// How all folders are, for the log at start and for `doctor`. Blocks on the file system.
    pub fn check_folders(&self) -> Vec<FolderReport> {
        self.folders.check()
    }
}

impl Fetch for Outside {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, Problem>> {
        Box::pin(async move {
            match &request.source {
                Source::Local { folder, path } => {
                    self.folders.open(folder, path, request.deadline).await.map(Fetched::File)
                }
                Source::Http { url } => self.origins.fetch(request, url).await,
            }
        })
    }
}
