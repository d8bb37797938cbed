//! Tests of the dispatcher: places, waiting, waking, failing over, and what it counts.

use std::time::Duration;

use tutti_base::NodeState;
use tutti_base::rng::SplitMix;

use super::*;
use crate::candidate::tests::candidate;
use crate::waiting::WAITING_MAX;

fn at(ms: u64) -> Tick {
    Tick(0) + Duration::from_millis(10_000 + ms)
}

fn heavy() -> JobAsk {
    JobAsk::new("resize", 40.0, at(60_000))
}

struct Table {
    dispatcher: Dispatcher,
    nodes: Vec<Candidate>,
    rng: SplitMix,
}

impl Table {
    fn of(count: u64) -> Self {
        let nodes = (1..=count).map(|node| candidate(node, 0)).collect();
        Self { dispatcher: Dispatcher::new(), nodes, rng: SplitMix::new(1) }
    }
    fn offer(&mut self, job: JobAsk, ms: u64) -> Offer {
        self.dispatcher.offer(job, &self.nodes, at(ms), &mut self.rng)
    }
    fn sent(&mut self, job: JobAsk, ms: u64) -> SentId {
        let Offer::Send { sent, .. } = self.offer(job, ms) else { panic!("it must be sent") };
        sent
    }
    fn ticket(&mut self, job: JobAsk, ms: u64) -> Ticket {
        let Offer::Wait(ticket) = self.offer(job, ms) else { panic!("it must wait") };
        ticket
    }
    fn wake(&mut self, ms: u64) -> Vec<(Ticket, Offer)> {
        self.dispatcher.wake(&self.nodes, at(ms), &mut self.rng)
    }
    /// Gives one node all the heavy jobs that it should have.
    fn fill(&mut self) -> Vec<SentId> {
        (0..5).map(|_| self.sent(heavy(), 0)).collect()
    }
}

const DONE: Outcome = Outcome::Done { measured_ms: 40.0 };

#[test]
fn a_node_gets_one_heavy_job_more_than_it_runs_and_the_rest_waits_by_deadline() {
    let mut table = Table::of(1);
    let sent = table.fill();
    let late = table.ticket(heavy(), 1);
    let soon = table.ticket(JobAsk { deadline: at(5_000), ..heavy() }, 1);
    assert!(table.wake(2).is_empty());
    table.dispatcher.ended(sent[0], DONE, at(40));
    let woken: Vec<Ticket> = table.wake(40).into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(woken, [soon]);
    table.dispatcher.ended(sent[1], DONE, at(41));
    assert!(matches!(&table.wake(41)[..], [(ticket, Offer::Send { .. })] if *ticket == late));
    assert_eq!((table.dispatcher.waiting(), table.dispatcher.counts().waited), (0, 2));
}

#[test]
fn small_jobs_have_places_where_heavy_ones_have_none() {
    let mut table = Table::of(1);
    table.fill();
    let _ticket = table.ticket(heavy(), 1);
    table.sent(JobAsk::new("thumb", 5.0, at(60_000)), 1);
}

#[test]
fn who_comes_later_does_not_overtake_who_waits() {
    let mut table = Table::of(1);
    let sent = table.fill();
    let first = table.ticket(heavy(), 1);
    table.dispatcher.ended(sent[0], DONE, at(40));
    // A place is free, and nobody was woken yet.
    let second = table.ticket(heavy(), 41);
    assert!(matches!(&table.wake(41)[..], [(ticket, _)] if *ticket == first));
    assert!(table.dispatcher.cancel(second) && !table.dispatcher.cancel(second));
}

#[test]
fn the_late_are_given_up_and_the_room_is_bounded() {
    let mut table = Table::of(1);
    table.fill();
    let _ticket = table.ticket(JobAsk { deadline: at(100), ..heavy() }, 1);
    assert_eq!(table.offer(JobAsk { deadline: at(5), ..heavy() }, 5), Offer::Nowhere(NoPlace::Late));
    (1..WAITING_MAX).for_each(|_| _ = table.ticket(heavy(), 1));
    assert_eq!(table.offer(heavy(), 1), Offer::Nowhere(NoPlace::RoomFull));
    assert!(matches!(table.wake(100)[0].1, Offer::Nowhere(NoPlace::Late)));
}

