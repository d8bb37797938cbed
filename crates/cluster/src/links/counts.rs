//! What the links count, and the limits they show.

use tutti_telemetry::{Counter, Family, Gauge, Metrics};

use super::{ACCEPTED_PER_LANE_MAX, ANONYMOUS_MAX, HANDSHAKE_WITHIN, HANDSHAKES_MAX};
use crate::config::Config;
use crate::link::{ANONYMOUS_LIFE, ARRIVING_BYTES_MAX, STALL_MAX};
use crate::{datagram, frame};

type Label = [(&'static str, &'static str); 1];

/// The links' metrics.
#[derive(Clone)]
pub(crate) struct Counts {
    /// Bytes read from and written to peers, TLS included.
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    /// Connections that stand, dialled and accepted.
    pub(crate) links: Gauge,
    /// Bytes that wait to be sent on all connections.
    pub(crate) waiting: Gauge,
    pub(crate) silent: Counter,
    pub(crate) late_timers: Counter,
    pub(crate) casts_lost: Counter,
    pub(crate) datagrams_sent: Counter,
    pub(crate) datagrams_received: Counter,
    calls: Family<Label, Counter>,
    dials: Family<Label, Counter>,
    refused: Family<Label, Counter>,
    datagrams_refused: Family<Label, Counter>,
}

impl Counts {
    pub(crate) fn register(metrics: &Metrics, config: &Config) -> Self {
        let limits = [
            ("link_frame_bytes", "Longest frame of a peer", frame::FRAME_MAX),
            ("link_anonymous_frame_bytes", "Longest frame without a certificate", frame::ANONYMOUS_FRAME_MAX),
            ("link_call_body_bytes", "Longest body of a call", frame::CALL_BODY_MAX),
            ("link_window_bytes", "Most bytes of a streamed answer under way", frame::WINDOW_BYTES as usize),
            ("link_arriving_bytes", "Most bytes of long calls arriving on a connection", ARRIVING_BYTES_MAX),
            ("link_calls", "Most calls under way on a connection", config.calls_max),
            ("link_queue_bytes", "Most bytes waiting on a connection", config.queue_bytes_max),
            ("link_connections", "Most accepted connections", config.connections_max),
            (
                "link_accepted_per_lane",
                "Most accepted connections of one peer and lane",
                ACCEPTED_PER_LANE_MAX,
            ),
            ("link_anonymous", "Most connections without a certificate", ANONYMOUS_MAX),
            ("link_anonymous_seconds", "Longest life of one", ANONYMOUS_LIFE.as_secs() as usize),
            ("link_handshakes", "Most handshakes at once", HANDSHAKES_MAX),
            ("link_handshake_seconds", "Longest handshake", HANDSHAKE_WITHIN.as_secs() as usize),
            ("link_stall_seconds", "Longest wait for a reader of a body", STALL_MAX.as_secs() as usize),
            ("datagram_bytes", "Longest datagram", datagram::DATAGRAM_MAX),
            ("datagram_queue", "Most datagrams waiting to be taken", datagram::QUEUE_MAX),
        ];
        for (name, help, value) in limits {
            metrics.limit(&format!("cluster_{name}"), help, value as u64);
        }
        let by = |name: &str, help: &str| metrics.register(name, help, Family::default());
        Self {
            received: metrics.counter("cluster_link_received_bytes", "Bytes read from peers"),
            sent: metrics.counter("cluster_link_sent_bytes", "Bytes written to peers"),
            links: metrics.gauge("cluster_links", "Connections with peers"),
            waiting: metrics.gauge("cluster_link_waiting_bytes", "Bytes waiting to be sent to peers"),
            silent: metrics.counter("cluster_link_silent", "Calls given up as silent"),
            late_timers: metrics.counter("cluster_link_late_timers", "Timers of this node that were late"),
            casts_lost: metrics.counter("cluster_link_casts_lost", "Casts without a way or without room"),
            datagrams_sent: metrics.counter("cluster_datagrams_sent", "Datagrams sent"),
            datagrams_received: metrics.counter("cluster_datagrams_received", "Datagrams accepted"),
            calls: by("cluster_link_calls", "Calls to peers, by outcome"),
            dials: by("cluster_link_dials", "Dials, by outcome"),
            refused: by("cluster_link_refused", "What peers were refused, by reason"),
            datagrams_refused: by("cluster_datagrams_refused", "Datagrams refused, by reason"),
        }
    }

    pub(crate) fn called(&self, outcome: &'static str) {
        self.calls.get_or_create(&[("outcome", outcome)]).inc();
    }
    pub(crate) fn dialled(&self, outcome: &'static str) {
        self.dials.get_or_create(&[("outcome", outcome)]).inc();
    }
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }
    pub(crate) fn datagram_refused(&self, reason: &'static str) {
        self.datagrams_refused.get_or_create(&[("reason", reason)]).inc();
    }
}
