//! The order of work of the resizer: which rows are loaded, filtered across, kept and filtered down. The loops
//! themselves are in one file for AVX2 and one for any machine; both give the same picture within rounding.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;

use std::ops::Range;

use super::Light;
use super::filter::Axis;
use crate::raster::{Raster, Samples};

/// Rows that are filtered at once: the lanes of one vector.
const ROWS: usize = 8;
/// Samples of a row that are filtered down at once.
const BLOCK: usize = 64;
/// Source pixels that are loaded and filtered across at once, so that their vectors never leave the nearest cache.
const CHUNK: usize = 128;

/// One sample of eight rows.
type Vector = [f32; ROWS];

/// Working memory, kept between jobs.
#[derive(Default)]
pub(super) struct Lanes {
    /// A chunk of eight source rows, transposed and linear: one vector a sample.
    source: Vec<Vector>,
    /// The same rows filtered across.
    across: Vec<Vector>,
    /// Filtered rows, as rows again; row `y` of the source at `y % ring rows`.
    ring: Vec<f32>,
    /// One output row.
    line: Vec<f32>,
    /// Where each tap of the current output row lies in the ring.
    taps: Vec<usize>,
}

/// The loops, for `C` interleaved channels.
trait Kernel: Copy {
    /// Transposes eight rows into vectors and makes colours linear; alpha is read as it is.
    fn load<const C: usize>(self, rows: [&[u8]; ROWS], samples: Samples, into: &mut [Vector]);
    /// Filters the output columns `outputs` of eight rows; `left` is the source column of the first vector.
    fn across<const C: usize>(
        self,
        axis: &Axis,
        outputs: Range<usize>,
        left: usize,
        source: &[Vector],
        into: &mut [Vector],
    );
    /// Lays filtered vectors down as rows of the ring.
    fn rows(self, across: &[Vector], ring: &mut [f32], stride: usize);
    /// Sums ring rows by weight.
    fn down(self, weights: &[f32], taps: &[usize], ring: &[f32], line: &mut [f32]);
    /// Divides by alpha, and gives code values.
    fn finish<const C: usize>(self, line: &[f32], samples: Samples, out: &mut [u8]);
}

/// Filters `source` along both axes into `target`.
pub(super) fn run(lanes: &mut Lanes, across: &Axis, down: &Axis, source: &Raster, target: &mut Raster) {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = avx2::Avx2::detect() {
        return by_channels(kernel, lanes, across, down, source, target);
    }
    run_plain(lanes, across, down, source, target);
}

/// The same on any machine.
pub(super) fn run_plain(lanes: &mut Lanes, across: &Axis, down: &Axis, source: &Raster, target: &mut Raster) {
    by_channels(plain::Plain, lanes, across, down, source, target);
}

fn by_channels(
    kernel: impl Kernel,
    lanes: &mut Lanes,
    across: &Axis,
    down: &Axis,
    source: &Raster,
    target: &mut Raster,
) {
    match source.samples.channels() {
        1 => filter::<1>(kernel, lanes, across, down, source, target),
        2 => filter::<2>(kernel, lanes, across, down, source, target),
        3 => filter::<3>(kernel, lanes, across, down, source, target),
        _ => filter::<4>(kernel, lanes, across, down, source, target),
    }
}

fn filter<const C: usize>(
    kernel: impl Kernel,
    lanes: &mut Lanes,
    across: &Axis,
    down: &Axis,
    source: &Raster,
    target: &mut Raster,
) {
    let samples = source.samples;
    let stride = (across.count() * C).next_multiple_of(BLOCK);
    let rows = (down.taps + 2 * ROWS).next_multiple_of(ROWS);
    lanes.lay((CHUNK + 2 * across.reach()) * C, stride, rows);
    let first = down.starts.first().map_or(0, |start| *start as usize);
    let mut next = first - first % ROWS;
    for y in 0..down.count() {
        let start = down.starts[y] as usize;
        while next < (start + down.taps).min(source.height) {
            // Below the last row, that row is repeated; its copies weigh nothing.
            let lines = std::array::from_fn(|at| source.row((next + at).min(source.height - 1)));
            eight_rows::<C>(kernel, lanes, across, lines, samples);
            kernel.rows(&lanes.across, &mut lanes.ring[next % rows * stride..][..ROWS * stride], stride);
            next += ROWS;
        }
        lanes.taps.clear();
        lanes.taps.extend((start..start + down.taps).map(|row| row % rows * stride));
        kernel.down(down.weights(y), &lanes.taps, &lanes.ring, &mut lanes.line);
        kernel.finish::<C>(&lanes.line, samples, target.row_mut(y));
    }
}

/// Loads eight rows chunk by chunk and filters across what each chunk completes; the end of a chunk that the next
/// outputs need again is moved to the front.
fn eight_rows<const C: usize>(
    kernel: impl Kernel,
    lanes: &mut Lanes,
    across: &Axis,
    lines: [&[u8]; ROWS],
    samples: Samples,
) {
    let width = lines[0].len() / C;
    let mut done = 0;
    let mut left = across.starts.first().map_or(0, |start| *start as usize);
    let mut loaded = left;
    while done < across.count() {
        let upto = (loaded + CHUNK).min(width);
        let part = std::array::from_fn(|at| &lines[at][loaded * C..upto * C]);
        kernel.load::<C>(part, samples, &mut lanes.source[(loaded - left) * C..]);
        loaded = upto;
        // At the right edge the taps that remain weigh nothing, whatever lies there.
        let ready = |start: &u32| loaded == width || *start as usize + across.taps <= loaded;
        let end = done + across.starts[done..].iter().take_while(|start| ready(start)).count();
        kernel.across::<C>(across, done..end, left, &lanes.source, &mut lanes.across);
        done = end;
        let keep = across.starts.get(done).map_or(loaded, |start| (*start as usize).min(loaded));
        lanes.source.copy_within((keep - left) * C..(loaded - left) * C, 0);
        left = keep;
        // What lies between is needed by none.
        loaded = loaded.max(left);
    }
}

impl Lanes {
    /// Sizes everything; what weighs nothing must still be a number, hence the zeroes.
    fn lay(&mut self, source: usize, stride: usize, rows: usize) {
        self.source.clear();
        self.source.resize(source, [0.0; ROWS]);
        self.across.clear();
        self.across.resize(stride, [0.0; ROWS]);
        self.ring.clear();
        self.ring.resize(rows * stride, 0.0);
        self.line.resize(stride, 0.0);
    }
}
