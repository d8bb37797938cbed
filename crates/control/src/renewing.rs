//! Renews this node's certificate at half of its life, until it is dropped. Keeps nothing: who bears the identity does.

use std::sync::Arc;
use std::time::Duration;

use tutti_base::{Clock, Wall};

use crate::joining::{Joining, Renewed};
use crate::journal::Journal;

/// The most that passes between two looks at the calendar, which may step.
pub const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// A failed renewal is tried again after this; the other half of the certificate's life is left for it.
pub const TRY_EVERY: Duration = Duration::from_secs(60);

/// Who bears this node's identity.
pub trait Bearer: Send + Sync {
    /// When its certificate should be renewed.
    fn renew_at(&self) -> Wall;
    /// What it asks an authority with.
    fn request(&self) -> Result<Vec<u8>, String>;
    /// Takes the new certificate: keeps it on the disk and shows it on the links.
    fn admit(&self, renewed: Renewed) -> Result<(), String>;
}

/// Renews until it is dropped; at most one try every [`TRY_EVERY`].
pub async fn run(joining: Arc<Joining>, bearer: Arc<dyn Bearer>, clock: Arc<dyn Clock>, journal: Journal) {
    loop {
        let due = bearer.renew_at();
        let now = clock.wall();
        if now < due {
            clock.sleep_until(clock.now() + due.since(now).min(LOOK_EVERY)).await;
            continue;
        }
        match renew(&joining, &*bearer).await {
            Ok(expires) => {
                let days = expires.since(clock.wall()).as_secs() / (24 * 3600);
                journal.note("this node's certificate was renewed", format!("it is valid for {days} days"));
            }
            Err(error) => {
                tracing::warn!(error, "this node's certificate could not be renewed; it is tried again")
            }
        }
        clock.sleep_until(clock.now() + TRY_EVERY).await;
    }
}

async fn renew(joining: &Joining, bearer: &dyn Bearer) -> Result<Wall, String> {
    let renewed = joining.renew(bearer.request()?).await.map_err(|error| error.to_string())?;
    let expires = renewed.certificate.expires;
    bearer.admit(renewed)?;
    Ok(expires)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tutti_cluster::Identity;

    use super::*;
    use crate::joining;
    use crate::testing::{FakePeers, House, counts, identity};
    use crate::tokens::Tokens;

    struct Keeps(Mutex<Identity>, Mutex<u32>);

    impl Bearer for Keeps {
        fn renew_at(&self) -> Wall {
            self.0.lock().unwrap().renew_at()
        }
        fn request(&self) -> Result<Vec<u8>, String> {
            self.0.lock().unwrap().request().map_err(|error| error.to_string())
        }
        fn admit(&self, renewed: Renewed) -> Result<(), String> {
            *self.1.lock().unwrap() += 1;
            let mut identity = self.0.lock().unwrap();
            let cluster = identity.cluster();
            identity.admit(cluster, renewed.certificate, renewed.authorities);
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_renewed_at_half_of_its_life_again_and_again() {
        let house = House::founded().await;
        let outside = joining::Outside {
            roster: house.roster.clone(),
            tokens: Tokens::open(house.store.clone(), house.clock.clone()),
            secrets: house.secrets(1),
            quorum: house.quorum.clone(),
            nodes: house.view.clone(),
            peers: FakePeers::of(1),
            clock: house.clock.clone(),
            journal: house.journal(),
        };
        let joining = Joining::new(outside, counts());
        let keeps = Arc::new(Keeps(Mutex::new(identity(1, "one")), Mutex::new(0)));
        let running = tokio::spawn(run(joining, keeps.clone(), house.clock.clone(), house.journal()));
        house.pass(Duration::from_secs(10)).await;
        assert_eq!(*keeps.1.lock().unwrap(), 1, "it had none");
        house.pass(Duration::from_secs(3 * 24 * 3600)).await;
        assert_eq!(*keeps.1.lock().unwrap(), 1);
        house.pass(Duration::from_secs(13 * 12 * 3600)).await;
        assert_eq!(
            *keeps.1.lock().unwrap(),
            3,
            "seven days: renewed after three and a half, and after seven"
        );
        running.abort();
    }
}
