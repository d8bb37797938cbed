//! Scaling with Lanczos3 in linear light, alpha premultiplied, as one pass over the source rows. Knows no formats.
//!
//! Eight source rows at a time are transposed, made linear and filtered across (eight rows are the lanes of one vector);
//! the result waits in a ring of rows that is filtered down as soon as an output row has all it needs. What it holds is
//! small: eight source rows and a ring of filtered rows, whatever the size of the source.

mod curve;
mod filter;
mod kernel;

use filter::Axis;
pub(crate) use filter::Span;

use crate::raster::{Raster, Samples};

/// Scales; keeps its tables and rings between jobs.
#[derive(Default)]
pub(crate) struct Resizer {
    across: Axis,
    down: Axis,
    lanes: kernel::Lanes,
}

/// What part of the source becomes what part of the scaled image.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Mapping {
    pub(crate) across: Span,
    pub(crate) down: Span,
}

impl Resizer {
    /// Scales `source` by `mapping` into `target`, which takes the source's samples.
    pub(crate) fn run(&mut self, source: &Raster, mapping: Mapping, target: &mut Raster) {
        target.reshape(mapping.across.count, mapping.down.count, source.samples);
        if let (Some(left), Some(top)) = (mapping.across.unscaled(), mapping.down.unscaled()) {
            return copy(source, left, top, target);
        }
        self.across.lay(mapping.across);
        self.down.lay(mapping.down);
        kernel::run(&mut self.lanes, &self.across, &self.down, source, target);
    }
}

fn copy(source: &Raster, left: usize, top: usize, target: &mut Raster) {
    let channels = source.samples.channels();
    let len = target.row_len();
    for y in 0..target.height {
        target.row_mut(y).copy_from_slice(&source.row(top + y)[left * channels..][..len]);
    }
}

/// How samples are read for filtering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Light {
    /// sRGB-coded samples become linear.
    Linear,
    /// Ink is filtered as it is.
    AsIs,
}

impl Light {
    const fn of(samples: Samples) -> Self {
        if samples.is_ink() { Light::AsIs } else { Light::Linear }
    }
}

#[cfg(test)]
mod tests;
