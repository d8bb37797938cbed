//! SWIM with suspicion (Das, Gupta, Motivala, DSN'02) on foca: packets, ticks and the roster in, packets out. Reads no
//! clock, opens no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use foca::{Foca, Header, Message, NoCustomBroadcast, State, Timer};
use tutti_base::rng::Rng;
use tutti_base::{NodeId, Tick, envelope};

use super::peer::{Dice, Peer};
use super::setting::{Outbox, config};
use super::wire::{self, Packet, Parsed, Wire};

/// How often this node probes a member, in turn.
pub const PROBE_EVERY: Duration = Duration::from_millis(200);
/// A probe without an answer for this long is repeated over the link and through other members.
pub const PROBE_WITHIN: Duration = Duration::from_millis(90);
/// How long a suspect member may refute before it is declared lost, in a cluster of up to ten; more in larger ones.
pub const SUSPICION: Duration = Duration::from_secs(1);
/// A suspect that is still heard is not declared lost before this long without a refutation.
pub const SUSPICION_MAX: Duration = Duration::from_secs(5);
/// Through how many others a probe is repeated, and to how many news go at once.
pub(super) const FAN_OUT: usize = 3;
/// How often news go out where there are any.
pub(super) const GOSSIP_EVERY: Duration = Duration::from_millis(200);

/// So many packets that came as datagrams are remembered for each peer: their copies over the link are dropped.
const COPIES_MAX: usize = 4;

/// One packet to send.
#[derive(Clone, Debug)]
pub struct Send {
    /// To whom.
    pub to: NodeId,
    /// The sealed packet.
    pub bytes: Bytes,
    /// How.
    pub way: Way,
}

/// How a packet of the gossip travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// As a datagram.
    Datagram,
    /// As a cast on the control lane.
    Link,
    /// As both: datagrams of this peer have not been seen to arrive.
    Both,
}

/// Why a packet of the gossip was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GossipError {
    /// It does not parse.
    #[error("a packet of the gossip is malformed: {0}")]
    Malformed(String),
    /// Its sender is not a member.
    #[error("node {0} is not a member")]
    Stranger(NodeId),
    /// It names another sender than the link it came by.
    #[error("node {from} sent a packet in the name of node {named}")]
    Forged {
        /// Who sent it.
        from: NodeId,
        /// Whom it names.
        named: NodeId,
    },
}

/// What is known of one member of the roster.
#[derive(Debug)]
struct Seen {
    state: Option<State>,
    since: Tick,
    run: u64,
    heard: Option<Tick>,
    /// The checksums of the last packets that came as datagrams.
    datagrams: [u32; COPIES_MAX],
    by_link: bool,
    left: bool,
}

/// A probe on its way.
struct Probe {
    to: Peer,
    number: u8,
    bytes: Vec<u8>,
    way: Way,
}

/// The gossip of one node.
pub(crate) struct Swim {
    foca: Foca<Peer, Wire, Dice, NoCustomBroadcast>,
    outbox: Outbox,
    timers: BTreeMap<(Tick, u64), Waiting>,
    order: u64,
    seen: BTreeMap<NodeId, Seen>,
    probe: Option<Probe>,
    sends: Vec<Send>,
    /// The count of refutations that the last packet carried; foca keeps it to itself.
    incarnation: u16,
    warn: Tick,
    /// Whether somebody is newly suspect or down: that does not wait for the next round of news.
    has_rumour: bool,
    stretch: u32,
    has_left: bool,
}

struct Waiting {
    timer: Timer<Peer>,
    set: Tick,
}

impl Swim {
    pub(crate) fn new(me: NodeId, run: u64, rng: Box<dyn Rng>) -> Self {
        Self {
            foca: Foca::new(Peer::new(me, run), config(1), Dice(rng), Wire),
            outbox: Outbox::default(),
            timers: BTreeMap::new(),
            order: 0,
            seen: BTreeMap::new(),
            probe: None,
            sends: Vec::new(),
            incarnation: 0,
            warn: Tick(0),
            has_rumour: false,
            stretch: 1,
            has_left: false,
        }
    }

    fn me(&self) -> Peer {
        *self.foca.identity()
    }

    /// The run under which this node is known.
    pub(crate) fn run(&self) -> u64 {
        self.me().run
    }

    /// Makes `others` the members beside this node; who is not among them is forgotten.
    pub(crate) fn set_members(&mut self, now: Tick, others: &BTreeSet<NodeId>) {
        let gone: Vec<NodeId> = self.seen.keys().filter(|id| !others.contains(id)).copied().collect();
        for id in gone {
            self.forget(now, id);
        }
        for id in others {
            self.seen.entry(*id).or_insert_with(|| Seen::new(now));
        }
        let size = u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
        self.foca.set_config(config(size)).expect("probe times and periodic parts never change");
    }

