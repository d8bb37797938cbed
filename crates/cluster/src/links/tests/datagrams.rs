//! Datagrams over real sockets.

use super::*;
use crate::DatagramError;
use crate::datagram::PAYLOAD_MAX;

#[test]
fn datagrams_arrive_once_there_is_a_control_link_and_say_whom_they_are_from() {
    run(|clock| async move {
        let (_, nodes) = nodes(2, &clock).await;
        let (from, to) = (&nodes[0], &nodes[1]);
        assert_eq!(from.links.send_datagram(NodeId(1), b"x"), Err(DatagramError::NoKey(NodeId(1))));
        until(|| from.links.is_connected(to.id()) && to.links.is_connected(from.id())).await;
        // The peer may take the key a moment later, and a datagram may be lost.
        let receiving = to.links.clone();
        let arrived = tokio::spawn(async move { receiving.datagrams().receive().await });
        while !arrived.is_finished() {
            from.links.send_datagram(to.id(), &[7; PAYLOAD_MAX]).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (sender, payload) = arrived.await.unwrap().unwrap();
        assert_eq!((sender, payload.len()), (from.id(), PAYLOAD_MAX));
        let long = from.links.send_datagram(to.id(), &[7; PAYLOAD_MAX + 1]);
        assert_eq!(long, Err(DatagramError::TooLong(PAYLOAD_MAX + 1)));
    });
}

#[test]
fn a_stranger_s_datagrams_are_counted_and_dropped() {
    run(|clock| async move {
        let (_, nodes) = nodes(1, &clock).await;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let refused = |reason| format!("tutti_cluster_datagrams_refused_total{{reason=\"{reason}\"}}");
        while nodes[0].counter(&refused("short")) == 0 || nodes[0].counter(&refused("key")) == 0 {
            socket.send_to(b"hello", nodes[0].links.addresses()[0]).unwrap();
            socket.send_to(&[1; 60], nodes[0].links.addresses()[0]).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}
