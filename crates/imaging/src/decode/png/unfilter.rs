//! Undoes PNG's row filters (W3C PNG §9) in place. Knows no colour types but their bytes a pixel.

#[cfg(target_arch = "x86_64")]
mod sse;

use super::bad;
use crate::error::ImagingError;

/// Unfilters rows of `stride` bytes, each with its filter type in front, where pixels have `bpp` whole bytes.
pub(super) fn rows(bytes: &mut [u8], stride: usize, bpp: usize) -> Result<(), ImagingError> {
    let mut above: Option<&mut [u8]> = None;
    for row in bytes.chunks_exact_mut(stride) {
        let Some((filter, row)) = row.split_first_mut() else { return Ok(()) };
        let up = above.take();
        match bpp {
            1 => one::<1>(*filter, row, up.as_deref()),
            2 => one::<2>(*filter, row, up.as_deref()),
            3 => one::<3>(*filter, row, up.as_deref()),
            4 => one::<4>(*filter, row, up.as_deref()),
            6 => one::<6>(*filter, row, up.as_deref()),
            _ => one::<8>(*filter, row, up.as_deref()),
        }?;
        above = Some(row);
    }
    Ok(())
}

fn one<const BPP: usize>(filter: u8, row: &mut [u8], up: Option<&[u8]>) -> Result<(), ImagingError> {
    match (filter, up) {
        (0, _) | (2, None) => {}
        (1, _) | (4, None) => sub::<BPP>(row),
        (2, Some(up)) => row.iter_mut().zip(up).for_each(|(byte, up)| *byte = byte.wrapping_add(*up)),
        (3, None) => average_first::<BPP>(row),
        (3, Some(up)) => average::<BPP>(row, up),
        (4, Some(up)) => paeth::<BPP>(row, up),
        _ => return Err(bad("a row has a filter that no PNG has")),
    }
    Ok(())
}

fn sub<const BPP: usize>(row: &mut [u8]) {
    let mut left = [0_u8; BPP];
    for pixel in row.chunks_exact_mut(BPP) {
        for at in 0..BPP {
            left[at] = pixel[at].wrapping_add(left[at]);
        }
        pixel.copy_from_slice(&left);
    }
}

fn average_first<const BPP: usize>(row: &mut [u8]) {
    let mut left = [0_u8; BPP];
    for pixel in row.chunks_exact_mut(BPP) {
        for at in 0..BPP {
            left[at] = pixel[at].wrapping_add(left[at] / 2);
        }
        pixel.copy_from_slice(&left);
    }
}

fn average<const BPP: usize>(row: &mut [u8], up: &[u8]) {
    let mut left = [0_u8; BPP];
    for (pixel, up) in row.chunks_exact_mut(BPP).zip(up.chunks_exact(BPP)) {
        for at in 0..BPP {
            left[at] = pixel[at].wrapping_add(((u16::from(left[at]) + u16::from(up[at])) / 2) as u8);
        }
        pixel.copy_from_slice(&left);
    }
}

fn paeth<const BPP: usize>(row: &mut [u8], up: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if (BPP == 3 || BPP == 4)
        && let Some(sse) = sse::Sse::detect()
    {
        return sse.paeth::<BPP>(row, up);
    }
    paeth_plain::<BPP>(row, up);
}

fn paeth_plain<const BPP: usize>(row: &mut [u8], up: &[u8]) {
    let mut left = [0_i16; BPP];
    let mut corner = [0_i16; BPP];
    for (pixel, up) in row.chunks_exact_mut(BPP).zip(up.chunks_exact(BPP)) {
        for at in 0..BPP {
            let (a, b, c) = (left[at], i16::from(up[at]), corner[at]);
            let (pa, pb) = (b - c, a - c);
            let pc = (pa + pb).abs();
            let (pa, pb) = (pa.abs(), pb.abs());
            let near = if pb <= pc { b } else { c };
            let least = pb.min(pc);
            let predicted = if pa <= least { a } else { near };
            let value = pixel[at].wrapping_add(predicted as u8);
            pixel[at] = value;
            left[at] = i16::from(value);
            corner[at] = b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_paeth_gives_what_the_plain_one_gives() {
        fn check<const BPP: usize>(seed: u32) {
            let mut state = seed;
            let mut random = |len: usize| -> Vec<u8> {
                (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (state >> 24) as u8
                    })
                    .collect()
            };
            for pixels in [1, 2, 7, 64] {
                let (row, up) = (random(pixels * BPP), random(pixels * BPP));
                let (mut fast, mut plain) = (row.clone(), row);
                paeth::<BPP>(&mut fast, &up);
                paeth_plain::<BPP>(&mut plain, &up);
                assert_eq!(fast, plain, "{BPP} bytes a pixel, {pixels} pixels");
            }
        }
        (1..20).for_each(check::<3>);
        (1..20).for_each(check::<4>);
    }
}
