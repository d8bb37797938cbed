//! How long calls may wait for news: not beyond their limit, and not when the server closes. Knows no news.

use std::time::Duration;

use tokio::sync::watch;

/// What bounds the waiting of a call.
#[derive(Clone)]
pub(crate) struct Patience {
    most: Duration,
    /// Ends when the server stops.
    closing: watch::Receiver<()>,
}

impl Patience {
    pub(crate) fn new(most: Duration, closing: watch::Receiver<()>) -> Self {
        Self { most, closing }
    }

    /// `wanted`, or the most that is allowed.
    pub(crate) fn most(&self, wanted: Duration) -> Duration {
        wanted.min(self.most)
    }

    /// Completes after `wanted`, after the most that is allowed, or when the server closes.
    pub(crate) async fn over(self, wanted: Duration) {
        let rest = tokio::time::sleep(self.most(wanted));
        let _ = self.unless_closing(rest).await;
    }

    /// What `news` brings; none when the server closes first.
    pub(crate) async fn unless_closing<T>(mut self, news: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            news = news => Some(news),
            _ = self.closing.changed() => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_its_limit_and_when_the_server_closes() {
        let (closing, closed) = watch::channel(());
        let patience = Patience::new(Duration::from_secs(20), closed);
        let before = tokio::time::Instant::now();
        patience.clone().over(Duration::from_secs(9999)).await;
        assert_eq!(before.elapsed(), Duration::from_secs(20));
        assert_eq!(patience.most(Duration::from_millis(5)), Duration::from_millis(5));
        drop(closing);
        assert_eq!(patience.clone().unless_closing(std::future::pending::<()>()).await, None);
        assert_eq!(
            patience.unless_closing(std::future::ready(7)).await,
            Some(7),
            "news that is there is given"
        );
    }
}
