//! Keeps every secret sealed to those that need it: on every node, for the secrets that it can open. Idempotent.

use std::sync::Arc;
use std::time::Duration;

use tutti_base::{Clock, Nodes};
use tutti_store::Secrets;

use crate::journal::Journal;
use crate::roster::Roster;

/// The timer that wakes the loop; changes of the roster wake it too.
pub const WAKE_EVERY: Duration = Duration::from_secs(10);
/// The n-th node that is up waits n times this long, so that mostly one does the work.
pub const TURN: Duration = Duration::from_millis(500);
/// No node waits longer for its turn.
pub const TURN_MAX: Duration = Duration::from_secs(5);

/// Runs until it is dropped. A secret that nobody who is up can open stays as it is.
pub async fn run(
    secrets: Secrets,
    roster: Arc<Roster>,
    nodes: Arc<dyn Nodes>,
    clock: Arc<dyn Clock>,
    journal: Journal,
) {
    let mut changes = roster.watch();
    loop {
        clock.sleep_until(clock.now() + turn(&*nodes)).await;
        match secrets.reseal().await {
            Ok(resealed) if !resealed.done.is_empty() => {
                let names = resealed.done.join(", ");
                journal.note(format!("the secrets {names} are sealed anew"), "other nodes need them now");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the secrets could not be sealed anew; they are tried again")
            }
        }
        tokio::select! {
            () = clock.sleep_until(clock.now() + WAKE_EVERY) => {}
            _ = changes.changed() => {}
        }
    }
}

fn turn(nodes: &dyn Nodes) -> Duration {
    let view = nodes.view();
    let before = view.others().filter(|member| member.is_up() && member.id < view.me).count();
    (TURN * before as u32).min(TURN_MAX)
}

#[cfg(test)]
mod tests {
    use tutti_base::Roles;
    use tutti_store::Secret;

    use super::*;
    use crate::testing::{House, record_of, sealing_key, worker};

    #[tokio::test(start_paused = true)]
    async fn a_node_that_joins_can_soon_read_what_its_role_needs_and_no_more() {
        let house = House::founded().await;
        let secrets = house.secrets(1);
        secrets.set("img", &Secret::new(b"salt".to_vec())).await.unwrap();
        let journal = house.journal();
        let (roster, nodes, clock) = (house.roster.clone(), house.view.clone(), house.clock.clone());
        let running = tokio::spawn(run(secrets, roster, nodes, clock.clone(), journal));
        let joiner = record_of(2, "two", worker(), &sealing_key(2));
        house.roster.add(joiner).await.unwrap();
        let theirs = house.secrets(2);
        while theirs.get("img").is_err() {
            clock.sleep_until(clock.now() + Duration::from_millis(10)).await;
        }
        assert_eq!(theirs.get("img").unwrap().expose(), b"salt");
        assert!(theirs.get("cluster.authority").is_err());
        house.roster.set_roles("two", Roles::CACHE).await.unwrap();
        while theirs.get("img").is_ok() {
            clock.sleep_until(clock.now() + Duration::from_millis(10)).await;
        }
        running.abort();
    }
}
