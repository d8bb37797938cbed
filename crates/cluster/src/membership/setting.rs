//! How foca is set up and what it wants done. Holds no state of the gossip.

use std::num::{NonZeroU8, NonZeroU32, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams, Timer};

use super::peer::Peer;
use super::swim::{FAN_OUT, GOSSIP_EVERY, PROBE_EVERY, PROBE_WITHIN, SUSPICION};
use super::wire::PACKET_MAX;

/// The parameters for a cluster of `size`. News are told more often than foca's own rule says: they are small, and small
/// clusters lose packets too.
pub(super) fn config(size: u32) -> Config {
    let size = NonZeroU32::new(size.max(1)).expect("at least one");
    let lan = Config::new_lan(size);
    let count = |number: usize| NonZeroUsize::new(number).expect("a count above zero");
    let every = |frequency, number| Some(PeriodicParams { frequency, num_members: count(number) });
    Config {
        probe_period: PROBE_EVERY,
        probe_rtt: PROBE_WITHIN,
        num_indirect_probes: count(FAN_OUT),
        max_transmissions: NonZeroU8::new(lan.max_transmissions.get().saturating_add(6)).expect("above zero"),
        suspect_to_down_after: SUSPICION.mul_f64(f64::from(size.get()).log10().max(1.0)),
        remove_down_after: None,
        max_packet_size: count(PACKET_MAX),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(30), 1),
        // Members that are down are announced to by `Membership`, which knows the roster.
        periodic_announce_to_down_members: None,
        periodic_gossip: every(GOSSIP_EVERY, FAN_OUT),
    }
}

/// What foca wants done.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) sends: Vec<(Peer, Vec<u8>)>,
    pub(super) timers: Vec<(Timer<Peer>, Duration)>,
    /// Whether a member answered this run of the node.
    pub(super) is_known: bool,
}

impl foca::Runtime<Peer> for Outbox {
    /// States are read off foca after every step instead.
    fn notify(&mut self, notification: foca::Notification<'_, Peer>) {
        match notification {
            foca::Notification::Active => self.is_known = true,
            foca::Notification::Idle | foca::Notification::Rejoin(_) | foca::Notification::Defunct => {
                self.is_known = false;
            }
            _ => {}
        }
    }
    fn send_to(&mut self, to: Peer, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }
    fn submit_after(&mut self, event: Timer<Peer>, after: Duration) {
        self.timers.push((event, after));
    }
}
