//! What the membership and the hints count, and the limits they show.

use std::time::Duration;

use tutti_base::{NodeState, View};
use tutti_telemetry::{Counter, Family, Gauge, Metrics};

use crate::membership::{Membership, Way};
use crate::{evidence, hints, membership, node};

type ByWord<M> = Family<[(&'static str, &'static str); 1], M>;

/// The metrics.
pub(crate) struct Counts {
    members: ByWord<Gauge>,
    gossip: ByWord<Counter>,
    gossip_bytes: Counter,
    pub(crate) gossip_refused: Counter,
    hints: Counter,
    hint_bytes: Counter,
    pub(crate) hints_heard: Counter,
    pub(crate) hints_refused: Counter,
    pub(crate) changes: Counter,
    doubted: Gauge,
    spared: Gauge,
    late: Gauge,
    stretch: Gauge,
}

impl Counts {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let ms = |span: Duration| span.as_millis() as u64;
        let limits = [
            ("cluster_members", "Largest roster", membership::MEMBERS_MAX as u64),
            ("cluster_gossip_bytes", "Longest packet of the gossip", membership::PACKET_MAX as u64),
            (
                "cluster_suspicion_ms",
                "Longest suspicion of a node that is still heard",
                ms(membership::SUSPICION_MAX),
            ),
            ("cluster_doubt", "Most steps by which time-outs widen", u64::from(membership::DOUBT_MAX)),
            ("cluster_hold_ms", "Longest hold by local evidence", ms(evidence::HOLD_MAX)),
            ("cluster_hint_delta_bytes", "Longest delta of a hint", hints::DELTA_MAX as u64),
            ("cluster_hint_whole_bytes", "Longest whole hint", hints::WHOLE_MAX as u64),
            ("cluster_hint_folders_bytes", "Longest list of folders", hints::FOLDERS_MAX as u64),
            ("cluster_hint_version_bytes", "Longest version in a hint", hints::VERSION_MAX as u64),
            ("cluster_hint_near_peers", "Most peers at the fast pace", hints::NEAR_MAX as u64),
            ("cluster_hint_ahead_bytes", "Most bytes of hints ahead of their time", hints::AHEAD_BURST),
            ("cluster_events", "Most changes kept for a slow follower", node::EVENTS_MAX as u64),
        ];
        for (name, help, value) in limits {
            metrics.limit(name, help, value);
        }
        let by_word = |name: &str, help: &str| metrics.register(name, help, Family::default());
        Self {
            members: metrics.register("cluster_members", "Members, by state", Family::default()),
            gossip: by_word("cluster_gossip_sent", "Packets of the gossip sent, by way"),
            gossip_bytes: metrics.counter("cluster_gossip_sent_bytes", "Bytes of the gossip sent"),
            gossip_refused: metrics.counter("cluster_gossip_refused", "Packets of the gossip refused"),
            hints: metrics.counter("cluster_hints_sent", "Hints sent"),
            hint_bytes: metrics.counter("cluster_hints_sent_bytes", "Bytes of hints sent"),
            hints_heard: metrics.counter("cluster_hints_heard", "Hints that said something new"),
            hints_refused: metrics.counter("cluster_hints_refused", "Hints refused"),
            changes: metrics.counter("cluster_changes", "Changes of members' states"),
            doubted: metrics
                .gauge("cluster_evidence_doubted", "Failures not counted: the own timer was late"),
            spared: metrics
                .gauge("cluster_evidence_spared", "Failures not counted: enough nodes are held out"),
            late: metrics.gauge("cluster_tick_late_microseconds", "How late the last tick was"),
            stretch: metrics.gauge("cluster_timeout_factor", "By how much time-outs are widened"),
        }
    }

    pub(crate) fn gossip(&self, way: Way, bytes: usize) {
        let word = if way == Way::Datagram { "datagram" } else { "link" };
        self.gossip.get_or_create(&[("way", word)]).inc();
        self.gossip_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn hint(&self, bytes: usize) {
        self.hints.inc();
        self.hint_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn ticked(&self, membership: &Membership) {
        let (late, stretch) = membership.lag();
        let (doubted, spared) = membership.discounted();
        self.late.set(late.as_micros() as i64);
        self.stretch.set(stretch.into());
        self.doubted.set(doubted as i64);
        self.spared.set(spared as i64);
    }

    pub(crate) fn shown(&self, view: &View) {
        for state in [NodeState::Up, NodeState::Suspect, NodeState::Down, NodeState::Draining] {
            let count = view.members.iter().filter(|member| member.state == state).count();
            self.members.get_or_create(&[("state", state.word())]).set(count as i64);
        }
    }
}
