//! Filter weights along one axis. Touches no pixels.

use std::sync::LazyLock;

/// What part of a source axis becomes what part of a scaled axis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Span {
    /// Where the cut-out begins, in source pixels.
    pub(crate) from: f64,
    /// How long it is, in source pixels.
    pub(crate) len: f64,
    /// Source pixels there are; nothing outside the cut-out is read.
    pub(crate) limit: usize,
    /// What the cut-out is scaled to.
    pub(crate) scaled: usize,
    /// The first scaled pixel wanted.
    pub(crate) first: usize,
    /// How many are wanted.
    pub(crate) count: usize,
}

impl Span {
    /// The first source pixel, where nothing is scaled and pixels need only be copied.
    pub(super) fn unscaled(&self) -> Option<usize> {
        let exact = self.len == self.scaled as f64 && self.from.fract() == 0.0;
        exact.then_some(self.from as usize + self.first)
    }
}

/// Filter weights for every output position of an axis.
#[derive(Default)]
pub(super) struct Axis {
    /// First source position of each output position.
    pub(super) starts: Vec<u32>,
    /// `taps` weights for each output position; they sum to 1.
    pub(super) weights: Vec<f32>,
    /// Weights a position; even.
    pub(super) taps: usize,
}

/// Lobes of the Lanczos window.
const LOBES: f64 = 3.0;

impl Axis {
    /// Computes the weights of a span: the Lanczos3 kernel stretched over the source pixels that fall together, cut at
    /// the edges of the cut-out and normalised (as Pillow and fast_image_resize do).
    pub(super) fn lay(&mut self, span: Span) {
        let scale = span.len / span.scaled as f64;
        let stretch = scale.max(1.0);
        let support = LOBES * stretch;
        let low = span.from.floor() as usize;
        let high = ((span.from + span.len).ceil() as usize).clamp(low + 1, span.limit);
        let wanted = (support * 2.0).ceil() as usize + 1;
        self.taps = wanted.next_multiple_of(2);
        self.starts.clear();
        self.weights.clear();
        self.weights.resize(self.taps * span.count, 0.0);
        for (at, weights) in self.weights.chunks_exact_mut(self.taps).enumerate() {
            let center = span.from + ((span.first + at) as f64 + 0.5) * scale;
            let start = ((center - support).floor().max(low as f64) as usize).min(high - 1);
            let end = ((center + support).ceil() as usize).clamp(start + 1, high).min(start + self.taps);
            self.starts.push(start as u32);
            fill(&mut weights[..end - start], start, center, stretch);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.starts.len()
    }

    /// Source pixels that one output and its neighbour see together, at most.
    pub(super) fn reach(&self) -> usize {
        let step = self.starts.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max().unwrap_or(0);
        self.taps + step
    }

    pub(super) fn weights(&self, at: usize) -> &[f32] {
        &self.weights[at * self.taps..][..self.taps]
    }
}

fn fill(weights: &mut [f32], start: usize, center: f64, stretch: f64) {
    let table: &[f32] = &KERNEL;
    let mut sum = 0.0;
    for (at, weight) in weights.iter_mut().enumerate() {
        let place = (((start + at) as f64 + 0.5 - center) / stretch).abs() * STEPS as f64;
        let (index, part) = (place as usize, place.fract() as f32);
        // Beyond the last lobe there is nothing.
        *weight = match table.get(index..index + 2) {
            Some([low, high]) => low + (high - low) * part,
            _ => 0.0,
        };
        sum += *weight;
    }
    let by = 1.0 / sum;
    weights.iter_mut().for_each(|weight| *weight *= by);
}

/// Steps of the table a lobe; read with interpolation it is exact to 4e-7.
const STEPS: usize = 1024;

/// Half of the kernel: sines are what laying an axis would spend its time on.
static KERNEL: LazyLock<Vec<f32>> =
    LazyLock::new(|| (0..=3 * STEPS).map(|at| lanczos(at as f64 / STEPS as f64) as f32).collect());

fn lanczos(x: f64) -> f64 {
    if x >= LOBES { 0.0 } else { sinc(x) * sinc(x / LOBES) }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}
