//! The administration as its users meet it: the socket, the TCP address, the client, the cluster, the users' store, and
//! what must never be shown.

mod cluster;
mod fake;
mod house;
mod page;
mod server;
mod store;
