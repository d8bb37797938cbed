//! The loops of the resizer in plain Rust, for machines without AVX2 and as the measure of the others.

use std::ops::Range;

use super::{BLOCK, Kernel, Light, ROWS, Vector};
use crate::raster::Samples;
use crate::resize::curve::{self, STEPS};
use crate::resize::filter::Axis;

/// For any machine.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Kernel for Plain {
    fn load<const C: usize>(self, rows: [&[u8]; ROWS], samples: Samples, into: &mut [Vector]) {
        let table = tables(Light::of(samples));
        for (x, vector) in into[..rows[0].len()].iter_mut().enumerate() {
            for (lane, row) in vector.iter_mut().zip(rows) {
                *lane = table[usize::from(row[x])];
            }
        }
        if samples.has_alpha() {
            premultiply::<C>(rows, into);
        }
    }

    fn across<const C: usize>(
        self,
        axis: &Axis,
        outputs: Range<usize>,
        left: usize,
        source: &[Vector],
        into: &mut [Vector],
    ) {
        for at in outputs {
            let pixel = &mut into[at * C..][..C];
            let window = &source[(axis.starts[at] as usize - left) * C..][..axis.taps * C];
            pixel.fill([0.0; ROWS]);
            for (tap, weight) in window.chunks_exact(C).zip(axis.weights(at)) {
                for (sum, value) in pixel.iter_mut().flatten().zip(tap.iter().flatten()) {
                    *sum += value * weight;
                }
            }
        }
    }

    fn rows(self, across: &[Vector], ring: &mut [f32], stride: usize) {
        for (row, line) in ring.chunks_exact_mut(stride).enumerate() {
            for (value, vector) in line.iter_mut().zip(across) {
                *value = vector[row];
            }
        }
    }

    fn down(self, weights: &[f32], taps: &[usize], ring: &[f32], line: &mut [f32]) {
        for (at, out) in line.chunks_exact_mut(BLOCK).enumerate() {
            out.fill(0.0);
            for (weight, tap) in weights.iter().zip(taps) {
                let row = &ring[tap + at * BLOCK..][..BLOCK];
                for (sum, value) in out.iter_mut().zip(row) {
                    *sum += value * weight;
                }
            }
        }
    }

    fn finish<const C: usize>(self, line: &[f32], samples: Samples, out: &mut [u8]) {
        let codes = codes(Light::of(samples));
        if !samples.has_alpha() {
            for (byte, value) in out.iter_mut().zip(line) {
                *byte = codes[step(*value)];
            }
            return;
        }
        for (pixel, values) in out.chunks_exact_mut(C).zip(line.chunks_exact(C)) {
            let opacity = values[C - 1].clamp(0.0, 1.0);
            let by = if opacity > 0.0 { 1.0 / opacity } else { 0.0 };
            for (byte, value) in pixel.iter_mut().zip(values) {
                *byte = codes[step(value * by)];
            }
            pixel[C - 1] = (opacity * 255.0 + 0.5) as u8;
        }
    }
}

fn tables(light: Light) -> [f32; 256] {
    std::array::from_fn(|code| {
        let x = code as f32 / 255.0;
        if light == Light::Linear { curve::linear(x) } else { x }
    })
}

pub(super) fn codes(light: Light) -> &'static [u8; STEPS] {
    match light {
        Light::Linear => &curve::CODES,
        Light::AsIs => &curve::PLAIN,
    }
}

/// Alpha is not a light: it is read as it is, and colours are multiplied by it.
#[inline(always)]
pub(super) fn premultiply<const C: usize>(rows: [&[u8]; ROWS], into: &mut [Vector]) {
    for (x, pixel) in into[..rows[0].len()].chunks_exact_mut(C).enumerate() {
        for lane in 0..ROWS {
            let alpha = f32::from(rows[lane][x * C + C - 1]) * (1.0 / 255.0);
            for color in &mut pixel[..C - 1] {
                color[lane] *= alpha;
            }
            pixel[C - 1][lane] = alpha;
        }
    }
}

/// The table index of a value. Adding 2^23 leaves the rounded number in the low bits of the sum, which vectorises where
/// a saturating cast does not.
#[inline(always)]
pub(super) fn step(value: f32) -> usize {
    const MAGIC: f32 = 8_388_608.0;
    let index = value.clamp(0.0, 1.0) * (STEPS - 1) as f32 + MAGIC;
    (index.to_bits() & (STEPS as u32 - 1)) as usize
}
