//! The loops of a node in the cluster: each waits, takes one step, and ends with the cluster or at its stop.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;
use tutti_base::{BoxFuture, Clock};

use super::Cluster;
use crate::view::LOADS_EVERY;

/// The loops; they end when this is dropped.
pub(crate) struct Tasks {
    stop: watch::Sender<bool>,
    loops: Mutex<Vec<JoinHandle<()>>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { stop: watch::Sender::new(false), loops: Mutex::default() }
    }

    /// Starts the loops of `cluster`.
    pub(crate) fn start(&self, cluster: &Arc<Cluster>, clock: &Arc<dyn Clock>) {
        let weak = || Arc::downgrade(cluster);
        let (hurry, news) = (cluster.hurry_hints.clone(), cluster.news_of_loads.clone());
        let wanted = cluster.folders_wanted.clone();
        self.add("membership", Box::pin(membership(weak(), clock.clone())));
        self.add("hints", Box::pin(hints(weak(), clock.clone(), hurry)));
        self.add("loads", Box::pin(loads(weak(), clock.clone(), news)));
        self.add("folders", Box::pin(folders(weak(), wanted)));
    }

    /// Runs `work` until it ends or all are stopped.
    pub(crate) fn add(&self, name: &'static str, work: BoxFuture<'static, ()>) {
        let mut stopped = self.stop.subscribe();
        let until_stopped = async move {
            tokio::select! {
                () = work => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        };
        let task = tokio::spawn(until_stopped.instrument(tracing::info_span!("cluster", task = name)));
        self.loops.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let loops = self.loops.get_mut().unwrap_or_else(PoisonError::into_inner);
        loops.iter().for_each(JoinHandle::abort);
    }
}

async fn membership(cluster: Weak<Cluster>, clock: Arc<dyn Clock>) {
    while let Some(next) = cluster.upgrade().map(|cluster| cluster.tick()) {
        clock.sleep_until(next).await;
    }
}

async fn hints(cluster: Weak<Cluster>, clock: Arc<dyn Clock>, hurry: Arc<Notify>) {
    while let Some(next) = cluster.upgrade().map(|cluster| cluster.tick_hints()) {
        tokio::select! {
            () = clock.sleep_until(next) => {}
            () = hurry.notified() => {}
        }
    }
}

async fn loads(cluster: Weak<Cluster>, clock: Arc<dyn Clock>, news: Arc<Notify>) {
    loop {
        news.notified().await;
        let Some(now) = cluster.upgrade().map(|cluster| cluster.show_loads()) else { return };
        clock.sleep_until(now + LOADS_EVERY).await;
    }
}

async fn folders(cluster: Weak<Cluster>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let Some(cluster) = cluster.upgrade() else { return };
        cluster.ask_for_folders().await;
    }
}
