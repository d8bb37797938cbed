//! Small watches of the console: what the front has answered, and changes of the view that concern the cluster address.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;


use tutti_base::{Nodes, Roles, View};
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
        if newer > 0 {
            answered.hit_pct.store(newer_hits * 100 / newer, Ordering::Relaxed);
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

fn standing(view: &View) -> Standing {
    let is_front = view.myself().is_some_and(|member| member.roles.has(Roles::FRONT));
    let has_workers = view.others().any(|member| member.is_up() && member.roles.has(Roles::WORKER));
    if is_front && has_workers { Standing::FrontAmongOthers } else { Standing::Free }
}
