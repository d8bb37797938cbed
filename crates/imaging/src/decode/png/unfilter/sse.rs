//! The Paeth filter for pixels of three and four bytes with SSE 4.1: the one filter whose pixels wait for each other.
#![expect(unsafe_code, reason = "a function for CPU features that were detected")]

use std::arch::x86_64::*;

/// The proof that this machine has SSE 4.1.
#[derive(Clone, Copy)]
pub(super) struct Sse(());

impl Sse {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("sse4.1").then_some(Self(()))
    }

    /// Undoes the filter of `row`, with `up` above it.
    pub(super) fn paeth<const BPP: usize>(self, row: &mut [u8], up: &[u8]) {
        // SAFETY: `self` proves the feature.
        unsafe { paeth::<BPP>(row, up) }
    }
}

#[expect(clippy::manual_memcpy, reason = "three bytes: a call would cost more than the whole pixel")]
#[target_feature(enable = "sse4.1")]
fn paeth<const BPP: usize>(row: &mut [u8], up: &[u8]) {
    let rows = row.as_chunks_mut::<BPP>().0;
    let ups = &up.as_chunks::<BPP>().0[..rows.len()];
    let byte = _mm_set1_epi16(0xff);
    let (mut left, mut corner) = (_mm_setzero_si128(), _mm_setzero_si128());
    for at in 0..rows.len() {
        let above = pixel::<BPP>(&ups[at]);
        let (a, b) = (_mm_sub_epi16(above, corner), _mm_sub_epi16(left, corner));
        let c = _mm_abs_epi16(_mm_add_epi16(a, b));
        let (a, b) = (_mm_abs_epi16(a), _mm_abs_epi16(b));
        let least = _mm_min_epi16(c, _mm_min_epi16(a, b));
        let near = _mm_blendv_epi8(corner, above, _mm_cmpeq_epi16(least, b));
        let near = _mm_blendv_epi8(near, left, _mm_cmpeq_epi16(least, a));
        left = _mm_and_si128(_mm_add_epi16(pixel::<BPP>(&rows[at]), near), byte);
        corner = above;
        let bytes = _mm_cvtsi128_si32(_mm_packus_epi16(left, left)).to_le_bytes();
        for k in 0..BPP {
            rows[at][k] = bytes[k];
        }
    }
}

/// The bytes of a pixel in the low lanes.
#[inline]
#[expect(clippy::manual_memcpy, reason = "three bytes: a call would cost more than the whole pixel")]
#[target_feature(enable = "sse4.1")]
fn pixel<const BPP: usize>(bytes: &[u8; BPP]) -> __m128i {
    let mut word = [0; 4];
    for at in 0..BPP {
        word[at] = bytes[at];
    }
    _mm_cvtepu8_epi16(_mm_cvtsi32_si128(i32::from_le_bytes(word)))
}
