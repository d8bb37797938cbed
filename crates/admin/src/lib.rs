//! Administration: `/api/v1` over a socket in the data directory, read-only over TCP, and the client for the first. The data
//! plane lives without it.

pub mod client;
pub mod console;
pub mod problem;
pub mod user_store;

mod access;
mod api;
mod config;
mod counts;
mod listen;
mod openapi;
mod page;
mod patience;
mod serve;
mod streams;

pub use client::{Client, ClientError};
pub use config::{Config, SOCKET_NAME};
pub use console::{Console, Readiness};
pub use listen::{ListenError, Listeners, Tcp};
pub use serve::{Admin, Parts};
