//! Nodes and what joins them: identity, CA, tokens, authenticated links, membership, hints, the view. Knows no requests.

pub mod authority;
pub mod config;
pub mod datagram;
mod evidence;
mod frame;
pub mod hints;
pub mod identity;
pub mod join;
mod link;
pub mod links;
pub mod membership;
pub mod node;
#[cfg(test)]
mod testing;
mod tls;
pub mod token;
pub mod view;

pub use authority::{Authority, Certificate};
pub use config::{Config, ConfigError};
pub use datagram::{DatagramError, Datagrams};
pub use identity::{ClusterId, Identity, KnownPeer};
pub use links::{LinkEvents, Links, Outside};
pub use token::{Token, TokenError};
