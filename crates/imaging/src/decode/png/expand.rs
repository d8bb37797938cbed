//! From a PNG's rows of any depth and colour type to 8-bit samples. Rows in, rows out.

use super::{Content, Header, bad};
use crate::error::ImagingError;

/// Colours and their opacity.
pub(super) struct Palette([[u8; 4]; 256]);

impl Palette {
    /// Parses a PLTE body; none when it is no list of colours. Entries that are missing are black.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        if body.is_empty() || !body.len().is_multiple_of(3) || body.len() > 256 * 3 {
            return None;
        }
        let mut colors = [[0, 0, 0, 255]; 256];
        for (color, entry) in colors.iter_mut().zip(body.chunks_exact(3)) {
            color[..3].copy_from_slice(entry);
        }
        Some(Self(colors))
    }

    fn with_alpha(mut self, alpha: Option<&[u8]>) -> Self {
        for (color, alpha) in self.0.iter_mut().zip(alpha.unwrap_or_default()) {
            color[3] = *alpha;
        }
        self
    }
}

/// Turns one row at a time into 8-bit samples.
pub(super) struct Expander {
    pub(super) header: Header,
    palette: Option<Palette>,
    /// The one colour that is transparent, as 16-bit samples.
    transparent: Option<[u16; 3]>,
    alpha: bool,
}

impl Expander {
    pub(super) fn of(header: Header, content: &Content<'_>) -> Result<Self, ImagingError> {
        let palette = match (header.color, &content.palette) {
            (3, None) => return Err(bad("it has no palette")),
            (3, Some(palette)) => Some(Palette(palette.0).with_alpha(content.transparent)),
            _ => None,
        };
        let transparent = match (header.color, content.transparent) {
            (0, Some([a, b, ..])) => Some([u16::from_be_bytes([*a, *b]), 0, 0]),
            (2, Some([a, b, c, d, e, f, ..])) => Some([
                u16::from_be_bytes([*a, *b]),
                u16::from_be_bytes([*c, *d]),
                u16::from_be_bytes([*e, *f]),
            ]),
            _ => None,
        };
        let alpha = content.transparent.is_some() && matches!(header.color, 0 | 2 | 3);
        Ok(Self { header, palette, transparent, alpha })
    }

    /// Expands one unfiltered row; `out` has as many pixels as are wanted.
    pub(super) fn row(&self, row: &[u8], out: &mut [u8]) {
        match (self.header.color, self.header.depth) {
            (3, depth) => self.palette_row(row, depth, out),
            (0, depth) if depth < 8 => self.small_gray_row(row, depth, out),
            (color, 8) => self.wide_row::<1>(row, channels(color), out),
            (color, _) => self.wide_row::<2>(row, channels(color), out),
        }
    }

    fn palette_row(&self, row: &[u8], depth: u8, out: &mut [u8]) {
        let Some(palette) = &self.palette else { return };
        let channels = if self.alpha { 4 } else { 3 };
        for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
            pixel.copy_from_slice(&palette.0[usize::from(bits(row, x, depth))][..channels]);
        }
    }

    fn small_gray_row(&self, row: &[u8], depth: u8, out: &mut [u8]) {
        let by = 255 / ((1_u16 << depth) - 1) as u8;
        let channels = if self.alpha { 2 } else { 1 };
        for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let value = bits(row, x, depth);
            pixel[0] = value * by;
            if let [_, alpha] = pixel {
                *alpha = self.opacity(&[u16::from(value)]);
            }
        }
    }

    /// Samples of `BYTES` whole bytes, of which the first is kept: the same as a division by 257, within one.
    fn wide_row<const BYTES: usize>(&self, row: &[u8], channels: usize, out: &mut [u8]) {
        if !self.alpha {
            for (sample, value) in out.iter_mut().zip(row.chunks_exact(BYTES)) {
                *sample = value[0];
            }
            return;
        }
        let pixels = out.chunks_exact_mut(channels + 1).zip(row.chunks_exact(channels * BYTES));
        for (pixel, values) in pixels {
            let mut full = [0_u16; 3];
            for (at, value) in values.chunks_exact(BYTES).enumerate() {
                pixel[at] = value[0];
                full[at] = value.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte));
            }
            pixel[channels] = self.opacity(&full[..channels]);
        }
    }

    fn opacity(&self, color: &[u16]) -> u8 {
        let hidden = self.transparent.is_some_and(|hidden| hidden[..color.len()] == *color);
        if hidden { 0 } else { 255 }
    }
}

const fn channels(color: u8) -> usize {
    match color {
        2 => 3,
        4 => 2,
        6 => 4,
        _ => 1,
    }
}

/// The sample `x` of a row of `depth` bits a sample, most significant first.
fn bits(row: &[u8], x: usize, depth: u8) -> u8 {
    let at = x * usize::from(depth);
    let shift = 8 - usize::from(depth) - at % 8;
    row[at / 8] >> shift & (0xff >> (8 - depth))
}
