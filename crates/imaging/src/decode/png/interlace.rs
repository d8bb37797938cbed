//! Adam7 (W3C PNG §8.2): seven smaller images, spread over one.

use super::expand::Expander;
use super::{Header, unfilter};
use crate::error::ImagingError;
use crate::raster::Raster;

/// First column, first row, column step, row step of each pass.
const PASSES: [[usize; 4]; 7] =
    [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

/// Width, height and bytes a row with its filter byte, of one pass; zero where it has no pixels.
fn pass_size(header: Header, [x, y, dx, dy]: [usize; 4]) -> (usize, usize, usize) {
    let width = header.width.saturating_sub(x).div_ceil(dx);
    let height = header.height.saturating_sub(y).div_ceil(dy);
    if width == 0 || height == 0 { (0, 0, 0) } else { (width, height, header.row_bytes(width) + 1) }
}

/// Bytes of all passes.
pub(super) fn size(header: Header) -> usize {
    PASSES.iter().map(|pass| pass_size(header, *pass)).map(|(_, height, stride)| height * stride).sum()
}

/// Unfilters and expands all passes into their places.
pub(super) fn rows(bytes: &mut [u8], expander: &Expander, into: &mut Raster) -> Result<(), ImagingError> {
    let header = expander.header;
    let channels = into.samples.channels();
    let mut line = vec![0; into.row_len()];
    let mut rest = bytes;
    for pass in PASSES {
        let (width, height, stride) = pass_size(header, pass);
        if width == 0 {
            continue;
        }
        let (rows, behind) = rest.split_at_mut(height * stride);
        rest = behind;
        unfilter::rows(rows, stride, header.bits_per_pixel().div_ceil(8))?;
        let [x, y, dx, dy] = pass;
        for (at, row) in rows.chunks_exact(stride).enumerate() {
            let line = &mut line[..width * channels];
            expander.row(&row[1..], line);
            let out = into.row_mut(y + at * dy);
            for (k, pixel) in line.chunks_exact(channels).enumerate() {
                out[(x + k * dx) * channels..][..channels].copy_from_slice(pixel);
            }
        }
    }
    Ok(())
}
