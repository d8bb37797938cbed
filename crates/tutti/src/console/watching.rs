//! Small watches of the console: what the front has answered, and changes of the view that concern the cluster address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tutti_base::{Nodes, Roles, View};
use tutti_front::{Doors, listeners};
use tutti_worker::Standing;

use super::sum;
use crate::build::House;

/// How often answers are counted for the hints and the status.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Counts the front's answers from its metrics, for ever.
pub(crate) async fn count_answers(house: Arc<House>) {
    loop {
        let text = house.metrics.text();
        let requests = sum(&text, "tutti_front_requests_total", "");
        let hits = sum(&text, "tutti_front_requests_total", "cache=\"hit\"");
        let answered = &house.answered;
        let newer = requests.saturating_sub(answered.requests.swap(requests, Ordering::Relaxed));
        let newer_hits = hits.saturating_sub(answered.hits.swap(hits, Ordering::Relaxed));
        if let Some(hit_pct) = (newer_hits * 100).checked_div(newer) {
            answered.hit_pct.store(hit_pct, Ordering::Relaxed);
        }
        house.clock.sleep_until(house.clock.now() + COUNT_EVERY).await;
    }
}

/// Whenever members, states or roles change: the duty of the cluster address looks again, and the worker learns whether
/// it shares its machine with a front that has others to give work to.
pub(crate) async fn follow_view(house: Arc<House>, poke: Option<impl Fn() + Send + Sync>) {
    let mut changes = house.member.nodes.changed();
    loop {
        house.worker.set_standing(standing(&house.member.nodes.view()));
        poke.iter().for_each(|poke| poke());
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Opens the doors for clients while this node has the role front, and closes them while it has not.
pub(crate) async fn keep_doors(house: Arc<House>, doors: Doors, addresses: Vec<SocketAddr>) {
    let mut changes = house.member.nodes.changed();
    let mut are_open = true;
    loop {
        let view = house.member.nodes.view();
        let is_front = view.myself().is_none_or(|member| member.roles.has(Roles::FRONT));
        if is_front != are_open {
            for address in &addresses {
                let turned = if is_front {
                    listeners::bind(*address).and_then(|listener| doors.open(listener).map(drop))
                } else {
                    doors.close(*address).await
                };
                match turned {
                    Ok(()) => {
                        tracing::info!(%address, open = is_front, "the door for clients follows the role front")
                    }
                    Err(error) => {
                        tracing::error!(%address, %error, "the door for clients cannot follow the role front")
                    }
                }
            }
            are_open = is_front;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn standing(view: &View) -> Standing {
    let is_front = view.myself().is_some_and(|member| member.roles.has(Roles::FRONT));
    let has_workers = view.others().any(|member| member.is_up() && member.roles.has(Roles::WORKER));
    if is_front && has_workers { Standing::FrontAmongOthers } else { Standing::Free }
}
