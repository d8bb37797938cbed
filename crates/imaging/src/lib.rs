//! Pixels: probe, geometry, decode, operations, encode. Pure and synchronous; knows no HTTP, no files, no clock.
//!
//! [`probe::probe`] is safe Rust and the only parser that the server process may run. Everything behind
//! [`render::Renderer`] calls C codecs and belongs into a sandboxed engine.

pub mod cost;
pub mod error;
pub mod geometry;
pub mod probe;
pub mod render;
pub mod spec;

mod blur;
mod canvas;
mod color;
mod decode;
mod encode;
mod metadata;
mod orient;
mod raster;
mod resize;

pub use cost::{Cost, estimate};
pub use error::ImagingError;
pub use geometry::Geometry;
pub use probe::{ImageFacts, ProbeRead, SourceFormat, probe};
pub use render::{Rendered, Renderer, output_format};
pub use spec::Spec;
