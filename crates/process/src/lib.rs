//! Child processes: spawning, sandboxed engines, limits, restart policy, privileges. Knows no service and no request.

pub mod engine;
pub mod frame;
pub mod memfd;
mod nursery;
pub mod privilege;
mod raw;
pub mod restart;
pub mod sandbox;

pub use engine::{CallError, Death, Engine, EngineLimits, EngineSpec, Identity, Reply, Wear};
pub use restart::{RestartPolicy, Restarts};
pub use sandbox::{Layer, SandboxReport};
