//! The bytes of the gossip: fixed-size records, big endian, in an envelope of kind 80. Decides only what is well formed.

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use serde::{Deserialize, Serialize};
use tutti_base::NodeId;
use tutti_base::envelope::Versioned;

use super::peer::Peer;

/// The longest packet of the gossip before its envelope, in bytes: a datagram that crosses every network whole.
pub const PACKET_MAX: usize = 1100;

const PEER_LEN: usize = 16;
const MEMBER_LEN: usize = PEER_LEN + 3;
/// Sender, its suspicion count, receiver.
const HEAD_LEN: usize = 2 * PEER_LEN + 2;

const PING: u8 = 1;
const ACK: u8 = 2;
const PING_REQ: u8 = 3;
const INDIRECT_PING: u8 = 4;
const INDIRECT_ACK: u8 = 5;
const FORWARDED_ACK: u8 = 6;
const ANNOUNCE: u8 = 7;
const FEED: u8 = 8;
const GOSSIP: u8 = 9;
const BROADCAST: u8 = 10;
const TURN_UNDEAD: u8 = 11;

/// One packet of the gossip on its way.
#[derive(Serialize, Deserialize)]
pub(crate) struct Packet(pub(crate) Vec<u8>);

impl Versioned for Packet {
    const KIND: u8 = 80;
    const VERSION: u16 = 1;
}

/// Why a packet of the gossip is not read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// It ends too early.
    #[error("a packet of the gossip ends too early")]
    Short,
    /// There is no room for it.
    #[error("a packet of the gossip is full")]
    Full,
    /// A byte that means nothing.
    #[error("{0} is not a message or state of the gossip")]
    Word(u8),
}

/// Writes and reads foca's messages.
pub(crate) struct Wire;

impl foca::Codec<Peer> for Wire {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Peer>, mut buf: impl BufMut) -> Result<(), WireError> {
        if buf.remaining_mut() < HEAD_LEN + 2 + PEER_LEN {
            return Err(WireError::Full);
        }
        put_peer(&header.src, &mut buf);
        buf.put_u16(header.src_incarnation);
        put_peer(&header.dst, &mut buf);
        put_message(&header.message, &mut buf);
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Peer>, WireError> {
        if buf.remaining() < HEAD_LEN + 1 {
            return Err(WireError::Short);
        }
        let src = get_peer(&mut buf);
        let src_incarnation = buf.get_u16();
        let dst = get_peer(&mut buf);
        Ok(Header { src, src_incarnation, dst, message: get_message(&mut buf)? })
    }

