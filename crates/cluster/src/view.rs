//! The view that all rooms read: one shared value, swapped whole. Decides nothing; it is told what to show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tutti_base::{Load, Member, NodeId, NodeState, Roles, Tick, View};

use crate::hints::Hints;
use crate::membership::Membership;

/// News of loads alone are shown at most this often.
pub const LOADS_EVERY: Duration = Duration::from_millis(20);

/// What the roster says of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub roles: Roles,
}

/// What a view is made of.
pub(crate) struct Parts<'a> {
    pub(crate) me: NodeId,
    pub(crate) now: Tick,
    pub(crate) version: &'a Arc<str>,
    pub(crate) roster: &'a BTreeMap<NodeId, Entry>,
    pub(crate) membership: &'a Membership,
    pub(crate) hints: &'a Hints,
    pub(crate) rtt: &'a dyn Fn(NodeId) -> Duration,
}

impl Parts<'_> {
    fn members(&self) -> Vec<Member> {
        self.roster.iter().map(|(id, entry)| self.member(*id, entry)).collect()
    }

    fn member(&self, id: NodeId, entry: &Entry) -> Member {
        let own = id == self.me;
        let heard = self.hints.heard(id);
        let unknown = || (Arc::<Load>::default(), Tick(0), Arc::from(""));
        let (load, at, version) = match heard {
            _ if own => (self.hints.own().clone(), self.now, self.version.clone()),
            Some(heard) => (heard.load.clone(), heard.at, heard.version.clone()),
            None => unknown(),
        };
        Member {
            id,
            name: entry.name.clone(),
            roles: entry.roles,
            state: self.membership.state(id).unwrap_or(NodeState::Suspect),
            version,
            load,
            heard: at,
            rtt: if own { Duration::ZERO } else { (self.rtt)(id) },
        }
    }
}

/// Shows the view.
pub(crate) struct Board {
    view: ArcSwap<View>,
    changed: watch::Sender<u64>,
}

impl Board {
    pub(crate) fn new(me: NodeId) -> Self {
        let view = View { me, ..View::default() };
        Self { view: ArcSwap::from_pointee(view), changed: watch::channel(0).0 }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Follows the generation of the view.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Shows a new view. Its generation grows where members, states, roles or names differ. Call from one lock.
    pub(crate) fn show(&self, parts: &Parts<'_>) {
        let before = self.view.load();
        let members = parts.members();
        let key = |member: &Member| (member.id, member.state, member.roles, member.name.clone());
        let same = before.members.iter().map(key).eq(members.iter().map(key));
        let generation = before.generation + u64::from(!same);
        self.view.store(Arc::new(View { me: parts.me, generation, members }));
        if !same {
            self.changed.send_replace(generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use tutti_base::rng::SplitMix;

    use super::*;
    use crate::membership::Duty;

    #[test]
    fn the_generation_grows_with_members_and_states_but_not_with_loads() {
        let (me, now) = (NodeId(2), Tick(5));
        let rng = || Box::new(SplitMix::new(1));
        let mut membership = Membership::new(me, 1, rng(), now);
        let mut hints = Hints::new(1, "1", rng(), now);
        let entry = |name: &str| Entry { name: name.into(), roles: Roles::ALL };
        let mut roster = BTreeMap::from([(me, entry("b")), (NodeId(7), entry("c"))]);
        let board = Board::new(me);
        let changed = board.changed();
        let show = |roster: &BTreeMap<NodeId, Entry>, membership: &Membership, hints: &Hints| {
            let rtt = |_| Duration::from_millis(3);
            board.show(&Parts { me, now, version: &"1".into(), roster, membership, hints, rtt: &rtt });
            board.view()
        };
        let duties = [(me, Duty::Serving), (NodeId(7), Duty::Serving)].into();
        membership.set_roster(now, &duties).unwrap();
        let first = show(&roster, &membership, &hints);
        assert_eq!((first.generation, first.members.len(), first.is_alone()), (1, 2, false));
        hints.set_own(Load { cpu: 5, ..Load::default() });
        let second = show(&roster, &membership, &hints);
        assert_eq!((second.generation, second.myself().map(|me| me.load.cpu)), (1, Some(5)));
        assert_eq!(second.get(NodeId(7)).map(|other| other.rtt), Some(Duration::from_millis(3)));
        roster.insert(NodeId(7), entry("renamed"));
        assert_eq!(show(&roster, &membership, &hints).generation, 2);
        assert_eq!(*changed.borrow(), 2);
    }
}
