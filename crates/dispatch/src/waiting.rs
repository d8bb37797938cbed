//! The waiting room: jobs for which no node has a place, in the order of their deadlines, small and heavy ones apart.

use std::collections::BTreeMap;

use tutti_base::Tick;

use crate::job::{JobAsk, Size};

/// Jobs that may wait at one dispatcher.
pub const WAITING_MAX: usize = 1024;

/// Names a job that waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);

type Lane = BTreeMap<(Tick, Ticket), JobAsk>;

/// Jobs that wait.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    small: Lane,
    heavy: Lane,
    deadlines: BTreeMap<Ticket, (Size, Tick)>,
    issued: u64,
}

impl WaitingRoom {
    pub(crate) fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Lets `job` in; `None` when the room is full.
    pub(crate) fn enter(&mut self, job: JobAsk) -> Option<Ticket> {
        if self.len() >= WAITING_MAX {
            return None;
        }
        self.issued += 1;
        let ticket = Ticket(self.issued);
        self.deadlines.insert(ticket, (job.size(), job.deadline));
        self.lane_mut(job.size()).insert((job.deadline, ticket), job);
        Some(ticket)
    }

    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<JobAsk> {
        let (size, deadline) = self.deadlines.remove(&ticket)?;
        self.lane_mut(size).remove(&(deadline, ticket))
    }

    /// Jobs of one size, the one whose deadline is first first.
    pub(crate) fn first(&self, size: Size) -> impl Iterator<Item = (Ticket, &JobAsk)> {
        self.lane(size).iter().map(|((_, ticket), job)| (*ticket, job))
    }

    /// Whether somebody of this size waits whose deadline is not after `deadline`.
    pub(crate) fn has_before(&self, size: Size, deadline: Tick) -> bool {
        self.lane(size).first_key_value().is_some_and(|((first, _), _)| *first <= deadline)
    }

    /// The cost of the jobs of this size that go before `deadline`, in predicted ms.
    pub(crate) fn before_ms(&self, size: Size, deadline: Tick) -> f64 {
        let before = self.lane(size).range(..(deadline, Ticket(u64::MAX)));
        before.map(|(_, job)| job.predicted_ms).sum()
    }

    /// Takes out the jobs whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Tick) -> Vec<Ticket> {
        let mut gone = Vec::new();
        for size in [Size::Small, Size::Heavy] {
            let lane = self.lane_mut(size);
            while let Some(first) = lane.first_entry().filter(|first| first.key().0 <= now) {
                gone.push(first.key().1);
                first.remove();
            }
        }
        gone.iter().for_each(|ticket| _ = self.deadlines.remove(ticket));
        gone
    }

    fn lane(&self, size: Size) -> &Lane {
        match size {
            Size::Small => &self.small,
            Size::Heavy => &self.heavy,
        }
    }

    fn lane_mut(&mut self, size: Size) -> &mut Lane {
        match size {
            Size::Small => &mut self.small,
            Size::Heavy => &mut self.heavy,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(predicted_ms: f64, secs: u64) -> JobAsk {
        JobAsk::new("resize", predicted_ms, Tick(0) + Duration::from_secs(secs))
    }

    #[test]
    fn jobs_go_in_the_order_of_their_deadlines_and_small_ones_apart() {
        let mut room = WaitingRoom::default();
        let late = room.enter(job(100.0, 9)).unwrap();
        let soon = room.enter(job(100.0, 3)).unwrap();
        let small = room.enter(job(5.0, 20)).unwrap();
        let order: Vec<_> = room.first(Size::Heavy).map(|(ticket, _)| ticket).collect();
        assert_eq!(order, [soon, late]);
        assert_eq!(room.first(Size::Small).next().map(|(ticket, _)| ticket), Some(small));
        assert_eq!(room.before_ms(Size::Heavy, Tick(0) + Duration::from_secs(5)), 100.0);
        assert!(room.leave(soon).is_some() && room.leave(soon).is_none());
        assert_eq!(room.len(), 2);
    }

    #[test]
    fn the_room_is_bounded() {
        let mut room = WaitingRoom::default();
        (0..WAITING_MAX).for_each(|_| assert!(room.enter(job(1.0, 1)).is_some()));
        assert_eq!(room.enter(job(1.0, 1)), None);
    }

    #[test]
    fn jobs_whose_deadline_has_passed_are_taken_out() {
        let mut room = WaitingRoom::default();
        let first = room.enter(job(1.0, 1)).unwrap();
        let second = room.enter(job(100.0, 2)).unwrap();
        room.enter(job(1.0, 3)).unwrap();
        assert_eq!(room.expire(Tick(0) + Duration::from_secs(2)), [first, second]);
        assert_eq!(room.len(), 1);
    }
}
