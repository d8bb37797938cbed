//! Flattening onto a colour, and laying an image on a larger canvas. Decides no sizes.

use crate::geometry::Geometry;
use crate::raster::{Raster, Samples};

/// Under transparent pixels where the format has none and no background is asked for, as imgproxy has it.
pub(crate) const WHITE: [u8; 3] = [255, 255, 255];

/// Puts `color` under what is transparent, in place; afterwards there is no alpha.
pub(crate) fn flatten(pixels: &mut Raster, color: [u8; 3], spare: &mut Raster) {
    let channels = pixels.samples.channels();
    if !pixels.samples.has_alpha() {
        return;
    }
    let gray = channels == 2 && color[0] == color[1] && color[1] == color[2];
    spare.reshape(pixels.width, pixels.height, if gray { Samples::Gray } else { Samples::Rgb });
    let colors = if gray { 1 } else { 3 };
    let pairs = spare.bytes.chunks_exact_mut(colors).zip(pixels.packed().chunks_exact(channels));
    for (out, pixel) in pairs {
        let alpha = u32::from(pixel[channels - 1]);
        for (at, sample) in out.iter_mut().enumerate() {
            let own = u32::from(pixel[if channels == 2 { 0 } else { at }]);
            *sample = ((own * alpha + u32::from(color[at]) * (255 - alpha) + 127) / 255) as u8;
        }
    }
    std::mem::swap(pixels, spare);
}

/// Lays the result on its canvas; around it is `color`, or nothing at all where there is none.
pub(crate) fn surround(pixels: &mut Raster, geometry: &Geometry, color: Option<[u8; 3]>, spare: &mut Raster) {
    if !geometry.surrounds() {
        return;
    }
    let samples = if color.is_some() { with_color(pixels.samples) } else { Samples::Rgba };
    spare.reshape(geometry.canvas.width as usize, geometry.canvas.height as usize, samples);
    let fill = color.map_or([0; 4], |[r, g, b]| [r, g, b, 255]);
    let channels = samples.channels();
    spare.bytes.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&fill[..channels]));
    let left = geometry.at.0 as usize * channels;
    for y in 0..pixels.height {
        let out = &mut spare.row_mut(geometry.at.1 as usize + y)[left..][..pixels.width * channels];
        widen(pixels.row(y), pixels.samples, out, channels);
    }
    std::mem::swap(pixels, spare);
}

const fn with_color(samples: Samples) -> Samples {
    if samples.has_alpha() { Samples::Rgba } else { Samples::Rgb }
}

/// Copies a row into one with as many channels or more.
fn widen(row: &[u8], samples: Samples, out: &mut [u8], channels: usize) {
    let own = samples.channels();
    if own == channels {
        return out.copy_from_slice(row);
    }
    for (out, pixel) in out.chunks_exact_mut(channels).zip(row.chunks_exact(own)) {
        match pixel {
            [gray] | [gray, _] => out[..3].fill(*gray),
            color => out[..3].copy_from_slice(&color[..3]),
        }
        if let Some(alpha) = out.get_mut(3) {
            *alpha = if samples.has_alpha() { pixel[own - 1] } else { 255 };
        }
    }
}

/// Makes grey pixels RGB or RGBA, for a format that has no grey.
pub(crate) fn colored(pixels: &mut Raster, spare: &mut Raster) {
    let samples = match pixels.samples {
        Samples::Gray => Samples::Rgb,
        Samples::GrayAlpha => Samples::Rgba,
        _ => return,
    };
    spare.reshape(pixels.width, pixels.height, samples);
    for y in 0..pixels.height {
        widen(pixels.row(y), pixels.samples, spare.row_mut(y), samples.channels());
    }
    std::mem::swap(pixels, spare);
}