    fn forget(&mut self, now: Tick, id: NodeId) {
        self.seen.remove(&id);
        let Some(peer) = self.member(id).map(|member| *member.id()) else { return };
        self.run_foca(now, |foca, outbox| {
            foca.apply_many(std::iter::once(foca::Member::down(peer)), false, &mut *outbox)?;
            foca.handle_timer(Timer::RemoveDown(peer), outbox)
        });
    }

    fn member(&self, id: NodeId) -> Option<&foca::Member<Peer>> {
        self.foca.iter_membership_state().find(|member| member.id().id == id)
    }

    /// Takes a packet that came from `from`.
    pub(crate) fn packet(
        &mut self,
        now: Tick,
        from: NodeId,
        way: Way,
        sealed: &[u8],
    ) -> Result<(), GossipError> {
        let malformed = |error: &dyn std::fmt::Display| GossipError::Malformed(error.to_string());
        let packet: Packet = envelope::open(sealed).map_err(|error| malformed(&error))?;
        let Parsed { header, mut news } = wire::parse(&packet.0).map_err(|error| malformed(&error))?;
        if header.src.id != from {
            return Err(GossipError::Forged { from, named: header.src.id });
        }
        let me = self.me().id;
        let known = |id: NodeId| id == me || self.seen.contains_key(&id);
        if !subject(&header.message).is_none_or(|peer| known(peer.id)) {
            return Err(GossipError::Stranger(from));
        }
        if self.has_left || header.message == Message::Broadcast {
            return Ok(());
        }
        news.retain(|member| known(member.id().id));
        let Some(seen) = self.seen.get_mut(&from) else { return Err(GossipError::Stranger(from)) };
        let is_probe = matches!(header.message, Message::Ping(_));
        // A probe that comes again was not answered, or its answer is lost.
        if !seen.arrived(way, crc32fast::hash(&packet.0)) && !is_probe {
            return Ok(());
        }
        let leaves = news.iter().any(|member| *member.id() == header.src && member.state() == State::Down);
        seen.left = leaves || (seen.left && seen.run == header.src.run);
        seen.heard = Some(now);
        self.answered(&header);
        let bytes = wire::build(&header, &news);
        self.run_foca(now, |foca, outbox| foca.handle_data(&bytes, outbox));
        self.outrun(now);
        self.spread(now);
        Ok(())
    }

    /// Takes the answer to the probe on its way, if this is it.
    fn answered(&mut self, header: &Header<Peer>) {
        let Some(probe) = &self.probe else { return };
        let is_answer = match &header.message {
            Message::Ack(number) => header.src == probe.to && *number == probe.number,
            Message::ForwardedAck { origin, probe_number } => {
                *origin == probe.to && *probe_number == probe.number
            }
            _ => false,
        };
        if is_answer {
            self.probe = None;
        }
    }

    /// Notes that `from` was heard by whatever way.
    pub(crate) fn heard(&mut self, now: Tick, from: NodeId) {
        if let Some(seen) = self.seen.get_mut(&from) {
            seen.heard = Some(now);
        }
    }

    /// A later run of this very node is known to someone: this one must be later still (its calendar went back).
    fn outrun(&mut self, now: Tick) {
        let me = self.me();
        let later = self.member(me.id).map(|member| member.id().run).filter(|run| *run > me.run);
        if let Some(run) = later {
            let next = Peer::new(me.id, run.saturating_add(1));
            self.outbox.is_known = false;
            self.run_foca(now, |foca, outbox| foca.change_identity(next, outbox));
        }
    }