    fn encode_member(&mut self, member: &Member<Peer>, mut buf: impl BufMut) -> Result<(), WireError> {
        if buf.remaining_mut() < MEMBER_LEN {
            return Err(WireError::Full);
        }
        put_peer(member.id(), &mut buf);
        buf.put_u16(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Peer>, WireError> {
        if buf.remaining() < MEMBER_LEN {
            return Err(WireError::Short);
        }
        let peer = get_peer(&mut buf);
        let incarnation = buf.get_u16();
        let state = match buf.get_u8() {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            other => return Err(WireError::Word(other)),
        };
        Ok(Member::new(peer, incarnation, state))
    }
}

fn put_peer(peer: &Peer, buf: &mut impl BufMut) {
    buf.put_u64(peer.id.0);
    buf.put_u64(peer.run);
}

fn get_peer(buf: &mut impl Buf) -> Peer {
    let id = NodeId(buf.get_u64());
    Peer::new(id, buf.get_u64())
}

fn put_message(message: &Message<Peer>, buf: &mut impl BufMut) {
    let (word, number, peer) = match message {
        Message::Ping(number) => (PING, Some(number), None),
        Message::Ack(number) => (ACK, Some(number), None),
        Message::PingReq { target, probe_number } => (PING_REQ, Some(probe_number), Some(target)),
        Message::IndirectPing { origin, probe_number } => (INDIRECT_PING, Some(probe_number), Some(origin)),
        Message::IndirectAck { target, probe_number } => (INDIRECT_ACK, Some(probe_number), Some(target)),
        Message::ForwardedAck { origin, probe_number } => (FORWARDED_ACK, Some(probe_number), Some(origin)),
        Message::Announce => (ANNOUNCE, None, None),
        Message::Feed => (FEED, None, None),
        Message::Gossip => (GOSSIP, None, None),
        Message::Broadcast => (BROADCAST, None, None),
        Message::TurnUndead => (TURN_UNDEAD, None, None),
    };
    buf.put_u8(word);
    if let Some(number) = number {
        buf.put_u8(*number);
    }
    if let Some(peer) = peer {
        put_peer(peer, buf);
    }
}

fn get_message(buf: &mut impl Buf) -> Result<Message<Peer>, WireError> {
    let word = buf.get_u8();
    let needs = match word {
        PING | ACK => 1,
        PING_REQ | INDIRECT_PING | INDIRECT_ACK | FORWARDED_ACK => 1 + PEER_LEN,
        _ => 0,
    };
    if buf.remaining() < needs {
        return Err(WireError::Short);
    }
    let probe_number = if needs > 0 { buf.get_u8() } else { 0 };
    Ok(match word {
        PING => Message::Ping(probe_number),
        ACK => Message::Ack(probe_number),
        PING_REQ => Message::PingReq { target: get_peer(buf), probe_number },
        INDIRECT_PING => Message::IndirectPing { origin: get_peer(buf), probe_number },
        INDIRECT_ACK => Message::IndirectAck { target: get_peer(buf), probe_number },
        FORWARDED_ACK => Message::ForwardedAck { origin: get_peer(buf), probe_number },
        ANNOUNCE => Message::Announce,
        FEED => Message::Feed,
        GOSSIP => Message::Gossip,
        BROADCAST => Message::Broadcast,
        TURN_UNDEAD => Message::TurnUndead,
        other => return Err(WireError::Word(other)),
    })
}

/// One packet, taken apart.
pub(crate) struct Parsed {
    /// From whom, to whom, what.
    pub(crate) header: Header<Peer>,
    /// News of members that it carries.
    pub(crate) news: Vec<Member<Peer>>,
}

/// Takes a packet apart. What follows the news is not looked at: this cluster sends nothing there.
pub(crate) fn parse(mut bytes: &[u8]) -> Result<Parsed, WireError> {
    use foca::Codec;
    let header = Wire.decode_header(&mut bytes)?;
    let mut news = Vec::new();
    if bytes.remaining() >= 2 {
        let count = bytes.get_u16();
        for _ in 0..count {
            news.push(Wire.decode_member(&mut bytes)?);
        }
    }
    Ok(Parsed { header, news })
}

/// Puts a packet together: the opposite of [`parse`]. News beyond [`PACKET_MAX`] are left off.
pub(crate) fn build(header: &Header<Peer>, news: &[Member<Peer>]) -> Vec<u8> {
    use foca::Codec;
    let mut out = Vec::with_capacity(HEAD_LEN + 4 + PEER_LEN + news.len() * MEMBER_LEN);
    Wire.encode_header(header, &mut out).expect("a vector grows");
    let room = (PACKET_MAX - out.len().min(PACKET_MAX)).saturating_sub(2) / MEMBER_LEN;
    let news = &news[..news.len().min(room)];
    // Foca refuses news on an announcement, and a single byte behind any header.
    if !matches!(header.message, Message::Announce) {
        out.put_u16(news.len() as u16);
        for member in news {
            Wire.encode_member(member, &mut out).expect("a vector grows");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use foca::Codec;

    use super::*;

    fn messages() -> Vec<Message<Peer>> {
        let (peer, probe_number) = (Peer::new(NodeId(9), 7), 3);
        vec![
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq { target: peer, probe_number },
            Message::IndirectPing { origin: peer, probe_number },
            Message::IndirectAck { target: peer, probe_number },
            Message::ForwardedAck { origin: peer, probe_number },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ]
    }

    fn header(message: Message<Peer>) -> Header<Peer> {
        Header { src: Peer::new(NodeId(1), 2), src_incarnation: 3, dst: Peer::new(NodeId(4), 5), message }
    }

    #[test]
    fn every_message_is_read_as_it_was_written() {
        for message in messages() {
            let mut out = Vec::new();
            Wire.encode_header(&header(message.clone()), &mut out).unwrap();
            assert_eq!(Wire.decode_header(&out[..]), Ok(header(message)));
            for cut in 0..out.len() {
                assert!(Wire.decode_header(&out[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_packet_holds_no_more_news_than_fit() {
        let news = vec![Member::new(Peer::new(NodeId(3), 1), 2, State::Suspect); 100];
        let bytes = build(&header(Message::Gossip), &news);
        assert!(bytes.len() <= PACKET_MAX && bytes.len() > PACKET_MAX - MEMBER_LEN);
        let parsed = parse(&bytes).unwrap();
        assert!(parsed.news.len() > 50 && parsed.news.iter().all(|member| *member == news[0]));
    }

    #[test]
    fn random_bytes_are_refused_and_never_panic() {
        use tutti_base::rng::{Rng, SplitMix};
        let mut rng = SplitMix::new(1);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..rng.below(90)).map(|_| rng.next() as u8).collect();
            let _ = parse(&bytes);
        }
    }
}
