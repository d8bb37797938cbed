//! Clusters of the real binary on loopback: machines join, share, die and come back. Names no crate of ours but for making
//! pictures; every process that it starts it also ends.

#[path = "../server/client.rs"]
#[expect(dead_code, reason = "shared with the tests of one server, which need more of it")]
mod client;
mod cluster;
mod load;
mod node;
#[path = "../server/picture.rs"]
#[expect(dead_code, reason = "shared with the tests of one server, which need more of it")]
mod picture;
#[path = "../server/procfs.rs"]
#[expect(dead_code, reason = "shared with the tests of one server, which need more of it")]
mod procfs;

mod caches;
mod cold;
mod contract;
mod document;
mod faults;
mod folders;
mod joining;
mod leaving;
mod pair;
mod purging;
mod restart;
mod topologies;