    /// Fires what is due.
    pub(crate) fn tick(&mut self, now: Tick, stretch: u32) {
        self.stretch = stretch;
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) {
            let waiting = first.remove();
            self.fire(now, waiting);
        }
        self.warn_accused(now);
        self.spread(now);
    }

    fn spread(&mut self, now: Tick) {
        if std::mem::take(&mut self.has_rumour) && !self.has_left {
            self.run_foca(now, |foca, outbox| foca.gossip(outbox));
        }
    }

    fn fire(&mut self, now: Tick, waiting: Waiting) {
        match &waiting.timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                let accused = foca::Member::new(*member_id, *incarnation, State::Suspect);
                // Foca 2.0 tells the accused that it is down even where it has refuted meanwhile.
                if self.member(member_id.id) != Some(&accused)
                    || self.still_speaks(now, member_id, waiting.set)
                {
                    return;
                }
            }
            Timer::SendIndirectProbe { probed_id, .. } => self.repeat_probe(*probed_id),
            _ => {}
        }
        self.run_foca(now, |foca, outbox| foca.handle_timer(waiting.timer, outbox));
    }

    /// Whether a suspect was heard since the suspicion that ends now was raised: then its refutation may be lost, and the
    /// next failed probe raises another. Bounded by [`SUSPICION_MAX`].
    fn still_speaks(&self, now: Tick, suspect: &Peer, raised: Tick) -> bool {
        let Some(seen) = self.seen.get(&suspect.id) else { return false };
        let young = now.since(seen.since) < SUSPICION_MAX * self.stretch;
        young && seen.heard.is_some_and(|heard| heard > raised)
    }

    /// Datagrams may be blocked on the way: the unanswered probe goes over the link too.
    fn repeat_probe(&mut self, probed: Peer) {
        let unheard = |probe: &&Probe| probe.to == probed && probe.way == Way::Datagram;
        let Some(probe) = self.probe.as_ref().filter(unheard) else { return };
        if let Some(seen) = self.seen.get_mut(&probed.id) {
            seen.by_link = true;
            self.sends.push(Send { to: probed.id, bytes: seal(probe.bytes.clone()), way: Way::Link });
        }
    }

    /// Tells those that this node accuses of it, again and again, so that a lost packet costs nobody its place (the buddy
    /// system of Lifeguard, §IV.C). As probes, so that they answer at once.
    fn warn_accused(&mut self, now: Tick) {
        if now < self.warn {
            return;
        }
        self.warn = now + GOSSIP_EVERY;
        let accused: BTreeSet<NodeId> =
            self.timers.values().filter_map(|waiting| accused(&waiting.timer)).collect();
        for id in accused {
            let member = self.member(id).filter(|member| member.state() == State::Suspect);
            let Some(member) = member.cloned() else { continue };
            let message = Message::Ping(0);
            let header =
                Header { src: self.me(), src_incarnation: self.incarnation, dst: *member.id(), message };
            let bytes = wire::build(&header, &[member]);
            let way = self.way_to(id);
            self.sends.push(Send { to: id, bytes: seal(bytes), way });
        }
    }

    fn way_to(&self, id: NodeId) -> Way {
        if self.seen.get(&id).is_none_or(|seen| seen.by_link) { Way::Both } else { Way::Datagram }
    }

    /// This node stood still for `span`: all its timers move by it, and the probe on its way says nothing.
    pub(crate) fn forgive(&mut self, now: Tick, span: Duration) {
        let timers = std::mem::take(&mut self.timers);
        self.timers =
            timers.into_iter().map(|((due, order), waiting)| ((due + span, order), waiting)).collect();
        for waiting in self.timers.values_mut() {
            waiting.set = waiting.set + span;
        }
        let Some(probe) = self.probe.take() else { return };
        let incarnation = self.member(probe.to.id).map_or(0, foca::Member::incarnation);
        let void = Header {
            src: probe.to,
            src_incarnation: incarnation,
            dst: self.me(),
            message: Message::Ack(probe.number),
        };
        let bytes = wire::build(&void, &[]);
        if self.state(probe.to.id).is_some_and(|state| state != State::Down) {
            self.run_foca(now, |foca, outbox| foca.handle_data(&bytes, outbox));
        }
    }

    /// When the next timer is due.
    pub(crate) fn next(&self) -> Option<Tick> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Asks `to` for its members, and makes this node known to it.
    pub(crate) fn announce(&mut self, now: Tick, to: NodeId) {
        let run = self.seen.get(&to).map_or(0, |seen| seen.run);
        if !self.has_left {
            self.run_foca(now, |foca, outbox| foca.announce(Peer::new(to, run), outbox));
        }
    }

    /// Tells every member that this node leaves. Afterwards it says and hears nothing more.
    pub(crate) fn leave(&mut self, now: Tick) {
        let me = self.me();
        let others: Vec<Peer> = self.foca.iter_members().map(|member| *member.id()).collect();
        for to in others {
            let header =
                Header { src: me, src_incarnation: self.incarnation, dst: to, message: Message::Gossip };
            let bytes = seal(wire::build(&header, &[foca::Member::down(me)]));
            self.sends.push(Send { to: to.id, bytes, way: Way::Both });
        }
        self.run_foca(now, |foca, outbox| foca.leave_cluster(outbox));
        self.has_left = true;
        self.timers.clear();
    }

    /// Whether members know the present run of this node. Before, nothing that they say to it is heard.
    pub(crate) fn is_known(&self) -> bool {
        self.outbox.is_known
    }

    /// How the gossip sees `id`; `None` when it was not heard of.
    pub(crate) fn state(&self, id: NodeId) -> Option<State> {
        self.seen.get(&id).and_then(|seen| seen.state)
    }
    /// Whether `id` said itself that it leaves.
    pub(crate) fn has_left(&self, id: NodeId) -> bool {
        self.seen.get(&id).is_some_and(|seen| seen.left)
    }
    /// Since when it is in its state, or in the roster.
    pub(crate) fn since(&self, id: NodeId) -> Option<Tick> {
        self.seen.get(&id).map(|seen| seen.since)
    }
    /// The run of `id` that is known; 0 when it was not heard of.
    pub(crate) fn run_of(&self, id: NodeId) -> u64 {
        self.seen.get(&id).map_or(0, |seen| seen.run)
    }
    /// When `id` was heard directly.
    pub(crate) fn last_heard(&self, id: NodeId) -> Option<Tick> {
        self.seen.get(&id).and_then(|seen| seen.heard)
    }
    /// What is to be sent.
    pub(crate) fn take_sends(&mut self) -> Vec<Send> {
        std::mem::take(&mut self.sends)
    }

    /// Runs foca and takes what came of it.
    fn run_foca(
        &mut self,
        now: Tick,
        work: impl FnOnce(&mut Foca<Peer, Wire, Dice, NoCustomBroadcast>, &mut Outbox) -> Result<(), foca::Error>,
    ) {
        if let Err(error) = work(&mut self.foca, &mut self.outbox) {
            tracing::debug!(%error, "the gossip refused a step");
        }
        for (timer, after) in std::mem::take(&mut self.outbox.timers) {
            let after = if stretches(&timer) { after * self.stretch } else { after };
            self.order += 1;
            self.timers.insert((now + after, self.order), Waiting { timer, set: now });
        }
        for (to, bytes) in std::mem::take(&mut self.outbox.sends) {
            self.post(to, bytes);
        }
        self.scan(now);
    }

    fn post(&mut self, to: Peer, bytes: Vec<u8>) {
        if !self.seen.contains_key(&to.id) {
            return;
        }
        let way = self.way_to(to.id);
        if let Ok(parsed) = wire::parse(&bytes) {
            self.incarnation = parsed.header.src_incarnation;
            if let Message::Ping(number) = parsed.header.message {
                self.probe = Some(Probe { to, number, bytes: bytes.clone(), way });
            }
        }
        self.sends.push(Send { to: to.id, bytes: seal(bytes), way });
    }

    fn scan(&mut self, now: Tick) {
        for member in self.foca.iter_membership_state() {
            let Some(seen) = self.seen.get_mut(&member.id().id) else { continue };
            if seen.state != Some(member.state()) {
                seen.since = now;
                // Who leaves tells everyone itself, and why.
                self.has_rumour |= member.state() != State::Alive && !seen.left;
            }
            if seen.run != member.id().run {
                seen.run = member.id().run;
                seen.left = false;
            }
            seen.state = Some(member.state());
        }
    }
}

