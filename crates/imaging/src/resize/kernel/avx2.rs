//! The loops of the resizer for AVX2 with FMA. Every function here may run only behind [`Avx2::detect`].
#![expect(unsafe_code, reason = "functions for CPU features that were detected, and vector loads and stores")]

use std::arch::x86_64::*;
use std::ops::Range;

use super::plain::{codes, premultiply, step};
use super::{BLOCK, Kernel, Light, ROWS, Vector};
use crate::raster::Samples;
use crate::resize::curve;
use crate::resize::filter::Axis;

/// The proof that this machine has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

impl Kernel for Avx2 {
    fn load<const C: usize>(self, rows: [&[u8]; ROWS], samples: Samples, into: &mut [Vector]) {
        // SAFETY: `self` proves the features.
        unsafe {
            match Light::of(samples) {
                Light::Linear => load::<true>(rows, into),
                Light::AsIs => load::<false>(rows, into),
            }
            if samples.has_alpha() {
                multiply::<C>(rows, into);
            }
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
        // SAFETY: `self` proves the features.
        unsafe { across::<C>(axis, outputs, left, source, into) }
    }
    fn rows(self, across: &[Vector], ring: &mut [f32], stride: usize) {
        // SAFETY: `self` proves the features.
        unsafe { rows(across, ring, stride) }
    }
    fn down(self, weights: &[f32], taps: &[usize], ring: &[f32], line: &mut [f32]) {
        // SAFETY: `self` proves the features.
        unsafe { down(weights, taps, ring, line) }
    }
    fn finish<const C: usize>(self, line: &[f32], samples: Samples, out: &mut [u8]) {
        // SAFETY: `self` proves the features.
        unsafe { finish::<C>(self, line, samples, out) }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn get(from: &[f32; 8]) -> __m256 {
    // SAFETY: the reference is to eight floats; no alignment is needed.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn put(into: &mut [f32; 8], value: __m256) {
    // SAFETY: the reference is to eight floats; no alignment is needed.
    unsafe { _mm256_storeu_ps(into.as_mut_ptr(), value) }
}

#[target_feature(enable = "avx2,fma")]
fn load<const LINEAR: bool>(rows: [&[u8]; ROWS], into: &mut [Vector]) {
    let len = rows[0].len();
    let count = len / 8;
    let whole = |row: usize| &rows[row].as_chunks::<8>().0[..count];
    let (a, b, c, d) = (whole(0), whole(1), whole(2), whole(3));
    let (e, f, g, h) = (whole(4), whole(5), whole(6), whole(7));
    let (blocks, rest) = into.as_chunks_mut::<8>();
    for at in 0..count {
        let words = [
            u64::from_le_bytes(a[at]),
            u64::from_le_bytes(b[at]),
            u64::from_le_bytes(c[at]),
            u64::from_le_bytes(d[at]),
            u64::from_le_bytes(e[at]),
            u64::from_le_bytes(f[at]),
            u64::from_le_bytes(g[at]),
            u64::from_le_bytes(h[at]),
        ];
        transposed::<LINEAR>(words, &mut blocks[at]);
    }
    let done = count * 8;
    if done < len {
        let mut words = [0_u64; ROWS];
        for (word, row) in words.iter_mut().zip(rows) {
            for (at, byte) in row[done..].iter().enumerate() {
                *word |= u64::from(*byte) << (8 * at);
            }
        }
        let mut block = [[0.0; ROWS]; 8];
        transposed::<LINEAR>(words, &mut block);
        let into = if count < blocks.len() { &mut blocks[count][..] } else { rest };
        into[..len - done].copy_from_slice(&block[..len - done]);
    }
}

/// An 8 x 8 block of bytes on its side, as floats, linear where asked for.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transposed<const LINEAR: bool>(words: [u64; ROWS], into: &mut [Vector; 8]) {
    let row = |at: usize| _mm_cvtsi64_si128(words[at] as i64);
    let ab = _mm_unpacklo_epi8(row(0), row(1));
    let cd = _mm_unpacklo_epi8(row(2), row(3));
    let ef = _mm_unpacklo_epi8(row(4), row(5));
    let gh = _mm_unpacklo_epi8(row(6), row(7));
    let (abcd_low, abcd_high) = (_mm_unpacklo_epi16(ab, cd), _mm_unpackhi_epi16(ab, cd));
    let (efgh_low, efgh_high) = (_mm_unpacklo_epi16(ef, gh), _mm_unpackhi_epi16(ef, gh));
    let pairs = [
        _mm_unpacklo_epi32(abcd_low, efgh_low),
        _mm_unpackhi_epi32(abcd_low, efgh_low),
        _mm_unpacklo_epi32(abcd_high, efgh_high),
        _mm_unpackhi_epi32(abcd_high, efgh_high),
    ];
    for at in 0..4 {
        put(&mut into[2 * at], lights::<LINEAR>(pairs[at]));
        put(&mut into[2 * at + 1], lights::<LINEAR>(_mm_unpackhi_epi64(pairs[at], pairs[at])));
    }
}

/// Eight bytes as floats. The division by 255 is in the coefficients.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lights<const LINEAR: bool>(bytes: __m128i) -> __m256 {
    const BY: f32 = 1.0 / 255.0;
    let x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
    if !LINEAR {
        return _mm256_mul_ps(x, _mm256_set1_ps(BY));
    }
    let [a, b, c, d] = curve::FIT;
    let cubic = _mm256_fmadd_ps(x, _mm256_set1_ps(d * BY * BY * BY * BY), _mm256_set1_ps(c * BY * BY * BY));
    let square = _mm256_fmadd_ps(x, cubic, _mm256_set1_ps(b * BY * BY));
    _mm256_mul_ps(x, _mm256_fmadd_ps(x, square, _mm256_set1_ps(a * BY)))
}

#[target_feature(enable = "avx2,fma")]
fn multiply<const C: usize>(rows: [&[u8]; ROWS], into: &mut [Vector]) {
    premultiply::<C>(rows, into);
}

// Indices rather than zipped iterators in what follows: without LTO those are calls.
#[target_feature(enable = "avx2,fma")]
fn across<const C: usize>(
    axis: &Axis,
    outputs: Range<usize>,
    left: usize,
    source: &[Vector],
    into: &mut [Vector],
) {
    let half = axis.taps / 2;
    let source = source.as_chunks::<C>().0;
    let pixels = &mut into.as_chunks_mut::<C>().0[..axis.starts.len()];
    let all = axis.weights.as_chunks::<2>().0;
    for at in outputs {
        let from = axis.starts[at] as usize - left;
        let window = &source[from..from + axis.taps].as_chunks::<2>().0[..half];
        let weights = &all[at * half..][..half];
        // Two sums a channel, since one would wait for itself.
        let mut even = [_mm256_setzero_ps(); C];
        let mut odd = [_mm256_setzero_ps(); C];
        for tap in 0..half {
            let (first, second) = (_mm256_set1_ps(weights[tap][0]), _mm256_set1_ps(weights[tap][1]));
            for c in 0..C {
                even[c] = _mm256_fmadd_ps(get(&window[tap][0][c]), first, even[c]);
                odd[c] = _mm256_fmadd_ps(get(&window[tap][1][c]), second, odd[c]);
            }
        }
        for c in 0..C {
            put(&mut pixels[at][c], _mm256_add_ps(even[c], odd[c]));
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn rows(across: &[Vector], ring: &mut [f32], stride: usize) {
    let blocks = across.as_chunks::<8>().0;
    let ring = ring.as_chunks_mut::<8>().0;
    for at in 0..blocks.len() {
        let columns = transpose(&blocks[at]);
        for row in 0..ROWS {
            put(&mut ring[row * (stride / 8) + at], columns[row]);
        }
    }
}

/// An 8 x 8 block of floats on its side.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(block: &[Vector; 8]) -> [__m256; 8] {
    let pair = |a: usize| {
        let (x, y) = (get(&block[a]), get(&block[a + 1]));
        (_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y))
    };
    let ((a0, a1), (b0, b1), (c0, c1), (d0, d1)) = (pair(0), pair(2), pair(4), pair(6));
    let low = [
        _mm256_shuffle_ps::<0x44>(a0, b0),
        _mm256_shuffle_ps::<0xee>(a0, b0),
        _mm256_shuffle_ps::<0x44>(a1, b1),
        _mm256_shuffle_ps::<0xee>(a1, b1),
    ];
    let high = [
        _mm256_shuffle_ps::<0x44>(c0, d0),
        _mm256_shuffle_ps::<0xee>(c0, d0),
        _mm256_shuffle_ps::<0x44>(c1, d1),
        _mm256_shuffle_ps::<0xee>(c1, d1),
    ];
    [
        _mm256_permute2f128_ps::<0x20>(low[0], high[0]),
        _mm256_permute2f128_ps::<0x20>(low[1], high[1]),
        _mm256_permute2f128_ps::<0x20>(low[2], high[2]),
        _mm256_permute2f128_ps::<0x20>(low[3], high[3]),
        _mm256_permute2f128_ps::<0x31>(low[0], high[0]),
        _mm256_permute2f128_ps::<0x31>(low[1], high[1]),
        _mm256_permute2f128_ps::<0x31>(low[2], high[2]),
        _mm256_permute2f128_ps::<0x31>(low[3], high[3]),
    ]
}

#[target_feature(enable = "avx2,fma")]
fn down(weights: &[f32], taps: &[usize], ring: &[f32], line: &mut [f32]) {
    let blocks = line.as_chunks_mut::<BLOCK>().0;
    let ring = ring.as_chunks::<BLOCK>().0;
    let taps = &taps[..weights.len()];
    for at in 0..blocks.len() {
        let mut sums = [_mm256_setzero_ps(); BLOCK / 8];
        for tap in 0..taps.len() {
            let weight = _mm256_set1_ps(weights[tap]);
            let row = ring[taps[tap] / BLOCK + at].as_chunks::<8>().0;
            for part in 0..BLOCK / 8 {
                sums[part] = _mm256_fmadd_ps(get(&row[part]), weight, sums[part]);
            }
        }
        let out = blocks[at].as_chunks_mut::<8>().0;
        for part in 0..BLOCK / 8 {
            put(&mut out[part], sums[part]);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn finish<const C: usize>(proof: Avx2, line: &[f32], samples: Samples, out: &mut [u8]) {
    if samples.has_alpha() {
        return finish_alpha::<C>(proof, line, samples, out);
    }
    let codes = codes(Light::of(samples));
    let (blocks, rest) = out.as_chunks_mut::<8>();
    let values = &line.as_chunks::<8>().0[..blocks.len()];
    let done = blocks.len() * 8;
    for at in 0..blocks.len() {
        for lane in 0..8 {
            blocks[at][lane] = codes[step(values[at][lane])];
        }
    }
    for at in 0..rest.len() {
        rest[at] = codes[step(line[done + at])];
    }
}

#[target_feature(enable = "avx2,fma")]
fn finish_alpha<const C: usize>(_: Avx2, line: &[f32], samples: Samples, out: &mut [u8]) {
    super::plain::Plain.finish::<C>(line, samples, out);
}