#[test]
fn what_failed_goes_elsewhere_and_nowhere_when_all_have_failed_it() {
    let mut table = Table::of(2);
    let first = table.sent(heavy(), 0);
    table.dispatcher.ended(first, Outcome::Failed { retry_after: None }, at(1));
    let second = table.sent(JobAsk { tried: vec![first.node], ..heavy() }, 1);
    assert_ne!(first.node, second.node);
    let both = JobAsk { tried: vec![first.node, second.node], ..heavy() };
    assert_eq!(table.offer(both, 2), Offer::Nowhere(NoPlace::NoNode));
    assert_eq!(table.dispatcher.counts().failed, 1);
}

#[test]
fn a_waiting_job_whose_nodes_are_gone_is_given_up() {
    let mut table = Table::of(1);
    table.fill();
    let ticket = table.ticket(heavy(), 1);
    table.nodes[0].state = NodeState::Down;
    assert_eq!(table.wake(2), [(ticket, Offer::Nowhere(NoPlace::NoNode))]);
}

#[test]
fn at_most_half_of_the_nodes_are_ejected_and_never_the_last() {
    for (count, ejected) in [(1_u64, 0), (2, 1), (3, 1), (4, 2)] {
        let mut table = Table::of(count);
        for node in 1..=count {
            for _ in 0..3 {
                let sent = table.dispatcher.started(&heavy(), NodeId(node), at(node));
                table.dispatcher.ended(sent, Outcome::Failed { retry_after: None }, at(node));
            }
        }
        let seen = table.dispatcher.explain(&heavy(), &table.nodes, at(10), &mut table.rng);
        let out =
            seen.considered.iter().filter(|c| c.standing == crate::explained::Standing::Ejected).count();
        assert_eq!(out, ejected, "of {count}");
        assert!(seen.chosen.is_some() && table.dispatcher.standings(at(10)).iter().all(|s| s.ejected));
    }
}

#[test]
fn after_its_time_an_ejected_node_gets_one_job_as_a_trial() {
    let mut table = Table::of(2);
    for _ in 0..3 {
        let sent = table.dispatcher.started(&heavy(), NodeId(1), at(0));
        table.dispatcher.ended(sent, Outcome::Failed { retry_after: None }, at(0));
    }
    let _trial = table.dispatcher.started(&heavy(), NodeId(1), at(1_500));
    let seen = table.dispatcher.explain(&heavy(), &table.nodes, at(1_500), &mut table.rng);
    assert_eq!(seen.considered[0].standing, crate::explained::Standing::Ejected);
}

#[test]
fn a_cost_that_is_no_number_is_taken_for_nothing() {
    let mut table = Table::of(2);
    for predicted_ms in [f64::NAN, f64::INFINITY, -5.0, 1e300] {
        let sent = table.sent(JobAsk { predicted_ms, original_ms: f64::NAN, ..heavy() }, 0);
        table.dispatcher.ended(sent, Outcome::Done { measured_ms: f64::NAN }, at(1));
    }
    let seen = table.dispatcher.explain(&heavy(), &table.nodes, at(2), &mut table.rng);
    assert!(seen.considered.iter().all(|c| c.total_ms.is_finite()), "{seen:?}");
}

#[test]
fn explaining_changes_nothing() {
    let mut table = Table::of(3);
    table.sent(heavy(), 0);
    let before = format!("{:?}", table.dispatcher);
    for policy in crate::Policy::ALL {
        let job = JobAsk { policy, ..heavy() };
        let found = table.dispatcher.explain(&job, &table.nodes, at(1), &mut table.rng);
        assert!(found.expected_ms().is_some_and(|ms| ms > 0.0), "{policy}");
    }
    assert_eq!(before, format!("{:?}", table.dispatcher));
}

#[test]
fn retries_beyond_the_budget_are_refused_and_counted() {
    let mut table = Table::of(1);
    (0..100).for_each(|_| assert!(table.dispatcher.may_retry(at(0))));
    assert!(!table.dispatcher.may_retry(at(0)));
    assert_eq!(table.dispatcher.counts().retries_refused, 1);
}