impl Seen {
    fn new(now: Tick) -> Self {
        let datagrams = [0; COPIES_MAX];
        Self { state: None, since: now, run: 0, heard: None, datagrams, by_link: true, left: false }
    }

    /// A packet arrived by `way`: how this peer is spoken to from now on. False for a copy of one that came already.
    fn arrived(&mut self, way: Way, sum: u32) -> bool {
        let is_copy = way == Way::Link && self.datagrams.contains(&sum);
        self.by_link = way == Way::Link;
        if way == Way::Datagram {
            self.datagrams.rotate_right(1);
            self.datagrams[0] = sum;
        }
        !is_copy
    }
}

/// Whom a timer will declare lost.
fn accused(timer: &Timer<Peer>) -> Option<NodeId> {
    match timer {
        Timer::ChangeSuspectToDown { member_id, .. } => Some(member_id.id),
        _ => None,
    }
}

/// The third node that a message is about.
fn subject(message: &Message<Peer>) -> Option<&Peer> {
    match message {
        Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => Some(target),
        Message::IndirectPing { origin, .. } | Message::ForwardedAck { origin, .. } => Some(origin),
        _ => None,
    }
}

fn stretches(timer: &Timer<Peer>) -> bool {
    matches!(
        timer,
        Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } | Timer::ChangeSuspectToDown { .. }
    )
}

fn seal(bytes: Vec<u8>) -> Bytes {
    envelope::seal(&Packet(bytes)).into()
}
